"""What was handed in, where nbgrader's own commands and formgrader look for it.

grading/submitted/STUDENT/LAB/LAB.ipynb       and beside it timestamp.txt, when it was handed in

What already lies there, since `nbgrader collect` brought it, stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from course.inbox import Choice, Submission


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
