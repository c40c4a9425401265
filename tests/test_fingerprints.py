"""A submission is graded again where something has changed that its marks depend on, and nowhere else."""

import subprocess
import sys

import pytest

from course import jobs
from tests.classroom import copy_checkout, environment

pytestmark = pytest.mark.grading

CHANGES = {
    "course/exports.py": [],
    "course/report.py": [],
    "course/gradebook.py": [],
    "course/inbox/__init__.py": [],
    "fmlab/checks/submission.py": [],
    "fmlab/exercises/lab2.py": ["lab2_paths"],
    "course/hidden/lab1.py": ["lab1_simulation"],
    "course/sources/lab0_welcome.py": ["lab0_welcome"],
    "fmlab/jumps.py": ["lab9_discrete"],
    "fmlab/checks/compare.py": jobs.labs(),
    "course/judge.py": jobs.labs(),
    "course/repair/match.py": jobs.labs(),
    "course/inner_walls.py": jobs.labs(),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("checkout"), "nbgrader_config.py", "pyproject.toml", "course", "fmlab")


def fingerprints(root) -> dict[str, str]:
    """Of all labs, as another process tells them."""
    code = (
        "from course import jobs\nfrom course.fingerprints import fingerprint\n"
        "for lab in jobs.labs(): print(lab, fingerprint(lab))\nprint('none', fingerprint(None))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment(), text=True, capture_output=True)
    assert said.returncode == 0, said.stderr
    return dict(line.split() for line in said.stdout.splitlines())


@pytest.fixture(scope="module")
def before(checkout):
    return fingerprints(checkout)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_counts_for_those_labs_alone_that_depend_on_it(checkout, before, name):
    file = checkout / name
    kept = file.read_bytes()
    file.write_bytes(kept + b"\n# a word\n")
    try:
        after = fingerprints(checkout)
    finally:
        file.write_bytes(kept)
    assert [lab for lab in jobs.labs() if after[lab] != before[lab]] == CHANGES[name]
    assert (after["none"] != before["none"]) == bool(CHANGES[name])
