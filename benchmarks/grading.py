"""What an instructor waits for: a class's submissions of lab 1, graded by this course and by nbgrader alone."""

import atexit
import functools
import itertools
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.measure import Rows, at_least, at_most, targets
from course import build, hidden, hosted
from course.desk import Desk
from course.jobs import Patience
from course.judge import examine
from course.sandbox import Sandbox
from fmlab.checks import lab1
from tests import submissions
from tests.classroom import copy_checkout, environment, nbgrader, write
from tests.labs import solutions

LAB = "lab1_simulation"
(SOURCE,) = build.sources([LAB])
WRONG = "raise NotImplementedError"


@targets(
    at_least("nbgrader autograde, 2 processes", 5, "2 processes"),
    at_most("2 processes", 0.7, "1 process"),
    at_most("Dask, 2 workers", 0.85, "1 process"),
    at_most("1 process", 1.3, "1 process, no sandbox"),
)
def grading(quick: bool) -> Rows:
    """A class's submissions of lab 1, from the inbox to gradebook, report and feedback, in units of one process"""
    office = classroom(2 if quick else 40)
    return {
        "1 process": partial(ours, office, "--workers", "1"),
        "2 processes": partial(ours, office, "--workers", "2"),
        "Dask, 2 workers": partial(on_dask, office),
        "1 process, no sandbox": partial(ours, office, "--workers", "1", "--unsafe"),
        "nbgrader autograde, 2 processes": partial(plain, office, "a*", "b*"),
    }


def classroom(size: int) -> Path:
    """A course with this many submissions, half of them by students a…, half by b…; each second one lacks an answer."""
    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    copy_checkout(root, "nbgrader_config.py", "pyproject.toml", "course", "fmlab")
    (source,) = build.sources([LAB], root)
    build.write_release(build.read(source), LAB, root)
    nbgrader(root, "generate_assignment", LAB)
    exercises = itertools.cycle(submissions.points(LAB))
    for k in range(size):
        nb = submissions.with_answers(LAB, {next(exercises): WRONG} if k % 2 else {})
        for place in root / "inbox", root / "grading" / "submitted":
            write(place / f"{'ab'[k % 2]}{k:03d}" / LAB / f"{LAB}.ipynb", nb)
    return root


def fresh(work: Callable) -> Callable:
    """Work in a copy of the course in which nothing is graded yet."""

    @functools.wraps(work)
    def run(office: Path, *args) -> None:
        with tempfile.TemporaryDirectory() as folder:
            work(Path(shutil.copytree(office, Path(folder, "office"))), *args)

    return run


@fresh
def ours(root: Path, *options: str) -> None:
    command = [sys.executable, "-m", "course", "grade", "inbox", *options]
    subprocess.run(command, cwd=root, env=environment(), check=True, capture_output=True)


@fresh
def on_dask(root: Path) -> None:
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        ours.__wrapped__(root, "--scheduler", cluster.scheduler_address)


@fresh
def plain(root: Path, *patterns: str) -> None:
    command = [sys.executable, "-m", "nbgrader", "autograde", LAB, "--student"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen([*command, p], cwd=root, env=environment(), **quiet) for p in patterns]
    if any([process.wait() for process in started]):
        raise RuntimeError("nbgrader autograde failed")


@targets(at_most("across the wall", 10, "in one process"))
def crossing(quick: bool) -> Rows:
    """All checks of lab 1 on its solutions, visible and hidden: in one process, and with the functions in a sandbox"""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    desk = Desk(sandbox, Patience(), math.inf)
    for cell in submissions.solved(LAB).cells:
        runs = cell.cell_type == "code" and not build.is_check(cell) and not hosted.is_install(cell)
        if runs and ("import" in cell.source or build.is_solution(cell)):
            desk.run(cell.source)
    return {"in one process": _here, "across the wall": partial(_there, desk)}


def _here() -> None:
    for name, answer in solutions(SOURCE).items():
        exercise = lab1.exercises[name]
        for inputs in exercise.visible, hidden.inputs(exercise):
            _passed(exercise.examine(answer, inputs))


def _there(desk: Desk) -> None:
    for exercise in lab1:
        for who in "visible", "hidden":
            _passed(examine(desk, exercise, who).verdict)


def _passed(verdict) -> None:
    if not verdict.passed:
        raise RuntimeError(str(verdict))
