"""Every check rejects known wrong answers, names their misconception, and accepts right answers in any style."""

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

import jupytext
import pytest
import torch

from fmlab.checks.compare import CheckFailed
from tests import submissions

SOURCES = sorted(Path(__file__).parents[1].glob("course/sources/lab*.py"))
LABS = [path.stem.split("_")[0] for path in SOURCES]


def modules(lab: str):
    """Visible and hidden checks, wrong and right answers of a lab."""
    names = f"fmlab.checks.{lab}", f"course.hidden.{lab}", f"tests.wrong_answers.{lab}", f"tests.right_answers.{lab}"
    return [importlib.import_module(name) for name in names]


def verdict(lab: str, exercise: str, answer) -> str:
    """The words of the first check to reject the answer, visible before hidden; empty if both accept it."""
    visible, hidden, *_ = modules(lab)
    for checks in (visible, hidden):
        try:
            getattr(checks, exercise)(answer)
        except CheckFailed as failure:
            return str(failure)
    return ""


def namespace(path: Path) -> dict:
    """What the solution cells of a source define, on top of the imports of its first code cell."""
    cells = [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    imports = [node for node in ast.parse(cells[0].source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names: dict = {}
    exec(compile(ast.Module(imports, []), path.name, "exec"), names)
    for cell in cells:
        if "exercise" in cell.metadata:
            exec(cell.source, names)
    return names


def solutions(path: Path) -> dict:
    """exercise → function, from the solution cells of a source."""
    names, cells = namespace(path), jupytext.read(path).cells
    return {exercise: names[exercise] for cell in cells if (exercise := cell.metadata.get("exercise"))}


def cases(table: str):
    for lab in LABS:
        if find_spec(f"tests.{table}.{lab}"):  # a lab without a table fails its own test below
            answers = getattr(importlib.import_module(f"tests.{table}.{lab}"), table[:5].upper())
            for exercise, entries in answers.items():
                for name in entries if isinstance(entries, dict) else range(len(entries)):
                    yield pytest.param(lab, exercise, name, id=f"{lab}-{exercise}-{name}")


@pytest.mark.parametrize(("lab", "exercise", "name"), list(cases("wrong_answers")))
def test_wrong_answer_is_rejected_with_its_reason(lab, exercise, name):
    answer, words = modules(lab)[2].WRONG[exercise][name]
    message = verdict(lab, exercise, answer)
    assert message.startswith(f"✗ {exercise}: ")
    assert words in message
    assert "Reread: " in message


@pytest.mark.parametrize(("lab", "exercise", "k"), list(cases("right_answers")))
def test_right_answer_is_accepted(lab, exercise, k):
    assert verdict(lab, exercise, modules(lab)[3].RIGHT[exercise][k]) == ""


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
