"""Whose the notebooks are that were handed in, as universities' systems name them, and what is said of the rest."""

import os
import zipfile
from pathlib import Path

import pytest

from course import inbox
from course.inbox import NotFound, find, student
from tests.classroom import write_files

pytestmark = pytest.mark.grading


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
        (("Åsa Öberg", "lab1.ipynb"), "Åsa Öberg"),
        (("A\u030asa", "lab1.ipynb"), "Åsa"),
        (("../../etc", "lab1.ipynb"), "_.._etc"),
        (("a/b\\c:d", "lab1.ipynb"), "a_b_c_d"),
        (("anna\u202eipynb\n", "lab1.ipynb"), "anna_ipynb_"),
        (("..ipynb",), "_"),
        (("=cmd()", "lab1.ipynb"), "_cmd__"),
        (("x" * 300, "lab1.ipynb"), "x" * 80),
    ],
)
def test_whose_notebook_it_is(path, name):
    assert student(path)[0] == name


def seen(*places: Path) -> list[tuple]:
    return [(found.student, found.file, found.data) for found in find(places)]


def test_a_folder_holds_notebooks_alone_and_says_what_else_a_student_handed_in(tmp_path):
    write_files(
        tmp_path,
        {
            "anna/lab1.ipynb": "1",
            "anna/notes.txt": "2",
            "anna/.ipynb_checkpoints/lab1.ipynb": "3",
            "bo/lab1.pdf": "4",
            "read me.txt": "5",
        },
    )
    (tmp_path / "cy").mkdir()
    (tmp_path / "cy" / "lab1.ipynb").symlink_to("/etc/passwd")
    (tmp_path / "di").symlink_to(tmp_path / "anna")
    os.mkfifo(tmp_path / "ed.ipynb")
    anna, bo, cy, ed = find([tmp_path])
    assert (anna.student, anna.file, anna.data, anna.problem) == ("anna", "lab1.ipynb", b"1", "")
    assert (bo.student, bo.data) == ("bo", b"") and "no notebook (.ipynb) among: lab1.pdf" in bo.problem
    assert (cy.student, cy.data) == ("cy", b"") and "link" in cy.problem
    assert (ed.student, ed.data) == ("ed", b"") and "device" in ed.problem


def test_a_zip_holds_what_a_folder_holds_and_nothing_outside(tmp_path):
    archive = tmp_path / "class.zip"
    names = (
        "anna/lab1.ipynb",
        "../../etc/lab1.ipynb",
        "__MACOSX/anna/lab1.ipynb",
        "bo\\lab1.ipynb",
        "/root/lab1.ipynb",
    )
    with zipfile.ZipFile(archive, "w") as opened:
        for k, name in enumerate(names):
            opened.writestr(name, str(k))
    assert seen(archive) == [
        ("anna", "lab1.ipynb", b"0"),
        ("bo", "lab1.ipynb", b"3"),
        ("etc", "lab1.ipynb", b"1"),
        ("root", "lab1.ipynb", b"4"),
    ]


def test_a_damaged_and_an_encrypted_file_in_a_zip_have_a_reason_and_the_others_are_read(tmp_path):
    archive = tmp_path / "class.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("anna", "bo", "cy"):
            opened.writestr(f"{name}/lab1.ipynb", f"notebook of {name}")
    data = bytearray(archive.read_bytes())
    data[data.index(b"notebook of bo")] ^= 1
    flags = [k for k in range(len(data)) if data[k : k + 4] in (b"PK\x03\x04", b"PK\x01\x02")]
    data[flags[2] + 6] |= 1  # cy's local header
    data[flags[5] + 8] |= 1  # and its entry in the directory: "encrypted"
    archive.write_bytes(data)
    anna, bo, cy = find([archive])
    assert (anna.data, anna.problem) == (b"notebook of anna", "")
    assert "unpacked" in bo.problem and "CRC" in bo.problem
    assert "unpacked" in cy.problem and "encrypted" in cy.problem


def test_no_more_is_unpacked_than_a_notebook_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(inbox, "MOST_BYTES", 1000)
    archive = tmp_path / "class.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("anna/lab1.ipynb", bytes(10**7))
    (found,) = find([archive])
    assert len(found.data) == 1001


def test_the_export_of_gradescope_names_students_by_their_address(tmp_path):
    metadata = (
        "submission_7:\n  :submitters:\n  - :name: Anna Ek\n    :sid: '12'\n    :email: anna@x.org\n  :score: 0\n"
    )
    top = "assignment_12_export"
    write_files(
        tmp_path,
        {
            f"{top}/submission_metadata.yml": metadata,
            f"{top}/submission_7/lab1.ipynb": "1",
            f"{top}/submission_8/lab1.ipynb": "2",
        },
    )
    assert seen(tmp_path) == [("anna@x.org", "lab1.ipynb", b"1"), ("submission_8", "lab1.ipynb", b"2")]


def test_a_folder_around_all_in_a_zip_of_its_name_is_no_student(tmp_path):
    with zipfile.ZipFile(tmp_path / "inbox.zip", "w") as opened:
        opened.writestr("inbox/anna/lab1.ipynb", "1")
        opened.writestr("inbox/bo.ipynb", "2")
    assert [name for name, *_ in seen(tmp_path / "inbox.zip")] == ["anna", "bo"]


def test_two_people_of_one_name_are_told_apart_and_one_with_two_files_is_one(tmp_path):
    write_files(
        tmp_path,
        {
            "Anna Ek_1_assignsubmission_file/lab1.ipynb": "1",
            "Anna Ek_2_assignsubmission_file/lab1.ipynb": "2",
            "Bo Ek_3_assignsubmission_file/a.ipynb": "3",
            "Bo Ek_3_assignsubmission_file/b.ipynb": "4",
        },
    )
    first, second, *bo = [name for name, *_ in seen(tmp_path)]
    assert first != second and first.startswith("Anna Ek-") and second.startswith("Anna Ek-")
    assert bo == ["Bo Ek", "Bo Ek"]
    assert seen(tmp_path) == seen(tmp_path)


def test_a_table_names_students_and_paths(tmp_path):
    write_files(tmp_path, {"here/a.ipynb": "1", "b.ipynb": "2"})
    table = tmp_path / "class.csv"
    table.write_text(f"path,student\nhere/a.ipynb,anna\n{tmp_path}/b.ipynb,../bo\n", encoding="utf-8-sig")
    assert seen(table) == [("anna", "a.ipynb", b"1"), ("_bo", "b.ipynb", b"2")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,file\nanna,a.ipynb\n", 'columns "student" and "path"'),
        ("student,path\nanna,a.ipynb\n", "line 2"),
        ("", 'columns "student" and "path"'),
    ],
)
def test_a_table_that_cannot_be_right_is_refused_with_its_line(tmp_path, text, words):
    (tmp_path / "class.csv").write_text(text)
    with pytest.raises(NotFound, match=words):
        find([tmp_path / "class.csv"])


def test_a_place_that_is_nothing_known_is_refused(tmp_path):
    (tmp_path / "class.zip").write_text("no zip")
    with pytest.raises(NotFound, match="neither a folder, nor a zip, nor a table"):
        find([tmp_path / "class.zip"])
    with pytest.raises(NotFound, match="no such folder"):
        find([tmp_path / "nothing"])
