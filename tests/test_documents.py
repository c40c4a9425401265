"""What README.md and the pages beside it promise: their links lead somewhere, their commands exist, their code runs."""

import os
import re
import shlex
import subprocess
import sys

import matplotlib
import pytest
from matplotlib import pyplot as plt

from course import build
from course.__main__ import _parser
from fmlab import plots

ROOT = build.ROOT
FOUND = [path for pages in ("*.md", "docs/*.md", "labs/*.md", "course/handout/*.md") for path in ROOT.glob(pages)]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in FOUND)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(name: str) -> str:
    """A page without its code, in which a bracket means something else."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text(name), flags=re.DOTALL)


def anchors(name: str) -> set[str]:
    """The places that a link may lead to: headings, as GitHub names them, and anchors that are written out."""
    headings = re.findall(r"(?m)^#+ (.+?)\s*$", re.sub(r"```.*?```", "", text(name), flags=re.DOTALL))
    named = {
        re.sub(r"[^\w\- ]", "", re.sub(r"\]\(.*?\)", "]", heading).lower()).replace(" ", "-") for heading in headings
    }
    return named | set(re.findall(r'<a id="(.+?)"', text(name)))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(name)):
        if link.startswith(("http://", "https://", "mailto:")):
            assert re.fullmatch(r"https?://[\w.-]+\.[a-z]{2,}(/\S*)?|mailto:\S+@\S+", link), f"{name}: {link}"
            continue
        path, _, anchor = link.partition("#")
        folder = "" if name.startswith("course/handout/") else os.path.dirname(name)  # the top folder of the zip
        target = os.path.normpath(os.path.join(folder, path)) if path else name
        assert (ROOT / target).exists() or target.startswith("build/"), f"{name}: {link}"
        if anchor and target.endswith(".md"):
            assert anchor in anchors(target), f"{name}: {link}"


def commands() -> list[tuple[str, str]]:
    """Every command of ours that a page names, in its text or in a block of code."""
    found = [
        (name, command.strip())
        for name in PAGES
        for command in re.findall(
            r"(?m)(?:(?<=`)|^)((?:make|python -m (?:course|fmlab)) [^`\n#]+?)(?=`| {2,}|$|  #)", text(name)
        )
    ]
    return sorted(set(found))


def test_there_are_commands():
    assert len(commands()) > 30


@pytest.mark.parametrize("name, command", commands())
def test_commands_exist_and_take_their_arguments(name, command):
    """`make` finds its target; an instructor's command reads its arguments. test_instructor.py runs those of a term."""
    words = shlex.split(command.replace("[", "").replace("]", ""))
    if words[0] == "make":
        targets = set(re.findall(r"(?m)^([a-z]+):.*##", text("Makefile"))) | {"clean", "help"}
        asked = [word for word in words[1:] if "=" not in word]
        assert asked and set(asked) <= targets, f"{name}: {command}"
    elif words[2] == "course":
        if words[3:] != ["…"]:
            _parser().parse_args(words[3:])  # exits with an error if it cannot
    else:
        known = {"labs", "submission", "--help"}
        assert not words[3:] or words[3] in known, f"{name}: {command}"


def test_the_first_lines_of_code_draw_digits():
    (code,) = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    assert len(code.splitlines()) <= 12
    with matplotlib.rc_context(plots.STYLE):
        names: dict = {}
        exec(code, names)
    assert names["digits"].shape == (4, 1, 8, 8) and plt.gcf().axes
    plt.close("all")


def test_the_readme_is_a_page():
    assert len(text("README.md").splitlines()) <= 120


def test_files_that_pages_name_exist():
    """`docs/grading.md` or `course/hidden/lab2.py`: a path that begins at the top of the repository."""
    made = ("grading/", "build/", "benchmarks/results/")
    for name in PAGES:
        for path in re.findall(r"`((?:course|docs|fmlab|labs|tests|solutions|benchmarks)/[\w./-]+)`", text(name)):
            assert (ROOT / path).exists() or path.startswith(made), f"{name}: {path}"


def test_help_of_every_command_is_there():
    done = subprocess.run(
        [sys.executable, "-m", "course", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for word in ("build", "grade", "read", "report", "export", "handout", "release", "pictures"):
        assert word in done.stdout
