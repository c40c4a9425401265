"""What a file is: a notebook and of which lab, by its content, or why it is none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import NamedTuple

from nbformat import NotebookNode

from course.inbox.places import Item
from course.repair import Unrepairable, read, recognise

ARCHIVES = (".7z", ".rar", ".gz", ".tgz", ".tar", ".xz", ".bz2")
OTHERS = {
    (".pdf",): "It is a PDF, no notebook.",
    (".html", ".htm"): "It is a web page, no notebook.",
    ARCHIVES: "It is an archive that is not opened; hand in a zip.",
    (".py",): "It is a program, no notebook.",
    (".doc", ".docx", ".odt", ".rtf", ".pages"): "It is a document, no notebook.",
    (".png", ".jpg", ".jpeg", ".gif", ".heic", ".webp", ".svg"): "It is a picture, no notebook.",
}
WHY = {suffix: why for suffixes, why in OTHERS.items() for suffix in suffixes}
ALSO = ("", ".txt", ".json")  # as which browsers and mail programs save notebooks


def is_document(name: str) -> bool:
    """Whether a file of this name may have been handed in instead of a notebook."""
    return PurePath(name).suffix.lower() in WHY


class File(NamedTuple):
    """An item, and what it is. notebook: whether it is one, or called one. problem: why it cannot be graded."""

    item: Item
    notebook: bool
    problem: str = ""
    digest: str = ""
    lab: str | None = None


def kind(item: Item, releases: Mapping[str, NotebookNode], graded: Mapping[str, str]) -> File:
    """What an item is. graded: the labs of notebooks that were graded before, by their digests."""
    name = item.path[-1]
    suffix = PurePath(name).suffix.lower()
    called = ".ipynb" in name.lower() and suffix not in ARCHIVES
    if item.problem:
        return File(item, called, item.problem)
    if not called and suffix not in ALSO:
        return File(item, False, WHY.get(suffix, "It is no notebook."))
    try:
        data = item.where.read()
    except Exception as error:  # of many kinds, for what is damaged
        return File(item, called, f"It could not be {'unpacked' if item.where.entries else 'read'}: {error}")
    if not called and not _is_notebook(data):
        return File(item, False, "It is no notebook.")
    digest = hashlib.sha256(data).hexdigest()
    return File(item, True, "", digest, graded.get(digest) or recognise(data, releases))


def _is_notebook(data: bytes) -> bool:
    try:
        return (b'"cells"' in data or b'"worksheets"' in data) and bool(read(data, []))
    except Unrepairable:
        return False


def unrecognised(data: bytes) -> str:
    """Why no lab was recognised in a notebook."""
    try:
        read(data, [])
    except Unrepairable as failure:
        return f"No lab was recognised: {failure}."
    return "No lab was recognised in the file."
