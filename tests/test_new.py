"""`python -m course new`: an exercise is begun so that it lints, loads, and says what is missing; then it is written as
CONTRIBUTING shows it, and passes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course import build, new

ROOT = build.ROOT
KEPT = ("course", "fmlab", "pyproject.toml", "nbgrader_config.py")
NAME = "recover_noise"  # the exercise in CONTRIBUTING
PARTS = ("fmlab/exercises/{}.py", "course/hidden/{}.py", "tests/wrong_answers/{}.py", "tests/right_answers/{}.py")


@pytest.fixture
def checkout(tmp_path):
    """A copy of the checkout with lab 0 alone, and with lab 98, which is a title and its imports."""
    leave = shutil.ignore_patterns("__pycache__", *(path.name for path in build.sources()[1:]))
    for name in (*KEPT, "tests"):
        place = ROOT / name
        shutil.copytree(place, tmp_path / name, ignore=leave) if place.is_dir() else shutil.copy(place, tmp_path)
    (tmp_path / "course/sources/lab98_example.py").write_text(SOURCE)
    return tmp_path


SOURCE = """\
# %% [markdown]
# # Lab 98
#
# $t = 0$ is noise.

# %%
import torch

from fmlab import plots
from fmlab.checks import lab98
from fmlab.schedules import CondOT

_ = torch.manual_seed(0), CondOT(), lab98, plots
"""


def run(root: Path, *command, status: int = 0) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def files(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.rglob("*.py"))}


def lint(root: Path, *names: str) -> None:
    """The files pass, in the settings of the checkout."""
    run(root, "ruff", "check", "--no-cache", *names)
    run(root, "ruff", "format", "--no-cache", "--force-exclude", "--check", *names)


@pytest.mark.parametrize("lab", ["lab0", "lab98"])
@pytest.mark.parametrize("name", ["wander", "a" * 56])
def test_an_exercise_is_begun_in_four_files_and_the_notebook(checkout, lab, name):
    """In a lab that has exercises and in one that has none: files that there are not are made."""
    other = "lab98" if lab == "lab0" else "lab0"
    new.begin(other, "wander", checkout)
    before = files(checkout)
    (source,) = build.sources([lab], checkout)
    parts = [part.format(lab) for part in PARTS] + [source.relative_to(checkout).as_posix()]
    added = new.begin(lab, name, checkout)
    assert {path.relative_to(checkout).as_posix() for path in added} == set(parts)
    after = files(checkout)
    assert {path for path in after if after[path] != before.get(path)} == set(parts)
    for part in parts:  # nothing that stood there is gone
        kept = iter(after[part].splitlines())
        assert all(line in kept or line.replace("= {}", "= {") in kept for line in before.get(part, "").splitlines()), (
            part
        )
        assert name in after[part]
    lint(checkout, *parts)


def test_a_new_exercise_can_be_imported_and_read(checkout):
    new.begin("lab0", "wander", checkout)
    program = (
        "from fmlab.checks import lab0\n"
        "from course import build, hidden\n"
        "from tests.labs import right, solutions, source, wrong\n"
        "print(repr(lab0.wander), hidden.inputs(lab0.wander), wrong('lab0')['wander'], right('lab0')['wander'])\n"
        "print(list(solutions(source('lab0'))))\n"
        "print([cell.source for cell in build.release(build.read(source('lab0'))).cells][-3])\n"
    )
    (checkout / "program.py").write_text(program)
    assert run(checkout, "program").splitlines() == [
        "lab0.wander [] {} []",
        "['draw_noise', 'interpolate', 'wander']",
        "lab0.wander(wander)",
    ]


def test_the_builder_says_what_is_missing(checkout):
    said = run(checkout, "course", "new", "lab0", "wander")
    assert re.search(r"(?m)^fmlab/exercises/lab0\.py: \d+ times TODO$", said)
    assert said.endswith("python -m course build lab0\n")
    said = run(checkout, "course", "build", "lab0", status=1).splitlines()
    assert all(line.startswith("lab0_welcome.py, ") for line in said)
    assert [line.split(": ")[0] for line in said] == [
        "lab0_welcome.py, cell 34 (lab0_welcome-033) is not written yet",
        "lab0_welcome.py, cell 35 (wander-answer) is not written yet",
        "lab0_welcome.py, cell 37 (lab0_welcome-036) is not written yet",
        "lab0_welcome.py, cell 38 (lab0_welcome-037) is not written yet",
        "lab0_welcome.py, the exercise 'wander' is not written yet",
        "lab0_welcome.py, the exercise 'wander' has no inputs in course/hidden/lab0.py",
    ]
    assert "and has no visible inputs" in said[-2]
    assert not (checkout / "labs").exists()


@pytest.mark.parametrize(
    ("lab", "name", "words"),
    [
        ("lab0", "interpolate", "'interpolate' stands in fmlab/exercises/lab0.py already"),
        ("lab0", "independent_noise", "'independent_noise' stands in fmlab/exercises/lab0.py already"),
        ("lab0", "torch", "'torch' stands in fmlab/exercises/lab0.py already"),
        ("lab0", "velocity_of_a_point", "'velocity_of_a_point' stands in course/sources/lab0_welcome.py already"),
        ("lab0", "noise_of", "'noise_of' stands in course/sources/lab0_welcome.py already"),
        ("lab0", "box_muller", "'box_muller' stands in tests/right_answers/lab0.py already"),
        ("lab0", "hint", r"every lab has already, as in lab1\.hint\(\)"),
        ("lab0", "points", "every lab has already"),
        ("lab0", "two words", "'two words' is no name"),
        ("lab0", "Walk", "'Walk' is no name"),
        ("lab0", "a" * 57, "is no name"),
        ("lab0", "lambda", "'lambda' is no name"),
        ("lab99", "wander", "no lab 'lab99'; there are: lab0_welcome, lab98_example"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused_and_nothing_written(checkout, lab, name, words):
    before = files(checkout)
    with pytest.raises(build.BuildError, match=words):
        new.begin(lab, name, checkout)
    assert files(checkout) == before


def test_an_exercise_is_not_begun_twice(checkout):
    new.begin("lab0", "wander", checkout)
    before = files(checkout)
    with pytest.raises(build.BuildError, match=r"'wander' stands in .* already; take another name"):
        new.begin("lab0", "wander", checkout)
    assert files(checkout) == before


def test_no_exercise_was_begun_and_left():
    """Beside the builder, which looks at notebooks and cards: nothing is left to do in their tests and inputs."""
    paths = [path for part in PARTS for path in ROOT.glob(part.format("lab*"))]
    assert len(paths) >= 4
    assert [str(path) for path in paths if "TODO" in path.read_text(encoding="utf-8")] == []


# --- the exercise in CONTRIBUTING -------------------------------------------------------------------------------------

# What stands in lab 2 above the places where it belongs.
IMPORTS = {
    "card": """\
import torch

from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Bent, states, times
from fmlab.checks.lab import Lab
from fmlab.paths import GaussianPath
from fmlab.schedules import CondOT, Cosine

lab = Lab("lab98")


""",
    "hidden": """\
import torch

from fmlab.checks.inputs import Powers, times
from fmlab.schedules import CondOT, Cosine

""",
    "right": "from fmlab.schedules import coefficient\n\n",
}


def blocks() -> dict[str, str]:
    """The Python in the first section of CONTRIBUTING."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## ")[1]
    found = re.findall(r"(?s)( *)```python\n(.*?)\n *```", section)
    code = ["".join(f"{line.removeprefix(indent)}\n" for line in block.split("\n")) for indent, block in found]
    return dict(zip(("cells", "card", "hidden", "wrong", "right"), code, strict=True))


def test_the_worked_exercise_is_for_lab_2_and_not_in_it():
    shown = blocks()
    (source,) = build.sources(["lab2"])
    assert f'# %% check="{NAME}" points=' in shown["cells"] and f'lab2.answer_or("{NAME}")' in shown["cells"]
    assert NAME not in source.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_worked_exercise_works(checkout):
    """It passes the linter, the builder and its tests, and `make mutants` finds what is said there and no more."""
    for path in [*checkout.glob("course/sources/lab0*.py"), *checkout.glob("fmlab/exercises/lab*.py")]:
        path.unlink()
    shown = {part: code.replace("lab2", "lab98") for part, code in blocks().items()}
    shown["wrong"], shown["right"] = (f"{part.upper()} = {{\n{shown[part]}}}\n" for part in ("wrong", "right"))
    written = {"course/sources/lab98_example.py": f"{SOURCE}\n{shown['cells']}"}
    for place, part in zip(PARTS, ("card", "hidden", "wrong", "right"), strict=True):
        written[place.format("lab98")] = f'"""Lab 98."""\n\n{IMPORTS.get(part, "")}{shown[part]}'
    for name, text in written.items():
        (checkout / name).write_text(text)
    lint(checkout, *written)
    assert "ran in" in run(checkout, "course", "build", "lab98")
    run(checkout, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_exercises.py", "tests/test_answers.py")
    accepted = re.findall("accepted: .* → (.*)", run(checkout, "tests.mutants", "lab98", status=1))
    assert accepted == ["alpha, beta, _, _ = schedule.weights(t, z)"]
