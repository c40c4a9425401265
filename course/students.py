"""A page for each student, for the teacher alone: marks, verdicts with hidden values, answers, repairs, what came when.

grading/students/STUDENT.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from course.inbox.roster import Person, Register
from course.inbox.table import Row
from course.marks import handed_in, items, late, out_of, status, total
from course.pages import page
from course.records import Record, by_lab, verdict
from course.titles import titles

FOLDER = "students"


def href(student: str, lab: str = "", name: str = "") -> str:
    """Where a student's page is, seen from the reports; the part on a lab, or on an answer."""
    place = "-".join(filter(None, [lab, name]))
    return f"{FOLDER}/{quote(student, safe='', errors='replace')}.html" + (f"#{place}" if place else "")


def student_page(student: str, found: Iterable[Record], rows: Sequence[Row], register: Register) -> str:
    """found: the student's records, of all labs. rows: what became of all that came in."""
    return page(
        "student.html",
        sorted=True,
        student=student,
        person=register.person(student) or Person(),
        labs=[_lab(record) for records in by_lab(found).values() for record in records],
        came_in=[row for row in rows if row.student == student and not row.is_left_out],
    )


def _lab(record: Record) -> dict[str, Any]:
    called = titles(record["lab"])
    return {
        "record": record,
        "status": status(record),
        "total": total(record),
        "out_of": out_of(record),
        "handed_in": handed_in(record),
        "late": late(record),
        "answers": [
            {"name": name, "title": called.get(name, name), **_told(item)} for name, item in items(record).items()
        ],
    }


def _told(item: dict[str, Any]) -> dict[str, Any]:
    """An answer with all that was found of it; by: on which inputs."""
    found = str(verdict(item)) if item.get("by") else ""
    return {"terms": "", "comment": "", "by": "", **item, "verdict": found, "written": "by" not in item}
