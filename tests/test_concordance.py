"""The concordance names only what exists: library objects, tests, exercises; and no row is missing."""

import ast
import importlib
import re
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/concordance.md").read_text().splitlines()
    if re.match(r"\| [A-I]\d", line)
]
CELLS = [cell for path in ROOT.glob("course/sources/lab*.py") for cell in jupytext.read(path).cells]
EXERCISES = {cell.metadata.get("exercise") or cell.metadata.get("answer") for cell in CELLS} - {None}
LAST = {"A": 11, "B": 12, "C": 10, "D": 5, "E": 8, "G": 6, "F": 3, "H": 4, "I": 4}


def names(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def functions_in(module: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / f"{module}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_what_exists(row):
    _, statement, library, tests, exercise, figure = row
    assert statement and figure and names(library) and names(tests)
    for name in names(library):
        module, attribute = name.rsplit(".", 1)
        assert hasattr(importlib.import_module(f"fmlab.{module}"), attribute), name
    for name in names(tests):
        module, _, function = name.partition(".")
        assert function in functions_in(module) if function else functions_in(module), name
    assert set(names(exercise)) <= EXERCISES


def test_every_statement_has_its_row():
    assert [row[0] for row in ROWS] == [f"{letter}{k}" for letter, last in LAST.items() for k in range(1, last + 1)]
