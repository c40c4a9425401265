"""The labs, their solutions and their checks, for the tests of all of them."""

import ast
import importlib
from pathlib import Path

import jupytext

from fmlab.checks.compare import CheckFailed

SOURCES = sorted(Path(__file__).parents[1].glob("course/sources/lab*.py"))
LABS = [path.stem.split("_")[0] for path in SOURCES]


def modules(lab: str):
    """Visible and hidden checks, wrong and right answers of a lab."""
    names = f"fmlab.checks.{lab}", f"course.hidden.{lab}", f"tests.wrong_answers.{lab}", f"tests.right_answers.{lab}"
    return [importlib.import_module(name) for name in names]


def rejected_by(lab: str, exercise: str, answer) -> tuple[str, str]:
    """Who rejects the answer, "visible" before "hidden", and in which words; ("", "") if neither does."""
    for who, checks in zip(("visible", "hidden"), modules(lab)):
        try:
            getattr(checks, exercise)(answer)
        except CheckFailed as failure:
            return who, str(failure)
    return "", ""


def verdict(lab: str, exercise: str, answer) -> str:
    """The words in which an answer is rejected; empty if it is accepted."""
    return rejected_by(lab, exercise, answer)[1]


def namespace(path: Path) -> dict:
    """What the solution cells of a source define, on top of the imports of its first code cell."""
    cells = [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    imports = [node for node in ast.parse(cells[0].source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names: dict = {}
    exec(compile(ast.Module(imports, []), path.name, "exec"), names)
    for cell in cells:
        if "exercise" in cell.metadata:
            exec(cell.source, names)
    return names


def solutions(path: Path) -> dict:
    """exercise → function, from the solution cells of a source."""
    names, cells = namespace(path), jupytext.read(path).cells
    return {exercise: names[exercise] for cell in cells if (exercise := cell.metadata.get("exercise"))}
