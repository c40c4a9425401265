"""What spreadsheets, Canvas, Moodle and Gradescope read."""

import csv
import html
import io
import json
import unicodedata

import pytest

from course import exports, tables
from course.inbox.roster import Register, Roster
from tests.html_page import Page
from tests.made_records import LAB, POINTS, WRITTEN, a_class, hostile, record, rejected, saying, ungraded, unsolved

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =cmd|' /C calc'!A0", "＝1"]


def enrolled(rows, records):
    return Register(Roster(rows), records)


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_every_score_and_no_zero_for_the_ungraded():
    records = a_class()
    rows = {row["student"]: row for row in read_csv(exports.to_csv(records))}
    assert list(rows) == sorted(r["student"] for r in records)
    for made in records:
        row = rows[made["student"]]
        for name, item in {**made["exercises"], **made["written"]}.items():
            assert (float(row[name]) if row[name] else None) == item["score"]
        if made["status"] == "ungraded":
            assert row["status"] == "ungraded" and row["reason"] == "the file is empty"
            assert {row[name] for name in [*POINTS, *WRITTEN, "total", "out of"]} == {""}
        elif None in [w["score"] for w in made["written"].values()]:
            assert row["status"] == "waiting for a person" and row["total"] == ""
        else:
            assert row["status"] == "graded"
            assert float(row["total"]) == sum(float(row[name]) for name in [*POINTS, *WRITTEN])
            assert float(row["out of"]) == sum(POINTS.values()) + sum(WRITTEN.values())


@pytest.mark.parametrize("name", FORMULAS)
def test_no_cell_is_a_formula(name):
    slip = saying("simulate", "visible", name)
    records = [record(name, {"simulate": slip}, notes=[name]), ungraded("z", reason=name)]
    register = enrolled([{"Student": name, "ID": name, "Full name": name, "Identifier": name}], records)
    for text in (
        exports.to_csv(records),
        exports.to_canvas(records, name),
        exports.to_canvas(records, "Lab 1", register),
        exports.to_moodle(records),
        exports.to_moodle(records, register),
        exports.to_csv(records, register),
    ):
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert any(name.strip()[1:] in cell for cell in cells)
        assert not [cell for cell in cells if cell.lstrip()[:1] in [*"=+-@", "＝"]]


def test_canvas():
    """What Canvas looks for: the first columns, the row of points, and rows of students found by ID."""
    records = [record("anna"), record("bert", written=None), ungraded("carl"), unsolved("dora")]
    header, points, *students = csv.reader(io.StringIO(exports.to_canvas(records, "Lab 1 (1234)")))
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lab 1 (1234)"]
    most = sum(POINTS.values()) + sum(WRITTEN.values())
    assert points[0].strip() == "Points Possible" and float(points[-1]) == most
    full = sum(POINTS.values()) + 2.5 * len(WRITTEN)
    assert [(row[3], row[-1]) for row in students] == [
        ("anna", f"{full:g}"),
        ("bert", ""),
        ("carl", ""),
        ("dora", "0"),
    ]
    exported = (
        "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Old (1)\n    Points Possible,,,,,10\n"
        '"Ames, Anna",77,u77,anna,Monday,3\n'
    )
    register = enrolled(tables.read(exported.encode()), records)
    *_, row = csv.reader(io.StringIO(exports.to_canvas(records[:1], "Lab 1 (1234)", register)))
    assert row == ["Ames, Anna", "77", "u77", "anna", "Monday", f"{full:g}"]


def test_moodle():
    secret = next(verdict for verdict in rejected()["euler_step"] if verdict[0] == "hidden")
    slip = next(rejection for rejection in rejected()["simulate"] if rejection[0] == "visible")
    records = [
        record("anna@uni.edu", {"euler_step": secret, "simulate": slip}),
        record("bert", written=None),
        ungraded("c"),
    ]
    anna, *others = read_csv(exports.to_moodle(records))
    assert list(anna) == ["Identifier", "Email address", "Grade", "Feedback comments"]
    assert anna["Email address"] == "anna@uni.edu"
    full = sum(POINTS.values()) + 2.5 * len(WRITTEN)
    assert float(anna["Grade"]) == full - POINTS["euler_step"] - POINTS["simulate"]
    assert slip[1].mistake in html.unescape(anna["Feedback comments"])
    assert f"not further tests of the same; it looks as if {secret[1].mistake}" in anna["Feedback comments"]
    assert secret[1].reason not in anna["Feedback comments"]
    assert {(row["Grade"], row["Feedback comments"]) for row in others} == {("", "")}
    (row,) = read_csv(exports.to_moodle([hostile("anna")]))  # Moodle shows a comment as HTML
    assert Page(row["Feedback comments"]).tags.keys() == {"br"}
    worksheet = (
        "Identifier,Full name,Email address,Status,Grade,Maximum grade,Grade can be changed,Last modified (grade),"
        'Feedback comments\nParticipant 12,Anna,anna@uni.edu,Submitted,,40.00,Yes,"Monday, 2 March 2026, 9:00 AM",\n'
    )
    (row,) = read_csv(exports.to_moodle(records[:1], enrolled(tables.read(worksheet.encode()), records)))
    assert row["Identifier"] == "Participant 12" and row["Last modified (grade)"] == "Monday, 2 March 2026, 9:00 AM"
    assert row["Grade"] == anna["Grade"] and row["Feedback comments"] == anna["Feedback comments"]


def test_gradescope():
    slip, secret = (next(v for v in rejected()["euler_step"] if v[0] == by) for by in ("visible", "hidden"))
    made = record("anna", {"heun_step": slip, "euler_step": secret}, written=None, notes=["a cell was copied"])
    results = json.loads(exports.to_gradescope(made))
    tests = {test["name"]: test for test in results["tests"]}
    assert results["score"] == sum(test["score"] for test in tests.values())
    assert {name: test["max_score"] for name, test in tests.items()} == POINTS  # what waits is not shown as a zero
    assert {name for name, test in tests.items() if test["status"] == "failed"} == {"euler_step", "heun_step"}
    assert {test["visibility"] for test in tests.values()} == {"visible"}
    assert tests["heun_step"]["output"] == str(slip[1])
    assert tests["euler_step"]["output"].startswith("✗ euler_step: passes the check in the notebook, but not further")
    assert results["execution_time"] == 1.9 and results["stdout_visibility"] == "hidden"
    assert results["output"].splitlines() == ["a cell was copied", *(f"{n} waits for a person." for n in WRITTEN)]
    with pytest.raises(ValueError, match="the file is empty"):
        exports.to_gradescope(ungraded("bert"))


# --- rosters ----------------------------------------------------------------------------------------------------------

GRADEBOOK = """\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Lab 1: simulation (71),Lab 10 (80),Final (99)
    Points Possible,,,,,46,10,100
"Ek, Anna",1,,a.ek,Monday,,,
"O'Neill-Østergård, Bo Åge",2,,bo,Monday,,,
"Li, Wei",3,,wli,Monday,,,
"Li, Wei",4,,wli2,Monday,,,
"""


@pytest.mark.parametrize(
    ("student", "number"),
    [
        ("ekanna", "1"),
        ("a.ek", "1"),
        ("O_Neill-Østergård, Bo Åge", "2"),
        (unicodedata.normalize("NFD", "oneillØstergårdboåge"), "2"),
        ("wli2", "4"),
        ("liwei", None),
        ("", None),
    ],
)
def test_students_are_found_as_files_name_them_and_only_if_there_is_no_doubt(student, number):
    """By login or by name, whichever is in the table."""
    found = enrolled(tables.read(GRADEBOOK.encode()), [record(student)]).person(student)
    assert (found.row["ID"] if found else None) == number


def test_a_login_says_more_than_a_name():
    rows = tables.read(b"Student,SIS Login ID,ID\nbo,anna,1\ncy,bo,2\ndi,cy,3\n")
    register = enrolled(rows, map(record, ["anna", "bo", "cy"]))
    assert [register.person(student).row["ID"] for student in ("anna", "bo", "cy")] == ["1", "2", "3"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_roster_that_a_spreadsheet_saved(encoding, delimiter, end):
    text = end.join(["Full name,ID", "Bo Åge,7", "Cy,8", ""]).replace(",", delimiter)
    rows = tables.read(text.encode(encoding))
    assert rows == [{"Full name": "Bo Åge", "ID": "7"}, {"Full name": "Cy", "ID": "8"}]


@pytest.mark.parametrize("data", [b"", b"Student,ID", b"\0", b"%PDF-1.7\nx,y,z\n", b"a,b\n1,2,3,4\n1\n"])
def test_a_roster_without_the_students_is_refused_with_its_columns(tmp_path, data):
    (tmp_path / "roster.csv").write_bytes(data)
    with pytest.raises(ValueError, match=r"roster\.csv has (none of the students|nobody)"):
        exports.write([record("anna")], "canvas", tmp_path, tmp_path / "roster.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["roster.csv"]
    with pytest.raises(ValueError, match=r"gone\.csv is not a file"):
        exports.write([record("anna")], "canvas", tmp_path, tmp_path / "gone.csv")


def test_canvas_finds_the_assignment_by_the_number_of_the_lab():
    rows = tables.read(GRADEBOOK.encode())
    assert exports.canvas_column("lab1_simulation", rows) == "Lab 1: simulation (71)"
    assert exports.canvas_column("lab2_paths", rows) == "lab2_paths"
    twice = tables.read(b"Lab 1 (1),lab01 (2)\n,\n")
    assert exports.canvas_column("lab1_simulation", twice) == "lab1_simulation"


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_for_each_system(tmp_path, capsys):
    roster = tmp_path / "roster.csv"
    roster.write_text(GRADEBOOK, encoding="utf-8")
    other = "lab2_paths"
    made = [record("ekanna"), record("liwei", written=None), ungraded("di"), record("ekanna", lab=other)]
    made.append(ungraded("eve") | {"lab": None})
    for to in exports.SYSTEMS:
        exports.write(made, to, tmp_path / to, roster)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == {
        "roster.csv",
        *(f"csv/{lab}.csv" for lab in (LAB, other)),
        *(f"canvas/{lab}.canvas.csv" for lab in (LAB, other)),
        *(f"moodle/{lab}.moodle.csv" for lab in (LAB, other)),
        *(f"gradescope/{path}/results.json" for path in (f"{LAB}/ekanna", f"{LAB}/liwei", f"{other}/ekanna")),
    }
    said = capsys.readouterr().err.splitlines()
    assert said[: len(said) // 4] == [
        f"{LAB}: no mark yet: di (ungraded), liwei (waiting for a person)",
        f"{LAB}: not in the roster: di, liwei",
        f"{LAB}: did not hand in: Bo Åge O'Neill-Østergård",
        f"{other}: did not hand in: Bo Åge O'Neill-Østergård",
        "liwei may be in any of 2 rows of the roster: Wei Li (wli), Wei Li (wli2).",
        "no lab was recognised: eve (lab1_simulation.ipynb)",
    ]
    rows = {row["ID"]: row for row in read_csv((tmp_path / "canvas" / f"{LAB}.canvas.csv").read_text())}
    full = sum(POINTS.values()) + 2.5 * len(WRITTEN)
    assert rows["1"]["Student"] == "Ek, Anna" and float(rows["1"]["Lab 1: simulation (71)"]) == full
    assert len(read_csv((tmp_path / "csv" / f"{LAB}.csv").read_text())) == 4  # one did not hand in
    assert json.loads((tmp_path / "gradescope" / LAB / "ekanna" / "results.json").read_text())["score"] == full
    assert exports.write(made, "csv", tmp_path / "csv") == [tmp_path / "csv" / f"{lab}.csv" for lab in (LAB, other)]


def test_what_a_person_gave_is_in_the_total_and_the_comment_where_students_read():
    made = record("anna", {"simulate": rejected()["simulate"][0]})
    made["exercises"]["simulate"] |= {"score": 1.0, "marked": True, "comment": "Nearly: <b>one step</b> too few."}
    full = sum(POINTS.values()) + 2.5 * len(WRITTEN)
    (row,) = read_csv(exports.to_csv([made]))
    assert float(row["simulate"]) == 1.0 and float(row["total"]) == full - POINTS["simulate"] + 1
    (row,) = read_csv(exports.to_moodle([made]))
    assert "Nearly: &lt;b&gt;one step" in row["Feedback comments"]
    tests = {test["name"]: test for test in json.loads(exports.to_gradescope(made))["tests"]}
    assert tests["simulate"]["score"] == 1.0 and tests["simulate"]["output"].endswith("one step</b> too few.")
