"""nbgrader's own command line, on lab 1: everyone gets exactly the marks they deserve, careless or hostile."""

import csv
import json
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from course import build
from course.hidden import lab1 as hidden
from tests import submissions
from tests.classroom import copy_checkout, environment, graded, grades, nbgrader, open_gradebook, write

pytestmark = [pytest.mark.grading, pytest.mark.slow]

LAB = "lab1_simulation"

# Slips that students make. Only the hidden inputs see that the last one knows what the check in the notebook wants; it
# also prints what it is given.
MISTAKES = {
    "euler_step": "def euler_step(u, x, t, h):\n    return x + u(x, t)",
    "heun_step": "def heun_step(u, x, t, h):\n    k = u(x, t)\n    return x + h * (k + u(x + h * k, t)) / 2",
    "simulate": "def simulate(step, x0, ts):\n    return torch.stack([x0] + [step(x0, t, t - ts[0]) for t in ts[1:]])",
    "ou_moments": (
        "def ou_moments(x0, t, theta, sigma):\n"
        "    decay = torch.exp(-theta * torch.as_tensor(t))\n"
        "    return decay * x0, sigma**2 * (1 - decay**2) / theta"
    ),
    "langevin_drift": "def langevin_drift(score, sigma):\n    return lambda x, t: 0.5 * sigma * score(x)",
    "brownian_paths": (
        "def brownian_paths(n, ts, sigma):\n"
        "    torch.manual_seed(0)\n"
        "    steps = sigma * ts.diff().sqrt()[:, None] * torch.randn(len(ts) - 1, n)\n"
        "    return torch.cat([torch.zeros(1, n), steps.cumsum(0)])"
    ),
    "ou_drift": f"{submissions.fitted(LAB, 'ou_drift')}\n\n\nfitted_drift = ou_drift\n\n\n"
    "def ou_drift(*args):\n    print(args[0].shape)\n    return fitted_drift(*args)",
}

# Wrong answers that try to get at the check instead.
TRICKS = {
    "linear_flow": "lab1.linear_flow = print\ndef linear_flow(x0, t, theta):\n    return x0",
    "strong_and_weak_error": (
        "import types\nlab1 = types.SimpleNamespace(strong_and_weak_error=print, langevin_drift=print)\n"
        "def strong_and_weak_error(x, y):\n    return 0.0, 0.0"
    ),
}

# A right answer that warns.
WARNS = "import warnings\ndef ou_drift(x, t, theta):\n    warnings.warn('slow')\n    return -theta * x"


def partly_wrong():
    return submissions.with_answers(LAB, MISTAKES)


def tampered():
    """Nothing solved; the checks softened, removed, copied and made worth more."""
    nb = submissions.with_answers(LAB, TRICKS, start=submissions.blank(LAB))
    return _meddle(nb, source="pass")


def careless():
    """All solved; the checks damaged in the same way, without intent, and a warning in an answer."""
    return _meddle(submissions.with_answers(LAB, {"ou_drift": WARNS}), source="print('was here')")


def _meddle(nb, source):
    check = {name: submissions.check_cell(nb, name) for name in submissions.points(LAB)}
    check["euler_step"].source = source
    nb.cells.remove(check["heun_step"])
    check["simulate"].metadata.nbgrader.points = 100
    del check["convergence_order"].metadata["nbgrader"]
    check["convergence_order"].source = source
    copied = nbformat.from_dict({**check["brownian_paths"], "id": "copied", "source": source})
    nb.cells.insert(nb.cells.index(check["brownian_paths"]) + 1, copied)
    check["geometric_brownian_motion"].cell_type = "markdown"
    for key in ("outputs", "execution_count"):
        del check["geometric_brownian_motion"][key]
    return nb


STUDENTS = {
    "solved": lambda: submissions.solved(LAB),
    "blank": lambda: submissions.blank(LAB),
    "partly_wrong": partly_wrong,
    "tampered": tampered,
    "careless": careless,
}

EXPECTED = {
    "solved": submissions.points(LAB),
    "blank": dict.fromkeys(submissions.points(LAB), 0),
    "partly_wrong": {**submissions.points(LAB), **dict.fromkeys(MISTAKES, 0)},
    "tampered": dict.fromkeys(submissions.points(LAB), 0),
    "careless": submissions.points(LAB),
}


@pytest.fixture(scope="module")
def classroom(tmp_path_factory):
    """A course in which every student's submission of the lab went through nbgrader's commands."""
    made = {student: make() for student, make in STUDENTS.items()}
    handed_in = {name: nb if name == "solved" else submissions.without_figures(nb) for name, nb in made.items()}
    return graded(tmp_path_factory.mktemp("classroom"), LAB, handed_in)


@pytest.fixture(scope="module")
def gradebook(classroom):
    with open_gradebook(classroom) as gradebook:
        yield gradebook


def test_generate_assignment_writes_the_bytes_of_labs(classroom, tmp_path):
    (source,) = build.sources([LAB])
    build.write_release(build.read(source), LAB, tmp_path)
    built, generated = (build.notebook_path("labs", LAB, root) for root in (tmp_path, classroom))
    assert generated.read_bytes() == built.read_bytes()


@pytest.mark.parametrize("student", STUDENTS)
def test_marks(gradebook, student):
    found = grades(gradebook, LAB, student)
    assert {name: found[name].auto_score for name in EXPECTED[student]} == EXPECTED[student]
    assert {name: found[name].max_score for name in EXPECTED[student]} == submissions.points(LAB)
    assert not any(found[name].needs_manual_grade for name in EXPECTED[student])


@pytest.mark.parametrize("student", STUDENTS)
def test_written_answers_wait_for_a_person_unless_there_is_none(gradebook, student):
    found, unanswered = grades(gradebook, LAB, student), student in ("blank", "tampered")
    assert found.keys() == submissions.points(LAB).keys() | submissions.written(LAB).keys()
    for name, points in submissions.written(LAB).items():
        assert found[name].max_score == points
        assert found[name].needs_manual_grade != unanswered
        assert found[name].auto_score == (0 if unanswered else None)


def test_export_has_every_score(classroom):
    nbgrader(classroom, "export", "--to", "grades.csv")
    with (classroom / "grades.csv").open() as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {student: float(row["score"]) for student, row in rows.items()} == {
        student: sum(expected.values()) for student, expected in EXPECTED.items()
    }
    total = sum(submissions.points(LAB).values()) + sum(submissions.written(LAB).values())
    assert {float(row["max_score"]) for row in rows.values()} == {total}


def test_feedback_shows_verdicts_but_no_hidden_tests(classroom):
    nbgrader(classroom, "generate_feedback", LAB)
    pages = {student: classroom / "grading" / "feedback" / student / LAB / f"{LAB}.html" for student in STUDENTS}
    for page in pages.values():
        text = page.read_text(encoding="utf-8")
        assert "HIDDEN TESTS" not in text and "course.hidden" not in text
    shown = pages["partly_wrong"].read_text(encoding="utf-8")
    assert "✗ euler_step: " in shown and "✗ heun_step: " in shown
    assert "✗ ou_drift: passes the check in the notebook, but not further tests of the same" in shown
    for seen in (classroom / "grading").rglob("*/partly_wrong/**/*"):
        if seen.suffix in (".html", ".ipynb") and seen.parts[-4] != "submitted":
            text = seen.read_text(encoding="utf-8")
            assert not any(str(shape)[1:-1] in text for shape, *_ in hidden.ou_drift if len(shape) > 2), seen


def test_formgrader_shows_the_scores(classroom):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0")
    command = [sys.executable, "-m", "jupyter", "server", *options, "--IdentityProvider.token=secret"]
    with (classroom / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=classroom, env=environment(), stdout=log, stderr=log)
    try:
        shown = json.loads(fetch(f"http://127.0.0.1:{port}/formgrader/api/submissions/{LAB}?token=secret"))
    finally:
        server.terminate()
        server.wait()
    expected = {student: sum(points.values()) for student, points in EXPECTED.items()}
    assert {row["student"]: row["score"] for row in shown} == expected


def fetch(url: str, patience: float = 120) -> bytes:
    """What a server that is still starting answers in the end."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return urllib.request.urlopen(url).read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_a_student_can_validate_without_the_office(tmp_path):
    """A clone in which nothing was built or graded, and not even course/ is there."""
    clone = copy_checkout(tmp_path, "nbgrader_config.py", "fmlab", "labs")
    folder = clone / "labs" / LAB
    write(folder / "solved.ipynb", submissions.without_figures(submissions.solved(LAB)))
    write(folder / "blank.ipynb", submissions.without_figures(submissions.blank(LAB)))
    assert "Success! Your notebook passes all the tests." in nbgrader(clone, "validate", f"labs/{LAB}/solved.ipynb")
    # The written answers count too: they are empty.
    failing = len(submissions.points(LAB)) + len(submissions.written(LAB))
    said = nbgrader(clone, "validate", f"labs/{LAB}/blank.ipynb")
    assert f"VALIDATION FAILED ON {failing} CELL(S)" in said
    assert not (clone / "grading").exists()
