"""The report on a class, a page for each lab: marks, questions, misconceptions, and all that needs a person.

The same records make the same bytes.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from course import exports, records, students
from course.analysis import histogram, ideas, misconceptions, questions
from course.exports import NOBODY
from course.feedback import feedback
from course.inbox import table
from course.inbox.roster import Person, Register, remembered
from course.inbox.table import Row
from course.marks import UNGRADED, code_total, handed_in, items, late, out_of, status, total
from course.pages import page
from course.records import Record, ordered
from course.similar import alike, marked
from course.titles import titles

SHOWN = 50  # rows of a table, of which there may be very many


def write_all(found: Iterable[Record], results: Path, folder: Path) -> list[Path]:
    """Write LAB.csv and the report LAB.html of each lab, students/STUDENT.html and feedback/STUDENT/LAB/LAB.html.
    Returns the reports.

    results: where the notebooks of the records are. folder: where the table of all that came in and the roster are.
    """
    found, reports = list(found), []
    rows, register = table.read(folder), Register(remembered(folder), found)
    lost = [record for record in found if not record["lab"]]
    for lab, mine in records.by_lab(found).items():
        _put(folder / f"{lab}.csv", exports.to_csv(mine, register, lost))
        reports.append(_put(folder / f"{lab}.html", class_report(mine, lab, lost, rows, register)))
    for record in found:
        own = records.place(record, folder / "feedback")
        _put(own / f"{own.name}.html", feedback(record, records.read_notebook(record, results)))
    for student in exports.students(found):
        own = [record for record in found if record["student"] == student]
        text = students.student_page(student, own, rows, register)
        _put(folder / students.FOLDER / f"{student}.html", text)
    return reports


def _put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def class_report(
    found: Iterable[Record],
    lab: str,
    lost: Iterable[Record] = (),
    rows: Sequence[Row] = (),
    register: Register = NOBODY,
) -> str:
    """The page. lost: records of files of which no lab was recognised, so that they may be of this one.

    rows: what became of all that came in. register: who is in the class.
    """
    found, lost = ordered(found), ordered(lost)
    here = exports.students([*found, *lost])
    similar, look = alike(found)
    mine = [row for row in rows if row.lab in (lab, "") and not row.is_left_out]
    return page(
        "report.html",
        sorted=True,
        lab=lab,
        counts=Counter(map(status, found)),
        handed_in=len(found),
        students=[
            _student(record, register.person(record["student"])) for record in exports.with_lost(found, register, lost)
        ],
        roster=list(register.roster),
        missing=register.missing(here),
        strangers=register.strangers(here),
        doubts=register.doubts,
        came_in=table.counts(rows),
        refused=[row for row in mine if row.outcome == table.NOT_GRADED],
        superseded=[row for row in mine if row.outcome == table.SUPERSEDED],
        histograms=list(_histograms(found)),
        questions=questions(found),
        misconceptions=misconceptions(found),
        ungraded=[record for record in found if status(record) == UNGRADED] + lost,
        flags=_told(found, "flags"),
        notes=_told(found, "notes"),
        called=titles(lab),
        groups=ideas(found),
        href=students.href,
        alike=similar,
        look=look,
        marked=marked,
        answers={record["student"]: items(record) for record in found},
        shown=SHOWN,
    )


def _student(record: Record, person: Person | None) -> dict[str, Any]:
    return {
        "name": record["student"],
        "person": person or Person(),
        "status": status(record),
        "code": code_total(record),
        "total": total(record),
        "out_of": out_of(record),
        "handed_in": handed_in(record),
        "late": late(record),
    }


def _told(found: Iterable[Record], kind: str) -> list[tuple[str, list[str]]]:
    """Each flag or note, and of whom it is told; what is told of most students last, since it is the least odd."""
    students: dict[str, list[str]] = defaultdict(list)
    for record in found:
        for sentence in record.get(kind, []):
            students[sentence].append(record["student"])
    return sorted(students.items(), key=lambda pair: (len(pair[1]), pair[1], pair[0]))


def _histograms(found: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """How the points for code are spread, and all points where nothing waits."""
    yield from _histogram("Points for code", found, code_total, _code_out_of)
    yield from _histogram("All points, of those who have all their marks", found, total, out_of)


def _histogram(
    title: str,
    found: Iterable[Record],
    mark: Callable[[Record], float | None],
    most: Callable[[Record], float],
) -> Iterator[dict[str, Any]]:
    known = [(mark(record), most(record)) for record in found if mark(record) is not None]
    if known:
        marks = [mark for mark, _ in known]
        yield {
            "title": title,
            "bins": histogram(known),
            "count": len(marks),
            "most": max(most for _, most in known),
            "mean": statistics.fmean(marks),
            "median": statistics.median(marks),
            "low": min(marks),
            "high": max(marks),
            "spread": statistics.pstdev(marks),
        }


def _code_out_of(record: Record) -> float:
    return sum(exercise["points"] for exercise in record["exercises"].values())
