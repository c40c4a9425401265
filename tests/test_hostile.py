"""Honest and hostile students are graded in one batch: each gets the marks deserved, and nobody anything else."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from course import build, feedback, records, report
from course.grade import grade
from course.guard import share, tree
from course.jobs import Patience
from course.outer_walls import Limits
from tests import escapes, hostile, submissions
from tests.classroom import sqlite, write
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls]

PATIENCE = Patience(cell=12, check=20, notebook=300)
SORTS = (build.ROOT / "course" / "templates" / "sort.js").read_text()
MEMORY = 2 * (Limits().memory + 2**31)  # bytes: of each worker a submission, the grader, and what was imported
GUARDED = ("course", "fmlab", "labs", "solutions")


CASES = hostile.everyone()
HOSTILE = [student for student in CASES if student.startswith("hostile")]


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """What the records of the class say, the files of the machine before it was graded, and where everything is."""
    place = tmp_path_factory.mktemp("class")
    hostile.hand_in(place)
    before = fingerprints(place)
    places, url = [place / "inbox", place / "class.zip"], f"sqlite:///{place}/gradebook.db"
    with peak_of_memory() as peak:
        found = grade(places, place / "results", url, workers=2, patience=PATIENCE)
    assert peak[0] < MEMORY
    return {record["student"]: record for record in found}, before, place


@contextlib.contextmanager
def peak_of_memory() -> Iterator[list[int]]:
    """The most bytes that all processes that this one started have had together, in a list; it is printed, too."""
    peak, over = [0], threading.Event()

    def look():
        while not over.wait(0.5):
            peak[0] = max(peak[0], sum(map(share, tree(os.getpid())[1:])))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield peak
    finally:
        over.set()
        watch.join()
        print(f"\nAt the peak the graders, the sandboxes and all in them took {peak[0] / 2**30:.2f} GiB.")


def fingerprints(place: Path) -> dict[str, str]:
    """Of the files that nobody may change."""
    files = [
        path for folder in GUARDED for path in (build.ROOT / folder).rglob("*") if path.suffix in (".py", ".ipynb")
    ]
    files += [path for path in (place / "inbox").rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The records of attempts and of those who look for what is left of them, with their folders. Two graders share
    them and grade at the same time, each by one worker, in order: a witness after the attempt, and beside others."""
    places = [tmp_path_factory.mktemp("pairs") for _ in range(2)]
    for number, (student, case) in enumerate(hostile.PAIRS.items()):
        write(places[number // 2 % 2] / "inbox" / student / "lab1.ipynb", case.notebook())
    with peak_of_memory() as peak:
        graders = [grader(place) for place in places]
        for each in graders:
            each.join()
    assert [each.exitcode for each in graders] == [0, 0]
    assert peak[0] < MEMORY
    return {record["student"]: (record, place) for place in places for record in records.read(place)}


def grader(place: Path) -> multiprocessing.Process:
    """Grades what is handed in at a place, by one worker."""
    options = {"workers": 1, "patience": PATIENCE}
    process = multiprocessing.get_context("fork").Process(
        target=grade, args=([place / "inbox"], place, sqlite(place)), kwargs=options
    )
    process.start()
    return process


@pytest.mark.parametrize("student", hostile.PAIRS)
def test_nobody_finds_a_word_of_another_and_all_get_what_they_deserve(pairs, student):
    case, (record, place) = hostile.PAIRS[student], pairs[student]
    assert record["status"] == "graded", record["reason"]
    assert {name: item["score"] for name, item in record["exercises"].items()} == hostile.deserved(case)
    shown = [cell.get("outputs", []) for cell in records.read_notebook(record, place).cells]
    if case.notebook is hostile.witness:
        assert escapes.FOUND_NOTHING in [output.get("text") for outputs in shown for output in outputs]
    assert escapes.WORD not in json.dumps(shown)


@pytest.mark.parametrize("student", CASES)
def test_everyone_gets_the_marks_they_deserve(batch, student):
    found, _, place = batch
    case, record = CASES[student], found[student]
    if case.lost is None:
        assert record["status"] == "ungraded" and not record["exercises"]
        return
    assert record["status"] == "graded", record["reason"]
    marks = {name: item["score"] for name, item in record["exercises"].items()}
    verdicts = {name: str(records.verdict(item)) for name, item in record["exercises"].items() if item["by"]}
    assert marks == hostile.deserved(case), verdicts
    assert {name: item["points"] for name, item in record["exercises"].items()} == submissions.points(hostile.LAB)
    with Gradebook(f"sqlite:///{place}/gradebook.db") as gradebook:
        grades = gradebook.find_submission_notebook(hostile.LAB, hostile.LAB, student).grades
        assert {grade.name: grade.auto_score for grade in grades if grade.name in marks} == marks


def test_nobody_is_forgotten_and_nobody_added(batch):
    found, _, place = batch
    assert set(found) == {path.name for path in (place / "results" / "records").iterdir()} == set(CASES)


@pytest.mark.parametrize("student", HOSTILE)
def test_what_was_lost_has_a_reason(batch, student):
    case, record = CASES[student], batch[0][student]
    verdicts = [str(records.verdict(record["exercises"][name])) for name in case.lost or ()]
    assert case.words in "\n".join([record["reason"], *record["notes"], *verdicts])
    if case.lost is None:
        assert record["reason"]


def test_nothing_on_the_machine_has_changed_and_nothing_runs_on(batch):
    *_, before, place = batch
    assert fingerprints(place) == before
    assert {path.name for path in place.iterdir()} == {"inbox", "class.zip", "results", "gradebook.db"}
    running = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout
    assert hostile.MARK not in running.splitlines()
    assert not Path("/tmp/boom").exists()


def pages(batch) -> dict[str, str]:
    """All that students are shown, by student, and what the instructor is."""
    found, _, place = batch
    shown = {
        name: feedback.feedback(record, records.read_notebook(record, place / "results"))
        for name, record in found.items()
    }
    return shown | {"": report.class_report(list(found.values()), hostile.LAB)}


def test_nobody_is_told_a_hidden_test_and_pages_are_small_and_do_nothing(batch):
    place = batch[2]
    for student, page in pages(batch).items():
        page = page if student else page.replace(f"<script>{SORTS}</script>", "")  # the report's own
        assert "<script" not in page.lower() and "javascript:" not in page.lower(), student
        assert len(page) < 60e6, student
        if student:
            assert hostile.HIDDEN_SHAPE not in page and "course.hidden" not in page, student
            assert hostile.SECRET not in page and "HIDDEN TESTS" not in page, student
    for path in (place / "results").rglob("*.ipynb"):
        if path.relative_to(place / "results").parts[0] == "source":  # the instructor's, as a build writes it
            continue
        told = path.read_text()
        assert hostile.HIDDEN_SHAPE not in told and "HIDDEN TESTS" not in told, path
        assert hostile.SECRET not in told, path
    told = (
        place
        / "results"
        / "autograded"
        / "hostile-it-tells-what-it-was-called-with"
        / hostile.LAB
        / f"{hostile.LAB}.ipynb"
    ).read_text()
    assert hostile.SHOWN_SHAPE in told  # the visible check's, which they know
