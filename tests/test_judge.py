"""Marks are decided where students' code cannot reach. What hostile submissions get is tested in `test_hostile`."""

import pytest
from nbformat.v4 import new_code_cell

from course import build
from course.judge import Patience, judge
from course.sandbox import Limits, Sandbox
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
    _, verdicts = judge(sandbox, build.read(source), lab.split("_")[0], nb, patience)
    return {name: verdict.by for name, verdict in verdicts.items()}


@pytest.mark.parametrize("source", build.sources(), ids=lambda path: path.stem)
def test_solved_and_blank_labs(sandbox, source):
    solved = marks(sandbox, submissions.solved(source.stem), source.stem)
    assert set(solved) == set(submissions.points(source.stem)) and set(solved.values()) == {""}
    blank = marks(sandbox, submissions.blank(source.stem), source.stem)
    assert set(blank.values()) == {"visible"}


def test_the_notebook_is_executed_and_a_hidden_verdict_keeps_its_words(sandbox):
    seeded = (
        "def brownian_paths(n, ts, sigma):\n"
        "    torch.manual_seed(0)\n"
        "    steps = sigma * ts.diff().sqrt()[:, None] * torch.randn(len(ts) - 1, n)\n"
        "    return torch.cat([torch.zeros(1, n), steps.cumsum(0)])\n"
    )
    answers = {"euler_step": "def euler_step(u, x, t, h):\n    return x + u(x, t)", "brownian_paths": seeded}
    nb = submissions.with_answers(LAB, answers)
    nb.cells.insert(1, new_code_cell("mine = 6 * 7\nmine", id="mine"))
    (source,) = build.sources([LAB])
    executed, verdicts = judge(sandbox, build.read(source), "lab1", nb)
    outputs = {cell.id: cell.get("outputs") for cell in executed.cells}
    assert outputs["mine"][0]["data"]["text/plain"] == "42"
    assert verdicts["euler_step"].by == "visible" and "step size h is missing" in verdicts["euler_step"].words
    assert verdicts["brownian_paths"].by == "hidden" and "new noise" in verdicts["brownian_paths"].words
    assert "step size h is missing" in outputs["euler_step"][0]["evalue"]
    assert "new noise" not in str(executed)
    assert outputs["heun_step"][0]["text"] == "✓ heun_step\n"


def test_an_answer_may_build_on_cells_of_its_own_and_of_the_lab(sandbox):
    """A helper in an extra cell, and a name that one of the lab's figures defines."""
    answers = {
        "euler_step": "def euler_step(u, x, t, h):\n    return move(x, h * u(x, t))",
        "ou_drift": "def ou_drift(x, t, theta):\n    assert callable(rotation)\n    return -theta * x",
    }
    nb = submissions.with_answers(LAB, answers)
    nb.cells.insert(2, new_code_cell("def move(x, by):\n    return x + by", id="helper"))
    assert set(marks(sandbox, nb).values()) == {""}
