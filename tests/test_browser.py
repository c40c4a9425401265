"""Lab 1 as a student meets it: in JupyterLab, in a browser, with keyboard and mouse."""

import re

import pytest

from fmlab.checks import lab1
from tests.browser import Slider, expect, needs_a_browser, student_desk, violations

LAB = "lab1_simulation/lab1_simulation.ipynb"
EXPLORERS = ["widgets.step_size()", "widgets.ornstein_uhlenbeck_paths()"]

pytestmark = needs_a_browser


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with student_desk(tmp_path_factory.mktemp("desk"), tmp_path_factory.mktemp("jupyter")) as desk:
        yield desk


@pytest.fixture(scope="module")
def lab(desk):
    """The lab as students receive it, after Run All."""
    lab = desk(f"labs/{LAB}")
    lab.run_all()
    return lab


@pytest.fixture(scope="module")
def solution(desk):
    """The solved lab, just opened."""
    return desk(f"solutions/{LAB}")


def test_run_all_goes_on_past_unsolved_exercises(lab):
    checks = [source for source in lab.sources if re.fullmatch(r"lab1\.(\w+)\(\1\)", source)]
    assert len(checks) > 10
    for check in checks:
        expect(lab.outputs(check).first).to_have_text(re.compile("^✗ .*: not solved yet"))
    expect(lab.errors).to_have_count(len(checks))  # the checks' alone


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("explorer", EXPLORERS)
def test_slider_moves_the_picture(lab, explorer, number):
    slider = Slider(lab.cell(explorer), number)
    slider.moves_picture(lambda: slider.press("ArrowRight"))
    slider.moves_picture(lambda: slider.drag(0.8))


def test_an_animation_plays_by_keyboard(lab):
    """Each key plays all frames in their order. The page notes them: whoever asks now and then may miss a play."""
    figure = lab.outputs("plots.animate_samples(").locator("figure")
    slider, frames = figure.locator("input"), int(figure.locator("input").get_attribute("max")) + 1
    expect(slider).to_have_value(str(frames - 1))
    figure.evaluate("""figure => {
        const slider = figure.querySelector('input');
        const note = () => figure.dataset.shown = (figure.dataset.shown ?? '') + slider.value + ' ';
        new MutationObserver(note).observe(figure.querySelector('img'), {attributeFilter: ['style']});
    }""")
    all_frames = "".join(f"{frame} " for frame in range(frames))
    for count, key in enumerate(("Enter", "Space"), 1):  # of which JupyterLab has uses of its own
        figure.get_by_role("button").press(key)
        expect(figure).to_have_attribute("data-shown", count * all_frames)
    slider.press("ArrowLeft")
    expect(slider).to_have_value(str(frames - 2))


def test_an_animation_of_a_solution_is_a_still_picture_with_words(solution):
    """JupyterLab takes the scripts out of notebooks that it did not run itself."""
    picture = solution.outputs("plots.animate_samples(").locator("img")
    expect(solution.outputs("plots.animate_samples(").get_by_text("Run the cell to play it.")).to_be_visible()
    expect(picture).to_have_attribute("alt", re.compile("^Particles"))
    height = picture.evaluate("image => image.decode().then(() => image.naturalHeight)")
    window = picture.locator("..")
    assert window.evaluate("window => window.clientHeight") == height / 30  # one frame of thirty
    expect(window).to_have_css("overflow", "hidden")


def test_wrong_answer_gets_its_card_a_line_below_and_nothing_else(lab):
    """The card is announced, names the mistake, and leads to the equation."""
    verdict = lab1.euler_step.examine(lambda u, x, t, h: x + u(x, t))
    outputs = lab.answer("euler_step", "return x + u(x, t)")
    expect(outputs).to_have_count(2)
    card = outputs.first.locator("[role='alert']")
    expect(card).to_contain_text("✗ euler_step")
    expect(card).to_contain_text("step size h is missing")
    expect(card).to_contain_text(verdict.found)
    expect(card.locator("a")).to_have_attribute("href", re.compile(f"#{verdict.link}$"))
    expect(outputs.last).to_have_text(verdict.head)


def test_right_answer_is_confirmed_and_then_drawn(lab):
    figure = 'answer_or("euler_step"'
    expect(lab.answer("euler_step", "return x + h * u(x, t)")).to_have_text(re.compile("^✓ euler_step: .+"))
    lab.run(figure)
    expect(lab.outputs(figure)).to_have_count(2)  # a prediction and the figure; no word that fmlab stands in
    expect(lab.outputs(figure).locator("img")).to_have_attribute("alt", re.compile(".{40}"))


def test_solution_opens_with_pictures_for_its_sliders(solution):
    for explorer in EXPLORERS:
        expect(solution.outputs(explorer).locator("img")).to_have_count(1)
    expect(solution.errors).to_have_count(0)


def test_nothing_keeps_out_who_does_not_see_the_page(lab, solution):
    """axe-core in JupyterLab's main area: after Run All with wrong and right answers, and as the solution opens. What
    has no name in JupyterLab itself, such as the editors of cells, is left out."""
    own = ".jp-InputArea-editor, .jp-collapseHeadingButton"
    for notebook in (lab, solution):
        found = violations(notebook.page, ".jp-Notebook", but=own)
        assert [said for said in found if not said.startswith("aria-required-children: ['.jp-WindowedPanel")] == []


def test_a_slider_says_its_name_and_value(lab):
    cell = lab.cell("widgets.step_size()")
    handle = cell.get_by_role("slider", name="rate θ")
    handle.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuetext", re.compile(r"^\d+\.\d\d?$"))
    expect(cell.get_by_role("textbox", name="rate θ, a number")).to_be_visible()


def test_widgets_do_not_complain(lab, solution):
    for notebook in (lab, solution):
        expect(notebook.page.get_by_text("Error displaying widget")).to_have_count(0)
        assert not notebook.complaints


def test_mathematics_is_set(lab, solution):
    for notebook in (lab, solution):
        expect(notebook.page.locator("mjx-container")).not_to_have_count(0)
        expect(notebook.page.locator(".jp-RenderedMarkdown").filter(has_text="$")).to_have_count(0)
        expect(notebook.page.locator("mjx-merror")).to_have_count(0)


def test_validate_button_of_nbgrader(lab):
    pytest.importorskip("nbgrader", reason="no nbgrader: pip install 'fmlab[grading]'")
    expect(lab.page.locator(".jp-NotebookPanel-toolbar").get_by_text("Validate", exact=True)).to_be_visible()
