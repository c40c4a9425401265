"""What exercises and questions are called in a lab, "3 · One Heun step"; what questions ask, and model answers."""

from __future__ import annotations

import functools
import html
import re

from nbformat import NotebookNode

from course import build
from course.edition import current
from course.mathml import mathml

HEADING = re.compile(r"^#+ (?:Exercise|Question) (\d+) · (.*?)(?: \([^()]*points?[^()]*\))?$", re.MULTILINE)


def titles(lab: str | None) -> dict[str, str]:
    """Name → number and title, in the lab's order; names that are not there are their own titles."""
    return _titles(lab, repr(current())) if lab else {}


@functools.lru_cache(maxsize=32)
def _titles(lab: str, edition: str) -> dict[str, str]:
    found, title = {}, ""
    for cell in _cells(lab):
        if cell.cell_type == "markdown" and (headings := HEADING.findall(cell.source)):
            title = re.sub(r"\$(.*?)\$", _plain, " · ".join(headings[-1]))
        if build.is_solution(cell) and title:
            found[cell.id.removesuffix("-answer")] = title
    return found


def _plain(formula: re.Match) -> str:
    """A formula of a title as plain text: θ."""
    return html.unescape(re.sub("<[^>]*>", "", mathml(formula[1])))


def models(lab: str | None) -> dict[str, str]:
    """Question → its model answer."""
    return _models(lab, repr(current())) if lab else {}


@functools.lru_cache(maxsize=32)
def _models(lab: str, edition: str) -> dict[str, str]:
    return {
        cell.id: cell.source
        for cell in _cells(lab, solved=True)
        if cell.cell_type == "markdown" and cell.id in titles(lab)
    }


def asked(lab: str | None) -> dict[str, str]:
    """Question → what it asks."""
    return _asked(lab, repr(current())) if lab else {}


@functools.lru_cache(maxsize=32)
def _asked(lab: str, edition: str) -> dict[str, str]:
    found, text = {}, ""
    for cell in _cells(lab):
        if cell.cell_type == "markdown" and build.is_solution(cell):
            found[cell.id] = re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", text).strip()
        elif cell.cell_type == "markdown" and (headings := [*HEADING.finditer(cell.source)]):
            text = cell.source[headings[-1].end() :]
    return found


def _cells(lab: str, solved: bool = False) -> list[NotebookNode]:
    """The cells of a lab; none of one from an earlier term."""
    try:
        full = build.read(*build.sources([lab]))
    except build.BuildError:
        return []
    return (build.solve(full) if solved else full).cells
