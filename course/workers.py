"""Who grades: a few processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, as_completed
from multiprocessing import get_context

from nbformat import NotebookNode
from pebble import ProcessPool

from course.marking import Job, Settings, fingerprint, grade_one, ungraded
from course.records import Record

PR_SET_PDEATHSIG = 1
AFTER = 300  # seconds that a worker may take longer than the whole notebook may run, before it is ended


def here(jobs: list[Job], settings: Settings, workers: int | None) -> Iterator[tuple[Record, NotebookNode | None]]:
    """Grade in processes of this machine. One that dies or hangs is replaced, and costs its own submission alone."""
    limit = settings.patience.notebook + AFTER
    pool = ProcessPool(workers or os.cpu_count() or 1, initializer=_die_with_parent, context=get_context("spawn"))
    try:
        yield from _outcomes({pool.schedule(grade_one, (job, settings), timeout=limit): job for job in jobs})
    finally:
        pool.stop()
        pool.join()


def _die_with_parent() -> None:
    """End this process when the one that started it ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def on_dask(jobs: list[Job], settings: Settings, scheduler: str) -> Iterator[tuple[Record, NotebookNode | None]]:
    """Grade on the workers of a Dask cluster, which need this repository, its environment and bubblewrap."""
    from dask.distributed import Client

    with Client(scheduler) as client:
        pool = client.get_executor(pure=False)
        yield from _outcomes({pool.submit(grade_one, job, settings): job for job in jobs})


def _outcomes(futures: Mapping[Future, Job]) -> Iterator[tuple[Record, NotebookNode | None]]:
    for future in as_completed(futures):
        try:
            record, notebook = future.result()
        except Exception as error:  # whatever went wrong with one, the others are graded
            yield ungraded(futures[future], f"The grader itself failed, and will try again: {error!r}"), None
            continue
        if record["graded_by"] != fingerprint():
            raise RuntimeError("a worker has another version of fmlab or course than this machine; update it first")
        yield record, notebook
