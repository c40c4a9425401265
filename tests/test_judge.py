"""Marks are decided where students' code cannot reach. What hostile submissions get is tested in `test_hostile`."""

import time

import pytest
from nbformat.v4 import new_code_cell

from course import build
from course.jobs import Patience
from course.judge import judge
from course.outer_walls import Limits
from course.sandbox import Sandbox
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
    _, found, _ = judge(sandbox, build.read(source), lab.split("_")[0], nb, patience)
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
    executed, found, _ = judge(sandbox, build.read(source), "lab1", nb)
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
        "linear_flow": "pass",
        "geometric_brownian_motion": "geometric_brownian_motion = 3.0",
        "strong_and_weak_error": "def strong_and_weak_error(x, y):\n    return 1 / 0",
    }
    (source,) = build.sources([LAB])
    _, found, _ = judge(sandbox, build.read(source), "lab1", submissions.with_answers(LAB, answers))
    reasons = {name: (mark.by, mark.verdict.reason) for name, mark in found.items() if mark.by}
    assert reasons.keys() == answers.keys()
    for name, by, words in (
        ("euler_step", "visible", "not solved yet; write your solution"),
        ("heun_step", "visible", "it calls euler_step, which is not solved yet"),
        ("ou_drift", "process", "the other process has ended"),
        ("linear_flow", "missing", "not defined"),
        ("geometric_brownian_motion", "visible", "should be a function, found the number 3.0"),
        ("strong_and_weak_error", "visible", "raised ZeroDivisionError: division by zero\n  in line 2: return 1 / 0"),
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
    _, found, _ = judge(sandbox, build.read(source), "lab1", nb)
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


# --- whatever a process says ------------------------------------------------------------------------------------------

# A cell that has its process say what it should not, when the grader next asks for that.
SAYS = """
import gc, os
import numpy as np
from course.wire import Peer

peer = next(o for o in gc.get_objects() if isinstance(o, Peer))

def unsolved(*_):
    raise NotImplementedError("not me")

def deep(*_):
    found = []
    for _ in range(400):
        found = [found]
    return found

def greedy(*_):
    try:
        peer.call("gradients", 0, "nothing", {}, [])
    finally:
        raise NotImplementedError

def loud(*_):
    raise type("E" * 10**6, (Exception,), {})("x" * 10**6)

"""
FORGED = {
    "an error of another kind": "unsolved",
    "nothing that travels": "deep",
    "an error of the grader's own": "greedy",
    "an error without end": "loud",
    "arrays for words": "lambda *_: [{'output_type': np.ones(2)}, np.ones(3)]",
    "arrays for texts": "lambda *_: [{'output_type': 'stream', 'name': np.ones(2), 'text': 'x'}]",
    "no list": "lambda *_: {'output_type': 'stream'}",
    "an error without words": "lambda *_: [{'output_type': 'error', 'ename': '', 'evalue': '', 'traceback': []}]",
    "too much": "lambda *_: 'x' * (17 * 2**20)",
    "half a character": "lambda *_: [{'output_type': 'stream', 'name': 'stdout', 'text': chr(0xD800)}]",
    "the end": "lambda *_: os._exit(1)",
}
LAB0 = "lab0_welcome"
INTERPOLATE = "def interpolate(noise, data, t):\n    return (1 - t) * noise + t * data"


def judged(sandbox, nb, **patience):
    (source,) = build.sources([LAB0])
    return judge(sandbox, build.read(source), "lab0", nb, Patience(**{"cell": 20, "check": 20, **patience}))


@pytest.mark.parametrize("asked", ["run", "lookup", "seed", "call", "withhold"])
@pytest.mark.parametrize("what", FORGED)
def test_what_a_process_says_costs_exercises_and_nothing_else(sandbox, what, asked):
    """Those above the cell have their marks, the submission is graded, and a page can show what was said."""
    says = f"{SAYS}\npeer.names[{asked!r}] = {FORGED[what]}\n{INTERPOLATE}"
    nb = submissions.with_answers(LAB0, {"interpolate": says})
    nb.cells.append(new_code_cell("print('below')", id="below"))
    executed, found, _ = judged(sandbox, nb)
    assert found["draw_noise"].by == "" and found.keys() == {"draw_noise", "interpolate"}
    assert len(str(found)) < 20_000 and len(str(executed)) < 500_000
    if asked in ("lookup", "call"):
        assert found["interpolate"].by in ("missing", "process", "visible")


def test_a_process_that_cannot_be_replaced_costs_exercises_alone(sandbox):
    """It ends, and what had run before does not run again."""
    says = f"{SAYS}\npeer.names['run'] = unsolved\n\n\ndef interpolate(*_):\n    os._exit(1)"
    _, found, _ = judged(sandbox, submissions.with_answers(LAB0, {"interpolate": says}))
    assert {name: mark.by for name, mark in found.items()} == {"draw_noise": "", "interpolate": "process"}


@pytest.mark.parametrize("place", [0, -1])
def test_a_cell_that_is_too_large_to_send_costs_what_is_in_it(sandbox, place):
    nb = submissions.solved(LAB0)
    nb.cells.insert(place, new_code_cell("#" * (17 * 2**20), id="large"))
    executed, found, _ = judged(sandbox, nb)
    assert {mark.by for mark in found.values()} == {""}
    (output,) = next(cell for cell in executed.cells if cell.id == "large").outputs
    assert "17 MB are too much to send" in output.evalue
    nb = submissions.with_answers(LAB0, {"interpolate": f"{INTERPOLATE}\n{'#' * (17 * 2**20)}"})
    mark = judged(sandbox, nb).marks["interpolate"]
    assert mark.by == "missing" and "its cell ended with an error: ProcessEnded" in mark.verdict.reason


class Shut(Sandbox):
    """One that has no process to give after the first."""

    opened = 0

    def open(self):
        self.opened += 1
        if self.opened > 1:
            raise OSError("no more")
        return super().open()


def test_no_process_is_no_verdict():
    """What the grader lacks is raised, wherever it shows: within a check, too."""
    sandbox = Shut(walls="none")
    ending = {"draw_noise": "import os\n\n\ndef draw_noise(n, d):\n    os._exit(1)"}
    try:
        with pytest.raises(OSError, match="no more"):
            judged(sandbox, submissions.with_answers(LAB0, ending))
        sandbox.opened = 0
        with pytest.raises(OSError, match="no more"):
            judged(sandbox, submissions.solved(LAB0))  # for the hidden inputs
    finally:
        sandbox.close()


# --- errors of cells --------------------------------------------------------------------------------------------------


def test_the_labs_own_set_up_runs_first_and_a_note_says_what_became_of_the_students(sandbox):
    nb = submissions.solved(LAB0)
    imports = next(cell for cell in nb.cells if cell.source.startswith("import torch"))
    imports.source = f"import seaborn\n{imports.source}"
    executed, found, notes = judged(sandbox, nb)
    assert {mark.by for mark in found.values()} == {""}
    assert notes == [
        "The cell with the lab's imports was changed and ended with an error, so the lab's own ran, too: "
        "ModuleNotFoundError: No module named 'seaborn'"
    ]
    assert [cell.id for cell in executed.cells] == [cell.id for cell in nb.cells]
    assert judged(sandbox, submissions.solved(LAB0)).notes == []


def test_an_error_of_the_hidden_run_is_told_nobody(sandbox):
    """A cell raises what the function was called with, in either run."""
    telling = (
        "seen = []\n\n\ndef interpolate(noise, data, t):\n    seen.append(t)\n    return noise + t * (data - noise)"
    )
    nb = submissions.with_answers(LAB0, {"interpolate": telling})
    nb.cells.append(new_code_cell("raise ValueError(seen)", id="after"))
    told = str(judged(sandbox, nb))
    assert "0.3, tensor(0.85" in told and "0.77" not in told and "0.13" not in told


def test_one_mistake_costs_one_exercise(sandbox):
    """An answer that builds on a wrong one is judged with the solution in its place: right if it is, and else wrong."""
    lab = "lab3_flow_matching"
    loss = "def conditional_flow_matching_loss(u, z, t, noise, schedule):\n    return (u(noise, t) - z).square().mean()"
    batch = (
        "def batch_loss(u, sample_data, n, schedule):\n    z = sample_data(n)\n"
        "    return {} * conditional_flow_matching_loss(u, z, torch.rand(n), torch.randn_like(z), schedule)"
    )
    (source,) = build.sources([lab])
    for factor, by, said in ((1, "", ["batch_loss builds on conditional_flow_matching_loss"]), (2, "visible", [])):
        answers = {"conditional_flow_matching_loss": loss, "batch_loss": batch.format(factor)}
        nb = submissions.with_answers(lab, answers)
        _, found, notes = judge(sandbox, build.read(source), "lab3", nb)
        assert found["conditional_flow_matching_loss"].by == "visible" and found["batch_loss"].by == by
        assert [note.partition(",")[0] for note in notes] == said
        assert not any(mark.by for name, mark in found.items() if name not in answers)
