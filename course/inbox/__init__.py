"""What was handed in, whose each file is, and which of them is graded.

    places ── came_in ──> items ── kind ──> files ── layout ──> owners ── names ──> submissions ── choose ──> choices

    a folder or a zip    as Moodle, Canvas, Gradescope, ILIAS, Blackboard, Brightspace and nbgrader name what is in it,
                         or with a folder or a file for each student, within whatever folders; zips within are opened
    a notebook           whose name is the student's
    a table (.csv)       with columns "student" and "path"; paths are relative to the table

Every file and every empty folder that came in is a submission, if only with a reason why it is not graded, so that
nobody is forgotten; `course.inbox.table` keeps what became of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from course.inbox.choose import Choice, Chosen, choose
from course.inbox.kinds import File, kind
from course.inbox.layouts import Layout, Owned, Owner
from course.inbox.people import apart, names
from course.inbox.places import NotFound, came_in
from course.inbox.roster import Roster
from course.inbox.submission import Submission, plain

LONGEST = 1000  # letters of a path that are told

__all__ = ["Choice", "Chosen", "NotFound", "Submission", "choose", "find", "plain"]


def find(
    places: Iterable[Path],
    roster: Roster | None = None,
    releases: Mapping[str, NotebookNode] = {},
    records: Iterable[Mapping[str, Any]] = (),
) -> list[Submission]:
    """All that came in, in a fixed order. What a group handed in is a submission of each of its members.

    releases: the labs, of which notebooks are known by their content. records: what was graded before; who handed in
    then is called the same now.
    Raises NotFound.
    """
    roster = Roster() if roster is None else roster
    layout = Layout(roster.has, {word for lab in releases for word in lab.split("_")[1:]})
    records = list(records)
    graded = {one["sha256"]: one["lab"] for one in records if one.get("status") == "graded" and one["lab"] in releases}
    owned: list[Owned] = []
    for place in places:
        owned += apart(layout.owned(kind(item, releases, graded) for item in came_in(place)))
    called = names(owned, records, roster)
    return [_submission(file, owner, called) for file, owners in owned for owner in owners or [None]]


def _submission(file: File, owner: Owner | None, called: Mapping[str, str]) -> Submission:
    item = file.item
    found = Submission(
        called[owner.key] if owner else "",
        item.path[-1] or f"{item.path[-2]}/",
        item.where or b"",
        item.when,
        file.problem,
        owner.key if owner else "",
        file.lab,
        item.place,
        "/".join(item.path)[:LONGEST],
        file.notebook,
    )
    if file.digest:
        found.__dict__["digest"] = file.digest
    return found
