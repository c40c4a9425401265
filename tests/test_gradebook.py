"""What a person enters in formgrader is in the records that reports and exports are made from."""

import json
import shutil

import pytest
from nbgrader.api import Gradebook

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


def test_a_mark_for_what_was_handed_in_earlier_stands_and_is_flagged(office):
    made, url, judge = office
    first, *_ = WRITTEN
    for name in WRITTEN:
        judge("anna", name, 1.5)
    assert [each["flags"] for each in gradebook.marked(made, url)] == [[], [], []]
    gradebook.enter(made, labs(), url, fresh={("anna", LAB), ("bo", LAB)})
    judge("anna", first, 2.0)
    anna, bo, _ = gradebook.marked(made, url)
    assert anna["written"][first]["score"] == 2.0 and marks.status(anna) == marks.GRADED
    assert len(anna["flags"]) == 1 and anna["flags"][0].endswith(f"again in formgrader: {', '.join([*WRITTEN][1:])}.")
    assert bo["flags"] == []
