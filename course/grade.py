"""Grade a batch of submissions: found, repaired, run in the sandbox, judged here, and entered in nbgrader's gradebook.

    handed in ── find ──> (student, file) ── repair ──> notebook ── judge ──> marks ── enter ──> gradebook
                                                                      │
                 grading/records/STUDENT/LAB.json, and in grading/autograded/STUDENT/LAB/ the executed notebook

Workers start first, here or on a cluster; what they are given to do is found out meanwhile, in `course.batch`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from course.jobs import Patience, Settings
from course.workers import Crew, Here

if TYPE_CHECKING:
    from course.records import Record


def grade(
    places: Sequence[Path],
    grading: Path,
    url: str,
    *,
    lab: str | None = None,
    question: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    walls: str | None = None,
    patience: Patience = Patience(),
) -> list[Record]:
    """Grade all submissions in these places that are not graded yet, and enter all of them in the gradebook.

    places: folders, zips, tables (see `course.inbox`). grading: the folder of records (see `course.records`). url: of
    nbgrader's gradebook.
    lab: only submissions of this lab; what belongs to none that is known counts as of it.
    question: an exercise whose check has changed; it alone is graded again, for all that were graded.
    workers: processes on this machine, by default one for each core. scheduler: a Dask scheduler's address, to use its
    workers instead.
    Raises inbox.NotFound, ValueError for a question that no lab has, BuildError where an official solution does not get
    full marks, OSError for a disk that cannot be written to, RuntimeError where there is no sandbox, no scheduler or no
    gradebook; and Unfinished, which is one, where a batch that has begun has to stop.
    """
    with _crew(Settings(walls, patience), places, workers, scheduler) as crew:
        from course import batch

        return batch.run(crew, places, grading, url, lab, question)


def _crew(settings: Settings, places: Iterable[Path], workers: int | None, scheduler: str | None) -> Crew:
    """Who grades; of processes of this machine no more than there are files."""
    if scheduler:
        from course.cluster import Cluster

        return Cluster(settings, scheduler)
    number = workers or os.cpu_count() or 1
    files = itertools.chain.from_iterable(place.rglob("*") if place.is_dir() else range(number) for place in places)
    return Here(settings, max(1, len(list(itertools.islice(files, number)))))
