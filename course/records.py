"""The record of a submission: what the grader writes down about it, and all that reports and exports are made from.

records/STUDENT/LAB.json            the record; LAB is "unknown" where none was found
autograded/STUDENT/LAB/LAB.ipynb    the notebook as it ran, beside which nbgrader copies all to students' feedback

student, lab, file, sha256     whose it is, of which lab (or null), and what was handed in
graded_by                      the fingerprint of the grader that wrote it; "" if the grader itself failed
status, reason                 "graded", or "ungraded" and why; an ungraded submission has no scores
notes, flags                   sentences: what was repaired; what a person should look at
exercises                      name → points, score, by, verdict, answer; by and verdict: see `course.judge.Mark`
written                        name → points, score, answer; score: null until a person has marked it
seconds                        how long it took to grade
open                           where it is there: why something handed in later is not graded yet
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from fmlab.checks.verdict import Verdict

Record = dict[str, Any]
ROOM = 2**20  # bytes that there must be on the disk before anything is graded


def place(record: Record, root: Path) -> Path:
    """The folder for a record under a root: STUDENT/LAB."""
    return root / record["student"] / (record["lab"] or "unknown")


def write(record: Record, grading: Path, notebook: NotebookNode | None = None) -> None:
    """Write down a record and the notebook as it ran; where none ran, an earlier one goes."""
    path = _notebook(record, grading)
    if notebook is None:
        path.unlink(missing_ok=True)
    else:
        _replace(path, nbformat.writes(notebook))
    write_alone(record, grading)


def write_alone(record: Record, grading: Path) -> None:
    """Write down a record; the notebook stays."""
    folder = place(record, grading / "records")
    _replace(folder.with_name(f"{folder.name}.json"), json.dumps(record, ensure_ascii=False, indent=1))


def read_notebook(record: Record, grading: Path) -> NotebookNode | None:
    """The notebook of a record as it ran, if it did."""
    path = _notebook(record, grading)
    return nbformat.read(path, as_version=4) if path.exists() else None


def _notebook(record: Record, grading: Path) -> Path:
    folder = place(record, grading / "autograded")
    return folder / f"{folder.name}.ipynb"


def read(grading: Path, lab: str = "*") -> list[Record]:
    """The records of a lab, or of all, by student. One that is not whole is named on stderr and skipped."""
    found = []
    for path in sorted(Path(grading).glob(f"records/*/{lab}.json")):
        try:
            found.append(_whole(json.loads(path.read_bytes())))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            print(f"{path}: skipped, not a whole record ({error}); grade this submission again", file=sys.stderr)
    return found


def prepare(grading: Path) -> None:
    """Make the place for records, and see that it can be written to. Raises OSError.

    Where an earlier version kept records, which nbgrader copies into students' feedback, and where a grader that was
    killed left half a file, there is none any more.
    """
    (grading / "records").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=grading / "records") as file:
        file.write(bytes(ROOM))
    for path in grading.glob("autograded/*/*/record.json"):
        target = grading / "records" / path.parts[-3] / f"{path.parts[-2]}.json"
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            os.replace(path, target)
    for pattern in ("autograded/*/*/record.json*", "autograded/*/*/*.part", "feedback/*/*/record.json*"):
        for path in grading.glob(pattern):
            path.unlink()


def failed(record: Record) -> bool:
    """Whether the grader itself failed, so that the record says nothing of what was handed in."""
    return record["status"] != "graded" and not record.get("graded_by")


def kept(before: Record, failure: Record) -> Record:
    """A graded record, which stands although the grader failed over what was handed in later, and says so; or over the
    same once more, which is then tried again."""
    words = f"{failure['file']} is not graded yet, and earlier marks stand. {failure['reason']}"
    again = {"graded_by": ""} if before["sha256"] == failure["sha256"] else {}
    return before | {"open": words} | again


def unfinished(record: Record) -> str:
    """Why something of a record is open since the grader itself failed; "" if nothing is."""
    return record["reason"] if failed(record) else record.get("open", "")


def verdict(exercise: Mapping[str, Any]) -> Verdict:
    """The verdict on an exercise of a record."""
    return Verdict(**exercise["verdict"])


def ordered(records: Iterable[Record]) -> list[Record]:
    """By student; always the same order of the same records, however they came."""
    return sorted(records, key=lambda record: (record["student"], json.dumps(record, sort_keys=True)))


def by_lab(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each lab; those of no lab that was recognised are in none."""
    records = ordered(records)
    labs = sorted({record["lab"] for record in records if record["lab"]})
    return {lab: [record for record in records if record["lab"] == lab] for lab in labs}


def _whole(record: Any) -> Record:
    if not isinstance(record, dict) or not isinstance(record.get("student"), str) or "status" not in record:
        raise ValueError("it names no student or no status")
    for exercise in record.get("exercises", {}).values():
        verdict(exercise)
    return record


def _replace(path: Path, text: str) -> None:
    """Write all of a file or nothing, also when the grader is killed here.

    Half a character (a lone surrogate, which students can print) is no UTF-8; its escape is JSON for the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    os.replace(part, path)
