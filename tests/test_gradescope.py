"""Gradescope's autograder: unpacked as Gradescope unpacks it, it gives the marks that `make grade` gives."""

import json
import stat
import subprocess
import sys
import zipfile

import nbformat
import pytest

from course import build, gradescope
from course.build import ROOT
from tests import submissions
from tests.git import needs_git

LAB = "lab0_welcome"
pytestmark = [pytest.mark.grading, needs_git]


@pytest.fixture(scope="module")
def autograder(tmp_path_factory):
    """A folder laid out as Gradescope's /autograder."""
    folder = tmp_path_factory.mktemp("gradescope") / "autograder"
    (source,) = build.sources(["lab0"])
    gradescope.write(source, folder.parent / "autograder.zip")
    with zipfile.ZipFile(folder.parent / "autograder.zip") as opened:
        opened.extractall(folder / "source")
    return folder


def hand_in(autograder, **files: bytes) -> dict:
    """The results, from a process of its own in the unpacked zip."""
    for path in (autograder / "submission").glob("*"):
        path.unlink()
    (autograder / "submission").mkdir(exist_ok=True)
    for name, data in files.items():
        (autograder / "submission" / f"{name}.ipynb").write_bytes(data)
    command = [sys.executable, "-m", "course.gradescope", str(autograder)]
    done = subprocess.run(command, cwd=autograder / "source", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((autograder / "results" / "results.json").read_text())


def test_the_zip_holds_what_grades_and_nothing_of_the_instructors(tmp_path):
    (source,) = build.sources(["lab0"])
    gradescope.write(source, tmp_path / "lab0.zip")
    with zipfile.ZipFile(tmp_path / "lab0.zip") as opened:
        names, modes = opened.namelist(), {info.filename: info.external_attr >> 16 for info in opened.infolist()}
    assert {"setup.sh", "run_autograder", "course/hidden/lab0.py", "fmlab/__init__.py", "constraints.txt"} <= set(names)
    assert modes["setup.sh"] & stat.S_IXUSR and modes["run_autograder"] & stat.S_IXUSR
    assert not [name for name in names if name.startswith(("grading", "solutions", "tests", ".git", ".venv"))]
    for name in ("setup.sh", "run_autograder"):
        assert subprocess.run(["bash", "-n", ROOT / "course" / "gradescope" / name]).returncode == 0


@pytest.mark.slow
def test_marks_are_those_of_the_judge(autograder):
    solved = nbformat.writes(submissions.solved(LAB)).encode()
    found = hand_in(autograder, lab0=solved)
    code = submissions.points(LAB)
    assert {test["name"]: test["score"] for test in found["tests"] if test["name"] in code} == code
    assert found["score"] == sum(test["score"] for test in found["tests"])
    nb = submissions.solved(LAB)
    for cell in nb.cells:
        if cell.get("id") == "draw_noise-answer":
            cell.source = cell.source.replace("randn", "rand")
    found = hand_in(autograder, lab0=nbformat.writes(nb).encode())
    (wrong,) = [test for test in found["tests"] if test["name"] == "draw_noise"]
    assert wrong["score"] == 0 and "torch.rand" in wrong["output"]


@pytest.mark.slow
def test_what_cannot_be_graded_says_why(autograder):
    assert hand_in(autograder)["output"] == "There is no notebook (.ipynb) in the submission."
    assert "notebook" in hand_in(autograder, broken=b"{")["output"]
