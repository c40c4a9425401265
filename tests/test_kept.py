"""What is kept of the files is what is made of them, and is made anew where one of them has changed."""

import json
import subprocess
import sys

import pytest

from course import jobs, kept
from tests.classroom import copy_checkout, environment

pytestmark = pytest.mark.grading

TELL = """
import json, sys
from course import build, fingerprints, jobs
made = [jobs.full("lab1"), jobs.release("lab1"), fingerprints.fingerprint("lab1_simulation")]
print(json.dumps([made, "jupytext" in sys.modules]))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("checkout"), "nbgrader_config.py", "pyproject.toml", "course", "fmlab")


def told(root, **variables):
    """What is made of a checkout, and whether sources had to be read for it."""
    command, env = [sys.executable, "-c", TELL], environment() | variables
    return json.loads(subprocess.run(command, cwd=root, env=env, capture_output=True, check=True).stdout)


def test_what_is_kept_is_what_was_made(checkout):
    made, read = told(checkout)
    assert read
    assert told(checkout) == [made, False]
    assert made[:2] == [jobs.full("lab1"), jobs.release("lab1")]


@pytest.mark.parametrize("name", ["course/sources/lab1_simulation.py", "course/build.py", "nbgrader_config.py"])
def test_a_file_that_changed_has_all_made_anew(checkout, name):
    told(checkout)
    (checkout / name).write_text((checkout / name).read_text() + "\n# a word\n")
    assert told(checkout)[1]


def test_another_edition_is_another_state(checkout, tmp_path):
    before, _ = told(checkout)
    (tmp_path / "edition.toml").write_text("[lab1.points]\neuler_step = 7\n")
    made, read = told(checkout, FMLAB_EDITION=str(tmp_path / "edition.toml"))
    assert read and made != before


def test_half_a_file_and_no_place_to_write_hurt_nobody(checkout):
    made, _ = told(checkout)
    for path in (checkout / "grading" / "kept").iterdir():
        path.write_text(path.read_text()[:100])
    assert told(checkout) == [made, True]
    for path in (checkout / "grading" / "kept").iterdir():
        path.unlink()
    (checkout / "grading" / "kept").rmdir()
    (checkout / "grading" / "kept").write_text("a file")
    assert told(checkout) == [made, True]


def test_nothing_is_left_half_written(checkout):
    assert not [*(checkout / "grading").rglob("*.part")]
    assert kept.KEPT.name == "kept"
