"""Copies are found under other names; students who write alone are not."""

import ast
import re

import pytest

from course import answers
from course.report import class_report
from course.similar import marked, similar_answers, worth_a_look
from tests.html_page import harmless
from tests.made_records import LAB, POINTS, record, saying, styled_record, unsolved


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
    by_chance = similar_answers(alone)
    assert len(by_chance) <= 5
    names = list(POINTS)
    records = [*alone, copy(alone[3], "copies_all", names), copy(alone[7], "copies_some", names[:10])]
    pairs = similar_answers(records)
    assert {pair["students"] for pair in pairs[:2]} == {("copies_all", "student003"), ("copies_some", "student007")}
    assert all(exercise["likeness"] == 1.0 for exercise in pairs[0]["exercises"])
    assert {exercise["exercise"] for pair in pairs[:2] for exercise in pair["exercises"]} <= set(names)
    assert len(pairs) <= 7
    for row in [pairs, *(pair["exercises"] for pair in pairs)]:  # the strongest first
        assert [entry["evidence"] for entry in row] == sorted((entry["evidence"] for entry in row), reverse=True)
    assert similar_answers(records[::-1]) == pairs


@pytest.mark.parametrize("size", [12, 60, 300])
def test_two_copied_functions_or_a_copied_text_are_worth_a_look(size):
    """And what chance brings in a class that works apart: in a small one four pairs, else one for fifteen students."""
    alone = [styled_record(f"student{k:03}", seed=3000 + k) for k in range(size)]
    for k, each in enumerate(alone):
        for name, item in each["written"].items():
            item["answer"] = (
                f"I, number {k}, think that {name} number{k} comes of the {k}th and so on, since {k} is {k + 1}."
            )
    by_chance = worth_a_look(alone)
    assert len(by_chance) <= max(4, size / 15)
    for k, name in enumerate(list(POINTS)[3:5]):  # as nobody else writes it
        alone[3]["exercises"][name]["answer"] = (
            f"def {name}(x, t):\n    a = x.roll({k}) - t\n    return a.flip(0) ** a.std()"
        )
    copied = copy(alone[3], "copies_two", list(POINTS)[3:5])
    text = record("copies_text")
    essay = "Theta pulls the state back, sigma shakes it, and in the end the variance is their ratio, halved, always."
    name = next(iter(text["written"]))
    text["written"][name]["answer"] = essay
    alone[5]["written"][name]["answer"] = "First of all: " + essay.replace("in the end", "after all")
    listed = worth_a_look([*alone, copied, text])
    pairs = {row["students"]: row for row in listed} | {
        row["students"]: row for row in similar_answers([*alone, copied, text])
    }
    assert len(pairs[("copies_two", "student003")]["exercises"]) >= 2
    assert [each["exercise"] for each in pairs[("copies_text", "student005")]["exercises"]] == [name]
    harmless(class_report([*alone[:20], copied, text], LAB))


def test_what_agrees_is_marked_whatever_variables_are_called():
    one, other = marked(
        "def f(x):\n    y = x + 2 * x\n    return y", "def f(a):\n    b = a + 2 * a  # <mine>\n    return b - 1"
    )
    assert one == "<mark>def f(x):\n    y = x + 2 * x</mark>\n    return y"
    assert other.startswith("<mark>def f(a):\n    b = a + 2 * a</mark>  # &lt;mine&gt;\n") and other.endswith(
        "return b - 1"
    )
    assert marked("", "a") == ("", "a")


def test_a_change_here_and_there_does_not_hide_a_copy():
    alone = [styled_record(f"student{k:03}", seed=k) for k in range(60)]
    long = "\n".join(f"    part{k} = torch.{f}(x) * {k} - t" for k, f in enumerate(["sin", "cos", "exp", "log"] * 5))
    for made, edit in (alone[0], lambda text: text), (alone[1], lambda text: text.replace("cos(x) * 5", "tan(x) * 55")):
        for name in list(POINTS)[:3]:
            made["exercises"][name]["answer"] = edit(f"def {name}(x, t):\n{long}\n    return part3")
    best = similar_answers(alone)[0]
    assert best["students"] == ("student000", "student001")
    assert all(0.6 <= exercise["likeness"] < 1 for exercise in best["exercises"][:3])


def test_what_many_write_and_the_official_solution_say_nothing():
    solved = [record(f"solved{k:02}") for k in range(12)]
    renamed = [copy(solved[0], f"renamed{k:02}", POINTS) for k in range(3)]
    assert similar_answers(solved + renamed + [unsolved(f"blank{k}") for k in range(3)]) == []
    failed = [record(f"failed{k:02}", {name: saying(name, "visible", "no") for name in POINTS}) for k in range(40)]
    assert similar_answers(solved[:2] + failed) == []
    assert similar_answers(solved[:2] + failed, solutions={})[0]["students"] == ("solved00", "solved01")
    alone = [styled_record(f"student{k:03}", seed=100 + k) for k in range(60)]
    common = styled_record("first", seed=0)
    many = [{**common, "student": f"many{k}"} for k in range(10)]
    listed = {student for pair in similar_answers(many + alone) for student in pair["students"]}
    assert not any(student.startswith("many") for student in listed)


def test_the_share_of_windows_that_two_answers_have_in_common():
    """Eleven tokens, of which the first differs: six windows agree; of each, one window and the whole do not."""
    alone = [styled_record(f"student{k}", seed=k) for k in range(5)]
    for made, first in zip(alone, "pq"):
        for exercise in made["exercises"].values():
            exercise["answer"] = f"{first}.b.c.d.e()"
    (pair,) = (pair for pair in similar_answers(alone) if pair["students"] == ("student0", "student1"))
    assert [exercise["likeness"] for exercise in pair["exercises"]] == [6 / 10] * len(POINTS)


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
    assert similar_answers(records)[0]["students"] == ("student0", "student1")
    harmless(class_report(records, LAB))


def test_a_lab_without_a_source_has_no_official_solutions():
    assert answers.official("lab99_gone") == {}
    assert answers.official(LAB).keys() == POINTS.keys()
