"""How many questions of a lab are answered, right or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbformat import NotebookNode

from course.repair import Unrepairable, read
from course.repair.cells import Cell, is_answered, kind, name
from course.repair.match import choose, locate


def in_notebook(data: bytes, release: NotebookNode) -> int:
    try:
        cells = read(data, [])
    except Unrepairable:
        return 0
    answers = choose(cells, locate(cells, release), release)
    return sum(
        any(is_answered(cells[index], release.cells[place]) for index in found) for place, found in answers.items()
    )


def in_record(record: Mapping[str, Any], release: NotebookNode) -> int:
    given = {question: item["answer"] for part in ("exercises", "written") for question, item in record[part].items()}
    slots = [cell for cell in release.cells if kind(cell) in ("answer", "written")]
    return sum(is_answered(Cell(slot.cell_type, given.get(name(slot), "")), slot) for slot in slots)
