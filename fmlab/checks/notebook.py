"""The open notebook: which file it is, and what it asks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fmlab import extras

ON_COLAB = (
    "on Colab the notebook is no file that can be looked at from here. To hand it in, download it (File → Download → "
    "Download .ipynb). To have it run from top to bottom before, upload that file in the pane Files, on the left, and "
    'say where it is: submission("/content/lab1_simulation.ipynb").'
)


class NotReady(Exception):
    """There is nothing to read; the words say what to do."""


def shell():
    """The notebook that this process runs, if any."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def find(path: str | Path | None = None) -> Path:
    """The notebook's file: the one that is named, or the one that this process was started for."""
    open_ = shell()
    known = os.environ.get("JPY_SESSION_NAME") or (open_ and open_.user_ns.get("__vsc_ipynb_file__"))  # or VS Code's
    place = path or known
    say = 'Say where it is: submission("folder/lab1_simulation.ipynb").'
    if not path and "COLAB_RELEASE_TAG" in os.environ:
        raise NotReady(ON_COLAB)
    if not place:
        raise NotReady(f"which file this notebook is cannot be told from here. {say}")
    place = Path(place).expanduser()
    if not place.is_file():
        raise NotReady(f"there is no file {place.name} in {place.parent}; has it been renamed or moved? {say}")
    return place


def read(path: Path):
    """The notebook in a file."""
    with extras.needed("reading a notebook"):
        import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises errors of many kinds for what is no notebook
        raise NotReady(f"{path.name} is not a notebook ({type(error).__name__})") from None


def points(nb) -> dict[str, float]:
    """The exercises that a notebook asks for, in its order, with what each is worth; 0 where its check is gone."""
    asked: dict[str, float] = {}
    for cell in nb.cells:
        grading = cell.metadata.get("nbgrader", {}) if cell.cell_type == "code" else {}
        if grading.get("solution"):
            asked.setdefault(grading["grade_id"].removesuffix("-answer"), 0)
        elif grading.get("grade"):
            asked[grading["grade_id"]] = grading["points"]
    return asked
