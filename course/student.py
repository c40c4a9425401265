"""What runs in the sandbox: a student's notebook, cell by cell, and then its functions, when the grader calls them.

`python -m course.student SOCKET` waits there for submissions, with everything imported that their notebooks import.
For each it forks a process that locks itself in once more, with no processes, files or network but its own, and serves
the grader on the pipes that came with the request. The grader does not rely on anything that is done or said here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import random
import re
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython.utils.capture import capture_output
from traitlets.config import Config

from course import inner_walls, kernel
from course.shell import Shell
from course.wire import Peer, without_compilers
from fmlab.checks import lab as labs
from fmlab.checks.reference import withheld

SHOWN = 100_000  # characters of one text that a cell shows; more are cut
PICTURE = 20 * SHOWN  # characters of one picture; a larger one is left out
ROOM = 4 * PICTURE  # for all that a cell shows
# What some notebooks import; it is imported beforehand as soon as nobody asks for anything for a moment.
LATER = ("scipy.sparse.linalg", "scipy.stats", "sklearn.datasets")
MOMENT = 0.1  # seconds


def main(control: socket.socket, walled: bool) -> None:
    """Fork a process for each request until the grader is gone."""
    if walled:
        inner_walls.become_nobody()
    kernel.out_of_sight()
    notebook = warm_up()
    control.sendall(inner_walls.READY)
    signal.signal(signal.SIGCHLD, lambda *_: reap())
    later = list(LATER)
    while True:
        while later and not select.select([control], [], [], MOMENT)[0]:
            importlib.import_module(later.pop(0))
        request, descriptors, *_ = socket.recv_fds(control, 65536, 2)
        if not request:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            attend(notebook, json.loads(request), descriptors, walled)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def attend(notebook: Notebook, limits: dict[str, int], pipes: list[int], walled: bool) -> None:
    """Lock this process in, say so, and serve the grader; where a wall cannot be made, say why, and serve nobody."""
    try:
        (inner_walls.lock_in if walled else inner_walls.keep_in)(limits, pipes)
    except OSError as error:
        os.write(pipes[1], str(error.strerror).encode())
        return
    os.write(pipes[1], inner_walls.READY)
    Peer(*pipes, names=notebook.names, around=functools.partial(quietly, os.getpid())).serve()


def come_home() -> None:
    """Tensors are made where they can be, also for who made all of them on a GPU, which is not here."""
    try:
        torch.empty(0)
    except Exception:  # of many kinds, for devices of many
        with contextlib.suppress(Exception):
            torch.set_default_device(None)


def reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def warm_up() -> Notebook:
    """A notebook in which nothing has run, with all imported that all notebooks import."""
    import matplotlib.pyplot  # noqa: F401

    import fmlab.samplers
    import fmlab.training
    import fmlab.widgets

    for path in Path(fmlab.__file__).parent.glob("exercises/lab*.py"):
        with contextlib.suppress(Exception):  # a lab that is broken breaks no other
            labs.load(path.stem)

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    return Notebook()


class Notebook:
    """A student's notebook while it runs.

    run(source) runs a cell and returns its outputs as nbformat has them; lookup(name) is what the notebook calls by
    that name, and call(name, *args) calls it; seed(number) lets random numbers start anew. withhold(functions,
    exercise) withholds functions of the library and the card of an exercise instead of those before, and returns what
    was called of those.
    """

    def __init__(self):
        nothing = Config(HistoryManager={"enabled": False, "hist_file": ":memory:"})  # is left for anybody else
        self.shell = Shell.instance(colors="NoColor", config=nothing)
        self.shell.enable_matplotlib("inline")
        self.shell._showtraceback = lambda kind, error, lines: self.error.append((kind.__name__, str(error), lines))
        self.error: list[tuple[str, str, list[str]]] = []
        self.withheld, self.called = contextlib.ExitStack(), []
        self.names = {name: getattr(self, name) for name in ("run", "lookup", "call", "withhold")} | {"seed": seed}

    def run(self, source: str) -> list[dict[str, Any]]:
        self.error = []
        with capture_output() as captured:
            self.shell.run_cell(source)
        come_home()
        streams = [("stdout", captured.stdout), ("stderr", captured.stderr)]
        outputs = [{"output_type": "stream", "name": name, "text": text} for name, text in streams if text]
        for rich in captured.outputs:
            outputs.append({"output_type": "display_data", "data": _data(rich.data), "metadata": {}})
        for name, words, lines in _causes(self.error):
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


def _data(data: dict[str, Any]) -> dict[str, str]:
    """What an output shows, as text and as a picture; of HTML, which goes no further, the picture in it."""
    kept = {kind: content for kind, content in data.items() if isinstance(content, str)}
    inside = re.search(r"(?<=data:image/png;base64,)[\w+/=]+", kept.pop("text/html", ""))
    return ({"image/png": inside[0]} if inside else {}) | kept


def _causes(errors: list[tuple[str, str, list[str]]]) -> list[tuple[str, str, list[str]]]:
    """The errors of a cell without names that are not defined because of an error before."""
    return [error for k, error in enumerate(errors) if k == 0 or error[0] != "NameError"]


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
    torch.default_generator.manual_seed(number)  # torch.manual_seed goes on to every kind of GPU
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


if __name__ == "__main__":
    door = socket.socket(socket.AF_UNIX)
    door.connect(sys.argv[1])
    main(door, walled="--unsafe" not in sys.argv)
