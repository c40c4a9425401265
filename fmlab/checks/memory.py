"""What a lab remembers when its notebook is started again: which checks passed, and what was predicted.

It stands in a small file beside the notebook, `.fmlab.json`, and is for the student alone: no mark depends on it. Where
the notebook's place is not known or cannot be written, or FMLAB_PROGRESS is "off", all is forgotten with the kernel.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fmlab.checks import notebook

FILE = ".fmlab.json"
EMPTY: dict[str, Any] = {"passed": [], "predictions": {}}


def recall(lab: str) -> dict[str, Any]:
    """passed: names of exercises. predictions: what was asked → the guess and the value, as they were shown."""
    mine = _read(_file()).get(lab)
    mine = mine if isinstance(mine, dict) else {}
    return {key: mine[key] if isinstance(mine.get(key), type(empty)) else empty for key, empty in EMPTY.items()}


def note_check(lab: str, exercise: str, passed: bool) -> None:
    """Remember that a check has passed, or that it no longer does."""
    before = recall(lab)["passed"]
    after = [name for name in before if name != exercise] + [exercise] * passed
    if after != before:
        _write(lab, passed=after)


def note_prediction(lab: str, what: str, guess: str, value: str) -> None:
    """Remember a guess, in the place of an older one to the same question."""
    _write(lab, predictions=recall(lab)["predictions"] | {what: [guess, value]})


def _file() -> Path | None:
    if os.environ.get("FMLAB_PROGRESS") == "off":
        return None
    try:
        return notebook.find().parent / FILE
    except notebook.NotReady:
        return None


def _read(path: Path | None) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        found = {}
    return found if isinstance(found, dict) else {}


def _write(lab: str, **changes) -> None:
    """Change what is remembered of one lab. The file is replaced as a whole, so that a kernel that is killed meanwhile
    leaves it as it was."""
    path = _file()
    if path is None:
        return
    text = json.dumps(_read(path) | {lab: recall(lab) | changes}, ensure_ascii=False, indent=1)
    new = path.with_suffix(f".{os.getpid()}")
    try:
        new.write_text(text + "\n", encoding="utf-8")
        new.replace(path)
    except OSError:
        return
