"""A student's answer as a program: the official one, whether it was touched, and its normal form."""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Iterator

from course import build

LONGEST = 8_000  # characters of an answer that are looked at


@functools.cache
def official(lab: str) -> dict[str, str]:
    """The solutions of a lab by exercise; none if its source is not here any more or does not build."""
    try:
        (source,) = build.sources([lab])
        full = build.read(source)
    except build.BuildError:
        return {}
    kinds = [cell.metadata.get("nbgrader", {}) for cell in full.cells]
    return {
        kind["grade_id"].removesuffix("-answer"): cell.source
        for kind, cell in zip(kinds, build.solve(full).cells)
        if kind.get("solution") and not kind["grade"]
    }


def untouched(answer: str) -> bool:
    """Whether a function in it does nothing but raise NotImplementedError, as when it was handed out."""
    if "NotImplementedError" not in answer:
        return False
    code, _ = normal(answer)
    return bool(re.search(r"(?m)^( *)def .*:\n\1    raise NotImplementedError$(?!\n\1    )", code))


def normal(source: str) -> tuple[str, set[str]]:
    """A program in the one style of ast.unparse, without comments, docstrings and annotations; and what it defines.

    What is no program, or too long or too deep to be an honest one, stays as it is but for its comments.
    """
    try:
        if len(source) > LONGEST:
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        for node in ast.walk(tree):
            _strip(node)
        return ast.unparse(tree), set(_defined(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.sub(r"#.*", "", source[:LONGEST]), set()


def _strip(node: ast.AST) -> None:
    """Take annotations and docstrings from a node."""
    if isinstance(node, ast.arg):
        node.annotation = None
    if isinstance(node, ast.FunctionDef):
        node.returns = None
    if isinstance(body := getattr(node, "body", None), list) and body:
        node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _defined(tree: ast.AST) -> Iterator[str]:
    """The names that a program gives to arguments, variables and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
