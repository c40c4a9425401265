"""A lab: its exercises, and what a student sees of them beside verdicts: hints, progress, and their own figures."""

from __future__ import annotations

import importlib
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from fmlab.checks import installation, memory, notebook, submission
from fmlab.checks.calls import default_dtype
from fmlab.checks.exercise import NEW, Case, Exercise
from fmlab.checks.verdict import CheckFailed, Verdict, in_notebook, show

EARLIER = "passed earlier"
PASSED = ("passed", EARLIER)
SIGNS = {"passed": "✓", EARLIER: "✓", "not right yet": "✗"}


class Lab:
    """The exercises of a lab by name, `lab2.conditional_score`, and the words of its notebook."""

    def __init__(self, name: str):
        self.name = name
        self.exercises: dict[str, Exercise] = {}

    def exercise(self, **card) -> Callable[[Callable[..., Case]], Exercise]:
        """Make an exercise of a function from inputs to a `Case`; what stands on the card: see `Exercise`."""

        def decorate(make: Callable[..., Case]) -> Exercise:
            self.exercises[make.__name__] = Exercise(make, self.name, siblings=self.exercises, **card)
            return self.exercises[make.__name__]

        return decorate

    def __getattr__(self, name: str) -> Exercise:
        try:
            return self.__dict__["exercises"][name]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('name', 'a lab')} has no exercise {name!r}") from None

    def __iter__(self) -> Iterator[Exercise]:
        return iter(self.exercises.values())

    def __dir__(self):
        return [*super().__dir__(), *self.exercises]

    def __repr__(self) -> str:
        return f"{self.name}, with the exercises {', '.join(self.exercises)}"

    def answer_or(self, name: str) -> Callable:
        """The student's answer to an exercise once its check has passed, else the library's.

        Figures use it, so that every part of a lab works whatever was solved before it.
        """
        exercise = self._named(name)
        if exercise.answer is None:
            print(f"{name} has not passed its check yet: this cell uses fmlab's own instead.")
        return exercise.answer or exercise.library

    def hint(self, name: str = "") -> None:
        """Show the next hint to an exercise; after the last one, all of them again."""
        if not name:
            print(f'Say to which exercise: {self.name}.hint("{next(iter(self.points()))}"). {self._listed()}')
            return
        exercise = self._named(name)
        k, count = exercise.hints_given, len(exercise.hints)
        exercise.hints_given += 1
        for number in (k + 1,) if k < count else range(1, count + 1):
            print(f"{name}, hint {number} of {count}: {exercise.hints[number - 1]}")
        if not count:
            print(f"{name} has no hints.")

    def progress(self) -> None:
        """Show which exercises of the open notebook have passed their check, and the points so far; then what was
        predicted. What passed before the notebook was started anew counts, and is marked."""
        points, remembered = self.points(), memory.recall(self.name)
        states = {name: self._state(name, remembered["passed"]) for name in points}
        for name, state in states.items():
            worth = f"{points[name] if state in PASSED else 0:g} of {points[name]:g}" if points[name] else ""
            print(f"{SIGNS.get(state, '·')} {name:32}{state:18}{worth}".rstrip())
        passed = [name for name, state in states.items() if state in PASSED]
        total = f": {sum(points[name] for name in passed):g} of {sum(points.values()):g} points for code"
        print(f"{len(passed)} of {len(points)} exercises pass{total if sum(points.values()) else ''}")
        for what, (guess, value) in remembered["predictions"].items():
            print(f"  {what}: you predicted {guess}; it is {value}")

    def compare(self, what: str, guess, value, digits: int = 3) -> None:
        """Show a prediction beside what came of it, and keep it for `progress()`. It is never graded.

        what: what was asked, such as "the radius after one turn". guess: a number or a word; `...` where nothing was
        typed. value: a number, which is shown with this many digits, or a word.
        """
        shown = _shown(value, digits)
        if guess is ... or guess is None or (isinstance(guess, str) and not guess.strip()):
            print(f"{what}: {shown}. (You have typed no prediction above.)")
            return
        print(f"{what}: you predicted {_shown(guess, digits)}; it is {shown}.")
        memory.note_prediction(self.name, what, _shown(guess, digits), shown)

    def _state(self, name: str, before: Iterable[str]) -> str:
        state = self.exercises[name].state
        return EARLIER if state == NEW and name in before else state

    def points(self) -> dict[str, float]:
        """Points of the exercises of the open notebook, in its order; 0 where it cannot be told which one is open."""
        try:
            asked = notebook.points(notebook.read(notebook.find()))
        except notebook.NotReady:
            asked = {}
        mine = {name: most for name, most in asked.items() if name in self.exercises}
        return mine or dict.fromkeys(self.exercises, 0)

    def submission(self, path: str | Path | None = None) -> None:
        """Show what the notebook is worth as it is saved; see `fmlab.checks.submission`."""
        submission.submission(path)

    def self_test(self) -> None:
        """Show whether the installation works; see `fmlab.checks.installation`."""
        installation.self_test()

    def _named(self, name: str) -> Exercise:
        if name not in self.exercises:
            raise ValueError(f"{self.name} has no exercise {name!r}. {self._listed()}")
        return self.exercises[name]

    def _listed(self) -> str:
        return f"Its exercises are: {', '.join(self.points())}"


def _shown(value, digits: int) -> str:
    """A number in a few digits; a word as it is."""
    try:
        return f"{float(value):.{digits}g}"
    except (TypeError, ValueError):
        return str(value)


def load(name: str) -> Lab:
    """The lab of this name, "lab2". Raises ModuleNotFoundError where there is none."""
    with default_dtype(torch.float32):  # whatever the notebook has set
        return importlib.import_module(f"fmlab.exercises.{name}").lab


def loaded() -> Iterator[Lab]:
    """The labs that are in use."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fmlab.exercises.lab") and hasattr(module, "lab"):
            yield module.lab


def _undefined(shell, kind, error: NameError, trace, tb_offset=None) -> None:
    """Where an exercise is checked before its cell was run, show that as its verdict; leave other NameErrors alone."""
    if not any(error.name in lab.exercises for lab in loaded()) or f".{error.name}({error.name})" not in _line(trace):
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return
    words = "not defined yet; run the cell above that defines it, then run this check again"
    failure = CheckFailed(Verdict(str(error.name), False, words, solved=False))
    if in_notebook():
        show(failure.verdict)
    shell._showtraceback(CheckFailed, failure, failure._render_traceback_())


def _line(trace) -> str:
    """The line that raised."""
    *_, last = traceback.walk_tb(trace)
    frame, number = last
    return linecache.getline(frame.f_code.co_filename, number)


if (_shell := notebook.shell()) is not None:
    _shell.set_custom_exc((NameError,), _undefined)
