"""The plugin that compares what a notebook shows under nbval with what it shows when it is built."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from course import build

PRINTS = "print(42)"
DRAWS = "import time\nimport matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"


def run(folder: Path, source: str, built: str) -> tuple[int, str]:
    """The exit code of pytest on a notebook with one cell, and what it says. built: the source whose outputs it has."""
    nb = build.execute(new_notebook(cells=[new_code_cell(built)]), folder)
    nb.cells[0].source = source
    nbformat.write(nb, folder / "lab.ipynb")
    options = ["--nbval-lax", "--nbval-current-env", "-p", "tests.again", "-rA", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, f"--rootdir={folder}", "-c", "/dev/null", folder / "lab.ipynb"]
    done = subprocess.run(command, cwd=build.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("source", "built"),
    [(DRAWS, DRAWS), (PRINTS, PRINTS.replace("2", "1"))],
    ids=["by this processor", "by another"],
)
def test_what_is_the_same_each_time_passes(tmp_path, source, built):
    code, said = run(tmp_path, source, built)
    assert code == 0 and re.search(r"PASSED \S+::draws the same again", said), said


@pytest.mark.parametrize(
    ("source", "built"),
    [
        ("import time\nprint(time.time())", PRINTS),
        (DRAWS.replace("3", "time.time() % 1"), DRAWS),
        (f"{PRINTS}\nimport sys\nsys.stderr.write('a warning')", PRINTS),
    ],
    ids=["a number", "a picture", "stderr"],
)
def test_what_is_not_fails(tmp_path, source, built):
    code, said = run(tmp_path, source, built)
    assert code == 1 and re.search(r"FAILED \S+::draws the same again", said), said
    assert re.search(r"PASSED \S+::Cell 0", said), said
