"""Reports, exports and feedback, read with parsers and compared with numpy, on records with the real lab's verdicts."""

import ast
import base64
import csv
import functools
import importlib
import io
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from nbformat.v4 import new_output

from course import build, report
from fmlab.checks.compare import CheckFailed
from tests import submissions

LAB = "lab1_simulation"
POINTS, WRITTEN = submissions.points(LAB), submissions.written(LAB)
HOSTILE = "</pre></td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;{{ 7 * 7 }}"


# --- records like the grader's ----------------------------------------------------------------------------------------


@functools.cache
def rejected() -> dict[str, list[tuple[str, str]]]:
    """What the real checks say of the wrong answers to each exercise: who rejects it, in which words."""
    wrong = importlib.import_module("tests.wrong_answers.lab1").WRONG
    return {name: [_verdict(name, answer) for answer, _ in entries.values()] for name, entries in wrong.items()}


def _verdict(exercise, answer):
    for by, module in ("visible", "fmlab.checks.lab1"), ("hidden", "course.hidden.lab1"):
        try:
            getattr(importlib.import_module(module), exercise)(answer)
        except CheckFailed as failure:
            return by, str(failure)
    raise AssertionError(f"{exercise}: a wrong answer passes")


@functools.cache
def stubs() -> dict[str, str]:
    blank = submissions.blank(LAB)
    return {name: next(c.source for c in blank.cells if c.id == f"{name}-answer") for name in POINTS}


def record(student, wrong=None, written=2.5, **more):
    """wrong: exercise → (by, verdict). Every other answer is the official one, and right."""
    exercises = {
        name: {"points": float(points), "score": float(points), "by": "", "verdict": "", "answer": answer}
        for (name, points), answer in zip(POINTS.items(), report.official(LAB).values())
    }
    for name, (by, verdict) in (wrong or {}).items():
        exercises[name].update(score=0.0, by=by, verdict=verdict, answer=f"def {name}(*args):\n    return None")
    return {
        "student": student,
        "lab": LAB,
        "file": f"{LAB}.ipynb",
        "sha256": "0" * 64,
        "status": "graded",
        "reason": "",
        "notes": [],
        "flags": [],
        "exercises": exercises,
        "written": {name: {"points": float(p), "score": written, "answer": "A text."} for name, p in WRITTEN.items()},
        "seconds": 1.9,
    } | more


def unsolved(student):
    made = record(student, {name: ("visible", f"✗ {name}: raised NotImplementedError") for name in POINTS}, written=0.0)
    for name, exercise in made["exercises"].items():
        exercise["answer"] = stubs()[name]
    return made


def ungraded(student, reason="the file is empty"):
    return record(student, status="ungraded", reason=reason, exercises={}) | {"written": {}}


def a_class(size=40, seed=0):
    """Students of different strength, whose wrong answers are those of the tables."""
    draw = random.Random(seed)
    records = []
    for number in range(size):
        strength = draw.random()
        missed = [name for name in POINTS if name != "weak_error" and draw.random() > strength]
        wrong = {name: draw.choice(rejected()[name]) for name in missed}
        records.append(record(f"student{number:03}", wrong, written=draw.choice([None, 0.0, 1.5, 3.0])))
    return records + [unsolved("blank"), ungraded("gone"), ungraded("lost")]


def score_matrix(records):
    """Students × exercises."""
    graded = [r for r in records if r["status"] == "graded"]
    return np.array([[r["exercises"][name]["score"] for name in POINTS] for r in graded])


# --- reading pages ----------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags, attributes, text and tables (by id, a list of rows) of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.tables = Counter(), [], "", defaultdict(list)
        self._table = self._cell = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag == "table":
            self._table = dict(attrs).get("id")
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[self._table][-1].append(self._cell.strip())
            self._cell = None

    def handle_data(self, data):
        self.text += data
        if self._cell is not None:
            self._cell += data

    def column(self, table, name):
        """first cell → cell in the column with this heading."""
        header, *rows = self.tables[table]
        return {row[0]: row[header.index(name)] for row in rows}


def harmless(text):
    """The page, once nothing in it can run, load or lead away."""
    page = Page(text)
    assert not page.tags.keys() & {"script", "iframe", "object", "embed", "link", "base", "form", "a"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on") and name not in ("href", "action", "srcdoc"), (tag, name)
        assert name != "src" or value.startswith("data:image/png;base64,")
        assert "javascript:" not in (value or "")
    assert "default-src 'none'" in text
    return page


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


# --- records ----------------------------------------------------------------------------------------------------------


def put(folder, student, text, lab=LAB):
    path = folder / student / lab / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")


def test_half_written_records_are_named_and_skipped(tmp_path, capsys):
    for student in ("zoe", "anna"):
        put(tmp_path, student, json.dumps(record(student)))
    put(tmp_path, "torn", json.dumps(record("torn"))[:300])
    put(tmp_path, "empty", "")
    put(tmp_path, "list", "[]")
    put(tmp_path, "other", json.dumps(record("other")), lab="lab2_paths")
    assert report.load(tmp_path, LAB) == [record("anna"), record("zoe")]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all("record.json: skipped" in line for line in said)
    assert all(any(f"{student}{os.sep}" in line for line in said) for student in ("torn", "empty", "list"))


# --- the class report -------------------------------------------------------------------------------------------------


def test_counts_names_and_marks():
    records = a_class()
    page = harmless(report.class_report(records, LAB))
    graded = [r for r in records if r["status"] == "graded"]
    waiting = [r["student"] for r in graded if any(w["score"] is None for w in r["written"].values())]
    assert [int(row[1]) for row in page.tables["counts"]] == [43, 41 - len(waiting), len(waiting), 2]
    assert list(page.column("students", "student")) == sorted(r["student"] for r in records)
    code, total, status = (page.column("students", name) for name in ("code", "all", "status"))
    for made, scores in zip(graded, score_matrix(records)):
        assert float(code[made["student"]]) == scores.sum()
        if made["student"] not in waiting:
            assert float(total[made["student"]]) == scores.sum() + sum(w["score"] for w in made["written"].values())
    assert {status[student] for student in waiting} == {"waiting for a person"}
    assert {total[student] for student in [*waiting, "gone", "lost"]} == {""}
    assert code["gone"] == "" and status["gone"] == "ungraded" and code["blank"] == "0"
    assert page.column("ungraded", "why") == {"gone": "the file is empty", "lost": "the file is empty"}


def test_easiness_and_discrimination_agree_with_numpy():
    records = a_class()
    scores = score_matrix(records)
    found = {q["name"]: q for q in report.questions(records)}
    page = Page(report.class_report(records, LAB))
    for k, (name, points) in enumerate(POINTS.items()):
        share, rest = scores[:, k].mean() / points, np.delete(scores, k, axis=1).sum(1)
        correlation = np.corrcoef(scores[:, k], rest)[0, 1]
        assert found[name]["difficulty"] == pytest.approx(share)
        assert found[name]["discrimination"] == pytest.approx(correlation)
        assert page.column("questions", "easiness")[name] == f"{100 * share:.0f} %"
        assert page.column("questions", "discrimination")[name] == f"{correlation:.2f}"
    for name in WRITTEN:  # against all code, over those whose text was read
        graded = [r for r in records if r["status"] == "graded"]
        read = np.array([r["written"][name]["score"] is not None for r in graded])
        text = np.array([r["written"][name]["score"] for r in graded])[read].astype(float)
        assert found[name]["discrimination"] == pytest.approx(np.corrcoef(text, scores[read].sum(1))[0, 1])


def test_discrimination_is_blank_where_it_is_undefined():
    same = [record(f"s{k}", {"simulate": rejected()["simulate"][0]} if k % 2 else {}) for k in range(6)]
    assert report.discrimination("euler_step", same) is None  # right for all
    assert report.discrimination("simulate", same) is None  # the rest is right for all
    assert report.discrimination("simulate", a_class(2, seed=3)[:2]) is None
    assert Page(report.class_report(same, LAB)).column("questions", "discrimination")["simulate"] == ""


def test_shares_of_outcomes():
    words = rejected()["euler_step"]
    visible, hidden = (next(v for v in words if v[0] == by) for by in ("visible", "hidden"))
    records = [record("a", {"euler_step": visible}), record("b", {"euler_step": hidden}), record("c"), unsolved("d")]
    records += [record("e", {"euler_step": ("process", "it never came back")}), ungraded("f")]
    page = Page(report.class_report(records, LAB))
    columns = "untouched", "notebook's check", "hidden tests", "other"
    assert [page.column("questions", name)["euler_step"] for name in columns] == ["20 %"] * 4
    assert all(page.column("questions", name)[text] == "" for name in columns for text in WRITTEN)
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert "marked by a person 5" in labels
    assert "right 1, hidden tests only 1, notebook's check 1, other 1, untouched 1" in labels


def test_what_was_handed_out_is_untouched_and_what_was_solved_is_not():
    assert all(map(report.untouched, stubs().values()))
    assert not any(map(report.untouched, report.official(LAB).values()))
    assert not report.untouched("def f(x):\n    raise NotImplementedError\n    return x")
    assert not report.untouched("def f(x):\n    return x  # raise NotImplementedError")
    assert not report.untouched("def f(x) raise NotImplementedError")


def test_histogram_agrees_with_numpy():
    for most in (7.0, 10.0, 41.5):
        marks = np.random.default_rng(0).integers(0, int(2 * most) + 1, 300) / 2
        expected = np.histogram(10 * marks, bins=most * np.arange(11))[0].tolist()
        assert report.histogram((mark, most) for mark in marks) == expected
    page = Page(report.class_report(a_class(), LAB))
    labels = [value for tag, name, value in page.attributes if name == "aria-label" and "tenth" in value]
    assert len(labels) == 2 and sum(map(int, re.findall(r"\d+", labels[0]))) == 41


def test_misconceptions_are_counted_by_idea():
    """One student for each wrong answer in the table: every idea that it lists is found."""
    table = importlib.import_module("tests.wrong_answers.lab1").WRONG
    cases = [(name, verdict) for name, verdicts in rejected().items() for verdict in verdicts]
    rows = report.misconceptions([record(f"s{k:03}", {name: verdict}) for k, (name, verdict) in enumerate(cases)])
    assert sum(row["count"] for row in rows) == len(cases)
    assert sum(row["hidden"] for row in rows) == sum(by == "hidden" for _, (by, _) in cases)
    assert [row["count"] for row in rows] == sorted((row["count"] for row in rows), reverse=True)
    for name, entries in table.items():
        for _, words in entries.values():
            assert any(words in row["example"] for row in rows if row["exercise"] == name)
    named = [row for row in rows if "it looks as if" in row["example"]]
    assert all(f"it looks as if {row['idea']}." in row["example"] for row in named) and len(named) > 50
    assert ("euler_step", "the step size h is missing") in {(row["exercise"], row["idea"]) for row in named}
    assert not any(re.search(r"\d\.\d", row["idea"]) for row in rows if row not in named)


def test_verdicts_that_differ_in_numbers_are_one_misconception():
    def answer(offset):
        return lambda x, t, theta: -theta * x + offset

    verdicts = [_verdict("ou_drift", answer(offset)) for offset in (1.0, -2.5, 1e-3)]
    assert len(set(verdicts)) == 3
    rows = report.misconceptions([record(f"s{k}", {"ou_drift": v}) for k, v in enumerate(verdicts)] + [unsolved("z")])
    assert [(row["count"], row["example"]) for row in rows] == [(3, verdicts[0][1])]
    assert report.idea("✗ f: raised ValueError: 3 of float32 at 0x7f3a, W_0 is -1.5e-3") == (
        "raised ValueError: … of float32 at …, W_0 is …"
    )


def test_flags_repairs_and_reasons_are_listed():
    records = [record("b", flags=["prints a lot"]), record("a", notes=["a cell was copied"]), ungraded("c", "no cells")]
    page = Page(report.class_report(records, LAB))
    assert {"prints a lot", "a cell was copied"} <= {row[1] for row in page.tables[None]}
    assert ["c", f"{LAB}.ipynb", "no cells"] in page.tables["ungraded"]


def test_a_class_without_marks_has_a_report():
    for records in ([], [ungraded("a")], [record("a")]):
        harmless(report.class_report(records, LAB))


def hostile(student=HOSTILE):
    wrong = {name: ("visible", f"✗ {name}: raised ValueError: {HOSTILE}\n{HOSTILE}") for name in POINTS}
    made = record(student, wrong, notes=[HOSTILE], flags=[HOSTILE], file=HOSTILE)
    for exercise in made["exercises"].values():
        exercise["answer"] = f'"""{HOSTILE}"""\ndef f():\n    return {HOSTILE!r} + str(12345678)'
    return made


def test_students_words_stay_words():
    copies = [hostile(HOSTILE), hostile(HOSTILE + "2"), ungraded("x" + HOSTILE, reason=HOSTILE)]
    page = harmless(report.class_report([*copies, *a_class()], LAB))
    assert page.text.count("<script>alert(1)</script>") > 20 and "{{ 7 * 7 }}" in page.text
    assert page.tags["img"] == 0 and page.tags["details"] >= 1  # the two are alike
    page = harmless(report.feedback(hostile()))
    assert "<script>alert(1)</script>" in page.text


def test_text_that_cannot_be_written_or_that_turns_lines_around():
    made = hostile("\ud800\u202eanna\x00\x1b[31m")
    for text in (report.class_report([made], LAB), report.feedback(made), report.to_csv([made])):
        assert not re.search("[\x00\x1b\u202e]", text.encode("utf-8").decode("utf-8")) and "��anna�" in text
    report.to_gradescope(made).encode("utf-8")


def test_the_same_records_make_the_same_bytes(tmp_path):
    """In another order, and in a process with other hashes."""
    records = [*a_class(), *(styled_record(f"copy{k}", seed=5) for k in range(2))]
    shuffled = random.Random(1).sample(records, len(records))
    assert report.class_report(shuffled, LAB) == report.class_report(records, LAB)
    for made in records:
        put(tmp_path, made["student"], json.dumps(made))
    program = (
        "import sys; from course import report; records = report.load(sys.argv[1], sys.argv[2])\n"
        "sys.stdout.buffer.write(report.class_report(records, sys.argv[2]).encode())"
    )
    command = [sys.executable, "-c", program, str(tmp_path), LAB]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run(command, cwd=build.ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.decode() == report.class_report(records, LAB)


# --- answers that are alike -------------------------------------------------------------------------------------------


class Style(ast.NodeTransformer):
    """A program as another student would write it: operands exchanged, results named, a slip now and then."""

    def __init__(self, draw):
        self.draw = draw

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if isinstance(node.op, (ast.Add, ast.Mult)) and self.draw.random() < 0.4:
            node.left, node.right = node.right, node.left
        elif self.draw.random() < 0.05:
            node.op = self.draw.choice([ast.Add(), ast.Sub(), ast.Mult(), ast.Div()])
        return node

    def visit_Return(self, node):
        self.generic_visit(node)
        if self.draw.random() < 0.6:
            return node
        name = self.draw.choice(["result", "out", "y"])
        return [ast.Assign([ast.Name(name, ast.Store())], node.value), ast.Return(ast.Name(name, ast.Load()))]


def styled_record(student, seed):
    made, draw = record(student), random.Random(seed)
    for exercise in made["exercises"].values():
        tree = Style(draw).visit(ast.parse(exercise["answer"]))
        exercise["answer"] = ast.unparse(ast.fix_missing_locations(tree))
    return made


def disguise(source):
    """Other names, comments, a docstring and line breaks for the same program."""
    tree = ast.parse(source)
    names = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for number, name in enumerate(sorted(names)):
        source = re.sub(rf"(?<!\.)\b{name}\b(?!=)", f"mine_{number}", source)
    first, rest = source.split("\n", 1)
    return f'# my own work\n{first}\n    """I did this."""\n    # a remark\n{rest}'


def copy(original, student, exercises):
    made = record(student)
    for name, exercise in made["exercises"].items():
        exercise.update(original["exercises"][name] if name in exercises else exercise)
        exercise["answer"] = disguise(exercise["answer"]) if name in exercises else exercise["answer"]
    return made


@pytest.mark.parametrize("size", [20, 120, 500])
def test_copies_are_found_under_other_names_and_students_who_write_alone_are_not(size):
    alone = [styled_record(f"student{k:03}", seed=1000 + k) for k in range(size)]
    by_chance = report.similar_answers(alone)
    assert len(by_chance) <= 5
    names = list(POINTS)
    records = [*alone, copy(alone[3], "copies_all", names), copy(alone[7], "copies_some", names[:10])]
    pairs = report.similar_answers(records)
    assert {pair["students"] for pair in pairs[:2]} == {("copies_all", "student003"), ("copies_some", "student007")}
    assert all(exercise["likeness"] == 1.0 for exercise in pairs[0]["exercises"])
    assert {exercise["exercise"] for pair in pairs[:2] for exercise in pair["exercises"]} <= set(names)
    assert len(pairs) <= 7
    for row in [pairs, *(pair["exercises"] for pair in pairs)]:  # the strongest first
        assert [entry["evidence"] for entry in row] == sorted((entry["evidence"] for entry in row), reverse=True)
    assert report.similar_answers(records[::-1]) == pairs


def test_a_change_here_and_there_does_not_hide_a_copy():
    alone = [styled_record(f"student{k:03}", seed=k) for k in range(60)]
    long = "\n".join(f"    part{k} = torch.{f}(x) * {k} - t" for k, f in enumerate(["sin", "cos", "exp", "log"] * 5))
    for made, edit in (alone[0], lambda text: text), (alone[1], lambda text: text.replace("cos(x) * 5", "tan(x) * 55")):
        for name in list(POINTS)[:3]:
            made["exercises"][name]["answer"] = edit(f"def {name}(x, t):\n{long}\n    return part3")
    best = report.similar_answers(alone)[0]
    assert best["students"] == ("student000", "student001")
    assert all(0.6 <= exercise["likeness"] < 1 for exercise in best["exercises"][:3])


def test_what_many_write_and_the_official_solution_say_nothing():
    solved = [record(f"solved{k:02}") for k in range(12)]
    renamed = [copy(solved[0], f"renamed{k:02}", POINTS) for k in range(3)]
    assert report.similar_answers(solved + renamed + [unsolved(f"blank{k}") for k in range(3)]) == []
    failed = [record(f"failed{k:02}", {name: ("visible", "✗ no") for name in POINTS}) for k in range(40)]
    assert report.similar_answers(solved[:2] + failed) == []
    assert report.similar_answers(solved[:2] + failed, solutions={})[0]["students"] == ("solved00", "solved01")
    alone = [styled_record(f"student{k:03}", seed=100 + k) for k in range(60)]
    common = styled_record("first", seed=0)
    many = [{**common, "student": f"many{k}"} for k in range(10)]
    listed = {student for pair in report.similar_answers(many + alone) for student in pair["students"]}
    assert not any(student.startswith("many") for student in listed)


@pytest.mark.parametrize(
    "source",
    [
        "def f(:",
        "\0",
        "\ud800",
        "(" * 7000,
        "-" * 7000 + "1",
        "x" + ".y" * 3900,
        "1+" * 3900 + "1",
        "9" * 7000,
        "é" * 10**5,
    ],
    ids=lambda source: repr(source[:4]),
)
def test_answers_that_are_no_programs(source):
    records = [styled_record(f"student{k}", seed=k) for k in range(5)]
    for made in records[:2]:
        for exercise in made["exercises"].values():
            exercise["answer"] = source
    assert report.similar_answers(records)[0]["students"] == ("student0", "student1")
    harmless(report.class_report(records, LAB))


def test_a_lab_without_a_source_has_no_official_solutions():
    assert report.official("lab99_gone") == {}
    assert report.official(LAB).keys() == POINTS.keys()


# --- marks for other systems ------------------------------------------------------------------------------------------

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =cmd|' /C calc'!A0", "＝1"]


def test_csv_has_every_score_and_no_zero_for_the_ungraded():
    records = a_class()
    rows = {row["student"]: row for row in read_csv(report.to_csv(records))}
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
    records = [record(name, {"simulate": ("visible", f"✗ simulate: {name}")}, notes=[name]), ungraded("z", reason=name)]
    roster = {name: {"Student": name, "ID": name, "Full name": name, "Identifier": name}}
    for text in (
        report.to_csv(records),
        report.to_canvas(records, name),
        report.to_canvas(records, "Lab 1", roster),
        report.to_moodle(records),
        report.to_moodle(records, roster),
    ):
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert any(name.strip()[1:] in cell for cell in cells)
        assert not [cell for cell in cells if cell.lstrip()[:1] in [*"=+-@", "＝"]]


def test_canvas():
    """What Canvas looks for: the first columns, the row of points, and rows of students found by ID."""
    records = [record("anna"), record("bert", written=None), ungraded("carl"), unsolved("dora")]
    header, points, *students = csv.reader(io.StringIO(report.to_canvas(records, "Lab 1 (1234)")))
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
    roster = report.roster(exported, "SIS Login ID")
    *_, row = csv.reader(io.StringIO(report.to_canvas(records[:1], "Lab 1 (1234)", roster)))
    assert row == ["Ames, Anna", "77", "u77", "anna", "Monday", f"{full:g}"]


def test_moodle():
    secret = next(verdict for verdict in rejected()["euler_step"] if verdict[0] == "hidden")
    slip = rejected()["simulate"][0]
    records = [
        record("anna@uni.edu", {"euler_step": secret, "simulate": slip}),
        record("bert", written=None),
        ungraded("c"),
    ]
    anna, *others = read_csv(report.to_moodle(records))
    assert list(anna) == ["Identifier", "Email address", "Grade", "Feedback comments"]
    assert anna["Email address"] == "anna@uni.edu"
    full = sum(POINTS.values()) + 2.5 * len(WRITTEN)
    assert float(anna["Grade"]) == full - POINTS["euler_step"] - POINTS["simulate"]
    assert "the loop should run over the times" in anna["Feedback comments"]
    assert "hidden tests: not passed" in anna["Feedback comments"] and "images" not in anna["Feedback comments"]
    assert {(row["Grade"], row["Feedback comments"]) for row in others} == {("", "")}
    (row,) = read_csv(report.to_moodle([hostile("anna")]))  # Moodle shows a comment as HTML
    assert Page(row["Feedback comments"]).tags.keys() == {"br"}
    worksheet = (
        "Identifier,Full name,Email address,Status,Grade,Maximum grade,Grade can be changed,Last modified (grade),"
        'Feedback comments\nParticipant 12,Anna,anna@uni.edu,Submitted,,40.00,Yes,"Monday, 2 March 2026, 9:00 AM",\n'
    )
    (row,) = read_csv(report.to_moodle(records[:1], report.roster(worksheet, "Email address")))
    assert row["Identifier"] == "Participant 12" and row["Last modified (grade)"] == "Monday, 2 March 2026, 9:00 AM"
    assert row["Grade"] == anna["Grade"] and row["Feedback comments"] == anna["Feedback comments"]


def test_gradescope():
    slip, secret = (next(v for v in rejected()["euler_step"] if v[0] == by) for by in ("visible", "hidden"))
    made = record("anna", {"heun_step": slip, "euler_step": secret}, written=None, notes=["a cell was copied"])
    results = json.loads(report.to_gradescope(made))
    tests = {test["name"]: test for test in results["tests"]}
    assert results["score"] == sum(test["score"] for test in tests.values())
    assert {name: test["max_score"] for name, test in tests.items()} == POINTS  # what waits is not shown as a zero
    assert {name for name, test in tests.items() if test["status"] == "failed"} == {"euler_step", "heun_step"}
    assert {test["visibility"] for test in tests.values()} == {"visible"}
    assert tests["heun_step"]["output"] == slip[1]
    assert tests["euler_step"]["output"].startswith("hidden tests: not passed")
    assert results["execution_time"] == 1.9 and results["stdout_visibility"] == "hidden"
    assert results["output"].splitlines() == ["a cell was copied", *(f"{n} waits for a person." for n in WRITTEN)]
    with pytest.raises(ValueError, match="the file is empty"):
        report.to_gradescope(ungraded("bert"))


# --- feedback ---------------------------------------------------------------------------------------------------------


def test_students_never_read_what_hidden_tests_say():
    """Of all wrong answers that only hidden tests reject, and of rejections in words that are not the check's."""
    cases = [(name, v) for name, verdicts in rejected().items() for by, v in verdicts if by == "hidden"]
    assert len(cases) >= 3
    for name, verdict in [*cases, ("simulate", "✗ simulate: the secret reference")]:
        for by in ("hidden", "process", "missing", "a rule of next year"):
            made = record("anna", {name: (by, verdict)})
            first = verdict.split("\n")[0].removeprefix(f"✗ {name}: ")
            for text in (report.feedback(made), report.to_gradescope(made), report.to_moodle([made])):
                assert first not in text and first not in Page(text).text
            assert ("further tests" in report.feedback(made)) == (by == "hidden")


def test_feedback_shows_scores_verdicts_and_repairs():
    slip = next(v for v in rejected()["euler_step"] if v[0] == "visible")
    page = harmless(report.feedback(record("anna", {"euler_step": slip}, notes=["a cell was copied"])))
    points = page.column("scores", "points")
    assert (
        points["euler_step"] == f"0 of {POINTS['euler_step']}"
        and points["simulate"] == f"{POINTS['simulate']} of {POINTS['simulate']}"
    )
    assert {name: points[name] for name in WRITTEN} == {name: f"2.5 of {most}" for name, most in WRITTEN.items()}
    assert page.column("scores", "what was found")["euler_step"] == slip[1]
    assert "a cell was copied" in page.text
    waiting = harmless(report.feedback(record("anna", written=None)))
    assert {waiting.column("scores", "points")[name] for name in WRITTEN} == {"waiting"}
    assert "points so far" in waiting.text


def test_feedback_on_an_ungraded_file_has_no_marks_and_not_the_instructors_words():
    page = harmless(report.feedback(ungraded("anna", reason="tries to read the gradebook")))
    assert "No mark yet" in page.text and "gradebook" not in page.text and "scores" not in page.tables
    flagged = harmless(report.feedback(record("anna", flags=["looks at the grader's files"])))
    assert "grader's files" not in flagged.text


def test_feedback_with_the_notebook_shows_students_cells_and_figures_but_no_tests():
    (source,) = build.sources([LAB])
    notebook = build.read(source)  # with solutions as answers and all hidden tests
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade"):
            cell.outputs = [new_output("stream", text="what a hidden test prints")]
    cells = {cell.id: cell for cell in notebook.cells}
    figure = io.BytesIO()
    plt.figure(figsize=(1, 1)).savefig(figure, format="png")
    png = base64.b64encode(figure.getvalue()).decode()
    cells["euler_step-answer"].outputs = [
        new_output("display_data", {"image/png": png + "\n", "text/plain": "a figure"}),
        new_output("display_data", {"image/png": '"><script>alert(1)</script>', "text/plain": "no figure"}),
        new_output("display_data", {"text/html": "<script>alert(3)</script>", "text/plain": HOSTILE}),
        new_output("stream", text="y" * 1_000_000),
        new_output("error", ename="E", evalue="e", traceback=["\x1b[31mValueError\x1b[0m: e"]),
    ]
    text = report.feedback(record("anna"), notebook)
    page = harmless(text)
    assert page.tags["img"] == 1 and ("img", "src", f"data:image/png;base64,{png}") in page.attributes
    assert all(name == "alt" or value for tag, name, value in page.attributes if tag == "img")
    assert HOSTILE in page.text and "ValueError: e" in page.text and "no figure" in page.text
    assert "alert(3)" not in text and len(text) < 200_000
    assert "def euler_step" in page.text
    for secret in ("HIDDEN TESTS", "course.hidden", "hidden.lab1", "what a hidden test prints"):
        assert secret not in page.text
