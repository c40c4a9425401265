"""What a person enters in formgrader is in the records that reports and exports are made from."""

import contextlib
import copy
import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from sqlalchemy import Engine, event

from course import build, gradebook, marks
from course.report import class_report
from tests.html_page import Page
from tests.made_records import LAB, POINTS, WRITTEN, record, rejected, ungraded

pytestmark = pytest.mark.grading


def labs():
    (source,) = build.sources([LAB])
    return {LAB: build.release(build.read(source))}


@pytest.fixture(scope="module")
def entered(tmp_path_factory):
    """Records, and the gradebook that the grader entered them in."""
    file = tmp_path_factory.mktemp("office") / "gradebook.db"
    wrong = {"euler_step": rejected()["euler_step"][0]}
    made = [record("anna", wrong, written=None), record("bo", written=None), ungraded("cy")]
    gradebook.enter(made, labs(), f"sqlite:///{file}")
    return made, file


@pytest.fixture
def office(entered, tmp_path):
    """Records, the address of a gradebook of one's own, and what a person does there."""
    made, file = entered
    url = f"sqlite:///{shutil.copy(file, tmp_path)}"

    def judge(student, answer, score=None, extra=None, comment=None):
        """The columns that formgrader sets."""
        with Gradebook(url) as book:
            notebook = book.find_submission_notebook(LAB, LAB, student)
            for grade in notebook.grades:
                if grade.name == answer:
                    grade.manual_score, grade.extra_credit = score, extra
                    grade.needs_manual_grade = score is None and grade.auto_score is None
            for given in notebook.comments:
                if given.name.removesuffix("-answer") == answer:
                    given.manual_comment = comment
            book.db.commit()

    return made, url, judge


def test_without_a_person_nothing_changes(office):
    made, url, _ = office
    assert gradebook.marked(made, url) == made


def test_written_answers_are_waited_for_until_a_person_has_read_the_last(office):
    made, url, judge = office
    *most, last = WRITTEN
    for name in most:
        judge("anna", name, 1.5)
    anna, bo, cy = gradebook.marked(made, url)
    assert [marks.status(each) for each in (anna, bo, cy)] == [marks.WAITING, marks.WAITING, marks.UNGRADED]
    judge("anna", last, 0.0, comment="Where is the noise?")
    anna, bo, cy = gradebook.marked(made, url)
    assert marks.total(anna) == sum(POINTS.values()) - POINTS["euler_step"] + 1.5 * len(most)
    assert anna["written"][last]["comment"] == "Where is the noise?"
    assert marks.total(bo) is None and cy == made[2]
    page = Page(class_report([anna, bo, cy], LAB))
    assert page.column("students", "all") == {"anna": f"{marks.total(anna):g}", "bo": "", "cy": ""}


def test_a_person_overrules_the_grader(office):
    """A score, one with extra credit, and extra credit alone, as nbgrader itself adds them up."""
    made, url, judge = office
    judge("anna", "euler_step", extra=0.5, comment="The right idea.")
    judge("anna", "heun_step", 1.0, extra=0.25)
    judge("anna", "simulate", extra=2.0)
    for name in WRITTEN:
        judge("anna", name, 1.0)
    anna, *_ = gradebook.marked(made, url)
    with Gradebook(url) as book:
        assert marks.total(anna) == book.find_submission(LAB, "anna").score
    assert anna["exercises"]["euler_step"]["comment"] == "The right idea."
    assert {name for name, item in marks.items(anna).items() if item.get("marked")} == {
        "euler_step",
        "heun_step",
        "simulate",
        *WRITTEN,
    }
    assert json.dumps(made[0]) == json.dumps(record("anna", {"euler_step": rejected()["euler_step"][0]}, written=None))


def test_extra_credit_for_what_waits_is_no_mark_yet(office):
    made, url, judge = office
    name = next(iter(WRITTEN))
    judge("bo", name, extra=1.0)
    _, bo, _ = gradebook.marked(made, url)
    assert bo["written"][name]["score"] is None


def again(made, who, **changes):
    """The records, one of which has changed since."""
    return [each | changes if each["student"] == who else each for each in made]


def test_a_mark_for_what_was_handed_in_earlier_stands_and_is_flagged(office):
    made, url, judge = office
    first, *_ = WRITTEN
    for name in WRITTEN:
        judge("anna", name, 1.5)
    assert [each["flags"] for each in gradebook.marked(made, url)] == [[], [], []]
    later = again(again(made, "anna", sha256="1" * 64), "bo", sha256="2" * 64)
    before = gradebook.marked(later, url)[0]["flags"]  # also where the grader was stopped before it entered them
    gradebook.enter(later, labs(), url)
    assert gradebook.marked(later, url)[0]["flags"] == before
    judge("anna", first, 2.0)
    anna, bo, _ = gradebook.marked(later, url)
    assert anna["written"][first]["score"] == 2.0 and marks.status(anna) == marks.GRADED
    assert len(anna["flags"]) == 1 and anna["flags"][0].endswith(f"again in formgrader: {', '.join([*WRITTEN][1:])}.")
    assert bo["flags"] == []


def test_entering_the_same_again_changes_nothing_that_a_person_did(office):
    made, url, judge = office
    for name in WRITTEN:
        judge("anna", name, 1.5)
    gradebook.enter(again(made, "anna", graded_by="another"), labs(), url)
    assert [each["flags"] for each in gradebook.marked(made, url)] == [[], [], []]


def test_a_mark_of_the_grader_that_changes_is_looked_at_again_where_a_person_overruled_it(office):
    made, url, judge = office
    judge("anna", "euler_step", 1.0)
    judge("anna", "heun_step", 1.0)
    better = copy.deepcopy(made[0]["exercises"])
    better["euler_step"]["score"] = better["euler_step"]["points"]
    later = again(made, "anna", exercises=better)
    gradebook.enter(later, labs(), url)
    assert gradebook.marked(later, url)[0]["flags"][0].endswith("again in formgrader: euler_step.")


def test_what_another_program_changed_is_entered_again(office):
    """And nothing is written where nothing has changed."""
    made, url, _ = office
    file = Path(url.removeprefix("sqlite:///"))
    before = file.read_bytes()
    gradebook.enter(made, labs(), url)
    assert file.read_bytes()[100:] == before[100:]  # the header counts transactions
    with Gradebook(url) as book:
        for grade in book.find_submission_notebook(LAB, LAB, "anna").grades:
            grade.auto_score = 0.0
        book.db.commit()
    gradebook.enter(made, labs(), url)
    with Gradebook(url) as book:
        found = {grade.name: grade.auto_score for grade in book.find_submission_notebook(LAB, LAB, "anna").grades}
    assert found == marks.scores(made[0])


def test_what_is_open_since_the_grader_failed_is_flagged(office):
    made, url, _ = office
    flagged = gradebook.marked(again(made, "anna", open="b.ipynb is not graded yet."), url)
    assert [each["flags"] for each in flagged] == [["b.ipynb is not graded yet."], [], []]


def test_formgrader_is_told_when_labs_were_due_and_handed_in_and_what_that_costs(office):
    _, url, judge = office
    due = datetime(2027, 3, 1, 23, 59, tzinfo=timezone(timedelta(hours=1)))
    handed_in = datetime(2027, 3, 3, 4, 30, tzinfo=timezone.utc)
    for name in WRITTEN:
        judge("anna", name, 1.0)
    anna, bo, _ = gradebook.marked(
        [record("anna", when=handed_in.timestamp()), record("bo", when=0.0), ungraded("cy")], url
    )
    gradebook.enter_dates([anna | {"late": {"days": 2, "share": 0.2}}, bo], {LAB: due}, url)
    with Gradebook(url) as book:
        assert book.find_assignment(LAB).duedate == datetime(2027, 3, 1, 22, 59)
        found = book.find_submission(LAB, "anna")
        assert found.timestamp == datetime(2027, 3, 3, 4, 30)
        assert found.late_submission_penalty == pytest.approx(0.2 * (sum(POINTS.values()) + len(WRITTEN)))
        assert book.find_submission(LAB, "bo").timestamp is None
        assert book.find_submission(LAB, "bo").late_submission_penalty == 0
    gradebook.enter_dates([anna], {LAB: None}, url)
    with Gradebook(url) as book:
        assert (
            book.find_assignment(LAB).duedate is None and book.find_submission(LAB, "anna").late_submission_penalty == 0
        )


def test_an_unchanged_class_costs_no_more_questions_to_the_database_than_one_student(office):
    made, url, _ = office
    gradebook.enter_dates(made, {}, url)

    def asked(records) -> int:
        with listening() as statements:
            gradebook.enter(records, labs(), url)
            gradebook.enter_dates(gradebook.marked(records, url), {}, url)
        return len(statements)

    assert asked(made) == asked(made[:1])


@contextlib.contextmanager
def listening():
    """The statements that are sent to any database meanwhile."""
    statements = []

    def listen(connection, cursor, statement, *others):
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
