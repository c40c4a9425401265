"""A class is graded from what it handed in to the gradebook, by the command that an instructor gives."""

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from nbgrader.api import Gradebook, MissingEntry

from course.grade import find, student
from tests import submissions
from tests.classroom import copy_checkout, environment, write
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow]

LAB, OTHER = "lab1_simulation", "lab2_paths"
HALF = {"euler_step": "def euler_step(u, x, t, h):\n    return x + u(x, t)"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (("anna", "lab1_simulation", "lab1_simulation.ipynb"), "anna"),
        (("anna", "lab1 (1).ipynb"), "anna"),
        (("anna.ipynb",), "anna"),
        (("Anna Ek_123456_assignsubmission_file", "lab1.ipynb"), "Anna Ek"),
        (("Anna Ek_123456_assignsubmission_file_", "lab1.ipynb"), "Anna Ek"),
        (("ekanna_12345_67890_lab1.ipynb",), "ekanna"),
        (("ekanna_LATE_12345_67890_lab1-2.ipynb",), "ekanna"),
        (("submission_1234", "lab1.ipynb"), "submission_1234"),
        (("../../etc", "lab1.ipynb"), "_.._etc"),
        (("..ipynb",), "_"),
    ],
)
def test_whose_notebook_it_is(path, name):
    assert student(path) == name


def test_a_zip_holds_what_a_folder_holds_and_nothing_outside(tmp_path):
    folder, archive = tmp_path / "folder", tmp_path / "class.zip"
    (folder / "anna" / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / "anna" / "lab1.ipynb").write_bytes(b"1")
    (folder / "anna" / "notes.txt").write_bytes(b"2")
    (folder / "anna" / ".ipynb_checkpoints" / "lab1.ipynb").write_bytes(b"3")
    (folder / "anna" / "link.ipynb").symlink_to("/etc/passwd")
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("anna/lab1.ipynb", b"1")
        opened.writestr("../../etc/lab1.ipynb", b"4")
        opened.writestr("__MACOSX/anna/lab1.ipynb", b"5")
    assert list(find(folder)) == [("anna", "lab1.ipynb", b"1")]
    assert list(find(archive)) == [("anna", "lab1.ipynb", b"1"), ("etc", "lab1.ipynb", b"4")]


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A checkout in which a class was graded: two labs, two places, one file that is no notebook."""
    root = copy_checkout(tmp_path_factory.mktemp("office"), "nbgrader_config.py", "course", "fmlab")
    write(root / "inbox" / "anna" / "lab1 (1).ipynb", submissions.solved(LAB))
    write(root / "inbox" / "bo" / "mine.ipynb", submissions.with_answers(LAB, HALF))
    write(root / "inbox" / "cy.ipynb", submissions.blank(LAB))
    (root / "inbox" / "di.ipynb").write_text("my laptop broke")
    write(root / "more" / "anna" / "b.ipynb", submissions.solved(OTHER))
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.write(root / "more" / "anna" / "b.ipynb", "anna/b.ipynb")
    grade(root, "inbox", "more.zip")
    return root


def grade(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "course", "grade", *arguments, "--workers", "2"]
    done = subprocess.run(
        command, cwd=root, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def deserved(who: str) -> dict[str, float]:
    points = submissions.points(LAB)
    return {"anna": points, "bo": points | {"euler_step": 0.0}, "cy": dict.fromkeys(points, 0.0)}[who]


@needs_walls
@pytest.mark.parametrize("who", ["anna", "bo", "cy"])
def test_the_gradebook_has_the_marks_they_deserve(office, who):
    with Gradebook(f"sqlite:///{office}/grading/gradebook.db") as gradebook:
        grades = {grade.name: grade for grade in gradebook.find_submission_notebook(LAB, LAB, who).grades}
        assert {name: grades[name].auto_score for name in submissions.points(LAB)} == deserved(who)
        for name in submissions.written(LAB):
            assert grades[name].needs_manual_grade == (who != "cy")


@needs_walls
def test_what_could_not_be_graded_has_no_marks_and_a_reason(office):
    with Gradebook(f"sqlite:///{office}/grading/gradebook.db") as gradebook, pytest.raises(MissingEntry):
        gradebook.find_submission(LAB, "di")
    record = json.loads((office / "grading" / "autograded" / "di" / "unknown" / "record.json").read_text())
    assert record["status"] == "ungraded" and record["reason"] and not record["exercises"]


@needs_walls
def test_the_table_the_report_and_feedback_are_there(office):
    with (office / "grading" / f"{LAB}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["student"] for row in rows] == ["anna", "bo", "cy"]
    assert "bo" in (office / "grading" / f"{LAB}.html").read_text()
    page = (office / "grading" / "feedback" / "bo" / LAB / f"{LAB}.html").read_text()
    assert "step size h is missing" in page and "course.hidden" not in page
    assert (office / "grading" / f"{OTHER}.csv").exists()


@needs_walls
def test_a_second_run_grades_what_is_new_alone(office):
    records = sorted((office / "grading" / "autograded").glob("*/*/record.json"))
    before = {path: path.stat().st_mtime_ns for path in records}
    write(office / "inbox" / "bo" / "mine.ipynb", submissions.solved(LAB))
    grade(office, "inbox", "more.zip")
    changed = {path.parts[-3] for path in records if path.stat().st_mtime_ns != before[path]}
    assert changed == {"bo"}
    with Gradebook(f"sqlite:///{office}/grading/gradebook.db") as gradebook:
        assert gradebook.find_submission(LAB, "bo").score == sum(submissions.points(LAB).values())
