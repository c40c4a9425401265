"""What is said of a repair, or of why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Unrepairable(ValueError):
    """Nothing in a file can be graded; the message says why, in words for the instructor."""


def listed(sentence: str, names: Sequence[str]) -> Iterator[str]:
    """The sentence with these names, if there are any."""
    if names:
        more = f" and {len(names) - 30} more" if len(names) > 30 else ""
        yield f"{sentence}: {', '.join(dict.fromkeys(names[:30]))}{more}."


def show(value: Any) -> str:
    """Something found in a file, in a few characters that are safe to print."""
    return ascii(value)[:40] if isinstance(value, (int, str)) else "?" if value is not None else "(none)"
