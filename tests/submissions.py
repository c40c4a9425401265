"""Submissions for the tests: a lab's notebook as different students hand it in."""

import copy
import functools
from collections.abc import Mapping

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from course import build
from course.hosted import is_install
from fmlab.checks.exercise import Exercise


@functools.cache
def _full(lab: str) -> NotebookNode:
    (source,) = build.sources([lab])
    return build.read(source)


def _name(cell: NotebookNode) -> str | None:
    """The name of the exercise or written answer whose solution this cell is."""
    grading = cell.metadata.get("nbgrader", {})
    return grading["grade_id"].removesuffix("-answer") if grading.get("solution") else None


def points(lab: str) -> dict[str, float]:
    """What each check is worth, by exercise."""
    return {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in _full(lab).cells if build.is_check(c)}


def written(lab: str) -> dict[str, float]:
    """What each written answer is worth."""
    graded = [cell for cell in _full(lab).cells if cell.metadata.get("nbgrader", {}).get("grade")]
    return {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in graded if not build.is_check(c)}


def blank(lab: str) -> NotebookNode:
    """Handed in as it was received, but for folds, which repairing opens."""
    nb = build.release(_full(lab))
    for cell in nb.cells:
        cell.metadata.pop("jupyter", None)
    return nb


def solved(lab: str) -> NotebookNode:
    """Every exercise solved and every question answered."""
    solutions = {_name(full): cell.source for full, cell in zip(_full(lab).cells, build.solve(_full(lab)).cells)}
    solutions.pop(None)
    return with_answers(lab, solutions, start=blank(lab))


def with_answers(lab: str, answers: Mapping[str, str], start: NotebookNode | None = None) -> NotebookNode:
    """These cells in place of the answers to these exercises; the rest as in `start`, by default solved."""
    nb = copy.deepcopy(start or solved(lab))
    cells = {_name(cell): cell for cell in nb.cells}
    for name, source in answers.items():
        cells[name].source = source
    return nb


def without_figures(nb: NotebookNode) -> NotebookNode:
    """The notebook of a student who deleted every ungraded code cell but the imports: quicker to run."""
    nb = copy.deepcopy(nb)
    imports = setup(nb)
    plain = [cell for cell in nb.cells if cell.cell_type == "code" and "nbgrader" not in cell.metadata]
    nb.cells = [cell for cell in nb.cells if cell is imports or cell not in plain]
    return nb


def setup(nb: NotebookNode) -> NotebookNode:
    """The cell with the imports."""
    return next(cell for cell in nb.cells if cell.cell_type == "code" and not is_install(cell))


def hasty(nb: NotebookNode) -> NotebookNode:
    """With training cut short: it draws worse pictures, but repeatable ones. nbval runs the solutions whole."""
    cut = """
import fmlab.training

def train(model, loss, steps=3000, *options, whole=fmlab.training.train, **more):
    return whole(model, loss, min(steps, 50), *options, **more)

fmlab.training.train = train
"""
    return nbformat.from_dict({**nb, "cells": [new_code_cell(cut.strip()), *nb.cells]})


def check_cell(nb: NotebookNode, name: str) -> NotebookNode:
    """The check of an exercise."""
    return next(cell for cell in nb.cells if build.is_check(cell) and cell.metadata.nbgrader.grade_id == name)


# --- answers that are wrong in a certain way --------------------------------------------------------------------------


def mistaken(exercise: Exercise, mistake: str) -> str:
    """A cell that answers an exercise with a mistake of its card."""
    card = f"{exercise.lab}.{exercise.name}"
    return f"from fmlab.checks import {exercise.lab}\n\n{exercise.name} = {card}.mistaken({card}.mistakes[{mistake!r}])"


def fitted(lab: str, name: str) -> str:
    """A cell that answers an exercise with what its check in the notebook wants to see, call by call, and no more."""
    solution = next(cell.source for cell in solved(lab).cells if _name(cell) == name)
    return f"""{solution}


_right, _seen = {name}, []
{lab.split("_")[0]}.{name}.examine(lambda *args: _seen.append(_right(*args)) or _seen[-1])


def {name}(*args):
    _seen.append(_seen.pop(0))
    return _seen[-1]"""
