"""What is imported where, since importing is most of what a small batch waits for."""

import subprocess
import sys

import pytest

from course import build
from tests import submissions

pytestmark = pytest.mark.grading

ABSENT = {
    "the command, whose workers have torch": (
        "course.batch, course.report, course.exports",
        ["torch", "jupytext", "sklearn"],
    ),
    "a worker, which neither reads sources nor opens a gradebook": (
        "course.marking",
        ["nbgrader", "jupytext", "sklearn"],
    ),
    "what starts the workers": ("course.grade", ["nbformat", "nbgrader", "torch"]),
}


def imported(code: str) -> set[str]:
    """The modules that are there after a program has run."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    return {*subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True, check=True).stdout.split()}


@pytest.mark.parametrize("who", ABSENT)
def test_nothing_heavy_is_imported_that_is_not_needed(who):
    modules, absent = ABSENT[who]
    assert not {*absent} & imported(f"import {modules}")


@pytest.mark.parametrize("source", build.sources(), ids=lambda path: path.stem)
def test_a_labs_first_cell_leaves_to_the_first_figure_what_draws(source):
    found = imported(submissions.setup(build.read(source)).source)
    assert "matplotlib" in found and not {"matplotlib.pyplot", "matplotlib.figure", "sklearn"} & found
