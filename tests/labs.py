"""The labs, their solutions and their answers, for the tests of all of them."""

import ast
import functools
import importlib
from pathlib import Path

import jupytext

from course import hidden
from fmlab.checks import lab as labs
from fmlab.checks.exercise import Exercise
from fmlab.checks.verdict import Verdict

SOURCES = sorted(Path(__file__).parents[1].glob("course/sources/lab*.py"))
LABS = [path.stem.split("_")[0] for path in SOURCES]


def source(lab: str) -> Path:
    """The source of "lab1"."""
    return next(path for path in SOURCES if path.stem.split("_")[0] == lab)


def wrong(lab: str) -> dict:
    """exercise → name of a misconception → (answer, words of its verdict), beside those that stand on cards."""
    return importlib.import_module(f"tests.wrong_answers.{lab}").WRONG


def right(lab: str) -> dict:
    """exercise → right answers in other styles."""
    return importlib.import_module(f"tests.right_answers.{lab}").RIGHT


def exercise_of(lab: str, name: str) -> Exercise:
    return labs.load(lab).exercises[name]


def rejected_by(lab: str, name: str, answer, **options) -> tuple[str, Verdict | None]:
    """Who rejects the answer, "visible" before "hidden", and its verdict; ("", None) if neither does."""
    exercise = exercise_of(lab, name)
    for who, inputs in ("visible", exercise.visible), ("hidden", hidden.inputs(exercise)):
        verdict = exercise.examine(answer, inputs, **options)
        if not verdict.passed:
            return who, verdict
    return "", None


def verdict(lab: str, name: str, answer) -> str:
    """The words in which an answer is rejected; empty if it is accepted."""
    who, found = rejected_by(lab, name, answer)
    return str(found) if who else ""


@functools.cache
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
