"""What takes seconds to make of this repository's files, kept in grading/kept/ until any of them changes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from course import edition

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "grading" / "kept"
SETTINGS = ("nbgrader_config.py", "pyproject.toml")
MAKERS = ("jupytext", "nbformat", "nbgrader", "torch")  # by whose versions it may differ


def kept(make: Callable[[str | None], Any]) -> Callable[[str | None], Any]:
    """Decorator: what a function makes for a lab, or for None, out of the files alone: a text or a notebook."""

    @functools.cache
    @functools.wraps(make)
    def remembered(lab: str | None) -> Any:
        from nbformat import from_dict

        path, now = KEPT / f"{make.__name__}-{lab}.json", state()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if (found := json.loads(path.read_bytes()))["state"] == now:
                return from_dict(found["made"])
        made = make(lab)
        with contextlib.suppress(OSError):  # where nothing can be written, it is made each time
            KEPT.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            part.write_text(json.dumps({"state": now, "made": made}), encoding="utf-8")
            os.replace(part, path)
        return made

    return remembered


def state() -> str:
    """A digest of the course, the library, the edition and what is installed."""
    path = edition.file()
    return f"{_code()} {hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else ''}"


@functools.cache
def _code() -> str:
    digest = hashlib.sha256(repr([platform.python_version(), *map(version, MAKERS)]).encode())
    code = sorted(path for package in ("course", "fmlab") for path in ROOT.glob(f"{package}/**/*.py"))
    for path in [*code, *map(ROOT.joinpath, SETTINGS)]:
        digest.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()
