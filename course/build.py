"""Build the notebooks of a lab from its source, the only place where it is written.

    course/sources/LAB.py ── read ──> full ── release ──────────> labs/LAB/LAB.ipynb             what students receive
                                       │
                                       ├── solve, execute ──────> solutions/LAB/LAB.ipynb        solved and run
                                       └────────────────────────> grading/source/LAB/LAB.ipynb   what nbgrader grades by

A source is a jupytext script (py:percent). A cell says in its header what it is; a cell that says nothing is plain:

    # %% exercise="euler_step"                            the student's answer; its solution region becomes a stub
    # %% check="euler_step" points=2                      checks that answer; the builder writes what stands in it
    # %% check="heun_step" points=2 further=true          of an exercise that can be left out: its heading says so
    # %% [markdown] answer="ou_parameters" points=3       a written answer, graded by hand
    # %% figure="the circle, by Euler and Heun"           only draws: folded, under these words

Numbers are written by the builder, too, anywhere in a source: "Exercise {exercise:euler_step} ({points:euler_step}
points)". Headings that name an exercise are counted; {exercise:lab1.euler_step} is one of another lab; and
{points:one,another}, {points:code} and {points:all} are sums.

The name of an exercise is the name of its card, its check and nbgrader's grade_id, so it cannot change once work is
handed in. Everything up to `execute` maps notebooks to notebooks; only the functions at the end read and write files.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import copy
import functools
import hashlib
import importlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course import edition, hosted
from course.imports import followed
from fmlab.checks import notebook

if TYPE_CHECKING:
    from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "words.md", "errata.md")  # of labs/, written by hand

# Fixed, so that no notebook depends on the machine that built it.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class BuildError(ValueError):
    """A source, or what came of it, is not fit for students; the message says where and why."""


# --- source -> full notebook ------------------------------------------------------------------------------------------

CELL_TYPE = {"exercise": "code", "check": "code", "answer": "markdown", "figure": "code"}
ABOUT = ("writes", "needs")  # what the first cell says of its lab, for the list of labs; see pace.py
NAMED = ("exercise", "check", "answer")  # cells that nbgrader knows by a name
SOLVED = ("exercise", "answer")  # cells with a region SOLUTION
LAYOUT = {"cell_marker", "lines_to_next_cell"}  # jupytext's own notes on how the script looked


class Cell(NamedTuple):
    """A cell of a source: kind is "exercise", "check", "answer", "figure" or, for a plain cell, "".

    name: of a figure, its words. further: whether the exercise or the question can be left out.
    """

    kind: str
    name: str
    points: float | None
    cell_type: str
    source: str
    further: bool = False


def read(path: Path) -> NotebookNode:
    """The full notebook of a source: nbgrader's metadata, solutions and hidden tests included. Above the first cell of
    code stands, folded, the one that installs fmlab where it is missing."""
    cells, errors = [], []
    for number, raw in enumerate(_raw(path), start=1):
        try:
            cells.append(parse(raw))
        except BuildError as error:
            header = {key: raw.metadata[key] for key in CELL_TYPE if key in raw.metadata}
            errors.append(f"{_place(number, raw.source, header)}: {error}")
    errors = errors or list(_misfits(cells))
    refuse(path.stem, errors)
    cells = edition.cut(cells, short(path.stem), edition.current())
    nb = expand(complete(cells, path), path.stem)
    first = next((k for k, cell in enumerate(nb.cells) if cell.cell_type == "code"), len(nb.cells))
    nb.cells.insert(first, hosted.install(path.stem))
    return nb


def _raw(path: Path) -> list[NotebookNode]:
    """The cells of a script, as jupytext reads them."""
    import jupytext

    return jupytext.read(path, fmt="py:percent").cells


def refuse(stem: str, errors: Iterable[str]) -> None:
    if errors := list(errors):
        raise BuildError("\n".join(f"{stem}.py, {error}" for error in errors))


def parse(raw: NotebookNode) -> Cell:
    """What one cell says of itself. Raises BuildError where it says something this module does not know."""
    says = {key: value for key, value in raw.metadata.items() if key not in LAYOUT}
    kinds = [key for key in says if key in CELL_TYPE]
    if unknown := sorted(says.keys() - CELL_TYPE.keys() - {"points", "further", *ABOUT}):
        raise BuildError(f"unknown metadata: {', '.join(f'{key}={says[key]!r}' for key in unknown)}")
    if len(kinds) > 1:
        raise BuildError(f"is both {' and '.join(kinds)}")
    if raw.cell_type not in ("code", "markdown"):
        raise BuildError(f"is a {raw.cell_type} cell; use code or markdown")
    kind = kinds[0] if kinds else ""
    cell = Cell(kind, says.get(kind, ""), says.get("points"), raw.cell_type, raw.source, says.get("further", False))
    for error in _faults(cell):
        raise BuildError(error)
    return cell


def _faults(cell: Cell) -> Iterator[str]:
    """What is wrong with a cell on its own."""
    if cell.kind == "check" and cell.source.strip():
        yield f"the check {cell.name!r} has code; leave its header alone, the builder writes what stands below it"
    if cell.kind != "check" and not cell.source.strip():
        yield "is empty"
    if cell.kind:
        if cell.kind in NAMED and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,55}", str(cell.name)):
            yield f"{cell.kind}={cell.name!r} is not a name"
        if cell.kind == "figure" and not str(cell.name).strip():
            yield "a figure without words; say in its header what it shows"
        if cell.cell_type != CELL_TYPE[cell.kind]:
            yield f"the {cell.kind} {cell.name!r} must be a {CELL_TYPE[cell.kind]} cell"
    if cell.kind in ("check", "answer"):
        if cell.points is None:
            yield f"the {cell.kind} {cell.name!r} says no points"
        elif isinstance(cell.points, (bool, str)) or not cell.points > 0:
            yield f"the {cell.kind} {cell.name!r} has points={cell.points!r}; points are a number above 0"
    elif cell.points is not None:
        yield f"points={cell.points!r} belong to a check or a written answer"
    if cell.further not in (True, False) or (cell.further and cell.kind not in ("check", "answer")):
        yield f"further={cell.further!r}; a check or a written answer may say further=true"
    for region in ("SOLUTION", "HIDDEN TESTS"):
        marks = re.findall(rf"(BEGIN|END) {region}", cell.source)
        if marks != ["BEGIN", "END"] * (len(marks) // 2):
            yield f"BEGIN {region} and END {region} do not pair up"
        if marks and (region != "SOLUTION" or cell.kind not in SOLVED):
            here = f"the {cell.kind} {cell.name!r}" if cell.kind else "a plain cell"
            yield f"a region {region} has no place in {here}"
    if cell.kind in SOLVED and "BEGIN SOLUTION" not in cell.source:
        yield f"the {cell.kind} {cell.name!r} has no region BEGIN SOLUTION ... END SOLUTION"


def _misfits(cells: Sequence[Cell]) -> Iterator[str]:
    """What is wrong with the cells together."""
    seen: dict[str, set[str]] = {kind: set() for kind in NAMED}
    for number, cell in enumerate(cells, start=1):
        if cell.kind not in NAMED:
            continue
        where = _place(number, cell.source, {cell.kind: cell.name})
        rivals = seen["exercise"] | seen["answer"] if cell.kind != "check" else seen["check"]
        if cell.name in rivals:
            yield f"{where}: the name {cell.name!r} is taken"
        if cell.kind == "check" and cell.name not in seen["exercise"]:
            yield f"{where}: the check {cell.name!r} has no exercise above it"
        seen[cell.kind].add(cell.name)
    for name in sorted(seen["exercise"] - seen["check"]):
        yield f"the exercise {name!r} has no check"


def _place(number: int, source: str, header: Mapping[str, Any]) -> str:
    """Which cell of a source it is: its number and first line; of an empty one, what its header says."""
    first = source.strip().split("\n")[0][:60]
    return f"cell {number} ({repr(first) if first else ' '.join(f'{key}={header[key]!r}' for key in header)})"


# --- what the builder writes: checks, numbers and points --------------------------------------------------------------

CHECK = """\
{lab}.{name}({name})
### BEGIN HIDDEN TESTS
from course import hidden
hidden.check({lab}.{name}, {name})
### END HIDDEN TESTS"""
HEADING = re.compile(r"^#+ .*?\{exercise:(\w+)\}", re.MULTILINE)
NUMBER = re.compile(r"\{(exercise|points):([^{}]*)\}(\s+points\b)?")


def complete(cells: Sequence[Cell], path: Path) -> list[Cell]:
    """The cells of the source `path`, checks with their code and all texts with their numbers."""
    completed, errors = [], []
    number, points = numbers(cells), {cell.name: cell.points for cell in cells if cell.points is not None}
    further = {cell.name for cell in cells if cell.further}
    points |= {"all": sum(points.values()), "code": sum(cell.points for cell in cells if cell.kind == "check")}

    def replaced(match: re.Match) -> str:
        kind, names, noun = match[1], match[2], match[3] or ""
        if kind == "exercise":
            if "." in names and names not in number:
                number.update(_numbers_of(path.parent, names.split(".")[0]))
            return f"{number[names]}{noun}"
        total = sum(points[name.strip()] for name in names.split(","))
        mark = ", *further*" if noun and names in further else ""
        return f"{total:g}{noun.removesuffix('s') if total == 1 else noun}{mark}"

    for k, cell in enumerate(cells, start=1):
        source = _written(cell, short(path.stem))
        try:
            completed.append(cell._replace(source=NUMBER.sub(replaced, source)))
        except KeyError as error:
            errors.append(f"{_place(k, source, {})}: there is no number for {error.args[0]!r}; is the name right?")
    refuse(path.stem, errors)
    return completed


def _written(cell: Cell, lab: str) -> str:
    """What stands in a cell: the call of a check; a figure under its words, with these as its text alternative where
    the cell gives it none."""
    if cell.kind == "check":
        return CHECK.format(lab=lab, name=cell.name)
    if cell.kind == "figure":
        described = re.search(r"plots\.(describe|animate\w*)\(", cell.source)  # an animation has words of its own
        words = "" if described else f"\nplots.describe({cell.name!r})"
        return f"# Figure: {cell.name}\n{cell.source}{words}"
    return cell.source


def numbers(cells: Iterable[Cell]) -> dict[str, int]:
    """Exercise or question → its number. Headings that name one are counted; what follows without a heading of its own
    shares the number."""
    found: dict[str, int] = {}
    for cell in cells:
        for name in HEADING.findall(cell.source) if cell.cell_type == "markdown" else ():
            found.setdefault(name, len(set(found.values())) + 1)
        if cell.kind in ("exercise", "answer") and found:
            found.setdefault(cell.name, max(found.values()))
    return {cell.name: found[cell.name] for cell in cells if cell.name in found}


def _numbers_of(folder: Path, lab: str) -> dict[str, int]:
    """The same for another lab in a folder of sources, by "lab1.euler_step"; nothing where there is no such lab."""
    found: dict[str, int] = {}
    for path in folder.glob(f"{lab}_*.py"):
        cells = [parse(raw) for raw in _raw(path)]
        for name, number in numbers(edition.cut(cells, lab, edition.current())).items():
            found[f"{lab}.{name}"] = number
    return found


def short(stem: str) -> str:
    """Of "lab1_simulation" "lab1": the name of the lab's cards, hidden inputs and checks."""
    return stem.split("_")[0]


# --- cells -> nbgrader's notebook -------------------------------------------------------------------------------------


def expand(cells: Sequence[Cell], stem: str) -> NotebookNode:
    """The notebook of these cells, in the words of nbgrader."""
    nodes = [_node(cell, number, stem) for number, cell in enumerate(cells, start=1)]
    nb = new_notebook(cells=nodes, metadata=copy.deepcopy(METADATA))
    nbformat.validate(nb)
    return nb


def _node(cell: Cell, number: int, stem: str) -> NotebookNode:
    new_cell = new_code_cell if cell.cell_type == "code" else new_markdown_cell
    if cell.kind not in NAMED:
        folded = {"jupyter": {"source_hidden": True}} if cell.kind == "figure" else {}
        return new_cell(cell.source, id=f"{stem}-{number:03d}", metadata=folded)
    grading = _nbgrader_metadata(cell)
    # A check fails until the answer is right; "Run All" is to go on past it.
    tags = {"tags": ["raises-exception"]} if cell.kind == "check" else {}
    return new_cell(cell.source, id=grading["grade_id"], metadata={"nbgrader": grading, **tags})


def _nbgrader_metadata(cell: Cell) -> dict[str, Any]:
    graded = {"points": cell.points} if cell.kind != "exercise" else {}
    return {
        "schema_version": 3,
        "grade_id": f"{cell.name}-answer" if cell.kind == "exercise" else cell.name,
        "grade": cell.kind != "exercise",
        "solution": cell.kind != "check",
        "locked": cell.kind == "check",
        "task": False,
        **graded,
    }


def is_check(cell: NotebookNode) -> bool:
    """Whether a cell of a notebook is the check of an exercise."""
    grading = cell.metadata.get("nbgrader", {})
    return bool(grading.get("grade") and not grading.get("solution"))


def is_solution(cell: NotebookNode) -> bool:
    """Whether a cell of a notebook is where students write an answer, of code or in words."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


# --- is it all there? -------------------------------------------------------------------------------------------------


def missing(full: NotebookNode, stem: str) -> Iterator[str]:
    """What a lab lacks before it can be built: texts, cards, hidden inputs, places to reread. Loads torch."""
    for number, cell in enumerate(full.cells, start=1):
        for todo in re.findall("TODO.*", cell.source)[:1]:
            yield f"{_label(full, number)} is not written yet: {todo}"
    text = "\n".join(cell.source for cell in full.cells)
    for name in notebook.points(full):
        for lack in _lacks(short(stem), name, text):
            yield f"the exercise {name!r} {lack}"


def _lacks(lab: str, name: str, text: str) -> Iterator[str]:
    """What is not there beside the notebook for one of its exercises."""
    file, hidden_file = f"fmlab/exercises/{lab}.py", f"course/hidden/{lab}.py"
    cards = getattr(_module(f"fmlab.exercises.{lab}"), "lab", None)
    card = cards.exercises.get(name) if cards else None
    if card is None:
        yield f"has no card in {file}"
    else:
        said = [card.reread[1], card.passed, *card.hints, *card.mistakes]
        gaps = [f"says {words!r}" for words in said if "TODO" in words] + ["has no visible inputs"] * (not card.visible)
        if gaps:
            yield f"is not written yet: its card in {file} {' and '.join(gaps)}"
        if f'<a id="{card.reread[0]}"></a>' not in text:
            yield f"is to reread #{card.reread[0]}, and no text of the notebook has that anchor"
    if not getattr(_module(f"course.hidden.{lab}"), name, None):
        yield f"has no inputs in {hidden_file}"


def _module(name: str) -> Any:
    """A module; None if there is none of this name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


# --- full notebook -> what students receive ---------------------------------------------------------------------------

# What `nbgrader generate_assignment` runs, without the step that needs its database.
RELEASE_STEPS = (
    "LockCells",
    "ClearSolutions",
    "ClearOutput",
    "CheckCellMetadata",
    "ClearHiddenTests",
    "ClearMarkScheme",
    "ComputeChecksums",
    "CheckCellMetadata",
)


def release(full: NotebookNode) -> NotebookNode:
    """The students' notebook: stubs for solutions, no hidden tests, checks locked."""
    return preprocessed(full, *RELEASE_STEPS)


def preprocessed(nb: NotebookNode, *steps: str) -> NotebookNode:
    """What nbgrader's own preprocessors make of a notebook, one after the other."""
    from nbgrader import preprocessors

    nb, resources = copy.deepcopy(nb), {}
    for step in steps:
        nb, resources = getattr(preprocessors, step)(config=nbgrader_config()).preprocess(nb, resources)
    return nb


@functools.cache
def nbgrader_config() -> Config:
    """The settings that nbgrader's own commands use."""
    from traitlets.config.loader import PyFileConfigLoader

    return PyFileConfigLoader("nbgrader_config.py", path=str(ROOT)).load_config()


# --- full notebook -> solved and executed -----------------------------------------------------------------------------

WIDGET = "application/vnd.jupyter.widget-view+json"
STILL = "(a widget: run this cell to use it)"
STILL_HERE = "<p>A still picture: run the cell to get its sliders.</p>"


def solve(full: NotebookNode) -> NotebookNode:
    """The solved notebook, not yet executed: no markers, no hidden tests, no cell that may raise or is locked."""
    nb = preprocessed(full, "ClearHiddenTests")
    for cell in nb.cells:
        lines = cell.source.split("\n")
        cell.source = "\n".join(line for line in lines if not re.search("(BEGIN|END) SOLUTION", line)).strip("\n")
        cell.metadata = NotebookNode({key: value for key, value in cell.metadata.items() if key == "jupyter"})
        if cell.cell_type == "markdown":  # pages for students stand beside the labs, not beside the solutions
            cell.source = re.sub(rf"\]\(\.\./({'|'.join(map(re.escape, PAGES))})", r"](../../labs/\1", cell.source)
    return nb


def execute(
    nb: NotebookNode, folder: Path, on_cell: Callable[[int], None] = lambda number: None, opened: Path | None = None
) -> NotebookNode:
    """The notebook with the outputs of a run in `folder`. Raises BuildError where a cell raises or writes to stderr.

    A warning on stderr would puzzle a student, and in a check nbgrader's Validate takes it for a failure. opened: the
    file that this is to pass for; `progress()` looks there for exercises and points.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from nbconvert.filters import strip_ansi

    nb, number = copy.deepcopy(nb), 0

    def start(cell: NotebookNode, cell_index: int) -> None:
        nonlocal number
        number = cell_index + 1
        on_cell(number)

    client = NotebookClient(
        nb,
        timeout=nbgrader_config().ExecutePreprocessor.timeout,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=start,
    )
    try:
        client.execute(env=kernel_environment(opened))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise BuildError(f"{_label(nb, number)} failed when run\n{strip_ansi(str(error))}") from None
    if any(state.get("_model_name") == "OutputModel" for state in client.widget_state.values()):
        raise BuildError(
            "an Output widget (interact makes one): a notebook that has one sometimes hangs where it is run without "
            "a browser; see fmlab.widgets for sliders that do not"
        )
    for number, cell in enumerate(nb.cells, start=1):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise BuildError(f"{_label(nb, number)} writes to stderr:\n{output.text}")
            repeatable(output)
    nb.metadata = NotebookNode(copy.deepcopy(METADATA))  # without the states of widgets
    return nb


def kernel_environment(opened: Path | None) -> dict[str, str]:
    """One thread, so that sums add up in the same order on every machine; no progress bars, and none remembered; and
    figures go into the notebook, whatever backend the caller's own matplotlib is told to use. The notebook is not the
    caller's, either."""
    own = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "FMLAB_PROGRESS": "off"}
    own |= {"JPY_SESSION_NAME": str(opened)} if opened else {}
    foreign = ("MPLBACKEND", "JPY_SESSION_NAME")
    return {key: value for key, value in os.environ.items() if key not in foreign} | own


def repeatable(output: NotebookNode) -> NotebookNode:
    """Take out of an output what differs from run to run: widgets, of which a picture stays, and memory addresses."""
    data = output.get("data", {})
    if data.pop(WIDGET, None):
        data |= {"text/html": data["text/html"] + STILL_HERE} if "text/html" in data else {"text/plain": STILL}
    if "image/png" in data:
        data["image/png"] = _palette(data["image/png"])
    if "text/html" in data:
        inside = r"(?<=data:image/png;base64,)[\w+/=]+"
        data["text/html"] = re.sub(inside, lambda png: _palette(png[0]), data["text/html"])
    for holder, key in ((data, "text/plain"), (output, "text")):
        if key in holder:
            holder[key] = re.sub(r" at 0x[0-9a-fA-F]+", "", holder[key])
    return output


def _palette(png: str) -> str:
    """The picture, in base64, in its 256 commonest colours, or 32 shades where it is grey: a third of the size, and no
    eye sees more of them in a figure."""
    from PIL import Image, ImageChops

    picture, small = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    red, green, blue = picture.split()
    is_grey = not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(green, blue).getbbox()
    picture.quantize(32 if is_grey else 256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def _label(nb: NotebookNode, number: int) -> str:
    return f"cell {number} ({nb.cells[number - 1].id})"


# --- does it need to run again? ---------------------------------------------------------------------------------------

# What of the checks shows in a solution, beside the words of its cards: their other modules can change nothing in it.
SHOWN = ("verdict", "lab", "notebook", "installation")


def fingerprint(full: NotebookNode, stem: str, root: Path = ROOT) -> str:
    """What an executed solution depends on: its cells and points, the words in which its answers pass, and the modules
    of the library that it imports. Another CPU may draw another last digit, so it is executed again only when this
    changes; a hint, another lab's card or an exporter does not change it."""
    solved, points = solve(full), notebook.points(full)
    cards = root / "fmlab" / "exercises" / f"{short(stem)}.py"
    said = [[cell.cell_type, cell.source] for cell in solved.cells], points, _words_of_success(cards, points)
    digest = hashlib.sha256(json.dumps(said).encode())
    shown = {path for name in SHOWN if (path := root / "fmlab" / "checks" / f"{name}.py").is_file()}
    modules = imported(code(solved), root)
    weights = (root / "fmlab" / "weights").iterdir() if root / "fmlab" / "pretrained.py" in modules else ()
    for path in sorted(modules | shown | set(weights)):
        digest.update(f"\n{_show(path, root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def code(nb: NotebookNode) -> list[str]:
    """What stands in the cells of code."""
    return [cell.source for cell in nb.cells if cell.cell_type == "code"]


def imported(cells: Iterable[str], root: Path) -> set[Path]:
    """The files of fmlab, without its checks, that cells import, and those that these import, wherever they do."""
    from IPython.core.inputtransformer2 import TransformerManager

    plain = map(TransformerManager().transform_cell, cells)
    return followed(plain, root, ["fmlab"], but=["checks", "exercises"])


def _words_of_success(cards: Path, names: Iterable[str]) -> dict[str, str]:
    """What these exercises say of a right answer, as it is written on their cards; where it is not written there, all
    that is."""
    text = cards.read_text(encoding="utf-8") if cards.is_file() else ""
    makers = {node.name: node.decorator_list for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}

    def passed(name: str) -> str:
        words = [k.value for card in makers.get(name, []) for k in getattr(card, "keywords", []) if k.arg == "passed"]
        return str(words[0].value) if words and isinstance(words[0], ast.Constant) else text

    return {name: passed(name) for name in names}


# --- files ------------------------------------------------------------------------------------------------------------


def sources(names: Iterable[str] = (), root: Path = ROOT) -> list[Path]:
    """The sources of these labs, "lab1" or "lab1_simulation"; of all labs if none is named."""
    every = [path for path in sorted((root / "course" / "sources").glob("lab*.py")) if _is_chosen(path)]
    chosen = {name: [path for path in every if name in (path.stem, short(path.stem))] for name in names}
    for name, paths in chosen.items():
        if not paths:
            raise BuildError(f"no lab {name!r}; there are: {', '.join(path.stem for path in every)}")
    return sorted({path for paths in chosen.values() for path in paths}) if chosen else every


def _is_chosen(path: Path) -> bool:
    return edition.current().has(short(path.stem))


def notebook_path(folder: str, lab: str, root: Path = ROOT) -> Path:
    return root / folder / lab / f"{lab}.ipynb"


def build(source: Path, root: Path = ROOT, force: bool = False) -> None:
    """Write the three notebooks of a source; execute the solution if what it depends on changed, or by force."""
    full = read(source)
    refuse(source.stem, missing(full, source.stem))
    write_release(full, source.stem, root)
    if force or not is_current(full, source.stem, root):
        write_solution(full, source.stem, root)
    _vouch(full, source.stem, root)


def _vouch(full: NotebookNode, stem: str, root: Path) -> None:
    """Raises BuildError where the judge does not give the official solution full marks."""
    from course import vouch  # loads torch

    if root == ROOT:
        vouch.vouch([stem])
    else:
        refuse(stem, vouch.refusals(full, stem))


def write_release(full: NotebookNode, lab: str, root: Path = ROOT) -> None:
    """Write what students receive, and what nbgrader makes the same of."""
    _write(notebook_path("grading/source", lab, root), full, root)
    _write(notebook_path("labs", lab, root), release(full), root)


def write_solution(full: NotebookNode, lab: str, root: Path = ROOT) -> None:
    solved = solve(full)
    executed = run(solved, lab, root)
    executed.metadata["fmlab"] = {"fingerprint": fingerprint(full, lab, root)}
    _write(notebook_path("solutions", lab, root), executed, root)


def is_current(full: NotebookNode, lab: str, root: Path = ROOT) -> bool:
    """Whether the solution on disk was made from these cells and by the library as it is."""
    path = notebook_path("solutions", lab, root)
    if _difference(path, solve(full)):
        return False
    mark = nbformat.read(path, as_version=4).metadata.get("fmlab", {}).get("fingerprint")
    return mark == fingerprint(full, lab, root)


def retire(root: Path = ROOT) -> None:
    """Remove the notebooks of labs that have a source and are not in this edition; another one builds them again."""
    chosen = {path.stem for path in sources(root=root)}
    for path in (root / "course" / "sources").glob("lab*.py"):
        for folder in ("labs", "solutions", "grading/source"):
            target = notebook_path(folder, path.stem, root)
            if path.stem not in chosen and target.exists():
                target.unlink()
                with contextlib.suppress(OSError):  # whatever else is there stays
                    target.parent.rmdir()
                print(f"{_show(target, root)}: removed, since it is not in this edition", flush=True)


def verify(source: Path, root: Path = ROOT, run_solution: bool = True) -> Iterator[str]:
    """A message for each notebook of a source that is not what a build makes, or that fails when run."""
    lab, full = source.stem, read(source)
    released, solved = release(full), solve(full)
    if lacks := list(missing(full, lab)):
        yield from (f"{source.name}, {lack}" for lack in lacks)
    else:
        try:
            _vouch(full, lab, root)
        except BuildError as error:
            yield str(error)
    path = notebook_path("labs", lab, root)
    if not path.exists() or path.read_bytes() != as_bytes(released):
        difference = _difference(path, released, but=()) or "is not, byte for byte, what a build writes"
        yield f"{_show(path, root)}: {difference}"
    path = notebook_path("solutions", lab, root)
    if difference := _difference(path, solved):
        yield f"{_show(path, root)}: {difference}"
    if run_solution:
        try:
            run(solved, lab, root)
        except BuildError as error:
            yield f"{_show(path, root)}: {error}"


def orphans(root: Path = ROOT) -> list[Path]:
    """Files under labs/ and solutions/ that no source accounts for."""
    folders, labs = ("labs", "solutions"), [path.stem for path in sources(root=root)]
    expected = {notebook_path(folder, lab, root) for folder in folders for lab in labs}
    expected |= {root / "labs" / name for name in PAGES}
    found = {path for folder in folders for path in (root / folder).rglob("*") if path.is_file()}
    return sorted(path for path in found - expected if not _is_hidden(path.relative_to(root)))


def run(solved: NotebookNode, lab: str, root: Path) -> NotebookNode:
    """Execute a solution where students work, in the lab's folder, and say so on the terminal."""
    folder = notebook_path("labs", lab, root).parent
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    on_cell = functools.partial(_progress, lab, len(solved.cells))
    executed = execute(solved, folder, on_cell, opened=notebook_path("labs", lab, root))
    print(f"{lab}: the solution ran in {time.perf_counter() - start:.0f} s", flush=True)
    return executed


def _progress(lab: str, total: int, number: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{lab}: cell {number} of {total} ", end="" if number < total else "\n", file=sys.stderr, flush=True)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _difference(path: Path, expected: NotebookNode, but: Sequence[str] = ("outputs", "execution_count")) -> str | None:
    """Where the cells in a file first differ from the expected ones in anything `but` this; None if nowhere."""
    if not path.exists():
        return "is missing"
    try:
        found = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises errors of many kinds for what is no notebook
        return f"is not a notebook ({error})"
    for number, (have, want) in enumerate(zip(found.cells, expected.cells), start=1):
        if any(have.get(key) != want.get(key) for key in have.keys() | want.keys() if key not in but):
            return f"{_label(expected, number)} is not what the source makes"
    if len(found.cells) != len(expected.cells):
        return f"has {len(found.cells)} cells, the source makes {len(expected.cells)}"
    return None


def as_bytes(nb: NotebookNode) -> bytes:
    """A notebook as its file has it."""
    return (nbformat.writes(nb) + "\n").encode()


def put(path: Path, nb: NotebookNode) -> bool:
    """Write a notebook, unless the file has these very bytes. Returns whether it was written."""
    data = as_bytes(nb)
    new = not path.exists() or path.read_bytes() != data
    if new:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return new


def _write(path: Path, nb: NotebookNode, root: Path) -> None:
    """Write a notebook, unless the file has these very bytes, and say which."""
    print(f"{_show(path, root)}: {'written' if put(path, nb) else 'unchanged'}", flush=True)


def _show(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
