"""Whatever becomes of the workers of a cluster and of its scheduler, marks are those of an undisturbed run."""

import contextlib
import signal
import threading
import time
from pathlib import Path

import pytest

from course import cluster, records
from course.failures import Unfinished
from course.grade import grade
from tests import submissions
from tests.classroom import copy_checkout, entered, sqlite, write, written
from tests.dask_cluster import scheduler, worker
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls]

LAB = "lab0_welcome"
SIZE = 6
SLOW = "import time\n\n\ntime.sleep(0.3)\n"  # so that a worker can be ended while it grades


@pytest.fixture(scope="module")
def inbox(tmp_path_factory):
    """A class, every second of whom lacks an answer."""
    folder = tmp_path_factory.mktemp("inbox")
    exercise = next(iter(submissions.points(LAB)))
    for k in range(SIZE):
        nb = submissions.with_answers(LAB, {exercise: "raise NotImplementedError"} if k % 2 else {})
        write(folder / f"student{k}.ipynb", slow(nb))
    return folder


def slow(nb):
    """A notebook whose set-up takes a while."""
    first = submissions.setup(nb)
    first.source = SLOW + first.source
    return nb


@pytest.fixture(scope="module")
def undisturbed(inbox, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    grade([inbox], folder, sqlite(folder), workers=2)
    return folder


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """The address of a scheduler, and a folder for its workers."""
    folder = tmp_path_factory.mktemp("dask")
    with scheduler(folder) as (address, _):
        yield address, folder


def equal(folder: Path, undisturbed: Path) -> bool:
    return entered(sqlite(folder)) == entered(sqlite(undisturbed)) and written(folder) == written(undisturbed)


def some_graded(folder: Path) -> bool:
    return len(list(folder.glob("records/*/*.json"))) > 1


@contextlib.contextmanager
def meanwhile(folder: Path, act):
    """Do something once a few are graded."""

    def wait():
        while not some_graded(folder):
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    yield
    thread.join(1)


def test_a_worker_without_walls_is_named_and_left_out(dask, inbox, undisturbed, tmp_path, capfd):
    address, place = dask
    with worker(address, place), worker(address, place, path="/nowhere"):
        grade([inbox], tmp_path, sqlite(tmp_path), scheduler=address)
    said = capfd.readouterr().err
    assert equal(tmp_path, undisturbed)
    assert "tcp://127.0.0.1" in said and "left out" in said and "Install bubblewrap" in said


def test_a_worker_of_another_version_is_left_out_and_alone_it_grades_nobody(dask, inbox, tmp_path):
    address, place = dask
    (tmp_path / "checkout").mkdir()
    root = copy_checkout(tmp_path / "checkout", "nbgrader_config.py", "pyproject.toml", "course", "fmlab")
    with (root / "fmlab" / "checks" / "compare.py").open("a") as file:
        file.write("\n# an older one\n")
    with worker(address, place, root), pytest.raises(RuntimeError, match="another version") as refused:
        grade([inbox], tmp_path / "grading", sqlite(tmp_path / "grading"), scheduler=address)
    assert not isinstance(refused.value, Unfinished)
    assert not records.read(tmp_path / "grading")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "paused"])
def test_what_a_worker_had_that_ends_or_stops_goes_to_another(dask, inbox, undisturbed, tmp_path, monkeypatch, sign):
    monkeypatch.setattr(cluster, "SILENT", 5)
    address, place = dask
    with worker(address, place) as process, worker(address, place):
        with meanwhile(tmp_path, lambda: process.send_signal(sign)):
            grade([inbox], tmp_path, sqlite(tmp_path), scheduler=address)
        assert (process.poll() is None) == (sign == signal.SIGSTOP)
    assert equal(tmp_path, undisturbed)


def test_a_worker_that_joins_later_takes_over(dask, inbox, undisturbed, tmp_path):
    address, place = dask
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(worker(address, place))

        def replace():
            first.kill()
            stack.enter_context(worker(address, place))

        with meanwhile(tmp_path, replace):
            grade([inbox], tmp_path, sqlite(tmp_path), scheduler=address)
    assert equal(tmp_path, undisturbed)


def test_a_batch_whose_scheduler_dies_ends_soon_and_goes_on_afterwards(inbox, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER", 3)
    with scheduler(tmp_path) as (address, process), worker(address, tmp_path):
        begin = []
        with meanwhile(tmp_path, lambda: (begin.append(time.monotonic()), process.kill())):
            with pytest.raises(Unfinished, match="does not answer any more"):
                grade([inbox], tmp_path, sqlite(tmp_path), scheduler=address)
        assert time.monotonic() - begin[0] < 20
    found = written(tmp_path)
    assert 0 < len(found) < SIZE and all(record in written(undisturbed) for record in found)
    with pytest.raises(RuntimeError, match=f"no Dask scheduler at {address}"):
        grade([inbox], tmp_path, sqlite(tmp_path), scheduler=address)
    assert written(tmp_path) == found
    grade([inbox], tmp_path, sqlite(tmp_path), workers=2)
    assert equal(tmp_path, undisturbed)
