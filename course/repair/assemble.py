"""Places to a notebook: the release with the answers in it, and around them what else the student wrote."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Sequence

import nbformat
from nbformat import NotebookNode

from course.hosted import is_install
from course.repair.cells import Cell, essence, imported, kind, slots
from course.repair.match import Answers, Places, above, below


def assemble(
    cells: Sequence[Cell], places: Places, answers: Answers, release: NotebookNode, notes: list[str]
) -> NotebookNode:
    """The release with the answers in their places, and around them what else the student wrote."""
    graded = [((place, 0), _filled(slot, cells, answers.get(place, ()))) for place, slot in slots(release)]
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
    code = (place for place, cell in enumerate(release.cells) if cell.cell_type == "code" and not is_install(cell))
    first = next(code)
    if first in places or kind(release.cells[first]):
        return
    present = {found for cell in plain if cell.cell_type == "code" for found in imported(cell.source)}
    if imported(release.cells[first].source) - present:
        yield (first, 0), copy.deepcopy(release.cells[first])


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
    stubs = {essence(slot, slot.cell_type) for _, slot in slots(release) if kind(slot) != "check"}
    used = {index: place for place, chosen in reversed(answers.items()) for index in chosen}
    final = [used.get(index, place) for index, place in enumerate(places)]
    for index, (cell, place, before, after) in enumerate(zip(cells, final, above(final), below(final))):
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
