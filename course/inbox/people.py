"""Names for students: one for each person, the same in every run, and never one for two.

A key tells a person from others. Moodle's is another one for each assignment, so two of its keys with one name are one
person unless both are in one export, or there is work of one lab from both.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from course.inbox.kinds import File
from course.inbox.layouts import Owned, Owner
from course.inbox.roster import Known, Roster, match
from course.inbox.submission import plain

Record = Mapping[str, Any]


def apart(owned: Sequence[Owned]) -> list[Owned]:
    """The files of one place and their owners, in which those who share a key for they are called the same have a
    longer one each.

    Two folders of which the names are the same, or cannot be told apart by every file system, are two people's if both
    hold work of the same lab.
    """
    homes: dict[str, dict[tuple[str, ...], set[str | None]]] = defaultdict(lambda: defaultdict(set))
    for file, owners in owned:
        for owner in owners:
            if owner.home and file.notebook:
                homes[owner.key][owner.home].add(file.lab)
    shared = {
        key
        for key, found in homes.items()
        if sum(len(labs) for labs in found.values()) > len(set().union(*found.values()))
    }
    return [
        (file, [owner._replace(key="/".join(owner.home)) if owner.key in shared else owner for owner in owners])
        for file, owners in owned
    ]


def names(owned: Iterable[Owned], records: Sequence[Record], roster: Roster) -> dict[str, str]:
    """The student's name for each key."""
    called: dict[str, str] = {}
    labs: dict[str, set[str | None]] = defaultdict(set)
    for file, owners in owned:
        for owner in owners:
            called.setdefault(owner.key, owner.name)
            labs[owner.key] |= {file.lab or "", _export(file, owner)} - {""}
    keys = _keys(records, called)
    used = {key: record["student"] for key, record in zip(keys, records)}
    for key, record in zip(keys, records):
        labs[key].add(record["lab"])
    everyone = [Known(name, key, frozenset(labs[key])) for key, name in (used | called).items()]
    return _named(_people(everyone, match(roster, everyone, apart=False).rows), used)


def _export(file: File, owner: Owner) -> str:
    """The export that a file came in, which is of one assignment: two who are in it are two."""
    path = file.item.path
    above = next((path[:number] for number, part in enumerate(path) if part.startswith(f"{owner.name}_")), ())
    return "/".join([file.item.place, *above]) if owner.system == "moodle" else ""


def _keys(records: Sequence[Record], called: Mapping[str, str]) -> list[str]:
    """The key of each record; of one that was written without, that of the only one who is called the same now."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for key, name in called.items():
        by_name[plain(name)].append(key)
    found = [(record.get("key"), by_name[record["student"]], record["student"]) for record in records]
    return [key or (same[0] if len(same) == 1 else student) for key, same, student in found]


def _people(everyone: Sequence[Known], rows: Mapping[Known, int]) -> list[list[Known]]:
    """Those who are one person, together."""
    people: dict[Any, list[Known]] = defaultdict(list)
    for known in everyone:
        if known in rows:
            people[rows[known]].append(known)
        elif known.key.startswith("moodle:"):
            number = 0
            while not _same(people["moodle", fold(known.student), number], known):
                number += 1
            people["moodle", fold(known.student), number].append(known)
        else:
            people[known.key].append(known)
    return list(people.values())


def _same(person: Sequence[Known], known: Known) -> bool:
    return all(other.key == known.key or not other.labs & known.labs for other in person)


def _named(people: Sequence[Sequence[Known]], used: Mapping[str, str]) -> dict[str, str]:
    """A name for each key: the one in use, or a new one that no file system takes for somebody else's."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for number, person in enumerate(people):
        for known in person:
            wanted[fold(known.student)].add(number)
            wanted[fold(used.get(known.key, known.student))].add(number)
    named: dict[str, str] = {}
    for number, person in enumerate(people):
        first = next((used[known.key] for known in person if known.key in used), "")
        base = plain(person[0].student)
        if not first:
            first = base if wanted[fold(base)] == {number} else f"{base[:71]}-{_short(person[0].key)}"
        named |= {known.key: used.get(known.key, first) for known in person}
    return named


def fold(name: str) -> str:
    return unicodedata.normalize("NFC", plain(name)).casefold()


def _short(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:8]
