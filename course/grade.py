"""Grade a batch of submissions: found, repaired, run in the sandbox, judged here, and entered in nbgrader's gradebook.

    handed in ── find ──> (student, file) ── repair ──> notebook ── judge ──> marks ── enter ──> gradebook
                                                                      │
                              grading/autograded/STUDENT/LAB/   the executed notebook and record.json

Submissions are independent: each is graded by one of a few workers, here or on a cluster, and written down as soon as
it is done. A second run skips those whose file and lab have not changed since, so a batch that was interrupted goes on
where it stopped. What could not be graded says why and has no marks, which is not the same as zero.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from course import gradebook, inbox, records
from course.inbox import Submission
from course.judge import Patience
from course.marking import Job, Settings, fingerprint, fulls, releases
from course.records import Record
from course.repair import recognise
from course.sandbox import found
from course.workers import here, on_dask


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
    pool = on_dask(jobs, settings, scheduler) if scheduler else here(jobs, settings, workers)
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
