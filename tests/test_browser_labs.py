"""Labs 2 to 6 in JupyterLab, in a browser: all cells run, sliders move, mathematics is set, the solution opens."""

import re
from functools import partial

import nbformat
import pytest

from course import build
from tests import submissions
from tests.browser import ROOT, Notebook, Slider, expect, needs_a_browser, student_desk

READ = ("lab0_welcome", "lab1_simulation")  # by tests of their own
LABS = [path.stem for path in build.sources() if path.stem not in READ]

pytestmark = needs_a_browser


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    with student_desk(folder, tmp_path_factory.mktemp("jupyter")) as desk:
        for lab in LABS:
            path = build.notebook_path("labs", lab, folder)
            build.put(path, submissions.hasty(nbformat.read(path, as_version=4)))
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
    """With training cut short: all cells, of which the checks fail and no other; every slider; then the first exercise
    is solved."""
    notebook = desk(f"labs/{lab}/{lab}.ipynb")
    notebook.run_all()
    checks = [source for source in notebook.sources if re.fullmatch(r"(lab\d)\.(\w+)\(\2\)", source)]
    names = [check.split("(")[0].split(".")[1] for check in checks]
    for name, check in zip(names, checks, strict=True):
        expect(notebook.outputs(check).first).to_have_text(re.compile(f"^✗ {name}: not solved yet"))
    expect(notebook.errors).to_have_count(len(checks))
    for explorer in explorers(notebook):
        cell = notebook.cell(explorer)
        expect(cell.locator(".widget-slider .noUi-handle")).not_to_have_count(0)
        for number in range(cell.locator(".widget-slider").count()):
            slider = Slider(cell, number)
            slider.moves_picture(partial(slider.drag, 0.8))
            slider.moves_picture(partial(slider.press, "ArrowLeft"))
    assert_mathematics_is_set(notebook)
    (solution,) = [cell.source for cell in submissions.solved(lab).cells if cell.source.startswith(f"def {names[0]}(")]
    expect(notebook.solve(names[0], solution)).to_have_text(re.compile(f"^✓ {names[0]}: .+"))
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
