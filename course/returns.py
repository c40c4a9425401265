"""Feedback back to students, through the system that their work came from: a zip for each lab, to be uploaded there.

Moodle (assignment → View all submissions → Upload multiple feedback files in a zip) finds a student by a folder or file
NAME_NUMBER_assignsubmission_file_…; Canvas (assignment → Upload Submissions) by a file NAME_USER_FILE_….
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from course import records
from course.feedback import feedback
from course.inbox import table
from course.inbox.table import Row
from course.records import Record

MOODLE = re.compile(r"^([^/]+_\d+_assignsubmission_[a-z]+)(?:_|/|$)")
CANVAS = re.compile(r"^([^/_]+(?:_(?i:late))?_\d+_\d+_[^/]*?)(?:\.ipynb)?$", re.IGNORECASE)
EPOCH = (1980, 1, 1, 0, 0, 0)


def places(found: Iterable[Record], rows: Iterable[Row], to: str) -> tuple[dict[str, Record], list[Record]]:
    """Where each page goes in the zip for "moodle" or "canvas", and the records whose files did not come from there.

    rows: what became of all that came in, where files have their whole names. Of a group, which handed in one file, the
    page is that of one of its members.
    """
    names = {(row.student, row.lab): row.file for row in rows if row.outcome == table.GRADED}
    at: dict[str, Record] = {}
    strangers = []
    for record in records.ordered(found):
        place = _place(names.get((record["student"], record["lab"]), ""), record["lab"], to)
        if place:
            at.setdefault(place, record)
        else:
            strangers.append(record)
    return at, strangers


def _place(name: str, lab: str, to: str) -> str:
    """Where the page of a file of this name goes; "" if it did not come from there."""
    parts = name.split("/")
    if to == "moodle":
        found = next(filter(None, map(MOODLE.match, parts)), None)
        return f"{found[1]}_/{lab}.html" if found else ""
    found = CANVAS.match(parts[-1])
    return f"{found[1]}.html" if found else ""


def archive(at: Mapping[str, Record], results: Path) -> bytes:
    """The zip. results: where the notebooks of the records are (see `course.records`)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for place in sorted(at):
            page = feedback(at[place], records.read_notebook(at[place], results))
            opened.writestr(zipfile.ZipInfo(place, EPOCH), page, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def write(
    found: Iterable[Record], rows: Sequence[Row], to: str, folder: Path, results: Path
) -> tuple[list[Path], dict[str, list[str]]]:
    """Write LAB.feedback.TO.zip for each lab. Returns the files, and by lab the students whose pages are in no zip,
    since their work did not come through that system."""
    written, missing = [], {}
    for lab, mine in records.by_lab(found).items():
        at, strangers = places(mine, rows, to)
        if strangers:
            missing[lab] = [record["student"] for record in strangers]
        if at:
            folder.mkdir(parents=True, exist_ok=True)
            written.append(folder / f"{lab}.feedback.{to}.zip")
            written[-1].write_bytes(archive(at, results))
    return written, missing
