"""Marks are decided where students' code cannot reach. What hostile submissions get is tested in `test_hostile`."""

import time

import pytest
from nbformat.v4 import new_code_cell

from course import build
from course.judge import Patience, judge
from course.sandbox import Limits, Sandbox
from fmlab.checks import lab1
from tests import submissions
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls]

LAB = "lab1_simulation"


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(Limits(processes=30))
    yield sandbox
    sandbox.close()


def marks(sandbox, nb, lab=LAB, **patience) -> dict[str, str]:
    """Who rejects each exercise of a submission; "" for full marks."""
    (source,) = build.sources([lab])
    patience = Patience(**{"cell": 60, "check": 60, **patience})
    _, found = judge(sandbox, build.read(source), lab.split("_")[0], nb, patience)
    return {name: mark.by for name, mark in found.items()}


@pytest.mark.parametrize("source", build.sources(), ids=lambda path: path.stem)
def test_solved_and_blank_labs(sandbox, source):
    solved = marks(sandbox, submissions.solved(source.stem), source.stem)
    assert set(solved) == set(submissions.points(source.stem)) and set(solved.values()) == {""}
    blank = marks(sandbox, submissions.blank(source.stem), source.stem)
    assert set(blank.values()) == {"visible"}


def test_the_notebook_is_executed_and_a_hidden_verdict_keeps_its_numbers(sandbox):
    """What is wrong on hidden inputs alone is told in the words of the card, and no others."""
    said = next(iter(lab1.ou_drift.mistakes))
    for_us = submissions.mistaken(lab1.ou_drift, said).replace("ou_drift = ", "ou_mistaken = ")
    answers = {
        "euler_step": "def euler_step(u, x, t, h):\n    return x + u(x, t)",
        "ou_drift": f"{for_us}\n\n\ndef ou_drift(x, t, theta):\n"
        "    known = tuple(x.shape) in [shape for shape, *_ in lab1.ou_drift.visible]\n"
        "    return -theta * x if known else ou_mistaken(x, t, theta)",
        "ou_moments": submissions.fitted(LAB, "ou_moments"),
    }
    nb = submissions.with_answers(LAB, answers)
    nb.cells.insert(1, new_code_cell("mine = 6 * 7\nmine", id="mine"))
    nb.cells.append(new_code_cell("lab1.heun_step(heun_step)", id="again"))
    (source,) = build.sources([LAB])
    executed, found = judge(sandbox, build.read(source), "lab1", nb)
    outputs = {cell.id: cell.get("outputs") for cell in executed.cells}
    assert outputs["mine"][0]["data"]["text/plain"] == "42" and outputs["again"][0]["text"].startswith("✓ heun_step")
    assert found["euler_step"].by == "visible" and "step size h is missing" in found["euler_step"].verdict.mistake
    assert "step size h is missing" in outputs["euler_step"][0]["evalue"]
    assert found["ou_drift"].by == found["ou_moments"].by == "hidden"
    assert found["ou_drift"].verdict.mistake == said and found["ou_drift"].verdict.expected
    told = outputs["ou_drift"][0]["evalue"]
    assert told.startswith("✗ ou_drift: passes the check in the notebook, but not further tests of the same; it looks ")
    assert said in told and "expected" not in told
    for name in ("ou_drift", "ou_moments"):
        assert found[name].verdict.reason not in str(executed)
    assert outputs["heun_step"][0]["text"] == "✓ heun_step\n"


def test_what_is_not_solved_is_named_and_the_rest_is_not_blamed(sandbox):
    """Exercises that build on each other; a function that ends; a name that is not there; a value for a function."""
    answers = {
        "euler_step": "def euler_step(u, x, t, h):\n    raise NotImplementedError",
        "heun_step": "def heun_step(u, x, t, h):\n    return euler_step(u, x, t, h)",
        "ou_drift": "import os\n\n\ndef ou_drift(x, t, theta):\n    os._exit(1)",
        "ou_diffusion": "pass",
        "strong_error": "strong_error = 3.0",
        "weak_error": "def weak_error(x, y):\n    return 1 / 0",
    }
    (source,) = build.sources([LAB])
    _, found = judge(sandbox, build.read(source), "lab1", submissions.with_answers(LAB, answers))
    reasons = {name: (mark.by, mark.verdict.reason) for name, mark in found.items() if mark.by}
    assert reasons.keys() == answers.keys()
    for name, by, words in (
        ("euler_step", "visible", "not solved yet; write your solution"),
        ("heun_step", "visible", "it calls euler_step, which is not solved yet"),
        ("ou_drift", "process", "the other process has ended"),
        ("ou_diffusion", "missing", "not defined"),
        ("strong_error", "visible", "should be a function, found the number 3.0"),
        ("weak_error", "visible", "raised ZeroDivisionError: division by zero\n  in line 2: return 1 / 0"),
    ):
        assert reasons[name][0] == by and words in reasons[name][1], reasons[name]


def test_a_process_that_ends_ends_the_examination_of_one_answer_at_once(sandbox):
    """It is not asked again for the other cases, nor for mistakes to compare with."""
    ending = "import os, time\n\n\ndef ou_drift(x, t, theta):\n    time.sleep(2)\n    os._exit(1)"
    begin = time.monotonic()
    assert marks(sandbox, submissions.with_answers(LAB, {"ou_drift": ending}))["ou_drift"] == "process"
    assert time.monotonic() - begin < 20


def test_another_default_dtype_in_the_notebook(sandbox):
    nb = submissions.solved(LAB)
    nb.cells.insert(1, new_code_cell("import torch\ntorch.set_default_dtype(torch.float64)", id="mine"))
    assert set(marks(sandbox, nb).values()) == {""}
    told = "def linear_flow(x0, t, theta):\n    raise ValueError(torch.get_default_dtype())"
    nb = submissions.with_answers(LAB, {"linear_flow": told}, start=nb)
    (source,) = build.sources([LAB])
    _, found = judge(sandbox, build.read(source), "lab1", nb)
    assert "torch.float64" in found["linear_flow"].verdict.reason


def test_an_answer_may_build_on_cells_of_its_own_and_of_the_lab(sandbox):
    """A helper in an extra cell, and a name that one of the lab's figures defines."""
    answers = {
        "euler_step": "def euler_step(u, x, t, h):\n    return move(x, h * u(x, t))",
        "ou_drift": "def ou_drift(x, t, theta):\n    assert callable(rotation)\n    return -theta * x",
    }
    nb = submissions.with_answers(LAB, answers)
    nb.cells.insert(2, new_code_cell("def move(x, by):\n    return x + by", id="helper"))
    assert set(marks(sandbox, nb).values()) == {""}
