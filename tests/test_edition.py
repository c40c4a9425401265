"""An edition: what its file may say, what it makes of a lab, and what of records."""

import re
from datetime import datetime, timezone

import nbformat
import pytest

from course import build, edition, exports, feedback, gradebook, report, worth
from course.edition import Edition, EditionError, parse
from course.marks import out_of, total
from fmlab.checks import notebook
from tests import made_records, submissions
from tests.made_records import LAB, POINTS, record

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

DUE = "2027-03-01T23:59:00+01:00"


def says(text: str) -> Edition:
    return parse(tomllib.loads(text))


@pytest.fixture
def in_force(tmp_path, monkeypatch):
    """Puts an edition in force."""
    path = tmp_path / "edition.toml"

    def force(text: str) -> Edition:
        monkeypatch.setenv("FMLAB_EDITION", str(path))
        path.write_text(text, encoding="utf-8")
        edition._read.cache_clear()
        return edition.current()

    return force


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lab = 1", "there is no 'lab' in an edition; it has labs, lab0, lab1"),
        ("labs = 'lab1'", r'labs is a list such as \["lab1"'),
        ("labs = ['lab1']\n[lab2]\ndue = 2027-03-01T23:59:00Z", "lab2 is not among the labs of this edition"),
        ("lab1 = 3", "lab1 is a table"),
        ("[lab1]\nleave = []", "lab1 has no 'leave'; it has leave_out, further, core, points, due, annul, partial"),
        ("[lab1]\nleave_out = 'heun_step'", "lab1.leave_out is a list of names"),
        ("[lab1.points]\nheun_step = 0", "lab1.points.heun_step is a number above 0, not 0"),
        ("[lab1.points]\nheun_step = true", "lab1.points.heun_step is a number above 0, not True"),
        ("[lab1.annul]\nheun_step = 'yes'", 'lab1.annul.heun_step is "full", full marks for all, or "out"'),
        (
            "[lab1.partial.heun_step]\nmistake = 1.5",
            "lab1.partial.heun_step.'mistake' is a number from 0 to 1, not 1.5",
        ),
        ("[lab1]\ndue = 2027-03-01", "lab1.due is a time with its zone, such as"),
        ("[lab1]\ndue = 2027-03-01T10:00:00", "lab1.due is a time with its zone"),
        ("[late]\nper_hour = 1", "late has no 'per_hour'; it has per_day, grace_hours, most"),
        ("[late]\nper_day = -0.1", "late.per_day is a number from 0 to 1, not -0.1"),
        ("[extensions]\nada = 3", "extensions is a table"),
    ],
    ids=lambda value: re.sub(r"\W+", "_", value)[:40],
)
def test_what_no_course_can_do_is_refused_with_its_place(text, words):
    with pytest.raises(EditionError, match=words):
        says(text)


def test_without_a_file_labs_are_as_their_sources_say(monkeypatch, tmp_path):
    monkeypatch.setattr(edition, "ROOT", tmp_path)
    monkeypatch.delenv("FMLAB_EDITION")
    assert edition.current() == Edition()
    (tmp_path / "edition.toml").write_text("labs = ['lab1']")
    assert edition.current().chosen == ("lab1",)


def test_a_file_that_is_named_and_missing_or_broken_is_an_error(in_force, monkeypatch):
    with pytest.raises(EditionError, match=r"edition.toml: .*end of document"):
        in_force("labs = [")
    monkeypatch.setenv("FMLAB_EDITION", "/nowhere/edition.toml")
    with pytest.raises(EditionError, match=r"/nowhere/edition.toml cannot be read"):
        edition.current()


# --- a lab ------------------------------------------------------------------------------------------------------------

CHOSEN = """
labs = ["lab1", "lab2"]
[lab1]
leave_out = ["heun_step", "brownian_paths", "euler_maruyama_step"]
further = ["euler_step"]
points = {euler_step = 7.5}
[lab2]
leave_out = ["posterior"]
"""


def test_labs_are_chosen(in_force):
    in_force(CHOSEN)
    assert [path.stem[:4] for path in build.sources()] == ["lab1", "lab2"]
    with pytest.raises(build.BuildError, match="no lab 'lab3'; there are: lab1_simulation, lab2_paths"):
        build.sources(["lab3"])


def test_notebooks_of_other_labs_are_removed_and_nothing_else(in_force, tmp_path, capsys):
    for lab in ("lab1_a", "lab3_c"):
        for name in (f"course/sources/{lab}.py", f"labs/{lab}/{lab}.ipynb", f"labs/{lab}/mine.txt"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("")
    in_force("labs = ['lab1']")
    build.retire(tmp_path)
    assert capsys.readouterr().out == "labs/lab3_c/lab3_c.ipynb: removed, since it is not in this edition\n"
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("labs/*/*")}
    assert left == {"labs/lab1_a/lab1_a.ipynb", "labs/lab1_a/mine.txt", "labs/lab3_c/mine.txt"}


def test_an_exercise_that_is_left_out_is_asked_nowhere_and_the_rest_is_as_it_was(in_force):
    (path,) = build.sources(["lab1"])
    whole = build.read(path)
    in_force(CHOSEN)
    full = build.read(path)
    names = list(notebook.points(full))
    left_out = ("heun_step", "brownian_paths", "euler_maruyama_step")
    assert names == [name for name in notebook.points(whole) if name not in left_out]
    assert notebook.points(full)["euler_step"] == 7.5
    text = "\n".join(cell.source for cell in full.cells)
    assert "Exercise 1 " in text and "(7.5 points, *further*)" in text and "{exercise:" not in text
    numbers = [int(number) for number in re.findall(r"(?m)^### Exercise (\d+)", text)]
    assert numbers == list(range(1, len(numbers) + 1))
    for name in left_out:
        asked = rf"`{name}\(|def {name}\(|lab1\.{name}\({name}\)|hint\(\"{name}\"\)|answer_or\(\"{name}\"\)"
        assert re.findall(asked, text) == []
    grading = [cell.metadata.nbgrader for cell in full.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    total = sum(each.points for each in grading)
    assert f"{total:g} points" in re.sub(r"\s+", " ", text)
    anchors = lambda nb: re.findall(r'<a id="([\w-]+)">', "\n".join(cell.source for cell in nb.cells))  # noqa: E731
    assert anchors(full) == anchors(whole)  # the theory stays, and every link leads somewhere
    assert list(build.missing(full, path.stem)) == []
    nbformat.validate(build.release(full))


def test_a_name_that_the_lab_has_not_is_told(in_force):
    in_force("[lab1]\nleave_out = ['hen_step']")
    with pytest.raises(EditionError, match=r"lab1.leave_out: lab1 has no exercise or question 'hen_step'; it has "):
        build.read(*build.sources(["lab1"]))


def test_mistakes_that_no_card_knows_are_refused(in_force):
    in_force(f"[lab1.partial.{STEP}]\n'h was used where the noise needs sqrt(h)' = 0.5")
    with pytest.raises(EditionError, match=r"its card knows no mistake .* the nearest is 'h was used .* √h'"):
        build.read(*build.sources(["lab1"]))


def test_a_question_has_no_mistakes_that_are_known(in_force):
    in_force("[lab1.partial.ou_parameters]\n'σ was squared' = 0.5")
    with pytest.raises(EditionError, match=r"lab1.partial.ou_parameters: no mistake of it is known"):
        build.read(*build.sources(["lab1"]))


# --- records ----------------------------------------------------------------------------------------------------------

STEP = "euler_maruyama_step"


def with_mistake(student: str, **more):
    """A record in which one exercise shows a mistake that its card names."""
    return record(student, {STEP: made_records.rejected()[STEP][1]}, **more)


def mistake() -> str:
    return made_records.rejected()[STEP][1][1].mistake


def terms(records, text: str):
    return worth.settled(worth.weighed(records, says(text)), says(text))


def test_points_are_those_of_the_edition_and_what_is_left_out_does_not_count():
    (ada,) = terms([record("ada")], f"[lab1]\npoints = {{{STEP} = 10}}\nleave_out = ['euler_step']")
    assert ada["exercises"][STEP]["score"] == ada["exercises"][STEP]["points"] == 10
    before = out_of(record("ada"))
    assert (
        out_of(ada) == total(ada) + (before - total(record("ada"))) == before + 10 - POINTS[STEP] - POINTS["euler_step"]
    )


def test_a_mistake_that_the_card_names_may_be_worth_a_share():
    text = f"[lab1.partial.{STEP}]\n{mistake()!r} = 0.5"
    ada, bo = terms([with_mistake("ada"), record("bo", {STEP: made_records.saying(STEP, "visible", "else")})], text)
    assert ada["exercises"][STEP]["score"] == POINTS[STEP] / 2
    assert ada["exercises"][STEP]["terms"] == "50% of the points for this mistake"
    assert bo["exercises"][STEP]["score"] == 0 and "terms" not in bo["exercises"][STEP]
    assert terms([with_mistake("ada")], "")[0]["exercises"][STEP]["score"] == 0  # off, unless the edition says so


@pytest.mark.parametrize(("how", "score"), [("full", POINTS[STEP]), ("out", 0)])
def test_an_exercise_may_be_annulled_and_everybody_is_told(how, score):
    (ada,) = terms([with_mistake("ada")], f"[lab1.annul]\n{STEP} = '{how}'")
    assert ada["exercises"][STEP]["score"] == score
    assert out_of(ada) == out_of(record("ada")) - (POINTS[STEP] if how == "out" else 0)
    assert "annulled" in feedback.feedback(ada) and "annulled" in exports.to_moodle([ada])


def test_what_a_person_gave_stays(tmp_path):
    """Points change after a person has marked: what was given is given."""
    url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    made, release = [with_mistake("ada")], {LAB: submissions.blank(LAB)}
    gradebook.enter(made, release, url)
    with gradebook.opened(url) as book:
        grade = book.find_grade(STEP, LAB, LAB, "ada")
        grade.manual_score, grade.needs_manual_grade = 1.5, False
        book.db.commit()
    text = f"[lab1]\npoints = {{{STEP} = 10}}\n[lab1.partial.{STEP}]\n{mistake()!r} = 0.5"
    (ada,) = worth.settled(gradebook.marked(worth.weighed(made, says(text)), url), says(text))
    assert ada["exercises"][STEP]["score"] == 1.5 and ada["exercises"][STEP]["points"] == 10
    annulled = f"{text}\n[lab1.annul]\n{STEP} = 'full'"
    (ada,) = worth.settled(gradebook.marked(worth.weighed(made, says(annulled)), url), says(annulled))
    assert ada["exercises"][STEP]["score"] == 10


def at(day: int, hour: int) -> float:
    return datetime(2027, 3, day, hour, tzinfo=timezone.utc).timestamp()


LATE = f"[lab1]\ndue = {DUE}\n[late]\nper_day = 0.1\ngrace_hours = 2\nmost = 0.25\n"


@pytest.mark.parametrize(
    ("when", "days", "share", "words"),
    [
        (at(1, 22), None, 0, ""),  # due at 22:59 Universal Time
        (at(1, 24 - 1) + 1800, 0, 0, "late but within grace"),
        (at(2, 3), 1, 0.1, "1 day late: 10% of the points"),
        (at(3, 3), 2, 0.2, "2 days late: 20% of the points"),
        (at(9, 3), 8, 0.25, "8 days late: 25% of the points"),
    ],
)
def test_lateness_is_told_and_costs_what_the_edition_says(when, days, share, words):
    (ada,) = terms([record("ada", when=when)], LATE)
    assert ada.get("late", {}).get("days") == days
    assert total(ada) == pytest.approx(total(record("ada")) * (1 - share))
    row = exports.to_csv([ada]).splitlines()[1].split(",")
    assert words in row and words in feedback.feedback(ada)
    assert words in report.class_report([ada], LAB)


def test_a_student_may_have_another_time():
    more = f"{LATE}[extensions.ada]\nlab1 = 2027-03-08T23:59:00+01:00\n"
    ada, bo = terms([record("ada", when=at(5, 3)), record("bo", when=at(5, 3))], more)
    assert "late" not in ada and bo["late"]["days"] == 4


def test_what_canvas_calls_late_is_told_and_costs_nothing_by_itself():
    (ada,) = terms([record("ada") | {"file": "inbox/ekada_LATE_7002_502_lab1.ipynb"}], "")
    (bo,) = terms([record("bo") | {"file": "inbox/ekbo_7003_503_lab1_LATE_.ipynb"}], "")
    assert "late, says Canvas" in exports.to_csv([ada]) and "late" not in exports.to_csv([bo]).splitlines()[1]
    assert total(ada) == total(record("ada"))
