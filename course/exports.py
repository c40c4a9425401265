"""Marks for other systems: spreadsheets, Canvas, Moodle and Gradescope.

What has no score yet is left empty, never 0. Students' words stay words: no cell of a table is a formula.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from course import tables
from course.inbox.roster import Person, Register, Roster, read
from course.marks import (
    GRADED,
    UNGRADED,
    Item,
    for_student,
    handed_in,
    items,
    late,
    lost,
    out_of,
    scores,
    status,
    total,
    worth,
)
from course.pages import clean, line, number
from course.records import Record, by_lab, ordered
from course.tables import Row

MISSING = "did not hand in"
SYSTEMS = ("csv", "canvas", "moodle", "gradescope")

NOBODY = Register(Roster(), [])


def write(records: Iterable[Record], to: str, folder: Path, roster: Path | None = None) -> list[Path]:
    """Write the marks in each lab for one of SYSTEMS. Returns the files.

    roster: the table that Canvas or Moodle exported, of which these look up students and keep the columns. Who has no
    mark in the files yet, and who is not in the roster, is named on stderr.

    Raises ValueError if the roster is no file or has none of the students.
    """
    records = list(records)
    register = Register(read(roster), records) if roster else NOBODY
    if roster and len(register.strangers(students(records))) == len(students(records)):
        known = ", ".join(tables.columns(register.roster.rows))
        raise ValueError(f"{roster} has none of the students; its columns are: {known}")
    written = []
    for lab, mine in by_lab(records).items():
        for name, text in _files(mine, lab, to, register).items():
            written.append(folder / name)
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            written[-1].write_text(text, encoding="utf-8")
        _say(f"{lab}: no mark yet", [f"{r['student']} ({status(r)})" for r in mine if status(r) != GRADED])
        _say(f"{lab}: not in the roster", register.strangers(students(mine)))
        _say(f"{lab}: did not hand in", [person.name for person in register.missing(students(mine))])
    for doubt in register.doubts:
        print(line(doubt), file=sys.stderr)
    _say("no lab was recognised", [f"{r['student']} ({r.get('file', '')})" for r in records if not r["lab"]])
    return written


def students(records: Iterable[Record]) -> list[str]:
    return sorted({record["student"] for record in records})


def with_lost(records: Iterable[Record], register: Register, lost: Iterable[Record]) -> list[Record]:
    """The records, and where there is a roster those of other students whose files are of no lab that is known."""
    records = ordered(records)
    there = students(records)
    return records + [record for record in ordered(lost) if register.roster and record["student"] not in there]


def _files(records: Sequence[Record], lab: str, to: str, register: Register) -> dict[str, str]:
    """The text of each file, by its name."""
    if to == "gradescope":
        graded = [record for record in records if status(record) != UNGRADED]
        return {f"{lab}/{record['student']}/results.json": to_gradescope(record) for record in graded}
    if to == "moodle":
        return {f"{lab}.moodle.csv": to_moodle(records, register)}
    if to == "canvas":
        return {f"{lab}.canvas.csv": to_canvas(records, canvas_column(lab, register.roster.rows), register)}
    return {f"{lab}.csv": to_csv(records, register)}


def _say(what: str, names: Sequence[str]) -> None:
    if names:
        print(line(f"{what}: {', '.join(names)}"), file=sys.stderr)


# --- spreadsheets -----------------------------------------------------------------------------------------------------


def to_csv(records: Iterable[Record], register: Register = NOBODY, lost: Iterable[Record] = ()) -> str:
    """A line per student: every score, the total, and whether it was graded.

    register: of a roster, of which all are in the table, each with the name and section or group. lost: records of
    files of which no lab was recognised; with a roster they are in the table, for these students did hand in.
    """
    records = with_lost(records, register, lost)
    names = list(worth(records))
    who = ["name", "section"] if register.roster else []
    rows: list[list[Any]] = [["student", *who, "status", *names, "total", "out of", "handed in", "late", "reason"]]
    for record in records:
        found, most = scores(record), out_of(record) if status(record) != UNGRADED else None
        marks = [found.get(name) for name in names]
        person = register.person(record["student"]) or Person()
        about = [person.name, person.section] if who else []
        told = [*marks, total(record), most, handed_in(record), late(record), record.get("reason", "")]
        rows.append([record["student"], *about, status(record), *told])
    for person in register.missing(students(records)):
        rows.append([person.key, person.name, person.section, MISSING, *[None] * (len(names) + 2), "", "", ""])
    return tables.text(rows)


# --- Canvas -----------------------------------------------------------------------------------------------------------

CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


def to_canvas(records: Iterable[Record], assignment: str, register: Register = NOBODY) -> str:
    """The gradebook that Canvas imports (Grades → Import).

    assignment: its name and, in brackets, its number in Canvas: "Lab 1 (1234)". register: of the gradebook that Canvas
    exports, so that students are found by their ID there; without it the name in the records is their login.
    """
    records = ordered(records)
    most = max(map(out_of, records), default=0) or None
    rows = [[*CANVAS, assignment], ["    Points Possible", "", "", "", "", most]]
    for record in records:
        person = register.person(record["student"])
        row = person.row if person else {"Student": record["student"], "SIS Login ID": record["student"]}
        rows.append([*(row.get(column, "") for column in CANVAS), total(record)])
    return tables.text(rows)


def canvas_column(lab: str, rows: Sequence[Row]) -> str:
    """The assignment in an exported gradebook that has the lab's number; the lab's own name if none or several have."""
    numbered = re.compile(rf"\blab\W*0*{lab.split('_')[0].removeprefix('lab')}\b", re.IGNORECASE)
    found = [column for column in tables.columns(rows) if numbered.search(column)]
    return found[0] if len(found) == 1 else lab


# --- Moodle -----------------------------------------------------------------------------------------------------------


def to_moodle(records: Iterable[Record], register: Register = NOBODY) -> str:
    """Grades and comments for Moodle.

    register: of the grading worksheet of the assignment, as Moodle exports it; its columns are kept, and it goes back
    in with "Upload grading worksheet". Without it, "Grades → Import → CSV file" reads the table; choose the column that
    tells who a student is.
    """
    records = ordered(records)
    kept = tables.columns(register.roster.rows) or ["Identifier", "Email address"]
    header = [*(name for name in kept if name not in ("Grade", "Feedback comments")), "Grade", "Feedback comments"]
    rows: list[list[Any]] = [header]
    for record in records:
        email = record["student"] if "@" in record["student"] else ""
        person = register.person(record["student"])
        row = person.row if person else {"Identifier": record["student"], "Email address": email}
        row = {**row, "Grade": total(record), "Feedback comments": _comments(record)}
        rows.append([row.get(column, "") for column in header])
    return tables.text(rows)


def _comments(record: Record) -> str:
    """A line for each question, as Moodle shows it."""
    if total(record) is None:
        return ""
    lines = [_comment(name, item) for name, item in items(record).items()]
    return "<br>".join(html.escape(line) for line in [*lines, *filter(None, [late(record)]), *record.get("notes", [])])


def _comment(name: str, item: Item) -> str:
    words = for_student(item).split("\n")[0].removeprefix(f"✗ {name}: ")
    told = [f"{name}: {number(item['score'])} of {number(item['points'])}", words]
    told += [item.get("terms", ""), item.get("comment", "")]
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
        "score": sum(item["score"] for item in known.values()) * (1 - lost(record)),
        "execution_time": record.get("seconds", 0),
        "output": clean("\n".join([*filter(None, [late(record)]), *record.get("notes", []), *waiting])),
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
        "output": clean("\n\n".join(filter(None, [for_student(item), item.get("terms"), item.get("comment")]))),
        "output_format": "text",
        "visibility": "visible",
    }
