"""Cells as handed in, and what they are: their kind, whether they are answered, what they define and import."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from nbformat import NotebookNode

from course.ipython import LONGEST, tree


class Cell(NamedTuple):
    """A cell as it was handed in. grading: nbgrader's metadata; empty if there is none."""

    cell_type: str
    source: str
    id: str = ""
    grading: Mapping[str, Any] = {}
    attachments: Mapping[str, Any] = {}


def kind(cell: NotebookNode) -> str:
    """What a cell of a release is: "answer", "check", "written" or, for a plain cell, ""."""
    grading = cell.metadata.get("nbgrader")
    if not grading:
        return ""
    return "check" if not grading.solution else "written" if grading.grade else "answer"


def slots(release: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """The graded cells of a release, each with its place."""
    return [(place, cell) for place, cell in enumerate(release.cells) if kind(cell)]


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


def defined(source: str) -> frozenset[str]:
    """The functions and classes that a cell defines, also if it has an error of syntax."""
    return _defined(source) if len(source) <= LONGEST else frozenset()


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
