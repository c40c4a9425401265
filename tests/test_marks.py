"""nbgrader's own command line, on every lab: full marks for the solution, none for wrong answers."""

from pathlib import Path

import pytest

from fmlab.checks import lab as labs
from tests import submissions
from tests.classroom import graded, grades, open_gradebook
from tests.labs import SOURCES, solutions
from tests.test_answers import Replay

pytestmark = [pytest.mark.grading, pytest.mark.slow]


def mistaken(lab: str) -> dict[str, str]:
    """Every second exercise, answered by the first mistake of its card."""
    exercises = list(labs.load(lab))[::2]
    return {e.name: submissions.mistaken(e, next(iter(e.mistakes))) for e in exercises}


def fitted(path: Path) -> dict[str, str]:
    """Exercises whose check in the notebook is passed by whoever knows what it wants to see, and nothing else."""
    found = {}
    for name, solution in solutions(path).items():
        exercise, replay = labs.load(path.stem.split("_")[0]).exercises[name], Replay(solution)
        if exercise.examine(replay.record).passed and exercise.examine(replay).passed:
            found[name] = submissions.fitted(path.stem, name)
    return found


@pytest.fixture(scope="module", params=SOURCES, ids=lambda path: path.stem)
def classroom(request, tmp_path_factory):
    """A lab, and what nbgrader's gradebook and the marks deserved say: ({student: grades}, {student: marks})."""
    name = request.param.stem
    points, wrong = (
        submissions.points(name),
        {"half": mistaken(name.split("_")[0]), "visible_only": fitted(request.param)},
    )
    made = {"solved": submissions.solved(name), "blank": submissions.blank(name)} | {
        student: submissions.with_answers(name, answers) for student, answers in wrong.items()
    }
    deserved = {"solved": points, "blank": dict.fromkeys(points, 0)} | {
        student: {**points, **dict.fromkeys(answers, 0)} for student, answers in wrong.items()
    }
    handed_in = {student: submissions.without_figures(nb) for student, nb in made.items()}
    root = graded(tmp_path_factory.mktemp(name.split("_")[0]), name, handed_in)
    with open_gradebook(root) as gradebook:
        yield name, {student: grades(gradebook, name, student) for student in made}, deserved


def test_everyone_gets_the_marks_they_deserve(classroom):
    name, found, deserved = classroom
    for student, marks in deserved.items():
        assert {exercise: found[student][exercise].auto_score for exercise in marks} == marks, student
        assert not any(found[student][exercise].needs_manual_grade for exercise in marks)
        assert all(found[student][question].max_score == most for question, most in submissions.written(name).items())
    half, visible_only, solved = (sum(deserved[who].values()) for who in ("half", "visible_only", "solved"))
    assert 0 < half < solved and 0 <= visible_only < solved


def test_the_points_add_up_to_what_the_lab_says(classroom):
    name, found, _ = classroom
    total = sum(grade.max_score for grade in found["solved"].values())
    said = " ".join(" ".join(cell.source for cell in submissions.blank(name).cells).split())
    assert f"{total:g} points, {sum(submissions.points(name).values()):g} of them for code" in said
