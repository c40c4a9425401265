"""Grade a batch of submissions: found, repaired, run in the sandbox, judged here, and entered in nbgrader's gradebook.

    handed in ── find ──> (student, file) ── repair ──> notebook ── judge ──> marks ── enter ──> gradebook
                                                                      │
                              grading/autograded/STUDENT/LAB/   the executed notebook and record.json

Submissions are independent: each is graded by one of a few workers, and written down as soon as it is done. A second
run skips those whose file and lab have not changed since, so a batch that was interrupted goes on where it stopped.
What could not be graded says why and has no marks, which is not the same as zero.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import time
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import SaveCells
from nbgrader.utils import compute_checksum
from tqdm import tqdm

from course import build
from course.build import is_check
from course.judge import Patience, Verdict, judge
from course.repair import Unrepairable, recognise, released, repair
from course.sandbox import Sandbox

Record = dict[str, Any]


class Submission(NamedTuple):
    """A notebook that a student handed in: the name of its file, and what is in it."""

    student: str
    file: str
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


# --- finding submissions ----------------------------------------------------------------------------------------------

MOODLE = re.compile(r"(.+)_\d+_assignsubmission_file_?$")
CANVAS = re.compile(r"([^_]+)(?:_LATE)?_\d+_\d+_.+\.ipynb$")


def find(place: Path) -> Iterator[Submission]:
    """The notebooks in a folder or a zip, as Moodle, Canvas and nbgrader name them, or in a folder for each student.

    A notebook directly in the folder is of the student that its name says. Folders without a notebook are passed over.
    """
    files = _unzipped(place) if place.suffix == ".zip" else _in_folder(place)
    for path, data in sorted(files):
        yield Submission(student(path), path[-1], data)


def student(path: tuple[str, ...]) -> str:
    """Whose notebook it is, by its path."""
    first, canvas = path[0], CANVAS.match(path[-1])
    if len(path) > 1:
        moodle = MOODLE.match(first)
        return _plain(moodle[1] if moodle else first)
    return _plain(canvas[1] if canvas else Path(first).stem)


def _plain(name: str) -> str:
    """A name that is safe as that of a folder."""
    return re.sub(r"[^\w .@+-]", "_", name).strip(". ") or "_"


def _in_folder(folder: Path) -> Iterator[tuple[tuple[str, ...], bytes]]:
    for path in folder.rglob("*.ipynb"):
        if path.is_file() and not path.is_symlink() and ".ipynb_checkpoints" not in path.parts:
            yield path.relative_to(folder).parts, path.read_bytes()


def _unzipped(archive: Path) -> Iterator[tuple[tuple[str, ...], bytes]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            parts = tuple(part for part in info.filename.split("/") if part not in ("", ".", ".."))
            if not info.is_dir() and info.filename.endswith(".ipynb") and "__MACOSX" not in parts:
                yield parts, opened.read(info)


# --- grading one ------------------------------------------------------------------------------------------------------


@functools.cache
def fulls() -> dict[str, NotebookNode]:
    """Every lab with its hidden tests."""
    return {source.stem: build.read(source) for source in build.sources()}


@functools.cache
def sandbox() -> Sandbox:
    """The sandbox of this worker."""
    return Sandbox()


def grade_one(submission: Submission, lab: str | None, results: Path, patience: Patience = Patience()) -> Record:
    """Grade a submission and write down what came of it. Returns its record (see `course.report`)."""
    start = time.monotonic()
    record: Record = {
        "student": submission.student,
        "lab": lab,
        "file": submission.file,
        "sha256": submission.digest,
        "status": "ungraded",
        "reason": "",
        "notes": [],
        "flags": [],
        "exercises": {},
        "written": {},
    }
    nb = None
    record["lab"] = lab = lab or recognise(submission.data, fulls())
    if lab is None:
        record["reason"] = "No lab was recognised in the file."
    else:
        try:
            nb = _mark(record, submission.data, fulls()[lab], lab, patience)
            record["status"] = "graded"
        except Unrepairable as failure:
            record["reason"] = str(failure)
    record["seconds"] = round(time.monotonic() - start, 1)
    _write_down(record, nb, results)
    return record


def _mark(record: Record, data: bytes, full: NotebookNode, lab: str, patience: Patience) -> NotebookNode:
    """Fill in the marks of a record. Returns the executed notebook."""
    nb, record["notes"] = repair(data, full)
    nb, verdicts = judge(sandbox(), full, lab.split("_")[0], nb, patience)
    answers = {cell.id.removesuffix("-answer"): cell.source for cell in nb.cells if _is_solution(cell)}
    for cell in nb.cells:
        grading = cell.metadata.get("nbgrader", {})
        if not grading.get("grade"):
            continue
        name, points = grading["grade_id"], float(grading["points"])
        if is_check(cell):
            verdict: Verdict = verdicts[name]
            mark = {"score": 0.0 if verdict.by else points, "by": verdict.by, "verdict": verdict.words}
            record["exercises"][name] = {"points": points, **mark, "answer": answers.get(name, "")}
        else:
            unanswered = grading.get("checksum") == compute_checksum(cell)
            score = 0.0 if unanswered else None
            record["written"][name] = {"points": points, "score": score, "answer": cell.source}
    return nb


def _is_solution(cell: NotebookNode) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def _write_down(record: Record, nb: NotebookNode | None, results: Path) -> None:
    folder = results / record["student"] / (record["lab"] or "unknown")
    folder.mkdir(parents=True, exist_ok=True)
    if nb is not None:
        nbformat.write(nb, folder / f"{record['lab']}.ipynb")
    whole = folder / "record.json"
    part = whole.with_suffix(".part")
    part.write_text(json.dumps(record | {"graded_by": fingerprint()}, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(part, whole)  # all of it or nothing, also when the grader is killed here


@functools.cache
def fingerprint() -> str:
    """What marks depend on, beside the submission: sources, hidden tests, checks and the grader itself."""
    digest = hashlib.sha256()
    for folder in ("course", "fmlab"):
        for path in sorted((build.ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(build.ROOT).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


# --- grading a batch --------------------------------------------------------------------------------------------------


def grade(places: Iterable[Path], lab: str | None, results: Path, workers: int, url: str) -> list[Record]:
    """Grade all submissions in these places that are not graded yet, and enter all of them in the gradebook."""
    submissions = {(s.student, s.digest): s for place in places for s in find(place)}
    known = {(record["student"], record["sha256"]): record for record in _records(results)}
    records = [known[key] for key in submissions if key in known]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        tasks = [pool.submit(grade_one, s, lab, results) for key, s in submissions.items() if key not in known]
        for task in tqdm(as_completed(tasks), total=len(tasks), desc="grading", disable=None):
            records.append(task.result())
    enter(sorted(records, key=lambda record: record["student"]), url)
    return records


def _records(results: Path) -> Iterator[Record]:
    """What this grader has written down so far."""
    for path in sorted(results.glob("*/*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("graded_by") == fingerprint():
            yield record


def enter(records: Iterable[Record], url: str) -> None:
    """Enter marks in nbgrader's gradebook, where formgrader shows them and a person adds those of written answers."""
    graded = [record for record in records if record["status"] == "graded"]
    for lab in sorted({record["lab"] for record in graded}):
        _announce(lab, url)
    with Gradebook(url) as gradebook:
        for record in graded:
            scores = {name: entry["score"] for name, entry in (record["exercises"] | record["written"]).items()}
            gradebook.update_or_create_student(record["student"])
            gradebook.update_or_create_submission(record["lab"], record["student"])
            notebook = gradebook.find_submission_notebook(record["lab"], record["lab"], record["student"])
            for entry in notebook.grades:
                entry.auto_score = scores[entry.name]
                entry.needs_manual_grade = entry.auto_score is None and entry.manual_score is None
            gradebook.db.commit()


def _announce(lab: str, url: str) -> None:
    """Make the gradebook know a lab and its cells."""
    with Gradebook(url) as gradebook:
        gradebook.update_or_create_assignment(lab)
    resources = {"nbgrader": {"notebook": lab, "assignment": lab, "db_url": url}}
    SaveCells().preprocess(released(fulls()[lab]), resources)
