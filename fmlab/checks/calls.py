"""How a check calls a student's function: whatever it does, a verdict comes of it.

A call that raises, takes too long, prints without end, or changes what it was given ends in words that say so.
"""

import signal
import sys
import threading
import traceback
from contextlib import contextmanager, redirect_stdout

from torch import Tensor

from fmlab.checks.compare import CheckFailed, describe, fail

SECONDS = 10  # for one call on the small inputs of a check, unless the function brings a limit of its own
SHOWN = 2000  # characters of what a function prints while it is checked


class Guarded:
    """A student's object whose calls fail with a verdict instead of a bare exception."""

    def __init__(self, answer):
        if not callable(answer):
            fail(f"should be a function, found {describe(answer)}")
        self.answer, self.output = answer, Output(sys.stdout)
        self.seconds = getattr(answer, "seconds", SECONDS)

    def __call__(self, *args):
        before = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
        try:
            with time_limit(self.seconds), redirect_stdout(self.output):
                found = self.answer(*args)
        except NotImplementedError:
            fail("not solved yet; write your solution in the cell above, run it, then run this check again")
        except CheckFailed:
            raise
        except TimeUp:
            fail(f"did not finish within {self.seconds:g} seconds on a small input; does a loop never end?")
        except Exception as error:
            fail(f"raised {type(error).__name__}: {error}{self._where(error)}\n  called with {_describe_all(before)}")
        for given, now in zip(before, args, strict=True):
            if isinstance(now, Tensor) and not given.equal(now):
                fail("changed a tensor it was given; compute a new one instead (x + …, not x += …)")
        return found

    def note(self) -> str:
        """What is to be said of the calls beside the verdict: that they printed more than is shown."""
        hidden = self.output.hidden
        return (
            f"\n  It printed {hidden:,} more characters than are shown; is there a print in a loop?" if hidden else ""
        )

    def _where(self, error: Exception) -> str:
        """The line of the student's code that raised."""
        file = getattr(getattr(self.answer, "__code__", None), "co_filename", None)
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        return f"\n  in line {lines[-1].lineno}: {lines[-1].line}" if lines else ""


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
    return "; ".join("a function" if callable(value) else describe(value) for value in values)
