"""What was handed in: notebooks in a folder, a zip or a table, and whose each of them is.

    a folder or a zip    as Moodle, Canvas, Gradescope and nbgrader name what is in it, or with a folder or a file for
                         each student
    a table (.csv)       with columns "student" and "path"; paths are relative to the table

What was handed in and cannot be read, a link or a folder without a notebook, is a submission as well, with a reason, so
that nobody is forgotten.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import mktime
from typing import NamedTuple

import yaml

from course.repair import MOST_BYTES


class NotFound(ValueError):
    """A place with submissions cannot be read; the message says what to do."""


class Submission(NamedTuple):
    """A notebook that a student handed in. when: its time stamp. problem: why it cannot be read; "" if it can."""

    student: str
    file: str
    data: bytes
    when: float = 0.0
    problem: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class Found(NamedTuple):
    """A file by its path below the place where it was found."""

    path: tuple[str, ...]
    data: bytes
    when: float
    problem: str = ""


def find(places: Iterable[Path]) -> list[Submission]:
    """The submissions in all these places, in a fixed order. Raises NotFound."""
    return [submission for place in places for submission in _in(place)]


def _in(place: Path) -> list[Submission]:
    if not place.exists():
        raise NotFound(f"{place}: there is no such folder or file.")
    if place.suffix.lower() == ".csv":
        return list(_listed(place))
    if place.is_dir():
        files = list(_in_folder(place))
    elif zipfile.is_zipfile(place):
        files = list(_unzipped(place))
    else:
        raise NotFound(f"{place}: neither a folder, nor a zip, nor a table (.csv) of submissions.")
    return list(_named(*_without_cover(files, place.stem)))


# --- files ------------------------------------------------------------------------------------------------------------


def _in_folder(folder: Path) -> Iterator[Found]:
    for parent, folders, names in os.walk(folder):  # which does not follow links
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            parts = path.relative_to(folder).parts
            if path.is_symlink() or not path.is_file():
                yield Found(
                    parts, b"", 0.0, "It is a link or a device, which is not followed; hand in the file itself."
                )
            else:
                yield Found(parts, _bytes(path.open("rb"), name), path.stat().st_mtime)


def _unzipped(archive: Path) -> Iterator[Found]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            parts = tuple(part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".", ".."))
            if info.is_dir() or not parts or any(part.startswith((".", "__MACOSX")) for part in parts[:-1]):
                continue
            when = mktime((*info.date_time, 0, 0, -1))
            try:
                yield Found(parts, _bytes(opened.open(info), parts[-1]), when)
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, ValueError) as error:
                yield Found(parts, b"", when, f"It could not be unpacked: {error}")


def _bytes(file, name: str) -> bytes:
    """What is in a file that is of use: a notebook, up to a byte more than the most that is read."""
    with file:
        return file.read(MOST_BYTES + 1) if name.endswith((".ipynb", ".yml")) else b""


def _listed(table: Path) -> Iterator[Submission]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"student", "path"} <= set(rows.fieldnames or ()):
            raise NotFound(f'{table}: the first line must name the columns "student" and "path".')
        for row in rows:
            path = table.parent / (row["path"] or "").strip()
            if not (row["student"] or "").strip() or not path.is_file():
                raise NotFound(f"{table}, line {rows.line_num}: no student, or no file {path}.")
            yield Submission(plain(row["student"]), path.name, _bytes(path.open("rb"), ".ipynb"), path.stat().st_mtime)


# --- whose they are ---------------------------------------------------------------------------------------------------

MOODLE = re.compile(r"(.+)_\d+_assignsubmission_file_?$")
CANVAS = re.compile(r"([^_]+)(?:_LATE)?_(\d+)_\d+_.+$")
GRADESCOPE = re.compile(r"assignment_\d+_export$")


def _without_cover(files: list[Found], name: str) -> tuple[list[Found], dict[str, str]]:
    """The files without a folder around them all that is nobody's, and the e-mail addresses of Gradescope's export."""
    covers = {file.path[0] if len(file.path) > 1 else "" for file in files}
    if len(covers) == 1 and (GRADESCOPE.match(cover := covers.pop()) or cover == name):
        files = [file._replace(path=file.path[1:]) for file in files]
    emails: dict[str, str] = {}
    for file in files:
        if file.path == ("submission_metadata.yml",):
            emails = _emails(file.data)
    return [file for file in files if file.path != ("submission_metadata.yml",)], emails


def _emails(metadata: bytes) -> dict[str, str]:
    try:
        entries = yaml.safe_load(metadata)
        return {folder: entry[":submitters"][0][":email"] for folder, entry in entries.items()}
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError, ValueError):
        return {}


def _named(files: list[Found], emails: dict[str, str]) -> Iterator[Submission]:
    """The notebooks among the files, and whose they are. Two people of one name are told apart."""
    owners: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for file in sorted(files):
        owners[student(file.path, emails)].append(file)
    names = [name for name, _ in owners]
    for (name, key), mine in owners.items():
        if names.count(name) > 1:
            name += "-" + hashlib.sha256(key.encode()).hexdigest()[:8]
        notebooks = [file for file in mine if file.path[-1].endswith(".ipynb")]
        yield from (Submission(name, file.path[-1], *file[1:]) for file in notebooks)
        if not notebooks and (len(mine[0].path) > 1 or CANVAS.match(mine[0].path[0])):
            others = ", ".join(file.path[-1] for file in mine[:5])
            yield Submission(name, others, b"", problem=f"There is no notebook (.ipynb) among: {others}.")


def student(path: tuple[str, ...], emails: Mapping[str, str] = {}) -> tuple[str, str]:
    """Whose file it is, by its path: a name, and what tells two people of the same name apart."""
    first, file = path[0], path[-1]
    if len(path) > 1:
        moodle = MOODLE.match(first)
        return plain(moodle[1] if moodle else emails.get(first, first)), first
    canvas = CANVAS.match(file)
    return (plain(canvas[1]), canvas[2]) if canvas else (plain(Path(file).stem), Path(file).stem)


def plain(name: str) -> str:
    """A name that is safe as that of a folder."""
    return re.sub(r"[^\w .@+-]", "_", unicodedata.normalize("NFC", name)).strip(". ")[:80].strip(". ") or "_"
