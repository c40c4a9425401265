"""Grade a batch of submissions: found, repaired, run in the sandbox, judged here, and entered in nbgrader's gradebook.

    handed in ── find ──> (student, file) ── repair ──> notebook ── judge ──> marks ── enter ──> gradebook
                                                                      │
                              grading/autograded/STUDENT/LAB/   the executed notebook and record.json

Submissions are independent: each is graded by one of a few workers, here or on a cluster, and written down as soon as
it is done. A second run skips those whose file and lab have not changed since, so a batch that was interrupted goes on
where it stopped. What could not be graded says why and has no marks, which is not the same as zero.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode
from nbgrader.utils import compute_checksum
from pebble import ProcessPool
from tqdm import tqdm

from course import build, gradebook, inbox, records
from course.build import is_check, is_solution
from course.inbox import Submission
from course.judge import Mark, Patience, judge
from course.records import Record
from course.repair import Unrepairable, read, recognise, repair
from course.sandbox import Sandbox, found

PR_SET_PDEATHSIG = 1
AFTER = 300  # seconds that a worker may take longer than the whole notebook may run, before it is ended


class Job(NamedTuple):
    """A submission to grade. lab: None if none was recognised. notes: what is said of it beforehand.

    known: marks from an earlier time that stand, by exercise.
    """

    submission: Submission
    lab: str | None
    notes: tuple[str, ...] = ()
    known: Mapping[str, dict] = {}


class Settings(NamedTuple):
    """How submissions are run: behind which walls (see `course.sandbox`), and for how long."""

    walls: str
    patience: Patience = Patience()


# --- grading one ------------------------------------------------------------------------------------------------------


@functools.cache
def fulls() -> dict[str, NotebookNode]:
    """Every lab with its hidden tests."""
    return {source.stem: build.read(source) for source in build.sources()}


@functools.cache
def releases() -> dict[str, NotebookNode]:
    """Every lab as students receive it."""
    return {lab: build.release(full) for lab, full in fulls().items()}


@functools.cache
def sandbox(walls: str) -> Sandbox:
    """The sandbox of this worker."""
    return Sandbox(walls=walls)


@functools.cache
def fingerprint() -> str:
    """What marks depend on, beside the submission: sources, hidden tests, checks and the grader itself."""
    digest = hashlib.sha256()
    for folder in ("course", "fmlab"):
        for path in sorted((build.ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(build.ROOT).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


def grade_one(job: Job, settings: Settings) -> tuple[Record, NotebookNode | None]:
    """The record of a submission (see `course.records`) and the notebook as it ran, if it could be graded."""
    start = time.monotonic()
    record, notebook = _ungraded(job), None
    if job.submission.problem:
        record["reason"] = job.submission.problem
    elif job.lab is None:
        record["reason"] = _unrecognised(job.submission.data)
    else:
        try:
            notebook = _mark(record, job, settings)
            record["status"] = "graded"
        except Unrepairable as failure:
            record["reason"] = str(failure)
    record["graded_by"] = fingerprint()
    record["seconds"] = round(time.monotonic() - start, 1)
    return record, notebook


def _unrecognised(data: bytes) -> str:
    """Why no lab was recognised in a file."""
    try:
        read(data, [])
    except Unrepairable as failure:
        return f"No lab was recognised: {failure}."
    return "No lab was recognised in the file."


def _ungraded(job: Job, reason: str = "") -> Record:
    return {
        "student": job.submission.student,
        "lab": job.lab,
        "file": job.submission.file,
        "sha256": job.submission.digest,
        "when": job.submission.when,
        "graded_by": "",
        "status": "ungraded",
        "reason": reason,
        "notes": list(job.notes),
        "flags": [],
        "exercises": {},
        "written": {},
    }


def _mark(record: Record, job: Job, settings: Settings) -> NotebookNode:
    """Fill in the marks of a record. Returns the executed notebook."""
    full = fulls()[job.lab]
    nb, repairs = repair(job.submission.data, releases()[job.lab])
    record["notes"] += repairs
    known = {name: Mark(entry["by"], records.verdict(entry)) for name, entry in job.known.items()}
    nb, marks = judge(sandbox(settings.walls), full, build.short(job.lab), nb, settings.patience, known)
    answers = {cell.id.removesuffix("-answer"): cell.source for cell in nb.cells if is_solution(cell)}
    for cell in nb.cells:
        grading = cell.metadata.get("nbgrader", {})
        if not grading.get("grade"):
            continue
        name, points = grading["grade_id"], float(grading["points"])
        if is_check(cell):
            by, verdict = marks[name]
            mark = {"score": 0.0 if by else points, "by": by, "verdict": asdict(verdict)}
            record["exercises"][name] = {"points": points, **mark, "answer": answers.get(name, "")}
        else:
            unanswered = grading.get("checksum") == compute_checksum(cell)
            score = 0.0 if unanswered else None
            record["written"][name] = {"points": points, "score": score, "answer": cell.source}
    return nb


# --- grading a batch --------------------------------------------------------------------------------------------------


def grade(
    places: Iterable[Path],
    results: Path,
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

    places: folders, zips, tables (see `course.inbox`). results: folder of the records. url: of nbgrader's gradebook.
    lab: only submissions of this lab; what belongs to none that is known counts as of it.
    question: an exercise whose check has changed; it alone is graded again, for all that were graded.
    workers: processes on this machine, by default one for each core. scheduler: a Dask scheduler's address, to use its
    workers instead.
    Raises inbox.NotFound, ValueError for a question that no lab has, and RuntimeError where there is no sandbox.
    """
    settings = Settings(walls or found(), patience)
    if question is not None and not any(question == cell.id for full in fulls().values() for cell in full.cells):
        raise ValueError(f"no lab has an exercise {question!r}")
    known = {(record["student"], record["lab"]): record for record in records.read(results)}
    done, jobs = [], []
    for job in chosen(inbox.find(places), lab):
        before = known.get((job.submission.student, job.lab), {})
        same = before.get("sha256") == job.submission.digest
        if before and not same and before["when"] > job.submission.when:
            print(f"{job.submission.file} of {before['student']} is older than what is graded", file=sys.stderr)
            done.append(before)
        elif question is not None and same and question in before["exercises"]:
            jobs.append(job._replace(known={k: v for k, v in before["exercises"].items() if k != question}))
        elif same and (before["graded_by"] == fingerprint() or (question is not None and before["graded_by"])):
            done.append(before)
        else:
            jobs.append(job)
    fresh = []
    pool = _on_dask(jobs, settings, scheduler) if scheduler else _here(jobs, settings, workers)
    for record, notebook in tqdm(pool, total=len(jobs), desc="grading", disable=None):
        records.write(record, results, notebook)
        fresh.append(record)
    everyone = records.ordered(done + fresh)
    gradebook.enter(everyone, releases(), url, fresh={(record["student"], record["lab"]) for record in fresh})
    return everyone


def chosen(submissions: Iterable[Submission], lab: str | None) -> list[Job]:
    """One job for each student and lab: of several notebooks the newest, which says that there were others."""
    groups: dict[tuple[str, str | None], list[Submission]] = defaultdict(list)
    for submission in submissions:
        recognised = recognise(submission.data, releases())
        if lab is None or recognised in (lab, None):
            groups[submission.student, recognised or lab].append(submission)
    jobs = []
    for (_, name), group in groups.items():
        *others, newest = sorted(
            set(group), key=lambda submission: (submission.when, submission.file, submission.digest)
        )
        notes = [f"{newest.file} is graded, the newest; also handed in: {other.file}." for other in others]
        jobs.append(Job(newest, name, tuple(notes)))
    return jobs


def _here(jobs: list[Job], settings: Settings, workers: int | None) -> Iterator[tuple[Record, NotebookNode | None]]:
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


def _on_dask(jobs: list[Job], settings: Settings, scheduler: str) -> Iterator[tuple[Record, NotebookNode | None]]:
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
            yield _ungraded(futures[future], f"The grader itself failed, and will try again: {error!r}"), None
            continue
        if record["graded_by"] != fingerprint():
            raise RuntimeError("a worker has another version of fmlab or course than this machine; update it first")
        yield record, notebook
