"""The marks of one submission: its cells run in the sandbox, its checks run here, on functions that stay there.

A check cell is the lab's own, hidden tests included. Where it says `lab1.euler_step(euler_step)`, the second name is
bound to an `Answer`, which calls the student's function in its process. So the numbers that a check compares with, and
the comparison, are out of the student's reach, whatever their code does.

A notebook is run twice. In the first process its cells run with the checks that students know, and what these two show
is what the student gets to see. What hidden tests call an answer with, only the second process ever knows, and nothing
that is said there leaves the grader.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import re
import symtable
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

from course.build import is_check
from course.sandbox import Sandbox
from course.student import shortened
from course.wire import Broken, Peer, RemoteError
from fmlab.checks.compare import CheckFailed
from fmlab.checks.reference import words

KINDS = ("text/plain", "image/png")  # what is kept of an output; a page may do anything in the browser that shows it
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS\n?", re.DOTALL)


def visible(check: str) -> str:
    """What students see of a check."""
    return HIDDEN.sub("", check)


def hidden(check: str) -> str:
    """What they do not."""
    return "\n".join(HIDDEN.findall(check))


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for one cell, for one check, and for a whole submission."""

    cell: float = 300
    check: float = 60
    notebook: float = 1200


@dataclass(frozen=True)
class Verdict:
    """What became of an exercise. by: who rejects the answer, "" if nobody does; words: of the check that does."""

    by: str = ""
    words: str = ""


# --- the student's process --------------------------------------------------------------------------------------------


class Desk:
    """A student's process, which is replaced when it ends: what had run before is then run again."""

    def __init__(self, sandbox: Sandbox, patience: Patience, end: float):
        self.sandbox, self.patience, self.end = sandbox, patience, end
        self.done: list[str] = []
        self.withheld: list[str] = []
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
        return self._peer(self.patience.check).call("call", name, number, *args)

    def withhold(self, names: Iterable[str]) -> list[str]:
        """Withhold these functions of the library instead of those before. Returns which of those were called."""
        self.withheld = list(names)
        if self.connection is None or self.connection.broken:
            return []
        self.connection.deadline = self._deadline(self.patience.check)
        try:
            called = self.connection.call("withhold", self.withheld)
        except (Broken, RemoteError):
            return []
        return called if isinstance(called, list) else []

    def _peer(self, seconds: float) -> Peer:
        """The connection, with the time of the next call set."""
        if self.connection is None or self.connection.broken:
            self.close()
            self.connection = self.sandbox.open()
            for source in self.done:
                self.connection.deadline = self._deadline(self.patience.cell)
                self.connection.call("run", source)
            self.connection.call("withhold", self.withheld)
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
        self.desk, self.name, self.calls = desk, name, 0
        self.seconds = desk.patience.check

    def __call__(self, *args):
        self.calls += 1
        return self.desk.call(self.name, self.calls, args)


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
    known: Mapping[str, Verdict] = {},
):
    """Run a submission and its checks. Returns the executed notebook and {exercise: Verdict}.

    full: the lab with its hidden tests (`course.build.read`). lab: "lab1". nb: the submission, whose graded cells are
    those of the lab. known: verdicts that stand, whose checks do not run.
    """
    nb, checks = copy.deepcopy(nb), {cell.id: cell.source for cell in full.cells if is_check(cell)}
    wanted, end = needed(nb, full), time.monotonic() + patience.notebook
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and (is_check(cell) or cell.id in wanted)]

    seen = {name: visible(source) for name, source in checks.items() if name not in known}
    shown, verdicts, done = attend(Desk(sandbox, patience, end), lab, cells, "visible", seen)

    unseen = {name: hidden(checks[name]) for name, verdict in verdicts.items() if not verdict.by}
    again = [cell for cell in cells if is_check(cell) or cell.source in done]
    if unseen:
        verdicts |= attend(Desk(sandbox, patience, end), lab, again, "hidden", unseen)[1]

    verdicts |= known
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_shown(cell.id, verdicts[cell.id])] if is_check(cell) else shown.get(cell.id, [])
    return nb, verdicts


def attend(desk: Desk, lab: str, cells: Iterable[NotebookNode], who: str, checks: Mapping[str, str]):
    """Run cells one after the other in one process, and where they stand, these checks: {exercise: source}.

    who: "visible" or "hidden", who makes the checks. Returns the outputs by id, the verdicts by exercise, and the
    sources of the cells that ended.
    """
    outputs, verdicts = {}, {}
    try:
        for cell in cells:
            if not is_check(cell):
                outputs[cell.id] = desk.run(cell.source)
            elif cell.id in checks:
                verdicts[cell.id] = examine(desk, lab, cell.id, who, checks[cell.id])
    finally:
        desk.close()
    return outputs, verdicts, desk.done


def examine(desk: Desk, lab: str, name: str, who: str, source: str) -> Verdict:
    """The verdict of a check on one exercise, while the library's own functions for it are withheld from the answer."""
    try:
        answer = desk.answer(name)
    except RemoteError:
        return Verdict("missing", f"✗ {name}: not defined; its cell was not solved, or ended with an error")
    except Broken as error:
        return Verdict("process", f"✗ {name}: {error}")
    checks = importlib.import_module(f"fmlab.checks.{lab}")
    reference = getattr(checks, name).exercise.reference
    desk.withhold(reference)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, f"the check of {name}", "exec"), {lab: checks, name: answer})
        verdict = Verdict()
    except CheckFailed as failure:
        ended = desk.connection is None or desk.connection.broken
        verdict = Verdict("process" if ended else who, str(failure))
    called = [function for function in desk.withhold([]) if function in reference]
    return Verdict("reference", f"✗ {name}: {words(called[0])}") if verdict.by and called else verdict


def _shown(name: str, verdict: Verdict) -> NotebookNode:
    """What a check cell shows in the executed notebook: an error is worth nothing to nbgrader, all else full marks."""
    if not verdict.by:
        return new_output("stream", name="stdout", text=f"✓ {name}\n")
    if verdict.by == "hidden":
        return _error("CheckFailed", f"✗ {name}: passes the check in the notebook, but not further tests of the same")
    return _error("CheckFailed", verdict.words)


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
