"""The builder: what it makes of the real labs, what it refuses, and when it runs a solution again."""

import base64
import io
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from nbgrader.preprocessors import CheckCellMetadata
from PIL import Image

from course import build
from course.__main__ import main

SOURCES = build.sources()
each_lab = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def code(nb) -> str:
    return "\n".join(cell.source for cell in nb.cells)


REGION = r"(?s)### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)### END \1"


def lines(text: str) -> Counter:
    """The lines of a source or a notebook, without indentation and the comment signs of Markdown cells."""
    return Counter(line.removeprefix("# ").strip() for line in text.split("\n") if line.strip(" #"))


def long(counted: Counter) -> list[str]:
    """Lines too long to be written twice by chance."""
    return [line for line in counted if len(re.sub(r"\W", "", line)) >= 25]


# --- the real labs ----------------------------------------------------------------------------------------------------


def test_there_are_labs():
    assert SOURCES


@each_lab
def test_labs_and_solutions_are_what_a_build_makes(source):
    assert list(build.verify(source, run_solution=False)) == []


def test_every_notebook_has_a_source():
    assert build.orphans() == []


@each_lab
def test_two_builds_are_identical(source, tmp_path):
    for root in (tmp_path / "one", tmp_path / "two"):
        build.write_release(build.read(source), source.stem, root)
    for folder in ("labs", "grading/source"):
        one, two = (build.notebook_path(folder, source.stem, tmp_path / name).read_bytes() for name in ("one", "two"))
        assert one == two


@each_lab
def test_labs_contain_no_solution(source):
    text = source.read_text(encoding="utf-8")
    solution = lines("\n".join(region for what, region in re.findall(REGION, text) if what == "SOLUTION"))
    elsewhere, released = lines(re.sub(REGION, "", text)), code(build.release(build.read(source)))
    assert len(solution) >= 5 and solution <= lines(code(build.solve(build.read(source))))
    # A line such as `return x` may stand elsewhere too, but not once more than it was written there.
    assert {line for line in solution if lines(released)[line] > elsewhere[line]} == set()
    assert [line for line in long(solution) if line in released] == []


@each_lab
def test_labs_and_solutions_contain_no_hidden_test(source):
    hidden = [path.read_text(encoding="utf-8") for path in (build.ROOT / "course" / "hidden").glob("*.py")]
    secret = [line for line in long(lines("\n".join(hidden))) if not re.match("import|from", line)]
    assert len(secret) > 10
    full = build.read(source)
    for nb in (build.release(full), build.solve(full)):
        assert not re.search("HIDDEN|course.hidden|hidden[.]", nbformat.writes(nb))
        assert [line for line in secret if line in code(nb)] == []


@each_lab
def test_cells_have_unique_ids_that_say_what_they_are(source):
    full = build.read(source)
    ids = [cell.id for cell in full.cells]
    assert len(set(ids)) == len(ids)
    for number, cell in enumerate(full.cells, start=1):
        graded = cell.metadata.get("nbgrader")
        assert cell.id == (graded.grade_id if graded else f"{source.stem}-{number:03d}")
    for nb in (build.read(source), build.release(full), build.solve(full)):
        assert [cell.id for cell in nb.cells] == ids


@each_lab
def test_notebooks_are_valid(source):
    full = build.read(source)
    for nb in (full, build.release(full), build.solve(full)):
        nbformat.validate(nb)
        CheckCellMetadata().preprocess(nb, {})
        assert nb.metadata == build.METADATA


def hasty(nb):
    """The notebook with training cut short: it draws worse pictures, but repeatable ones. nbval runs it whole."""
    cut = """
import fmlab.training

def train(model, loss, steps=3000, *options, whole=fmlab.training.train, **more):
    return whole(model, loss, min(steps, 100), *options, **more)

fmlab.training.train = train
"""
    return nbformat.from_dict({**nb, "cells": [new_code_cell(cut.strip()), *nb.cells]})


@pytest.mark.slow
@each_lab
def test_a_blank_lab_runs_to_its_end_and_each_check_names_its_exercise(source, tmp_path):
    nb = hasty(build.release(build.read(source)))
    NotebookClient(nb, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = {cell.id: [out for out in cell.get("outputs", []) if out.output_type == "error"] for cell in nb.cells}
    checks = [cell.id for cell in nb.cells if cell.metadata.get("nbgrader", {}).get("locked")]
    assert [name for name, errors in said.items() if errors] == checks
    for name in checks:
        assert name in said[name][0].evalue


@pytest.mark.slow
@each_lab
def test_a_solution_runs_cleanly_and_draws_the_same_again(source, tmp_path):
    solved = hasty(build.solve(build.read(source)))
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        one, two = pool.map(build.execute, [solved, solved], [tmp_path, tmp_path])
    for first, second in zip(one.cells, two.cells, strict=True):
        assert first == second


# --- the command line, in a copy of the checkout ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A git repository with the files of this one, but two labs alone, built and committed."""
    root = tmp_path_factory.mktemp("checkout")
    others = {name for path in SOURCES[2:] for name in (path.name, path.stem)}
    for name in ("course", "fmlab", "labs", "solutions"):
        leave = shutil.ignore_patterns("__pycache__", ".ipynb_*", *others)
        shutil.copytree(build.ROOT / name, root / name, ignore=leave)
    for name in ("nbgrader_config.py", ".gitignore", ".gitattributes"):
        shutil.copy(build.ROOT / name, root)
    course(root, "build")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "built")
    return root


def git(root, *args) -> str:
    return subprocess.run(["git", *args], cwd=root, check=True, text=True, capture_output=True).stdout


def course(root, *args, status=0) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "course", *args]
    done = subprocess.run(command, cwd=root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.mark.slow
def test_a_second_build_changes_nothing(checkout):
    said = course(checkout, "build")
    assert "written" not in said and "ran in" not in said
    assert git(checkout, "status", "--porcelain") == ""
    assert course(checkout, "verify", "--no-execute") == ""


@pytest.mark.slow
def test_verify_names_the_file_and_the_cell(checkout):
    lab = SOURCES[0].stem
    labs, solutions = (build.notebook_path(folder, lab, checkout) for folder in ("labs", "solutions"))
    stray = checkout / "solutions" / "old" / "old.ipynb"
    try:
        edit(labs, 2, execution_count=1)  # saved after a run
        edit(solutions, 4, source="# changed")
        stray.parent.mkdir()
        stray.write_text("")
        said = course(checkout, "verify", "--no-execute", lab.split("_")[0], status=1)
        assert f"labs/{lab}/{lab}.ipynb: cell 2 (" in said
        assert f"solutions/{lab}/{lab}.ipynb: cell 4 (" in said
        assert "solutions/old/old.ipynb: has no source" in said
    finally:
        git(checkout, "checkout", "--quiet", ".")
        shutil.rmtree(stray.parent)


def edit(path: Path, number: int, **changes) -> None:
    nb = nbformat.read(path, as_version=4)
    nb.cells[number - 1].update(changes)
    nbformat.write(nb, path)


def test_verify_sees_every_byte_of_labs(tmp_path):
    source = toy(tmp_path)
    build.write_release(build.read(source), "lab1_toy", tmp_path)
    build.write_solution(build.read(source), "lab1_toy", tmp_path)
    path = build.notebook_path("labs", "lab1_toy", tmp_path)

    def problems():
        return list(build.verify(source, tmp_path, run_solution=False))

    assert problems() == []
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert problems() == ["labs/lab1_toy/lab1_toy.ipynb: is not, byte for byte, what a build writes"]
    path.write_text("{")
    assert problems()[0].startswith("labs/lab1_toy/lab1_toy.ipynb: is not a notebook")
    path.unlink()
    assert problems() == ["labs/lab1_toy/lab1_toy.ipynb: is missing"]


def test_an_unknown_lab_is_named_with_those_there_are(capsys):
    assert main(["build", "lab99"]) == 1
    assert "no lab 'lab99'; there are: " + SOURCES[0].stem in capsys.readouterr().err


# --- a small source of its own ----------------------------------------------------------------------------------------

TOY = """\
# %% [markdown]
# # Doubling
# %% exercise="double"
def double(x):
    ### BEGIN SOLUTION
    return x + x
    ### END SOLUTION
# %% check="double" points=2.5
assert double(2) == 4
### BEGIN HIDDEN TESTS
assert double(3) == 6
### END HIDDEN TESTS
# %% [markdown] answer="why" points=3
# ### BEGIN SOLUTION
# Because.
# ### END SOLUTION
"""


def toy(folder: Path, text: str = TOY) -> Path:
    """A checkout with this source for its only lab."""
    path = folder / "course" / "sources" / "lab1_toy.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "fmlab").mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_one_line_becomes_nbgraders_metadata(tmp_path):
    full = build.read(toy(tmp_path))
    kinds = {"schema_version": 3, "task": False}
    title, exercise, check, answer = full.cells
    assert title.metadata == {}
    assert exercise.metadata == {
        "nbgrader": {**kinds, "grade_id": "double-answer", "grade": False, "solution": True, "locked": False}
    }
    assert check.metadata == {
        "nbgrader": {**kinds, "grade_id": "double", "grade": True, "solution": False, "locked": True, "points": 2.5},
        "tags": ["raises-exception"],
    }
    assert answer.metadata == {
        "nbgrader": {**kinds, "grade_id": "why", "grade": True, "solution": True, "locked": False, "points": 3}
    }


def test_what_students_receive_and_what_they_may_read_later(tmp_path):
    full = build.read(toy(tmp_path))
    assert [cell.source for cell in build.release(full).cells] == [
        "# Doubling",
        "def double(x):\n    raise NotImplementedError  # your code here",
        "assert double(2) == 4",
        "*Write your answer here.*",
    ]
    solved = build.solve(full)
    assert [cell.source for cell in solved.cells] == [
        "# Doubling",
        "def double(x):\n    return x + x",
        "assert double(2) == 4",
        "Because.",
    ]
    assert all(cell.metadata == {} for cell in solved.cells)


EXERCISE, CHECK = ("# %%" + cell for cell in TOY.split("# %%")[2:4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EXERCISE + EXERCISE + CHECK, "cell 2 .*: the name 'double' is taken"),
        (EXERCISE + CHECK + CHECK, "cell 3 .*: the name 'double' is taken"),
        (TOY.replace("why", "double"), "cell 4 .*: the name 'double' is taken"),
        (CHECK, "cell 1 .*: the check 'double' has no exercise above it"),
        (CHECK + EXERCISE, "cell 1 .*: the check 'double' has no exercise above it"),
        (EXERCISE, "the exercise 'double' has no check"),
        (TOY.replace(" points=2.5", ""), "the check 'double' says no points"),
        (TOY.replace(" points=3", ""), "the answer 'why' says no points"),
        (TOY.replace("points=2.5", 'points="2"'), "points='2'; points are a number above 0"),
        (TOY.replace("points=2.5", "points=0"), "points=0; points are a number above 0"),
        (TOY.replace('"double"\n', '"double" points=1\n', 1), "points=1 belong to a check or a written answer"),
        (TOY.replace("points=3", "points=3 color='red'"), "cell 4 .*: unknown metadata: "),
        (TOY.replace("points=2.5", "point=2.5"), "cell 3 .*: unknown metadata: point=2.5"),
        (TOY.replace('exercise="double"', "exercise=double"), "unknown metadata: .*exercise=double"),
        (TOY.replace('exercise="double"', "exercice double"), "unknown metadata: title='exercice double'"),
        (TOY.replace('exercise="double"', 'exercise="double" check="double"'), "is both exercise and check"),
        (TOY.replace('exercise="double"', 'exercise="do-uble"'), "exercise='do-uble' is not a name"),
        (TOY.replace("### BEGIN SOLUTION\n    ", "").replace("    ### END SOLUTION\n", ""), "has no region BEGIN SOL"),
        (TOY.replace("    ### END SOLUTION\n", ""), "BEGIN SOLUTION and END SOLUTION do not pair up"),
        (TOY.replace("### END HIDDEN TESTS\n", ""), "BEGIN HIDDEN TESTS and END HIDDEN TESTS do not pair up"),
        (TOY.replace("HIDDEN TESTS", "SOLUTION"), "a region SOLUTION has no place in the check 'double'"),
        (EXERCISE.replace(' exercise="double"', ""), "a region SOLUTION has no place in a plain cell"),
        (TOY.replace("[markdown] answer", "answer"), "the answer 'why' must be a markdown cell"),
        (TOY.replace('exercise="double"', '[markdown] exercise="double"'), "the exercise 'double' must be a code cell"),
        ("# %% [raw]\n# x", "is a raw cell"),
        (TOY + "# %%\n\n", "cell 5 .*: is empty"),
    ],
)
def test_a_faulty_source_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(build.BuildError, match=message) as caught:
        build.read(toy(tmp_path, text))
    assert str(caught.value).startswith("lab1_toy.py, ")


def test_all_faults_are_named_at_once(tmp_path):
    with pytest.raises(build.BuildError, match=r"(?s)cell 3 .*no points.*\n.*cell 4 .*no points"):
        build.read(toy(tmp_path, re.sub(r" points=\S+", "", TOY)))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", r"(?s)cell 5 \(lab1_toy-005\) failed when run.*ZeroDivisionError"),
        ("import warnings; warnings.warn('old')", r"(?s)cell 5 \(lab1_toy-005\) writes to stderr:.*UserWarning: old"),
        ("import os; os._exit(1)", r"cell 5 \(lab1_toy-005\) failed when run\nKernel died"),
        ("import ipywidgets; ipywidgets.Output()", "an Output widget"),
    ],
)
def test_a_solution_that_fails_or_warns_is_refused(tmp_path, cell, message):
    source = toy(tmp_path, TOY + f"# %%\n{cell}\n")
    problems = list(build.verify(source, tmp_path))
    assert len(problems) == 3  # neither notebook is there yet
    assert problems[-1].startswith("solutions/lab1_toy/lab1_toy.ipynb: ") and re.search(message, problems[-1])
    with pytest.raises(build.BuildError, match=message):
        build.build(source, tmp_path)
    assert not build.notebook_path("solutions", "lab1_toy", tmp_path).exists()


def test_a_wrong_solution_is_refused_although_checks_may_raise_in_labs(tmp_path):
    source = toy(tmp_path, TOY.replace("x + x", "x"))
    with pytest.raises(build.BuildError, match=r"(?s)cell 3 \(double\) failed when run.*AssertionError"):
        build.build(source, tmp_path)


def outputs(tmp_path, cell):
    nb = build.solve(build.read(toy(tmp_path, TOY + f"# %%\n{cell}\n")))
    executed = build.execute(nb, tmp_path)
    assert "widgets" not in executed.metadata and executed.metadata == build.METADATA
    return [dict(output.get("data", {"text": output.get("text")})) for output in executed.cells[-1].outputs]


def test_outputs_keep_nothing_of_the_run(tmp_path, monkeypatch):
    """Addresses and widgets go, and figures are drawn whatever the caller's backend; of a widget the picture stays,
    with its text alternative below."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    shown = outputs(
        tmp_path,
        "import ipywidgets\n"
        "import matplotlib.pyplot as plt\n"
        "class Picture(ipywidgets.VBox):\n"
        "    def _repr_mimebundle_(self, **kwargs):\n"
        f"        picture = {{'image/png': {PIXEL!r}}}\n"
        "        return super()._repr_mimebundle_(**kwargs) | picture, {'image/png': {'alt': 'a < b'}}\n"
        "display(ipywidgets.IntSlider())\n"
        "display(Picture())\n"
        "print(object())\n"
        "display(NotImplemented.__repr__)\n"
        "_ = plt.plot([0, 1])",
    )
    pngs = [base64.b64decode(data.pop("image/png")) for data in shown if "image/png" in data]
    pictures = [Image.open(io.BytesIO(png)) for png in pngs]
    assert [picture.mode for picture in pictures] == ["P", "P"]  # 256 colours: small files
    assert pictures[0].size == (1, 1)
    words = "(a widget: run this cell to use it)"
    assert shown == [
        {"text/plain": words},
        {"text/plain": words},
        {"text/html": "<details><summary>In words</summary>a &lt; b</details>", "text/plain": "a < b"},
        {"text": "<object object>\n"},
        {"text/plain": "<method-wrapper '__repr__' of NotImplementedType object>"},
        {"text/plain": "<Figure size 640x480 with 1 Axes>"},
    ]


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="


def test_a_solution_runs_where_students_work_and_again_only_when_something_changed(tmp_path):
    source = toy(tmp_path, TOY + "# %%\nimport os, time\nprint(os.getcwd(), time.time())\n")
    path = build.notebook_path("solutions", "lab1_toy", tmp_path)

    def built(**kwargs) -> str:
        build.build(source, tmp_path, **kwargs)
        return nbformat.read(path, as_version=4).cells[-1].outputs[0].text

    first = built()
    assert first.startswith(str(tmp_path / "labs" / "lab1_toy"))
    assert built() == first
    forced = built(force=True)
    assert forced != first
    (tmp_path / "fmlab" / "deep").mkdir()
    (tmp_path / "fmlab" / "deep" / "new.py").write_text("x = 1\n")
    with_library = built()
    assert with_library != forced
    assert built() == with_library
    edit(path, 1, source="# Changed by hand")
    with_text = built()
    assert with_text != with_library
    # Brought in line by hand on both sides: the outputs are still those of other cells.
    source.write_text(source.read_text().replace("Doubling", "Twice"))
    edit(path, 1, source="# Twice")
    assert built() != with_text
    assert list(build.verify(source, tmp_path)) == []
