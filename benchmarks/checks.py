"""What a student waits for after each answer: the checks of every lab, on its solutions."""

import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial

from benchmarks.measure import Rows
from benchmarks.notebooks import reference
from tests.labs import SOURCES, modules, solutions


def checks(quick: bool) -> Rows:
    """All checks of a lab, visible and hidden, and the slowest of them, in units of 300 training steps"""
    rows = {"300 training steps": reference}
    for path in SOURCES[:1] if quick else SOURCES:
        lab = path.stem.split("_")[0]
        calls = [
            partial(_silently, getattr(module, exercise), answer)
            for exercise, answer in solutions(path).items()
            for module in modules(lab)[:2]
        ]
        slowest = max(calls, key=_seconds)
        rows[f"{lab}: all {len(calls)} checks"] = partial(_all, calls)
        rows[f"{lab}: {slowest.args[0].__name__}"] = slowest
    return rows


def _silently(check: Callable, answer: Callable) -> None:
    with redirect_stdout(None):
        check(answer)


def _all(calls: list[Callable]) -> None:
    for call in calls:
        call()


def _seconds(call: Callable) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
