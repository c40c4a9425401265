"""A file that a student handed in."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from course.inbox.places import Where


@dataclass(frozen=True)
class Submission:
    """A file and whose it is.

    student: the name of a folder, "" if it is nobody's. file: its name. content: the bytes or where they are.
    when: its time stamp. problem: why it cannot be graded; "" if it can. key: what tells the student apart from all
    others: a number, an e-mail address or the name of a folder. lab: that it is of by its content.
    place, path: where it was found, and as what. notebook: whether it is one, or called one.
    """

    student: str
    file: str
    content: bytes | Where = b""
    when: float = 0.0
    problem: str = ""
    key: str = ""
    lab: str | None = None
    place: str = ""
    path: str = ""
    notebook: bool = True

    @property
    def data(self) -> bytes:
        """The bytes, read anew each time; none if they cannot be read."""
        if isinstance(self.content, bytes):
            return self.content
        try:
            return b"" if self.problem else self.content.read()
        except Exception:  # of many kinds; it could be read when it was found
            return b""

    @cached_property
    def digest(self) -> str:
        """Of the bytes or, where there are none to be graded, of what is wrong."""
        wrong = f"{self.file}: {self.problem}".encode("utf-8", "replace")
        return hashlib.sha256(wrong if self.problem else self.data).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker has its bytes with it, and their own digest."""
        state = {name: value for name, value in self.__dict__.items() if name != "digest"}
        return state | {"content": self.data}


def plain(name: str) -> str:
    """A name that is safe as that of a folder."""
    return re.sub(r"[^\w .@+-]", "_", unicodedata.normalize("NFC", name)).strip(". ")[:80].strip(". ") or "_"
