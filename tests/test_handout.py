"""What students get in a zip: all they need, nothing they must not have, and it works where nothing is installed."""

import io
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from course import build, handout
from fmlab import notebooks
from fmlab.__main__ import main
from tests.test_build import code, lines, long

LABS = [path.stem for path in build.sources()]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("handout") / "fmlab-labs.zip"
    handout.write(build.sources(), path)
    return path


def contents(archive: Path) -> dict[str, bytes]:
    """What is in a zip and in the wheels in it."""
    with zipfile.ZipFile(archive) as opened:
        found = {name: opened.read(name) for name in opened.namelist()}
    for name in [name for name in found if name.endswith(".whl")]:
        found |= {f"{name}/{inside}": data for inside, data in contents(io.BytesIO(found[name])).items()}
    return found


def test_a_zip_holds_the_labs_the_library_and_what_sets_them_up(archive):
    with zipfile.ZipFile(archive) as opened:
        names = {name.removeprefix("fmlab-labs/") for name in opened.namelist()}
    labs = {f"labs/{lab}/{lab}.ipynb" for lab in LABS} | {f"labs/{page.name}" for page in build.ROOT.glob("labs/*.md")}
    (wheel,) = [name for name in names if name.endswith(".whl")]
    assert names == {"README.md", "start.py", "constraints.txt", wheel} | labs


def test_a_zip_holds_no_line_of_a_solution_or_a_hidden_test(archive):
    found = contents(archive)
    assert not [name for name in found if any(word in name for word in ("solution", "hidden", "sources", "course/"))]
    hidden = [path.read_text(encoding="utf-8") for path in (build.ROOT / "course" / "hidden").glob("*.py")]
    secret = {line.encode() for line in long(lines("\n".join(hidden))) if not line.startswith(("import", "from"))}
    assert len(secret) > 100
    for name, data in found.items():
        assert not [line for line in data.splitlines() if line.strip() in secret], name
    for lab in LABS:
        solved = build.read(*build.sources([lab]))
        assert found[f"fmlab-labs/labs/{lab}/{lab}.ipynb"] == build.as_bytes(build.release(solved))
        assert "BEGIN HIDDEN" not in code(build.release(solved))


def test_a_zip_of_some_labs_has_these_alone(tmp_path):
    handout.write(build.sources(["lab0", "lab2"]), tmp_path / "two.zip")
    found = {Path(name).stem for name in contents(tmp_path / "two.zip") if name.endswith(".ipynb")}
    assert found == {"lab0_welcome", "lab2_paths"}


def test_the_same_labs_make_the_same_bytes(archive, tmp_path):
    handout.write(build.sources(), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_labs_are_copied_and_never_over_a_students_work(tmp_path, capsys):
    mine = tmp_path / "work" / "lab1_simulation" / "lab1_simulation.ipynb"
    mine.parent.mkdir(parents=True)
    mine.write_text("what I have done")
    for _ in range(2):
        assert main(["labs", str(tmp_path / "work")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert (
        "lab1_simulation/lab1_simulation.ipynb: yours is kept; to begin it anew, rename yours and run this again"
        in said
    )
    assert "lab0_welcome/lab0_welcome.ipynb: copied" in said and "lab0_welcome/lab0_welcome.ipynb: is there" in said
    assert mine.read_text() == "what I have done"
    copied = {
        path.relative_to(tmp_path / "work").as_posix() for path in (tmp_path / "work").rglob("*") if path.is_file()
    }
    assert copied == {f"{lab}/{lab}.ipynb" for lab in LABS} | {page.name for page in build.ROOT.glob("labs/*.md")}


def test_a_library_without_labs_says_where_there_are_some(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "HERE", tmp_path / "fmlab")
    assert main(["labs", str(tmp_path / "work")]) == 1
    assert "came without the labs' notebooks; install it from its wheel" in capsys.readouterr().err


@pytest.mark.slow
def test_unpacked_where_nothing_is_installed_one_command_sets_up_and_a_lab_runs(archive, tmp_path):
    """As on a student's machine: an interpreter alone, which makes its own environment."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    home = tmp_path / "fmlab-labs"
    bare = tmp_path / "bare"
    venv.create(bare)
    interpreter = bare / "bin" / "python"

    # where packages come from a folder, the small PyTorch is there, too
    env = os.environ | ({"FMLAB_TORCH": "default"} if "PIP_FIND_LINKS" in os.environ else {})

    def start() -> str:
        command = [interpreter, "start.py", "--install-only"]
        done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Setting up" in start()
    assert start() == ""  # the second time there is nothing to do
    python = home / ".venv" / "bin" / "python"
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "nbgrader" not in listed and "fmlab" in listed
    told = subprocess.run(
        [python, "-m", "fmlab", "submission", "labs/lab0_welcome/lab0_welcome.ipynb"],
        cwd=home, capture_output=True, text=True,
    )  # fmt: skip
    assert "draw_noise" in told.stdout and "0 of 3 points" in told.stdout, told.stdout + told.stderr
    assert sys.executable != str(python)
