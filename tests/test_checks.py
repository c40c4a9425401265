"""Every exercise has its checks, hints, points, wrong and right answers; whatever is handed in gets a verdict.

That wrong answers are rejected and right ones accepted is tested in `test_kill_rate`, small changes in `test_mutants`.
"""

import pytest
import torch

from fmlab.checks.compare import CheckFailed
from tests import submissions
from tests.labs import LABS, SOURCES, modules, solutions, verdict


@pytest.mark.parametrize("path", SOURCES, ids=LABS)
def test_every_exercise_has_checks_and_answers(path):
    visible, hidden, wrong, right = modules(path.stem.split("_")[0])
    found = solutions(path)
    assert set(found) == set(wrong.WRONG) == set(right.RIGHT)
    for exercise, solution in found.items():
        assert len(wrong.WRONG[exercise]) >= 6
        assert len(right.RIGHT[exercise]) >= 3
        assert verdict(path.stem.split("_")[0], exercise, solution) == ""
        assert getattr(visible, exercise).__name__ == getattr(hidden, exercise).__name__ == exercise


@pytest.mark.parametrize("path", SOURCES, ids=LABS)
def test_checks_know_the_points_of_the_notebook_and_up_to_three_hints(path):
    checks, points = modules(path.stem.split("_")[0])[0], submissions.points(path.stem)
    for exercise in solutions(path):
        known = getattr(checks, exercise).exercise
        assert (known.name, known.points) == (exercise, points[exercise])
        assert 1 <= len(known.hints) <= 3 and all(hint.endswith((".", "?")) for hint in known.hints)


class Replay:
    """An answer that knows nothing but what it returned while it was recorded, call by call."""

    def __init__(self, answer):
        self.answer, self.tape, self.calls = answer, [], 0

    def record(self, *args):
        self.tape.append(self.answer(*args))
        return self.tape[-1]

    def __call__(self, *args):
        self.calls += 1
        return self.tape[(self.calls - 1) % len(self.tape)]


@pytest.mark.parametrize("path", SOURCES, ids=LABS)
def test_hard_coding_what_the_visible_check_wants_is_not_enough(path):
    lab = path.stem.split("_")[0]
    for exercise, solution in solutions(path).items():
        replay = Replay(solution)
        getattr(modules(lab)[0], exercise)(replay.record)
        assert verdict(lab, exercise, replay).startswith(f"✗ {exercise}: "), exercise


def unsolved(*args):
    raise NotImplementedError


UNUSABLE = [
    lambda *args: "x",
    lambda *args: None,
    lambda *args: args,
    lambda: None,
    lambda *args: torch.tensor([]),
    lambda *args: torch.tensor(float("nan")),
    lambda *args: [torch.full((5, 2), float("nan"))] * 2,
]


@pytest.mark.parametrize("path", SOURCES, ids=LABS)
def test_unsolved_and_unusable_answers_get_a_verdict(path):
    lab = path.stem.split("_")[0]
    for exercise in solutions(path):
        check = getattr(modules(lab)[0], exercise)
        for answer, words in [(unsolved, "not solved yet"), (None, "a function"), (3.0, "a function")]:
            with pytest.raises(CheckFailed, match=rf"(?s)^✗ {exercise}: .*{words}"):
                check(answer)
        for answer in UNUSABLE:
            with pytest.raises(CheckFailed, match=f"^✗ {exercise}: "):
                check(answer)
