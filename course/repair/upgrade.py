"""JSON to cells: a notebook in any format that has ever been, and whatever else is in the file."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import nbformat

from course.ipython import LONGEST
from course.repair.cells import Cell, tree
from course.repair.files import sides, unix
from course.repair.words import Unrepairable, listed, show

MOST_CELLS = 5000  # a lab has about 80
MOST_CODE = 2**20  # characters in cells that are read as code; a lab has about 60 000
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which cannot be written


def upgrade(raw: Any, notes: list[str]) -> list[Cell]:
    """The cells of a notebook in any format that has ever been."""
    if isinstance(raw, dict) and "cells" not in raw and isinstance(raw.get("worksheets"), list):
        raw = _from_version_3(raw, notes)
    if not isinstance(raw, dict) or not isinstance(raw.get("cells"), list):
        raise Unrepairable("the file is not a notebook (it has no list of cells)")
    notes += _oddities(raw, _dictionary(raw.get("metadata")))
    if len(raw["cells"]) > MOST_CELLS:
        raise Unrepairable(f"the notebook has {len(raw['cells'])} cells; the most that are read are {MOST_CELLS}")
    cells, odd = [], defaultdict(list)
    for number, cell in enumerate(raw["cells"], start=1):
        cells.append(_cell(_dictionary(cell), lambda oddity, number=number: odd[oddity].append(str(number))))
    for oddity, numbers in odd.items():
        notes += listed(oddity, numbers)
    code = sum(len(cell.source) for cell in cells if cell.cell_type == "code" and len(cell.source) <= LONGEST)
    if code > MOST_CODE:
        raise Unrepairable(f"the notebook has {code} characters of code; the most that are read are {MOST_CODE}")
    return cells


def _oddities(raw: dict, metadata: dict) -> Iterator[str]:
    """What is odd about a notebook as a whole. The name of its kernel is not: everyone's Python has another."""
    major, minor = raw.get("nbformat"), raw.get("nbformat_minor")
    if not (major == 4 and isinstance(minor, int) and minor >= 5):
        yield f"The notebook is in format {show(major)}.{show(minor)}; it was brought to 4.5."
    spec, info = _dictionary(metadata.get("kernelspec")), _dictionary(metadata.get("language_info"))
    language = spec.get("language") or info.get("name")
    if language and language != "python":
        yield f"The notebook is for a kernel of the language {show(language)}; it gets the lab's, of Python."
    if "widgets" in metadata:
        yield "The notebook carries the state of widgets; it was left out."


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
    source = _merged(unix(source), cell_type, report)
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
