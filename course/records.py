"""The record of a submission: what the grader writes down about it, and all that reports and exports are made from.

results/STUDENT/LAB/ holds the notebook as it ran, LAB.ipynb, and record.json. LAB is "unknown" where none was found.

    student, lab, file, sha256     whose it is, of which lab (or null), and what was handed in
    graded_by                      the fingerprint of the grader that wrote it
    status, reason                 "graded", or "ungraded" and why; an ungraded submission has no scores
    notes, flags                   sentences: what was repaired; what a person should look at
    exercises                      name → points, score, by, verdict, answer; by and verdict: see `course.judge.Mark`
    written                        name → points, score, answer; score: null until a person has marked it
    seconds                        how long it took to grade
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from fmlab.checks.verdict import Verdict

Record = dict[str, Any]


def place(record: Record, root: Path) -> Path:
    """The folder for a record under a root: STUDENT/LAB."""
    return root / record["student"] / (record["lab"] or "unknown")


def write(record: Record, results: Path, notebook: NotebookNode | None = None) -> None:
    """Write down a record and the notebook as it ran; where none ran, an earlier one goes."""
    folder = place(record, results)
    folder.mkdir(parents=True, exist_ok=True)
    if notebook is None:
        (folder / f"{folder.name}.ipynb").unlink(missing_ok=True)
    else:
        _replace(folder / f"{folder.name}.ipynb", nbformat.writes(notebook))
    _replace(folder / "record.json", json.dumps(record, ensure_ascii=False, indent=1))


def read_notebook(record: Record, results: Path) -> NotebookNode | None:
    """The notebook of a record as it ran, if it did."""
    folder = place(record, results)
    path = folder / f"{folder.name}.ipynb"
    return nbformat.read(path, as_version=4) if path.exists() else None


def read(results: Path, lab: str = "*") -> list[Record]:
    """The records of a lab, or of all, by student. One that is not whole is named on stderr and skipped."""
    found = []
    for path in sorted(Path(results).glob(f"*/{lab}/record.json")):
        try:
            found.append(_whole(json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            print(f"{path}: skipped, not a whole record ({error}); grade this submission again", file=sys.stderr)
    return found


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
    part = path.with_name(path.name + ".part")
    part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    os.replace(part, path)
