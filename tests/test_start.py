"""What is imported where, since importing is most of what a small batch waits for."""

import subprocess
import sys

import pytest

from course import build

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


@pytest.mark.parametrize("who", ABSENT)
def test_nothing_heavy_is_imported_that_is_not_needed(who):
    modules, absent = ABSENT[who]
    code = f"import sys, {modules}\nprint(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=build.ROOT, capture_output=True, text=True, check=True)
    assert not {*absent} & {*said.stdout.split()}
