"""Cells to places: which cell of the release each one is, and which of them answer what.

The place of a cell is its index in the release.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from nbformat import NotebookNode

from course.repair.cells import Cell, defined, essence, is_answered, kind, name, tree
from course.repair.words import listed

Places = Sequence["int | None"]  # for each cell its place in the release; None for what students added
Answers = dict[int, "list[int]"]  # by place, the indices of the cells that together are the answer


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
    notes += listed("Checks that were changed and were put back, with what else stood there kept above them", changed)
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
    here, definitions = indices(places), definers(cells, places, release)
    answers: dict[int, list[int]] = {}
    for place, slot in enumerate(release.cells):
        if kind(slot) == "answer":
            answers[place] = _best(cells, slot, here[place], definitions[name(slot)])
        elif kind(slot) == "written":
            taken = {index for chosen in answers.values() for index in chosen}
            near = [index for index in _near(cells, places, place) if index not in taken]
            answers[place] = _texts(cells, slot, here[place], near)
    return {place: chosen for place, chosen in answers.items() if chosen}


def indices(places: Places) -> dict[int | None, list[int]]:
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
    around = zip(above(places), below(places))
    added = [
        index
        for index, (before, after) in enumerate(around)
        if places[index] is None and before <= place <= after and min(place - before, after - place) <= 1
    ]
    return [index for index in added if _is_prose(cells[index])]


def _is_prose(cell: Cell) -> bool:
    """Whether a cell is text, also if it was forgotten to make it a cell of text."""
    return cell.cell_type != "code" or tree(cell.source) is None


def above(places: Places) -> list[float]:
    """For each cell the place of the last cell above it that has one."""
    return list(itertools.accumulate(places, lambda last, place: last if place is None else place, initial=-1))[:-1]


def below(places: Places) -> list[float]:
    """For each cell the place of the first cell below it that has one."""
    found = itertools.accumulate(places[::-1], lambda last, place: last if place is None else place, initial=math.inf)
    return list(found)[-2::-1]
