"""Bytes to JSON: the encoding, the line ends, a merge that was not finished, what is no notebook at all."""

from __future__ import annotations

import json
from typing import Any

from course.repair.words import Unrepairable

MOST_BYTES = 64 * 2**20
MANY_BYTES = 10 * 2**20  # no lab is as large with its outputs
MOST_BRACKETS = 2_000_000  # of which each may be an object that takes twenty times its bytes

NAMES = {"utf-8-sig": "UTF-8 with a byte-order mark"}


def decode(data: bytes, notes: list[str]) -> str:
    """The text of a file, in whatever encoding and with whatever line ends it was saved."""
    if not data.strip(b"\0 \t\r\n"):
        raise Unrepairable("the file is empty")
    if len(data) > MOST_BYTES:
        size, most = len(data) / 2**20, MOST_BYTES / 2**20
        raise Unrepairable(f"the file is {size:.0f} MB large; the most that is read is {most:.0f} MB")
    if len(data) > MANY_BYTES:
        notes.append(f"The file is {len(data) / 2**20:.0f} MB large; what is not a cell's source was left out.")
    encoding = json.detect_encoding(data)
    if encoding != "utf-8":
        notes.append(f"The file is encoded in {NAMES.get(encoding, encoding.upper())}; it was converted to UTF-8.")
    text = data.decode(encoding, "replace")
    if encoding == "utf-8" and "\ufffd" in text and b"\xef\xbf\xbd" not in data:
        text = _mend(data, text, notes)
    if "\r" in text:
        notes.append("The file has line ends of Windows or of an old Mac; they were replaced.")
    return unix(text)


def _mend(data: bytes, text: str, notes: list[str]) -> str:
    """The text of bytes that are not UTF-8: damaged if other characters than ASCII can be read, else Latin-1."""
    if any(ord(character) > 127 and character != "\ufffd" for character in text):
        notes.append("Some bytes of the file are damaged; � stands for them.")
        return text
    notes.append("The file is encoded in Latin-1; it was converted to UTF-8.")
    return data.decode("cp1252", "replace")


def unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse(text: str, notes: list[str]) -> Any:
    """The JSON of a file. Of a merge that was not finished it takes one side."""
    brackets = text.count("{") + text.count("[")
    if brackets > MOST_BRACKETS:
        raise Unrepairable(f"the file has {brackets} opening brackets; the most that are read are {MOST_BRACKETS}")
    earlier, later = sides(text)
    if earlier == later:
        return _load(text, notes)
    for which, side in ("later", later), ("earlier", earlier):
        more: list[str] = []
        try:
            value = _load(side, more)
        except Unrepairable:
            continue
        notes += [f"The file is a merge that was not finished; the {which} side was taken.", *more]
        return value
    raise Unrepairable("the file is a merge that was not finished, and neither side is a notebook")


def sides(text: str) -> tuple[str, str]:
    """The earlier and the later text of a merge with its markers in it; the text twice if it is no merge."""
    if "<<<<<<<" not in text:
        return text, text
    kept: tuple[list[str], list[str]] = ([], [])
    both = targets = (0, 1)
    for line in text.split("\n"):
        mark = line[:7] if line[7:8] in ("", " ") else ""
        if mark == "<<<<<<<" and targets == both:
            targets = (0,)
        elif mark == "|||||||" and targets == (0,):
            targets = ()
        elif mark == "=======" and targets in ((0,), ()):
            targets = (1,)
        elif mark == ">>>>>>>" and targets == (1,):
            targets = both
        else:
            for side in targets:
                kept[side].append(line)
    return ("\n".join(kept[0]), "\n".join(kept[1])) if targets == both else (text, text)


# What is handed in by mistake, by its first characters.
NOT_NOTEBOOKS = {"%PDF": "a PDF", "PK\x03\x04": "a zip archive", "<!": "a web page", "<html": "a web page"}


def _load(text: str, notes: list[str]) -> Any:
    """The first JSON object in a text."""
    start = max(text.find("{"), 0)
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except RecursionError:
        raise Unrepairable("the file is nested too deeply for a notebook") from None
    except ValueError as error:
        kinds = [kind for mark, kind in NOT_NOTEBOOKS.items() if text.lstrip().startswith(mark)]
        reason = f"it is {kinds[0]}" if kinds else f"its JSON breaks off or is damaged: {str(error)[:100]}"
        raise Unrepairable(f"the file is not a notebook ({reason})") from None
    if text[:start].strip("\ufeff\0 \t\n") or text[end:].strip("\0 \t\n"):
        notes.append("There is something before or after the notebook in the file; it was left out.")
    return value
