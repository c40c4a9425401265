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
    *("matrikelnummer", "anmeldename", "nutzername", "id-nummer", "orgdefinedid", "github username", "github_username"),
    *("identifiant", "numéro d'identification", "numéro d’identification", "nom d'utilisateur", "número de id"),
    *("identificador", "número de identificación", "codice identificativo", "学号", "标识符", "标识号", "用户名"),
}
EMAILS = {
    *("email", "e-mail", "email address", "e-mail address", "mail", "e-mail-adresse", "mailadresse", "courriel"),
    *("adresse de courriel", "adresse e-mail", "dirección de correo", "correo electrónico", "indirizzo email"),
    *("endereço de e-mail", "邮箱", "电子邮件", "电子邮件地址", "email地址"),
}
NAMES = {
    *("name", "full name", "student", "student name", "display name", "vollständiger name", "last name, first name"),
    *("nom complet", "nombre completo", "nome completo", "nombre", "nome", "姓名", "全名"),
}
FIRST = {"first name", "firstname", "given name", "vorname", "prénom", "nombre", "nome", "名", "名字"}
LAST = {
    *("last name", "lastname", "surname", "family name", "nachname", "name", "nom", "nom de famille", "apellidos"),
    *("apellido(s)", "apellido", "cognome", "apelido", "sobrenome", "姓", "姓氏"),
}
SECTIONS = {
    *("section", "sections", "group", "groups", "gruppe", "gruppen", "class", "tutorial", "groupe", "groupes"),
    *("grupo", "grupos", "gruppo", "gruppi", "小组", "班级"),
}
ROLES, TEACHERS = {"role", "roles", "rolle", "rollen"}, {"instructor", "teacher", "ta", "teaching assistant", "reader"}
NOTHING = {"", "-", "--", "–", "—", "n/a", "#n/a"}
BLIND = re.compile(r"(?:participant|teilnehm|partecipant|deelnem|deltag|参与|参加)\D*(\d+)", re.IGNORECASE)


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
    """The people of a class. Rows that say the same of somebody but for the section are one."""

    def __init__(self, rows: Iterable[Row] = ()):
        self.rows: list[Row] = []
        self._sections: list[list[str]] = []
        seen: dict[tuple[str, ...], int] = {}
        for row in rows:
            if _is_person(row):
                who = tuple(sorted(value.casefold() for value, _ in _ids(row))) or (str(len(self.rows)),)
                number = seen.setdefault((*_names(row)[:1], *who), len(self.rows))
                if number == len(self.rows):
                    self.rows.append(row)
                    self._sections.append([])
                self._sections[number] += _values(row, SECTIONS)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Person:
        row = self.rows[number]
        ids = [value for value, _ in _ids(row)]
        emails = _values(row, EMAILS)
        name = next(iter(_names(row)), "")
        key = next(iter([*_values(row, {"sis login id", "login", "username"}), *emails, *ids]), name)
        return Person(name or key, key, ", ".join(dict.fromkeys(self._sections[number])), row)

    @cached_property
    def _sure(self) -> dict[str, set[int]]:
        """The rows by numbers, logins and addresses."""
        found: dict[str, set[int]] = defaultdict(set)
        for number, row in enumerate(self.rows):
            for value, column in _ids(row):
                found[value.casefold()].add(number)
                if column == "id":
                    found[f"canvas:{value}"].add(number)
                plain = column == "identifier" and re.fullmatch(r"\D*(\d+)", value)
                if moodle := plain or BLIND.fullmatch(value):
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
        for number, row in enumerate(self.rows):
            for name in _names(row):
                for spelled in _without_accents(name):
                    found[spelled].add(number)
        found.pop("", None)
        return found

    def rows_of(self, known: Known) -> set[int]:
        """The rows that may be somebody's; more than one if there is no telling which."""
        sure = self._sure.get(known.key.casefold()) or self._sure.get(known.student.casefold())
        if sure:
            return sure
        address = re.search(r"[^\s<>()]+@[^\s<>()]+", known.key)
        if rows := self._sure.get(address[0].casefold()) if address else self._by_both(known.key):
            return rows
        names = [squeezed(name) for name in (known.key, known.student) if ":" not in name]
        spelled = [name for known in names for name in _without_accents(known)]
        among = ((self._likely, names), (self._other, names), (self._other, spelled))
        return next((found[name] for found, wanted in among for name in wanted if name in found), set())

    def _by_both(self, name: str) -> set[int]:
        """The rows in which both a number or login and the name stand that are parts of a name, as ILIAS, OLAT and
        Sakai put them together: Ek_Ada_aek_7001, "Ek, Ada(aek)"."""
        parts = [part for part in re.split(r"[\s_,()]+", name) if part]
        found: set[int] = set()
        for at, part in enumerate(parts):
            if rows := self._sure.get(part.casefold()):
                for rest in (parts[:at], parts[at + 1 :], parts[:at] + parts[at + 1 :]):
                    found |= rows & self._likely.get(squeezed("".join(rest)), set())
        return found

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
        if colon and prefix in ("canvas", "moodle", "brightspace")
        else "address"
        if "@" in (known.key or known.student)
        else "folder"
    )


def squeezed(name: str) -> str:
    """A name as it is in a file's: ekanna for "Ek, Anna" and oneill for "O'Neill" and for "O_Neill"."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name)).casefold()


GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae"})
PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae"})


def _without_accents(name: str) -> list[str]:
    """A squeezed name in the letters of ASCII: joerg and jorg for "Jörg"."""
    letters = [squeezed(name).translate(table) for table in (GERMAN, PLAIN)]
    return [re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFKD", text)) for text in letters]


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
    if any(value.casefold() in TEACHERS for value in _values(row, ROLES)) or "_PreviewUser" in " ".join(_names(row)):
        return False
    if {"Student", "ID"} <= row.keys():
        return bool(row["ID"].strip()) and first not in ("Student, Test", "Points Possible")
    return bool(_names(row) or _ids(row))


def _values(row: Row, columns: Iterable[str]) -> list[str]:
    found = [_value(value) for column, value in row.items() if column and column.strip().lower() in columns]
    return [value for value in found if value]


def _value(text: str) -> str:
    """What a field says: nothing if it is a dash; without the # that Brightspace puts before it."""
    value = text.strip()
    return "" if value.casefold() in NOTHING else value.removeprefix("#")


def _ids(row: Row) -> list[tuple[str, str]]:
    """Numbers, logins and addresses, each with its column."""
    return [
        (_value(value), column.strip().lower())
        for column, value in row.items()
        if column and column.strip().lower() in IDS | EMAILS and _value(value)
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
