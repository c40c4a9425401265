"""Who grades on this machine: a few processes. Each makes its sandbox while it imports all else."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import Future, as_completed, wait
from multiprocessing import active_children, get_context
from multiprocessing.synchronize import Semaphore
from typing import TYPE_CHECKING, Protocol, TypeAlias

import psutil
from pebble import ProcessPool

from course.early import sandbox, starting
from course.jobs import Job, Settings, ungraded
from course.kernel import die_with_parent
from course.outer_walls import attempts, found

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from course.records import Record

AFTER = 300  # seconds that a worker may take longer than the whole notebook may run, before it is ended
TURN = 60  # seconds that a worker waits at most until it is its turn to start
LEAST = 3 * 2**30  # bytes of memory for a worker, beside its sandbox

Graded: TypeAlias = "tuple[Record, NotebookNode | None]"


class Crew(Protocol):
    """Who grades."""

    def __enter__(self) -> Crew: ...

    def __exit__(self, *_) -> None: ...

    def grade(self, jobs: Collection[Job], labs: Collection[str]) -> Iterator[Graded]:
        """The record of each and the notebook as it ran, as they come.

        labs: those whose official solutions have to get full marks first. Raises BuildError where one does not, and
        RuntimeError where nobody can grade, or can any more.
        """


class Here:
    """Processes of this machine; one that dies or hangs is replaced, and costs its own submission alone. They start at
    once, as many at a time as there are cores for, or when there is something to grade. Raises NoWalls where students'
    code cannot be run."""

    def __init__(self, settings: Settings, number: int, at_once: bool = True):
        self.settings, self.number, self.others = settings, number, {*active_children()}
        self.pool, self.first = None, []
        if at_once:
            self._start()

    def _start(self) -> None:
        settings, number = self.settings, self.number
        walls, most = (settings.walls, attempts(settings.walls, number)[0]) if settings.walls else found(number)
        self.settings, number = settings._replace(walls=walls), max(1, most)  # as many as there can be walls for
        self.memory = max(LEAST, psutil.virtual_memory().total // (2 * number))
        context = get_context("spawn")
        turns = context.Semaphore(max(1, (os.cpu_count() or 1) // 2))  # each is two processes
        self.pool = ProcessPool(number, initializer=_begin, initargs=[self.settings, turns], context=context)
        self.first = [self.pool.schedule(ready, [self.settings])]

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_) -> None:
        if self.pool is None:
            return
        self.pool.stop()
        for process in {*active_children()} - self.others:
            process.kill()  # one that is just starting would complain
        self.pool.join()

    def grade(self, jobs: Collection[Job], labs: Collection[str]) -> Iterator[Graded]:
        if not jobs:
            return
        if self.pool is None:
            self._start()
        limit = self.settings.patience.notebook + AFTER
        self.first.append(self.pool.schedule(_insist, [labs, self.settings]))
        futures = {self.pool.schedule(_grade, [job, self.settings, self.memory], timeout=limit): job for job in jobs}
        for future in self.first:
            future.result()
        for future in as_completed(futures):
            yield outcome(future, futures[future])


def outcome(future: Future, job: Job) -> Graded:
    """What came of a job; whatever went wrong with one, the others are graded."""
    try:
        return future.result()
    except Exception as error:
        return ungraded(job, f"The grader itself failed, and will try again: {error!r}"), None


# --- in a worker ------------------------------------------------------------------------------------------------------


def ready(settings: Settings) -> None:
    """Wait until students' code can be run in this process. Raises RuntimeError where it cannot."""
    sandbox(settings.walls).open().close()


def _begin(settings: Settings, turns: Semaphore) -> None:
    """End this process when the one that started it ends, however that ends; and make ready what grading takes, once it
    is its turn."""
    if sys.platform == "linux":
        die_with_parent()
    turns.acquire(timeout=TURN)  # one that was killed has not given its turn back
    try:
        begun = starting(settings.walls)
        on_one_core()
        wait([begun])  # whether it can be had is told to whoever needs it
    finally:
        turns.release()


def on_one_core() -> None:
    """There are as many workers as there are cores; what one computes, it computes alone."""
    import torch

    import course.marking  # noqa: F401  (loaded while the sandbox starts)

    torch.set_num_threads(1)


def _insist(labs: Collection[str], settings: Settings) -> None:
    """Raises BuildError where an official solution does not get full marks."""
    from course import vouch

    vouch.insist(labs, settings.walls)


def _grade(job: Job, settings: Settings, memory: int) -> Graded:
    from course.marking import grade_one

    sandbox(settings.walls)  # which has more memory than what follows
    resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    return grade_one(job, settings)
