"""Repair what students hand in, before it is graded.

    bytes ── decode ──> text ── parse ──> JSON ── upgrade ──> cells ── locate, choose, assemble ──> notebook

A lab's notebook comes back from many hands and programs: cells copied, deleted or in another order, nbgrader's metadata
gone or changed, the answer in a cell of its own, an old format, another encoding, half a merge. What becomes of it here
has exactly the graded cells of the release, as released and in its order, with the student's answers in their places;
all else that the student wrote stays, near the graded cell that it stood by. Every repair is reported in a sentence.

Nothing of a submission is executed, and nothing but the release is read of a lab: no solution, no hidden test. Outputs
and the metadata of plain cells are left behind, since the grader makes its own. The place of a cell is its index in the
release.
"""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import json
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode

from course import build

MOST_BYTES = 64 * 2**20
MANY_BYTES = 10 * 2**20  # no lab is as large with its outputs
MOST_CELLS = 5000  # a lab has about 80
LONGEST_SOURCE = 100_000  # characters of a cell that is parsed; no answer is as long
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which cannot be written


class Unrepairable(ValueError):
    """Nothing in a file can be graded; the message says why, in words for the instructor."""


class Repaired(NamedTuple):
    """notebook: ready to be graded. notes: a sentence for each repair and for what looked odd."""

    notebook: NotebookNode
    notes: list[str]


class Cell(NamedTuple):
    """A cell as it was handed in. grading: nbgrader's metadata; empty if there is none."""

    cell_type: str
    source: str
    id: str = ""
    grading: Mapping[str, Any] = {}
    attachments: Mapping[str, Any] = {}


Places = Sequence["int | None"]  # for each cell its place in the release; None for what students added
Answers = dict[int, "list[int]"]  # by place, the indices of the cells that together are the answer


def repair(data: bytes, full: NotebookNode) -> Repaired:
    """A submission as the lab's release with the student's answers in it. full: the lab's full notebook.

    Raises Unrepairable where there is nothing to grade.
    """
    notes: list[str] = []
    release = released(full)
    cells = separate(read(data, notes), release, notes)
    places = locate(cells, release)
    answers = choose(cells, places, release)
    if not answers:
        raise Unrepairable("the notebook has none of this lab's answer cells; it may belong to another lab")
    notes += remarks(cells, places, answers, release)
    notebook = assemble(cells, places, answers, release, notes)
    return Repaired(notebook, list(dict.fromkeys(notes)))


def recognise(data: bytes, fulls: Mapping[str, NotebookNode]) -> str | None:
    """The lab that a file belongs to by its content, whatever its name; None if none or several are as likely."""
    try:
        cells = read(data, [])
    except Unrepairable:
        return None
    shared = {lab: _shared(cells, released(full)) for lab, full in fulls.items()}
    most = max(shared.values(), default=0)
    likely = [lab for lab, count in shared.items() if count == most > 0]
    return likely[0] if len(likely) == 1 else None


def _shared(cells: Sequence[Cell], release: NotebookNode) -> int:
    """How many cells of a release are found among these."""
    places = locate(cells, release)
    return len({place for place in places if place is not None} | choose(cells, places, release).keys())


def released(full: NotebookNode) -> NotebookNode:
    """What students received."""
    return _released(nbformat.writes(full))


@functools.cache
def _released(full: str) -> NotebookNode:
    return build.release(nbformat.reads(full, as_version=4))


# --- bytes -> cells ---------------------------------------------------------------------------------------------------


def read(data: bytes, notes: list[str]) -> list[Cell]:
    return upgrade(parse(decode(data, notes), notes), notes)


NAMES = {"utf-8-sig": "UTF-8 with a byte-order mark"}


def decode(data: bytes, notes: list[str]) -> str:
    """The text of a file, in whatever encoding and with whatever line ends it was saved."""
    if not data.strip(b"\0 \t\r\n"):
        raise Unrepairable("the file is empty")
    if len(data) > MOST_BYTES:
        size, most = len(data) / 2**20, MOST_BYTES / 2**20
        raise Unrepairable(f"the file is {size:.0f} MB large; the most that is read is {most:.0f} MB")
    if len(data) > MANY_BYTES:
        notes.append(f"The file is {len(data) / 2**20:.0f} MB large; what is not a cell's source was left out.")
    encoding = json.detect_encoding(data)
    if encoding != "utf-8":
        notes.append(f"The file is encoded in {NAMES.get(encoding, encoding.upper())}; it was converted to UTF-8.")
    text = data.decode(encoding, "replace")
    if encoding == "utf-8" and "\ufffd" in text and b"\xef\xbf\xbd" not in data:
        text = _mend(data, text, notes)
    if "\r" in text:
        notes.append("The file has line ends of Windows or of an old Mac; they were replaced.")
    return _unix(text)


def _mend(data: bytes, text: str, notes: list[str]) -> str:
    """The text of bytes that are not UTF-8: damaged if other characters than ASCII can be read, else Latin-1."""
    if any(ord(character) > 127 and character != "\ufffd" for character in text):
        notes.append("Some bytes of the file are damaged; � stands for them.")
        return text
    notes.append("The file is encoded in Latin-1; it was converted to UTF-8.")
    return data.decode("cp1252", "replace")


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse(text: str, notes: list[str]) -> Any:
    """The JSON of a file. Of a merge that was not finished it takes one side."""
    earlier, later = sides(text)
    if earlier == later:
        return _load(text, notes)
    for which, side in ("later", later), ("earlier", earlier):
        more: list[str] = []
        try:
            value = _load(side, more)
        except Unrepairable:
            continue
        notes += [f"The file is a merge that was not finished; the {which} side was taken.", *more]
        return value
    raise Unrepairable("the file is a merge that was not finished, and neither side is a notebook")


def sides(text: str) -> tuple[str, str]:
    """The earlier and the later text of a merge with its markers in it; the text twice if it is no merge."""
    kept: tuple[list[str], list[str]] = ([], [])
    both = targets = (0, 1)
    for line in text.split("\n"):
        mark = line[:7] if line[7:8] in ("", " ") else ""
        if mark == "<<<<<<<" and targets == both:
            targets = (0,)
        elif mark == "|||||||" and targets == (0,):
            targets = ()
        elif mark == "=======" and targets in ((0,), ()):
            targets = (1,)
        elif mark == ">>>>>>>" and targets == (1,):
            targets = both
        else:
            for side in targets:
                kept[side].append(line)
    return ("\n".join(kept[0]), "\n".join(kept[1])) if targets == both else (text, text)


# What is handed in by mistake, by its first characters.
NOT_NOTEBOOKS = {"%PDF": "a PDF", "PK\x03\x04": "a zip archive", "<!": "a web page", "<html": "a web page"}


def _load(text: str, notes: list[str]) -> Any:
    """The first JSON object in a text."""
    start = max(text.find("{"), 0)
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except RecursionError:
        raise Unrepairable("the file is nested too deeply for a notebook") from None
    except ValueError as error:
        kinds = [kind for mark, kind in NOT_NOTEBOOKS.items() if text.lstrip().startswith(mark)]
        reason = f"it is {kinds[0]}" if kinds else f"its JSON breaks off or is damaged: {str(error)[:100]}"
        raise Unrepairable(f"the file is not a notebook ({reason})") from None
    if text[:start].strip("\ufeff\0 \t\n") or text[end:].strip("\0 \t\n"):
        notes.append("There is something before or after the notebook in the file; it was left out.")
    return value


def upgrade(raw: Any, notes: list[str]) -> list[Cell]:
    """The cells of a notebook in any format that has ever been."""
    if isinstance(raw, dict) and "cells" not in raw and isinstance(raw.get("worksheets"), list):
        raw = _from_version_3(raw, notes)
    if not isinstance(raw, dict) or not isinstance(raw.get("cells"), list):
        raise Unrepairable("the file is not a notebook (it has no list of cells)")
    major, minor = raw.get("nbformat"), raw.get("nbformat_minor")
    if not (major == 4 and isinstance(minor, int) and minor >= 5):
        notes.append(f"The notebook is in format {_show(major)}.{_show(minor)}; it was brought to 4.5.")
    metadata = _dictionary(raw.get("metadata"))
    kernel = _dictionary(metadata.get("kernelspec")).get("name")
    if kernel != build.METADATA["kernelspec"]["name"]:
        notes.append(f"The notebook asks for the kernel {_show(kernel)}; it gets the lab's.")
    if "widgets" in metadata:
        notes.append("The notebook carries the state of widgets; it was left out.")
    if len(raw["cells"]) > MOST_CELLS:
        raise Unrepairable(f"the notebook has {len(raw['cells'])} cells; the most that are read are {MOST_CELLS}")
    cells, odd = [], defaultdict(list)
    for number, cell in enumerate(raw["cells"], start=1):
        cells.append(_cell(_dictionary(cell), lambda oddity, number=number: odd[oddity].append(str(number))))
    for oddity, numbers in odd.items():
        notes += _listed(oddity, numbers)
    return cells


def _from_version_3(raw: dict, notes: list[str]) -> dict:
    """A notebook of version 3, without outputs, in version 4."""
    notes.append("The notebook is in format 3; it was brought to 4.5.")
    try:
        every = ({**cell, "outputs": []} for sheet in raw["worksheets"] for cell in sheet["cells"])
        cells = list(itertools.islice(every, MOST_CELLS + 1))
        plain = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}
        converted = nbformat.convert(nbformat.from_dict(plain), 4)
    except Exception as error:  # of many kinds, for what is not quite version 3
        raise Unrepairable(f"the notebook is in a damaged format 3 ({type(error).__name__})") from None
    return {"metadata": raw.get("metadata"), "nbformat": 4, "nbformat_minor": 5, "cells": converted["cells"]}


def _cell(raw: dict, report: Callable[[str], None]) -> Cell:
    cell_type, source = raw.get("cell_type"), raw.get("source", "")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    if cell_type not in ("code", "markdown", "raw") or not isinstance(source, str):
        report("Cells that are not proper ones, by number; what could be read of them was kept")
        cell_type = cell_type if cell_type in ("code", "markdown") else "raw"
        source = source if isinstance(source, str) else ""
    if SURROGATE.search(source):
        report("Cells with characters that do not exist, by number; � stands for these")
        source = SURROGATE.sub("\ufffd", source)
    if "\r" in source:
        report("Cells with line ends of Windows or of an old Mac, by number; they were replaced")
    source = _merged(_unix(source), cell_type, report)
    grading = _dictionary(_dictionary(raw.get("metadata")).get("nbgrader"))
    return Cell(cell_type, source, raw["id"] if isinstance(raw.get("id"), str) else "", grading, _attachments(raw))


def _merged(source: str, cell_type: str, report: Callable[[str], None]) -> str:
    """A cell's source without the markers of a merge, if only one side is Python."""
    both = sides(source)
    if both[0] == both[1]:
        return source
    valid = [side for side in both if cell_type == "code" and tree(side) is not None]
    if len(valid) == 1:
        report("Cells with the markers of a merge, by number, of which the side that is valid Python was taken")
        return valid[0]
    report("Cells with the markers of a merge, by number, which were left as they are")
    return source


def _attachments(raw: dict) -> dict:
    """The pictures in a text cell, as far as they are what the format says."""
    files = {key: _dictionary(file) for key, file in _dictionary(raw.get("attachments")).items()}
    return {key: file for key, file in files.items() if file and all(_is_picture(key, *item) for item in file.items())}


def _is_picture(name: str, mime: str, content: Any) -> bool:
    return mime.startswith("image/") and isinstance(content, str) and not SURROGATE.search(name + mime + content)


def _dictionary(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _show(value: Any) -> str:
    """Something found in a file, in a few characters that are safe to print."""
    return ascii(value)[:40] if isinstance(value, (int, str)) else "?" if value is not None else "(none)"


# --- what a cell is ---------------------------------------------------------------------------------------------------


def kind(cell: NotebookNode) -> str:
    """What a cell of a release is: "answer", "check", "written" or, for a plain cell, ""."""
    grading = cell.metadata.get("nbgrader")
    if not grading:
        return ""
    return "check" if not grading.solution else "written" if grading.grade else "answer"


def name(cell: NotebookNode) -> str:
    """The name of the exercise or question that a graded cell belongs to."""
    return cell.metadata.nbgrader.grade_id.removesuffix("-answer")


def essence(cell: Cell | NotebookNode, cell_type: str) -> str:
    """A source without its spacing and, in code, its comments."""
    lines = [line.strip() for line in cell.source.split("\n")]
    return "\n".join(line for line in lines if line and not (cell_type == "code" and line.startswith("#")))


def is_answered(cell: Cell, slot: NotebookNode) -> bool:
    """Whether a cell is more than the stub that students receive in this slot."""
    return essence(cell, slot.cell_type) not in ("", essence(slot, slot.cell_type))


def tree(source: str) -> ast.Module | None:
    """The syntax tree of a source, magics aside; None if it is not Python. Nothing is executed."""
    if len(source) > LONGEST_SOURCE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(re.sub(r"(?m)^([ \t]*)[%!].*", r"\1pass", source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def defined(source: str) -> frozenset[str]:
    """The functions and classes that a cell defines, also if it has an error of syntax."""
    return _defined(source) if len(source) <= LONGEST_SOURCE else frozenset()


@functools.lru_cache(500)
def _defined(source: str) -> frozenset[str]:
    parsed = tree(source)
    if parsed is None:
        return frozenset(re.findall(r"(?m)^(?:async +)?(?:def|class) +(\w+)", source))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    named = frozenset(node.name for node in parsed.body if isinstance(node, functions))
    lambdas = [node for node in parsed.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)]
    return named | {target.id for node in lambdas for target in node.targets if isinstance(target, ast.Name)}


def imported(source: str) -> set[str]:
    """The names that a cell imports."""
    nodes = ast.walk(tree(source) or ast.Module([], []))
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {alias.asname or alias.name for node in imports for alias in node.names}


# --- cells -> places --------------------------------------------------------------------------------------------------


def separate(cells: Sequence[Cell], release: NotebookNode, notes: list[str]) -> list[Cell]:
    """The cells, with what students wrote into a check or under a written question in a cell of its own."""
    result: list[Cell] = []
    changed: list[str] = []
    for cell, place in zip(cells, locate(cells, release)):
        slot = None if place is None else release.cells[place]
        rest = cell.source.replace(slot.source, "", 1).strip("\n") if slot else ""
        own = cell._replace(source=slot.source) if slot else cell
        if slot and kind(slot) == "check" and essence(cell, "code") != essence(slot, "code"):
            changed.append(name(slot))
            result += [Cell("code", rest), own] if rest.strip() else [own]
        elif slot and _asks(release, place) and slot.source in cell.source and rest.strip():
            result += [own, Cell("markdown", rest)]
        else:
            result.append(cell)
    notes += _listed("Checks that were changed and were put back, with what else stood there kept above them", changed)
    return result


def _asks(release: NotebookNode, place: int) -> bool:
    """Whether the cell at a place is the question of a written answer."""
    following = release.cells[place + 1 : place + 2]
    return not kind(release.cells[place]) and bool(following) and kind(following[0]) == "written"


def locate(cells: Sequence[Cell], release: NotebookNode) -> list[int | None]:
    """The places of cells.

    A graded cell is known by nbgrader's metadata or its id, and may be there several times; a plain cell by its id;
    checks and plain cells, if these are lost, by their source.
    """
    known = {cell.id: place for place, cell in enumerate(release.cells)}
    exercises = {name(cell) for cell in release.cells if kind(cell) == "answer"}
    places: list[int | None] = []
    seen: set[int] = set()
    for cell in cells:
        place = _claimed(cell, known, release)
        slot = None if place is None else release.cells[place]
        if slot and (_contradicts(cell, slot, exercises) or (place in seen and not kind(slot))):
            place = None
        places.append(place)
        seen.add(place)
    lost: dict[str, list[int]] = defaultdict(list)
    for place in sorted(set(known.values()) - seen, reverse=True):
        if kind(release.cells[place]) in ("", "check"):
            lost[essence(release.cells[place], release.cells[place].cell_type)].append(place)
    for index, cell in enumerate(cells):
        if places[index] is None and (found := lost.get(essence(cell, cell.cell_type))):
            places[index] = found.pop()
    return places


def _claimed(cell: Cell, known: Mapping[str, int], release: NotebookNode) -> int | None:
    """The place that a cell's metadata name or, failing that, its id."""
    grade_id = cell.grading.get("grade_id")
    place = known.get(grade_id) if isinstance(grade_id, str) else None
    return place if place is not None and kind(release.cells[place]) else known.get(cell.id)


def _contradicts(cell: Cell, slot: NotebookNode, exercises: set[str]) -> bool:
    """Whether a cell that claims to answer one exercise answers only others: a copy, or metadata that were changed."""
    if kind(slot) != "answer":
        return False
    answered = defined(cell.source) & exercises
    return bool(answered) and name(slot) not in answered


# --- places -> answers ------------------------------------------------------------------------------------------------


def choose(cells: Sequence[Cell], places: Places, release: NotebookNode) -> dict[int, list[int]]:
    """For each answer its cell, and for each written answer its cells; nothing for those that are not there."""
    here, definitions = _indices(places), definers(cells, places, release)
    answers: dict[int, list[int]] = {}
    for place, slot in enumerate(release.cells):
        if kind(slot) == "answer":
            answers[place] = _best(cells, slot, here[place], definitions[name(slot)])
        elif kind(slot) == "written":
            taken = {index for chosen in answers.values() for index in chosen}
            near = [index for index in _near(cells, places, place) if index not in taken]
            answers[place] = _texts(cells, slot, here[place], near)
    return {place: chosen for place, chosen in answers.items() if chosen}


def _indices(places: Places) -> dict[int | None, list[int]]:
    """For each place the cells that are there."""
    found: dict[int | None, list[int]] = defaultdict(list)
    for index, place in enumerate(places):
        found[place].append(index)
    return found


def definers(cells: Sequence[Cell], places: Places, release: NotebookNode) -> dict[str, list[int]]:
    """For each function the cells of code in which students define it."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, (cell, place) in enumerate(zip(cells, places)):
        given = release.cells[place].source if place is not None and not kind(release.cells[place]) else ""
        for function in defined(cell.source) - defined(given) if cell.cell_type == "code" else ():
            found[function].append(index)
    return found


def _best(cells: Sequence[Cell], slot: NotebookNode, here: Sequence[int], definitions: Sequence[int]) -> list[int]:
    """The cell that answers an exercise: not the stub; the function itself; in its own cell; the last."""
    own, right = set(here), set(definitions)
    ranks = [(is_answered(cells[index], slot), index in right, index in own, index) for index in own | right]
    return [max(ranks)[-1]] if ranks else []


def _texts(cells: Sequence[Cell], slot: NotebookNode, here: Sequence[int], near: Sequence[int]) -> list[int]:
    """The cells of a written answer: the last that is more than the stub; else what was written next to it."""
    answered = [index for index in here if is_answered(cells[index], slot)]
    added = [index for index in near if is_answered(cells[index], slot)]
    return answered[-1:] or added or here[-1:] or near[:1]


def _near(cells: Sequence[Cell], places: Places, place: int) -> list[int]:
    """The cells of prose that students added where a written answer belongs."""
    around = zip(_before(places), _after(places))
    added = [
        index
        for index, (before, after) in enumerate(around)
        if places[index] is None and before <= place <= after and min(place - before, after - place) <= 1
    ]
    return [index for index in added if _is_prose(cells[index])]


def _is_prose(cell: Cell) -> bool:
    """Whether a cell is text, also if it was forgotten to make it a cell of text."""
    return cell.cell_type != "code" or tree(cell.source) is None


def _before(places: Places) -> list[float]:
    """For each cell the place of the last cell above it that has one."""
    return list(itertools.accumulate(places, lambda last, place: last if place is None else place, initial=-1))[:-1]


def _after(places: Places) -> list[float]:
    """For each cell the place of the first cell below it that has one."""
    below = itertools.accumulate(places[::-1], lambda last, place: last if place is None else place, initial=math.inf)
    return list(below)[-2::-1]


# --- answers -> notebook ----------------------------------------------------------------------------------------------


def assemble(
    cells: Sequence[Cell], places: Places, answers: Answers, release: NotebookNode, notes: list[str]
) -> NotebookNode:
    """The release with the answers in their places, and around them what else the student wrote."""
    graded = [((place, 0), _filled(slot, cells, answers.get(place, ()))) for place, slot in _graded(release)]
    plain = list(_plain(cells, places, answers, release))
    setup = list(_setup(places, [cell for _, cell in plain], release))
    if setup:
        notes.append("The cell with the lab's imports was missing; it was put back.")
    nb = copy.deepcopy(release)
    nb.cells = [cell for _, cell in sorted(graded + setup + plain, key=lambda pair: pair[0])]
    _name_apart(nb.cells)
    return nb


def _setup(
    places: Places, plain: Sequence[NotebookNode], release: NotebookNode
) -> Iterator[tuple[tuple[int, int], NotebookNode]]:
    """The lab's first cell of code, which imports what answers need, if the student has no such cell any more."""
    first = next(place for place, cell in enumerate(release.cells) if cell.cell_type == "code")
    if first in places or kind(release.cells[first]):
        return
    present = {found for cell in plain if cell.cell_type == "code" for found in imported(cell.source)}
    if imported(release.cells[first].source) - present:
        yield (first, 0), copy.deepcopy(release.cells[first])


def _graded(release: NotebookNode) -> list[tuple[int, NotebookNode]]:
    return [(place, cell) for place, cell in enumerate(release.cells) if kind(cell)]


def _filled(slot: NotebookNode, cells: Sequence[Cell], chosen: Sequence[int]) -> NotebookNode:
    """A graded cell as released, with what the student wrote in it."""
    slot = copy.deepcopy(slot)
    if chosen:
        slot.source = "\n\n".join(cells[index].source for index in chosen)
        pictures = {key: value for index in chosen for key, value in cells[index].attachments.items()}
        if pictures and slot.cell_type == "markdown":
            slot.attachments = nbformat.from_dict(pictures)
    return slot


def _plain(
    cells: Sequence[Cell], places: Places, answers: Answers, release: NotebookNode
) -> Iterator[tuple[tuple[float, int], NotebookNode]]:
    """What else the student wrote, each with where it belongs: before (-1), at (0) or after (1) a place.

    A cell of the lab belongs in its place; an older copy of an answer before the answer, which it must not replace when
    all is run; a cell of the student's after the one that it stood below, or before the one that it stood above if that
    one moves up, since what it defines may be needed there.
    """
    stubs = {essence(slot, slot.cell_type) for _, slot in _graded(release) if kind(slot) != "check"}
    used = {index: place for place, chosen in reversed(answers.items()) for index in chosen}
    final = [used.get(index, place) for index, place in enumerate(places)]
    for index, (cell, place, before, after) in enumerate(zip(cells, final, _before(final), _after(final))):
        what = kind(release.cells[place]) if place is not None else ""
        if index in used or what == "check" or essence(cell, cell.cell_type) in stubs:
            continue
        if place is not None:
            yield (place, -1 if what else 0), _node(cell)
        else:
            yield (before, 1) if before < after else (after, -1), _node(cell)


def _node(cell: Cell) -> NotebookNode:
    node = {"cell_type": cell.cell_type, "id": cell.id, "metadata": {}, "source": cell.source}
    if cell.cell_type == "code":
        return nbformat.from_dict(node | {"outputs": [], "execution_count": None})
    return nbformat.from_dict(node | ({"attachments": cell.attachments} if cell.attachments else {}))


def _name_apart(cells: Sequence[NotebookNode]) -> None:
    """Give every cell an id of its own; those of graded cells stay."""
    taken, numbers = {cell.id for cell in cells if kind(cell)}, itertools.count(1)
    for cell in cells:
        if kind(cell):
            continue
        if cell.id in taken or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell.id):
            cell.id = next(new for new in map("added-{}".format, numbers) if new not in taken)
        taken.add(cell.id)


# --- notes ------------------------------------------------------------------------------------------------------------


def remarks(cells: Sequence[Cell], places: Places, answers: Answers, release: NotebookNode) -> Iterator[str]:
    """What was odd about the cells: a sentence for each kind of it, with the names of the exercises."""
    here, definitions = _indices(places), definers(cells, places, release)
    odd: dict[str, list[str]] = defaultdict(list)
    for place, slot in _graded(release):
        chosen = answers.get(place, [])
        own = here[place] or [index for index in chosen if places[index] is None][:1]
        for sentence in _oddities(cells, slot, own, chosen, definitions[name(slot)]):
            odd[sentence].append(name(slot))
    for sentence, names in odd.items():
        yield from _listed(sentence, names)
    if not _is_in_order(places, answers):
        yield "The cells stood in another order than in the lab, which was restored."
    graded = {slot.metadata.nbgrader.grade_id for _, slot in _graded(release)}
    claims = [cell.grading["grade_id"] for cell in cells if "grade_id" in cell.grading]
    unknown = [_show(claim) for claim in claims if not isinstance(claim, str) or claim not in graded]
    yield from _listed("Cells claimed to be graded under names that the lab does not have", unknown)


def _oddities(
    cells: Sequence[Cell], slot: NotebookNode, own: Sequence[int], chosen: Sequence[int], definitions: Sequence[int]
) -> Iterator[str]:
    """What was odd about a graded cell.

    own: the cells that stood for it. chosen: those of its answer. definitions: those that define its function.
    """
    checks, gradings = kind(slot) == "check", [cells[index].grading for index in own]
    if not own and not chosen:
        yield "Checks that were missing and were put back" if checks else "Answers that are missing"
    if own and not any(gradings):
        yield "Cells without nbgrader's metadata, recognised by their id or by what they contain"
    elif own and slot.metadata.nbgrader not in gradings:
        yield "Cells whose grading metadata were changed and were put right"
    if any(cells[index].cell_type != slot.cell_type for index in own):
        yield "Cells whose type was changed and was put right"
    if len(own) > 1:
        several = "Answers of which there are several, so that the last that is not the stub was taken"
        yield "Checks that were copied, so that one was kept" if checks else several
    if not set(chosen) <= set(own):
        yield "Answers that stood in another cell than their own and were moved"
    others = set(definitions) - {*own, *chosen}
    if not checks and any(is_answered(cells[index], slot) for index in others):
        yield "Functions that other cells define too, which were kept"


def _is_in_order(places: Places, answers: Answers) -> bool:
    """Whether the cells stood in the order of the lab, copies and answers that were moved aside."""
    where = {place: index for index, place in reversed([*enumerate(places)]) if place is not None}
    where |= {place: chosen[-1] for place, chosen in answers.items() if place in where}
    indices = [where[place] for place in sorted(where) if places[where[place]] == place]
    return indices == sorted(indices)


def _listed(sentence: str, names: Sequence[str]) -> Iterator[str]:
    """The sentence with these names, if there are any."""
    if names:
        more = f" and {len(names) - 30} more" if len(names) > 30 else ""
        yield f"{sentence}: {', '.join(dict.fromkeys(names[:30]))}{more}."
