"""Tables as other systems and spreadsheets save them (.csv), and as none of them misreads them."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from course.pages import clean, number

Row = Mapping[str, str]  # by column


def read(data: bytes) -> list[Row]:
    """The rows of a table, with commas, semicolons or tabs, in any encoding that spreadsheets save.

    The first line names the columns; above it may be one that tells Excel what is between them. NULs are left out.

    Raises ValueError.
    """
    text = re.sub(r"\Asep=.\s*?\n", "", _decoded(data).replace("\0", ""), flags=re.IGNORECASE)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval=""))
    except csv.Error as error:
        raise ValueError(f"the table cannot be read: {error}") from None


def _decoded(data: bytes) -> str:
    """The text of a table in UTF-8, UTF-16, Chinese or, if it is none of these, Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:2]:
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", "replace")
    with contextlib.suppress(UnicodeDecodeError):
        return data.decode("utf-8-sig")
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode("gb18030")
        if re.match(r".*(姓|名|学号)", text):  # or else what is valid may be a few letters with accents
            return text
    return data.decode("cp1252", "replace")


def columns(rows: Sequence[Row]) -> list[str]:
    return [column for column in (rows[0] if rows else ()) if column is not None]


def text(rows: Iterable[Iterable[Any]]) -> str:
    """A table of these rows."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return file.getvalue()


def cell(value: str | float | None) -> str:
    """A number, or text that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return number(value)
    words = clean(value)
    formula = words.startswith(("\t", "\n")) or words.lstrip().startswith(tuple("=+-@＝＋－＠"))
    return "'" + words if formula else words
