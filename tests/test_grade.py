"""A class is graded from what it handed in to the gradebook, by the command that an instructor gives."""

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from nbgrader.api import Gradebook, MissingEntry

from course import records
from tests import submissions
from tests.classroom import copy_checkout, environment, write, write_files
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow]

LAB, OTHER = "lab1_simulation", "lab2_paths"
HALF = {"euler_step": "def euler_step(u, x, t, h):\n    return x + u(x, t)"}


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A checkout in which a class was graded: two labs, two places, one file that is no notebook."""
    root = copy_checkout(tmp_path_factory.mktemp("office"), "nbgrader_config.py", "pyproject.toml", "course", "fmlab")
    write(root / "inbox" / "anna" / "lab1 (1).ipynb", submissions.solved(LAB))
    write(root / "inbox" / "bo" / "mine.ipynb", submissions.with_answers(LAB, HALF))
    write(root / "inbox" / "cy.ipynb", submissions.blank(LAB))
    (root / "inbox" / "di.ipynb").write_text("my laptop broke")
    write_files(root, {"inbox/ed/lab1.pdf": "no notebook"})
    write(root / "more" / "anna" / "b.ipynb", submissions.solved(OTHER))
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.write(root / "more" / "anna" / "b.ipynb", "anna/b.ipynb")
    grade(root, "inbox", "more.zip")
    return root


def grade(root: Path, *arguments: str) -> str:
    return course(root, "grade", *arguments, "--workers", "2")


def course(root: Path, *arguments: str, fails: bool = False) -> str:
    """All that the command says."""
    command = [sys.executable, "-m", "course", *arguments]
    done = subprocess.run(
        command, cwd=root, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert (done.returncode != 0) == fails, done.stdout
    assert "Traceback" not in done.stdout
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
@pytest.mark.parametrize(
    ("who", "why"), [("di", "No lab was recognised"), ("ed", "no notebook (.ipynb) among: lab1.pdf")]
)
def test_what_could_not_be_graded_has_no_marks_and_a_reason(office, who, why):
    with Gradebook(f"sqlite:///{office}/grading/gradebook.db") as gradebook, pytest.raises(MissingEntry):
        gradebook.find_submission(LAB, who)
    record = read(office, "unknown", who)
    assert record["status"] == "ungraded" and why in record["reason"] and not record["exercises"]
    assert why in (office / "grading" / f"{LAB}.html").read_text()


def read(office: Path, lab: str, student: str) -> records.Record:
    (record,) = [r for r in records.read(office / "grading", lab) if r["student"] == student]
    return record


@needs_walls
def test_the_table_the_report_and_feedback_are_there(office):
    assert [row["student"] for row in table(office)] == ["anna", "bo", "cy"]
    assert "bo" in (office / "grading" / f"{LAB}.html").read_text()
    page = (office / "grading" / "feedback" / "bo" / LAB / f"{LAB}.html").read_text()
    assert "step size h is missing" in page and "course.hidden" not in page
    assert (office / "grading" / f"{OTHER}.csv").exists()


def table(office: Path) -> list[dict]:
    with (office / "grading" / f"{LAB}.csv").open() as file:
        return list(csv.DictReader(file))


@needs_walls
def test_marks_go_to_other_systems_with_what_a_person_gave(office):
    with Gradebook(f"sqlite:///{office}/grading/gradebook.db") as gradebook:
        for name, points in submissions.written(LAB).items():
            grade = gradebook.find_grade(name, LAB, LAB, "anna")
            grade.manual_score, grade.needs_manual_grade = points, False
        gradebook.db.commit()
    course(office, "report")
    anna, bo, _ = table(office)
    assert float(anna["total"]) == float(anna["out of"]) and bo["total"] == ""
    for system in ("canvas", "moodle", "gradescope"):
        course(office, "export", "--to", system, "--lab", LAB)
    exported = sorted(path.name for path in (office / "grading" / "export").rglob("*") if path.is_file())
    assert len(exported) >= 3 and "results.json" in exported


# --- the second run ---------------------------------------------------------------------------------------------------


@needs_walls
def test_a_second_run_grades_what_is_new_alone_and_keeps_what_a_person_gave(office):
    found = sorted((office / "grading" / "records").glob("*/*.json"))
    before = {path: path.stat().st_mtime_ns for path in found}
    write(office / "late" / "bo" / "mine.ipynb", submissions.solved(LAB))
    said = grade(office, "late")
    assert "1 of 1 submissions graded" in said
    changed = {path.parts[-2] for path in found if path.stat().st_mtime_ns != before[path]}
    assert changed == {"bo"}
    with Gradebook(f"sqlite:///{office}/grading/gradebook.db") as gradebook:
        assert gradebook.find_submission(LAB, "bo").score == sum(submissions.points(LAB).values())
        written = sum(submissions.written(LAB).values())
        assert gradebook.find_submission(LAB, "anna").score == sum(submissions.points(LAB).values()) + written
    assert [row["student"] for row in table(office)] == ["anna", "bo", "cy"]  # the whole class, not those of this run
    assert "mine.ipynb of bo is older than what is graded" in grade(office, "inbox")
    with Gradebook(f"sqlite:///{office}/grading/gradebook.db") as gradebook:
        assert gradebook.find_submission(LAB, "bo").score == sum(submissions.points(LAB).values())


@needs_walls
def test_of_two_notebooks_the_newest_counts_and_the_other_is_named(office):
    for name, day, nb in ("b.ipynb", 1, submissions.blank(LAB)), ("a.ipynb", 2, submissions.solved(LAB)):
        write(office / "twice" / "gus" / name, nb)
        os.utime(office / "twice" / "gus" / name, (86400 * day, 86400 * day))
    grade(office, "twice")
    record = read(office, LAB, "gus")
    assert record["file"] == "a.ipynb" and sum(item["score"] for item in record["exercises"].values()) > 0
    assert any("b.ipynb" in note for note in record["notes"])


@needs_walls
def test_one_question_is_graded_again_for_all(office, tmp_path):
    """Two checks change; the marks of the exercise that was named follow, those of the other stay."""
    root = Path(shutil.copytree(office, tmp_path / "office"))
    with (root / "fmlab" / "exercises" / "lab1.py").open("a") as file:
        file.write("\n\ndef anything(answer, case):\n    return iter(())\n\n\n")
        file.write("lab.heun_step.judge = lab.euler_step.judge = anything\n")
    grade(root, "inbox", "late", "twice", "--question", "heun_step")
    for row, before in zip(table(root), table(office)):
        assert row["heun_step"] == f"{submissions.points(LAB)['heun_step']:g}"
        assert row["euler_step"] == before["euler_step"]
    assert "no lab has an exercise 'nothing'" in course(root, "grade", "inbox", "--question", "nothing", fails=True)


@needs_walls
def test_commands_that_cannot_be_followed_say_why(office):
    assert "no such folder" in course(office, "grade", "nowhere", fails=True)
