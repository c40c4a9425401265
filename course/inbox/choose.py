"""What is to be graded of all that came in: of each student and lab one notebook, and what becomes of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from nbformat import NotebookNode

from course.inbox import answers
from course.inbox.kinds import unrecognised
from course.inbox.submission import Submission
from course.inbox.table import GRADED, NOT_GRADED, SUPERSEDED, WAITING, Row

SAME = 2  # seconds; zips keep no finer time

Record = Mapping[str, Any]
Known = Mapping[tuple[str, "str | None"], Record]  # records by student and lab
Releases = Mapping[str, NotebookNode]
Rank = tuple[int, float, str, str]


class Choice(NamedTuple):
    """A submission to be graded. lab: None if none was recognised. notes: what is said of it beforehand."""

    submission: Submission
    lab: str | None
    notes: tuple[str, ...] = ()


class Chosen(NamedTuple):
    """What is to be graded; a row for all that came in; the records that stand against what came in."""

    choices: list[Choice]
    rows: list[Row]
    stand: list[Record]


def choose(
    submissions: Iterable[Submission], releases: Releases, lab: str | None = None, known: Known = MappingProxyType({})
) -> Chosen:
    """Of several notebooks of a student for a lab the newest is taken, of those of one time the one with most answers.

    lab: only what is of this lab, as which all counts that is of none. known: what was graded before, and stands
    against what is older.
    """
    chosen = Chosen([], [], [])
    groups: dict[tuple[str, str | None], list[Submission]] = defaultdict(list)
    for one in submissions:
        if not one.student:
            chosen.rows.append(row(one, NOT_GRADED, one.problem or "It is nobody's that could be told."))
        elif one.notebook and lab and one.lab not in (lab, None):
            chosen.rows.append(_of_another(one, lab, known))
        else:
            groups[one.student, one.lab or lab].append(one)
    able = {student for (student, _), group in groups.items() if any(one.notebook for one in group)}
    for (student, name), group in groups.items():
        notebooks = [one for one in group if one.notebook]
        chosen.rows.extend(row(one, NOT_GRADED, one.problem) for one in group if not one.notebook)
        if not notebooks and student not in able:
            chosen.choices.append(Choice(_without_notebook(group), name))
        elif name and any(not one.problem for one in notebooks):
            _of_lab(notebooks, name, releases[name], known.get((student, name)), chosen)
        elif notebooks:
            _of_none(notebooks, name, chosen)
    return chosen


def row(one: Submission, outcome: str, why: str = "", lab: str | None = None) -> Row:
    return Row(one.place, one.path, one.student, one.key, lab or one.lab or "", outcome, why)


def _of_another(one: Submission, lab: str, known: Known) -> Row:
    """The row of a notebook of a lab that is not graded now; it may have been before."""
    before = known.get((one.student, one.lab))
    if before and before["sha256"] == one.digest and before["status"] == "graded":
        return row(one, GRADED)
    return row(one, NOT_GRADED, f"It is of {one.lab}, and only {lab} was to be graded.")


def _without_notebook(files: Sequence[Submission]) -> Submission:
    """What stands for all the files of a student who handed in no notebook."""
    names = ", ".join(one.file for one in files[:5])
    alone = f" {files[0].problem}" if len(files) == 1 else ""
    return replace(files[0], file=names, problem=f"There is no notebook (.ipynb) among: {names}.{alone}")


def _of_none(group: Sequence[Submission], lab: str | None, chosen: Chosen) -> None:
    """Notebooks that cannot be read, or of which no lab is known: the newest is named in the record."""
    told = [replace(one, problem=one.problem or unrecognised(one.data)) for one in group]
    newest = max(told, key=lambda one: (one.when, one.file, one.path))
    notes = [f"Also handed in: {one.file}. {one.problem}" for one in told if one is not newest]
    chosen.choices.append(Choice(newest, lab, tuple(notes)))
    chosen.rows.extend(row(one, NOT_GRADED, one.problem, lab) for one in told)


def _of_lab(
    group: Sequence[Submission], lab: str, release: NotebookNode, before: Record | None, chosen: Chosen
) -> None:
    """Notebooks of one lab: one to be graded, or none if what was graded before is as good."""
    certain = any(one.lab for one in group)
    able = [one for one in group if not one.problem and (one.lab or not certain)]
    newest = max(one.when for one in able)
    recent = [one for one in able if newest - one.when <= SAME]
    doubt = len(recent) > 1 or (before and before["sha256"] != recent[0].digest)
    ranks = {id(one): _rank(one, release if doubt else None) for one in recent}
    best = max(recent, key=lambda one: ranks[id(one)])
    for one in group:
        if one not in able:
            chosen.rows.append(
                row(one, NOT_GRADED, one.problem or f"No lab was recognised; {best.file} is graded.", lab)
            )
    if before and before["status"] == "graded" and before["sha256"] != best.digest:
        if best.when - before["when"] < -SAME or (
            abs(best.when - before["when"]) <= SAME and _rank_of_record(before, release) > ranks[id(best)]
        ):
            chosen.stand.append(before)
            chosen.rows.extend(_refused(one, before) for one in able)
            return
    others = [one for one in able if one is not best]
    why = {id(one): _why(best, one, ranks) for one in others}
    notes = [f"{best.file} is graded, {why[id(one)]}; also handed in: {one.file}." for one in others]
    chosen.choices.append(Choice(best, lab, tuple(notes)))
    chosen.rows.append(row(best, WAITING, lab=lab))
    chosen.rows.extend(row(one, SUPERSEDED, f"By {best.path}, {why[id(one)]}.", lab) for one in others)


def _rank(one: Submission, release: NotebookNode | None) -> Rank:
    return answers.in_notebook(one.data, release) if release else 0, one.when, one.file, one.digest


def _rank_of_record(record: Record, release: NotebookNode) -> Rank:
    return answers.in_record(record, release), record["when"], record["file"], record["sha256"]


def _refused(one: Submission, before: Record) -> Row:
    if one.digest == before["sha256"]:
        return row(one, GRADED)
    older = one.when < before["when"]
    than = "is older than what is graded" if older else "has fewer answers than what is graded and is of the same time"
    return row(one, SUPERSEDED, f"{one.file} of {one.student} {than}: {before['file']}.", before["lab"])


def _why(best: Submission, other: Submission, ranks: Mapping[int, Rank]) -> str:
    """Why one is graded and not another."""
    if other.digest == best.digest:
        return "which is the same"
    if id(other) not in ranks:
        return "the newest"
    more, fewer = ranks[id(best)][0], ranks[id(other)][0]
    answers = f"with {more} answers against {fewer}" if more > fewer else "with as many answers"
    return f"{answers} and of the same time"
