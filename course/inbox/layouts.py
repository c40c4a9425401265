"""Whose the files are, by how they lie: as Moodle, Canvas, Gradescope, ILIAS, Blackboard, Brightspace or nbgrader name
them, or with a folder or a file for each student, within whatever folders.

Not the name of a folder decides what it is but what is in it, so that a class does not become one student. A name that
the roster has is a student's wherever it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from course.inbox.kinds import ARCHIVES, File, is_document
from course.inbox.places import LEFT_OUT
from course.inbox.words import file_stem, nobody, related, shared_start, somebody, stem, without_copy, without_lab

MOODLE = re.compile(r"(.+?)_(\d+)_assignsubmission_[a-z]+(?:_.*)?", re.DOTALL)
CANVAS = re.compile(r"(?:([^_]+)(?:_LATE)?_(\d+)|anon(?:_LATE)?_([^\W_]{5}))_(?:\d+|text)[_.].+", re.DOTALL)
BLACKBOARD = re.compile(r"(.+)_attempt_\d{4}(?:-\d\d){5}(?:[_.].*)?", re.DOTALL)
BRIGHTSPACE = re.compile(r"(\d+)-\d+ - (.+?) - .*\b\d{4}\b.*", re.DOTALL)
EXCHANGE = re.compile(r"([^+]+)\+[^+]+\+\d{4}-\d\d-\d\d .+", re.DOTALL)
# What Moodle calls everybody in a language, where names are hidden.
UNNAMED = re.compile(r"(participant|teilnehm|partecipant|deelnem|deltag|anonym|参与|参加)[^\W\d]*", re.IGNORECASE)
METADATA = "submission_metadata.yml"


class Owner(NamedTuple):
    """Whose a file is: a name, and what tells the owner apart from all others of the same system.

    home: the folder or file by whose name the owner is known, "" where the system has a number for everybody.
    """

    name: str
    key: str
    system: str = "folder"
    home: tuple[str, ...] = ()


Owned = tuple[File, Sequence[Owner]]


@dataclass
class Folder:
    folders: dict[str, Folder] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)

    def all(self) -> Iterator[File]:
        yield from self.files
        for folder in self.folders.values():
            yield from folder.all()

    @property
    def has_notebooks(self) -> bool:
        return any(file.notebook for file in self.all())


@dataclass(frozen=True)
class Layout:
    """The files of a place. known: whether the roster has a name. more: words that are nobody's name."""

    known: Callable[[str], bool] = lambda name: False
    more: Collection[str] = ()

    def owned(self, files: Iterable[File]) -> list[Owned]:
        """Every file with its owners, who are none if it is nobody's and several if it is a group's."""
        files = list(files)
        listed = [(file, [named(file.item.owner)]) for file in files if file.item.owner]
        return listed + list(self._within(_tree(file for file in files if not file.item.owner), ()))

    # --- a folder that holds the work of several ----------------------------------------------------------------------

    def _within(self, folder: Folder, trail: tuple[str, ...]) -> Iterator[Owned]:
        members = _members(folder)
        by = self._system(folder)
        each = not _is_canvas(folder) and any(self._is_somebodys(file) for file in folder.files if file.notebook)
        for file in folder.files:
            name = file.item.path[-1]
            owner = by(name) or self._of_loose(file, trail, each)
            yield file, [owner] if owner else []
        own = {name: sub for name, sub in folder.folders.items() if not (members.get(name) or by(name))}
        students = self._students(own)
        shared = _shared(students)
        for name, sub in folder.folders.items():
            if members.get(name):
                owners = members[name]
            elif owner := by(name):
                owners = [owner]
            elif name in students:
                owners = [self._named(stem(name), trail, shared)]
            else:
                yield from self._within(sub, (*trail, name))
                continue
            yield from ((file, owners) for file in sub.all())

    def _is_somebodys(self, file: File) -> bool:
        return somebody(without_copy(file_stem(file.item.path[-1])), self.more)

    def _of_loose(self, file: File, trail: tuple[str, ...], each: bool) -> Owner | None:
        """Whose a file is that lies among those of others. each: whether there are files that students are named by."""
        name = file.item.path[-1]
        bare = without_copy(file_stem(name))
        if _left_out(file):
            return None
        handed_in = file.notebook or name.lower().endswith((".zip", *ARCHIVES)) or (each and is_document(name))
        if self._has(bare) or (handed_in and self._is_somebodys(file)):
            return self._named(bare, trail)
        return named(stem(name), trail) if file.notebook else None

    def _named(self, name: str, trail: Sequence[str], shared: str = "") -> Owner:
        """The owner of a folder or file by its name, in which that of a lab may stand, or what all of them share."""
        found = (one for one in (name, without_lab(name, self.more), name.removeprefix(shared)) if self.known(one))
        return named(name, trail, next(found, without_lab(name, self.more)))

    def _has(self, name: str) -> bool:
        """Whether the roster has a name, in which that of a lab may stand."""
        return self.known(name) or self.known(without_lab(name, self.more))

    def _system(self, folder: Folder) -> Callable[[str], Owner | None]:
        """What tells whose a file or folder in this one is, if a system named it."""
        canvas, heads = _is_canvas(folder), _heads(folder)
        start = shared_start(heads).rfind("_") + 1

        def by(name: str) -> Owner | None:
            if found := BLACKBOARD.fullmatch(name):
                login = without_lab(found[1][start:], self.more)
                login = login.rpartition("_")[2] if login == found[1] else login
                return Owner(login, unicodedata.normalize("NFC", login), "blackboard", (found[1],))
            return _by_system(name, canvas)

        return by

    # --- which folders are students' ----------------------------------------------------------------------------------

    def _students(self, siblings: Mapping[str, Folder]) -> set[str]:
        """Which of the folders side by side are a student's each; the others hold those of several."""
        people = {name: self._people(sub, name) for name, sub in siblings.items()}
        direct = {name for name, sub in siblings.items() if any(file.notebook for file in sub.files)}
        plain = {name for name in direct if len(people[name]) < 2 and not nobody(name, self.more)}
        crowded = {name for name in direct if len(people[name]) > 1}
        own = {name for name in plain if not self._stems(siblings[name], name)}
        of_several = any(len(found) > 1 and name not in direct for name, found in people.items())
        alone = Counter(next(iter(found)) for found in people.values() if len(found) == 1)

        def is_student(name: str) -> bool:
            sub, found = siblings[name], people[name]
            if self._has(stem(name)):
                return True
            if self._knows(sub) or nobody(name, self.more) or (_has_system(sub) and not plain - {name}):
                return False
            if not sub.has_notebooks:
                most = 0 if of_several else 1
                return len(sub.folders) <= most or not all(map(_left_out, sub.files))
            if name in direct and len(crowded) > len(own):
                return len(found) < 2 and not self._stems(sub, name)
            if len(found) > 1:
                return name in direct
            return not found or bool(plain - {name}) or name in direct or alone[next(iter(found))] > 1

        return {name for name in siblings if is_student(name)}

    def _people(self, folder: Folder, own: str) -> set[str]:
        """Names of people within a folder, other than its own."""
        found: set[str] = set()
        for name, sub in folder.folders.items():
            if sub.has_notebooks:
                passes = nobody(name, self.more) or related(name, own)
                found |= self._people(sub, own) if passes else {name}
        labs = self._stems(folder, own)
        if found or max(Counter(labs.values()).values(), default=0) > 1:
            found |= labs.keys()
        return found

    def _stems(self, folder: Folder, own: str) -> dict[str, str | None]:
        """The labs of the notebooks in a folder that may have a person's name, by that name."""
        names = {without_copy(stem(file.item.path[-1])): file.lab for file in folder.files if file.notebook}
        return {name: lab for name, lab in names.items() if somebody(name, self.more) and not related(name, own)}

    def _knows(self, folder: Folder) -> bool:
        """Whether a name of the roster stands within a folder."""
        return any(self._has(stem(name)) or self._knows(sub) for name, sub in folder.folders.items()) or any(
            self._has(without_copy(file_stem(file.item.path[-1]))) for file in folder.files if file.item.path[-1]
        )


def _shared(names: Collection[str]) -> str:
    """What stands before a hyphen in each of many names, as GitHub Classroom puts an assignment before logins."""
    shared = shared_start(names) if len(names) > 2 else ""
    return shared[: shared.rfind("-") + 1]


def named(name: str, trail: Sequence[str] = (), bare: str = "") -> Owner:
    """The owner of a folder or file by its name. bare: what of the name is the person's."""
    above = trail if nobody(name) else [part for part in trail if not nobody(part)]
    return Owner(bare or name, unicodedata.normalize("NFC", bare or name), home=(*above, name))


def _tree(files: Iterable[File]) -> Folder:
    root = Folder()
    for file in files:
        folder, path = root, file.item.path
        for part in path[: -2 if _left_out(file) and not path[-1] else -1]:
            folder = folder.folders.setdefault(part, Folder())
        folder.files.append(file)
    return root


def _left_out(file: File) -> bool:
    return file.problem.startswith(LEFT_OUT)


# --- systems ----------------------------------------------------------------------------------------------------------


def _by_system(name: str, canvas: bool) -> Owner | None:
    """Whose a file or folder is that Moodle, Canvas, Brightspace or nbgrader's exchange named."""
    if found := MOODLE.fullmatch(name):
        who = f"{found[1]} {found[2]}" if UNNAMED.fullmatch(found[1]) else found[1]
        return Owner(who, f"moodle:{found[2]}", "moodle")
    if canvas and (found := CANVAS.fullmatch(name)):
        return Owner(found[1] or f"anon {found[3]}", f"canvas:{found[2] or found[3]}", "canvas")
    if found := BRIGHTSPACE.fullmatch(name):
        return Owner(found[2], f"brightspace:{found[1]}", "brightspace")
    if found := EXCHANGE.fullmatch(name):
        return Owner(found[1], unicodedata.normalize("NFC", found[1]), "nbgrader")
    return None


def _heads(folder: Folder) -> set[str]:
    """The assignments and logins that Blackboard put before the names of files."""
    names = [*folder.folders, *(file.item.path[-1] for file in folder.files)]
    return {found[1] for name in names if (found := BLACKBOARD.fullmatch(name))}


def _is_canvas(folder: Folder) -> bool:
    """Whether most of what is somebody's in a folder is named as Canvas names it."""
    names = [file.item.path[-1] for file in folder.files if file.notebook]
    names += [name for name in folder.folders if name.lower().endswith(".zip")]
    names = names or [file.item.path[-1] for file in folder.files]
    return 2 * sum(bool(CANVAS.fullmatch(name)) for name in names) > len(names)


def _has_system(folder: Folder) -> bool:
    """Whether a system's names stand within a folder."""
    names = [*folder.folders, *(file.item.path[-1] for file in folder.files)]
    return (
        METADATA in names
        or any(known.fullmatch(name) for name in names for known in (MOODLE, BLACKBOARD, BRIGHTSPACE, EXCHANGE))
        or (_is_canvas(folder) and len(names) > 1)
        or any(_has_system(sub) for sub in folder.folders.values())
    )


def _members(folder: Folder) -> dict[str, list[Owner]]:
    """Who handed in each folder of Gradescope's export: one, or all of a group."""
    found: dict[str, list[Owner]] = {}
    for file in folder.files:
        found |= _submitters(file) if file.item.path[-1] == METADATA else {}
    return found


def _submitters(file: File) -> dict[str, list[Owner]]:
    try:
        entries = yaml.load(file.item.where.read(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return {str(name): list(_each(entry.get(":submitters") or ())) for name, entry in entries.items()}
    except Exception:  # of many kinds, for what is damaged; the folders' own names remain
        return {}


def _each(submitters: Sequence[Any]) -> Iterator[Owner]:
    for submitter in submitters:
        email, number, name = (str(submitter.get(f":{what}") or "").strip() for what in ("email", "sid", "name"))
        key = email.lower() or number or name
        if key:
            yield Owner(email or name or number, key, "gradescope")
