"""nbgrader's gradebook: what persons give in formgrader, scores and comments, and the marks that are entered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import (
    Assignment,
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    Notebook,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.preprocessors import SaveCells
from sqlalchemy import delete, insert, inspect, select
from sqlalchemy.orm import selectinload

from course.database import ENTERED, alone, opened
from course.edition import EditionError
from course.marks import lost, scores
from course.records import Record, by_lab

Given = dict[tuple[str, str, str], tuple]  # by lab, student and answer
Entered = dict[tuple[str, str], str]  # by student and lab, the digest of what marks were entered from


def marked(records: Iterable[Record], url: str) -> list[Record]:
    """The records with a person's scores in place of the grader's, and with their comments.

    An answer to which a person gave a score or extra credit is "marked": True; a comment on it is its "comment". What
    was given to an earlier submission stands, and is flagged; so is what the grader left open.
    url: that of the gradebook, as SQLAlchemy takes it. Raises course.database.Unavailable.
    """
    with opened(url, writing=False) as gradebook:
        given = _given(gradebook, Grade, Grade.manual_score, Grade.extra_credit, Grade.needs_manual_grade)
        comments, before = _given(gradebook, Comment, Comment.manual_comment), _entered(gradebook)
    return [_marked(record, given, comments, before) if record["status"] == "graded" else record for record in records]


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


def _entered(gradebook: Gradebook) -> Entered:
    """Which submission the marks of each student in each lab were last entered from."""
    if not inspect(gradebook.engine).has_table(ENTERED.name):
        return {}
    return {(student, lab): digest for student, lab, digest in gradebook.db.execute(select(ENTERED))}


def _marked(record: Record, given: Given, comments: Given, before: Entered) -> Record:
    student, lab, earlier = record["student"], record["lab"], []
    new = before.get((student, lab), record["sha256"]) != record["sha256"]  # a grader stopped before it was entered

    def item(name: str, found: dict[str, Any]) -> dict[str, Any]:
        manual, extra, again = given.get((lab, student, name), (None, None, False))
        (comment,) = comments.get((lab, student, name), (None,))
        if manual is not None and (again or new):
            earlier.append(name)
        score = found["score"] if manual is None else manual
        score = None if score is None else score + (extra or 0)
        by_person = {} if manual is None and not extra else {"marked": True, "score": score}
        return found | by_person | ({"comment": comment} if comment else {})

    parts = {part: {k: item(k, found) for k, found in record[part].items()} for part in ("exercises", "written")}
    words = f"Marked by a person as handed in earlier; to be looked at again in formgrader: {', '.join(earlier)}."
    flags = [*record["flags"], *([words] if earlier else []), *filter(None, [record.get("open")])]
    return record | parts | {"flags": flags}


# --- entering marks ---------------------------------------------------------------------------------------------------


def enter(records: Iterable[Record], releases: Mapping[str, NotebookNode], url: str) -> None:
    """Enter marks in nbgrader's gradebook, where formgrader shows them and a person adds those of written answers.

    releases: the students' notebook of each lab. What a person gave stands, and is shown to a person again where
    something else was handed in, or the grader's own mark has changed. The marks of one submission are entered all
    together or not at all, and only if they are not there yet. Raises course.database.Unavailable.
    """
    graded = [record for record in records if record["status"] == "graded"]
    with opened(url) as gradebook:
        for lab in sorted({record["lab"] for record in graded}):
            if not _is_announced(gradebook, lab, releases[lab]):
                _announce(gradebook, lab, releases[lab])
        there, before = _given(gradebook, Grade, Grade.auto_score), _entered(gradebook)
        for record in graded:
            student, lab = record["student"], record["lab"]
            marks = {(lab, student, name): (score,) for name, score in scores(record).items()}
            if before.get((student, lab)) != record["sha256"] or not marks.items() <= there.items():
                with _one_transaction(gradebook):
                    _enter(gradebook, record, new=before.get((student, lab)) != record["sha256"])


def give(url: str, lab: str, student: str, name: str, score: float | None, comment: str) -> None:
    """Enter what a person gives for an answer: points, or None if it is to wait on; and a comment.

    Raises course.database.Unavailable, and nbgrader's MissingEntry where the gradebook has no such answer.
    """
    with opened(url) as gradebook, _one_transaction(gradebook):
        grade = gradebook.find_grade(name, lab, lab, student)
        grade.manual_score = score
        grade.needs_manual_grade = score is None and grade.auto_score is None
        gradebook.find_comment(name, lab, lab, student).manual_comment = comment


def enter_dates(records: Iterable[Record], due: Mapping[str, datetime | None], url: str) -> None:
    """Enter when labs were due and handed in, and the points that lateness costs, so that formgrader shows them.

    records: with what persons gave, of which the cost is a share. due: by lab. Raises course.database.Unavailable.
    """
    with opened(url) as gradebook:
        there = {assignment.name: assignment for assignment in gradebook.assignments}
        for lab, mine in by_lab(records).items():
            if lab in there:
                there[lab].duedate = _naive(due.get(lab))
            submissions = _submissions(gradebook, lab) if lab in there else {}
            for record in mine:
                if record["status"] == "graded" and record["student"] in submissions:
                    _date(submissions[record["student"]], record)
        gradebook.db.commit()


def _submissions(gradebook: Gradebook, lab: str) -> dict[str, SubmittedAssignment]:
    """All that was handed in for a lab, by student, with its notebooks read at the same time."""
    query = select(SubmittedAssignment).join(SubmittedAssignment.assignment).where(Assignment.name == lab)
    found = gradebook.db.scalars(query.options(selectinload(SubmittedAssignment.notebooks)))
    return {submission.student_id: submission for submission in found}


def _date(submission: SubmittedAssignment, record: Record) -> None:
    when = record.get("when")
    submission.timestamp = _naive(datetime.fromtimestamp(when, timezone.utc)) if when else None
    points = sum(score for score in scores(record).values() if score is not None)
    for notebook in submission.notebooks:
        notebook.late_submission_penalty = points * lost(record)


def _naive(time: datetime | None) -> datetime | None:
    """A time as nbgrader keeps it: Universal Time, without saying so."""
    return time and time.astimezone(timezone.utc).replace(tzinfo=None)


def _enter(gradebook: Gradebook, record: Record, new: bool) -> None:
    """new: whether it is for something else that was handed in than what was entered before."""
    student, lab, marks = record["student"], record["lab"], scores(record)
    gradebook.update_or_create_student(student)
    gradebook.update_or_create_submission(lab, student)
    for grade in gradebook.find_submission_notebook(lab, lab, student).grades:
        before, grade.auto_score = grade.auto_score, marks[grade.name]
        if grade.manual_score is None:
            grade.needs_manual_grade = grade.auto_score is None
        elif new or grade.auto_score != before:
            grade.needs_manual_grade = True
    gradebook.db.execute(delete(ENTERED).where(ENTERED.c.student == student, ENTERED.c.lab == lab))
    gradebook.db.execute(insert(ENTERED).values(student=student, lab=lab, sha256=record["sha256"]))


@contextlib.contextmanager
def _one_transaction(gradebook: Gradebook) -> Iterator[None]:
    """What nbgrader commits in here step by step is committed in the end, or not at all, and no other grader enters
    anything meanwhile."""
    session = gradebook.db
    session.rollback()  # what was read before this
    commit, session.commit = session.commit, session.flush
    try:
        alone(session.connection())
        with session.no_autoflush:
            yield
        commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.commit = commit


def prepare(releases: Mapping[str, NotebookNode], url: str) -> None:
    """See that the gradebook is there, can be written to, and is for the exercises that the labs have.

    Raises course.database.Unavailable, and EditionError where a lab that was handed in has other exercises now.
    """
    with opened(url) as gradebook:
        for assignment in gradebook.assignments:
            if (lab := assignment.name) not in releases:
                continue
            now, before = {*_points(releases[lab])}, {*_announced(gradebook, lab)}
            if now == before or not assignment.submissions:
                continue
            for name in sorted(now - before):
                raise EditionError(f"{name} is new, but {lab} was handed in without it; leave it out this term")
            for name in sorted(before - now):
                raise EditionError(f"{name} is left out, but {lab} was handed in with it: annul it instead")


def _is_announced(gradebook: Gradebook, lab: str, release: NotebookNode) -> bool:
    """Whether the gradebook knows a lab, and what its answers are worth."""
    return _points(release) == _announced(gradebook, lab)


def _points(release: NotebookNode) -> dict[str, float]:
    """What the answers of a lab are worth."""
    cells = [cell.metadata.get("nbgrader", {}) for cell in release.cells]
    return {cell["grade_id"]: float(cell["points"]) for cell in cells if cell.get("grade")}


def _announced(gradebook: Gradebook, lab: str) -> dict[str, float]:
    """What the gradebook takes them to be worth."""
    query = select(GradeCell.name, GradeCell.max_score).join(GradeCell.notebook).join(Notebook.assignment)
    return dict(map(tuple, gradebook.db.execute(query.where(Assignment.name == lab))))


def _announce(gradebook: Gradebook, lab: str, release: NotebookNode) -> None:
    """Make the gradebook know a lab and its cells."""
    gradebook.update_or_create_assignment(lab)
    url = gradebook.engine.url.render_as_string(hide_password=False)
    SaveCells().preprocess(release, {"nbgrader": {"notebook": lab, "assignment": lab, "db_url": url}})
