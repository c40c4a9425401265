"""A Gradescope autograder: a zip to upload there, whose marks are those of the judge that `make grade` uses.

    python -m course autograder lab1            build/lab1_simulation.autograder.zip

Gradescope makes an image of it (setup.sh) and runs `run_autograder` for each submission, which calls `grade` here. The
sandbox of `make grade` is used where the image allows it; where it does not, the image itself is all that is between a
submission and the hidden inputs that lie in it, and the instructor's part of the output says so.
"""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from course import exports
from course.build import ROOT, BuildError, sources
from course.early import sandbox
from course.inbox.submission import Submission
from course.jobs import Job, Settings
from course.marking import grade_one
from course.pages import line

HERE = Path(__file__).parent
PACKED = ("fmlab", "course", "labs")  # folders; what is not in git stays here
FILES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "nbgrader_config.py", "edition.toml")
UNSAFE = "The sandbox could not be made here, so the submission ran beside the hidden tests: {why}"


def write(source: Path, out: Path) -> None:
    """Write the zip for a lab. Raises BuildError outside of a git repository, which says what belongs to the course."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *PACKED]
    try:
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise BuildError("git says which files belong to the course, and is not installed here") from None
    if listed.returncode:
        raise BuildError(f"git does not say which files belong to the course: {listed.stderr.strip()}")
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    names += [name for name in FILES if (ROOT / name).is_file()]
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(names):
            archive.writestr(zipfile.ZipInfo(name), (ROOT / name).read_bytes(), zipfile.ZIP_DEFLATED)
        for name in ("setup.sh", "run_autograder"):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o755 << 16
            archive.writestr(info, (HERE / name).read_bytes(), zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("lab.txt"), source.stem)


def grade(autograder: Path) -> dict[str, Any]:
    """Grade the submission in a folder that is laid out as Gradescope's /autograder, and write the results there."""
    lab = (autograder / "source" / "lab.txt").read_text(encoding="utf-8").strip()
    found = sorted((autograder / "submission").rglob("*.ipynb"), key=lambda path: path.stat().st_mtime)
    results = _results(found[-1], lab) if found else _refused("There is no notebook (.ipynb) in the submission.")
    place = autograder / "results" / "results.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return results


def _results(path: Path, lab: str) -> dict[str, Any]:
    (source,) = sources([lab])
    walls, warning = _walls()
    job = Job(Submission("submission", path.name, path.read_bytes(), path.stat().st_mtime), source.stem)
    record, _ = grade_one(job, Settings(walls))  # where this fails, Gradescope says so, and nobody gets 0 for it
    if record["status"] != "graded":
        return _refused(record["reason"])
    results = json.loads(exports.to_gradescope(record))
    return results | ({"extra_data": {"warning": warning}} if warning else {})


def _walls() -> tuple[str | None, str]:
    """The walls that can be made here, and what is to be said of it."""
    try:
        sandbox(None)
    except RuntimeError as error:
        return "none", UNSAFE.format(why=line(str(error)))
    return None, ""


def _refused(reason: str) -> dict[str, Any]:
    return {"output": reason, "stdout_visibility": "hidden", "tests": [], "score": 0}
