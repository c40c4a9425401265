"""What is to be graded, and how: all that goes to a worker. It is light, so that workers can start beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from course.kept import kept

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from course.inbox import Submission
    from course.records import Record


class Job(NamedTuple):
    """A submission to grade. lab: None if none was recognised. notes: what is said of it beforehand.

    known: marks from an earlier time that stand, by exercise. version: of the grader (see `course.fingerprints`).
    """

    submission: Submission
    lab: str | None
    notes: tuple[str, ...] = ()
    known: Mapping[str, dict] = {}
    version: str = ""


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for one cell, for one check, and for a whole submission."""

    cell: float = 300
    check: float = 60
    notebook: float = 1200


class Settings(NamedTuple):
    """How submissions are run: behind which walls (see `course.sandbox`; by default the best that a worker can make),
    and for how long."""

    walls: str | None = None
    patience: Patience = Patience()


def ungraded(job: Job, reason: str = "") -> Record:
    """The record of a submission that is not graded. Nobody has tried as long as it says "graded_by" nobody."""
    return {
        "student": job.submission.student,
        "key": job.submission.key,
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


@kept
def full(lab: str) -> NotebookNode:
    """A lab with its hidden tests."""
    from course import build

    (source,) = build.sources([lab])
    return build.read(source)


@kept
def release(lab: str) -> NotebookNode:
    """A lab as students receive it."""
    from course import build

    return build.release(full(lab))


def fulls() -> dict[str, NotebookNode]:
    return {lab: full(lab) for lab in labs()}


def releases() -> dict[str, NotebookNode]:
    return {lab: release(lab) for lab in labs()}


def labs() -> list[str]:
    from course import build

    return [source.stem for source in build.sources()]
