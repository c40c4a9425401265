"""Grade a batch of submissions: found, repaired, run in the sandbox, judged here, and entered in nbgrader's gradebook.

    handed in ── find ──> (student, file) ── repair ──> notebook ── judge ──> marks ── enter ──> gradebook
                                                                      │
                 grading/records/STUDENT/LAB.json, and in grading/autograded/STUDENT/LAB/ the executed notebook

Workers start first, here or on a cluster; what they are given to do is found out meanwhile, in `course.batch`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from course import kept
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
    files = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    seen, view = grading / "kept" / "seen.json", _view(files, lab)
    at_once = question is not None or _text(seen) != view
    with _crew(Settings(walls, patience), files, workers, scheduler, at_once) as crew:
        from course import batch

        found = batch.run(crew, places, grading, url, lab, question)
    if all(record["graded_by"] for record in found):
        with contextlib.suppress(OSError):
            seen.parent.mkdir(exist_ok=True)
            seen.write_text(view)
    return found


def _view(files: Iterable[Path], lab: str | None) -> str:
    """A digest of what a batch looks at. Where it is as it was for the last one, there is most likely nothing to grade,
    and no worker starts unless there is."""
    looks = [(str(path), status.st_size, status.st_mtime_ns) for path in files if (status := _status(path))]
    return json.dumps(hashlib.sha256(repr([lab, kept.state(), looks]).encode()).hexdigest())


def _status(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return path.lstat()
    return None


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def _crew(settings: Settings, files: Iterable[Path], workers: int | None, scheduler: str | None, at_once: bool) -> Crew:
    """Who grades; of processes of this machine no more than there are notebooks. How many are in other files, and
    whether they are notebooks, is found out later."""
    if scheduler:
        from course.cluster import Cluster

        return Cluster(settings, scheduler)
    number = workers or os.cpu_count() or 1
    most = sum(1 if path.suffix == ".ipynb" else number for path in files if path.is_file())
    return Here(settings, min(number, max(1, most)), at_once)
