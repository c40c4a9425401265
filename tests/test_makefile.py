"""`make` installs once, again when the pins change, and recovers from whatever half-made .venv it meets.

The real Makefile runs in a scratch directory with a stand-in for Python that writes down how it was called.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Called as PYTHON it makes a .venv out of copies of itself; called as .venv/bin/python, jupyter or ruff it only logs.
STAND_IN = """#!/bin/sh
case "$*" in
"-c "*) exit ${UNFIT:-0} ;;
"-m pip config list") echo "$PLACES"; exit 0 ;;
esac
echo "$(basename "$0") $*" >> "$LOG"
case "$*" in
"-m venv --clear .venv")
    rm -rf .venv; mkdir -p .venv/bin
    for name in python jupyter ruff mypy; do cp "$0" .venv/bin/$name; done ;;
"-m pip install"*) exit ${PIP_FAILS:-0} ;;
esac
"""

VENV = "fakepython -m venv --clear .venv"
INSTALL = "python -m pip install -c constraints.txt -e .[jupyter,grading,site,dev]"
FOR_LAB = "python -m pip install -c constraints.txt -e .[jupyter]"
QUIET = "jupyter labextension disable --log-level=ERROR @jupyterlab/apputils-extension:announcements"
LINT = ["ruff check", "ruff format --check", "mypy "]
TEST = "python -m pytest tests"
PEERS = "python -m pip install -c constraints.txt -e .[jupyter,grading,site,dev,bench]"
BARE = "python -m pip install -c constraints.txt --no-deps torchcfm pot"
BENCH = "python -m benchmarks ou"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make: install make")


class Checkout:
    def __init__(self, path):
        self.path, self.log = path, path.parent / "log"
        for name in ["Makefile", "pyproject.toml", "constraints.txt"]:
            shutil.copy(ROOT / name, path)
            self.touch(name, seconds=-60)
        self.python = path.parent / "fakepython"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def touch(self, name, seconds=0):
        """Set a file's time to so many seconds from now."""
        file = self.path / name
        time = (self.path / "Makefile").stat().st_ctime + seconds
        os.utime(file, (time, time))

    def make(self, *arguments, expect=0, **variables):
        """Run make; return what was called, in order."""
        outer = {"ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHON"}  # of a `make test` around us
        env = {name: value for name, value in os.environ.items() if name not in outer}
        env |= {"LOG": str(self.log), "PYTHON": str(self.python), "FMLAB_TORCH": "default", "UV": ""} | variables
        self.log.write_text("")
        self.done = subprocess.run(["make", *arguments], cwd=self.path, env=env, capture_output=True, text=True)
        assert (self.done.returncode == 0) == (expect == 0), self.done.stdout + self.done.stderr
        return self.log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path):
    path = tmp_path / "clone"
    path.mkdir()
    return Checkout(path)


def test_first_run_installs_and_second_does_not(checkout):
    assert checkout.make("test", "ARGS=tests") == [VENV, INSTALL, QUIET, TEST]
    assert checkout.make("test", "ARGS=tests") == [TEST]


def test_labs_take_what_they_need_and_open_the_first(checkout):
    made, installed, quiet, lab = checkout.make("lab", "ARGS=--no-browser --port 9999")
    assert (made, installed, quiet) == (VENV, FOR_LAB, QUIET)
    opened = "jupyter lab --notebook-dir=labs --LabApp.default_url=/lab/tree/lab0_welcome/lab0_welcome.ipynb"
    assert lab.replace(" --allow-root", "") == f"{opened} --no-browser --port 9999"
    (lab,) = checkout.make("lab", "DIR=.")
    assert "--notebook-dir=. --LabApp.default_url=/lab/tree/labs/lab0_welcome/lab0_welcome.ipynb" in lab
    assert checkout.make("test", "ARGS=tests") == [INSTALL, QUIET, TEST]  # more, into the same environment
    assert len(checkout.make("lab")) == 1


@pytest.mark.skipif(sys.platform != "linux" or Path("/proc/driver/nvidia").exists(), reason="not Linux without CUDA")
def test_the_small_pytorch_is_taken_unless_pip_knows_another_place(checkout):
    small = "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert small in checkout.make("lab", FMLAB_TORCH="")[1]
    checkout.touch("constraints.txt", seconds=60)
    assert small not in checkout.make("lab", FMLAB_TORCH="", PLACES="global.index-url='https://ours/simple'")[0]


def test_peers_are_installed_for_the_first_measurements_alone(checkout):
    assert checkout.make("bench", "ARGS=ou") == [VENV, PEERS, BARE, QUIET, BENCH]
    assert checkout.make("bench", "ARGS=ou") == [BENCH]
    assert checkout.make("test", "ARGS=tests") == [INSTALL, QUIET, TEST]


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_pins_install_into_the_same_environment(checkout, changed):
    checkout.make("lint")
    checkout.touch(changed, seconds=60)
    assert checkout.make("lint") == [INSTALL, QUIET, *LINT]


@pytest.mark.parametrize("prior", [False, True], ids=["first install", "later install"])
def test_failed_install_leaves_no_stamp_and_the_next_run_starts_afresh(checkout, prior):
    if prior:
        checkout.make("lint")
        checkout.touch("constraints.txt", seconds=60)
    assert checkout.make("lint", PIP_FAILS="1", expect=2)[-1] == INSTALL
    assert not list(checkout.path.glob(".venv/*-*"))
    checkout.touch("constraints.txt", seconds=-60)
    assert checkout.make("lint") == [VENV, INSTALL, QUIET, *LINT]
    assert checkout.make("lint") == LINT


def test_broken_environment_is_made_anew(checkout):
    checkout.make("lint")
    python = checkout.path / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python")  # as when the Python it was made with is removed
    assert checkout.make("lint") == [VENV, INSTALL, QUIET, *LINT]


def test_moved_checkout_is_made_anew(checkout):
    """Scripts in .venv and the editable install name the old place."""
    checkout.make("lint")
    checkout.path = checkout.path.rename(checkout.path.with_name("moved"))
    assert checkout.make("lint") == [VENV, INSTALL, QUIET, *LINT]


def test_unfit_python_is_named(checkout):
    assert checkout.make("lint", UNFIT="1", expect=2) == []
    assert "Python 3.10 to 3.14 with its venv module" in checkout.done.stderr
    assert str(checkout.python) in checkout.done.stderr


def test_help_lists_every_target(checkout):
    checkout.make("help")
    targets = {line.split()[1] for line in checkout.done.stdout.splitlines()}
    makes = {"build", "verify", "handout", "site", "mutants", "grade", "bench", "lint"}
    assert targets == {"help", "lab", "test", "clean"} | makes


def test_uv_is_used_where_it_is_installed(checkout):
    uv = checkout.path.parent / "uv"
    shutil.copy(checkout.python, uv)
    installed = checkout.make("lab", UV=str(uv))[1]
    assert installed == "uv pip install --python .venv/bin/python -c constraints.txt -e .[jupyter]"
