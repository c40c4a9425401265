"""Pairs of students whose answers are alike, for a person to judge.

An answer is cut into windows of a few tokens, and one of all, with comments gone and variables numbered. Only windows
count that few students wrote and the official solution does not hold. Two answers agree if they share most of these;
the evidence is then −log of the share of the others who wrote the rarest of them, about the chance of agreeing if
answers were independent. It adds up over the exercises, and a pair is listed if it exceeds 2 log(students), which
chance alone reaches for a handful of all pairs of a class. Friends who learned together reach it sooner. A second list
is for a look: two functions that nobody else wrote so, or a text that shares most of its runs of words.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from markupsafe import Markup

from course.answers import LONGEST, normal, official, untouched
from course.marks import worth
from course.pages import clean
from course.records import Record, ordered
from course.titles import models

WINDOW = 5  # tokens
ALIKE = 0.6  # the share of their unusual windows that two answers have in common
LEAST = 6.0  # evidence, also in a small class
LOOK = 1.9  # times log(students): evidence that two functions give which nobody else wrote
MOST = 300_000  # pairs of equal tokens in two answers that are compared for marks
WORDS, FEWEST, SAME = 4, 8, 0.5  # of texts: words in a run; runs in common, and their share of the shorter text

Pair = tuple[str, str]


def similar_answers(records: Iterable[Record], solutions: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The pairs, the strongest evidence first: students, evidence, and the exercises that it comes from.

    solutions: exercise → official solution; by default what course/sources holds.
    """
    return alike(records, solutions)[0]


def worth_a_look(records: Iterable[Record], solutions: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Pairs for whom the evidence is less, in the same form: two functions that are the same, or a text that is."""
    return alike(records, solutions)[1]


def alike(
    records: Iterable[Record], solutions: Mapping[str, str] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`similar_answers` and `worth_a_look`, for which all code is compared once."""
    records = [record for record in ordered(records) if record["status"] == "graded"]
    code, enough = _code(records, solutions), _enough(records)
    least = LOOK * math.log(max(len(records) - 1, 2))
    less = (row for row in code if least <= row["evidence"] < enough and len(row["exercises"]) > 1)
    found = {row["students"]: row for row in less}
    for pair, agreement in _texts(records):
        before = found.get(pair, {"students": pair, "evidence": 0.0, "exercises": []})
        found[pair] = before | {"exercises": [*before["exercises"], agreement]}
    look = sorted(found.values(), key=lambda row: (-row["evidence"], row["students"]))
    return [row for row in code if row["evidence"] >= enough], look


def _enough(records: Sequence[Record]) -> float:
    """The evidence from which on a pair is listed for sure."""
    return max(LEAST, 2 * math.log(max(len(records), 1)))


def _code(records: Sequence[Record], solutions: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """All pairs whose code agrees in something, the strongest evidence first."""
    if solutions is None:
        solutions = official(records[0]["lab"]) if records else {}
    found: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    for name in worth(records):
        for pair, agreement in _agreements(_written(records, name), solutions.get(name, "")):
            found[pair].append({"exercise": name, **agreement})
    rows = [_summed(pair, agreements) for pair, agreements in found.items()]
    return sorted(rows, key=lambda row: (-row["evidence"], row["students"]))


def _texts(records: Sequence[Record]) -> Iterator[tuple[Pair, dict[str, Any]]]:
    """Each pair of students whose answers in words have most of their unusual runs of words in common."""
    lab = records[0]["lab"] if records else None
    for name in dict.fromkeys(name for record in records for name in record["written"]):
        texts = {r["student"]: r["written"][name]["answer"] for r in records if name in r["written"]}
        runs = {student: _runs_of_words(text) for student, text in texts.items()}
        spread = Counter(run for found in runs.values() for run in found)
        usual = {run for run, n in spread.items() if n > max(3, len(texts) // 10)} | _runs_of_words(
            models(lab).get(name, "")
        )
        for one, other in itertools.combinations(sorted(runs), 2):
            a, b = runs[one] - usual, runs[other] - usual
            if len(a & b) >= FEWEST and len(a & b) >= SAME * min(len(a), len(b)):
                likeness = len(a & b) / len(a | b)
                yield (one, other), {"exercise": name, "likeness": likeness, "writing": 2, "evidence": 0.0}


def _runs_of_words(text: str) -> frozenset[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    return frozenset(tuple(found[k : k + WORDS]) for k in range(len(found) - WORDS + 1))


def marked(one: str, other: str) -> tuple[Markup, Markup]:
    """Two answers as HTML, with the runs of tokens marked in which they agree, whatever their variables are called.

    Nothing is marked where that would take long: in what repeats one token a thousand times, as no honest answer does.
    """
    a, b = _tokens(one), _tokens(other)
    counts = [Counter(key for key, _, _ in tokens) for tokens in (a, b)]
    if sum(n * counts[1][key] for key, n in counts[0].items()) > MOST:
        return _with_marks(one, a, []), _with_marks(other, b, [])
    same = SequenceMatcher(None, [key for key, _, _ in a], [key for key, _, _ in b], autojunk=False)
    blocks = [block for block in same.get_matching_blocks() if block.size >= WINDOW]
    return (
        _with_marks(one, a, [(block.a, block.size) for block in blocks]),
        _with_marks(other, b, [(block.b, block.size) for block in blocks]),
    )


def _tokens(text: str) -> list[tuple[str, int, int]]:
    """The tokens of a program or a text, each with its place; all that it defines is called the same."""
    defined = normal(text)[1]
    found = re.finditer(r"\w+|[^\w\s]", text[:LONGEST])
    return [("#" if match[0] in defined else match[0], *match.span()) for match in found]


def _with_marks(text: str, tokens: Sequence[tuple[str, int, int]], runs: Iterable[tuple[int, int]]) -> Markup:
    html, end = Markup(), 0
    for first, size in runs:
        start, stop = tokens[first][1], tokens[first + size - 1][2]
        html += Markup("{}<mark>{}</mark>").format(clean(text[end:start]), clean(text[start:stop]))
        end = stop
    return html + clean(text[end:LONGEST])


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
