"""Records are written whole, read back as they were, and named where they are damaged."""

import json
import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from course import records
from tests.classroom import write_files

LAB = "lab1_simulation"


def record(student, lab=LAB, **more):
    return {"student": student, "lab": lab, "status": "graded", "exercises": {}, "written": {}} | more


def test_what_was_written_is_read_in_the_order_of_students(tmp_path):
    written = [record("zoë", reason="näh, 数"), record("anna", "lab2_paths"), record("anna"), record("bo", lab=None)]
    for each in written:
        records.write(each, tmp_path)
    assert records.read(tmp_path) == [written[2], written[1], written[3], written[0]]
    assert records.read(tmp_path, LAB) == [written[2], written[0]]
    assert "数" in (tmp_path / "records" / "zoë" / f"{LAB}.json").read_text(encoding="utf-8")  # for people too
    assert (tmp_path / "records" / "bo" / "unknown.json").exists()


def test_nothing_lies_beside_the_notebook(tmp_path):
    """nbgrader would copy it to students."""
    cell = new_code_cell("1", outputs=[new_output("stream", text="half a character: \ud800")])
    records.write(record("anna", verdict="\udfff"), tmp_path, new_notebook(cells=[cell]))
    assert files(tmp_path) == [f"autograded/anna/{LAB}/{LAB}.ipynb", f"records/anna/{LAB}.json"]
    notebook = nbformat.read(tmp_path / "autograded" / "anna" / LAB / f"{LAB}.ipynb", as_version=4)
    assert notebook.cells[0].outputs[0].text.endswith("\ud800")
    assert records.read(tmp_path)[0]["verdict"] == "\udfff"
    assert records.read_notebook(record("anna"), tmp_path) == notebook
    records.write_alone(record("anna", open="the grader failed over what she handed in later"), tmp_path)
    assert records.read_notebook(record("anna"), tmp_path) == notebook
    records.write(record("anna", status="ungraded"), tmp_path)  # what she handed in later still
    assert records.read_notebook(record("anna"), tmp_path) is None


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_what_an_earlier_version_left_where_students_get_it_is_moved(tmp_path):
    left = {
        f"autograded/anna/{LAB}/record.json": json.dumps(record("anna", seconds=1)),
        f"autograded/anna/{LAB}/{LAB}.ipynb": "{}",
        f"autograded/anna/{LAB}/record.json.part": "{",
        "autograded/bo/unknown/record.json": json.dumps(record("bo", lab=None)),
        f"autograded/cy/{LAB}/record.json": json.dumps(record("cy", seconds=1)),
        f"feedback/cy/{LAB}/record.json": json.dumps(record("cy")),
    }
    write_files(tmp_path, left)
    records.write(record("cy", seconds=2), tmp_path)
    records.prepare(tmp_path)
    kept = [f"records/anna/{LAB}.json", "records/bo/unknown.json", f"records/cy/{LAB}.json"]
    assert files(tmp_path) == [f"autograded/anna/{LAB}/{LAB}.ipynb", *kept]
    assert [each.get("seconds") for each in records.read(tmp_path)] == [1, None, 2]


def test_the_earlier_record_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    records.write(record("anna", seconds=1), tmp_path)
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        records.write(record("anna", seconds=2), tmp_path)
    assert [found["seconds"] for found in records.read(tmp_path)] == [1]


def test_damaged_records_are_named_and_skipped(tmp_path, capsys):
    for student in ("zoe", "anna"):
        records.write(record(student), tmp_path)
    whole = json.dumps(record("torn"))
    earlier = json.dumps(record("earlier", exercises={"euler_step": {"by": "visible", "verdict": "✗ in words alone"}}))
    damaged = {"torn": whole[:30], "empty": "", "list": "[]", "deep": "[" * 100_000, "earlier": earlier}
    for student, text in damaged.items():
        write_files(tmp_path, {f"records/{student}/{LAB}.json": text})
    assert [found["student"] for found in records.read(tmp_path)] == ["anna", "zoe"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(damaged) and all(f"{LAB}.json: skipped" in line for line in said)
    assert all(any(f"{student}{os.sep}" in line for line in said) for student in damaged)


def test_a_failure_of_the_grader_leaves_an_earlier_grade_and_says_so():
    before = record("anna", sha256="1", graded_by="me")
    failure = record("anna", status="ungraded", reason="The grader itself failed.", graded_by="", file="b.ipynb")
    kept = records.kept(before, failure | {"sha256": "2"})
    assert kept == before | {"open": "b.ipynb is not graded yet, and earlier marks stand. The grader itself failed."}
    assert records.kept(before, failure | {"sha256": "1"})["graded_by"] == ""  # so that it is graded again
    assert [bool(records.unfinished(each)) for each in (before, failure, kept)] == [False, True, True]
    assert not records.failed(record("anna", status="ungraded", reason="no notebook", graded_by="me"))
