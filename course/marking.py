"""Grading one submission: its record and the notebook as it ran.

(student, file) ── repair ──> notebook ── judge ──> marks ──> record
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

from nbformat import NotebookNode
from nbgrader.utils import compute_checksum

from course import build, records
from course.build import is_check, is_solution
from course.inbox import Submission
from course.judge import Mark, Patience, judge
from course.records import Record
from course.repair import Unrepairable, read, repair
from course.sandbox import Sandbox


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
    record, notebook = ungraded(job), None
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


def ungraded(job: Job, reason: str = "") -> Record:
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
