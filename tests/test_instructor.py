"""The story of a term in docs/instructor.md: its commands, in their order, by a shell, in a checkout of their own."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from course import build
from tests import submissions
from tests.classroom import write
from tests.git import needs_git
from tests.walls import needs_walls

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_walls, needs_git]

STORY = (build.ROOT / "docs" / "instructor.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", STORY, re.DOTALL) for line in block.splitlines()]
EDITION = re.search(r"```toml\n(.*?)```", STORY, re.DOTALL)[1]
SERVES = ("make lab", "python -m course read")  # until they are stopped
OUTER = ("FMLAB_EDITION", "PYTHONPATH", "ARGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHON")  # of a test run
CLASS = {"Ada Byron": "ada", "Emmy Noether": "emmy", "Sofja Kowalewskaja": "sofja"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout with the edition of the story, a class's hand-ins and its lists."""
    root = tmp_path_factory.mktemp("checkout")
    for name in subprocess.run(["git", "ls-files"], cwd=build.ROOT, capture_output=True, text=True).stdout.splitlines():
        if (build.ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(build.ROOT / name, root / name)
    (root / "edition.toml").write_text(EDITION)
    for command in ("init", "-q"), ("add", "--all"):
        subprocess.run(["git", *command], cwd=root, check=True)
    _hand_in(root)
    return root


def _hand_in(root: Path) -> None:
    lab = "lab1_simulation"
    with zipfile.ZipFile(root / "inbox.zip", "w") as inbox:
        for k, (name, _) in enumerate(list(CLASS.items())[:2]):
            nb = submissions.solved(lab) if k == 0 else submissions.blank(lab)
            write(root / "one.ipynb", nb)
            inbox.write(root / "one.ipynb", f"{name}_{70 + k}_assignsubmission_file_/lab1.ipynb")
    with open(root / "class.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade"])
        rows.writerows([f"Participant {70 + k}", name, f"{name[:3]}@x.org", "", "", 40] for k, name in enumerate(CLASS))
    with open(root / "canvas.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lab 1 (40)"])
        for k, (name, login) in enumerate(CLASS.items()):
            rows.writerow([", ".join(reversed(name.split())), 1000 + k, "", login, "T1", ""])


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    """As in a terminal in which the environment is active; make, too, takes it as it is."""
    bin = Path(sys.executable).parent
    own = {"PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "MAKEFLAGS": f"BIN={bin} LAB= GRADE=", "BROWSER": "true"}
    env = os.environ | own
    return {name: value for name, value in env.items() if name not in OUTER}


def _serve(command: str, root: Path, env: dict[str, str]) -> str:
    """Start what serves pages, look at the first, and stop it as Ctrl-C does. Returns what it said."""
    log = root / "served"
    with open(log, "w") as out:
        server = subprocess.Popen(
            ["bash", "-c", command], cwd=root, env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"http://(?:127.0.0.1|localhost):\d+\S*", log.read_text())):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        with urllib.request.urlopen(found[0], timeout=60) as page:
            assert page.status == 200
    finally:
        os.killpg(server.pid, signal.SIGINT)  # Ctrl-C, of which Jupyter wants to be sure
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
    return log.read_text()


def test_the_story_has_commands():
    assert len(COMMANDS) >= 10 and all(command.startswith(("make ", "python -m course ")) for command in COMMANDS)
    assert len(STORY.splitlines()) < 140  # a page


def test_every_command_of_the_story_runs_as_it_stands(checkout, env):
    for command in COMMANDS:
        if command.startswith(SERVES):
            _serve(command, checkout, env)
            continue
        done = subprocess.run(["bash", "-c", command], cwd=checkout, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    _what_the_story_promises(checkout)


def _what_the_story_promises(root: Path) -> None:
    """Each file that it names is there, and says what it should."""
    names = [name for name in re.findall(r"`((?:grading|build)/[\w./-]+)`", STORY)]
    assert len(names) >= 7
    for name in names:
        path = root / name
        assert path.is_file() or any(path.iterdir()), name
    with open(root / "grading" / "lab1_simulation.csv", encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {*rows} == {*CLASS}
    assert rows["Ada Byron"]["euler_step"] == "3" and "convergence_order" not in rows["Ada Byron"]
    assert rows["Emmy Noether"]["euler_step"] == "0" and rows["Sofja Kowalewskaja"]["euler_step"] == ""
    exported = {path.name for path in (root / "grading" / "export").rglob("*")}
    assert {"lab1_simulation.feedback.moodle.zip", "lab1_simulation.csv"} <= exported, exported
    assert {path.name for path in (root / "labs").iterdir() if path.is_dir()} == {"lab0_welcome", "lab1_simulation"}
