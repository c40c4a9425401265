"""The marks of one submission: its cells run in the sandbox, its exercises are examined here.

An exercise is a card of `fmlab.exercises`; it examines an `Answer`, which calls the student's function in its process.
So the numbers that are compared with, and the comparison, are out of the student's reach, whatever their code does.

A notebook is run twice. In the first process its functions are asked about the inputs that students know, and what
its cells show there is what the student gets to see, with the errors in which they ended. The hidden inputs only the
second process ever knows, and nothing that is said there leaves the grader.

A wrong answer costs its own exercise alone: an answer that builds on it is examined with the solution in its place.

Whatever a student's process says, or does not, costs exercises alone; what the grader lacks, such as walls, is raised.
"""

from __future__ import annotations

import contextlib
import copy
import io
import platform
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_output

from course import hidden
from course.build import is_check, is_solution
from course.desk import Desk, error_output
from course.hosted import is_install
from course.ipython import names
from course.jobs import Patience
from course.marks import for_student
from course.repair.cells import imported
from course.sandbox import Sandbox
from course.wire import Broken, RemoteError
from fmlab.checks import lab as labs
from fmlab.checks.exercise import Exercise
from fmlab.checks.reference import words
from fmlab.checks.verdict import Verdict

LONGEST = 5000  # characters of a reason
QUOTED = 300  # characters of an error that are quoted
SETUP = "the lab's own set-up"  # in place of an id, which has no spaces
BUILDS_ON = "{name} builds on {others}, which did not pass. With fmlab's own in its place {name} is right, and counts."
SETUP_FAILED = "The cell with the lab's imports was changed and ended with an error, so the lab's own ran, too: {error}"


class Mark(NamedTuple):
    """What became of an exercise. by: who rejects the answer, "" if nobody does.

    visible, hidden: the check, on inputs that students know, or do not. reference: it calls the library's answer.
    process: it ended its process, or took too long. missing: it is not defined.
    """

    by: str
    verdict: Verdict


class Judged(NamedTuple):
    """notebook: as it ran. marks: by exercise. notes: sentences on how it ran."""

    notebook: NotebookNode
    marks: dict[str, Mark]
    notes: list[str]


# --- the marks --------------------------------------------------------------------------------------------------------


def judge(
    sandbox: Sandbox,
    full: NotebookNode,
    lab: str,
    nb: NotebookNode,
    patience: Patience = Patience(),
    known: Mapping[str, Mark] = {},
) -> Judged:
    """Run a submission and examine its answers.

    full: the lab, solutions included (`course.build.read`). lab: "lab1". nb: the submission, whose graded cells are
    those of the lab. known: marks that stand, whose exercises are not examined.
    """
    nb, end = copy.deepcopy(nb), time.monotonic() + patience.notebook
    exercises = {cell.id: labs.load(lab).exercises[cell.id] for cell in full.cells if is_check(cell)}
    cells = to_run(nb, full)

    asked = [exercise for name, exercise in exercises.items() if name not in known]
    visible = attend(Desk(sandbox, patience, end), cells, "visible", asked)
    faults = [Fault(cell, error) for cell in cells for error in _errors(visible.outputs.get(cell.id, []))[:1]]
    marks = {name: _explained(mark, faults) for name, mark in visible.marks.items()}

    asked = [exercises[name] for name, mark in marks.items() if not mark.by]
    again = [NotebookNode(cell | {"source": visible.ran.get(cell.id, "")}) for cell in cells]
    if asked:
        marks |= attend(Desk(sandbox, patience, end), again, "hidden", asked).marks

    marks |= known
    carried = {}
    for name, others in built_on(cells, {name for name, mark in marks.items() if mark.by}, known):
        mended = with_solutions(full, again, others)
        found = (attend(Desk(sandbox, patience, end), mended, who, [exercises[name]]) for who in ("visible", "hidden"))
        if not any(course.marks[name].by for course in found):
            carried[name], marks[name] = others, Mark("", Verdict(name, True, "right with the solutions it builds on"))
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_shown(cell.id, marks[cell.id])] if is_check(cell) else visible.outputs.get(cell.id, [])
    notes = [BUILDS_ON.format(name=name, others=" and ".join(others)) for name, others in carried.items()]
    return Judged(nb, marks, [*_notes(faults, nb, full), *notes])


class Course(NamedTuple):
    """What became of cells: their outputs, what ran of them to its end, and the marks of the exercises among them."""

    outputs: dict[str, list[NotebookNode]]
    ran: dict[str, str]
    marks: dict[str, Mark]


def attend(desk: Desk, cells: Iterable[NotebookNode], who: str, asked: Iterable[Exercise]) -> Course:
    """Run cells one after the other in one process, and examine answers where the checks of these exercises stand.

    who: "visible" or "hidden", on which inputs. Of a cell that did not end, what it defines still counts. Raises what
    the sandbox raises that has no process to give.
    """
    course, exercises = Course({}, {}, {}), {exercise.name: exercise for exercise in asked}
    try:
        for cell in cells:
            if is_check(cell) and cell.id in exercises:
                course.marks[cell.id] = examine(desk, exercises[cell.id], who)
            elif cell.source and not is_check(cell):
                course.outputs[cell.id], course.ran[cell.id] = desk.run(cell.source)
            if desk.failure:
                raise desk.failure
    finally:
        desk.close()
    return course


def examine(desk: Desk, exercise: Exercise, who: str) -> Mark:
    """The mark for one answer, from which the library's own answers are withheld."""
    try:
        answer = desk.answer(exercise.name)
    except RemoteError:
        return _rejected("missing", exercise, "not defined when the notebook was run")
    except Broken as error:
        return _rejected("process", exercise, str(error))
    desk.withhold(exercise.withhold, repr(exercise))
    inputs = exercise.visible if who == "visible" else hidden.inputs(exercise)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            verdict = exercise.examine(answer, inputs, withhold=False)
    except Exception as error:
        reason = f"what came back could not be compared ({type(error).__name__}: {error})"
        verdict = Verdict(exercise.name, False, reason)
    ended = desk.connection is None or desk.connection.broken
    called = desk.withhold()
    if verdict.passed:
        return Mark("", verdict)
    if called:
        return _rejected("reference", exercise, words(called[0]))
    return Mark("process" if ended else who, replace(verdict, reason=verdict.reason[:LONGEST]))


def _rejected(by: str, exercise: Exercise, reason: str) -> Mark:
    return Mark(by, Verdict(exercise.name, False, reason))


def _shown(name: str, mark: Mark) -> NotebookNode:
    """What a check cell shows in the executed notebook: an error is worth nothing to nbgrader, all else full marks."""
    if not mark.by:
        return new_output("stream", name="stdout", text=f"✓ {name}\n")
    return error_output("CheckFailed", for_student({"by": mark.by, "verdict": asdict(mark.verdict)}))


# --- errors of cells --------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """A cell that ended with an error, or did not end, in the process that knows nothing of hidden inputs."""

    cell: NotebookNode
    error: NotebookNode

    @property
    def words(self) -> str:
        """The last line of the error, as Python prints it."""
        line = f"{self.error.ename}: {self.error.evalue}".strip().splitlines()[0][:QUOTED].rstrip(": ")
        return f"{line}; this is Python {platform.python_version()}" if self.error.ename == "SyntaxError" else line

    @property
    def place(self) -> str:
        """Which cell it is, in words."""
        if "nbgrader" in self.cell.metadata:
            return f"the cell of {self.cell.id.removesuffix('-answer')}"
        first = self.cell.source.strip().partition("\n")[0]
        return f"the cell that begins with {first[:60]!r}"


def _errors(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """The errors in which a cell ended, other than what a check says."""
    return [output for output in outputs if output.output_type == "error" and output.ename != "CheckFailed"]


def _explained(mark: Mark, faults: Sequence[Fault]) -> Mark:
    """A mark whose verdict quotes the errors that may have cost it: that of its own cell, and those of cells that were
    to define a name that is not defined."""
    if mark.by not in ("missing", "visible"):
        return mark
    own = [fault for fault in faults if fault.cell.id == f"{mark.verdict.exercise}-answer"]
    said = [f"its cell ended with an error: {fault.words}" for fault in own]
    lost = set(re.findall(r"name '(\w+)' is not defined", " ".join([mark.verdict.reason, *said])))
    causes = [fault for fault in faults if fault not in own and lost & names(fault.cell.source).bound]
    said += [f"{fault.place} ended with an error: {fault.words}" for fault in causes]
    if mark.by == "missing":
        reason = "; ".join([mark.verdict.reason, *(said or ["its cell was not solved, or is missing"])])
        return mark._replace(verdict=replace(mark.verdict, reason=reason))
    note = "\n".join(filter(None, [mark.verdict.note, *(sentence[0].upper() + sentence[1:] for sentence in said)]))
    return mark._replace(verdict=replace(mark.verdict, note=note))


def _notes(faults: Iterable[Fault], nb: NotebookNode, full: NotebookNode) -> Iterator[str]:
    """That a student's own version of the lab's set-up ended with an error."""
    setup = _setup(full)
    if setup and not any(_is(cell, setup) for cell in nb.cells):
        for fault in faults:
            if fault.cell.id == setup.id or imported(fault.cell.source) & imported(setup.source):
                yield SETUP_FAILED.format(error=fault.words)


# --- answers that build on wrong ones ---------------------------------------------------------------------------------


def built_on(cells: Iterable[NotebookNode], wrong: set[str], known: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """The wrong answers that use other wrong ones, each with these; but for those whose marks are known."""
    for cell in filter(is_solution, cells):
        name = cell.id.removesuffix("-answer")
        if name in wrong and name not in known and (others := sorted(wrong & names(cell.source).used - {name})):
            yield name, others


def with_solutions(full: NotebookNode, cells: Iterable[NotebookNode], exercises: Iterable[str]) -> list[NotebookNode]:
    """Cells, after which the lab's solutions of these exercises define their functions anew."""
    solutions = {cell.id: cell for cell in full.cells if is_solution(cell)}
    wanted = {f"{name}-answer" for name in exercises}
    return [part for cell in cells for part in ([cell, solutions[cell.id]] if cell.id in wanted else [cell])]


# --- which cells are run ----------------------------------------------------------------------------------------------


def to_run(nb: NotebookNode, full: NotebookNode) -> list[NotebookNode]:
    """The cells of a submission that are run or examined, in their order; before them the lab's set-up, as released."""
    wanted, setup = needed(nb, full), _setup(full)
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and (is_check(cell) or cell.id in wanted)]
    if setup is None or (cells and _is(cells[0], setup)):
        return cells
    return [NotebookNode(setup | {"id": SETUP}), *cells]


def _setup(full: NotebookNode) -> NotebookNode | None:
    """The first cell of a lab's code, with its imports."""
    first = next((cell for cell in full.cells if cell.cell_type == "code" and not is_install(cell)), None)
    return None if first is None or "nbgrader" in first.metadata else first


def _is(cell: NotebookNode, other: NotebookNode | None) -> bool:
    return other is not None and cell.source.strip() == other.source.strip()


def needed(nb: NotebookNode, full: NotebookNode) -> set[str]:
    """The ids of the code cells that have to run: all that a student may have written, and what these build on.

    The lab's own plain cells mostly draw figures, from the answers, and take nearly all of the time. One of them is
    needed only if it defines a name that a needed cell may use, or is the set-up.
    """
    released = {
        cell.source.strip() for cell in full.cells if cell.cell_type == "code" and "nbgrader" not in cell.metadata
    }
    setup = _setup(full)
    code = [cell for cell in nb.cells if cell.cell_type == "code" and not is_check(cell)]
    plain = [cell for cell in code if "nbgrader" not in cell.metadata and cell.source.strip() in released]
    bound = {cell.id: names(cell.source).bound for cell in plain}
    wanted = {cell.id: cell for cell in code if cell.id not in bound or _is(cell, setup)}
    fresh = list(wanted.values())
    while fresh:
        used = set().union(*(names(cell.source).used for cell in fresh))
        fresh = [cell for cell in plain if cell.id not in wanted and bound[cell.id] & used]
        wanted |= {cell.id: cell for cell in fresh}
    return set(wanted)
