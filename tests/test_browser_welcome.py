"""Lab 0 in a browser, from the first cell to the hand-in."""

import re

import pytest

from tests.browser import PATIENCE, Slider, expect, needs_a_browser, student_desk

LAB = "lab0_welcome"
LAST = "# lab0.submission()"

pytestmark = needs_a_browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    """The lab as students receive it. Each test goes on where the one before it stopped."""
    with student_desk(folder, tmp_path_factory.mktemp("jupyter")) as desk:
        yield desk(f"labs/{LAB}/{LAB}.ipynb")


def passes_validation(lab) -> bool:
    """What the Validate button finds."""
    lab.page.locator(".jp-NotebookPanel-toolbar").get_by_text("Validate", exact=True).click()
    found = lab.page.locator(".jp-Dialog .validation-success, .jp-Dialog .validation-failed")
    expect(found).to_be_visible(timeout=15_000 * PATIENCE)
    passed = "validation-success" in found.get_attribute("class")
    lab.page.locator(".jp-Dialog-footer button").last.click()
    return passed


def test_the_self_test_finds_all_in_place_and_the_checks_nothing_solved(lab):
    lab.run_all()
    expect(lab.outputs("lab0.self_test()")).to_have_text(re.compile(r"^✓ fmlab[^✗]*sliders: [^✗]* enabled\s*$"))
    for name in ("draw_noise", "interpolate"):
        expect(lab.outputs(f"lab0.{name}({name})").first).to_have_text(re.compile(f"^✗ {name}: not solved yet"))
    expect(lab.errors).to_have_count(2)


def test_the_slider_moves_the_picture(lab):
    slider = Slider(lab.cell("widgets.noise_to_data"), 0)
    slider.moves_picture(lambda: slider.press("ArrowRight"))
    slider.moves_picture(lambda: slider.drag(0.2))


def test_the_mistake_that_the_text_proposes_is_named_and_then_mended(lab):
    card = lab.answer("draw_noise", "return torch.rand(n, d)").first
    expect(card).to_contain_text("this is torch.rand, evenly between 0 and 1")
    assert not passes_validation(lab)
    expect(lab.answer("draw_noise", "return torch.randn(n, d)")).to_have_text(re.compile("^✓ draw_noise: .+"))
    expect(lab.answer("interpolate", "return (1 - t) * noise + t * data")).to_have_text(re.compile("^✓ interpolate: "))
    lab.run('answer_or("interpolate"')
    lab.page.keyboard.press("Shift+Enter")  # the cell below, which draws and is folded
    expect(lab.outputs("# Figure: the points at four times").locator("img")).to_be_visible()
    lab.run("lab0.progress()")
    expect(lab.outputs("lab0.progress()")).to_contain_text("3 of 3 points for code")


def test_hand_in_waits_for_the_file_then_finds_what_is_open_then_nothing(lab, folder):
    # What the page shows and the file does not have.
    lab.write(LAST, "lab0.submission()")
    lab.sources = [source.replace(LAST, "lab0.submission()") for source in lab.sources]
    lab.answer("interpolate", "return noise + t * (data - noise)")
    lab.run("lab0.submission()")
    card = lab.outputs("lab0.submission()").last.locator("[role='status']")
    expect(card).to_contain_text("is older than what you see: draw_noise, interpolate")
    lab.save()
    lab.run("lab0.submission()")
    expect(card).to_contain_text("can be handed in; some of it is open")
    expect(card).to_contain_text("velocity_of_a_point: not answered yet")
    # A written answer: double-click, replace, Shift + Enter.
    question = lab.cell("*Write your answer here.*")
    question.dblclick()
    question.locator(".cm-content").click()
    lab.page.keyboard.press("ControlOrMeta+A")
    lab.page.keyboard.insert_text("With $z - \\varepsilon$, which stays the same on the way.")
    lab.page.keyboard.press("Shift+Enter")
    expect(question.locator("mjx-container")).to_have_count(1)
    lab.save()
    lab.run("lab0.submission()")
    expect(card).to_contain_text(f"✓ {LAB}.ipynb is complete")
    expect(card).to_contain_text("exercises that pass: 2 of 2, 3 of 3 points for code")
    assert "which stays the same" in (folder / "labs" / LAB / f"{LAB}.ipynb").read_text()
    assert passes_validation(lab)


def test_the_stop_button_keeps_what_a_training_has_learned(lab):
    lab.write(
        "lab0.submission()",
        "from fmlab import models, training\n"
        "network = training.train(models.MLP(2), lambda m: m(letters, 0.5).square().mean(), steps=10**6)\n"
        "print(len(network.history) > 0)",
    )
    cell = lab.cell("lab0.submission()")
    cell.locator(".cm-content").click()
    lab.page.keyboard.press("Shift+Enter")
    expect(cell).to_contain_text(re.compile(r"\d+/1000000"))  # the progress bar
    lab.page.locator(".jp-NotebookPanel-toolbar [data-jp-item-name='interrupt'] >> visible=true").click()
    expect(cell).to_contain_text(re.compile(r"interrupted after \d+ of 1000000 steps.*True", re.DOTALL))
    assert not lab.complaints
