"""A batch from the inbox to the gradebook, whoever grades.

Submissions are independent: each is graded by one worker, and written down as soon as it is done. A second run skips
those whose file and lab have not changed since, so a batch that was interrupted goes on where it stopped. What could
not be graded says why and has no marks, which is not the same as zero; where the grader itself failed, what was graded
before stands.

All that could stop a batch is tried before the first student: the disk, the gradebook, the walls, and whether the
official solutions get full marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nbformat import NotebookNode
from tqdm import tqdm

from course import build, edition, folders, gradebook, inbox, records, vouch, worth
from course.failures import begun
from course.fingerprints import fingerprint
from course.inbox import roster, table
from course.jobs import Job, fulls, releases
from course.records import Record
from course.workers import Crew

Known = Mapping[tuple[str, "str | None"], Record]  # records by student and lab


def run(
    crew: Crew, places: Iterable[Path], grading: Path, url: str, lab: str | None = None, question: str | None = None
) -> list[Record]:
    """Grade what is not graded yet, and enter all of it; see `course.grade`."""
    lab = build.sources([lab])[0].stem if lab else None
    if question is not None and not any(question == cell.id for full in fulls().values() for cell in full.cells):
        raise ValueError(f"no lab has an exercise {question!r}")
    records.prepare(grading)
    gradebook.prepare(releases(), url)
    known = {(record["student"], record["lab"]): record for record in records.read(grading)}
    found = inbox.find(places, roster.remembered(grading), releases(), known.values())
    chosen = inbox.choose(found, releases(), lab, known)
    done, jobs = split((Job(*choice) for choice in chosen.choices), known, question)
    everyone = records.ordered([*chosen.stand, *done, *graded(crew, jobs, known, grading)])
    with begun(lambda: "All marks are written down; that they are all in the gradebook is still open."):
        standing = {(record["student"], record["sha256"]) for record in everyone}
        folders.keep((c for c in chosen.choices if (c.submission.student, c.submission.digest) in standing), grading)
        folders.release({choice.lab for choice in chosen.choices if choice.lab}, grading)
        terms = edition.current()
        gradebook.enter(worth.settled(worth.weighed(everyone, terms), terms), worth.announced(releases(), terms), url)
        table.keep(chosen.rows, everyone, grading)
    return everyone


def split(chosen: Iterable[Job], known: Known, question: str | None) -> tuple[list[Record], list[Job]]:
    """The records of what is graded already, and what is to be graded."""
    done, jobs = [], []
    for job in chosen:
        job = job._replace(version=fingerprint(job.lab))
        before = known.get((job.submission.student, job.lab), {})
        same = before.get("sha256") == job.submission.digest
        if question is not None and same and question in before["exercises"]:
            jobs.append(job._replace(known={k: v for k, v in before["exercises"].items() if k != question}))
        elif same and (before["graded_by"] == job.version or (question is not None and before["graded_by"])):
            done.append(before)
        else:
            jobs.append(job)
    return done, jobs


def graded(crew: Crew, jobs: list[Job], known: Known, grading: Path) -> list[Record]:
    """The records of jobs, written down. Raises Unfinished where only some of them came."""
    fresh: list[Record] = []
    new = vouch.unknown({job.lab for job in jobs if job.lab})
    with begun(lambda: f"{len(fresh)} of {len(jobs)} were graded, and are written down." if fresh else ""):
        for each in tqdm(crew.grade(jobs, list(new)), total=len(jobs), desc="grading", disable=None):
            fresh.append(written(*each, known, grading))
    vouch.remember(new)
    return fresh


def written(record: Record, notebook: NotebookNode | None, known: Known, grading: Path) -> Record:
    """The record that stands from now on, once it is written down."""
    before = known.get((record["student"], record["lab"]), {"status": ""})
    if records.failed(record) and before["status"] == "graded":
        record = records.kept(before, record)
        records.write_alone(record, grading)
    else:
        records.write(record, grading, notebook)
    return record
