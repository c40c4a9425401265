"""Grading one submission: its record and the notebook as it ran.

(student, file) ── repair ──> notebook ── judge ──> marks ──> record
"""

from __future__ import annotations

import time
from dataclasses import asdict

from nbformat import NotebookNode

from course import jobs, records
from course.build import is_check, is_solution, short
from course.early import sandbox
from course.jobs import Job, Settings
from course.judge import Mark, judge
from course.records import Record
from course.repair import Unrepairable, repair


def grade_one(job: Job, settings: Settings) -> tuple[Record, NotebookNode | None]:
    """The record of a submission (see `course.records`) and the notebook as it ran, if it could be graded."""
    start = time.monotonic()
    record, notebook = jobs.ungraded(job), None
    if job.submission.problem:
        record["reason"] = job.submission.problem
    else:
        try:
            notebook = _mark(record, job, settings)
            record["status"] = "graded"
        except Unrepairable as failure:
            record["reason"] = str(failure)
    record["graded_by"] = job.version
    record["seconds"] = round(time.monotonic() - start, 1)
    return record, notebook


def _mark(record: Record, job: Job, settings: Settings) -> NotebookNode:
    """Fill in the marks of a record. Returns the executed notebook."""
    full, release = jobs.full(job.lab), jobs.release(job.lab)
    nb, repairs = repair(job.submission.data, release)
    known = {name: Mark(entry["by"], records.verdict(entry)) for name, entry in job.known.items()}
    judged = judge(sandbox(settings.walls), full, short(job.lab), nb, settings.patience, known)
    record["notes"] += [*repairs, *judged.notes]
    blank = {cell.id: cell.source for cell in release.cells}
    answers = {cell.id.removesuffix("-answer"): cell.source for cell in judged.notebook.cells if is_solution(cell)}
    for cell in judged.notebook.cells:
        grading = cell.metadata.get("nbgrader", {})
        if not grading.get("grade"):
            continue
        name, points = grading["grade_id"], float(grading["points"])
        if is_check(cell):
            by, verdict = judged.marks[name]
            mark = {"score": 0.0 if by else points, "by": by, "verdict": asdict(verdict)}
            record["exercises"][name] = {"points": points, **mark, "answer": answers.get(name, "")}
        else:
            score = 0.0 if cell.source == blank[cell.id] else None
            record["written"][name] = {"points": points, "score": score, "answer": cell.source}
    return judged.notebook
