"""Tables as other systems and spreadsheets save them (.csv), and as none of them misreads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from course.pages import clean, number

Row = Mapping[str, str]  # by column


def read(data: bytes) -> list[Row]:
    """The rows of a table, in UTF-8 or Latin-1, with commas, semicolons or tabs. The first line names the columns.

    Raises ValueError.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval=""))
    except csv.Error as error:
        raise ValueError(f"the table cannot be read: {error}") from None


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
