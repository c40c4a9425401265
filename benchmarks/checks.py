"""What a student waits for after each answer: the checks of every lab, on its solutions."""

import time
from collections.abc import Callable
from functools import partial

from benchmarks.measure import Rows
from benchmarks.notebooks import reference
from course import hidden
from fmlab.checks import lab as labs
from tests.labs import SOURCES, solutions


def checks(quick: bool) -> Rows:
    """All checks of a lab, visible and hidden, and the slowest of them, in units of 300 training steps"""
    rows = {"300 training steps": reference}
    for path in SOURCES[:1] if quick else SOURCES:
        lab = path.stem.split("_")[0]
        answers = [(labs.load(lab).exercises[name], answer) for name, answer in solutions(path).items()]
        calls = [
            partial(exercise.examine, answer, inputs)
            for exercise, answer in answers
            for inputs in (exercise.visible, hidden.inputs(exercise))
        ]
        slowest = max(calls, key=_seconds)
        rows[f"{lab}: all {len(calls)} checks"] = partial(_all, calls)
        rows[f"{lab}: {slowest.func.__self__.name}"] = slowest
    return rows


def _all(calls: list[Callable]) -> None:
    for call in calls:
        call()


def _seconds(call: Callable) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
