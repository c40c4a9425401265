"""The report on a class, read with a parser, on records with the real lab's verdicts."""

import os
import random
import re
import subprocess
import sys

from nbformat.v4 import new_code_cell, new_notebook, new_output

from course import build, exports, records
from course.feedback import feedback
from course.report import class_report, write_all
from tests.html_page import Page, harmless
from tests.made_records import HOSTILE, LAB, a_class, hostile, record, styled_record, ungraded


def test_counts_names_and_marks():
    made = a_class()
    page = harmless(class_report(made, LAB))
    graded = [r for r in made if r["status"] == "graded"]
    waiting = [r["student"] for r in graded if any(w["score"] is None for w in r["written"].values())]
    assert [int(row[1]) for row in page.tables["counts"]] == [43, 41 - len(waiting), len(waiting), 2, 0]
    assert list(page.column("students", "student")) == sorted(r["student"] for r in made)
    code, total, status = (page.column("students", name) for name in ("code", "all", "status"))
    for each in graded:
        scores = sum(exercise["score"] for exercise in each["exercises"].values())
        assert float(code[each["student"]]) == scores
        if each["student"] not in waiting:
            assert float(total[each["student"]]) == scores + sum(w["score"] for w in each["written"].values())
    assert {status[student] for student in waiting} == {"waiting for a person"}
    assert {total[student] for student in [*waiting, "gone", "lost"]} == {""}
    assert code["gone"] == "" and status["gone"] == "ungraded" and code["blank"] == "0"
    assert page.column("ungraded", "why") == {"gone": "the file is empty", "lost": "the file is empty"}


def test_flags_repairs_and_reasons_are_listed():
    made = [record("b", flags=["prints a lot"]), record("a", notes=["a cell was copied"]), ungraded("c", "no cells")]
    made.append(record("d", notes=["a cell was copied", "no imports"]))
    page = Page(class_report(made, LAB))
    assert page.column("flags", "students") == {"prints a lot": "b"}
    assert list(page.column("notes", "students").items()) == [("no imports", "d"), ("a cell was copied", "a, d")]
    assert ["c", f"{LAB}.ipynb", "no cells"] in page.tables["ungraded"]


def test_a_class_without_marks_has_a_report():
    for made in ([], [ungraded("a")], [record("a")]):
        harmless(class_report(made, LAB))


def test_every_link_leads_to_a_section_and_every_section_has_a_heading():
    for made in (a_class(), [record("a")], []):
        page = Page(class_report(made, LAB))
        sections = {value for tag, name, value in page.attributes if (tag, name) == ("section", "id")}
        links = {value for tag, name, value in page.attributes if name == "href"}
        own = {link for link in links if link.startswith("#") and not link.startswith("#exercise-")}
        assert own == {f"#{section}" for section in sections - {"counts"}}
        anchors = {value for tag, name, value in page.attributes if (tag, name) == ("h3", "id")}
        assert {link for link in links if link.startswith("#exercise-")} == {f"#{anchor}" for anchor in anchors}
        assert page.tags["h2"] == len(sections)


def test_a_file_of_no_lab_is_named_in_every_report():
    lost = ungraded("zoe", reason="No lab was recognised.") | {"lab": None}
    page = Page(class_report([record("a")], LAB, [lost]))
    assert page.column("ungraded", "why") == {"zoe": "No lab was recognised."}
    assert int(page.tables["counts"][0][1]) == 1


def test_everything_is_written_for_every_lab(tmp_path):
    other = "lab2_paths"
    made = [record("anna"), record("anna", lab=other), record("bo", written=None), ungraded("cy") | {"lab": None}]
    ran = new_notebook(cells=[new_code_cell("1", outputs=[new_output("stream", text="mine alone")])])
    for each in made:
        records.write(each, tmp_path / "results", ran if each["student"] == "anna" else None)
    found = records.read(tmp_path / "results")
    assert write_all(found, tmp_path / "results", tmp_path) == [tmp_path / f"{LAB}.html", tmp_path / f"{other}.html"]
    assert (tmp_path / f"{LAB}.csv").read_text() == exports.to_csv([made[0], made[2]])
    assert (tmp_path / f"{LAB}.html").read_text() == class_report([made[0], made[2]], LAB, [made[3]])
    pages = {path.parts[-3:]: path.read_text() for path in (tmp_path / "feedback").rglob("*.html")}
    assert set(pages) == {
        ("anna", LAB, f"{LAB}.html"),
        ("anna", other, f"{other}.html"),
        ("bo", LAB, f"{LAB}.html"),
        ("cy", "unknown", "unknown.html"),
    }
    assert {path[0] for path, text in pages.items() if "mine alone" in text} == {"anna"}


def test_students_words_stay_words():
    copies = [hostile(HOSTILE), hostile(HOSTILE + "2"), ungraded("x" + HOSTILE, reason=HOSTILE)]
    page = harmless(class_report([*copies, *a_class()], LAB))
    assert page.text.count("<script>alert(1)</script>") > 20 and "{{ 7 * 7 }}" in page.text
    assert page.tags["img"] == 0 and page.tags["details"] >= 1  # the two are alike
    page = harmless(feedback(hostile()))
    assert "<script>alert(1)</script>" in page.text


def test_text_that_cannot_be_written_or_that_turns_lines_around():
    made = hostile("\ud800\u202eanna\x00\x1b[31m")
    for text in (class_report([made], LAB), feedback(made), exports.to_csv([made])):
        assert not re.search("[\x00\x1b\u202e]", text.encode("utf-8").decode("utf-8")) and "��anna�" in text
    exports.to_gradescope(made).encode("utf-8")


def test_the_same_records_make_the_same_bytes(tmp_path):
    """In another order, and in a process with other hashes."""
    made = [*a_class(), *(styled_record(f"copy{k}", seed=5) for k in range(2))]
    shuffled = random.Random(1).sample(made, len(made))
    assert class_report(shuffled, LAB) == class_report(made, LAB)
    for each in made:
        records.write(each, tmp_path)
    program = (
        "import sys; from course import records, report; found = records.read(sys.argv[1])\n"
        "sys.stdout.buffer.write(report.class_report(found, sys.argv[2]).encode())"
    )
    command = [sys.executable, "-c", program, str(tmp_path), LAB]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run(command, cwd=build.ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.decode() == class_report(made, LAB)
