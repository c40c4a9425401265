"""How a check calls a student's function: whatever it does, a verdict comes of it.

A call that raises, takes too long, prints without end, or changes what it was given ends in words that say so.
"""

import inspect
import signal
import sys
import sysconfig
import threading
import traceback
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor

from fmlab.checks.compare import Stop, Wrong, describe, fail
from fmlab.checks.reference import answering

SECONDS = 10  # for one call on the small inputs of a check, unless the function brings a limit of its own
SHOWN = 2000  # characters of what a function prints while it is checked
NOT_THE_STUDENTS = (str(Path(__file__).parents[1]), sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"))


class Unsolved(Stop):
    """The answer is not written yet."""


class Guarded:
    """A student's object whose calls end in a reason (`Wrong`) instead of a bare exception.

    what: how it is spoken of, if it is not the answer itself but a function that the answer returned. output: where its
    prints go. dtype: the default dtype of its notebook. random: whether it is to draw random numbers; if not, it must
    leave them alone, since a seed that is set within makes every batch drawn later the same.
    """

    def __init__(self, answer, what: str = "", output=None, dtype: torch.dtype | None = None, random: bool = True):
        if not callable(answer):
            fail(f"{what or 'the answer'} should be a function, found {describe(answer)}")
        self.answer, self.what, self.output = answer, what, output or Output(sys.stdout)
        self.dtype, self.random = dtype or torch.get_default_dtype(), random
        self.seconds = getattr(answer, "seconds", SECONDS)

    def __call__(self, *args):
        before = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
        numbers = torch.get_rng_state()
        try:
            with time_limit(self.seconds), redirect_stdout(self.output), default_dtype(self.dtype), answering():
                found = self.answer(*args)
        except NotImplementedError as error:
            raise self._unsolved(error) from None
        except Wrong:
            raise
        except TimeUp:
            raise Stop(
                f"{self.what}did not finish within {self.seconds:g} seconds on a small input; does a loop never end?"
            ) from None
        except Exception as error:
            self._raised(error, before)
        if inspect.iscoroutine(found) or inspect.isgenerator(found):
            found.close()
            fail(f"{self.what}gives nothing back yet: there is an async before its def, or a yield in place of return")
        if not self.random and not torch.equal(numbers, torch.get_rng_state()):
            fail("draws random numbers of its own, or sets a seed; use what is given, and leave seeds alone")
        for given, now in zip(before, args, strict=True):
            if isinstance(now, Tensor) and not given.equal(now):
                fail("changed a tensor it was given; compute a new one instead (x + …, not x += …)")
        return found

    def returned(self, function, what: str) -> "Guarded":
        """A function that the answer returned, guarded as the answer is."""
        if not callable(function):
            fail(f"{what} should be a function, found {describe(function)}")
        return Guarded(function, f"{what} ", self.output, self.dtype, self.random)

    def note(self) -> str:
        """What is to be said of the calls beside the verdict: that they printed more than is shown."""
        hidden = self.output.hidden
        return f"It printed {hidden:,} more characters than are shown; is there a print in a loop?" if hidden else ""

    def _raised(self, error: Exception, args) -> None:
        kind, said = type(error).__name__, str(error)
        stop = isinstance(error, (ConnectionError, MemoryError, RecursionError))  # ConnectionError: its process is gone
        reason = f"{self.what}raised {kind}: {said}{_line(error, self.answer)}\n  called with {_describe_all(args)}"
        raise (Stop if stop else Wrong)(reason, (kind, said)) from None

    def _unsolved(self, error: NotImplementedError) -> Stop:
        """Which function is not written yet: this one, or one that it calls."""
        frames = traceback.extract_tb(error.__traceback__)
        own = getattr(inspect.unwrap(self.answer), "__name__", "")
        inner = getattr(error, "function", "")  # told by the process of the student's code
        if not inner and frames and not frames[-1].filename.startswith(NOT_THE_STUDENTS):
            inner = frames[-1].name
        if own.isidentifier() and inner.isidentifier() and inner != own:
            return Stop(f"it calls {inner}, which is not solved yet; solve that first, or use the library's function")
        return Unsolved("not solved yet; write your solution in the cell above, run it, then run this check again")


def _line(error: Exception, answer) -> str:
    """The line of the student's code that raised: the last one in the answer's own file, or else in no library's.

    Where the answer runs in another process, that has told which.
    """
    if (told := getattr(error, "where", None)) is not None:
        return f"\n  {told}" if told else ""
    frames = traceback.extract_tb(error.__traceback__)
    file = _file(answer)
    students = [frame for frame in frames if not frame.filename.startswith(NOT_THE_STUDENTS)]
    own = [frame for frame in students if frame.filename == file] or students
    return f"\n  in line {own[-1].lineno}: {own[-1].line}" if own and own[-1].line else ""


def _file(answer) -> str | None:
    """The file of an answer, whatever decorators are around it."""
    return getattr(getattr(inspect.unwrap(answer), "__code__", None), "co_filename", None)


class Output:
    """A stream that passes on the first characters it is given and counts the others."""

    def __init__(self, stream):
        self.stream, self.left, self.hidden = stream, SHOWN, 0

    def write(self, text: str) -> int:
        self.stream.write(text[: self.left])
        self.hidden += max(0, len(text) - self.left)
        self.left -= min(self.left, len(text))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


@contextmanager
def default_dtype(dtype: torch.dtype):
    """Within the block, new tensors of numbers have this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class TimeUp(BaseException):
    """Not an Exception, so that no `except Exception` of a student's catches it."""


@contextmanager
def time_limit(seconds: float):
    """Raise TimeUp where the block takes longer; no limit where the system has no timer, or outside the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TimeUp

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _describe_all(values) -> str:
    return "; ".join(describe(value) for value in values)
