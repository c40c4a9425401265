"""What is in a place: the files of a folder or a zip, of the zips within, or those that a table names.

Nothing is unpacked to a folder and no link is followed. Bytes are read one file at a time, when they are needed.
"""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from time import mktime
from typing import IO, NamedTuple

from course import tables
from course.repair import MOST_BYTES

MOST_FOLDERS, MOST_ZIPS = 30, 3  # one in the other
MOST_ENTRIES, MOST_UNPACKED = 20_000, 2**30  # of a zip that a student made

LINK = "It is a link, which is not followed; hand in the file itself."
DEVICE = "It is a device, which is not read; hand in the file itself."
EMPTY = "The folder is empty."
LEFT_OUT = "Left out: "


class NotFound(ValueError):
    """A place with submissions cannot be read; the message says what to do."""


class Where(NamedTuple):
    """Where bytes are: a file, and the number of the entry if that is a zip, for each zip within a zip."""

    file: Path
    entries: tuple[int, ...] = ()

    def read(self) -> bytes:
        """The bytes, up to one more than the most that is read of a notebook."""
        with self.open() as file:
            return file.read(MOST_BYTES + 1)

    def open(self) -> IO[bytes]:
        if not self.entries:
            return self.file.open("rb")
        archive = opened(Where(self.file, self.entries[:-1]))
        return archive.open(archive.infolist()[self.entries[-1]])


class Item(NamedTuple):
    """A file that came in. path: its parts below the place; the last is "" for a folder in which nothing is.

    where: its bytes, None if there are none to be read; problem: why. owner: the student that a table names.
    """

    place: str
    path: tuple[str, ...]
    where: Where | None
    when: float = 0.0
    problem: str = ""
    owner: str = ""


def came_in(place: Path) -> list[Item]:
    """All that is in a place, in a fixed order. Raises NotFound."""
    if not place.exists():
        raise NotFound(f"{place}: there is no such folder or file.")
    try:
        if place.is_dir():
            items = list(_in_folder(place, place.as_posix()))
        elif place.suffix.lower() == ".csv":
            return list(_listed(place))
        elif place.suffix.lower() == ".ipynb":
            items = list(_file(Where(place), place.as_posix(), (place.name,), place.stat().st_mtime))
        else:
            opened(Where(place))
            items = list(_in_zip(Where(place), place.as_posix(), ()))
    except NotFound:
        raise
    except (zipfile.BadZipFile, ValueError, RuntimeError, struct.error) as error:
        words = "neither a folder, nor a zip, nor a table (.csv) of submissions, nor a notebook"
        raise NotFound(f"{place}: {words} ({error}).") from None
    except OSError as error:
        raise NotFound(f"{place}: it cannot be read: {error.strerror or error}.") from None
    return sorted(items, key=lambda item: item.path)


# --- folders ----------------------------------------------------------------------------------------------------------


def _in_folder(folder: Path, place: str, path: tuple[str, ...] = ()) -> Iterator[Item]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        if not path:
            raise
        yield Item(place, (*path, ""), None, problem=f"The folder could not be read: {error.strerror}.")
        return
    if path and not entries:
        yield Item(place, (*path, ""), None, problem=EMPTY)
    for entry in entries:
        yield from _entry(entry, place, (*path, readable(entry.name)))


def _entry(entry: os.DirEntry, place: str, path: tuple[str, ...]) -> Iterator[Item]:
    folder = entry.is_dir()
    if entry.is_symlink():
        yield Item(place, (*path, "") if folder else path, None, problem=LINK)
    elif why := left_out(path[-1], folder):
        yield Item(place, (*path, "") if folder else path, Where(Path(entry.path)), problem=why)
    elif folder and len(path) > MOST_FOLDERS:
        yield Item(place, (*path, ""), None, problem=f"It lies within more than {MOST_FOLDERS} folders.")
    elif folder:
        yield from _in_folder(Path(entry.path), place, path)
    elif not entry.is_file():
        yield Item(place, path, None, problem=DEVICE)
    else:
        yield from _file(Where(Path(entry.path)), place, path, entry.stat().st_mtime)


def _file(where: Where, place: str, path: tuple[str, ...], when: float, owner: str = "") -> Iterator[Item]:
    """A file, or what is in it if it is a zip."""
    if not path[-1].lower().endswith(".zip"):
        yield Item(place, path, where, when, owner=owner)
    elif len(where.entries) >= MOST_ZIPS:
        yield Item(place, path, None, when, f"It is a zip within {MOST_ZIPS} zips, which is not opened.", owner)
    else:
        try:
            _fit(where)
            inside = list(_in_zip(where, place, path))
        except Exception as error:  # of many kinds, for what is damaged
            yield Item(place, path, None, when, f"The zip could not be opened: {error}.", owner)
            return
        yield from [item._replace(owner=owner) for item in inside] or [
            Item(place, (*path, ""), None, when, "The zip is empty.", owner)
        ]


# What systems put beside the work of students, which is nobody's.
SYSTEM = re.compile(
    r"__MACOSX|\._.*|\.~.*|~\$.*|\.DS_Store|Thumbs\.db|desktop\.ini|ehthumbs\.db|__pycache__|node_modules|site-packages|"
    r"submission_metadata\.yml|timestamp\.txt|\..*(?<!\.ipynb)",
    re.IGNORECASE,
)


def left_out(name: str, folder: bool = False) -> str:
    """Why a file or folder of this name is left out; "" if it is not."""
    own = SYSTEM.fullmatch(name) or (folder and name.startswith("."))
    return f"{LEFT_OUT}written by a program, not by a student." if own else ""


def readable(name: str) -> str:
    """The name of a file as text, also if it is in Latin-1."""
    try:
        name.encode()
        return name
    except UnicodeEncodeError:
        return os.fsencode(name).decode("cp1252", "replace")


# --- zips -------------------------------------------------------------------------------------------------------------


def opened(where: Where) -> zipfile.ZipFile:
    """The zip that is there."""
    state = where.file.stat()
    return _opened(where, (state.st_mtime_ns, state.st_size))


@functools.lru_cache(4)
def _opened(where: Where, state: tuple[int, int]) -> zipfile.ZipFile:
    try:
        return Copied(_copy(where)) if where.entries else zipfile.ZipFile(where.file)
    except UnicodeDecodeError:
        return Copied(_without_unicode(_copy(where)))


class Copied(zipfile.ZipFile):
    """A zip in a file that goes with it."""

    def __init__(self, file: IO[bytes]):
        self.copy = file
        try:
            super().__init__(file)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        super().close()
        self.copy.close()


def _copy(where: Where) -> IO[bytes]:
    """The bytes in a file that goes when it is closed."""
    copy = tempfile.TemporaryFile()
    with where.open() as file:
        shutil.copyfileobj(file, copy)
    return copy


def _directory(file: IO[bytes]) -> tuple[int, int, int, int]:
    """How many entries a zip has, the size and the start of its directory, and the start of the zip in the file."""
    file.seek(0, io.SEEK_END)
    end = file.tell()
    file.seek(max(end - 2**16 - 22, 0))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        raise zipfile.BadZipFile("it is no zip")
    count, size, offset = struct.unpack("<HLL", tail[at + 10 : at + 20])
    start = end - len(tail) + at - size
    if tail[max(at - 20, 0) : max(at - 16, 0)] == b"PK\6\7":  # a large zip has these numbers again, in more bytes
        file.seek(start + size - 76)
        count, size, offset = struct.unpack("<QQQ", file.read(56)[32:])
        start = end - len(tail) + at - 76 - size
    return count, size, start, start - offset


def _without_unicode(file: IO[bytes]) -> IO[bytes]:
    """The same zip without the flags that say that names are in UTF-8, for some are not."""
    _, size, at, zero = _directory(file)
    end = at + size
    while at < end:
        file.seek(at)
        entry = file.read(46)
        _clear(file, at + 9)
        _clear(file, zero + struct.unpack("<L", entry[42:])[0] + 7)
        at += 46 + sum(struct.unpack("<HHH", entry[28:34]))
    return file


def _clear(file: IO[bytes], at: int) -> None:
    """Clear the flag that says UTF-8, in the byte that is there."""
    file.seek(at)
    (flags,) = file.read(1)
    file.seek(at)
    file.write(bytes([flags & ~8]))


def _fit(where: Where) -> None:
    """Raise ValueError for a zip that would unpack to more than anybody hands in, before it is opened."""
    if where.entries:
        outer = opened(Where(where.file, where.entries[:-1]))
        if outer.infolist()[where.entries[-1]].file_size > MOST_UNPACKED:
            raise ValueError(f"it is larger than {MOST_UNPACKED / 2**30:.0f} GB")
    with where.open() as file:
        count, size, *_ = _directory(file)
    if count > MOST_ENTRIES or size > 300 * MOST_ENTRIES or len(opened(where).infolist()) > MOST_ENTRIES:
        raise ValueError(f"it has more than {MOST_ENTRIES} files")
    if sum(min(info.file_size, MOST_BYTES) for info in opened(where).infolist()) > MOST_UNPACKED:
        raise ValueError(f"it would unpack to more than {MOST_UNPACKED / 2**30:.0f} GB")


def _in_zip(where: Where, place: str, path: tuple[str, ...]) -> Iterator[Item]:
    infos = opened(where).infolist()
    paths = [(*path, *_parts(info)) for info in infos]
    above = {known[:k] for known in paths for k in range(len(known))}
    junk: set[tuple[str, ...]] = set()
    for number, (info, own) in enumerate(zip(infos, paths)):
        if len(own) == len(path):
            continue
        if folder := next((own[:k] for k in range(len(path) + 1, len(own)) if left_out(own[k - 1], True)), None):
            if folder not in junk:
                yield Item(place, (*folder, ""), None, problem=left_out(folder[-1], True))
            junk.add(folder)
        elif not info.is_dir() or own not in above:
            yield from _from_zip(Where(where.file, (*where.entries, number)), info, place, own)


def _from_zip(where: Where, info: zipfile.ZipInfo, place: str, path: tuple[str, ...]) -> Iterator[Item]:
    when = _time(info)
    if why := left_out(path[-1], info.is_dir()):
        yield Item(place, (*path, "") if info.is_dir() else path, where, when, why)
    elif len(path) > MOST_FOLDERS:
        yield Item(place, path, None, when, f"It lies within more than {MOST_FOLDERS} folders.")
    elif info.is_dir():
        yield Item(place, (*path, ""), None, when, EMPTY)
    elif stat.S_ISLNK(info.external_attr >> 16):
        yield Item(place, path, None, when, LINK)
    else:
        yield from _file(where, place, path, when)


def _parts(info: zipfile.ZipInfo) -> tuple[str, ...]:
    """The path of an entry, in which nothing leads out of the zip."""
    parts = tuple(part for part in _name(info).replace("\\", "/").split("/") if part not in ("", ".", ".."))
    return parts if len(parts) <= MOST_FOLDERS else (*parts[:MOST_FOLDERS], parts[-1])


def _name(info: zipfile.ZipInfo) -> str:
    """The name of an entry, which is in UTF-8 if it says so, or else in what the program that made it takes."""
    if info.flag_bits & 0x800:
        return info.filename
    raw = info.filename.encode("cp437", "replace")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        latin = all(byte < 128 or byte >= 0xC0 for byte in raw)
        return raw.decode("cp1252" if latin else "cp437", "replace")


def _time(info: zipfile.ZipInfo) -> float:
    try:
        return mktime((*info.date_time, 0, 0, -1))
    except (OverflowError, ValueError):
        return 0.0


# --- tables -----------------------------------------------------------------------------------------------------------


def _listed(table: Path) -> Iterator[Item]:
    rows = tables.read(table.read_bytes())
    names = {name.strip().lower(): name for name in tables.columns(rows)}
    if not {"student", "path"} <= names.keys():
        raise NotFound(f'{table}: the first line must name the columns "student" and "path".')
    for number, row in enumerate(rows, start=2):
        owner, path = (row[names[name]].strip() for name in ("student", "path"))
        file = table.parent / path
        if not owner or not path or not file.is_file():
            raise NotFound(f"{table}, line {number}: no student, or no file {file}.")
        parts = tuple(part for part in Path(path).parts if part != file.anchor)
        yield from _file(Where(file), table.as_posix(), parts, file.stat().st_mtime, owner)
