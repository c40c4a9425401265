"""What goes wrong around the grader, in sentences."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator

ADVICE = {
    errno.ENOSPC: "Make room on the disk",
    errno.EDQUOT: "Make room in your share of the disk",
    errno.EACCES: "Give yourself the right to it, and to the folder that it is in",
    errno.EPERM: "Give yourself the right to it, and to the folder that it is in",
    errno.EROFS: "Make the disk one that can be written to",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
}


KNOWN = (
    ValueError,
    RuntimeError,
    OSError,
    MemoryError,
)  # all else is a fault of this program


class Unfinished(RuntimeError):
    """A batch that had to stop. What it has done is kept; the message says what is open and what to do."""


@contextlib.contextmanager
def begun(done: Callable[[], str]) -> Iterator[None]:
    """What fails in here leaves a batch unfinished. done: what was done before, in a sentence; "" if nothing."""
    try:
        yield
    except KNOWN as error:
        if not done():
            raise
        raise Unfinished(f"{done()}\n{sentence(error)}") from error


def sentence(error: Exception) -> str:
    """What is wrong, and what to do about it."""
    if isinstance(error, MemoryError):
        return "The memory is full. End other programs, or grade with fewer --workers, and give the same command again."
    if not isinstance(error, OSError):
        return str(error)
    place = f"{error.filename}: " if error.filename else ""
    advice = ADVICE.get(error.errno, "See to that")
    return f"{place}{error.strerror or error}. {advice}, and give the same command again. Nothing is lost."
