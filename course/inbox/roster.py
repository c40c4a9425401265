"""Who is in the class: the table that Canvas or Moodle exports, or any with a row for each student.

A student is found by a number, a login or an e-mail address, or else by the name, if no other row and no other student
may be meant as well.
"""

from __future__ import annotations

import itertools
import re
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from course import tables
from course.tables import Row

IDS = {
    *("id", "sis user id", "sis login id", "integration id", "login", "login id", "user", "username", "user name"),
    *("identifier", "id number", "student id", "student number", "sid", "uid", "number", "kennung", "benutzername"),
    *("matrikelnummer", "anmeldename"),
}
EMAILS = {"email", "e-mail", "email address", "e-mail address", "mail", "e-mail-adresse", "mailadresse"}
NAMES = {"name", "full name", "student", "student name", "display name", "vollständiger name", "last name, first name"}
FIRST = {"first name", "firstname", "given name", "vorname", "prénom", "nombre"}
LAST = {"last name", "lastname", "surname", "family name", "nachname", "name", "nom", "apellidos"}
SECTIONS = {"section", "sections", "group", "groups", "gruppe", "gruppen", "class", "tutorial"}


class Known(NamedTuple):
    """Somebody to be found: a student's name and key (see `course.inbox.Submission`); of which labs there is work."""

    student: str
    key: str = ""
    labs: frozenset[str | None] = frozenset()


class Person(NamedTuple):
    """A row: the name to be shown, what tells the person apart, the section or group, "" if the table has none."""

    name: str = ""
    key: str = ""
    section: str = ""
    row: Row = {}


class Roster(Sequence):
    """The people of a class, and the sentences about those who cannot be told apart."""

    def __init__(self, rows: Iterable[Row] = ()):
        self.rows = [row for row in rows if _is_person(row)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Person:
        row = self.rows[number]
        ids = [value for value, _ in _ids(row)]
        emails = _values(row, EMAILS)
        name = next(iter(_names(row)), "")
        key = next(iter([*_values(row, {"sis login id", "login", "username"}), *emails, *ids]), name)
        return Person(name or key, key, ", ".join(_values(row, SECTIONS)), row)

    @cached_property
    def _sure(self) -> dict[str, set[int]]:
        """The rows by numbers, logins and addresses."""
        found: dict[str, set[int]] = defaultdict(set)
        for number, row in enumerate(self.rows):
            for value, column in _ids(row):
                found[value.casefold()].add(number)
                if column == "id":
                    found[f"canvas:{value}"].add(number)
                if column == "identifier" and (moodle := re.fullmatch(r"\D*(\d+)", value)):
                    found[f"moodle:{moodle[1]}"].add(number)
        return found

    @cached_property
    def _likely(self) -> dict[str, set[int]]:
        """The rows by names, in the ways in which systems write them."""
        found: dict[str, set[int]] = defaultdict(set)
        for number, row in enumerate(self.rows):
            local = [email.partition("@")[0] for email in _values(row, EMAILS)]
            for value in [*_names(row), *local, *(value for value, _ in _ids(row))]:
                found[squeezed(value)].add(number)
        found.pop("", None)
        return found

    @cached_property
    def _other(self) -> dict[str, set[int]]:
        """The rows by whatever else differs from row to row."""
        found: dict[str, set[int]] = defaultdict(set)
        for column in tables.columns(self.rows):
            values = [squeezed(row[column]) for row in self.rows if row[column].strip()]
            if len(set(values)) == len(values) and not all(value.isdecimal() for value in values):
                for number, row in enumerate(self.rows):
                    found[squeezed(row[column])].add(number)
        found.pop("", None)
        return found

    def rows_of(self, known: Known) -> set[int]:
        """The rows that may be somebody's; more than one if there is no telling which."""
        sure = self._sure.get(known.key.casefold()) or self._sure.get(known.student.casefold())
        if sure:
            return sure
        ilias = re.fullmatch(r"(.+)_([^_]+)_(\d+)", known.key)
        if ilias and (rows := self._sure.get(ilias[2].casefold(), set()) & self._likely.get(squeezed(ilias[1]), set())):
            return rows
        names = [squeezed(name) for name in (known.key, known.student) if ":" not in name]
        return next((found[name] for found in (self._likely, self._other) for name in names if name in found), set())

    def has(self, name: str) -> bool:
        """Whether a name is that of one person."""
        return len(self.rows_of(Known(name, name))) == 1


class Matched(NamedTuple):
    """rows: the number of the row of each who was found. doubts: sentences about who was not, for others may be meant.

    doubtful: the numbers of the rows that these may be in.
    """

    rows: Mapping[Known, int] = {}
    doubts: Sequence[str] = ()
    doubtful: frozenset[int] = frozenset()


def match(roster: Roster, everyone: Iterable[Known], apart: bool = True) -> Matched:
    """Who is whom. Of those who may be in several rows, and of several in one row, nobody is found.

    apart: whether two names that have work of one lab are two people, even if two systems call them so.
    """
    everyone = sorted(set(everyone), key=lambda known: (known.student, known.key))
    may = {known: roster.rows_of(known) for known in everyone}
    doubts = [
        f"{known.student} may be in any of {len(rows)} rows of the roster: {_listed(roster, rows)}."
        for known, rows in may.items()
        if len(rows) > 1
    ]
    found: dict[int, list[Known]] = defaultdict(list)
    for known, rows in may.items():
        if len(rows) == 1:
            found[min(rows)].append(known)
    sure: dict[Known, int] = {}
    doubtful = {number for rows in may.values() if len(rows) > 1 for number in rows}
    for number, together in found.items():
        if all(_may_be_one(*pair, apart) for pair in itertools.combinations(together, 2)):
            sure |= dict.fromkeys(together, number)
        else:
            doubtful.add(number)
            names = ", ".join(dict.fromkeys(known.student for known in together))
            doubts.append(f"Several may be {roster[number].name} of the roster, and none is taken for it: {names}.")
    return Matched(sure, doubts, frozenset(doubtful - set(sure.values())))


def _may_be_one(one: Known, other: Known, apart: bool) -> bool:
    """Whether two whom one row fits may be one person, whom two systems call differently."""
    if one.student == other.student:
        return one.key == other.key or system(one) != system(other) or not one.labs & other.labs
    return system(one) != system(other) and not (apart and one.labs & other.labs)


def system(known: Known) -> str:
    """Which system calls somebody so."""
    prefix, colon, _ = known.key.partition(":")
    return (
        prefix
        if colon and prefix in ("canvas", "moodle")
        else "address"
        if "@" in (known.key or known.student)
        else "folder"
    )


def squeezed(name: str) -> str:
    """A name as it is in a file's: ekanna for "Ek, Anna" and oneill for "O'Neill" and for "O_Neill"."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name)).casefold()


class Register:
    """A roster, and who of it handed in what was graded."""

    def __init__(self, roster: Roster, records: Iterable[Mapping[str, Any]]):
        labs: dict[tuple[str, str], set[str | None]] = defaultdict(set)
        for record in records:
            labs[record["student"], record.get("key", "")].add(record["lab"])
        self.roster = roster
        matched = match(roster, [Known(*who, frozenset(found)) for who, found in labs.items()]) if roster else Matched()
        self._rows = {known.student: number for known, number in matched.rows.items()}
        self.doubts, self._doubtful = matched.doubts, matched.doubtful

    def person(self, student: str) -> Person | None:
        number = self._rows.get(student)
        return None if number is None else self.roster[number]

    def missing(self, students: Iterable[str]) -> list[Person]:
        """Those of the roster who are none of these students, and who is not in doubt."""
        there = {self._rows.get(student) for student in students} | self._doubtful
        return [person for number, person in enumerate(self.roster) if number not in there]

    def told(self, students: Iterable[str]) -> list[str]:
        """Sentences about whom the roster does not tell."""
        strangers = ", ".join(self.strangers(students))
        return [*self.doubts, *([f"Handed in, and not found on the roster: {strangers}."] if strangers else [])]

    def strangers(self, students: Iterable[str]) -> list[str]:
        """Those of these students who are not on the roster, if there is one."""
        return [student for student in dict.fromkeys(students) if self.roster and student not in self._rows]


# --- columns ----------------------------------------------------------------------------------------------------------


def _is_person(row: Row) -> bool:
    """Whether a row is that of a person, other than Canvas's rows of points and of a student for tests."""
    first = next((value.strip() for value in row.values() if isinstance(value, str)), "")
    if {"Student", "ID"} <= row.keys():
        return bool(row["ID"].strip()) and first not in ("Student, Test", "Points Possible")
    return bool(_names(row) or _ids(row))


def _values(row: Row, columns: Iterable[str]) -> list[str]:
    found = [value.strip() for column, value in row.items() if column and column.strip().lower() in columns]
    return [value for value in found if value]


def _ids(row: Row) -> list[tuple[str, str]]:
    """Numbers, logins and addresses, each with its column."""
    return [
        (value.strip(), column.strip().lower())
        for column, value in row.items()
        if column and column.strip().lower() in IDS | EMAILS and value.strip()
    ]


def _names(row: Row) -> list[str]:
    """The names of a person in every order, the first of them to be shown."""
    parts = list(itertools.product(_values(row, FIRST), _values(row, LAST)))
    both = [name for first, last in parts for name in (f"{first} {last}", f"{last} {first}")]
    whole = [] if both else _values(row, NAMES)
    turned = [" ".join(reversed(name.split(", ", 1))) for name in whole if ", " in name]
    spaced = [" ".join((*words[1:], words[0])) for name in whole if ", " not in name and len(words := name.split()) > 1]
    return [*both, *turned, *whole, *spaced]


def _listed(roster: Roster, rows: Iterable[int]) -> str:
    return ", ".join(f"{roster[number].name} ({roster[number].key})" for number in sorted(rows))


# --- the file ---------------------------------------------------------------------------------------------------------

NAME = "roster.csv"


def read(path: Path) -> Roster:
    """The roster in a file. Raises ValueError if there is nobody in it."""
    if not path.is_file():
        raise ValueError(f"the roster {path} is not a file")
    rows = tables.read(path.read_bytes())
    if not (roster := Roster(rows)):
        told = ", ".join(tables.columns(rows)) or "none"
        raise ValueError(f"{path} has nobody in a column that names a student; its columns are: {told}")
    return roster


def remember(path: Path, grading: Path) -> None:
    """Keep a roster for this run and later ones. Raises ValueError if there is nobody in it."""
    read(path)
    grading.mkdir(parents=True, exist_ok=True)
    if path.resolve() != (grading / NAME).resolve():
        shutil.copyfile(path, grading / NAME)


def remembered(grading: Path) -> Roster:
    """The roster that was given last; nobody if none was."""
    path = grading / NAME
    return read(path) if path.is_file() else Roster()
