"""nbgrader's own command line, on every lab: full marks for the solution, none for wrong answers."""

import pytest

from tests import submissions
from tests.classroom import graded, grades, open_gradebook
from tests.labs import SOURCES, modules

pytestmark = [pytest.mark.grading, pytest.mark.slow]


def wrong_source(lab: str, exercise: str, name: str) -> str:
    """A cell that answers an exercise by an entry of the table of wrong answers."""
    return f"from tests.wrong_answers.{lab} import WRONG\n\n{exercise} = WRONG[{exercise!r}][{name!r}][0]"


def first_wrong(lab: str) -> dict[str, str]:
    """Every second exercise, answered by the first of its wrong answers."""
    return {exercise: next(iter(answers)) for exercise, answers in list(modules(lab)[2].WRONG.items())[::2]}


def found_by_hidden_tests_alone(lab: str) -> dict[str, str]:
    """Exercises with a wrong answer that passes the visible check."""
    visible = modules(lab)[0]
    accepted = {}
    for exercise, answers in modules(lab)[2].WRONG.items():
        for name, (answer, _) in answers.items():
            try:
                getattr(visible, exercise)(answer)
            except AssertionError:
                continue
            accepted[exercise] = name
    return accepted


@pytest.fixture(scope="module", params=SOURCES, ids=lambda path: path.stem)
def classroom(request, tmp_path_factory):
    """A lab, and what nbgrader's gradebook and the marks deserved say: ({student: grades}, {student: marks})."""
    name = request.param.stem
    lab, points = name.split("_")[0], submissions.points(name)
    wrong = {"half": first_wrong(lab), "visible_only": found_by_hidden_tests_alone(lab)}
    made = {"solved": submissions.solved(name), "blank": submissions.blank(name)} | {
        student: submissions.with_answers(name, {e: wrong_source(lab, e, w) for e, w in answers.items()})
        for student, answers in wrong.items()
    }
    deserved = {"solved": points, "blank": dict.fromkeys(points, 0)} | {
        student: {**points, **dict.fromkeys(answers, 0)} for student, answers in wrong.items()
    }
    handed_in = {student: submissions.without_figures(nb) for student, nb in made.items()}
    root = graded(tmp_path_factory.mktemp(lab), name, handed_in, "tests")
    with open_gradebook(root) as gradebook:
        yield name, {student: grades(gradebook, name, student) for student in made}, deserved


def test_everyone_gets_the_marks_they_deserve(classroom):
    name, found, deserved = classroom
    for student, marks in deserved.items():
        assert {exercise: found[student][exercise].auto_score for exercise in marks} == marks, student
        assert not any(found[student][exercise].needs_manual_grade for exercise in marks)
        assert all(found[student][question].max_score == most for question, most in submissions.written(name).items())
    half, visible_only, solved = (sum(deserved[who].values()) for who in ("half", "visible_only", "solved"))
    assert 0 < half < solved and 0 < visible_only <= solved


def test_the_points_add_up_to_what_the_lab_says(classroom):
    name, found, _ = classroom
    total = sum(grade.max_score for grade in found["solved"].values())
    said = submissions.blank(name).cells[0].source
    assert f"{total:g} points" in " ".join(said.split())
    assert f"{sum(submissions.points(name).values()):g} of them for code" in " ".join(said.split())
