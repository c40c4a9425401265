"""The builder: what it makes of the real labs, what it refuses, and when it runs a solution again."""

import ast
import base64
import io
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbgrader.preprocessors import CheckCellMetadata
from PIL import Image

from course import build, vouch
from course.__main__ import main
from course.hosted import is_install
from course.judge import judge
from fmlab.checks import lab as labs
from fmlab.checks.verdict import MIME
from tests import submissions
from tests.browser import CHROMIUM
from tests.git import git, needs_git
from tests.test_browser_labs import LABS

SOURCES = build.sources()
each_lab = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def code(nb) -> str:
    return "\n".join(cell.source for cell in nb.cells)


REGION = r"(?s)### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)### END \1"
CHECK = "lab0.interpolate(interpolate)"


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
    full = build.read(source)
    solution = lines("\n".join(region for what, region in re.findall(REGION, code(full)) if what == "SOLUTION"))
    elsewhere, released = lines(re.sub(REGION, "", code(full))), code(build.release(full))
    assert len(solution) >= 5 and solution <= lines(code(build.solve(full)))
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
        assert not re.search("HIDDEN|course.hidden|import hidden|hidden[.]", nbformat.writes(nb))
        assert [line for line in secret if line in code(nb)] == []


@each_lab
def test_a_check_is_one_call_and_the_hidden_inputs_in_the_full_notebook_alone(source):
    full, lab = build.read(source), source.stem.split("_")[0]
    checks = [cell for cell in full.cells if build.is_check(cell)]
    assert checks
    for cell, released in zip(checks, filter(build.is_check, build.release(full).cells), strict=True):
        name = cell.metadata.nbgrader.grade_id
        assert released.source == f"{lab}.{name}({name})"
        region = f"from course import hidden\nhidden.check({lab}.{name}, {name})"
        assert cell.source == f"{released.source}\n### BEGIN HIDDEN TESTS\n{region}\n### END HIDDEN TESTS"


@each_lab
def test_numbers_in_texts_are_written_by_the_builder(source):
    """Each exercise and question has its points in one heading, and no text counts exercises by hand."""
    text = source.read_text(encoding="utf-8")
    assert re.findall(r"(?i)\b(?:exercises?|questions?) \d+", re.sub(r"\n(# )?", " ", text)) == []
    headings = re.findall(r"(?m)^# #+ .*\{exercise:\w+\}.*\{points:([\w,]+)\} points", text)
    graded = [cell.metadata.nbgrader for cell in build.read(source).cells if "nbgrader" in cell.metadata]
    named = [name for names in headings for name in names.split(",")]
    assert named == [grading.grade_id for grading in graded if grading.grade]


@each_lab
def test_a_lab_lacks_nothing(source):
    assert list(build.missing(build.read(source), source.stem)) == []


@each_lab
def test_cells_have_unique_ids_that_say_what_they_are(source):
    full = build.read(source)
    ids = [cell.id for cell in full.cells]
    assert len(set(ids)) == len(ids)
    assert ids.count(f"{source.stem}-install") == 1
    for number, cell in enumerate((cell for cell in full.cells if not is_install(cell)), start=1):
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


# The others run in JupyterLab, where there is a browser.
@pytest.mark.slow
@pytest.mark.parametrize(
    "source", [path for path in SOURCES if path.stem not in LABS or not CHROMIUM], ids=lambda path: path.stem
)
def test_a_blank_lab_runs_to_its_end_and_each_check_names_its_exercise(source, tmp_path):
    nb = submissions.hasty(build.release(build.read(source)))
    NotebookClient(nb, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = {cell.id: [out for out in cell.get("outputs", []) if out.output_type == "error"] for cell in nb.cells}
    checks = [cell.id for cell in nb.cells if cell.metadata.get("nbgrader", {}).get("locked")]
    assert [name for name, errors in said.items() if errors] == checks
    for name in checks:
        assert name in said[name][0].evalue


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", [path for path in SOURCES if path.stem[:4] in ("lab6", "lab8")], ids=lambda path: path.stem
)
def test_letters_take_the_place_of_digits_by_one_constant(source, tmp_path):
    nb = submissions.hasty(build.solve(build.read(source)))
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and 'DATA = "digits"' in cell.source]
    cells[0].source = cells[0].source.replace('DATA = "digits"', 'DATA = "glyphs"')
    NotebookClient(nb, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()


# --- the command line, in a copy of the checkout ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A git repository with the files of this one, but two labs alone, built and committed."""
    root = tmp_path_factory.mktemp("checkout")
    others = {name for path in SOURCES[2:] for name in (path.name, path.stem)}
    for name in ("course", "fmlab", "labs", "solutions"):
        leave = shutil.ignore_patterns("__pycache__", ".ipynb_*", *others)
        shutil.copytree(build.ROOT / name, root / name, ignore=leave)
    for name in ("nbgrader_config.py", "pyproject.toml", ".gitignore", ".gitattributes"):
        shutil.copy(build.ROOT / name, root)
    course(root, "build")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "built")
    return root


def course(root, *args, status=0) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "course", *args]
    done = subprocess.run(command, cwd=root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == status, done.stdout
    return done.stdout


@needs_git
@pytest.mark.slow
def test_a_second_build_changes_nothing(checkout):
    said = course(checkout, "build")
    assert "written" not in said and "ran in" not in said
    assert git(checkout, "status", "--porcelain") == ""
    assert course(checkout, "verify", "--no-execute") == ""


@needs_git
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
    build.write_release(build.read(source), "lab0_toy", tmp_path)
    build.write_solution(build.read(source), "lab0_toy", tmp_path)
    path = build.notebook_path("labs", "lab0_toy", tmp_path)

    def problems():
        return list(build.verify(source, tmp_path, run_solution=False))

    assert problems() == []
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert problems() == ["labs/lab0_toy/lab0_toy.ipynb: is not, byte for byte, what a build writes"]
    path.write_text("{")
    assert problems()[0].startswith("labs/lab0_toy/lab0_toy.ipynb: is not a notebook")
    path.unlink()
    assert problems() == ["labs/lab0_toy/lab0_toy.ipynb: is missing"]


def test_an_unknown_lab_is_named_with_those_there_are(capsys):
    assert main(["build", "lab99"]) == 1
    assert "no lab 'lab99'; there are: " + SOURCES[0].stem in capsys.readouterr().err


# --- a small source of its own ----------------------------------------------------------------------------------------

TOY = """\
# %% [markdown]
# # Half an hour
# <a id="eq-path"></a>
# ### Exercise {exercise:interpolate} · On the way ({points:interpolate} points)
# %%
from fmlab.checks import lab0
# %% exercise="interpolate"
def interpolate(noise, data, t):
    ### BEGIN SOLUTION
    return (1 - t) * noise + t * data
    ### END SOLUTION
# %% check="interpolate" points=2.5
# %% [markdown] answer="why" points=3
# ### BEGIN SOLUTION
# Because.
# ### END SOLUTION
"""
BARE = "# %% [markdown]\n# # No exercise\n"


def toy(folder: Path, text: str = TOY, name: str = "lab0_toy") -> Path:
    """A checkout with this source for its only lab. The cards are those of lab 0; not all of them are asked for."""
    path = folder / "course" / "sources" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "fmlab").mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_one_line_becomes_nbgraders_metadata(tmp_path):
    full = build.read(toy(tmp_path))
    kinds = {"schema_version": 3, "task": False}
    title, _, imports, exercise, check, answer = full.cells
    assert title.metadata == imports.metadata == {}
    assert exercise.metadata == {
        "nbgrader": {**kinds, "grade_id": "interpolate-answer", "grade": False, "solution": True, "locked": False}
    }
    grading = {"grade_id": "interpolate", "grade": True, "solution": False, "locked": True, "points": 2.5}
    assert check.metadata == {"nbgrader": {**kinds, **grading}, "tags": ["raises-exception"]}
    assert answer.metadata == {
        "nbgrader": {**kinds, "grade_id": "why", "grade": True, "solution": True, "locked": False, "points": 3}
    }


def test_a_further_exercise_is_marked_in_its_heading_and_nowhere_else(tmp_path):
    text = TOY.replace("points=2.5", "points=2.5 further=true") + "# %% [markdown]\n# {points:interpolate} of them.\n"
    title, *_, last = build.read(toy(tmp_path, text)).cells
    assert title.source.endswith("Exercise 1 · On the way (2.5 points, *further*)")
    assert last.source == "2.5 of them."


def test_a_picture_keeps_256_colours_and_a_grey_one_32_shades():
    ramp = np.arange(256, dtype=np.uint8).repeat(4)[None].repeat(8, axis=0)
    for picture, most in ((np.stack([ramp] * 3, axis=-1), 32), (np.stack([ramp, ramp[:, ::-1], ramp], axis=-1), 256)):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "png")
        small = Image.open(io.BytesIO(base64.b64decode(build._palette(base64.b64encode(buffer.getvalue()).decode()))))
        shown = np.asarray(small.convert("RGB")).astype(int)
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= most
        assert np.abs(shown - picture).max() <= 256 / most + 4


def test_a_figure_is_folded_under_its_words_and_described(tmp_path):
    figure = "# %% figure=\"two lines that 'cross'\"\ndraw()\n"
    full = build.read(toy(tmp_path, TOY + figure + "plots.describe(f'{n} lines')\n" + figure))
    for nb in (full, build.release(full), build.solve(full)):
        described, bare = nb.cells[-2:]
        assert described.metadata == bare.metadata == {"jupyter": {"source_hidden": True}}
        assert described.source == "# Figure: two lines that 'cross'\ndraw()\nplots.describe(f'{n} lines')"
        assert bare.source == "# Figure: two lines that 'cross'\ndraw()\nplots.describe(\"two lines that 'cross'\")"


def test_an_animation_in_a_figure_has_words_of_its_own(tmp_path):
    figure = '# %% figure="it moves"\nplots.animate_samples(ts, states, "Points move.")\n'
    last = build.read(toy(tmp_path, TOY + figure)).cells[-1]
    assert last.source == '# Figure: it moves\nplots.animate_samples(ts, states, "Points move.")'


def test_what_students_receive_and_what_they_may_read_later(tmp_path):
    full = build.read(toy(tmp_path))
    title = '# Half an hour\n<a id="eq-path"></a>\n### Exercise 1 · On the way (2.5 points)'
    imports = "from fmlab.checks import lab0"
    assert [cell.source for cell in build.release(full).cells if not is_install(cell)] == [
        title,
        imports,
        "def interpolate(noise, data, t):\n    raise NotImplementedError  # your code here",
        CHECK,
        "*Write your answer here.*",
    ]
    solved = build.solve(full)
    assert [cell.source for cell in solved.cells if not is_install(cell)] == [
        title,
        imports,
        "def interpolate(noise, data, t):\n    return (1 - t) * noise + t * data",
        CHECK,
        "Because.",
    ]
    assert all(cell.metadata == {} for cell in solved.cells if not is_install(cell))


EXERCISE, CELL = ("# %%" + cell for cell in TOY.split("# %%")[3:5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EXERCISE + EXERCISE + CELL, "cell 2 .*: the name 'interpolate' is taken"),
        (EXERCISE + CELL + CELL, r"cell 3 \(check='interpolate'\): the name 'interpolate' is taken"),
        (TOY.replace("why", "interpolate"), "cell 5 .*: the name 'interpolate' is taken"),
        (CELL, r"cell 1 \(check='interpolate'\): the check 'interpolate' has no exercise above it"),
        (CELL + EXERCISE, "cell 1 .*: the check 'interpolate' has no exercise above it"),
        (EXERCISE, "the exercise 'interpolate' has no check"),
        (TOY.replace("=2.5", f"=2.5\n{CHECK}"), "cell 4 .*: the check 'interpolate' has code; leave its header alone"),
        (TOY.replace(" points=2.5", ""), r"cell 4 \(check='interpolate'\): the check 'interpolate' says no points"),
        (TOY.replace(" points=3", ""), "the answer 'why' says no points"),
        (TOY.replace("points=2.5", 'points="2"'), "points='2'; points are a number above 0"),
        (TOY.replace("points=2.5", "points=0"), "points=0; points are a number above 0"),
        (
            TOY.replace('e="interpolate"\n', 'e="interpolate" points=1\n'),
            "points=1 belong to a check or a written answer",
        ),
        (TOY.replace("points=3", "points=3 color='red'"), "cell 5 .*: unknown metadata: "),
        (TOY.replace("points=2.5", "points=2.5 further=1.5"), "further=1.5; a check or a written answer may say"),
        (TOY.replace('e="interpolate"\n', 'e="interpolate" further=true\n', 1), "further=True; a check or a written"),
        (TOY + '# %% figure=""\n1\n', "a figure without words"),
        (TOY + '# %% [markdown] figure="a line"\n# text\n', "the figure 'a line' must be a code cell"),
        (TOY.replace("points=2.5", "point=2.5"), "cell 4 .*: unknown metadata: point=2.5"),
        (TOY.replace('exercise="interpolate"', "exercise=interpolate"), "unknown metadata: .*exercise=interpolate"),
        (TOY.replace('exercise="interpolate"', "exercice int"), "unknown metadata: title='exercice int'"),
        (TOY.replace('e="interpolate"', 'e="interpolate" check="interpolate"'), "is both exercise and check"),
        (TOY.replace('exercise="interpolate"', 'exercise="inter-polate"'), "exercise='inter-polate' is not a name"),
        (TOY.replace("### BEGIN SOLUTION\n    ", "").replace("    ### END SOLUTION\n", ""), "has no region BEGIN SOL"),
        (TOY.replace("    ### END SOLUTION\n", ""), "BEGIN SOLUTION and END SOLUTION do not pair up"),
        (TOY.replace("SOLUTION", "HIDDEN TESTS"), "a region HIDDEN TESTS has no place in the exercise 'interpolate'"),
        (EXERCISE.replace(' exercise="interpolate"', ""), "a region SOLUTION has no place in a plain cell"),
        (TOY.replace("[markdown] answer", "answer"), "the answer 'why' must be a markdown cell"),
        (TOY.replace('exercise="i', '[markdown] exercise="i'), "the exercise 'interpolate' must be a code cell"),
        ("# %% [raw]\n# x", "is a raw cell"),
        (TOY + "# %%\n\n", "cell 6 .*: is empty"),
    ],
)
def test_a_faulty_source_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(build.BuildError, match=message) as caught:
        build.read(toy(tmp_path, text))
    assert str(caught.value).startswith("lab0_toy.py, ")


def test_all_faults_are_named_at_once(tmp_path):
    with pytest.raises(build.BuildError, match=r"(?s)cell 4 .*no points.*\n.*cell 5 .*no points"):
        build.read(toy(tmp_path, re.sub(r" points=\S+", "", TOY)))


# --- numbers, and what stands beside the notebook ---------------------------------------------------------------------

NUMBERED = """\
# %% [markdown]
# ## 1 · Worth {points:all} points, {points:code} for code, and {points:first} points
# ### Exercise {exercise:first} · One ({points:first} points)
# %% exercise="first"
### BEGIN SOLUTION
### END SOLUTION
# %% check="first" points=1
# %% [markdown]
# ### Exercise {exercise:second} · Two at once ({points:second,third} points, a challenge)
# As in exercise {exercise:first}, before question {exercise:why}; see {exercise:lab1.other}, worth {points:first}
# points.
# %% exercise="second"
### BEGIN SOLUTION
### END SOLUTION
# %% check="second" points=2
# %% exercise="third"
### BEGIN SOLUTION
### END SOLUTION
# %% check="third" points=0.5
# %%
label = "exercises {exercise:second} and {exercise:third}"
# %% [markdown]
# ### Question {exercise:why} · Why ({points:why} points)
# %% [markdown] answer="why" points=4
# ### BEGIN SOLUTION
# See exercise {exercise:second}.
# ### END SOLUTION
"""


def test_the_builder_writes_numbers(tmp_path):
    other = NUMBERED.replace("second", "other").replace("third", "more").replace("{exercise:lab1.other}", "x")
    toy(tmp_path, other, "lab1_other")
    cells = [cell.source for cell in build.release(build.read(toy(tmp_path, NUMBERED))).cells]
    assert cells[0] == "## 1 · Worth 7.5 points, 3.5 for code, and 1 point\n### Exercise 1 · One (1 point)"
    assert cells[4] == (
        "### Exercise 2 · Two at once (2.5 points, a challenge)\n"
        "As in exercise 1, before question 3; see 2, worth 1\npoint."
    )
    assert cells[9] == 'label = "exercises 2 and 2"'
    assert cells[10] == "### Question 3 · Why (4 points)"
    assert "See exercise 2." in build.solve(build.read(toy(tmp_path, NUMBERED))).cells[-1].source


@pytest.mark.parametrize("mark", ["exercise:x", "points:x", "points:first,x", "exercise:lab1.x", "points:"])
def test_a_number_of_nothing_is_refused(tmp_path, mark):
    name = mark.split(":")[1].split(",")[-1]
    text = NUMBERED.replace("exercise:lab1.other", "exercise:first").replace("label", f"# See {{{mark}}}\nlabel")
    message = rf"lab0_toy.py, cell 9 \('# See {{{mark}}}'\): there is no number for '{name}'"
    with pytest.raises(build.BuildError, match=message):
        build.read(toy(tmp_path, text))


def test_an_exercise_without_a_heading_has_no_number(tmp_path):
    with pytest.raises(build.BuildError, match="there is no number for 'interpolate'"):
        build.read(toy(tmp_path, TOY.replace("# ### Exercise", "# Exercise")))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lab0_toy", TOY.replace("interpolate", "walk"), "the exercise 'walk' has no card in fmlab/exercises/lab0.py"),
        ("lab0_toy", TOY.replace("interpolate", "walk"), "the exercise 'walk' has no inputs in course/hidden/lab0.py"),
        ("lab98_toy", TOY, "the exercise 'interpolate' has no card in fmlab/exercises/lab98.py"),
        ("lab98_toy", TOY, "the exercise 'interpolate' has no inputs in course/hidden/lab98.py"),
        (
            "lab0_toy",
            TOY.replace("eq-path", "eq-way"),
            "'interpolate' is to reread #eq-path, and no text of",
        ),
        (
            "lab0_toy",
            TOY.replace("Half", "TODO: half"),
            r"cell 1 \(lab0_toy-001\) is not written yet: TODO: half",
        ),
    ],
)
def test_a_lab_that_lacks_something_is_refused(tmp_path, name, text, message):
    source = toy(tmp_path, text, name)
    with pytest.raises(build.BuildError, match=message) as caught:
        build.build(source, tmp_path)
    assert all(line.startswith(f"{name}.py, ") for line in str(caught.value).split("\n"))
    assert not build.notebook_path("labs", name, tmp_path).exists()
    assert str(caught.value).split("\n") == list(build.verify(source, tmp_path, run_solution=False))[:-2]


def test_a_card_that_is_not_written_is_refused(tmp_path, monkeypatch):
    card = labs.load("lab0").interpolate
    monkeypatch.setattr(card, "hints", (*card.hints, "TODO: a hint"))
    monkeypatch.setattr("course.hidden.lab0.interpolate", [])
    monkeypatch.setattr(card, "visible", [])
    assert list(build.missing(build.read(toy(tmp_path)), "lab0_toy")) == [
        "the exercise 'interpolate' is not written yet: "
        "its card in fmlab/exercises/lab0.py says 'TODO: a hint' and has no visible inputs",
        "the exercise 'interpolate' has no inputs in course/hidden/lab0.py",
    ]


# --- running a solution -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", r"(?s)cell 3 \(lab0_toy-002\) failed when run.*ZeroDivisionError"),
        ("import warnings; warnings.warn('old')", r"(?s)cell 3 \(lab0_toy-002\) writes to stderr:.*UserWarning: old"),
        ("import os; os._exit(1)", r"cell 3 \(lab0_toy-002\) failed when run\nKernel died"),
        ("import ipywidgets; ipywidgets.Output()", "an Output widget"),
        ("this is no Python", r"(?s)cell 3 \(lab0_toy-002\) failed when run.*SyntaxError"),
    ],
)
def test_a_solution_that_fails_or_warns_is_refused(tmp_path, cell, message):
    source = toy(tmp_path, f"{BARE}# %%\n{cell}\n")
    problems = list(build.verify(source, tmp_path))
    assert len(problems) == 3  # neither notebook is there yet
    assert problems[-1].startswith("solutions/lab0_toy/lab0_toy.ipynb: ") and re.search(message, problems[-1])
    with pytest.raises(build.BuildError, match=message):
        build.build(source, tmp_path)
    assert not build.notebook_path("solutions", "lab0_toy", tmp_path).exists()


def test_a_wrong_solution_is_refused_although_checks_may_raise_in_labs(tmp_path):
    source = toy(tmp_path, TOY.replace("(1 - t) * noise", "noise"))
    with pytest.raises(build.BuildError, match=r"(?s)cell 5 \(interpolate\) failed.*the noise keeps the weight 1"):
        build.build(source, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the judge needs Linux")
@pytest.mark.parametrize(
    "inputs",
    [[("no shape", 0.3)], [((2, 2), "no time")], [((2, 2), 0.3), ((2, 2), 0.3, torch.int64)], [((2, 2), 0.3), ()]],
)
def test_a_wrong_hidden_test_is_refused(tmp_path, monkeypatch, inputs):
    """It would take the points of all who are right."""
    source = toy(tmp_path)
    build.build(source, tmp_path)
    monkeypatch.setattr("course.hidden.lab0.interpolate", inputs)
    words = (
        "lab0_toy.py, the exercise 'interpolate': its official solution is not given full marks\n  hidden: ✗ interpo"
    )
    (problem,) = build.verify(source, tmp_path, run_solution=False)
    assert problem.startswith(words)
    with pytest.raises(build.BuildError, match=re.escape(words)):
        build.build(source, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the judge needs Linux")
def test_a_lab_is_vouched_for_once_as_long_as_nothing_changes(tmp_path, monkeypatch):
    """Before grading, too; also where the file that keeps it in mind is damaged or cannot be written."""
    judged = []
    monkeypatch.setattr(vouch, "KNOWN", tmp_path / "grading" / "vouched.json")
    monkeypatch.setattr("course.judge.judge", lambda *args: judged.append(args[2]) or judge(*args))
    for lab in ("lab0_welcome", "lab0_welcome"):
        vouch.vouch([lab])
    assert judged == ["lab0"]
    vouch.KNOWN.write_text("[")
    vouch.vouch(["lab0_welcome"])
    assert judged == ["lab0", "lab0"]
    monkeypatch.setattr("course.hidden.lab0.interpolate", [("no shape", 0.3)])
    monkeypatch.setattr(vouch, "fingerprint", lambda lab: "another")
    monkeypatch.setattr(vouch, "KNOWN", tmp_path / "nowhere" / "grading" / "vouched.json")
    for _ in range(2):
        with pytest.raises(build.BuildError, match="'interpolate': its official solution is not given full marks"):
            vouch.vouch(["lab0_welcome"])


def test_a_solution_shows_its_verdicts_and_the_points_of_its_lab(tmp_path, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "the notebook from which the build was started")
    build.build(toy(tmp_path, TOY + "# %%\nlab0.progress()\n"), tmp_path)
    solution = nbformat.read(build.notebook_path("solutions", "lab0_toy", tmp_path), as_version=4)
    (verdict,) = solution.cells[4].outputs
    assert set(verdict.data) == {"text/plain", "text/html", MIME}
    assert verdict.data[MIME]["exercise"] == "interpolate" and verdict.data[MIME]["passed"]
    exercise, total = solution.cells[-1].outputs[0].text.splitlines()
    assert exercise.startswith("✓ interpolate ") and exercise.endswith(" 2.5 of 2.5")
    assert total == "1 of 1 exercises pass: 2.5 of 2.5 points for code"


def outputs(tmp_path, cell):
    nb = build.solve(build.read(toy(tmp_path, f"{BARE}# %%\n{cell}\n")))
    executed = build.execute(nb, tmp_path)
    assert "widgets" not in executed.metadata and executed.metadata == build.METADATA
    return [dict(output.get("data", {"text": output.get("text")})) for output in executed.cells[-1].outputs]


def test_outputs_keep_nothing_of_the_run(tmp_path, monkeypatch):
    """Addresses and widgets go, and figures are drawn whatever the caller's backend; of a widget the picture stays,
    with its text alternative."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    shown = outputs(
        tmp_path,
        "import ipywidgets\n"
        "import matplotlib.pyplot as plt\n"
        "class Picture(ipywidgets.VBox):\n"
        "    def _repr_mimebundle_(self, **kwargs):\n"
        "        from fmlab.plots import Picture\n"
        f"        return super()._repr_mimebundle_(**kwargs) | Picture({PIXEL!r}, 'a < b')._repr_mimebundle_()\n"
        "display(ipywidgets.IntSlider())\n"
        "display(Picture())\n"
        "print(object())\n"
        "display(NotImplemented.__repr__)\n"
        "_ = plt.plot([0, 1])",
    )
    html, png = shown[1].pop("text/html"), shown[-1].pop("image/png")
    assert html.startswith('<img alt="a &lt; b"') and html.endswith(build.STILL_HERE)
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(data))) for data in (html.partition("base64,")[2].partition('"')[0], png)
    ]
    assert [picture.mode for picture in pictures] == ["P", "P"]  # 256 colours: small files
    assert pictures[0].size == (1, 1)
    assert shown == [
        {"text/plain": "(a widget: run this cell to use it)"},
        {"text/plain": "a < b"},
        {"text": "<object object>\n"},
        {"text/plain": "<method-wrapper '__repr__' of NotImplementedType object>"},
        {"text/plain": "<Figure size 640x480 with 1 Axes>"},
    ]


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="


# --- when a solution runs again ---------------------------------------------------------------------------------------


def test_a_solution_runs_where_students_work_and_again_only_when_something_changed(tmp_path):
    cell = "import os, time\nif False:\n    from fmlab import plots\nprint(os.getcwd(), time.time())"
    source = toy(tmp_path, f"{BARE}# %%\n{cell}\n")
    path = build.notebook_path("solutions", "lab0_toy", tmp_path)

    def built(**kwargs) -> str:
        build.build(source, tmp_path, **kwargs)
        return nbformat.read(path, as_version=4).cells[-1].outputs[0].text

    first = built()
    assert first.startswith(str(tmp_path / "labs" / "lab0_toy"))
    assert built() == first
    forced = built(force=True)
    assert forced != first
    (tmp_path / "fmlab" / "losses.py").write_text("x = 1\n")
    assert built() == forced
    (tmp_path / "fmlab" / "plots.py").write_text("x = 1\n")
    with_library = built()
    assert with_library != forced
    assert built() == with_library
    edit(path, 1, source="# Changed by hand")
    with_text = built()
    assert with_text != with_library
    # Brought in line by hand on both sides: the outputs are still those of other cells.
    source.write_text(source.read_text().replace("No exercise", "None"))
    edit(path, 1, source="# None")
    assert built() != with_text
    assert list(build.verify(source, tmp_path)) == []


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A copy of the library, to be changed."""
    root = tmp_path_factory.mktemp("library")
    shutil.copytree(build.ROOT / "fmlab", root / "fmlab", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize(
    ("file", "old", "new", "runs_again"),
    [
        ("exercises/lab0.py", "PyTorch draws random numbers of", "There are random numbers of", False),
        ("exercises/lab0.py", "both have the weight t", "both weights are t", False),
        ("exercises/lab0.py", "visible=[(20_000, 3)", "visible=[(20_001, 3)", False),
        ("exercises/lab0.py", "a straight line between", "a straight line from here to there", True),
        ("exercises/lab1.py", "", "x = 1\n", False),
        ("checks/judges.py", "", "x = 1\n", False),
        ("checks/compare.py", "", "x = 1\n", False),
        ("checks/verdict.py", "#009E73", "#009E74", True),
        ("checks/lab.py", "", "x = 1\n", True),
        ("training.py", "", "x = 1\n", False),  # no cell imports it
        ("likelihood.py", "", "x = 1\n", False),
        ("plots.py", "", "x = 1\n", True),  # a cell imports it
        ("distributions.py", "", "x = 1\n", True),
        ("__init__.py", "", "x = 1\n", True),
    ],
)
def test_what_makes_a_solution_run_again(library, file, old, new, runs_again):
    full, path = build.read(*build.sources(["lab0"])), library / "fmlab" / file
    before, text = build.fingerprint(full, "lab0_welcome", library), path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    try:
        assert (build.fingerprint(full, "lab0_welcome", library) != before) == runs_again
    finally:
        path.write_text(text)
    assert build.fingerprint(full, "lab0_welcome", library) == before


def test_points_and_cells_make_a_solution_run_again(tmp_path):
    other_points = TOY.replace("{points:interpolate}", "2.5").replace("=2.5", "=3")
    texts = TOY, other_points, TOY.replace("t * data", "data * t")
    marks = [build.fingerprint(build.read(toy(tmp_path, text)), "lab0_toy") for text in texts]
    assert len(set(marks)) == 3


def test_imports_are_followed_wherever_they_stand(tmp_path):
    files = {
        "__init__": "",
        "one": "import torch\n\ndef f():\n    from fmlab import two\n",
        "two": "import fmlab.rooms.three as three",
        "rooms/__init__": "from fmlab.four import g",
        "rooms/three": "",
        "four": "from fmlab.one import f",  # in a circle
        "five": "",
        "checks/__init__": "from fmlab import five",
        "exercises/lab0": "from fmlab import five",
    }
    for name, text in files.items():
        path = tmp_path / "fmlab" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    cells = ["%matplotlib inline\nfrom fmlab.one import f\nimport math", "from fmlab.checks import lab0", "not Python"]
    found = build.imported(cells, tmp_path)
    expected = "__init__", "one", "two", "rooms/__init__", "rooms/three", "four"
    assert found == {tmp_path / "fmlab" / f"{name}.py" for name in expected}
    assert build.imported(["import torch, fmlab"], tmp_path) == {tmp_path / "fmlab" / "__init__.py"}


@pytest.mark.slow
@each_lab
def test_no_import_of_a_lab_is_overlooked(source):
    """What Python loads of the library for the cells of a lab, but for the checks, is what a fingerprint looks at."""
    cells = [cell.source for cell in build.read(source).cells if cell.cell_type == "code" and not is_install(cell)]
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell))]
    imports = [ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    show = "import sys; print(*(m.__file__ for name, m in sys.modules.items() if name.split('.')[0] == 'fmlab'))"
    program = "\n".join([line for line in imports if not re.search("checks|course", line)] + [show])
    loaded = subprocess.run([sys.executable, "-c", program], cwd=build.ROOT, text=True, capture_output=True, check=True)
    assert {Path(path) for path in loaded.stdout.split()} <= build.imported(cells, build.ROOT)
