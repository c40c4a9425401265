"""An exercise asks for a function that the library has too; while it is checked, that one is withheld.

Calling the library for anything else is what it is for. But an answer that only calls the library's own function for
the very exercise is no answer, by whatever name it reaches it. So the function itself is changed while a check runs,
in place, and with it every alias, bound method and partial of it that was made before: called by the library or by the
check it is as ever, called by anyone else it raises `Withheld`, which says what is asked for.

The card of an exercise knows the answer, too, in several ways. What stands there is `OnCard`: while an answer runs, it
may call nothing of it but the library's answers to other exercises, for labs build on one another.

This is meant for shortcuts. It does not keep anyone from copying the source of a function, which is plagiarism and
shows as such, nor from taking this module apart in their own process.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch

HERE = Path(__file__)
LIBRARY = str(HERE.parents[1])
CARDS = str(HERE.parents[1] / "exercises")
# What is called from here is called for whoever called here: `calls` is the one that calls answers.
GO_BETWEENS = (__file__, str(HERE.with_name("calls.py")))
TORCH = str(Path(torch.__file__).parent)

ANSWER, CARD = "the library's answer", "the check for the result"  # what is called, beside functions by name


class Withheld(Exception):
    """The answer calls the library's function for the exercise itself, or what stands on its card."""


@dataclass
class Judged:
    """An exercise whose answer is judged now: "lab1.heun_step". running: whether the answer runs at the moment.

    called: what it called and should not.
    """

    exercise: str
    called: list[str]
    running: bool


_judged: list[Judged] = []  # one within the other


# --- functions of the library -----------------------------------------------------------------------------------------


class Original:
    """A function that is withheld: what it was, and who may call it."""

    def __init__(self, name: str, called: list[str]):
        self.name, self.called = name, called
        self.function = find(name)
        self.code = self.function.__code__
        self.twin = _twin(self.function)

    def __call__(self, args, kwargs):
        if not _is_the_librarys(sys._getframe(2)):  # beyond the stand-in
            self.called.append(self.name)
            raise Withheld(words(self.name))
        return self.twin(*args, **kwargs)


_originals: dict[str, Original] = {}  # of the functions that are withheld now


@contextmanager
def withheld(names: Iterable[str], exercise: str = "", running: bool = True) -> Iterator[list[str]]:
    """Withhold these functions, "simulators.Euler.step", within the block. Yields the list of those that are called.

    exercise: the one whose answer is judged, "lab1.heun_step"; its card is withheld, too. running: whether all that
    runs in the block is the answer, as in a student's process; else what `answering` calls is.
    """
    called: list[str] = []
    originals = {name: Original(name, called) for name in names if name not in _originals}
    _originals.update(originals)
    within = any(judged.exercise and judged.running for judged in _judged)  # a check that an answer makes
    _judged.append(Judged(exercise, called, running or within))
    try:
        for name, original in originals.items():
            original.function.__code__ = _stand_in_for(name, original.code)
        yield called
    finally:
        _judged.pop()
        for name, original in originals.items():
            original.function.__code__ = original.code
            del _originals[name]


@contextmanager
def answering(running: bool = True) -> Iterator[None]:
    """What is called in the block is the answer; or, where that is running, is not."""
    if not _judged:
        yield
        return
    judged = _judged[-1]
    before, judged.running = judged.running, running
    try:
        yield
    finally:
        judged.running = before


def _is_the_librarys(frame) -> bool:
    """Whether a frame, perhaps of torch, belongs to the library or to a check: not to an answer, nor to what an answer
    may have called of a card."""
    while frame is not None and frame.f_code.co_filename.startswith(TORCH):
        frame = frame.f_back
    file = "" if frame is None else frame.f_code.co_filename
    if not file.startswith(LIBRARY) or file in GO_BETWEENS:
        return False
    while _judged and _judged[-1].running and frame is not None and frame.f_code.co_filename.startswith(CARDS):
        if frame.f_code in _on_cards:
            return False
        frame = frame.f_back
    return True


def words(called: str) -> str:
    """Why an answer that called this is rejected."""
    what = {ANSWER: f"calls {ANSWER}", CARD: f"asks {CARD}"}.get(called, f"calls fmlab.{called}")
    return f"it {what}, which is what this exercise asks you to write"


def find(name: str) -> FunctionType:
    """The function behind a name such as "simulators.Euler.step", without what decorators put around it."""
    module, *path = name.split(".")
    found: Any = importlib.import_module(f"fmlab.{module}")
    for part in path:
        found = inspect.getattr_static(found, part)
    found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    return inspect.unwrap(found)


def _twin(function: FunctionType) -> Callable:
    """A function that does the same and keeps doing it when the code of the first is exchanged."""
    twin = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _stand_in(*args, **kwargs):
    from fmlab.checks import reference  # the globals are those of the function it stands for

    return reference._originals["name"](args, kwargs)


def _stand_in_for(name: str, code: CodeType) -> CodeType:
    """The code of `_stand_in` for a name, with the free variables that the other code has: a function keeps its own."""
    own = _stand_in.__code__
    constants = tuple(name if constant == "name" else constant for constant in own.co_consts)
    return own.replace(co_consts=constants, co_freevars=code.co_freevars)


# --- cards ------------------------------------------------------------------------------------------------------------


class OnCard:
    """A function that stands on the card of an exercise, "lab1.heun_step": as ever, but not for answers.

    what: ANSWER if it is the library's answer, which answers to other exercises may call; else CARD.
    """

    def __init__(self, function: Callable, exercise: str, what: str = CARD):
        self._function, self.exercise, self.what = function, exercise, what
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        _on_cards.update(_codes(function))

    def __call__(self, *args, **options):
        if self._is_withheld(sys._getframe(1)):
            for judged in _judged:
                judged.called.append(self.what)
            raise Withheld(words(self.what))
        return self._function(*args, **options)

    def __repr__(self) -> str:
        return f"<{self.what} of {self.exercise}>"

    def _is_withheld(self, frame) -> bool:
        if not _judged or not _judged[-1].exercise:
            return False
        another = self.what == ANSWER and all(judged.exercise != self.exercise for judged in _judged)
        return not another and (_judged[-1].running or not _is_the_librarys(frame))

    def lent(self, *args, **options):
        """What the function gives, where it stands in for an answer to another exercise: as the library calls it."""
        with answering(False):
            return self._function(*args, **options)

    def of_the_judged(self) -> bool:
        """Whether it stands on the card of the exercise whose answer is judged."""
        return bool(_judged) and _judged[-1].exercise == self.exercise


_on_cards: set[CodeType] = set()  # the codes of all that stands on cards, and of the functions within


def _codes(function) -> Iterator[CodeType]:
    """The code of a function and of those within, whatever is around it; none of what is not written in Python."""
    function = getattr(function, "func", getattr(function, "__func__", function))
    todo = [getattr(function, "__code__", None)]
    while todo:
        code = todo.pop()
        if isinstance(code, CodeType) and code.co_filename.startswith(CARDS):
            yield code
            todo += code.co_consts
