"""A class that hands in lab 1: thirty honest students, and more who are after marks, secrets or the machine.

Each comes with the exercises that earn nothing, all others being worth full marks; or with None, where there is nothing
to grade. A hostile one also comes with words of the reason that its record has to give.
"""

import copy
import functools
import json
import random
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from course import build
from course.hidden import lab1 as hidden
from fmlab.checks import lab1
from tests import escapes, submissions

LAB = "lab1_simulation"
MARK = "sleep 98765"  # what a process that must not survive is called
SECRET = "a-word-of-the-instructor's"


class Case(NamedTuple):
    """How a notebook is made, the exercises it loses, and words of the reason."""

    notebook: Callable[[], NotebookNode | bytes]
    lost: frozenset[str] | None = frozenset()
    words: str = ""


@functools.cache
def _solved() -> NotebookNode:
    return submissions.solved(LAB)


def solved() -> NotebookNode:
    return copy.deepcopy(_solved())


def with_answers(answers: Mapping[str, str]) -> Callable[[], NotebookNode]:
    """Solved, but with these answers to these exercises."""
    return lambda: submissions.with_answers(LAB, answers, start=_solved())


# --- honest students --------------------------------------------------------------------------------------------------

RIGHT = {
    "euler_step": ["euler_step = lambda u, x, t, h: torch.add(x, u(x, t), alpha=h)"],
    "heun_step": [
        "def heun_step(u, x, t, h):\n"
        "    k = [u(x, t)]\n    k += [u(x + h * k[0], t + h)]\n    return x + h * torch.stack(k).mean(0)",
        "def heun_step(u, x, t, h):\n    guess = simulators.Euler().step(u, x, t, t + h)\n"
        "    return (guess + x + h * u(guess, t + h)) / 2",
    ],
    "simulate": [
        "def simulate(step, x0, ts):\n    if len(ts) == 1: return x0[None]\n    before = simulate(step, x0, ts[:-1])\n"
        "    return torch.cat([before, step(before[-1], ts[-2], ts[-1] - ts[-2])[None]])",
    ],
    "linear_flow": ["import math\nlinear_flow = lambda x0, t, theta: math.exp(-theta * float(t)) * x0"],
    "convergence_order": [
        "import numpy as np\ndef convergence_order(hs, errors):\n"
        "    return float(np.polyfit(np.log(hs.numpy()), np.log(errors.numpy()), 1)[0])",
    ],
    "brownian_paths": [
        "def brownian_paths(n, ts, sigma):\n    rows = [torch.zeros(n)]\n    for h in ts.diff():\n"
        "        rows.append(rows[-1] + sigma * torch.normal(0.0, float(h) ** 0.5, (n,)))\n"
        "    return torch.stack(rows)",
    ],
    "ou_drift": ["ou_drift = lambda x, t, theta: x.neg() * theta"],
    "strong_and_weak_error": [
        "def strong_and_weak_error(x, y):\n"
        "    return torch.dist(x, y, 1) / len(x), abs(float(x.mean()) - float(y.mean()))",
    ],
    "langevin_drift": [
        "class langevin_drift:\n    def __init__(self, score, sigma): self.score, self.half = score, sigma**2 / 2\n"
        "    def __call__(self, x, t): return self.half * self.score(x)",
    ],
}
STUB = "def unsolved(*args):\n    raise NotImplementedError  # your code here"
WRONG = {
    "euler_step": "def euler_step(u, x, t, h):\n    return x + u(x, t)",
    "heun_step": "def heun_step(u, x, t, h):\n    return x + h * u(x, t)",
    "simulate": "def simulate(step, x0, ts):\n    return [x0]",
    "linear_flow": "def linear_flow(x0, t, theta):\n    return x0 * (1 - theta * t)",
    "convergence_order": "def convergence_order(hs, errors):\n    return 1 / 0",
    "brownian_paths": "def brownian_paths(n, ts, sigma):\n    torch.manual_seed(0)\n"
    "    steps = sigma * ts.diff()[:, None].sqrt() * torch.randn(len(ts) - 1, n)\n"
    "    return torch.cat([torch.zeros(1, n), steps.cumsum(0)])",
    "ou_drift": "def ou_drift(x, t, theta):\n    x *= -theta\n    return x",
    "ou_moments": "def ou_moments(x0, t, theta, sigma):\n    return x0",
    "geometric_brownian_motion": "print('I gave up')",
    "strong_and_weak_error": "def strong_and_weak_error(x, y)\n    return (x - y).abs().mean()",
    "langevin_drift": "def langevin_drift(score, sigma):\n    return lambda x, t: sigma**2 * score(x)",
}


def honest() -> Iterator[Case]:
    """Thirty different submissions: each answer as in the solution, or right in another way, or wrong, or not there."""
    for number in range(30):
        chance, answers, lost = random.Random(number), {}, set()
        careful = number % 5 / 4  # from those who get nothing to those who get nearly everything right
        for name in submissions.points(LAB):
            if chance.random() < careful:
                answers[name] = chance.choice([None, *RIGHT.get(name, [])])
            else:
                answers[name] = chance.choice([STUB, WRONG.get(name, STUB)])
                lost.add(name)
        answers = {name: source for name, source in answers.items() if source is not None}
        yield Case(with_answers(answers), frozenset(lost))


# --- hostile code -----------------------------------------------------------------------------------------------------

# Put before a wrong answer to the first exercise, in the same cell; and words of the verdict.
ATTACKS = {
    "comparisons that agree": (
        "torch.allclose = torch.equal = lambda *a, **k: True\n"
        "torch.Tensor.equal = torch.Tensor.__eq__ = lambda *a: True",
        "step size h is missing",
    ),
    "checks that pass": (
        "from fmlab.checks import compare, exercise, verdict\ncompare.close = lambda *a, **k: True\n"
        "exercise.difference = compare.difference = lambda *a, **k: None\n"
        "exercise.Exercise.examine = lambda *a, **k: verdict.Verdict('euler_step', True, 'right')\n"
        "lab1.euler_step = lab1.exercises['euler_step'] = print",
        "step size h is missing",
    ),
    "a check module of one's own": (
        "import types, sys\nlab1 = types.SimpleNamespace(euler_step=print)\n"
        "sys.modules['fmlab.exercises.lab1'] = types.SimpleNamespace(lab=lab1)",
        "step size h is missing",
    ),
    "nothing withheld": (
        "from fmlab.checks import reference\nreference.withheld = reference.Original.__call__ = print\n"
        "reference._originals.clear()\nreference._judged.clear()",
        "step size h is missing",
    ),
    "asserts that vanish": (
        "import ast\nclass Drop(ast.NodeTransformer):\n    def visit_Assert(self, node): return ast.Pass()\n"
        "    def visit_Raise(self, node): return ast.Pass()\nget_ipython().ast_transformers.append(Drop())",
        "step size h is missing",
    ),
    "checks that are cut out": (
        "get_ipython().input_transformers_cleanup.append(lambda lines: [l for l in lines if 'lab1.' not in l])",
        "step size h is missing",
    ),
    "errors that vanish": ("get_ipython().showtraceback = lambda *a, **k: None", "step size h is missing"),
    "a hook before every cell": (
        "get_ipython().events.register('pre_run_cell', lambda info: print('HIDDEN' in info.raw_cell, info.raw_cell))",
        "step size h is missing",
    ),
    "forged messages": (
        "import os, struct\nfor fd in range(3, 30):\n    try: os.write(fd, struct.pack('<QQ', 2, 0) + b'{}')\n"
        "    except OSError: pass",
        "Its cell ended with an error",
    ),
    "closed pipes": ("import os\nos.closerange(3, 200)", "Its cell ended with an error"),
    "an end": ("import os\nos._exit(0)", "Its cell ended with an error"),
    "a kill": (
        "import os\nfor pid in (0, -1, os.getppid(), os.getpid()):\n    try: os.kill(pid, 9)\n"
        "    except OSError: pass\nos._exit(1)",
        "Its cell ended with an error",
    ),
    "an endless loop": ("while True: pass", "Its cell ended with an error"),
    "an endless loop without signals": (
        "import signal\nfor s in range(1, 60):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "Its cell ended with an error",
    ),
    "a hog": ("hog = [bytearray(2**30) for _ in range(64)]", "Its cell ended with an error"),
    "a bomb": ("import os\nfor _ in range(300): os.fork()", "Its cell ended with an error"),
    "a child that stays": (
        "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: os.execvp('sleep', MARK.split())\n"
        "    os._exit(0)".replace("MARK", repr(MARK)),
        "step size h is missing",
    ),
    "a flood of output": ("for _ in range(20): print('x' * 10**7)", "step size h is missing"),
    "a flood of pictures": (
        "from IPython.display import display\nclass Big:\n"
        "    def _repr_mimebundle_(self, **k): return {'image/png': 'iVBOR' + 'A' * 10**6}\n"
        "for _ in range(200): display(Big())",
        "step size h is missing",
    ),
    "the network": (
        "import urllib.request\nurllib.request.urlopen('http://1.1.1.1', timeout=3)",
        "Its cell ended with an error",
    ),
    "a look around": (
        "import os\nfor top in ('/desk', '/door', '/work', '/home', '/root', '/office', 'PLACE'):\n"
        "    for folder, _, names in os.walk(top):\n        for name in names:\n"
        "            if name.endswith(('.db', '.ipynb', '.json', 'secret')) or 'hidden' in folder:\n"
        "                try: print(folder, name, open(os.path.join(folder, name), errors='replace').read(99999))\n"
        "                except OSError: pass",
        "step size h is missing",
    ),
    "a hand in the gradebook": (
        "import os\nfor path in ('PLACE/gradebook.db', 'PLACE/results/records/honest-00/lab1_simulation.json',\n"
        "             '../gradebook.db', '/office/fmlab/exercises/lab1.py', '/tmp/mine'):\n"
        "    for attempt in (lambda: open(path, 'w').write('mine'), lambda: os.remove(path)):\n"
        "        try: attempt()\n        except OSError: pass",
        "step size h is missing",
    ),
    "a recursion": (
        "import sys\nsys.setrecursionlimit(10**8)\ndef down(n): return down(n + 1)\ndown(0)",
        "Its cell ended with an error",
    ),
    "errors that fight back": (
        "class Evil(Exception):\n    def __str__(self): raise SystemExit\n    __repr__ = __str__\n"
        "    def __getattribute__(self, name): raise KeyboardInterrupt\nraise Evil",
        "not defined",
    ),
    "errors without end": (
        "class Long(Exception):\n    def __str__(self): return '<script>alert(1)</script>' + 'x' * 10**7\nraise Long",
        "Its cell ended with an error",
    ),
    "pages in the outputs": (
        "from IPython.display import HTML, Javascript, display\nprint('<script>alert(1)</script>')\n"
        "display(HTML('<script>alert(1)</script>'), Javascript('alert(1)'))",
        "step size h is missing",
    ),
}

# What the function does when it is called; and words of the verdict.
FUNCTIONS = {
    "it ends the process": ("import os\n    os._exit(0)", "the other process has ended"),
    "it never returns": ("while True: pass", "did not finish"),
    "it sleeps through signals": (
        "import signal, time\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))\n"
        "    while True: time.sleep(1)",
        "did not finish",
    ),
    "it returns what compares as equal": (
        "u(x, t)\n    same = {'__eq__': lambda s, o: True, '__sub__': lambda s, o: 0, 'shape': x.shape}\n"
        "    return type('Same', (), same)()",
        "should be a tensor",
    ),
    "it returns a tensor of its own kind": (
        "class Liar(torch.Tensor):\n        __torch_function__ = classmethod(lambda *a, **k: True)\n"
        "        def allclose(self, *a, **k): return True\n    return torch.zeros(x.shape).as_subclass(Liar)",
        "",
    ),
    "it returns pickles": (
        "import numpy as np, os\n    class Boom:\n"
        "        def __reduce__(self): return os.system, ('touch /tmp/boom',)\n"
        "    u(x, t)\n    return np.array([Boom()], dtype=object)",
        "should be a tensor",
    ),
    "it returns a huge array": ("return torch.zeros(300, 2**20)", ""),
    "it returns NaN": ("return x + u(x, t) * float('nan')", "is not right"),
    "it returns infinities of the other kind": (
        "return torch.full(u(x, t).shape, complex('inf'))",
        "should have the dtype",
    ),
    "it returns what is nested deeply": (
        "deep = x\n    for _ in range(100000): deep = [deep]\n    return deep",
        "raised RecursionError",
    ),
    "it calls back without end": ("while True: u(x, t)", "did not finish"),
    "it has much kept": ("while True: u(torch.ones(2**24, requires_grad=True), t)", ""),
    "it calls itself through the grader": ("return u(euler_step(u, x, t, h), t)", "raised RecursionError"),
    "it calls with nonsense": ("return u(u, u)", ""),
    "it looks for its caller": ("import sys\n    return sys._getframe(50)", ""),
    "it raises the grader's own error": (
        "from fmlab.checks.verdict import CheckFailed, Verdict\n"
        "    raise CheckFailed(Verdict('euler_step', True, 'right'))",
        "raised CheckFailed",
    ),
    "it raises what ends a check": (
        "from fmlab.checks.compare import Stop\n    raise Stop('right')",
        "raised Stop",
    ),
    "it calls something else unsolved": (
        "error = NotImplementedError()\n    error.function = 'x'.join(['<script>'] * 10**6)\n    raise error",
        "not solved yet",
    ),
    "it returns a schedule": (
        "from fmlab.schedules import Cosine\n    u(x, t)\n    return Cosine()",
        "should be a tensor",
    ),
    "it raises the end": ("raise SystemExit", ""),
    "it knows a notebook from a grader": (
        "import sys\n    return x + h * u(x, t) * ('ipykernel' in sys.modules)",
        "is not right",
    ),
    "it asks for what is huge": ("u(torch.zeros(40000, 1), torch.zeros(1, 40000))", ""),
    "it asks for much again and again": (
        "kept = []\n    while True: kept.append(u(torch.zeros(3000, 1, requires_grad=True), torch.zeros(1, 3000)))",
        "",
    ),
    "it keeps what is empty": ("while True: u(torch.ones(0, requires_grad=True), t)", ""),
    "it takes a last word": (
        "import os\n    words = repr((tuple(x.shape), t, h)).encode()\n    for fd in range(64):\n"
        "        try: os.write(fd, words) if fd < 3 else None\n        except OSError: pass\n"
        "    print(words, flush=True)\n    os._exit(0)",
        "the other process has ended",
    ),
    "it asks about much that is kept": ("y = torch.zeros(2**23)\n    while True: u(y, t)", "came during one call"),
    "it is made of much": (
        "from course import wire\n    y = u(torch.ones(1, requires_grad=True), t)\n"
        "    wire._crossings = lambda value: [0] * 500_000\n"
        "    while True: u(torch.ones(1, requires_grad=True), t)",
        "would have to be kept",
    ),
    "it returns numbers of NumPy": ("import numpy\n    return numpy.zeros(2**25 - 4000, numpy.float16)", "NumPy array"),
    "it overwrites what it is given": ("x.zero_()\n    return x", "changed a tensor"),
}

# Messages that no honest process sends, by `send`; see course.wire.
PROTOCOL = """
import json, os, stat, struct, threading, time

def is_pipe(fd):
    try: return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError: return False

def send(*parts, raw=b""):
    text = json.dumps({"list": parts}).encode()
    for fd in filter(is_pipe, range(3, 30)):
        try: os.write(fd, raw or struct.pack("<QQ", len(text), 0) + text)
        except OSError: pass

def output(kind, **content): return {"dict": {"output_type": kind, **content}}

none = {"dict": {}}

def call(*args): send("call", "gradients", {"list": args}, none, none, 0)
"""
# Answers that come before the calls are taken for the answers to other calls, so that nothing is right any more.
ANSWERS = {
    "answers to calls never made": "for _ in range(5): send('return', None, none)",
    "outputs that are not": (
        "f = {'function': 1, 'kind': 'f'}\ndata = {'application/json': f, 'text/plain': f, 'image/png': 3}\n"
        "send('return', {'list': [output('display_data', data={'dict': data}), output('error', ename=3), 7]}, none)"
    ),
}
MESSAGES = {
    "calls without a pause": "while True: call()",
    "outputs without end": "send('return', {'list': [output('stream', name='stdout', text='x' * 10**6)] * 15}, none)",
    "a call whose answer is not read": "call('x' * 10**7)\ntime.sleep(10**6)",
    "an endless message": "send(raw=struct.pack('<QQ', 2**62, 2**62))",
    "a message that nests": "send(raw=struct.pack('<QQ', 900000, 0) + b'{\"list\":[' * 100000)",
}

HIDDEN_SHAPE = str(max((shape for shape, *_ in hidden.euler_step), key=len))[1:-1]  # of states in the first exercise
SHOWN_SHAPE = str(lab1.euler_step.visible[0][0])
SPY = "seen = []\ndef euler_step(u, x, t, h):\n    seen.append((tuple(x.shape), t, h))\n    return x + h * u(x, t)"


def with_first(source: str, words: str = "", lost: Iterable[str] = ("euler_step",)) -> Case:
    """Solved, but with this for the first exercise, which earns nothing."""
    return Case(with_answers({"euler_step": source}), frozenset(lost), words)


def witness() -> NotebookNode:
    nb = solved()
    nb.cells.append(new_code_cell(escapes.WITNESS, id="witness"))
    return nb


def spying() -> NotebookNode:
    nb = with_answers({"euler_step": SPY})()
    nb.cells.append(new_code_cell("print(seen)", id="told"))
    return nb


def nesting() -> NotebookNode:
    nb = solved()
    nb.cells.insert(1, new_code_cell("x = " + "(" * 5000 + ")" * 5000, id="deep"))
    nb.cells.insert(2, new_code_cell("x = " + "-" * 50_000 + "1", id="deeper"))
    return nb


TELLING = {"euler_step": SPY, "heun_step": "def heun_step(u, x, t, h):\n    raise ValueError(str(seen))"}
MOVING = {
    "langevin_drift": """
def langevin_drift(score, sigma):
    def drift(x, t):
        x.zero_().add_(torch.tensor([1.0, -1.0]))  # the score is 0 there, but nobody asked there
        return torch.zeros_like(x)
    return drift
"""
}
BORROWING = {
    "euler_step": "keep = simulators.Euler().step\neuler_step = keep",
    "strong_and_weak_error": "strong_and_weak_error = lambda *a: (getattr(metrics, 'strong' + '_error')(*a), 0.0)",
    "ou_moments": "def ou_moments(x0, t, theta, sigma):\n"
    "    mean, variance = processes.ornstein_uhlenbeck(theta, sigma).moments(x0, t)\n"
    "    return mean, variance.flatten()[0]",
    "linear_flow": "linear_flow = lab1.linear_flow.library",
    "ou_drift": "def ou_drift(x, t, theta):\n"
    "    return lab1.exercises['ou_drift'].make(tuple(x.shape), t, theta, x.dtype).expected",
}
FOR_GRADERS = """
import sys
def euler_step(u, x, t, h):
    return x if 'ipykernel' in sys.modules else x + h * u(x, t)
"""

CODE = {name: with_first(f"{attack}\n\n{WRONG['euler_step']}", words) for name, (attack, words) in ATTACKS.items()}
CODE |= {
    name: with_first(f"def euler_step(u, x, t, h):\n    {body}", words) for name, (body, words) in FUNCTIONS.items()
}
CODE |= {name: with_first(f"{PROTOCOL}\n{attack}\n\n{WRONG['euler_step']}") for name, attack in MESSAGES.items()}
CODE |= {
    name: with_first(f"{PROTOCOL}\n{attack}\n\n{WRONG['euler_step']}", lost=submissions.points(LAB))
    for name, attack in ANSWERS.items()
}
CODE |= {
    "it tells what it was called with": Case(spying),
    "its errors tell what it was called with": Case(with_answers(TELLING), frozenset({"heun_step"}), SHOWN_SHAPE),
    "it moves what it is asked about": Case(with_answers(MOVING), frozenset(MOVING), "is not right"),
    "it borrows": Case(with_answers(BORROWING), frozenset(BORROWING), "is what this exercise asks you to write"),
    "it is right for graders alone": Case(with_answers({"euler_step": FOR_GRADERS})),
    "a source that nests": Case(nesting),
}


# An attempt and then who looks for what it left, which is the order in which they are graded, apart from the class.
PAIRS = {}
for number, (name, attempt) in enumerate(escapes.ESCAPES.items()):
    PAIRS[f"{number:02}-hostile-{name}".replace(" ", "-").replace("'", "")] = with_first(
        f"{escapes.TOOLS}\n{attempt}\n\n{WRONG['euler_step']}"
    )
    PAIRS[f"{number:02}-witness"] = Case(witness)


# --- hostile files ----------------------------------------------------------------------------------------------------


def deleted() -> NotebookNode:
    nb = with_answers(FIRST)()
    nb.cells.remove(submissions.check_cell(nb, "euler_step"))
    return nb


def copied() -> NotebookNode:
    nb = with_answers(FIRST)()
    nb.cells += [submissions.check_cell(nb, "euler_step")] * 3
    return nb


def worth_more() -> NotebookNode:
    nb = with_answers(FIRST)()
    for cell in filter(build.is_check, nb.cells):
        cell.metadata.nbgrader |= {"points": 100, "locked": False, "checksum": "0"}
        cell.source = "pass"
    return nb


def flipped() -> NotebookNode:
    nb = solved()
    for cell in nb.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader |= {"grade": True, "solution": True, "schema_version": 99}
    return nb


def large() -> NotebookNode:
    nb = solved()
    nb.cells.append(new_code_cell("", id="large", outputs=[new_output("stream", text="x" * 50 * 2**20)]))
    return nb


def with_pages() -> NotebookNode:
    nb = solved()
    nb.cells += [new_markdown_cell(SCRIPT, id="page"), new_code_cell(repr(SCRIPT), id="page-too")]
    nb.cells[-1]["id"] = SCRIPT
    nb.metadata["kernelspec"] = {"name": SCRIPT, "display_name": SCRIPT}
    return nb


def many() -> NotebookNode:
    nb = solved()
    nb.cells += [new_code_cell("while True: pass", id=f"c{k}") for k in range(6000)]
    return nb


def endless() -> NotebookNode:
    """What takes long to read as code: many cells, none of them too long."""
    nb = solved()
    nb.cells += [new_code_cell("x\n" * 49_990 + f"y{k}", id=f"c{k}") for k in range(20)]
    return nb


SCRIPT = "<script>alert(1)</script>"
FIRST = {"euler_step": WRONG["euler_step"]}

FILES = {
    "a check deleted": Case(deleted, frozenset(FIRST), "Checks that were missing"),
    "a check copied": Case(copied, frozenset(FIRST), "Checks that were copied"),
    "checks worth more": Case(worth_more, frozenset(FIRST), "metadata were changed"),
    "metadata flipped": Case(flipped, frozenset(), "metadata were changed"),
    "50 MB": Case(large, frozenset(), "MB large"),
    "pages in the file": Case(with_pages),
    "too many cells": Case(many, None, "cells"),
    "code without end": Case(endless, None, "characters of code"),
    "nothing": Case(lambda: b"", None, "empty"),
    "zeros": Case(lambda: bytes(2**20), None, "empty"),
    "no notebook": Case(lambda: b"%PDF-1.7 my answers", None, "a PDF"),
    "JSON that nests": Case(lambda: b'{"cells": ' + b"[" * 10**6, None, "deeply"),
    "no list of cells": Case(lambda: b'{"cells": 3, "metadata": "<script>"}', None, "no list of cells"),
}


# --- the class --------------------------------------------------------------------------------------------------------

# How a folder in a zip is called, and what becomes of the name.
NAMES = {
    "../../../etc/cron.d": "etc",
    "/absolute": "absolute",
    "..\\..\\windows": "windows",
    "CON": "CON",
    "<script>alert(1)": "_script_alert_1_",
    "=HYPERLINK(1)": "_HYPERLINK_1_",
    "e\u0301va\u202egnp": "éva_gnp",
    "n" * 300: "n" * 80,
}


@functools.cache
def everyone() -> dict[str, Case]:
    """The cases by the names of their students."""
    cases = {f"honest-{number:02}": case for number, case in enumerate(honest())}
    cases |= {_named(name): case for name, case in (CODE | FILES).items()}
    cases |= dict(zip(NAMES.values(), honest()))
    return cases | {_named("a link"): Case(bytes, None, "link"), _named("a bomb of zeros"): Case(bytes, None)}


def _named(name: str) -> str:
    return f"hostile-{name}".replace(" ", "-").replace("'", "")


def hand_in(place: Path) -> None:
    """Write everything that is handed in to place/inbox and place/class.zip."""
    zipped, link, bomb = set(NAMES.values()), _named("a link"), _named("a bomb of zeros")
    for student, case in everyone().items():
        if student not in {*zipped, link, bomb}:
            path = place / "inbox" / student / f"{LAB} (1).ipynb"
            path.parent.mkdir(parents=True)
            path.write_bytes(_bytes(case.notebook()).replace(b"PLACE", str(place).encode()))
    (place / "inbox" / "secret").write_text(SECRET)
    (place / "inbox" / link).mkdir()
    (place / "inbox" / link / "lab1.ipynb").symlink_to(place / "inbox" / "honest-04" / f"{LAB} (1).ipynb")
    with zipfile.ZipFile(place / "class.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for folder, student in NAMES.items():
            archive.writestr(f"{folder}/lab1.ipynb", _bytes(everyone()[student].notebook()))
        archive.writestr(f"{bomb}/lab1.ipynb", b'{"cells": [' + b" " * 200 * 2**20 + b"]}")


def _bytes(notebook: NotebookNode | bytes) -> bytes:
    return notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()


def deserved(case: Case) -> Mapping[str, float]:
    return {name: 0.0 if name in case.lost else points for name, points in submissions.points(LAB).items()}
