"""What became of all that came in: a row for each file and its student, kept from run to run in a table.

place, file       where it was found and as what; a folder in which nothing is ends with /
student, key      whose it is; several rows for what a group handed in, no student for what is nobody's
lab               that it is of by its content
outcome, why      graded, superseded by another file, or not graded; by which, or for what reason
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from course import tables
from course.inbox.places import LEFT_OUT

GRADED, SUPERSEDED, NOT_GRADED, WAITING = "graded", "superseded", "not graded", "waiting"
NAME = "inbox.csv"
MOST = 100  # sentences on the terminal
OUTCOMES = (GRADED, SUPERSEDED, NOT_GRADED)


class Row(NamedTuple):
    place: str
    file: str
    student: str
    key: str
    lab: str
    outcome: str
    why: str = ""

    @property
    def is_left_out(self) -> bool:
        return self.why.startswith(LEFT_OUT)

    @property
    def told(self) -> str:
        """The row as a sentence."""
        who = f" of {self.student}" if self.student else ""
        return f"{self.place}/{self.file}{who}: {self.outcome}. {self.why}".strip()


def settle(rows: Iterable[Row], records: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows, once the records say what became of those that were to be graded."""
    known = {(record["student"], record["lab"] or ""): record for record in records}
    return [_settled(row, known.get((row.student, row.lab))) for row in rows]


def _settled(row: Row, record: Mapping[str, Any] | None) -> Row:
    if row.outcome != WAITING:
        return row
    if record is None:
        return row._replace(outcome=NOT_GRADED, why="The batch ended before its turn; the same command goes on.")
    if record.get("open"):
        return row._replace(outcome=NOT_GRADED, why=record["open"])
    if record["status"] == "graded":
        return row._replace(outcome=GRADED)
    return row._replace(outcome=NOT_GRADED, why=record["reason"])


def merge(earlier: Iterable[Row], now: Sequence[Row]) -> list[Row]:
    """The rows of this run and those of other places; what was graded and is no longer is superseded."""
    now = [Row(*map(tables.cell, row)) for row in now]
    places = {row.place for row in now}
    graded = {(row.student, row.lab): row for row in now if row.outcome == GRADED}
    kept = []
    for row in earlier:
        newer = graded.get((row.student, row.lab))
        if row.place in places:
            continue
        if row.outcome == GRADED and newer:
            row = row._replace(outcome=SUPERSEDED, why=f"By {newer.place}/{newer.file}.")
        kept.append(row)
    return sorted([*kept, *now])


def counts(rows: Iterable[Row]) -> Counter[str]:
    return Counter(row.outcome for row in rows)


def summary(rows: Sequence[Row]) -> str:
    """How many came in, and what became of them, in a line."""
    found = counts(rows)
    return f"{len(rows)} files and empty folders came in: " + ", ".join(f"{found[kind]} {kind}" for kind in OUTCOMES)


def told(rows: Sequence[Row]) -> list[str]:
    """A sentence for each row of what is not graded, but for what programs put there: first of whom nothing is."""
    able = {row.student for row in rows if row.outcome == GRADED}
    rows = [row for row in rows if row.outcome != GRADED and not row.is_left_out]
    rows.sort(key=lambda row: (row.student in able, row.outcome == SUPERSEDED, row))
    more = [f"{len(rows) - MOST} more are in {NAME}."] if len(rows) > MOST else []
    return [row.told for row in rows[:MOST]] + more


def place(path: Path) -> str:
    """A place as it is in the table."""
    return tables.cell(path.as_posix())


def keep(rows: Iterable[Row], records: Iterable[Mapping[str, Any]], grading: Path) -> None:
    """Write down what became of all that came in now, beside what came in before."""
    text = tables.text([Row._fields, *merge(read(grading), settle(rows, records))])
    part = grading / f"{NAME}.part"
    part.write_text(text, encoding="utf-8")
    part.replace(grading / NAME)


def read(grading: Path) -> list[Row]:
    """The rows of the table; none if there is none yet."""
    path = grading / NAME
    rows = tables.read(path.read_bytes()) if path.is_file() else []
    return [Row(*(row.get(name, "") for name in Row._fields)) for row in rows]
