"""Repair what students hand in, before it is graded.

    bytes ── files ──> JSON ── upgrade ──> cells ── match ──> their places and answers ── assemble ──> notebook

A lab's notebook comes back from many hands and programs: cells copied, deleted or in another order, nbgrader's metadata
gone or changed, the answer in a cell of its own, an old format, another encoding, half a merge. What becomes of it here
has exactly the graded cells of the release, as released and in its order, with the student's answers in their places;
all else that the student wrote stays, near the graded cell that it stood by. Every repair is reported in a sentence.

Nothing of a submission is executed, and nothing but the release is read of a lab: no solution, no hidden test. Outputs
and the metadata of plain cells are left behind, since the grader makes its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nbformat import NotebookNode

from course.repair.assemble import assemble
from course.repair.cells import Cell, essence
from course.repair.files import MOST_BYTES, decode, parse
from course.repair.match import choose, locate, separate
from course.repair.remarks import remarks
from course.repair.upgrade import upgrade
from course.repair.words import Unrepairable

__all__ = ["MOST_BYTES", "Repaired", "Unrepairable", "read", "recognise", "repair"]


class Repaired(NamedTuple):
    """notebook: ready to be graded. notes: a sentence for each repair and for what looked odd."""

    notebook: NotebookNode
    notes: list[str]


def repair(data: bytes, release: NotebookNode) -> Repaired:
    """A submission as the lab's release with the student's answers in it.

    Raises Unrepairable where there is nothing to grade.
    """
    notes: list[str] = []
    cells = separate(read(data, notes), release, notes)
    places = locate(cells, release)
    answers = choose(cells, places, release)
    if not answers:
        raise Unrepairable("the notebook has none of this lab's answer cells; it may belong to another lab")
    notes += remarks(cells, places, answers, release)
    notebook = assemble(cells, places, answers, release, notes)
    return Repaired(notebook, list(dict.fromkeys(notes)))


def recognise(data: bytes, releases: Mapping[str, NotebookNode]) -> str | None:
    """The lab that a file belongs to by its content, whatever its name; None if none or several are as likely."""
    try:
        cells = read(data, [])
    except Unrepairable:
        return None
    told = [cell for cell in cells if cell.grading or essence(cell, cell.cell_type)]
    shared = {lab: _shared(told, release) for lab, release in releases.items()}
    most = max(shared.values(), default=0)
    likely = [lab for lab, count in shared.items() if count == most > 0]
    return likely[0] if len(likely) == 1 else None


def _shared(cells: Sequence[Cell], release: NotebookNode) -> int:
    """How many cells of a release are found among these."""
    places = locate(cells, release)
    return len({place for place in places if place is not None} | choose(cells, places, release).keys())


def read(data: bytes, notes: list[str]) -> list[Cell]:
    return upgrade(parse(decode(data, notes), notes), notes)
