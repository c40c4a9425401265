"""Pairs of students whose answers are alike, for a person to judge.

An answer is cut into windows of a few tokens, and one of all, with comments gone and variables numbered. Only windows
count that few students wrote and the official solution does not hold. Two answers agree if they share most of these;
the evidence is then −log of the share of the others who wrote the rarest of them, about the chance of agreeing if
answers were independent. It adds up over the exercises, and a pair is listed if it exceeds 2 log(students), which
chance alone reaches for a handful of all pairs of a class. Friends who learned together reach it sooner.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from course.answers import normal, official, untouched
from course.marks import worth
from course.records import Record, ordered

WINDOW = 5  # tokens
ALIKE = 0.6  # the share of their unusual windows that two answers have in common
LEAST = 6.0  # evidence, also in a small class

Pair = tuple[str, str]


def similar_answers(records: Iterable[Record], solutions: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The pairs, the strongest evidence first: students, evidence, and the exercises that it comes from.

    solutions: exercise → official solution; by default what course/sources holds.
    """
    records = [record for record in ordered(records) if record["status"] == "graded"]
    if solutions is None:
        solutions = official(records[0]["lab"]) if records else {}
    found: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    for name in worth(records):
        for pair, agreement in _agreements(_written(records, name), solutions.get(name, "")):
            found[pair].append({"exercise": name, **agreement})
    least = max(LEAST, 2 * math.log(max(len(records), 1)))
    rows = [_summed(pair, agreements) for pair, agreements in found.items()]
    return sorted(
        (row for row in rows if row["evidence"] >= least), key=lambda row: (-row["evidence"], row["students"])
    )


def _written(records: Iterable[Record], name: str) -> dict[str, str]:
    """The code that students wrote for an exercise, by student."""
    answers = {record["student"]: record["exercises"].get(name, {}).get("answer", "") for record in records}
    return {student: answer for student, answer in answers.items() if answer and not untouched(answer)}


def _summed(students: Pair, agreements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    strongest_first = sorted(agreements, key=lambda agreement: -agreement["evidence"])
    evidence = sum(agreement["evidence"] for agreement in agreements)
    return {"students": students, "evidence": evidence, "exercises": strongest_first}


def _agreements(answers: Mapping[str, str], solution: str) -> Iterator[tuple[Pair, dict[str, Any]]]:
    """Each pair of students whose answers to one exercise agree in unusual windows, and how."""
    windows = {answer: _windows(answer) for answer in {*answers.values(), solution}}
    spread = Counter(window for answer in answers.values() for window in windows[answer])
    usual = {window for window, n in spread.items() if n > max(3, len(answers) // 10)} | windows[solution]
    writers: dict[frozenset, list[str]] = defaultdict(list)
    for student, answer in answers.items():
        writers[windows[answer] - usual].append(student)
    writers.pop(frozenset(), None)
    for one, other in _overlapping(list(writers)):
        shared = one & other
        likeness, writing = len(shared) / len(one | other), min(spread[window] for window in shared)
        if likeness >= ALIKE and writing > 1:
            # Of all others, len(answers) − 2, writing − 2 wrote the same; one more of each, so that it is never 0.
            evidence = likeness * math.log((len(answers) - 1) / (writing - 1))
            for pair in _pairs(writers[one], writers[other]):
                yield pair, {"likeness": likeness, "writing": writing, "evidence": evidence}


def _pairs(some: Sequence[str], others: Sequence[str]) -> Iterator[Pair]:
    """Each student of the one group with each of the other, or of one group with each other."""
    pairs = itertools.combinations(some, 2) if some is others else itertools.product(some, others)
    return (tuple(sorted(pair)) for pair in pairs)


def _overlapping(sets: Sequence[frozenset]) -> Iterator[tuple[frozenset, frozenset]]:
    """Each set with itself, and each two that share something; those that share nothing are never compared."""
    holding: dict[Any, list[int]] = defaultdict(list)
    for k, some in enumerate(sets):
        for window in some:
            holding[window].append(k)
    pairs = {pair for ks in holding.values() for pair in itertools.combinations_with_replacement(ks, 2)}
    return ((sets[j], sets[k]) for j, k in pairs)


def _windows(source: str) -> frozenset[tuple[str, ...]]:
    """Runs of tokens of a program, and all of it, the names it defines numbered within each."""
    code, defined = normal(source)
    tokens = re.findall(r"\w+|[^\w\s]", code)
    runs = [tokens[k : k + WINDOW] for k in range(len(tokens) - WINDOW + 1)]
    return frozenset(_numbered(run, defined) for run in [*runs, tokens])


def _numbered(tokens: Iterable[str], defined: set[str]) -> tuple[str, ...]:
    numbers: dict[str, int] = {}
    return tuple(f"#{numbers.setdefault(t, len(numbers))}" if t in defined else t for t in tokens)
