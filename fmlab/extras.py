"""What the labs need beside the mathematics: the packages of the extra [labs]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(purpose: str) -> Iterator[None]:
    """Around imports: where a package is missing, the error says what it is for and how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        words = f'{purpose} needs {package}, which is not installed: pip install "fmlab[labs]"'
        raise ModuleNotFoundError(words, name=error.name) from None
