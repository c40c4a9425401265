"""What exercises and questions are called in a lab, "3 · One Heun step"; what questions ask, and model answers."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from course import build
from course.edition import current
from course.mathml import mathml

HEADING = re.compile(r"^#+ (?:Exercise|Question) (\d+) · (.*?)(?: \([^()]*points?[^()]*\))?$", re.MULTILINE)


def titles(lab: str | None) -> dict[str, str]:
    """Name → number and title, in the lab's order; names that are not there are their own titles."""
    return {
        cell.id.removesuffix("-answer"): re.sub(r"\$(.*?)\$", _plain, " · ".join(heading.groups()))
        for cell, heading in _answers(lab)
    }


def asked(lab: str | None) -> dict[str, str]:
    """Question → what it asks."""
    return {
        cell.id: re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", heading.string[heading.end() :]).strip()
        for cell, heading in _answers(lab)
        if cell.cell_type == "markdown"
    }


def models(lab: str | None) -> dict[str, str]:
    """Question → its model answer."""
    questions = asked(lab)
    return {cell.id: cell.source for cell in _cells(lab, solved=True) if cell.id in questions}


def _plain(formula: re.Match) -> str:
    """A formula of a title as plain text: θ."""
    return html.unescape(re.sub("<[^>]*>", "", mathml(formula[1])))


def _answers(lab: str | None) -> Iterator[tuple[NotebookNode, re.Match]]:
    """The cells of answers, each with the heading above it."""
    heading = None
    for cell in _cells(lab):
        if cell.cell_type == "markdown":
            heading = [heading, *HEADING.finditer(cell.source)][-1]
        if build.is_solution(cell) and heading:
            yield cell, heading


def _cells(lab: str | None, solved: bool = False) -> list[NotebookNode]:
    """The cells of a lab as the edition has it; none of one from an earlier term."""
    return _read(lab, solved, repr(current())) if lab else []


@functools.lru_cache(maxsize=32)
def _read(lab: str, solved: bool, edition: str) -> list[NotebookNode]:
    try:
        full = build.read(*build.sources([lab]))
    except build.BuildError:
        return []
    return (build.solve(full) if solved else full).cells
