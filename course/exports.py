"""Marks for other systems: spreadsheets, Canvas, Moodle and Gradescope.

What has no score yet is left empty, never 0. Students' words stay words: no cell of a table is a formula.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from course.marks import GRADED, UNGRADED, Item, for_student, items, out_of, scores, status, total, worth
from course.pages import clean, number
from course.records import Record, by_lab, ordered

SYSTEMS = ("csv", "canvas", "moodle", "gradescope")

Row = Mapping[str, str]  # of a table that another system exported, by column
Roster = Mapping[str, Row]  # by student, as named in the records


def write(records: Iterable[Record], to: str, folder: Path, roster: Path | None = None) -> list[Path]:
    """Write the marks in each lab for one of SYSTEMS. Returns the files.

    roster: the table that Canvas or Moodle exported, of which these look up students and keep the columns. Who has no
    mark in the files yet, and who is not in the roster, is named on stderr.

    Raises ValueError if the roster is no file or has none of the students.
    """
    records = list(records)
    if roster and not roster.is_file():
        raise ValueError(f"the roster {roster} is not a file")
    rows = read_roster(roster.read_bytes()) if roster else []
    students = match({record["student"] for record in records}, rows)
    if roster and not students:
        raise ValueError(f"{roster} has none of the students; its columns are: {', '.join(columns(rows)) or 'none'}")
    written = []
    for lab, mine in by_lab(records).items():
        for name, text in _files(mine, lab, to, rows, students).items():
            written.append(folder / name)
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            written[-1].write_text(text, encoding="utf-8")
        _say(f"{lab}: no mark yet", [f"{r['student']} ({status(r)})" for r in mine if status(r) != GRADED])
        _say(f"{lab}: not in the roster", [r["student"] for r in mine if roster and r["student"] not in students])
    _say("no lab was recognised", [f"{r['student']} ({r.get('file', '')})" for r in records if not r["lab"]])
    return written


def _files(records: Sequence[Record], lab: str, to: str, rows: Sequence[Row], students: Roster) -> dict[str, str]:
    """The text of each file, by its name."""
    if to == "gradescope":
        graded = [record for record in records if status(record) != UNGRADED]
        return {f"{lab}/{record['student']}/results.json": to_gradescope(record) for record in graded}
    if to == "moodle":
        return {f"{lab}.moodle.csv": to_moodle(records, students)}
    if to == "canvas":
        return {f"{lab}.canvas.csv": to_canvas(records, canvas_column(lab, rows), students)}
    return {f"{lab}.csv": to_csv(records)}


def _say(what: str, names: Sequence[str]) -> None:
    if names:
        print(f"{what}: {', '.join(names)}", file=sys.stderr)


# --- rosters ----------------------------------------------------------------------------------------------------------


def read_roster(data: bytes) -> list[Row]:
    """The rows of a table as Canvas, Moodle or a spreadsheet saves it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval=""))


def columns(rows: Sequence[Row]) -> list[str]:
    return [column for column in (rows[0] if rows else ()) if column is not None]


def match(students: Iterable[str], rows: Sequence[Row]) -> dict[str, Row]:
    """The row of each student, by the column that has most of them; none of those that two rows may stand for.

    A student's name comes from that of a file, in which "Ek, Anna" is ekanna and "O'Neill" is O_Neill.
    """
    keys = {student: _key(student) for student in students}
    best: dict[str, Row] = {}
    for column in columns(rows):
        counts = Counter(_key(row[column]) for row in rows)
        found = {_key(row[column]): row for row in rows if counts[_key(row[column])] == 1}
        known = {student: found[key] for student, key in keys.items() if key and key in found}
        best = max(best, known, key=len)
    return best


def _key(name: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name)).casefold()


# --- spreadsheets -----------------------------------------------------------------------------------------------------


def to_csv(records: Iterable[Record]) -> str:
    """A line per student: every score, the total, and whether it was graded."""
    records = ordered(records)
    names = list(worth(records))
    rows: list[list[Any]] = [["student", "status", *names, "total", "out of", "reason"]]
    for record in records:
        found, most = scores(record), out_of(record) if status(record) != UNGRADED else None
        marks = [found.get(name) for name in names]
        rows.append([record["student"], status(record), *marks, total(record), most, record.get("reason", "")])
    return _table(rows)


def _table(rows: Iterable[Iterable[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _cell(value: str | float | None) -> str:
    """A number, or text that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return number(value)
    text = clean(value)
    formula = text.startswith(("\t", "\n")) or text.lstrip().startswith(tuple("=+-@＝＋－＠"))
    return "'" + text if formula else text


# --- Canvas -----------------------------------------------------------------------------------------------------------

CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


def to_canvas(records: Iterable[Record], assignment: str, roster: Roster | None = None) -> str:
    """The gradebook that Canvas imports (Grades → Import).

    assignment: its name and, in brackets, its number in Canvas: "Lab 1 (1234)". roster: from the gradebook that Canvas
    exports, so that students are found by their ID there; without it the name in the records is their login.
    """
    records, roster = ordered(records), roster or {}
    most = max(map(out_of, records), default=0) or None
    rows = [[*CANVAS, assignment], ["    Points Possible", "", "", "", "", most]]
    for record in records:
        student = roster.get(record["student"], {"Student": record["student"], "SIS Login ID": record["student"]})
        rows.append([*(student.get(column, "") for column in CANVAS), total(record)])
    return _table(rows)


def canvas_column(lab: str, rows: Sequence[Row]) -> str:
    """The assignment in an exported gradebook that has the lab's number; the lab's own name if none or several have."""
    numbered = re.compile(rf"\blab\W*0*{lab.split('_')[0].removeprefix('lab')}\b", re.IGNORECASE)
    found = [column for column in columns(rows) if numbered.search(column)]
    return found[0] if len(found) == 1 else lab


# --- Moodle -----------------------------------------------------------------------------------------------------------


def to_moodle(records: Iterable[Record], roster: Roster | None = None) -> str:
    """Grades and comments for Moodle.

    roster: from the grading worksheet of the assignment, as Moodle exports it; its columns are kept, and it goes back
    in with "Upload grading worksheet". Without it, "Grades → Import → CSV file" reads the table; choose the column that
    tells who a student is.
    """
    records, roster = ordered(records), roster or {}
    kept = next(iter(roster.values()), {"Identifier": "", "Email address": ""})
    header = [*(name for name in kept if name not in ("Grade", "Feedback comments")), "Grade", "Feedback comments"]
    rows: list[list[Any]] = [header]
    for record in records:
        email = record["student"] if "@" in record["student"] else ""
        row = roster.get(record["student"], {"Identifier": record["student"], "Email address": email})
        row = {**row, "Grade": total(record), "Feedback comments": _comments(record)}
        rows.append([row.get(column, "") for column in header])
    return _table(rows)


def _comments(record: Record) -> str:
    """A line for each question, as Moodle shows it."""
    if total(record) is None:
        return ""
    lines = [_comment(name, item) for name, item in items(record).items()]
    return "<br>".join(html.escape(line) for line in [*lines, *record.get("notes", [])])


def _comment(name: str, item: Item) -> str:
    words = for_student(item).split("\n")[0].removeprefix(f"✗ {name}: ")
    told = [f"{name}: {number(item['score'])} of {number(item['points'])}", words, item.get("comment", "")]
    return ". ".join(words.rstrip(".") for words in told if words)


# --- Gradescope -------------------------------------------------------------------------------------------------------


def to_gradescope(record: Record) -> str:
    """The results.json of a Gradescope autograder. Hidden tests are not in it, for students can read it.

    Raises ValueError for an ungraded submission: Gradescope needs a score, and it has none.
    """
    if status(record) == UNGRADED:
        raise ValueError(f"{record['student']} was not graded: {record.get('reason', '')}")
    known = {name: item for name, item in items(record).items() if item["score"] is not None}
    waiting = [f"{name} waits for a person." for name in items(record) if name not in known]
    results = {
        "score": sum(item["score"] for item in known.values()),
        "execution_time": record.get("seconds", 0),
        "output": clean("\n".join([*record.get("notes", []), *waiting])),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": [_test(name, item) for name, item in known.items()],
    }
    return json.dumps(results, ensure_ascii=False, indent=1) + "\n"


def _test(name: str, item: Item) -> dict[str, Any]:
    return {
        "name": name,
        "score": item["score"],
        "max_score": item["points"],
        "status": "passed" if item["score"] else "failed",
        "output": clean("\n\n".join(filter(None, [for_student(item), item.get("comment", "")]))),
        "output_format": "text",
        "visibility": "visible",
    }
