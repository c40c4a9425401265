"""The marks in a record: what each answer got, what is still open, and all of it together.

A score is None until it is known. An ungraded submission has no scores, which is not the same as zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from course.hidden import discreet
from course.records import Record, verdict

CALLED_LATE = re.compile(r"[^_]+_LATE_[^\W_]+_\d+_")  # so Canvas names what came after its own date
GRADED, WAITING, UNGRADED = "graded", "waiting for a person", "ungraded"

Item = Mapping[str, Any]  # an exercise or a written answer of a record


def items(record: Record) -> dict[str, Item]:
    """The exercises of a record and then its written answers, by name."""
    return {**record.get("exercises", {}), **record.get("written", {})}


WORDS = {"process": "Your function did not finish: it ended the process, or ran out of time or memory."}


def for_student(item: Item) -> str:
    """What a student may read about an answer: a verdict that the notebook gives too, or why there was no answer; of
    hidden tests nothing but a known mistake; of all else its kind."""
    by = item.get("by", "")
    if by in ("visible", "reference", "missing"):
        return str(verdict(item))
    if by == "hidden":
        return str(discreet(verdict(item)))
    return WORDS.get(by, "Not passed.") if by else ""


def status(record: Record) -> str:
    """GRADED, or WAITING while a score is open, or UNGRADED."""
    if record["status"] != "graded":
        return UNGRADED
    return WAITING if None in scores(record).values() else GRADED


def scores(record: Record) -> dict[str, float | None]:
    """Scores by name; none of an ungraded submission."""
    return {name: item["score"] for name, item in items(record).items()} if record["status"] == "graded" else {}


def total(record: Record) -> float | None:
    """All points together, less what lateness costs; None as long as one score is open."""
    return sum(scores(record).values()) * (1 - lost(record)) if status(record) == GRADED else None


def lost(record: Record) -> float:
    """The share of all points that lateness costs."""
    return record.get("late", {}).get("share", 0.0)


def handed_in(record: Record) -> str:
    """When the file was handed in, in Universal Time, as far as its time stamp tells."""
    when = record.get("when")
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%d %H:%M UTC") if when else ""


def late(record: Record) -> str:
    """How late it came and what that costs, in words; "" if it did not."""
    if not (found := record.get("late")):
        return "late, says Canvas" if CALLED_LATE.match(record["file"].rpartition("/")[2]) else ""
    days = (
        f"{found['days']} {'day' if found['days'] == 1 else 'days'} late" if found["days"] else "late but within grace"
    )
    return f"{days}: {found['share']:.0%} of the points" if found["share"] else days


def code_total(record: Record) -> float | None:
    """The points for exercises together, which are known before a person has read anything."""
    found = [exercise["score"] for exercise in record.get("exercises", {}).values()]
    return None if status(record) == UNGRADED or not found or None in found else sum(found)


def out_of(record: Record) -> float:
    """The points that could be had."""
    return sum(item["points"] for item in items(record).values())


def worth(records: Iterable[Record]) -> dict[str, float]:
    """What each exercise and then each written answer of the lab is worth."""
    records = list(records)
    return {
        name: item["points"]
        for part in ("exercises", "written")
        for record in records
        for name, item in record.get(part, {}).items()
    }
