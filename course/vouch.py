"""The official solution of a lab gets full marks, by the very judge that students get theirs from.

A hidden test that is wrong would take points from all who are right. So the solution is judged before a lab is handed
out and before anybody is graded; once for each state of the lab and of the grader, which a file keeps in mind.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbformat import NotebookNode

from course import build, jobs
from course.build import is_check, is_solution, short
from course.early import sandbox
from course.fingerprints import fingerprint

KNOWN = build.ROOT / "grading" / "vouched.json"  # lab → the fingerprint of what got full marks


def vouch(labs: Iterable[str]) -> None:
    """Raises BuildError where an official solution of these labs, "lab1_simulation", is not given full marks."""
    fresh = unknown(labs)
    insist(fresh)
    remember(fresh)


def unknown(labs: Iterable[str]) -> dict[str, str]:
    """Those of the labs that were not judged since they or the grader changed, and what they depend on."""
    known = _known()
    return {lab: fingerprint(lab) for lab in labs if known.get(lab) != fingerprint(lab)}


def insist(labs: Iterable[str], walls: str | None = "none") -> None:
    """The same, whatever was judged before. walls: those that are there; a solution is trusted, and needs none."""
    for lab in labs:
        build.refuse(lab, refusals(jobs.full(lab), lab, walls))


def refusals(full: NotebookNode, stem: str, walls: str | None = "none") -> Iterator[str]:
    """What is said of each exercise whose official solution is not given full marks."""
    if not any(is_check(cell) for cell in full.cells):
        return
    if sys.platform != "linux":
        print(f"{stem}: the solution was not sent through the judge, which needs Linux", flush=True)
        return
    from course.judge import judge  # loads torch

    for name, mark in judge(sandbox(walls), full, short(stem), solved(full)).marks.items():
        if mark.by:
            yield f"the exercise {name!r}: its official solution is not given full marks\n  {mark.by}: {mark.verdict}"


def solved(full: NotebookNode) -> NotebookNode:
    """The official solution as a student would hand it in."""
    nb = build.release(full)
    for cell, official in zip(nb.cells, build.solve(full).cells, strict=True):
        if is_solution(cell):
            cell.source = official.source
    return nb


def _known() -> dict[str, str]:
    try:
        known = json.loads(KNOWN.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(fresh: dict[str, str]) -> None:
    """Keep in mind, where that can be written, what got full marks."""
    part: Path = KNOWN.with_name(f"{KNOWN.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        KNOWN.parent.mkdir(exist_ok=True)
        part.write_text(json.dumps(_known() | fresh, indent=1), encoding="utf-8")
        os.replace(part, KNOWN)
