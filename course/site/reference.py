"""How docstrings become the reference, an extension of Sphinx: formulas are set, and names in code are links."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import groupby, pairwise
from textwrap import dedent

from sphinx.application import Sphinx

from course.site.unicode_math import parts, sides, tex

SOURCE = re.compile(r"\s{2,}(\[[^\]]+\])$")  # at the end of a line: where a formula comes from

JOINT = "\0"  # for the spaces between formulas in one column


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite(app: Sphinx, what: str, name: str, thing, options, lines: list[str]) -> None:
    """A docstring as reStructuredText."""
    names = _parameters(thing)
    written = []
    for indented, group in groupby(lines, lambda line: line.startswith("  ") if line.strip() else None):
        block = list(group)
        written += ["", *displayed(block), ""] if indented else [text for line in block for text in said(line, names)]
    lines[:] = written


def said(line: str, parameters: set[str]) -> list[str]:
    """A line of text; one that begins to tell of parameters begins a paragraph."""
    found = re.match(r"(\w+(?:, \w+)*): ", line)
    if not found or not parameters.issuperset(found[1].split(", ")):
        return [sentence(line)]
    names = ", ".join(f"``{name}``" for name in found[1].split(", "))
    return ["", f"{names}: {sentence(line[found.end() :])}"]


def sentence(line: str) -> str:
    """A line of text, with its code and its formulas marked."""
    pieces = re.split("`([^`]*)`", line)
    return "".join(code(piece) if k % 2 else prose(piece) for k, piece in enumerate(pieces))


def prose(text: str) -> str:
    return "".join(_set(part) if formula else _escaped(part) for formula, part in parts(text))


def _set(formula: str) -> str:
    """A formula, which may be broken before its signs of equality."""
    return "\N{ZERO WIDTH SPACE}".join(rf"\ :math:`{tex(side)}`\ " for side in sides(formula))


def code(text: str) -> str:
    return rf"\ :py:obj:`{text}`\ " if re.fullmatch(r"[\w.]+", text) else rf"\ ``{text}``\ "


def displayed(block: list[str]) -> list[str]:
    """Indented lines: code, or formulas in a table of the columns in which they are written."""
    if _is_code(block):
        return [".. code-block:: python", "", *block]
    rows = [_cells(line) for line in block]
    for (above, _), (cells, _) in pairwise(rows):
        if len(cells) == 1 and cells[0][1][0] in "−+=":  # the formula above goes on
            cells[0] = (above[-1][0], cells[0][1])
    columns = _columns(sorted({start for cells, _ in rows for start, _ in cells}))
    written = [".. list-table::", "   :class: formulas", ""]
    for cells, source in rows:
        row = dict.fromkeys(columns.values(), "")
        for start, text in cells:
            row[columns[start]] = f"{row[columns[start]]} {sentence(text)}".lstrip()
        row = [*row.values(), _escaped(source)]
        written += [f"   {'*' if k == 0 else ' '} - {text}".rstrip() for k, text in enumerate(row)]
    return written


def _cells(line: str) -> tuple[list[tuple[int, str]], str]:
    """The pieces of a line that stand apart, each with the column where it begins, and the source of the formula."""
    source = SOURCE.search(line)
    line = re.sub(r", {2,}", lambda match: match[0].replace(" ", JOINT), SOURCE.sub("", line))
    pieces = [(match.start(), match[0].replace(JOINT, " ")) for match in re.finditer(r"\S+(?: \S+)*", line)]
    return pieces, source[1] if source else ""


def _columns(starts: list[int]) -> dict[int, int]:
    """The number of the column for each place where a piece begins; those that are two apart are one column."""
    columns, number = {}, -1
    for k, start in enumerate(starts):
        number += k == 0 or start > starts[k - 1] + 2
        columns[start] = number
    return columns


def _parameters(thing) -> set[str]:
    try:
        return set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):  # of a module, or of a class of tuples
        return set()


def _is_code(block: list[str]) -> bool:
    try:
        ast.parse(dedent("\n".join(block)))
    except SyntaxError:
        return False
    return True


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_|`])", r"\\\1", text)
