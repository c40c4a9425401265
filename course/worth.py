"""What an edition makes of a record: points, shares for known mistakes, what was annulled, and what lateness costs.

A record holds what the grader saw. What that is worth is found out when it is read, so that an edition can be changed
after the hand-in without anything being graded again. Where an edition changes what an answer gets, the answer's
"terms" say so; a record that came late has "late".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from nbformat import NotebookNode

from course.build import short
from course.edition import FULL, OUT, Edition, LabEdition
from course.marks import Item
from course.records import Record

DAY = timedelta(days=1)


def weighed(records: Iterable[Record], edition: Edition) -> list[Record]:
    """The records with the points of this edition and its shares for known mistakes, before a person gives anything."""
    return [_graded(record, edition, _weigh) for record in records]


def settled(records: Iterable[Record], edition: Edition) -> list[Record]:
    """The same records, weighed and with what persons gave, when what is annulled and what is late are seen to."""
    return [_graded(record, edition, _settle) for record in records]


def _graded(record: Record, edition: Edition, change: Callable[[Record, Edition], Record]) -> Record:
    return change(record, edition) if record["status"] == "graded" and record["lab"] else record


def _weigh(record: Record, edition: Edition) -> Record:
    says = edition.of(short(record["lab"]))
    return record | {
        part: {name: _weighed(name, item, says) for name, item in record[part].items() if name not in says.leave_out}
        for part in ("exercises", "written")
    }


def _weighed(name: str, item: Item, says: LabEdition) -> dict[str, Any]:
    points = float(says.points.get(name, item["points"]))
    share = says.partial.get(name, {}).get(item.get("verdict", {}).get("mistake", ""), 0)
    if item.get("by") and share:
        words = f"{share:.0%} of the points for this mistake"
        return {**item, "points": points, "score": share * points, "terms": words}
    score = None if item["score"] is None else item["score"] * points / item["points"]
    return {**item, "points": points, "score": score}


def _settle(record: Record, edition: Edition) -> Record:
    annulled = edition.of(short(record["lab"])).annul
    parts = {
        part: {name: _settled(item, annulled.get(name)) for name, item in record[part].items()}
        for part in ("exercises", "written")
    }
    late = lateness(record, edition)
    return record | parts | ({"late": late} if late else {})


def _settled(item: Item, how: str | None) -> dict[str, Any]:
    if how == FULL:
        return {**item, "score": item["points"], "terms": "annulled: full marks for everybody"}
    if how == OUT:
        return {**item, "points": 0.0, "score": 0.0, "terms": "annulled: it does not count"}
    return dict(item)


def lateness(record: Record, edition: Edition) -> dict[str, Any] | None:
    """How late a record is, None if it is not. days: begun after the time of grace. share: of all points, that they
    cost. due: as it was for this student."""
    due = edition.due(short(record["lab"]), record["student"])
    if due is None or not record.get("when"):
        return None
    after = datetime.fromtimestamp(record["when"], timezone.utc) - due
    if after <= timedelta(0):
        return None
    days = max(0, math.ceil((after - timedelta(hours=edition.late.grace_hours)) / DAY))
    return {"days": days, "share": min(edition.late.most, days * edition.late.per_day), "due": due.isoformat()}


def announced(releases: Mapping[str, NotebookNode], edition: Edition) -> dict[str, NotebookNode]:
    """The students' notebooks as the gradebook is to know them: what does not count is worth nothing."""
    return {lab: _announced(nb, edition.of(short(lab)).annul) for lab, nb in releases.items()}


def _announced(nb: NotebookNode, annulled: Mapping[str, str]) -> NotebookNode:
    if OUT not in annulled.values():
        return nb
    nb = copy.deepcopy(nb)
    for cell in nb.cells:
        grading = cell.metadata.get("nbgrader", {})
        if grading.get("grade") and annulled.get(grading["grade_id"]) == OUT:
            grading["points"] = 0
    return nb
