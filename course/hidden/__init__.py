"""Hidden inputs: for each exercise of a lab, `labN.name`, a list of arguments for the function that makes its cases.

An answer that passes on the visible inputs of `fmlab.exercises` is judged on these by the very same judge. They are
importable in an instructor's checkout, and never part of what students install.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from dataclasses import replace
from typing import TYPE_CHECKING

from fmlab.checks.verdict import CheckFailed, Verdict

if TYPE_CHECKING:  # it loads torch
    from fmlab.checks.exercise import Exercise


def inputs(exercise: Exercise) -> list[tuple]:
    """The hidden inputs of an exercise."""
    return getattr(importlib.import_module(f"course.hidden.{exercise.lab}"), exercise.name)


def check(exercise: Exercise, answer) -> None:
    """Judge an answer on the hidden inputs, for nbgrader's own commands: silent, or raises CheckFailed."""
    if not hasattr(exercise, "examine"):
        raise CheckFailed(Verdict(str(exercise), False, "something else stands in the place of the check"))
    with contextlib.redirect_stdout(io.StringIO()):  # it may print what it is given
        verdict = exercise.examine(answer, inputs(exercise))
    if not verdict.passed:
        raise CheckFailed(discreet(verdict))


def discreet(verdict: Verdict) -> Verdict:
    """What students may read of a verdict on hidden inputs: that they were not passed, and a known mistake, whose words
    stand on the card that students have; of the inputs nothing."""
    reason = "passes the check in the notebook, but not further tests of the same"
    return replace(verdict, reason=reason, expected="", found="", where="", note="")
