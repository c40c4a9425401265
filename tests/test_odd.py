"""Honest submissions get the marks that they deserve where they are odd, or are told which error cost them."""

import nbformat
import pytest

from course.jobs import Patience, full, release
from course.judge import judge
from course.marks import for_student
from course.repair import repair
from course.sandbox import Sandbox
from tests import odd, submissions
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls]

CASES = odd.everything()


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize("name", CASES)
def test_who_is_right_gets_full_marks_and_who_cannot_be_run_is_told_the_error(sandbox, name):
    case = CASES[name]
    handed_in = nbformat.writes(case.notebook).encode()
    nb, _ = repair(handed_in, release(case.lab))
    judged = judge(sandbox, full(case.lab), case.lab.split("_")[0], nb, Patience(cell=case.cell, check=60))
    verdicts = {exercise: str(mark.verdict) for exercise, mark in judged.marks.items() if mark.by}
    assert set(verdicts) == case.lost, verdicts
    assert judged.marks.keys() == submissions.points(case.lab).keys()
    for exercise in case.lost:
        told = for_student({"by": judged.marks[exercise].by, "verdict": vars(judged.marks[exercise].verdict)})
        for words in case.words:
            assert words in verdicts[exercise] and words in told
