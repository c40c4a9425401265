"""A course in a folder of its own, in which nbgrader's own commands grade whole submissions."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Grade, Gradebook

from course import build, records


def graded(root: Path, lab: str, submissions: Mapping[str, NotebookNode]) -> Path:
    """The course at `root`, once each student's submission of the lab went through nbgrader's commands."""
    copy_checkout(root, "nbgrader_config.py", "pyproject.toml", "course", "fmlab")
    (source,) = build.sources([lab], root)
    build.write_release(build.read(source), lab, root)
    nbgrader(root, "generate_assignment", lab)
    for student, nb in submissions.items():
        write(root / "grading" / "submitted" / student / lab / f"{lab}.ipynb", nb)
    nbgrader(root, "autograde", lab)
    return root


def open_gradebook(root: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{root}/grading/gradebook.db")


def grades(gradebook: Gradebook, lab: str, student: str) -> dict[str, Grade]:
    return {grade.name: grade for grade in gradebook.find_submission_notebook(lab, lab, student).grades}


def copy_checkout(root: Path, *names: str) -> Path:
    for name in names:
        source = build.ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        else:
            shutil.copy(source, root / name)
    return root


def environment() -> dict[str, str]:
    """What a command finds that is given in a fresh terminal, without what this process set by reading the settings."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def nbgrader(root: Path, *args: str) -> str:
    """Run nbgrader as a user does, at `root`, and return all it says."""
    command = [sys.executable, "-m", "nbgrader", *args]
    done = subprocess.run(
        command, cwd=root, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def write(path: Path, nb) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)


def write_files(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def sqlite(folder: Path) -> str:
    """The address of the gradebook in a folder."""
    return f"sqlite:///{folder / 'gradebook.db'}"


def entered(url: str) -> dict:
    """All that a gradebook says of every answer of everybody."""
    with Gradebook(url) as book:
        return {
            (submission.student.id, lab.name, grade.name): (
                grade.auto_score,
                grade.manual_score,
                grade.needs_manual_grade,
                grade.max_score,
            )
            for lab in book.assignments
            for submission in lab.submissions
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


def written(folder: Path) -> list:
    """All that the records say, but for the time it took."""
    return [{**record, "seconds": 0} for record in records.read(folder)]
