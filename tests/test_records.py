"""Records are written whole, read back as they were, and named where they are damaged."""

import json
import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from course import records

LAB = "lab1_simulation"


def record(student, lab=LAB, **more):
    return {"student": student, "lab": lab, "status": "graded", "exercises": {}, "written": {}} | more


def test_what_was_written_is_read_in_the_order_of_students(tmp_path):
    written = [record("zoë", reason="näh, 数"), record("anna", "lab2_paths"), record("anna"), record("bo", lab=None)]
    for each in written:
        records.write(each, tmp_path)
    assert records.read(tmp_path) == [written[2], written[1], written[3], written[0]]
    assert records.read(tmp_path, LAB) == [written[2], written[0]]
    assert "数" in (tmp_path / "zoë" / LAB / "record.json").read_text(encoding="utf-8")  # for people too


def test_the_notebook_lies_beside_the_record(tmp_path):
    cell = new_code_cell("1", outputs=[new_output("stream", text="half a character: \ud800")])
    records.write(record("anna", verdict="\udfff"), tmp_path, new_notebook(cells=[cell]))
    assert sorted(path.name for path in (tmp_path / "anna" / LAB).iterdir()) == [f"{LAB}.ipynb", "record.json"]
    notebook = nbformat.read(tmp_path / "anna" / LAB / f"{LAB}.ipynb", as_version=4)
    assert notebook.cells[0].outputs[0].text.endswith("\ud800")
    assert records.read(tmp_path)[0]["verdict"] == "\udfff"
    assert records.read_notebook(record("anna"), tmp_path) == notebook
    records.write(record("anna", status="ungraded"), tmp_path)  # what she handed in later
    assert records.read_notebook(record("anna"), tmp_path) is None


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
        (tmp_path / student / LAB).mkdir(parents=True)
        (tmp_path / student / LAB / "record.json").write_text(text)
    assert [found["student"] for found in records.read(tmp_path)] == ["anna", "zoe"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(damaged) and all("record.json: skipped" in line for line in said)
    assert all(any(f"{student}{os.sep}" in line for line in said) for student in damaged)
