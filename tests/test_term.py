"""A term: a class of sixty, from the hand-in to what goes back, in a real gradebook; all numbers follow from a script.

0–24 solved it, 25–34 made a mistake that the card names, 35–39 handed in what they received, all through Moodle; 40–45
came two days late, 46–49 in time, 50 and 51 copied two functions, all through Canvas, which calls them otherwise; 52–55
handed in as two groups through Gradescope; 56–59 did not hand in.
"""

import csv
import io
import json
import zipfile
from datetime import datetime, timezone

import pytest
import yaml

from course import edition, exports, gradebook, jobs, reading, records, report, returns, worth
from course.grade import grade
from course.inbox import roster, table
from course.marks import scores
from tests import submissions
from tests.classroom import sqlite
from tests.html_page import Page, harmless
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls]

LAB = "lab1_simulation"
STEP = "euler_maruyama_step"
EDITION = """
labs = ["lab1"]
[lab1]
leave_out = ["simulate", "convergence_order", "brownian_paths", "ou_moments", "strong_and_weak_error"]
points = {euler_step = 6}
due = 2027-03-01T12:00:00+00:00
[lab1.partial.euler_maruyama_step]
MISTAKE = 0.5
[late]
per_day = 0.1
"""
IN_TIME, LATE = datetime(2027, 3, 1, 9, tzinfo=timezone.utc), datetime(2027, 3, 3, 9, tzinfo=timezone.utc)
SOLVED, MISTAKEN, BLANK = range(25), range(25, 35), range(35, 40)
TWO_DAYS_LATE, COPIED, GROUPS, MISSING = range(40, 46), (50, 51), range(52, 56), range(56, 60)
MOODLE, CANVAS = range(40), range(40, 52)
GIVEN = 2.0  # points for each written answer


def name(k: int) -> str:
    return f"Ada{k:02} Ek{k:02}"


def email(k: int) -> str:
    return f"ada{k:02}@x.org"


@pytest.fixture(scope="module")
def force(tmp_path_factory):
    """Puts an edition in force for this module."""
    path, patch = tmp_path_factory.mktemp("edition") / "edition.toml", pytest.MonkeyPatch()
    patch.setenv("FMLAB_EDITION", str(path))

    def write(text: str) -> edition.Edition:
        from fmlab.checks import lab1

        words = next(words for words in lab1.exercises[STEP].mistakes if "√h" in words)
        path.write_text(text.replace("MISTAKE", json.dumps(words, ensure_ascii=False)), encoding="utf-8")
        edition._read.cache_clear()
        for cached in (jobs.full, jobs.release, submissions._full):
            cached.cache_clear()
        return edition.current()

    yield write
    patch.undo()
    for cached in (jobs.full, jobs.release, submissions._full):
        cached.cache_clear()


def notebook(k: int) -> bytes:
    if k in BLANK:
        nb = submissions.blank(LAB)
    else:
        essay = {q: f"In answer {k}, number {k * 7} of mine: word{k} and thought{k}." for q in submissions.written(LAB)}
        nb = submissions.with_answers(LAB, essay)
    if k in MISTAKEN:
        wrong = f"def {STEP}(drift, sigma, x, t, h, noise):\n    return x + h * drift(x, t) + h * sigma(x, t) * noise"
        nb = submissions.with_answers(LAB, {STEP: wrong}, start=nb)
    if k in COPIED:
        other = {
            "euler_step": "def euler_step(u, x, t, h):\n    way = [h, u(x, t)]\n    return sum([x, way[0] * way[1]])",
            "heun_step": "def heun_step(u, x, t, h):\n    both = [u(x, t)]\n    both += [u(x + both[0] * h, t + h)]\n"
            "    return x + h * sum(both) / len(both)",
        }
        nb = submissions.with_answers(LAB, other, start=nb)
    return json.dumps(nb).encode()


def zipped(files: dict[str, tuple[bytes, datetime]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for path, (data, when) in files.items():
            opened.writestr(zipfile.ZipInfo(path, when.timetuple()[:6]), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def term(force, tmp_path_factory):
    """The folder with all that the class's hand-ins came to."""
    force(EDITION)
    root = tmp_path_factory.mktemp("term")
    inbox, grading = root / "inbox", root / "grading"
    inbox.mkdir()
    files = {f"{name(k)}_{7000 + k}_assignsubmission_file_/lab1.ipynb": (notebook(k), IN_TIME) for k in MOODLE}
    (inbox / "moodle.zip").write_bytes(zipped(files))
    when = {k: LATE if k in TWO_DAYS_LATE else IN_TIME for k in CANVAS}
    files = {f"ek{k}ada{k}_{1000 + k}_{5000 + k}_lab1.ipynb": (notebook(k), when[k]) for k in CANVAS}
    (inbox / "canvas.zip").write_bytes(zipped(files))
    groups = [GROUPS[:2], GROUPS[2:]]
    metadata = {
        f"submission_{n}": {":submitters": [{":name": name(k), ":email": email(k)} for k in group]}
        for n, group in enumerate(groups)
    }
    files = {f"export/submission_{n}/lab1.ipynb": (notebook(group[0]), IN_TIME) for n, group in enumerate(groups)}
    files["export/submission_metadata.yml"] = (yaml.safe_dump(metadata).encode(), IN_TIME)
    (inbox / "gradescope.zip").write_bytes(zipped(files))
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lab 1 (9)"]]
    rows += [[f"Ek{k:02}, Ada{k:02}", 1000 + k, "", email(k), f"T{k % 3}", ""] for k in range(60)]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    (root / "canvas.csv").write_text(text.getvalue())
    grading.mkdir()
    roster.remember(root / "canvas.csv", grading)
    return root, grade(sorted(inbox.glob("*.zip")), grading, sqlite(grading), workers=2)


def told(grading) -> list:
    """The records as reports have them."""
    now = edition.current()
    return worth.settled(gradebook.marked(worth.weighed(records.read(grading), now), sqlite(grading)), now)


def who(grading) -> dict[int, dict]:
    """The records by number of the student."""
    register = roster.Register(roster.remembered(grading), records.read(grading))
    return {int(register.person(record["student"]).name[-2:]): record for record in told(grading)}


@pytest.fixture(scope="module")
def marked(term):
    """Every written answer that is not blank gets the same points."""
    root, _ = term
    url, grading = sqlite(root / "grading"), root / "grading"
    asked = reading.questions(told(grading), "salt")
    assert [len(question.answers) for question in asked.values()] == [51] * len(submissions.written(LAB))
    for (lab, question), found in asked.items():
        for answer in found.answers:
            gradebook.give(url, lab, answer.student, question, GIVEN, "A comment." if answer.key < "4" else "")
    return grading


def expected(k: int) -> float:
    code, texts = submissions.points(LAB), len(submissions.written(LAB))
    if k in BLANK:
        return 0.0
    mark = sum(code.values()) + GIVEN * texts - (code[STEP] / 2 if k in MISTAKEN else 0)
    return mark * (0.8 if k in TWO_DAYS_LATE else 1)


def test_everybody_is_one_person_and_all_numbers_follow(marked):
    found = who(marked)
    assert sorted(found) == list(range(56))
    out_of = sum(submissions.points(LAB).values()) + sum(submissions.written(LAB).values())
    register = roster.Register(roster.remembered(marked), found.values())
    rows = list(csv.DictReader(io.StringIO(exports.to_csv(found.values(), register))))
    assert len(rows) == 60
    by_name = {row["name"]: row for row in rows}
    for k in range(60):
        row = next(row for shown, row in by_name.items() if shown.endswith(f"{k:02}") or f"Ek{k:02}" in shown)
        if k in MISSING:
            assert row["status"] == exports.MISSING and row["total"] == ""
            continue
        assert float(row["total"]) == pytest.approx(expected(k)), k
        assert float(row["out of"]) == out_of and row["euler_step"] == ("0" if k in BLANK else "6")
        assert row["late"] == ("2 days late: 20% of the points" if k in TWO_DAYS_LATE else "")
        assert row["handed in"] == ("2027-03-03 09:00 UTC" if k in TWO_DAYS_LATE else "2027-03-01 09:00 UTC")


def test_the_pages_say_the_same(marked):
    found = told(marked)
    reports = report.write_all(found, marked, marked)
    assert [path.name for path in reports] == [f"{LAB}.html"]
    page = harmless(reports[0].read_text())
    totals = page.column("students", "all")
    for k, record in who(marked).items():
        assert float(totals[record["student"]]) == pytest.approx(expected(k), abs=1e-3)
    assert "Did not hand in: 4." in page.text
    assert {row[0] for row in page.tables["missing"][1:]} and len(page.tables["missing"]) == 1 + len(MISSING)
    assert page.text.count("h was used where the noise needs √h") >= 1
    alike = f"{who(marked)[50]['student']} and {who(marked)[51]['student']}"
    assert alike in " ".join(page.text.split())
    pages = {path.stem for path in (marked / "students").glob("*.html")}
    assert pages == {record["student"] for record in found}
    one = Page((marked / "students" / f"{who(marked)[30]['student']}.html").read_text())
    assert "50% of the points for this mistake" in one.text


def test_feedback_and_marks_go_back_to_three_systems(marked, tmp_path):
    found, rows = told(marked), table.read(marked)
    for system, students in (("moodle", MOODLE), ("canvas", CANVAS)):
        (path,), missing = returns.write(found, rows, system, tmp_path, marked)
        with zipfile.ZipFile(path) as opened:
            names = opened.namelist()
        assert len(names) == len(students) and len(missing[LAB]) == 56 - len(students)
    with zipfile.ZipFile(tmp_path / f"{LAB}.feedback.moodle.zip") as opened:
        assert f"{name(3)}_7003_assignsubmission_file_/{LAB}.html" in opened.namelist()
    (canvas,) = exports.write(found, "canvas", tmp_path, marked / "roster.csv")
    marks = {row["ID"]: row for row in csv.DictReader(io.StringIO(canvas.read_text()))}
    column = next(name for name in marks["1000"] if "Lab 1" in name)
    for k in range(56):
        assert float(marks[str(1000 + k)][column]) == pytest.approx(expected(k), abs=1e-6)
    for path in exports.write(found, "gradescope", tmp_path):
        k = next(k for k, record in who(marked).items() if record["student"] == path.parent.name)
        assert json.loads(path.read_text())["score"] == pytest.approx(expected(k))


def test_nbgrader_has_it_all(marked):
    found = told(marked)
    gradebook.enter_dates(found, {LAB: edition.current().of("lab1").due}, sqlite(marked))
    with gradebook.opened(sqlite(marked), writing=False) as book:
        for k, record in who(marked).items():
            submission = book.find_submission(LAB, record["student"])
            assert submission.score - submission.late_submission_penalty == pytest.approx(expected(k))
            assert submission.total_seconds_late == (45 * 3600 if k in TWO_DAYS_LATE else 0)
    assert len(list((marked / "submitted").glob(f"*/{LAB}/{LAB}.ipynb"))) == 56


def test_a_change_of_the_edition_grades_again_only_what_it_asks_for(marked, term, force):
    root, _ = term
    places = sorted((root / "inbox").glob("*.zip"))
    before = {path: path.read_bytes() for path in marked.glob("records/*/*.json")}

    def again(text: str, **options) -> int:
        force(text)
        grade(places, marked, sqlite(marked), workers=2, **options)
        return sum(path.read_bytes() != data for path, data in before.items())

    assert again(EDITION.replace("euler_step = 6", "euler_step = 12")) == 0
    assert again(EDITION.replace("[lab1.partial", "annul = {heun_step = 'full'}\n[lab1.partial")) == 0
    worth_of = submissions.points(LAB)["heun_step"]
    assert {record["exercises"]["heun_step"]["score"] for record in told(marked)} == {worth_of}
    with pytest.raises(edition.EditionError, match="simulate is new, but lab1_simulation was handed in without it"):
        again(EDITION.replace('"simulate", ', ""))
    with pytest.raises(edition.EditionError, match=r"ou_drift is left out, .* with it: annul it instead"):
        again(EDITION.replace('"simulate", ', '"simulate", "ou_drift", '))
    assert again(EDITION) == 0
    marks = {record["student"]: scores(record) for record in told(marked)}
    assert again(EDITION, question="ou_drift") <= 56
    assert {record["student"]: scores(record) for record in told(marked)} == marks
