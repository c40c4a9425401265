"""nbgrader's gradebook: what persons give in formgrader, scores and comments, and the marks that are entered."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Assignment, BaseCell, Comment, Grade, Gradebook, SubmittedAssignment, SubmittedNotebook
from nbgrader.preprocessors import SaveCells
from sqlalchemy import select

from course.records import Record

Given = dict[tuple[str, str, str], tuple]  # by lab, student and answer


def marked(records: Iterable[Record], url: str) -> list[Record]:
    """The records with a person's scores in place of the grader's, and with their comments.

    An answer to which a person gave a score or extra credit is "marked": True; a comment on it is its "comment". What
    was given to an earlier submission stands, and is flagged.
    url: that of the gradebook, as SQLAlchemy takes it.
    """
    with Gradebook(url) as gradebook:
        scores = _given(gradebook, Grade, Grade.manual_score, Grade.extra_credit, Grade.needs_manual_grade)
        comments = _given(gradebook, Comment, Comment.manual_comment)
    return [_marked(record, scores, comments) if record["status"] == "graded" else record for record in records]


def _given(gradebook: Gradebook, table: type, *columns: Any) -> Given:
    """What stands in these columns, of all answers of all labs."""
    query = (
        select(Assignment.name, SubmittedAssignment.student_id, BaseCell.name, *columns)
        .select_from(table)
        .join(table.cell)
        .join(table.notebook)
        .join(SubmittedNotebook.assignment)
        .join(SubmittedAssignment.assignment)
    )
    rows = gradebook.db.execute(query)
    return {(lab, student, name.removesuffix("-answer")): tuple(given) for lab, student, name, *given in rows}


def _marked(record: Record, scores: Given, comments: Given) -> Record:
    earlier = []

    def item(name: str, found: dict[str, Any]) -> dict[str, Any]:
        answer = record["lab"], record["student"], name
        manual, extra, again = scores.get(answer, (None, None, False))
        (comment,) = comments.get(answer, (None,))
        if manual is not None and again:
            earlier.append(name)
        score = found["score"] if manual is None else manual
        score = None if score is None else score + (extra or 0)
        new = {} if manual is None and not extra else {"marked": True, "score": score}
        return found | new | ({"comment": comment} if comment else {})

    parts = {part: {k: item(k, found) for k, found in record[part].items()} for part in ("exercises", "written")}
    words = f"Marked by a person as handed in earlier; to be looked at again in formgrader: {', '.join(earlier)}."
    return record | parts | {"flags": [*record["flags"], *([words] if earlier else [])]}


# --- entering marks ---------------------------------------------------------------------------------------------------


def enter(
    records: Iterable[Record],
    releases: Mapping[str, NotebookNode],
    url: str,
    fresh: Container[tuple[str, str]] = (),
) -> None:
    """Enter marks in nbgrader's gradebook, where formgrader shows them and a person adds those of written answers.

    releases: the students' notebook of each lab. fresh: student and lab of records that were just graded; what a person
    gave to them before stands, and is shown to a person again. The marks of one submission are entered all together or
    not at all.
    """
    graded = [record for record in records if record["status"] == "graded"]
    for lab in sorted({record["lab"] for record in graded}):
        _announce(lab, releases[lab], url)
    with Gradebook(url) as gradebook:
        for record in graded:
            with _one_transaction(gradebook):
                _enter(gradebook, record, (record["student"], record["lab"]) in fresh)


def _enter(gradebook: Gradebook, record: Record, fresh: bool) -> None:
    lab, student = record["lab"], record["student"]
    scores = {name: entry["score"] for name, entry in (record["exercises"] | record["written"]).items()}
    gradebook.update_or_create_student(student)
    gradebook.update_or_create_submission(lab, student)
    for grade in gradebook.find_submission_notebook(lab, lab, student).grades:
        grade.auto_score = scores[grade.name]
        if grade.manual_score is None:
            grade.needs_manual_grade = grade.auto_score is None
        elif fresh:
            grade.needs_manual_grade = True


@contextlib.contextmanager
def _one_transaction(gradebook: Gradebook) -> Iterator[None]:
    """What nbgrader commits in here step by step is committed in the end, or not at all."""
    session = gradebook.db
    commit, session.commit = session.commit, session.flush
    try:
        with session.no_autoflush:
            yield
        commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.commit = commit


def _announce(lab: str, release: NotebookNode, url: str) -> None:
    """Make the gradebook know a lab and its cells."""
    with Gradebook(url) as gradebook:
        gradebook.update_or_create_assignment(lab)
    resources = {"nbgrader": {"notebook": lab, "assignment": lab, "db_url": url}}
    SaveCells().preprocess(release, resources)
