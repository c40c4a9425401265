"""An exercise asks for a function that the library has too; while it is checked, that one is withheld.

Calling the library for anything else is what it is for. But an answer that only calls the library's own function for
the very exercise is no answer, by whatever name it reaches it. So the function itself is changed while a check runs,
in place, and with it every alias, bound method and partial of it that was made before: called by the library or by the
check it is as ever, called by anyone else it raises `Withheld`, which says what is asked for.

This is meant for shortcuts. It does not keep anyone from copying the source of a function, which is plagiarism and
shows as such, nor from taking this module apart in their own process.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType

import torch

from fmlab.checks import calls

LIBRARY = str(Path(__file__).parents[1])
TORCH = str(Path(torch.__file__).parent)


class Withheld(Exception):
    """The answer calls the library's function for the exercise itself."""


class Original:
    """A function that is withheld: what it was, and who may call it."""

    def __init__(self, name: str, check: str, called: list[str]):
        self.name, self.check, self.called = name, check, called
        self.function = find(name)
        self.code = self.function.__code__
        self.twin = _twin(self.function)

    def __call__(self, args, kwargs):
        if not self._may_call(sys._getframe(2)):  # beyond the stand-in
            self.called.append(self.name)
            raise Withheld(words(self.name))
        return self.twin(*args, **kwargs)

    def _may_call(self, frame) -> bool:
        """Whether it was called, perhaps through torch, by the check or by a module of the library.

        `calls` is the one that calls answers: what it calls is the student's.
        """
        while frame is not None and frame.f_code.co_filename.startswith(TORCH):
            frame = frame.f_back
        file = "" if frame is None else frame.f_code.co_filename
        return file == self.check or (file.startswith(LIBRARY) and file != calls.__file__)


_originals: dict[str, Original] = {}  # of the functions that are withheld now


@contextmanager
def withheld(names: Iterable[str], check: str = "") -> Iterator[list[str]]:
    """Withhold these functions, "simulators.Euler.step", within the block. Yields the list of those that are called.

    check: the file of the check, which may call them.
    """
    called: list[str] = []
    originals = {name: Original(name, check, called) for name in names if name not in _originals}
    _originals.update(originals)
    try:
        for name, original in originals.items():
            original.function.__code__ = _stand_in_for(name, original.code)
        yield called
    finally:
        for name, original in originals.items():
            original.function.__code__ = original.code
            del _originals[name]


def words(name: str) -> str:
    return f"it calls fmlab.{name}, which is what this exercise asks you to write"


def find(name: str) -> FunctionType:
    """The function behind a name such as "simulators.Euler.step", without what decorators put around it."""
    module, *path = name.split(".")
    found = importlib.import_module(f"fmlab.{module}")
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
