"""A release: the version in its places, the changes dated, the library and the labs packed, and a tag in git.

python -m course release 0.2.0
"""

from __future__ import annotations

import datetime
import re
import subprocess
import zipfile
from pathlib import Path, PurePosixPath

from course import build, handout
from course.build import ROOT, BuildError

PLACES = {"fmlab/__init__.py": r'(?m)(?<=^__version__ = ")[^"]+', "CITATION.cff": r"(?m)(?<=^version: ).+"}


def release(version: str, day: datetime.date | None = None) -> list[Path]:
    """Release what is committed, as of a day, today if none is given. Returns the files to publish; pushes nothing.

    Raises BuildError where something is not committed, the version is not a new one, or CHANGELOG.md does not name it.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise BuildError(f"a version is three numbers such as 0.2.0, got {version}")
    if _git("status", "--porcelain"):
        raise BuildError("commit your changes first: a release is made of what is committed")
    if _git("tag", "--list", f"v{version}"):
        raise BuildError(f"{version} is released already; choose the next number")
    _put("CHANGELOG.md", rf"(?m)(?<=^## {re.escape(version)}), not released yet$", f", {day or datetime.date.today()}")
    for name, place in PLACES.items():
        _put(name, place, version)
    files = _packed()
    _git("commit", "--quiet", "--all", "--message", f"Release {version}")
    _git("tag", "--annotate", f"v{version}", "--message", f"fmlab {version}")
    return files


def _put(name: str, place: str, words: str) -> None:
    """Write words in one place of a file."""
    path = ROOT / name
    text, found = re.subn(place, words, path.read_text(encoding="utf-8"))
    if found != 1:
        raise BuildError(f'{name} needs one line that fits "{place}", and has {found}')
    path.write_text(text, encoding="utf-8")


def _packed() -> list[Path]:
    """The zip for students, and the wheel in it, in build/."""
    zipped = ROOT / "build" / "fmlab-labs.zip"
    handout.write(build.sources(), zipped)
    with zipfile.ZipFile(zipped) as archive:
        (inside,) = [name for name in archive.namelist() if name.endswith(".whl")]
        wheel = zipped.parent / PurePosixPath(inside).name
        wheel.write_bytes(archive.read(inside))
    return [wheel, zipped]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise BuildError("a release is a tag in git, which is not installed here") from None
    if done.returncode:
        raise BuildError(f"git {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()
