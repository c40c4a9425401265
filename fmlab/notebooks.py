"""The labs' notebooks, which come with the library: `python -m fmlab labs [FOLDER]` copies them to where you work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent


def home() -> Path:
    """Where the notebooks are that came with the library: in it when it is installed, beside it in a checkout.

    Raises FileNotFoundError where there are none.
    """
    for folder in (HERE / "labs", HERE.parent / "labs"):
        if (folder / "README.md").is_file():
            return folder
    raise FileNotFoundError("this copy of fmlab came without the labs' notebooks; install it from its wheel")


def copy(folder: Path) -> Iterator[str]:
    """Copy the labs to a folder, and tell of each file what became of it. What is there already is never replaced."""
    source = home()
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.suffix not in (".ipynb", ".md") or any(part.startswith(".") for part in inside.parts):
            continue
        target = folder / inside
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            yield f"{inside.as_posix()}: copied"
        elif target.read_bytes() == path.read_bytes():
            yield f"{inside.as_posix()}: is there"
        else:
            yield f"{inside.as_posix()}: yours is kept; to begin it anew, rename yours and run this again"
