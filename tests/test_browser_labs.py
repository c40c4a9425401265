"""Every lab after the first in JupyterLab, in a browser: sliders move, mathematics is set, the solution opens."""

import re
from functools import partial

import pytest

from course import build
from tests.browser import ROOT, Notebook, Slider, expect, needs_a_browser, student_desk

LABS = [path.stem for path in build.sources() if path.stem != "lab1_simulation"]  # which tests/test_browser.py reads

pytestmark = needs_a_browser


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with student_desk(tmp_path_factory.mktemp("desk"), tmp_path_factory.mktemp("jupyter")) as desk:
        yield desk


def explorers(notebook: Notebook) -> list[str]:
    """The cells that show sliders."""
    return [source for source in notebook.sources if re.fullmatch(r"widgets\.\w+\(\w*\)", source)]


def assert_mathematics_is_set(notebook: Notebook) -> None:
    expect(notebook.page.locator("mjx-container")).not_to_have_count(0)
    expect(notebook.page.locator(".jp-RenderedMarkdown").filter(has_text="$")).to_have_count(0)
    expect(notebook.page.locator("mjx-merror")).to_have_count(0)


@pytest.mark.parametrize("lab", LABS)
def test_a_lab_as_students_receive_it(desk, lab):
    """The set-up cell, a check of an unsolved exercise, and every slider."""
    notebook = desk(f"labs/{lab}/{lab}.ipynb")
    notebook.run("plots.use_style()")
    checks = [source for source in notebook.sources if re.fullmatch(r"(lab\d)\.(\w+)\(\2\)", source)]
    name = checks[0].split("(")[0].split(".")[1]
    notebook.run(f"def {name}(")
    notebook.run(checks[0])
    expect(notebook.outputs(checks[0])).to_have_text(re.compile(f"^✗ {name}: not solved yet"))
    for explorer in explorers(notebook):
        if argument := re.search(r"\((\w+)\)", explorer):
            notebook.run(f"{argument[1]} = ")
        notebook.run(explorer)
        cell = notebook.cell(explorer)
        expect(cell.locator(".widget-slider .noUi-handle")).not_to_have_count(0)
        for number in range(cell.locator(".widget-slider").count()):
            slider = Slider(cell, number)
            slider.moves_picture(partial(slider.drag, 0.8))
            slider.moves_picture(partial(slider.press, "ArrowLeft"))
    assert_mathematics_is_set(notebook)
    expect(notebook.errors).to_have_count(1)  # the unsolved check's
    assert not notebook.complaints


@pytest.mark.parametrize("lab", LABS)
def test_a_solution_opens_with_its_pictures(desk, lab):
    notebook = desk(f"solutions/{lab}/{lab}.ipynb")
    for explorer in explorers(notebook):
        expect(notebook.outputs(explorer).locator("img")).to_have_count(1)
    assert_mathematics_is_set(notebook)
    expect(notebook.errors).to_have_count(0)
    assert not notebook.complaints


@pytest.mark.parametrize("lab", LABS)
def test_a_solution_is_smaller_than_a_megabyte(lab):
    assert (ROOT / "solutions" / lab / f"{lab}.ipynb").stat().st_size < 1e6
