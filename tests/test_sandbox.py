"""What students' code can and cannot do in the sandbox, by letting it try."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course import sandbox as sandboxes
from course.sandbox import Limits, Sandbox
from course.wire import Broken
from tests.classroom import environment
from tests.walls import needs_walls, possible

pytestmark = [pytest.mark.grading, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", params=["bwrap", "podman"] + ["docker"] * possible("docker"))
def sandbox(request):
    if not possible(request.param):
        pytest.skip(f"{request.param} does not work here")
    sandbox = Sandbox(Limits(processes=20, disk=2**20), walls=request.param)
    yield sandbox
    sandbox.close()


@pytest.fixture
def student(sandbox):
    peer = sandbox.open()
    peer.deadline = time.monotonic() + 120
    yield peer
    peer.close()


def said(peer, source: str) -> str:
    """What a cell prints, or the name of the error it ends with."""
    outputs = peer.call("run", source)
    return "".join(output.get("text", "") or output.get("ename", "") for output in outputs)


def test_cells_run_one_after_the_other_and_show_what_they_should(student):
    assert student.call("run", "import torch\nx = torch.ones(2)\nprint('made')") == [
        {"output_type": "stream", "name": "stdout", "text": "made\n"}
    ]
    (shown,) = student.call("run", "x.sum()")
    assert shown["data"]["text/plain"] == "tensor(2.)"
    (figure,) = student.call("run", "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])")
    assert figure["data"]["image/png"].startswith("iVBOR")
    (error,) = student.call("run", "1 / 0")
    assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")


def test_functions_of_the_notebook_are_called_from_here(student):
    student.call("run", "def euler_step(u, x, t, h):\n    return x + h * u(x, t)")
    step = student.call("lookup", "euler_step")
    assert step(lambda x, t: t * x, 2.0, 3.0, 0.5) == 5.0
    with pytest.raises(Exception, match="'heun_step' is not defined"):
        student.call("lookup", "heun_step")


def test_an_error_in_a_function_tells_its_line(student):
    student.call("run", "def broken(x):\n    y = x\n    return y.nothing")
    with pytest.raises(Exception) as failure:
        student.call("lookup", "broken")(1)
    assert failure.value.where == "in line 3: return y.nothing"


TOPS = {"etc", "home", "mnt", "root", "work"}  # of which the environment may be in one
SEEN = {"etc"} | TOPS & {Path(prefix).parts[1] for prefix in (sys.prefix, sys.base_prefix)}
TRIES = {
    "the network": ("import socket; socket.create_connection(('1.1.1.1', 80), 2)", "OSError"),
    "other files": (f"import os; print(sorted({TOPS} & {{*os.listdir('/')}}))", f"{sorted(SEEN)}\n"),
    "sources": ("import course.build", "ModuleNotFoundError"),
    "hidden tests": ("import course.hidden", "ModuleNotFoundError"),
    "the library": ("open('/office/fmlab/paths.py', 'a')", "PermissionError"),
    "the temporary folder": ("import os; print(os.access('/tmp', os.W_OK))", "False\n"),
    "memory": ("x = bytearray(20 * 2**30)", "MemoryError"),
    "a large file": ("open('big', 'wb').write(bytes(2**21))", "OSError"),
    "a full disk": ("for k in range(9): open(str(k), 'wb').write(bytes(2**18))", "OSError"),
    "other processes": ("import os; print(os.getpid(), os.listdir('/proc'))", "1 []\n"),
    "being root": ("import os; os.setuid(0); print(os.getuid())", "OSError"),
}


@pytest.mark.parametrize("what", TRIES)
def test_out_of_reach(student, what):
    source, result = TRIES[what]
    assert said(student, source) == result


def test_processes_are_few(student):
    fork = "import os, time\nfor n in range(100):\n    if os.fork() == 0: time.sleep(60)"
    assert said(student, fork) == "BlockingIOError"


def test_a_long_output_is_cut(student):
    shown = said(student, "print('x' * 10**7)")
    assert len(shown) < 200_000 and "characters more" in shown


def test_a_process_that_ends_itself_is_gone_and_no_other(sandbox, student):
    neighbour = sandbox.open()
    neighbour.deadline = time.monotonic() + 60
    for pid in ("0", "-1", "os.getppid()"):
        said(student, f"import os, signal\nos.kill({pid}, signal.SIGKILL)")
    with pytest.raises(Broken):
        student.call("run", "import os; os._exit(0)")
    assert said(neighbour, "print(1)") == "1\n"
    neighbour.close()


MARK = "a_mark_of_this_test"


def marked_processes() -> int:
    """How many processes on this machine have the mark in their command line."""
    tree = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout
    return tree.count(MARK) - tree.count(f"grep {MARK}")


def test_an_endless_cell_ends_with_its_connection_and_all_it_started_too(sandbox):
    peer = sandbox.open()
    peer.deadline = time.monotonic() + 30
    sleep = f"import subprocess, sys\nargs = [sys.executable, '-c', 'import time; time.sleep(600)', {MARK!r}]\n"
    peer.call("run", sleep + "subprocess.Popen(args, start_new_session=True)")
    assert marked_processes() == 1
    peer.deadline = time.monotonic() + 3
    with pytest.raises(Broken, match="in time"):
        peer.call("run", "while True: pass")
    peer.close()
    wait_until(lambda: marked_processes() == 0)


def wait_until(true) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_one_submission_leaves_nothing_for_the_next(sandbox):
    first, second = sandbox.open(), sandbox.open()
    for peer in (first, second):
        peer.deadline = time.monotonic() + 60
    said(first, "import fmlab.metrics, torch\ntorch.allclose = lambda *a: True\nopen('left', 'w').write('x')\nmine = 1")
    seen = (
        "import torch, os\nprint(torch.allclose(torch.ones(1), torch.zeros(1)), os.listdir('.'), 'mine' in globals())"
    )
    assert said(second, seen) == "False [] False\n"
    assert said(first, seen) == "True ['left'] True\n"
    first.close()
    second.close()


GRADER = """
import sys
from course.sandbox import Sandbox
sandbox = Sandbox(walls=sys.argv[1])
peer = sandbox.open()
print(sandbox.process.pid, flush=True)
peer.call('run', 'while True: pass')
"""


@pytest.mark.parametrize("walls", ["bwrap", "none"])
def test_everything_ends_with_the_grader(walls):
    """Also when the grader is killed."""
    if walls != "none" and not possible(walls):
        pytest.skip(f"{walls} does not work here")
    command = [sys.executable, "-c", GRADER, walls]
    grader = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    first = int(grader.stdout.readline())
    grader.kill()
    grader.communicate()
    wait_until(lambda: not os.path.exists(f"/proc/{first}"))


@needs_walls
def test_a_sandbox_that_was_killed_is_replaced():
    sandbox = Sandbox()
    before = sandbox.process.pid
    sandbox.process.kill()
    sandbox.process.wait()
    peer = sandbox.open()
    peer.deadline = time.monotonic() + 60
    assert said(peer, "print(1)") == "1\n" and sandbox.process.pid != before
    peer.close()
    sandbox.close()


def test_without_walls_code_is_run_only_when_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(sandboxes.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"apt install bubblewrap.*--unsafe"):
        Sandbox()
    sandbox = Sandbox(Limits(cpu=60), walls="none")
    peer = sandbox.open()
    peer.deadline = time.monotonic() + 60
    assert said(peer, "import fmlab, torch\nprint(torch.ones(1))") == "tensor([1.])\n"
    assert said(peer, "x = bytearray(20 * 2**30)") == "MemoryError"
    peer.close()
    sandbox.close()


def test_a_sandbox_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setitem(sandboxes.WALLS, "bwrap", lambda door: (["sh", "-c", "echo no such luck; exit 3"], {}))
    with pytest.raises(Broken, match="no such luck"):
        Sandbox(walls="bwrap")
