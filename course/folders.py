"""What was handed out and handed in, where nbgrader's own commands and formgrader look for it.

grading/exchange/default_course/outbound/LAB/LAB.ipynb       what was handed out: formgrader calls it released
grading/submitted/STUDENT/LAB/LAB.ipynb                      what was handed in, and in timestamp.txt when

What already lies in grading/submitted, since `nbgrader collect` brought it, stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from nbformat import NotebookNode

from course import build
from course.inbox import Choice, Submission


def release(notebooks: Mapping[str, NotebookNode], grading: Path) -> None:
    """Lay students' notebooks, by lab, where nbgrader's exchange has what is released."""
    for folder in ("outbound", "inbound"):
        (grading / "exchange" / "default_course" / folder).mkdir(parents=True, exist_ok=True)
    for lab, notebook in notebooks.items():
        path = grading / "exchange" / "default_course" / "outbound" / lab / f"{lab}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(build.as_bytes(notebook))


def keep(choices: Iterable[Choice], grading: Path) -> None:
    """Copy what is to be graded to where nbgrader looks for it."""
    root = grading / "submitted"
    for submission, lab, *_ in choices:
        if lab and not submission.problem and not Path(submission.place).resolve().is_relative_to(root.resolve()):
            _keep(submission, lab, root / submission.student / lab)


def _keep(submission: Submission, lab: str, folder: Path) -> None:
    path, when = folder / f"{lab}.ipynb", folder / "timestamp.txt"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != submission.digest:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(submission.data)
        when.unlink(missing_ok=True)
    if submission.when and not when.exists():
        when.write_text(f"{datetime.fromtimestamp(submission.when, timezone.utc):%Y-%m-%d %H:%M:%S.%f} UTC\n")
