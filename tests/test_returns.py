"""Feedback zips: each page stands where Moodle and Canvas look for it."""

import io
import zipfile

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from course import records, returns
from course.feedback import feedback
from course.inbox.table import Row
from tests.html_page import harmless
from tests.made_records import LAB, record

# Moodle 4 and before take a name apart at its first four underscores: name, number, kind, plugin (mod/assign/feedback/
# file/importziplib.php). Canvas takes the first two numbers between underscores for the student and the file.
MOODLE = {
    "Ada Ek_7001_assignsubmission_file_/lab1.ipynb": f"Ada Ek_7001_assignsubmission_file_/{LAB}.html",
    "Bo Ek_7002_assignsubmission_file/sub/lab1.ipynb": f"Bo Ek_7002_assignsubmission_file_/{LAB}.html",
    "Course-Lab 1-99/Cy Ek_7003_assignsubmission_file_/lab1.ipynb": f"Cy Ek_7003_assignsubmission_file_/{LAB}.html",
    "Di Ek_7004_assignsubmission_file_lab1.ipynb": f"Di Ek_7004_assignsubmission_file_/{LAB}.html",
    "Group 7-7005/lab1.ipynb": "",
    "ekada_1234_5678_lab1.ipynb": "",
}
CANVAS = {
    "ekada_1234_5678_lab1_simulation.ipynb": "ekada_1234_5678_lab1_simulation.html",
    "ekbo_LATE_1235_5679_lab1-1.ipynb": "ekbo_LATE_1235_5679_lab1-1.html",
    "submissions/ekcy_1236_5680_my_lab_1.ipynb": "ekcy_1236_5680_my_lab_1.html",
    "ekdi_1237_link.html": "",
    "Ada Ek_7001_assignsubmission_file_/lab1.ipynb": "",
}


def came(files) -> tuple[list, list]:
    """Records of files of these names, and the table of what came in."""
    made = [record(f"s{k}", file=file.split("/")[-1]) for k, file in enumerate(files)]
    return made, [Row("inbox.zip", file, f"s{k}", "", LAB, "graded") for k, file in enumerate(files)]


@pytest.mark.parametrize(("to", "expected"), [("moodle", MOODLE), ("canvas", CANVAS)])
def test_a_page_goes_to_where_its_file_came_from(to, expected):
    made, rows = came(expected)
    at, strangers = returns.places(made, rows, to)
    assert at == {place: each for each, place in zip(made, expected.values()) if place}
    assert strangers == [each for each, place in zip(made, expected.values()) if not place]


def test_a_group_gets_one_page():
    made, file = [record(student) for student in ("ada", "bo")], "Team 3_81_assignsubmission_file_/lab1.ipynb"
    rows = [Row("inbox.zip", file, each["student"], "", LAB, "graded") for each in made]
    at, strangers = returns.places(made, rows, "moodle")
    assert list(at.values()) == made[:1] and strangers == []


def test_a_zip_holds_each_students_page_and_no_other(tmp_path):
    made, rows = came(MOODLE)
    ran = new_notebook(cells=[new_code_cell("1", outputs=[new_output("stream", text="as it ran")])])
    for each in made:
        records.write(each, tmp_path, ran)
    (path,), missing = returns.write(made, rows, "moodle", tmp_path / "export", tmp_path)
    assert path.name == f"{LAB}.feedback.moodle.zip" and missing == {LAB: ["s4", "s5"]}
    with zipfile.ZipFile(path) as opened:
        pages = {name: opened.read(name).decode() for name in opened.namelist()}
    assert pages == {f"{place}": feedback(each, ran) for each, place in zip(made, MOODLE.values()) if place}
    assert all("as it ran" in harmless(page).text for page in pages.values())
    again = returns.archive(returns.places(made, rows, "moodle")[0], tmp_path)
    assert zipfile.ZipFile(io.BytesIO(again)).namelist() == sorted(pages) and again == path.read_bytes()


def test_where_nothing_came_from_a_system_there_is_no_zip(tmp_path):
    assert returns.write([record("ada")], [], "canvas", tmp_path / "export", tmp_path) == ([], {LAB: ["ada"]})
    assert not (tmp_path / "export").exists()
