"""The same submissions get the same marks in any database, on a cluster, and after every crash."""

import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from dask.distributed import LocalCluster

from course import gradebook, jobs, marking, workers
from course.grade import grade
from course.jobs import Job, Settings
from tests import submissions
from tests.classroom import entered, sqlite, write, written
from tests.postgresql import needs_postgresql, server
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls]

LAB, QUICK = "lab1_simulation", "lab0_welcome"
WRONG = {
    "euler_step": "def euler_step(u, x, t, h):\n    return x + u(x, t)",
    "heun_step": "def heun_step(u, x, t, h):\n    return x",
    "ou_moments": "import os\n\n\ndef ou_moments(x0, t, theta, sigma):\n    os._exit(1)",
}


@pytest.fixture(scope="module")
def inbox(tmp_path_factory):
    """A class: all right, one answer wrong, one that ends its process, nothing done, no notebook at all."""
    folder = tmp_path_factory.mktemp("inbox")
    write(folder / "anna.ipynb", submissions.solved(LAB))
    for name, exercise in zip(("bo", "cy", "di"), WRONG):
        write(folder / f"{name}.ipynb", submissions.with_answers(LAB, {exercise: WRONG[exercise]}))
    write(folder / "ed.ipynb", submissions.blank(LAB))
    (folder / "flo.ipynb").write_text("my laptop broke")
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Three in a lab that is quick to grade twenty times over."""
    folder = tmp_path_factory.mktemp("few")
    write(folder / "anna.ipynb", submissions.solved(QUICK))
    write(folder / "bo.ipynb", submissions.blank(QUICK))
    (folder / "flo.ipynb").write_text("my laptop broke")
    return folder


@pytest.fixture(scope="module")
def undisturbed(inbox, tmp_path_factory):
    """The folder in which the class was graded by two workers."""
    folder = tmp_path_factory.mktemp("undisturbed")
    grade([inbox], folder, sqlite(folder), workers=2)
    return folder


def test_the_class_gets_what_it_deserves(undisturbed):
    """What the other tests compare with."""
    marks = {key: mark[0] for key, mark in entered(sqlite(undisturbed)).items()}
    points = submissions.points(LAB)
    assert {who for who, *_ in marks} == {"anna", "bo", "cy", "di", "ed"}
    for name, worth in points.items():
        assert marks["anna", LAB, name] == worth and marks["ed", LAB, name] == 0
    for who, wrong in zip(("bo", "cy", "di"), WRONG):
        assert [name for name in points if marks[who, LAB, name] != points[name]] == [wrong]
    assert [record["student"] for record in written(undisturbed) if record["status"] == "ungraded"] == ["flo"]


@needs_postgresql
def test_postgresql_gets_the_same_marks(inbox, undisturbed, tmp_path):
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        before = grade([inbox], tmp_path / "new", url, workers=2)
        assert entered(url) == entered(sqlite(undisturbed))
        assert written(tmp_path / "new") == written(undisturbed)
        assert entered_again(url, before) == entered(sqlite(undisturbed))


def entered_again(url: str, graded: list) -> dict:
    gradebook.enter(graded, jobs.releases(), url)
    return entered(url)


def test_a_dask_cluster_gives_the_same_marks(inbox, undisturbed, tmp_path):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        grade([inbox], tmp_path, sqlite(tmp_path), scheduler=cluster.scheduler_address)
    assert entered(sqlite(tmp_path)) == entered(sqlite(undisturbed))
    assert written(tmp_path) == written(undisturbed)


# --- crashes ----------------------------------------------------------------------------------------------------------


def test_killed_again_and_again_the_grader_ends_with_the_same_gradebook(few, tmp_path):
    """Twenty times, after a part of the time that a batch takes. Where it ends before that, it starts from nothing."""
    undisturbed = tmp_path / "undisturbed"
    draw, span = random.Random(20), seconds_of_a_batch(few, undisturbed)
    folder, kills = tmp_path / "killed", 0
    while kills < 20:
        process = start(few, folder)
        process.join(draw.uniform(0, span / 2))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        if (folder / "gradebook.db").exists():
            nothing_by_halves(folder, undisturbed)
        if process.exitcode == 0:
            shutil.rmtree(folder)
    grade([few], folder, sqlite(folder), workers=2)
    assert entered(sqlite(folder)) == entered(sqlite(undisturbed))
    assert written(folder) == written(undisturbed)


def start(inbox: Path, folder: Path) -> multiprocessing.Process:
    """A grader in a process of its own."""
    process = multiprocessing.get_context("fork").Process(
        target=grade, args=([inbox], folder, sqlite(folder)), kwargs={"workers": 1}
    )
    process.start()
    return process


def seconds_of_a_batch(inbox: Path, folder: Path) -> float:
    begin = time.monotonic()
    start(inbox, folder).join()
    return time.monotonic() - begin


def nothing_by_halves(folder: Path, undisturbed: Path) -> None:
    """Who has any marks in the gradebook has all of them, and the right ones."""
    whole = entered(sqlite(undisturbed))
    try:
        partly = entered(sqlite(folder))
    except Exception:  # its tables are not all there yet
        return
    students = {student for student, *_ in partly}
    assert partly == {key: mark for key, mark in whole.items() if key[0] in students}


def test_workers_start_at_once_unless_all_is_as_it_was_after_the_last_batch(few, tmp_path, monkeypatch):
    started, start = [], workers.Here._start
    monkeypatch.setattr(workers.Here, "_start", lambda crew: started.append(crew) or start(crew))
    inbox = shutil.copytree(few, tmp_path / "inbox")

    def batch() -> tuple[list, int]:
        """The records, and how often workers started."""
        started.clear()
        return grade([inbox], tmp_path, sqlite(tmp_path), workers=1), len(started)

    first, begun = batch()
    assert begun == 1
    assert batch() == (first, 0)
    shutil.copy(few / "anna.ipynb", inbox / "cy.ipynb")
    more, begun = batch()
    assert begun == 1 and {record["student"] for record in more} == {record["student"] for record in first} | {"cy"}
    shutil.rmtree(tmp_path / "records" / "anna")  # which is not in the inbox: a worker starts, if late
    (again, begun), names = batch(), [record["student"] for record in more]
    assert begun == 1 and [record["student"] for record in again] == names


def test_workers_die_with_the_grader(inbox, tmp_path):
    process = start(inbox, tmp_path)
    deadline = time.monotonic() + 60
    while not (workers := children(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.join()
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    """The processes that this one started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        found += [int(status.parent.name)] if parent == pid else []
    return found


def die_over_cy(job: Job, settings: Settings, memory: int):
    """Grades all but one submission, over which the worker dies."""
    if job.submission.student == "cy":
        os.kill(os.getpid(), signal.SIGKILL)
    return marking.grade_one(job, settings)


def test_a_submission_that_kills_its_worker_is_not_graded_and_all_others_are(inbox, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_grade", die_over_cy)
        first = {record["student"]: record for record in grade([inbox], tmp_path, sqlite(tmp_path), workers=2)}
    assert first["cy"]["status"] == "ungraded" and "will try again" in first["cy"]["reason"]
    others = {key: mark for key, mark in entered(sqlite(undisturbed)).items() if key[0] != "cy"}
    assert entered(sqlite(tmp_path)) == others
    grade([inbox], tmp_path, sqlite(tmp_path), workers=2)
    assert entered(sqlite(tmp_path)) == entered(sqlite(undisturbed))
