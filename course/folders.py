"""What was handed out and handed in, where nbgrader's own commands and formgrader look for it.

grading/source/LAB/LAB.ipynb                                 the lab with its hidden tests, as a build writes it, too
grading/exchange/default_course/outbound/LAB/LAB.ipynb       what was handed out: formgrader calls it released
grading/submitted/STUDENT/LAB/LAB.ipynb                      what was handed in, and in timestamp.txt when

What already lies in grading/submitted, since `nbgrader collect` brought it, stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from course import build, jobs
from course.inbox import Choice, Submission


def release(labs: Iterable[str], grading: Path) -> None:
    """Lay labs, with hidden tests, where nbgrader has its sources, and in its exchange what students receive."""
    exchange = grading / "exchange" / "default_course"
    for lab in labs:
        build.put(grading / "source" / lab / f"{lab}.ipynb", jobs.full(lab))
        build.put(exchange / "outbound" / lab / f"{lab}.ipynb", jobs.release(lab))
    (exchange / "inbound").mkdir(parents=True, exist_ok=True)


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
        when.unlink(missing_ok=True)  # first, or a run that ends here leaves the time of another file
        path.write_bytes(submission.data)
    if submission.when and not when.exists():
        when.write_text(f"{datetime.fromtimestamp(submission.when, timezone.utc):%Y-%m-%d %H:%M:%S.%f} UTC\n")
