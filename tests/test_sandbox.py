"""What students' code can and cannot do in the sandbox, by letting it try."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course import kernel
from course import sandbox as sandboxes
from course.outer_walls import Limits, NoWalls
from course.sandbox import Sandbox
from course.wire import Broken
from tests import escapes
from tests.classroom import environment
from tests.walls import PACKAGES, namespaces, needs_root, needs_walls, possible

pytestmark = [pytest.mark.grading, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", params=["bwrap", "podman"] + ["docker"] * possible("docker"))
def sandbox(request):
    if not possible(request.param):
        pytest.skip(f"{request.param} does not work here: install {PACKAGES[request.param]}")
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
    "being root": ("import os; os.setuid(0)", "OSError"),
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
        pytest.skip(f"{walls} does not work here: install {PACKAGES[walls]}")
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


def test_who_looks_for_what_others_left_would_find_it(student):
    """As nothing of others is ever found, see that something would be: here it looks for its own."""
    said(student, f"{escapes.TOOLS}\nwrite('/desk/word'), write('/dev/shm/here', 'a word: ' + WORD)")
    said(student, "s = socket.socket(socket.AF_UNIX); s.bind('\\0word'); s.listen()\n")
    said(student, "threading.Thread(target=lambda: s.accept()[0].send(WORD.encode()), daemon=True).start()")
    assert said(student, escapes.WITNESS) == "found: ['/desk/word', '/dev/shm/here', 'socket']\n"


POWER = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(result): return result == -1 and ctypes.get_errno() == 1
print(refused(libc.unshare(0x10000000)), refused(libc.umount2(b"/proc", 2)), refused(libc.syscall(KEYCTL, 0, -3, 0)))
try: print(os.memfd_create("x"))
except OSError as error: print(error.errno)
try: print(socket.socket(socket.AF_VSOCK))
except OSError as error: print(error.errno)
""".replace("KEYCTL", str(kernel.CALLS[platform.machine()]["keyctl"]))


def test_the_kernel_refuses_ways_out(student):
    """A namespace, an unmount, a key ring; memory in no file; a socket that no namespace holds."""
    assert said(student, POWER) == "True True True\n1\n97\n"


TOGETHER = """
import ctypes, os, threading, time
for _ in range(8):
    if os.fork() == 0:
        held = [{take} for _ in range(6)]
        time.sleep(60)
time.sleep(60)
"""
TAKE = {
    "of their own": "bytearray(b'x' * 2**26)",
    "of threads whose process ended": (
        "[threading.Thread(target=lambda: (bytearray(b'x' * 2**28), time.sleep(60))).start(),"
        " ctypes.CDLL(None).syscall(60, 0)]"
    ),
}


@pytest.mark.parametrize("how", TAKE)
@needs_walls
def test_processes_that_take_too_much_memory_together_end(how):
    with contextlib.closing(Sandbox(Limits(memory=2**30))) as sandbox, contextlib.closing(sandbox.open()) as peer:
        peer.deadline = time.monotonic() + 60
        with pytest.raises(Broken, match="has ended"):
            peer.call("run", TOGETHER.format(take=TAKE[how]))


@needs_walls
def test_what_processes_have_in_common_counts_once():
    """A hundred copies of what the notebook holds are no more than that."""
    with contextlib.closing(Sandbox(Limits(memory=2**29))) as sandbox, contextlib.closing(sandbox.open()) as peer:
        peer.deadline = time.monotonic() + 60
        fork = "import multiprocessing, torch\nheld = torch.ones(2**26)\n"
        fork += "with multiprocessing.Pool(8) as pool: print(sum(pool.map(len, [b'x'] * 100)))"
        assert said(peer, fork) == "100\n"


HONEST = {
    "workers of a data loader": (
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "print(sum(len(x) for x, in DataLoader(TensorDataset(torch.ones(9, 2)), num_workers=2)))",
        "9\n",
    ),
    "a pool": ("import multiprocessing as m\nwith m.Pool(2) as pool: print(pool.map(abs, [-1, 2]))", "[1, 2]\n"),
    "a pool of other programs": (
        "import multiprocessing as m\nwith m.get_context('spawn').Pool(2) as pool: print(pool.map(abs, [-1, 2]))",
        "[1, 2]\n",
    ),
    "shared memory": (
        "from multiprocessing.shared_memory import SharedMemory\ns = SharedMemory(create=True, size=9)\n"
        "s.buf[0] = 7; print(s.buf[0]); s.close(); s.unlink()",
        "7\n",
    ),
    "threads": (
        "import concurrent.futures as f\nwith f.ThreadPoolExecutor(4) as pool: print(*pool.map(abs, [-1, 2]))",
        "1 2\n",
    ),
    "a shell": ("!echo hi", "hi\r\n"),
    "a temporary file": ("import tempfile\nwith tempfile.TemporaryFile() as f: print(f.write(b'four'))", "4\n"),
    "what waits": ("import asyncio\nprint(await asyncio.sleep(0.01, 3))", "3\n"),
}


@pytest.mark.parametrize("what", HONEST)
def test_honest_code_works_as_in_a_notebook(student, what):
    source, result = HONEST[what]
    assert said(student, f"import torch\n{source}") == result


@needs_walls
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler for torch.compile: install g++")
def test_code_is_compiled_where_there_is_a_compiler():
    with contextlib.closing(Sandbox()) as sandbox, contextlib.closing(sandbox.open()) as peer:
        peer.deadline = time.monotonic() + 300
        source = "import torch\nf = torch.compile(lambda x: torch.sin(x) + x)\nprint(f(torch.zeros(3)).sum().item())"
        assert said(peer, source) == "0.0\n"


# --- where there are no walls -----------------------------------------------------------------------------------------

FOUND = "from course.outer_walls import found; print(found()[0])"


def finds(monkeypatch, tmp_path, programs: dict[str, str], before: tuple[str, ...] = ()) -> str:
    """What `found` says where these are the only programs that may make walls."""
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}"
    monkeypatch.setenv("PATH", path)
    done = subprocess.run([*before, sys.executable, "-c", FOUND], cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr.strip().splitlines()[-1] if done.returncode else done.stdout.strip()


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({}, ["apt install bubblewrap", "--unsafe"]),
        ({"bwrap": "echo 'bwrap: No permissions to create new namespace' >&2; exit 1"}, ["(bwrap: No permissions"]),
        ({"docker": "echo 'Cannot connect to the Docker daemon' >&2; exit 1"}, ["docker is installed", "(Cannot conn"]),
        ({"bwrap": "exit 1", "podman": "exit 125"}, ["bwrap is installed", "without a word", "podman is installed"]),
        ({"bwrap": "echo hello"}, ["bwrap is installed but does not work here (hello)"]),
    ],
)
def test_where_there_are_no_walls_it_says_what_is_missing(monkeypatch, tmp_path, programs, words):
    told = finds(monkeypatch, tmp_path, programs)
    assert "NoWalls" in told and "apt install bubblewrap" in told and all(word in told for word in words)


@needs_walls
def test_what_does_not_work_is_passed_over(monkeypatch, tmp_path):
    (tmp_path / "docker").symlink_to(shutil.which("bwrap"))  # answers, in other words than an engine
    assert finds(monkeypatch, tmp_path, {"bwrap": f'exec {shutil.which("bwrap")} "$@"', "podman": "exit 1"}) == "bwrap"


@needs_root
@needs_walls
@pytest.mark.parametrize(("number", "words"), [(0, "max_user_namespaces"), (1, "bwrap")])
def test_namespaces_may_be_switched_off(monkeypatch, tmp_path, number, words):
    told = finds(monkeypatch, tmp_path, {"bwrap": f'exec {shutil.which("bwrap")} "$@"'}, namespaces(number))
    assert words in told and ("NoWalls" in told) == (number == 0)


TWO = """
from course import sandbox
from course.outer_walls import attempts
from course.sandbox import Sandbox
sandbox.SOON = 1
print(attempts("bwrap", 3)[0])
one = Sandbox(walls="bwrap")
with_walls = [one.open(), one.open()]
try:
    one.open()
except sandbox.NoWalls as error:
    print(error)
with_walls[0].close()
sandbox.SOON = 30
one.open().close()
one.close()
print("and then there were")
"""


@needs_root
@needs_walls
def test_where_namespaces_are_used_up_no_submission_runs_without_walls_and_the_next_waits():
    done = subprocess.run([*namespaces(2), sys.executable, "-c", TWO], cwd=ROOT, capture_output=True, text=True)
    two, sentence, last = done.stdout.splitlines()
    assert two == "2" and "max_user_namespaces" in sentence and last == "and then there were"


def test_without_walls_code_is_run_only_when_that_is_asked_for():
    sandbox = Sandbox(Limits(cpu=60), walls="none")
    peer = sandbox.open()
    peer.deadline = time.monotonic() + 60
    assert said(peer, "import fmlab, torch\nprint(torch.ones(1))") == "tensor([1.])\n"
    assert said(peer, "x = bytearray(20 * 2**30)") == "MemoryError"
    peer.close()
    sandbox.close()


def test_a_sandbox_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setitem(sandboxes.WALLS, "bwrap", lambda door, program: (["sh", "-c", "echo no such luck; exit 3"], {}))
    with pytest.raises(NoWalls, match="no such luck"):
        Sandbox(walls="bwrap")
