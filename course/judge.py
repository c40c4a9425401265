"""The marks of one submission: its cells run in the sandbox, its exercises are examined here.

An exercise is a card of `fmlab.exercises`; it examines an `Answer`, which calls the student's function in its process.
So the numbers that are compared with, and the comparison, are out of the student's reach, whatever their code does.

A notebook is run twice. In the first process its functions are asked about the inputs that students know, and what
its cells show there is what the student gets to see. The hidden inputs only the second process ever knows, and nothing
that is said there leaves the grader.
"""

from __future__ import annotations

import contextlib
import copy
import io
import symtable
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from nbformat import NotebookNode
from nbformat.v4 import new_output

from course import hidden
from course.build import is_check
from course.marks import for_student
from course.sandbox import Sandbox
from course.student import shortened
from course.wire import Broken, Peer, RemoteError
from fmlab.checks import lab as labs
from fmlab.checks.exercise import Exercise
from fmlab.checks.reference import ANSWER, CARD, words
from fmlab.checks.verdict import Verdict

KINDS = ("text/plain", "image/png")  # what is kept of an output; a page may do anything in the browser that shows it


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for one cell, for one check, and for a whole submission."""

    cell: float = 300
    check: float = 60
    notebook: float = 1200


class Mark(NamedTuple):
    """What became of an exercise. by: who rejects the answer, "" if nobody does.

    visible, hidden: the check, on inputs that students know, or do not. reference: it calls the library's answer.
    process: it ended its process, or took too long. missing: it is not defined.
    """

    by: str
    verdict: Verdict


# --- the student's process --------------------------------------------------------------------------------------------


class Desk:
    """A student's process, which is replaced when it ends: what had run before is then run again."""

    def __init__(self, sandbox: Sandbox, patience: Patience, end: float):
        self.sandbox, self.patience, self.end = sandbox, patience, end
        self.done: list[str] = []
        self.withheld: tuple[list[str], str] = [], ""
        self.connection: Peer | None = None

    def run(self, source: str) -> list[NotebookNode]:
        """The outputs of a cell, of which the last is an error where the cell did not end well."""
        try:
            outputs = self._peer(self.patience.cell).call("run", source)
        except (Broken, RemoteError) as error:
            self.close()
            return [_error("ProcessEnded", f"the cell did not end: {error}")]
        self.done.append(source)
        return _checked(outputs)

    def answer(self, name: str) -> Any:
        """What the notebook calls by a name; a function as one that can be called here. Raises Broken, RemoteError."""
        value = self._peer(self.patience.check).call("lookup", name)
        return Answer(self, name) if callable(value) else value

    def call(self, name: str, number: int, args: Sequence) -> Any:
        """A call of the student's function, whose random numbers start from `number`."""
        peer = self._peer(self.patience.check)
        with torch.random.fork_rng(devices=[]):  # this is no draw of the student's
            peer.call("seed", number)
        return peer.call("call", name, *args)

    def withhold(self, functions: Iterable[str] = (), exercise: str = "") -> list[str]:
        """Withhold these functions of the library, and the card of an exercise, instead of those before. Returns what
        was called of those."""
        before, self.withheld = self.withheld, ([*functions], exercise)
        if self.connection is None or self.connection.broken:
            return []
        self.connection.deadline = self._deadline(self.patience.check)
        try:
            called = self.connection.call("withhold", *self.withheld)
        except (Broken, RemoteError):
            return []
        known = [*before[0], ANSWER, CARD]
        return [name for name in known if name in called] if isinstance(called, list) else []

    def _peer(self, seconds: float) -> Peer:
        """The connection, with the time of the next call set."""
        if self.connection is None or self.connection.broken:
            self.close()
            self.connection = self.sandbox.open()
            for source in self.done:
                self.connection.deadline = self._deadline(self.patience.cell)
                self.connection.call("run", source)
            self.connection.call("withhold", *self.withheld)
        self.connection.deadline = self._deadline(seconds)
        return self.connection

    def _deadline(self, seconds: float) -> float:
        return min(time.monotonic() + seconds, self.end)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


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


def _error(name: str, words: str) -> NotebookNode:
    return new_output("error", ename=name, evalue=words, traceback=words.splitlines())


# --- the marks --------------------------------------------------------------------------------------------------------


def judge(
    sandbox: Sandbox,
    full: NotebookNode,
    lab: str,
    nb: NotebookNode,
    patience: Patience = Patience(),
    known: Mapping[str, Mark] = {},
) -> tuple[NotebookNode, dict[str, Mark]]:
    """Run a submission and examine its answers. Returns the executed notebook and the mark of each exercise.

    full: the lab, solutions included (`course.build.read`). lab: "lab1". nb: the submission, whose graded cells are
    those of the lab. known: marks that stand, whose exercises are not examined.
    """
    nb, end = copy.deepcopy(nb), time.monotonic() + patience.notebook
    exercises = {cell.id: labs.load(lab).exercises[cell.id] for cell in full.cells if is_check(cell)}
    wanted = needed(nb, full)
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and (is_check(cell) or cell.id in wanted)]

    asked = [exercise for name, exercise in exercises.items() if name not in known]
    shown, marks, done = attend(Desk(sandbox, patience, end), cells, "visible", asked)

    asked = [exercises[name] for name, mark in marks.items() if not mark.by]
    again = [cell for cell in cells if is_check(cell) or cell.source in done]
    if asked:
        marks |= attend(Desk(sandbox, patience, end), again, "hidden", asked)[1]

    marks |= known
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_shown(cell.id, marks[cell.id])] if is_check(cell) else shown.get(cell.id, [])
    return nb, marks


def attend(desk: Desk, cells: Iterable[NotebookNode], who: str, asked: Iterable[Exercise]):
    """Run cells one after the other in one process, and examine answers where the checks of these exercises stand.

    who: "visible" or "hidden", on which inputs. Returns the outputs by id, the marks by exercise, and the sources of
    the cells that ended.
    """
    outputs, marks, exercises = {}, {}, {exercise.name: exercise for exercise in asked}
    try:
        for cell in cells:
            if not is_check(cell):
                outputs[cell.id] = desk.run(cell.source)
            elif cell.id in exercises:
                marks[cell.id] = examine(desk, exercises[cell.id], who)
    finally:
        desk.close()
    return outputs, marks, desk.done


def examine(desk: Desk, exercise: Exercise, who: str) -> Mark:
    """The mark for one answer, from which the library's own answers are withheld."""
    try:
        answer = desk.answer(exercise.name)
    except RemoteError:
        return _rejected("missing", exercise, "not defined; its cell was not solved, or ended with an error")
    except Broken as error:
        return _rejected("process", exercise, str(error))
    desk.withhold(exercise.withhold, repr(exercise))
    inputs = exercise.visible if who == "visible" else hidden.inputs(exercise)
    with contextlib.redirect_stdout(io.StringIO()):
        verdict = exercise.examine(answer, inputs, withhold=False)
    ended = desk.connection is None or desk.connection.broken
    called = desk.withhold()
    if verdict.passed:
        return Mark("", verdict)
    if called:
        return _rejected("reference", exercise, words(called[0]))
    return Mark("process" if ended else who, verdict)


def _rejected(by: str, exercise: Exercise, reason: str) -> Mark:
    return Mark(by, Verdict(exercise.name, False, reason))


def _shown(name: str, mark: Mark) -> NotebookNode:
    """What a check cell shows in the executed notebook: an error is worth nothing to nbgrader, all else full marks."""
    if not mark.by:
        return new_output("stream", name="stdout", text=f"✓ {name}\n")
    return _error("CheckFailed", for_student({"by": mark.by, "verdict": asdict(mark.verdict)}))


# --- which cells are needed -------------------------------------------------------------------------------------------


def needed(nb: NotebookNode, full: NotebookNode) -> set[str]:
    """The ids of the code cells that have to run: all that a student may have written, and what these build on.

    The lab's own plain cells mostly draw figures, from the answers, and take nearly all of the time. One of them is
    needed only if it defines a name that a needed cell uses.
    """
    released = {
        cell.source.strip() for cell in full.cells if cell.cell_type == "code" and "nbgrader" not in cell.metadata
    }
    code = [cell for cell in nb.cells if cell.cell_type == "code" and not is_check(cell)]
    plain = [cell for cell in code if "nbgrader" not in cell.metadata and cell.source.strip() in released]
    wanted = [cell for cell in code if all(cell is not other for other in plain)]
    while True:
        used = set().union(*(_names(cell.source)[1] for cell in wanted))
        more = [cell for cell in plain if cell not in wanted and _names(cell.source)[0] & used]
        if not more:
            return {cell.id for cell in wanted}
        wanted += more


def _names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell binds, and those of other cells that it may use. None for one that is not plain Python."""
    try:
        module = symtable.symtable(source, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(), set()
    bound = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used, tables = set(), [module]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        free = (symbol for symbol in table.get_symbols() if symbol.is_referenced())
        used |= {symbol.get_name() for symbol in free if table is module or symbol.is_global()}
    return bound, used
