"""What a mark depends on beside the submission. Where it has changed, a submission is graded again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

from course import build, jobs
from course.imports import followed
from course.kept import kept

BESIDE = ("inbox", "submission")  # which are imported for what happens before


@kept
def fingerprint(lab: str | None) -> str:
    """Of the marks in a lab: of its source, cards and hidden inputs, of all that these and its cells import, of what
    grades it, and of the versions of Python and PyTorch. None: of all labs, since none of them was recognised."""
    digest = hashlib.sha256(f"Python {platform.python_version()}, PyTorch {version('torch')}".encode())
    files = set().union(*map(_files, [lab] if lab else jobs.labs()))
    for path in sorted(files):
        digest.update(f"\n{path.relative_to(build.ROOT).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _files(lab: str) -> set[Path]:
    (source,), name = build.sources([lab]), build.short(lab)
    own = _with_imports(f"fmlab/exercises/{name}.py") | _with_imports(f"course/hidden/{name}.py")
    grading = _with_imports("course/marking.py") | _with_imports("course/student.py", ["course"])
    return {source} | own | grading | build.imported(build.code(jobs.full(lab)), build.ROOT)


def _with_imports(name: str, packages: Collection[str] = ("course", "fmlab")) -> set[Path]:
    """A file, if it is there, and those that it imports."""
    files = {path for path in [build.ROOT / name] if path.is_file()}
    return files | followed([path.read_text(encoding="utf-8") for path in files], build.ROOT, packages, BESIDE)
