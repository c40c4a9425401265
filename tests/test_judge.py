"""Marks are decided where students' code cannot reach: honest submissions get theirs, hostile ones none."""

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


WRONG = "\ndef euler_step(u, x, t, h):\n    return x\n"

# Put before a wrong answer to the first exercise, in the same cell.
ATTACKS = {
    "comparisons that agree": (
        "torch.allclose = torch.equal = lambda *a, **k: True\n"
        "torch.Tensor.equal = torch.Tensor.__eq__ = lambda *a: True"
    ),
    "checks that pass": (
        "import fmlab.checks.compare, fmlab.checks.lab1\n"
        "fmlab.checks.compare.require_close = lambda *a, **k: None\nlab1.euler_step = print"
    ),
    "a check module of one's own": (
        "import types, sys\nlab1 = sys.modules['fmlab.checks.lab1'] = types.SimpleNamespace()"
    ),
    "asserts that vanish": "import ast\nget_ipython().ast_transformers.append(ast.NodeTransformer())",
    "errors that vanish": "get_ipython().showtraceback = lambda *a, **k: None",
    "a hook before every cell": "get_ipython().events.register('pre_run_cell', lambda info: print(info.raw_cell))",
    "an exception of the grader's": (
        "from fmlab.checks.compare import CheckFailed\n"
        "class Liar(torch.Tensor):\n    def __eq__(self, other): return True\n"
        "    def shape(self): raise CheckFailed('✓')"
    ),
    "forged messages": (
        "import os, struct\nfor fd in range(3, 30):\n    try: os.write(fd, struct.pack('<QQ', 2, 0) + b'{}')\n"
        "    except OSError: pass"
    ),
    "closed pipes": "import os\nos.closerange(3, 200)",
    "an end": "import os\nos._exit(0)",
    "an endless loop": "while True: pass",
    "a hog": "hog = [bytearray(2**30) for _ in range(64)]",
    "a bomb": "import os\nfor _ in range(500): os.fork()",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_gains_nothing_and_costs_no_other_exercise(sandbox, attack):
    nb = submissions.with_answers(LAB, {"euler_step": ATTACKS[attack] + WRONG})
    found = marks(sandbox, nb, cell=20)
    assert found.pop("euler_step")
    assert set(found.values()) == {""}


# What a function may do when it is called.
ANSWERS = {
    "it ends the process": "import os\n    os._exit(0)",
    "it never returns": "while True: pass",
    "it returns what compares as equal": "return type('Same', (), {'__eq__': lambda s, o: True, 'shape': x.shape})()",
    "it returns a huge array": "return torch.zeros(300, 2**20)",
    "it returns NaN": "return x * float('nan')",
    "it calls back without end": "while True: u(x, t)",
    "it calls itself through the grader": "return u(euler_step(u, x, t, h), t)",
    "it looks for its caller": "import sys\n    return sys._getframe(50)",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_function_gains_nothing_by_what_it_does(sandbox, answer):
    nb = submissions.with_answers(LAB, {"euler_step": f"def euler_step(u, x, t, h):\n    {ANSWERS[answer]}"})
    found = marks(sandbox, nb, check=15)
    assert found.pop("euler_step")
    assert set(found.values()) == {""}
