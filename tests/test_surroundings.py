"""Whatever is wrong with the machine when a batch begins, within it, or at its end: a sentence says so, nobody gets a
mark that is not theirs, and the same command goes on."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from course import records
from course.failures import Unfinished
from course.grade import grade
from course.gradebook import prepare
from tests import submissions
from tests.classroom import copy_checkout, entered, environment, nbgrader, write, written
from tests.postgresql import needs_postgresql, server, start, stop
from tests.walls import namespaces, needs_root, needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls]

LAB = "lab0_welcome"
CLASS = ["anna", "bo", "cy"]


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A checkout in which a class was graded, anna's record is where an earlier version kept it, and bo's is newer."""
    root = copy_checkout(tmp_path_factory.mktemp("office"), "nbgrader_config.py", "pyproject.toml", "course", "fmlab")
    for student in CLASS:
        write(root / "inbox" / f"{student}.ipynb", submissions.solved(LAB))
    done = course(root, "grade", "inbox")
    assert done.returncode == 0, done.stdout
    return root


@pytest.fixture
def again(office, tmp_path):
    """A copy of it, in which cy has handed in something else."""
    root = Path(shutil.copytree(office, tmp_path / "office"))
    write(root / "inbox" / "cy.ipynb", submissions.blank(LAB))
    return root


def course(root: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """A command, and all that it says. before: what it is started by."""
    command = [*before, sys.executable, "-m", "course", *arguments]
    done = subprocess.run(
        command, cwd=root, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done


def last(done: subprocess.CompletedProcess) -> str:
    return done.stdout.splitlines()[-1]


def gradebook(root: Path) -> Path:
    return root / "grading" / "gradebook.db"


@contextlib.contextmanager
def locked(root):
    with contextlib.closing(sqlite3.connect(gradebook(root))) as other:
        other.execute("BEGIN IMMEDIATE")
        yield ()


@contextlib.contextmanager
def damaged(root):
    whole = gradebook(root).read_bytes()
    gradebook(root).write_bytes(whole[:9000])
    yield ()
    gradebook(root).write_bytes(whole)


@contextlib.contextmanager
def read_only(root):
    yield "bwrap", "--dev-bind", "/", "/", "--ro-bind", f"{root}/grading", f"{root}/grading"


@contextlib.contextmanager
def full(root):
    """The folder on a disk of its own, on which there is no more room."""
    folder = root / "grading"
    kept = shutil.copytree(folder, root / "kept")
    fill = f'cp -a {kept}/. {folder}/; cat /dev/zero > {folder}/rest; exec "$@"'
    yield "bwrap", "--dev-bind", "/", "/", "--size", str(2**23), "--tmpfs", str(folder), "sh", "-c", fill, "sh"


@contextlib.contextmanager
def without_namespaces(root):
    yield namespaces(0)


def programs(root: Path, **scripts: str) -> tuple[str, ...]:
    """Before a command, what lets it find no program that makes walls but these."""
    folder = root / "programs"
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return "env", f"PATH={folder}:{Path(sys.executable).parent}"


@contextlib.contextmanager
def without_right(root):
    yield programs(root, bwrap="echo 'bwrap: No permissions to create new namespace' >&2; exit 1")


@contextlib.contextmanager
def without_engine(root):
    yield programs(root, docker="echo 'Cannot connect to the Docker daemon' >&2; exit 1")


TROUBLES = [
    (without_right, "bwrap is installed but does not work here (bwrap: No permissions"),
    (without_engine, "docker is installed but does not work here (Cannot connect"),
    pytest.param(without_namespaces, "user.max_user_namespaces", marks=needs_root),
    (locked, "locked by another program"),
    (damaged, "is damaged"),
    (read_only, "can be written to"),
    (full, "Make room"),
]


@pytest.mark.parametrize(("trouble", "words"), TROUBLES, ids=lambda value: getattr(value, "__name__", ""))
def test_nothing_changes_while_it_lasts_and_then_the_same_command_goes_on(again, trouble, words):
    before = written(again / "grading")
    with trouble(again) as begin:
        done = course(again, "grade", "inbox", before=begin)
        assert done.returncode == 1 and words in last(done), done.stdout
        assert written(again / "grading") == before
        if trouble == damaged:
            done = course(again, "export", before=begin)
            assert done.returncode == 1 and words in last(done), done.stdout
    done = course(again, "grade", "inbox")
    assert done.returncode == 0, done.stdout
    assert entered(f"sqlite:///{gradebook(again)}")["cy", LAB, next(iter(submissions.points(LAB)))][0] == 0


@needs_root
@pytest.mark.parametrize("number", [1, 2])
def test_few_namespaces_are_enough_for_as_many_workers(again, number):
    write(again / "inbox" / "anna.ipynb", submissions.blank(LAB))
    done = course(again, "grade", "inbox", "--workers", "3", before=namespaces(number))
    assert done.returncode == 0 and "3 of 3 submissions graded" in done.stdout, done.stdout
    marks = entered(f"sqlite:///{gradebook(again)}")
    first, worth = next(iter(submissions.points(LAB).items()))
    assert [marks[student, LAB, first][0] for student in CLASS] == [0, worth, 0]


@pytest.mark.parametrize("memory", [3 * 2**28, 2**31])
def test_little_memory_costs_nobody_a_mark(again, memory):
    """Address space, of which PyTorch alone takes more than a gigabyte."""
    before = {record["student"]: record["exercises"] for record in records.read(again / "grading")}
    done = course(again, "grade", "inbox", before=("prlimit", f"--as={memory}"))
    after = {record["student"]: record["exercises"] for record in records.read(again / "grading")}
    assert done.returncode in (0, 1, 2) and len(last(done)) > 20, done.stdout
    if done.returncode:
        assert after == before, done.stdout
    assert course(again, "grade", "inbox").returncode == 0


def test_nothing_that_students_get_tells_of_hidden_tests(office):
    """Also after nbgrader's own commands, and where an earlier version left records."""
    folder = office / "grading"
    record = folder / "records" / "anna" / f"{LAB}.json"
    (folder / "autograded" / "anna" / LAB / "record.json").write_bytes(record.read_bytes())
    assert course(office, "grade", "inbox").returncode == 0
    nbgrader(office, "generate_feedback", LAB)
    given = [path for part in ("autograded", "feedback") for path in (folder / part).rglob("*") if path.is_file()]
    assert {path.suffix for path in given} == {".ipynb", ".html"} and len(given) >= 2 * len(CLASS)
    for path in given:
        told = path.read_text()
        assert "course.hidden" not in told and "HIDDEN TESTS" not in told and '"verdict"' not in told, path


# --- a grader that fails ----------------------------------------------------------------------------------------------


def test_what_is_open_shows_in_the_exit_code_and_in_the_last_line(again):
    """A worker is killed each time it grades cy."""
    with (again / "course" / "marking.py").open("a") as file:
        file.write(
            "\n\n_grade_one = grade_one\n\n\ndef grade_one(job, settings):\n    import os\n\n"
            "    return os.kill(os.getpid(), 9) if job.submission.student == 'cy' else _grade_one(job, settings)\n"
        )
    before = records.read(again / "grading")
    done = course(again, "grade", "inbox")
    assert done.returncode == 2 and "Still open" in last(done) and "cy" in last(done), done.stdout
    cy = records.read(again / "grading")[2]
    assert cy["exercises"] == before[2]["exercises"] and "cy.ipynb is not graded yet" in cy["open"]
    assert "cy.ipynb is not graded yet" in (again / "grading" / f"{LAB}.html").read_text()


# --- a database that ends ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inbox(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inbox")
    for student in CLASS:
        write(folder / f"{student}.ipynb", submissions.solved(LAB))
    return folder


@needs_postgresql
@pytest.mark.parametrize("when", ["at the start", "within", "while it is entered"])
def test_a_database_that_goes_down_loses_nothing(inbox, tmp_path, monkeypatch, when):
    with tempfile.TemporaryDirectory() as place, server(Path(place)) as url:
        prepare({}, url)
        if when == "at the start":
            stop(Path(place))
        else:
            name = "write" if when == "within" else "ordered"
            usual = getattr(records, name)
            down = []
            monkeypatch.setattr(records, name, lambda *args: (down or down.append(stop(Path(place))), usual(*args))[1])
        with pytest.raises(RuntimeError, match="does not answer") as failure:
            grade([inbox], tmp_path, url, workers=1)
        monkeypatch.undo()
        assert isinstance(failure.value, Unfinished) == (when != "at the start")
        assert len(written(tmp_path)) == (0 if when == "at the start" else len(CLASS))
        start(Path(place))
        grade([inbox], tmp_path, url, workers=1)
        assert {student for student, *_ in entered(url)} == set(CLASS)
