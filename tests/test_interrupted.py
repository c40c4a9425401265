"""However often and wherever a batch is interrupted, the run that ends it gives what an undisturbed one does."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from sqlalchemy import Engine, event

from course import batch, gradebook, jobs, records, report
from course.grade import grade
from tests import submissions
from tests.classroom import entered, sqlite, write, written
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls]

LAB = "lab0_welcome"
CLASS = [f"student{k}" for k in range(10)]
EXERCISE = next(iter(submissions.points(LAB)))


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory):
    """What all handed in first, which is right, and then, which is wrong."""
    places = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("later")
    wrong = submissions.with_answers(LAB, {EXERCISE: "raise NotImplementedError"})
    for when, (place, nb) in enumerate(zip(places, (submissions.solved(LAB), wrong)), start=1):
        for student in CLASS:
            write(place / f"{student}.ipynb", nb)
            os.utime(place / f"{student}.ipynb", (86400 * when, 86400 * when))
    return places


@pytest.fixture(scope="module")
def marked(handed_in, tmp_path_factory):
    """A grading folder, once a person gave everybody a mark."""
    folder = tmp_path_factory.mktemp("marked")
    grade(handed_in[:1], folder, sqlite(folder), workers=2)
    with Gradebook(sqlite(folder)) as book:
        for student in CLASS:
            given = book.find_grade(EXERCISE, LAB, LAB, student)
            given.manual_score, given.needs_manual_grade = given.max_score, False
        book.db.commit()
    return folder


class Recorded:
    """Grades as workers did once, so that one run takes no time."""

    def __init__(self, folder: Path):
        self.folder = folder

    def grade(self, jobs, labs):
        found = {record["student"]: record for record in records.read(self.folder)}
        for job in jobs:
            record = found[job.submission.student]
            assert record["sha256"] == job.submission.digest
            yield record, records.read_notebook(record, self.folder)


@pytest.fixture(scope="module")
def undisturbed(handed_in, marked, tmp_path_factory):
    folder = Path(shutil.copytree(marked, tmp_path_factory.mktemp("undisturbed") / "grading"))
    grade(handed_in[1:], folder, sqlite(folder), workers=2)
    return folder


@contextlib.contextmanager
def interrupted(number: int):
    """Nothing is written from the so-manieth write on. Yields a list with an entry for each write before that."""
    done = []
    replace, unlink = os.replace, Path.unlink

    def count(*_):
        if len(done) == number:
            raise KeyboardInterrupt
        done.append(1)

    def counted(function):
        return lambda *args, **options: (count(), function(*args, **options))[1]

    os.replace, Path.unlink = counted(replace), counted(unlink)
    event.listen(Engine, "commit", count)
    try:
        yield done
    finally:
        os.replace, Path.unlink = replace, unlink
        event.remove(Engine, "commit", count)


def files(folder: Path) -> dict[str, bytes]:
    """All that lies there but the database, the records, which say how long it took, and what says of another time."""
    left_out = {".db", ".json"}
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in left_out]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def all_of(folder: Path) -> tuple:
    """Gradebook, flags, records and files, and the report that is made of them."""
    found = gradebook.marked(records.read(folder), sqlite(folder))
    report.write_all(found, folder, folder)
    return entered(sqlite(folder)), [record["flags"] for record in found], written(folder), files(folder)


def test_all_whom_a_person_marked_before_are_flagged(undisturbed):
    """What the other tests compare with."""
    _, flags, found, _ = all_of(undisturbed)
    assert [len(each) for each in flags] == len(CLASS) * [1]
    assert all(record["exercises"][EXERCISE]["score"] == 0 for record in found)


def test_interrupted_before_any_write_a_batch_goes_on_to_the_same_end(handed_in, marked, undisturbed, tmp_path):
    whole, writes = all_of(undisturbed), 0
    for number in range(1000):
        folder = Path(shutil.copytree(marked, tmp_path / str(number)))
        run = batch.run, Recorded(undisturbed), handed_in[1:], folder, sqlite(folder)
        try:
            with interrupted(number):
                run[0](*run[1:])
        except KeyboardInterrupt:
            writes += 1
        else:
            break
        again = batch.run(*run[1:])
        assert [record["student"] for record in again] == CLASS
        assert all_of(folder) == whole, number
        shutil.rmtree(folder)
    assert writes > 3 * len(CLASS)  # each has a notebook, a record, and a transaction


def test_interrupted_again_and_again_it_ends_as_well(handed_in, marked, undisturbed, tmp_path):
    """Each time after a few writes more than it takes to begin."""
    folder = Path(shutil.copytree(marked, tmp_path / "grading"))
    for _ in range(100):
        with contextlib.suppress(KeyboardInterrupt), interrupted(8):
            batch.run(Recorded(undisturbed), handed_in[1:], folder, sqlite(folder))
            break
    assert all_of(folder) == all_of(undisturbed)


def test_a_report_between_does_not_hide_that_a_mark_is_for_an_earlier_answer(handed_in, marked, undisturbed, tmp_path):
    """Where the grader stopped before it entered anything."""
    folder = Path(shutil.copytree(marked, tmp_path / "grading"))
    with pytest.raises(KeyboardInterrupt), interrupted(2 + 2 * len(CLASS)):
        batch.run(Recorded(undisturbed), handed_in[1:], folder, sqlite(folder))
    found = gradebook.marked(records.read(folder), sqlite(folder))
    assert any(record["sha256"] == after["sha256"] for record, after in zip(found, written(undisturbed)))
    for record, after in zip(found, written(undisturbed)):
        assert bool(record["flags"]) == (record["sha256"] == after["sha256"])


class Failing:
    """Fails over everybody."""

    def grade(self, jobs_, labs):
        return ((jobs.ungraded(job, "The grader itself failed, and will try again."), None) for job in jobs_)


def test_a_failure_of_the_grader_replaces_no_grade(handed_in, marked, tmp_path):
    folder = Path(shutil.copytree(marked, tmp_path / "grading"))
    before = written(folder), files(folder), entered(sqlite(folder))
    found = batch.run(Failing(), handed_in[1:], folder, sqlite(folder))
    assert all(records.unfinished(record) and record["status"] == "graded" for record in found)
    assert [record | {"open": ""} for record in written(folder)] == [record | {"open": ""} for record in before[0]]
    assert {name: data for name, data in files(folder).items() if name in before[1] and name != "inbox.csv"} == {
        name: data for name, data in before[1].items() if name != "inbox.csv"
    }
    assert entered(sqlite(folder)) == before[2]
    flags = [record["flags"] for record in gradebook.marked(records.read(folder), sqlite(folder))]
    assert all("is not graded yet, and earlier marks stand" in flag for (flag,) in flags)
