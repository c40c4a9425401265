"""What runs in the sandbox: a student's notebook, cell by cell, and then its functions, when the grader calls them.

`python -m course.student SOCKET` waits there for submissions, with everything imported that their notebooks import.
For each it forks a process that locks itself in once more, with no processes, files or network but its own, and serves
the grader on the pipes that came with the request. The grader does not rely on anything that is done or said here.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from course.wire import Peer, without_compilers
from fmlab.checks import lab as labs
from fmlab.checks.reference import withheld

NAMESPACES = 0x10000000 | 0x20000000 | 0x00020000 | 0x40000000 | 0x08000000  # user, pid, mount, net, ipc
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
NOBODY = 65534
SHOWN = 100_000  # characters of one text that a cell shows; more are cut
PICTURE = 20 * SHOWN  # characters of one picture; a larger one is left out
ROOM = 4 * PICTURE  # for all that a cell shows


def main(control: socket.socket, walls: bool) -> None:
    """Fork a process for each request until the grader is gone."""
    if walls and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)  # nothing forked from here may look back
    notebook = warm_up()
    control.sendall(b"r")  # ready
    signal.signal(signal.SIGCHLD, lambda *_: reap())
    while True:
        request, descriptors, *_ = socket.recv_fds(control, 65536, 2)
        if not request:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            limits = json.loads(request)
            lock_in(limits["disk"], descriptors[1], walls)
            limit(limits)
            Peer(*descriptors, names=notebook.names, around=functools.partial(quietly, os.getpid())).serve()
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def warm_up() -> Notebook:
    """A notebook in which nothing has run, with all imported that notebooks import."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets  # noqa: F401

    import fmlab.samplers
    import fmlab.training
    import fmlab.widgets

    for path in Path(fmlab.__file__).parent.glob("exercises/lab*.py"):
        labs.load(path.stem)

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    return Notebook()


def lock_in(disk: int, writing: int, walls: bool) -> None:
    """Leave everything behind but the pipes: what follows runs as process 1 of namespaces of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 1)  # for the files below; the process it was forked from stays out of reach
    if walls:
        separate(libc)
    if inner := os.fork():
        guard(inner, writing)
    os.setsid()  # signals to a process group would reach its members outside
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if walls:
        for folder, size in (b"/proc", b"4k"), (b"/desk", b"%d" % disk):
            _checked(libc.mount(b"tmpfs", folder, b"tmpfs", 0, b"size=" + size))
        os.chdir("/desk")


def separate(libc: ctypes.CDLL) -> None:
    """Namespaces in which nothing of the outside is seen and this user has power over nothing outside."""
    user, group = os.getuid(), os.getgid()
    _checked(libc.unshare(NAMESPACES))
    for name, text in ("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1"):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def limit(limits: dict[str, int]) -> None:
    """Bound what the process may use from here on."""
    for kind, most in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_FSIZE, limits["disk"]),
        (resource.RLIMIT_CPU, limits["cpu"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


class Published(DisplayHook):
    """The value of a cell's last expression is published like all that a cell displays."""

    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        self.shell.display_pub.publish(format_dict, md_dict)


class Shell(InteractiveShell):
    """IPython without a terminal."""

    displayhook_class = Published

    def enable_gui(self, gui=None):
        pass


class Notebook:
    """A student's notebook while it runs.

    run(source) runs a cell and returns its outputs as nbformat has them; lookup(name) is what the notebook calls by
    that name, and call(name, *args) calls it; seed(number) lets random numbers start anew. withhold(functions,
    exercise) withholds functions of the library and the card of an exercise instead of those before, and returns what
    was called of those.
    """

    def __init__(self):
        self.shell = Shell.instance(colors="NoColor")
        self.shell.history_manager.enabled = False
        self.shell.enable_matplotlib("inline")
        self.shell._showtraceback = lambda kind, error, lines: self.error.append((kind.__name__, str(error), lines))
        self.error: list[tuple[str, str, list[str]]] = []
        self.withheld, self.called = contextlib.ExitStack(), []
        self.names = {name: getattr(self, name) for name in ("run", "lookup", "call", "withhold")} | {"seed": seed}

    def run(self, source: str) -> list[dict[str, Any]]:
        self.error = []
        with capture_output() as captured:
            self.shell.run_cell(source)
        streams = [("stdout", captured.stdout), ("stderr", captured.stderr)]
        outputs = [{"output_type": "stream", "name": name, "text": text} for name, text in streams if text]
        for rich in captured.outputs:
            data = {kind: content for kind, content in rich.data.items() if isinstance(content, str)}
            outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
        for name, words, lines in self.error:
            outputs.append({"output_type": "error", "ename": name, "evalue": words, "traceback": list(lines)})
        return shortened(outputs)

    def lookup(self, name: str) -> Any:
        try:
            return self.shell.user_ns[name]
        except KeyError:
            raise NameError(f"name {name!r} is not defined") from None

    def call(self, name: str, *args) -> Any:
        return self.lookup(name)(*args)

    def withhold(self, functions: list[str], exercise: str) -> list[str]:
        called = self.called
        self.withheld.close()
        self.called = self.withheld.enter_context(withheld(functions, exercise))
        return called


def shortened(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a cell shows, as much of it as a page can hold."""
    room, kept = ROOM, []
    for output in map(_cut, outputs):
        room -= len(json.dumps(output))
        if room < 0:
            return [*kept, {"output_type": "stream", "name": "stderr", "text": "… and more than can be shown\n"}]
        kept.append(output)
    return kept


def _cut(value):
    """An output with every text cut to a length that a page can show."""
    if isinstance(value, dict):
        pictures = {key: item for key, item in value.items() if key == "image/png" and len(item) < PICTURE}
        return {key: _cut(item) for key, item in value.items() if key != "image/png"} | pictures
    if isinstance(value, list):
        return [_cut(item) for item in value[:200]]
    if isinstance(value, str) and len(value) > SHOWN:
        return f"{value[:SHOWN]}\n… and {len(value) - SHOWN} characters more"
    return value


def seed(number: int) -> None:
    torch.manual_seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002 (students use it)
    random.seed(number)


def quietly(owner: int, function, /, *args, **options):
    """Call a function for the grader: what it prints stays here, and an error tells its line, or what is unsolved."""
    without_compilers()
    try:
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            return function(*args, **options)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith("<ipython-input")]
        if own:
            error.where = f"in line {own[-1].lineno}: {own[-1].line}"
        if own and own[-1] is frames[-1]:
            error.function = own[-1].name
        raise
    finally:
        if os.getpid() != owner:
            os._exit(0)  # a copy that the student's code made of this process does not answer for it


def guard(inner: int, writing: int) -> NoReturn:
    """Wait for the submission's process, and kill it, with all that it started, when nobody listens any more."""
    listener = select.poll()
    listener.register(writing, 0)  # which reports errors alone
    while not os.waitpid(inner, os.WNOHANG)[0]:
        if listener.poll(200):
            os.kill(inner, signal.SIGKILL)
            os.waitpid(inner, 0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(inner, signal.SIGKILL)  # where there are no walls
            break
    os._exit(0)


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    door = socket.socket(socket.AF_UNIX)
    door.connect(sys.argv[1])
    main(door, walls="--unsafe" not in sys.argv)
