"""How long a lab takes: the rule, what it counts, and that the labs keep to it and the lists of labs say it."""

import statistics

import pytest

from course import build, pace
from course.pace import Part

SOURCE = """\
# %% [markdown] writes="a path" needs="nothing"
# # Lab 0 · A toy
# Five words are read here, $a + b$ is one.
# %%
from fmlab.checks import lab0
# %% [markdown]
# ## 1 · The core
# ### Exercise {exercise:interpolate} · On the way ({points:interpolate} points)
# <a id="eq-path"></a>
# $$x_t = (1 - t) \\\\varepsilon$$
# <details><summary>Hint</summary>
# Not counted at all.
# </details>
# %% exercise="interpolate"
def interpolate(noise, data, t):
    \"\"\"One line.\"\"\"
    ### BEGIN SOLUTION
    way = t * data

    return (1 - t) * noise + way
    ### END SOLUTION
# %% check="interpolate" points=2
# %% [markdown]
# ### Exercise {exercise:draw_noise} · Noise ({points:draw_noise} points)
# Three further words.
# %% exercise="draw_noise"
def draw_noise(n, d):
    ### BEGIN SOLUTION
    return n
    ### END SOLUTION
# %% check="draw_noise" points=1 further=true
# %% figure="one line"
draw()
plots.describe("One line.")
# %% [markdown]
# ### The core again
# %% [markdown]
# ## 2 · More · *further*
# Left out.
# %% [markdown]
# ## 3 · Words
# %% [markdown] answer="why" points=3
# ### BEGIN SOLUTION
# Not counted.
# ### END SOLUTION
"""


def test_the_core_and_what_is_further_are_counted_apart(tmp_path):
    path = tmp_path / "lab0_toy.py"
    path.write_text(SOURCE)
    found = pace.pace(path)
    assert (found.title, found.writes, found.needs, found.cells) == ("0 · A toy", "a path", "nothing", 13)
    title, core, again, last = 6 + 8, 5 + 9 + 1, 4, 4
    assert found.core == Part(title + core + again + last, 1, 1, 2)
    exercise, section = 7 + 3, 6 + 2
    assert found.further == Part(exercise + section, 1, 0, 1)
    assert (found.stubs, found.open, found.folded) == (4 + 2, [1], [2])


def test_the_rule():
    assert Part(words=1300, exercises=5, questions=2, lines=20).minutes == 10 + 20 + 10 + 30
    said = [pace.duration(minutes) for minutes in (0, 21, 26, 31, 60, 101, 120.5)]
    assert said == ["–", "25 min", "30 min", "40 min", "1 h", "1 h 50 min", "2 h 10 min"]


@pytest.mark.parametrize("source", build.sources(), ids=lambda path: path.stem)
def test_the_core_of_a_lab_fits_two_hours(source):
    assert pace.pace(source).core.minutes <= 120


@pytest.mark.parametrize("source", build.sources()[1:7], ids=lambda path: path.stem)
def test_most_of_the_code_that_is_read_is_the_students_own(source):
    found = pace.pace(source)
    assert sum(found.open) <= 2 * found.stubs
    assert statistics.median(found.open) <= 10


def test_the_lists_of_labs_are_what_a_build_writes():
    assert pace.stale() == []


def test_a_list_that_is_out_of_date_is_written_again(tmp_path):
    (tmp_path / "course" / "sources").mkdir(parents=True)
    (tmp_path / "course" / "sources" / "lab0_toy.py").write_text(SOURCE)
    page = tmp_path / "README.md"
    page.write_text(f"# Before\n{pace.MARKS[0]}\nold\n{pace.MARKS[1]}\nafter\n")
    assert pace.stale(tmp_path) == ["README.md"]
    pace.write(tmp_path)
    assert pace.stale(tmp_path) == []
    text = page.read_text()
    assert text.startswith(f"# Before\n{pace.MARKS[0]}\n| lab |") and text.endswith(f"|\n{pace.MARKS[1]}\nafter\n")
    assert "| [0 · A toy](labs/lab0_toy/lab0_toy.ipynb) | a path | nothing | 15 min | 10 min |\n" in text
    page.write_text("no marks")
    with pytest.raises(build.BuildError, match=r"README.md has no lines <!-- labs"):
        pace.pages(tmp_path)


def test_seconds_are_told_apart_by_cell(tmp_path, monkeypatch):
    nb = build.new_notebook(
        cells=[build.new_code_cell("1"), build.new_code_cell("import time; time.sleep(0.5)")], metadata=build.METADATA
    )
    monkeypatch.setattr(build, "notebook_path", lambda folder, lab: tmp_path / "lab.ipynb")
    first, second = pace.seconds(nb, "lab")
    assert second >= 0.5 and first > 0
