"""The sandbox of this process, which can start while all else is imported."""

from __future__ import annotations

import functools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from course.sandbox import Sandbox

starter = ThreadPoolExecutor(1)  # whose thread stays, since what it starts ends with it


@functools.cache
def starting(walls: str | None) -> Future[Sandbox]:
    """The sandbox behind these walls, without waiting for it; None: the best walls that can be made here."""
    from course.sandbox import Sandbox

    return starter.submit(Sandbox, walls=walls)


def sandbox(walls: str | None) -> Sandbox:
    """The sandbox behind these walls. Raises RuntimeError where it cannot be made."""
    return starting(walls).result()
