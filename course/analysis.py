"""Item analysis: how hard each question was, what it says of a student, and how answers to it went wrong."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from course.answers import untouched
from course.marks import Item, code_total, items, worth
from course.records import Record, ordered, verdict
from fmlab.checks.verdict import Verdict

BINS = 10


def histogram(marks: Iterable[tuple[float, float]]) -> list[int]:
    """How many of the marks, each with its maximum, fall in each tenth of it; the last one includes full marks."""
    found = Counter(min(BINS - 1, int(BINS * mark / most)) if most else 0 for mark, most in marks)
    return [found[k] for k in range(BINS)]


# --- questions --------------------------------------------------------------------------------------------------------


def questions(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Per exercise and written answer: what it is worth, how hard it was, what it says of a student, how it went."""
    graded = [record for record in records if record["status"] == "graded"]
    return [_question(name, points, graded) for name, points in worth(graded).items()]


def _question(name: str, points: float, graded: Sequence[Record]) -> dict[str, Any]:
    found = [items(record)[name] for record in graded if name in items(record)]
    known = [item["score"] for item in found if item["score"] is not None]
    return {
        "name": name,
        "points": points,
        "difficulty": statistics.fmean(known) / points if known and points else None,
        "discrimination": discrimination(name, graded),
        "outcomes": Counter(map(outcome, found)),
        "count": len(found),
    }


def discrimination(name: str, records: Iterable[Record]) -> float | None:
    """Correlation of a question's score with the score for all exercises but this one; None where undefined."""
    pairs = []
    for record in records:
        item, code = items(record).get(name), code_total(record)
        if item and item["score"] is not None and code is not None:
            pairs.append((item["score"], code - item["score"] if name in record["exercises"] else code))
    if len(pairs) < 3:
        return None
    try:
        return statistics.correlation(*zip(*pairs))
    except statistics.StatisticsError:  # one of the two is the same for all
        return None


def outcome(item: Item) -> str:
    """How an answer went: right, untouched, visible, hidden or other; marked by a person, or waiting for one.

    visible, hidden: rejected by the check in the notebook, or where that passes by the hidden tests.
    """
    if item["score"] is None:
        return "waiting"
    if item.get("marked") or "by" not in item:
        return "marked"
    if not item["by"]:
        return "right"
    if untouched(item.get("answer", "")):
        return "untouched"
    return item["by"] if item["by"] in ("visible", "hidden") else "other"


# --- misconceptions ---------------------------------------------------------------------------------------------------


def misconceptions(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Verdicts on what students wrote, grouped by exercise and idea; the commonest first, each with one example."""
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for record in ordered(records):
        for name, item in record.get("exercises", {}).items():
            if item["by"] and not untouched(item.get("answer", "")):
                groups[name, idea(verdict(item))].append(item)
    rows = [
        {
            "exercise": name,
            "idea": words,
            "count": len(found),
            "hidden": sum(item["by"] == "hidden" for item in found),
            "example": str(verdict(found[0])),
        }
        for (name, words), found in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row["count"], row["exercise"], row["idea"]))


def ideas(records: Iterable[Record]) -> dict[str, list[tuple[str, list[str]]]]:
    """Of each exercise that somebody got wrong: what verdicts take for the reason, and the students; the commonest
    first. Who handed in what was handed out is there, too."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in ordered(records):
        for name, item in record.get("exercises", {}).items():
            if item["by"]:
                words = "untouched" if untouched(item.get("answer", "")) else idea(verdict(item))
                found[name][words].append(record["student"])
    return {
        name: sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])) for name, groups in found.items()
    }


NUMBER = r"0x[0-9a-fA-F]+|(?<![\w.])-?\d+(\.\d+)?(e[+-]?\d+)?"


def idea(verdict: Verdict) -> str:
    """The mistake that a verdict names; if it knows none, the first line of its reason without the numbers."""
    return verdict.mistake or re.sub(NUMBER, "…", verdict.reason.split("\n")[0])[:200]
