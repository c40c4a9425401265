"""What an instructor waits for: a class's submissions, graded by this course and by nbgrader alone."""

import atexit
import functools
import itertools
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.measure import Rows, at_least, at_most, targets
from course import build, gradebook, hidden, hosted, jobs, records
from course.desk import Desk
from course.jobs import Patience
from course.judge import examine
from course.sandbox import Sandbox
from fmlab.checks import lab1
from tests import made_records, submissions
from tests.classroom import copy_checkout, environment, nbgrader, sqlite, write
from tests.labs import solutions

LAB = "lab1_simulation"
TERM = ("lab0_welcome", LAB, "lab2_paths")
(SOURCE,) = build.sources([LAB])
WRONG = "raise NotImplementedError"


@targets(
    at_least("nbgrader autograde, a quarter of it, 2 processes", 2.5, "2 processes"),
    at_most("2 processes", 0.7, "1 process"),
    at_most("Dask, 2 workers", 0.85, "1 process"),
    at_most("1 process", 1.3, "1 process, no sandbox"),
)
def grading(quick: bool) -> Rows:
    """A class's submissions of lab 1, from the inbox to gradebook, report and feedback, in units of one process"""
    quarter = 2 if quick else 20
    office = classroom(4 * quarter)
    return {
        "1 process": partial(ours, office, "--workers", "1"),
        "2 processes": partial(ours, office, "--workers", "2"),
        "Dask, 2 workers": partial(on_dask, office),
        "1 process, no sandbox": partial(ours, office, "--workers", "1", "--unsafe"),
        "nbgrader autograde, a quarter of it, 2 processes": partial(plain, classroom(quarter), "a*", "b*", labs=[LAB]),
    }


@targets(at_least("nbgrader autograde, a tenth of it", 1, "all of it"))
def term(quick: bool) -> Rows:
    """Three labs of a class of 60, by two processes; nbgrader alone, by as many, gets a tenth of the class"""
    tenth = 2 if quick else 6
    return {
        "all of it": partial(ours, classroom(10 * tenth, TERM), "--workers", "2"),
        "nbgrader autograde, a tenth of it": partial(plain, classroom(tenth, TERM), "a*", "b*", labs=TERM),
    }


@targets(at_most("nothing new", 2, "import torch"), at_most("a blank submission", 4, "import torch"))
def starting(quick: bool) -> Rows:
    """From the command to its end, where there is next to nothing to grade, in units of a process that imports torch"""
    done, office = course_folder(), course_folder()
    for root in done, office:
        write(root / "inbox" / "ada" / f"{LAB}.ipynb", submissions.blank(LAB))
    ours.__wrapped__(done)
    of_submissions = shutil.ignore_patterns("records", "autograded", "submitted", "gradebook.db")
    shutil.copytree(done / "grading", office / "grading", ignore=of_submissions)
    return {
        "import torch": partial(subprocess.run, [sys.executable, "-c", "import torch"], check=True),
        "nothing new": partial(ours.__wrapped__, done),
        "a blank submission": partial(ours, office),
    }


@targets(
    at_most("entering them, unchanged", 2, "reading the records"),
    at_most("entering dates, unchanged", 3, "reading the records"),
)
def entering(quick: bool) -> Rows:
    """The records of a class of 300 whose marks are in the gradebook, in units of reading the records"""
    root = course_folder()
    releases, url = {LAB: jobs.release(LAB)}, sqlite(root / "grading")
    made = [made_records.record(f"s{k:03d}") for k in range(10 if quick else 300)]
    for record in made:
        records.write(record, root / "grading")
    gradebook.prepare(releases, url)
    gradebook.enter(made, releases, url)
    return {
        "reading the records": partial(records.read, root / "grading"),
        "entering them, unchanged": partial(gradebook.enter, made, releases, url),
        "entering dates, unchanged": partial(gradebook.enter_dates, made, {}, url),
    }


def classroom(size: int, labs: Sequence[str] = (LAB,)) -> Path:
    """A course with this many students, half of them a…, half b…; each second one lacks an answer in every lab."""
    root = course_folder()
    for lab in labs:
        (source,) = build.sources([lab], root)
        build.write_release(build.read(source), lab, root)
        nbgrader(root, "generate_assignment", lab)
        exercises = itertools.cycle(submissions.points(lab))
        for k in range(size):
            nb = submissions.with_answers(lab, {next(exercises): WRONG} if k % 2 else {})
            for place in root / "inbox", root / "grading" / "submitted":
                write(place / f"{'ab'[k % 2]}{k:03d}" / lab / f"{lab}.ipynb", nb)
    return root


def course_folder() -> Path:
    """A course of its own, in which nobody has handed in anything."""
    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return copy_checkout(root, "nbgrader_config.py", "pyproject.toml", "course", "fmlab")


def fresh(work: Callable) -> Callable:
    """Work in a copy of the course in which nothing is graded yet."""

    @functools.wraps(work)
    def run(office: Path, *args, **options) -> None:
        with tempfile.TemporaryDirectory() as folder:
            work(Path(shutil.copytree(office, Path(folder, "office"))), *args, **options)

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
def plain(root: Path, *patterns: str, labs: Sequence[str]) -> None:
    command = [sys.executable, "-m", "nbgrader", "autograde"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for lab in labs:
        each = [[*command, lab, "--student", pattern] for pattern in patterns]
        started = [subprocess.Popen(one, cwd=root, env=environment(), **quiet) for one in each]
        if any([process.wait() for process in started]):
            raise RuntimeError("nbgrader autograde failed")


@targets(at_most("across the wall", 4, "in one process"))
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
