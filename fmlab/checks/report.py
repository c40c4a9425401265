"""How a check becomes a verdict, and what a student sees of it: the verdict, hints, progress, and their own figures."""

import functools
import html
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fmlab.checks.calls import Guarded
from fmlab.checks.compare import CheckFailed
from fmlab.checks.reference import withheld, words


@dataclass
class Exercise:
    """What is known of an exercise: what it is worth, its hints, and how its checks went in this session."""

    name: str
    points: int
    hints: tuple[str, ...]
    reference: tuple[str, ...] = ()
    state: str = "not checked yet"
    answer: Callable | None = None
    hints_given: int = 0


_exercises: dict[str, Exercise] = {}


def check(
    reread: str,
    passed: str = "",
    points: int = 0,
    hints: tuple[str, ...] = (),
    reference: tuple[str, ...] = (),
    hidden: bool = False,
) -> Callable:
    """Make a check of `body(answer)`: the exercise is named by the function.

    reread: the place in the notes that a failed check points to. passed: what a passed check means, in a few words.
    points: what it is worth. hints: up to three, each more of a help than the one before.
    reference: the library's functions for the exercise, "simulators.Euler.step"; an answer that calls one is rejected.
    hidden: a check that is silent when it passes and does not count for `answer_or`, `hint` and `progress`.
    """

    def decorate(body: Callable) -> Callable:
        name, lab = body.__name__, body.__module__.rpartition(".")[2]
        exercise = Exercise(name, points, hints, reference)
        if not hidden:
            _exercises[name] = exercise
        where = f"  Reread: {reread}." + (f' A hint: {lab}.hint("{name}")' if hints else "")

        @functools.wraps(body)
        def run(answer) -> None:
            exercise.state, exercise.answer = "not right yet", None
            guarded, reference = None, _exercises[name].reference if name in _exercises else ()
            with (
                torch.random.fork_rng(devices=[]),
                warnings.catch_warnings(),
                withheld(reference, body.__code__.co_filename) as called,
            ):
                warnings.simplefilter("ignore")  # on stderr they would pass for a failure
                torch.manual_seed(0)
                try:
                    guarded = Guarded(answer)
                    body(guarded)
                except Exception as failure:
                    reason = words(called[0]) if called else _reason(failure)
                    note = guarded.note() if guarded else ""
                    raise CheckFailed(f"✗ {name}: {reason}{note}\n{where}") from None
            exercise.state, exercise.answer = "passed", answer
            if not hidden:
                show(Passed(name, passed + guarded.note()))

        run.exercise = exercise
        return run

    return decorate


def _reason(failure: Exception) -> str:
    """Why a check failed, also where it was the check that raised, on what came back."""
    if isinstance(failure, CheckFailed):
        return str(failure)
    return f"what came back could not be compared ({type(failure).__name__}: {failure})"


def answer_or(name: str, otherwise: Callable) -> Callable:
    """The student's answer to an exercise once its check has passed, else the library's function `otherwise`.

    Figures use it, so that every part of a lab works whatever was solved before it.
    """
    answer = _exercises[name].answer if name in _exercises else None
    if answer is None:
        print(f"{name} has not passed its check yet: this cell uses fmlab's own instead.")
    return answer or otherwise


def hint(name: str) -> None:
    """Show the next hint to an exercise; after the last one, all of them again."""
    known = [exercise.name for exercise in _exercises.values() if exercise.hints]
    if name not in known:
        raise ValueError(f"no hints for {name!r}; there are hints for: {', '.join(known)}")
    exercise = _exercises[name]
    k, count = exercise.hints_given, len(exercise.hints)
    exercise.hints_given += 1
    for number in (k + 1,) if k < count else range(1, count + 1):
        print(f"{name}, hint {number} of {count}: {exercise.hints[number - 1]}")


def progress() -> None:
    """Show which exercises have passed their check in this session, and the points so far."""
    signs = {"passed": "✓", "not right yet": "✗", "not checked yet": "·"}
    for e in _exercises.values():
        print(f"{signs[e.state]} {e.name:32}{e.state:18}{e.points if e.answer else 0} of {e.points}")
    passed = [exercise for exercise in _exercises.values() if exercise.answer]
    points, most = (sum(exercise.points for exercise in some) for some in (passed, _exercises.values()))
    print(f"{len(passed)} of {len(_exercises)} exercises pass: {points} of {most} points for code")


@dataclass
class Passed:
    """The verdict on a right answer: one line, in a notebook on a card."""

    name: str
    words: str

    def __repr__(self):
        return f"✓ {self.name}: {self.words}"

    def _repr_html_(self):
        style = "border-left: 4px solid #009E73; padding: 0.2em 0.8em; white-space: pre-line"
        return f'<div role="status" style="{style}"><b>✓ {self.name}</b>: {html.escape(self.words)}</div>'


def show(verdict) -> None:
    """Display an object in a notebook, print it elsewhere."""
    if "ipykernel.zmqshell" in sys.modules:
        from IPython.display import display

        display(verdict)
    else:
        print(verdict)


def _undefined(shell, kind, error: NameError, trace, tb_offset=None) -> None:
    """Show that an exercise was checked before its cell was run; leave every other NameError as it is."""
    if error.name in _exercises:
        words = f"✗ {error.name}: not defined yet; run the cell above that defines it, then run this check again"
        shell._showtraceback(kind, error, [words])
    else:
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)


if "IPython" in sys.modules and (_shell := sys.modules["IPython"].get_ipython()):
    _shell.set_custom_exc((NameError,), _undefined)
