"""A student's process, seen from the grader: cells run there, functions are called there, and all of it may be lies."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

from course.ipython import definitions
from course.jobs import Patience
from course.sandbox import Sandbox
from course.student import shortened
from course.wire import Broken, Peer, RemoteError
from fmlab.checks.reference import ANSWER, CARD

KINDS = ("text/plain", "image/png")  # what is kept of an output; a page may do anything in the browser that shows it


class Desk:
    """A student's process, which is replaced when it ends: what had run before is then run again.

    failure: why there was no process to be had, if that was so.
    """

    def __init__(self, sandbox: Sandbox, patience: Patience, end: float):
        self.sandbox, self.patience, self.end = sandbox, patience, end
        self.done: list[str] = []
        self.withheld: tuple[list[str], str] = [], ""
        self.connection: Peer | None = None
        self.failure: Exception | None = None

    def run(self, source: str) -> tuple[list[NotebookNode], str]:
        """The outputs of a cell, and what of it ran to its end: where it did not, what it defines may have.

        Raises what the sandbox raises that has no process to give.
        """
        try:
            outputs = _checked(self._ask(self.patience.cell, "run", source))
        except Exception as error:  # there is no end to what may come of what a process says
            self.close()
            if self.failure:
                raise
            rest = definitions(source)
            ran = self.run(rest)[1] if rest not in ("", source) else ""
            return [error_output("ProcessEnded", f"the cell did not end: {error}")], ran
        self.done.append(source)
        return outputs, source

    def answer(self, name: str) -> Any:
        """What the notebook calls by a name; a function as one that can be called here. Raises Broken, RemoteError."""
        value = self._ask(self.patience.check, "lookup", name)
        return Answer(self, name) if callable(value) else value

    def call(self, name: str, number: int, args: Sequence) -> Any:
        """A call of the student's function, whose random numbers start from `number`."""
        return self._peer(self.patience.check).call_anew(number, "call", name, *args)

    def withhold(self, functions: Iterable[str] = (), exercise: str = "") -> list[str]:
        """Withhold these functions of the library, and the card of an exercise, instead of those before. Returns what
        was called of those."""
        before, self.withheld = self.withheld, ([*functions], exercise)
        if self.connection is None or self.connection.broken:
            return []
        try:
            called = self._ask(self.patience.check, "withhold", *self.withheld)
        except (Broken, RemoteError):
            return []
        called = {name for name in called if isinstance(name, str)} if isinstance(called, list) else ()
        return [name for name in [*before[0], ANSWER, CARD] if name in called]

    def _ask(self, seconds: float, name: str, *args) -> Any:
        """What the process answers. Raises RemoteError, and Broken where it does not answer or makes no sense."""
        return _sense(self._peer(seconds), name, *args)

    def _peer(self, seconds: float) -> Peer:
        """The connection, with the time of the next call set."""
        if self.connection is None or self.connection.broken:
            self.close()
            self.connection = self._opened()
            for source in self.done:
                self.connection.deadline = self._deadline(self.patience.cell)
                _sense(self.connection, "run", source)
            _sense(self.connection, "withhold", *self.withheld)
        self.connection.deadline = self._deadline(seconds)
        return self.connection

    def _opened(self) -> Peer:
        try:
            return self.sandbox.open()
        except Exception as error:
            self.failure = error  # which a check would take for the answer's
            raise

    def _deadline(self, seconds: float) -> float:
        return min(time.monotonic() + seconds, self.end)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def _sense(peer: Peer, name: str, *args) -> Any:
    """What a process answers that is called for no answer of the student's, so that only RemoteError and Broken make
    sense of what it may raise here."""
    try:
        return peer.call(name, *args)
    except (Broken, RemoteError):
        raise
    except Exception as error:
        raise Broken(f"{error or 'a message that makes no sense'} ({type(error).__name__})") from None


class Answer:
    """A student's function, called where it is."""

    def __init__(self, desk: Desk, name: str):
        self.desk, self.__name__, self.calls = desk, name, 0
        self.seconds = desk.patience.check

    def __call__(self, *args):
        self.calls += 1
        return self.desk.call(self.__name__, self.calls, args)


def _checked(outputs) -> list[NotebookNode]:
    """The outputs that a student's process tells of, as far as they are text and pictures; it may tell of anything."""
    known = [output for output in map(_output, outputs if isinstance(outputs, list) else []) if output]
    return [new_output(**output) for output in shortened(known)]


def _output(output) -> dict[str, Any] | None:
    match output:
        case {"output_type": "stream", "name": "stdout" | "stderr" as name, "text": str(text)}:
            return {"output_type": "stream", "name": name, "text": text}
        case {"output_type": "display_data", "data": dict(data)}:
            return {
                "output_type": "display_data",
                "data": {k: v for k, v in data.items() if k in KINDS and type(v) is str},
            }
        case {"output_type": "error", "ename": str(name), "evalue": str(words), "traceback": list(lines)}:
            lines = [line for line in lines if isinstance(line, str)]
            return {"output_type": "error", "ename": name, "evalue": words, "traceback": lines}
    return None


def error_output(name: str, words: str) -> NotebookNode:
    return new_output("error", ename=name, evalue=words, traceback=words.splitlines())
