"""The figures of the labs speak to every reader: to those who tell few colours apart, and to those who see none."""

import base64
import io
from itertools import combinations

import matplotlib
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from course import build
from fmlab import plots
from tests.browser import chromium, needs_a_browser
from tests.html_page import Page

# How red, green and blue light, in linear RGB, look without one kind of cone. Machado, Oliveira and Fernandes,
# A physiologically-based model for simulation of color vision deficiency (2009), severity 1.
SIGHTS = {
    "full": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
CURVES = list(plots.STYLE["axes.prop_cycle"])


def lab(colours, sight="full") -> np.ndarray:
    """sRGB colours (n, 3) as they look to a reader, in CIELAB: lightness from 0 to 100 first (IEC 61966-2-1)."""
    rgb = np.asarray(colours)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(SIGHTS[sight]), 0, 1) @ XYZ.T / XYZ.sum(1)
    f = np.where(seen > (6 / 29) ** 3, np.cbrt(seen), seen / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_lightness_and_colour_are_measured_as_the_standard_says():
    """Published values for D65: white, mid grey and the primary red."""
    found = lab([[1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]])
    np.testing.assert_allclose(found, [[100, 0, 0], [53.39, 0, 0], [53.24, 80.09, 67.20]], atol=0.02)


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_of_the_first_four_curves_differ_clearly_in_colour(sight):
    """Few figures have more. A distance of 2.3 is just noticeable; ten times as much is seen at a glance."""
    seen = lab([to_rgb(curve["color"]) for curve in CURVES[:4]], sight)
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 23


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_curves_differ_in_line_style_or_in_lightness(sight):
    """So they do in greyscale, for every reader."""
    lightness = lab([to_rgb(curve["color"]) for curve in CURVES], sight)[:, 0]
    for i, j in combinations(range(len(CURVES)), 2):
        assert CURVES[i]["linestyle"] != CURVES[j]["linestyle"] or abs(lightness[i] - lightness[j]) > 15


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("name", ["Greys", plots.STYLE["image.cmap"]])
def test_sequential_maps_run_from_one_lightness_to_another(name, sight):
    lightness = lab(matplotlib.colormaps[name](np.linspace(0, 1, 64))[:, :3], sight)[:, 0]
    steps = np.diff(lightness)
    assert (np.sign(steps.sum()) * steps > 0).all() and abs(steps.sum()) > 60


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_map_of_signed_values_is_lightest_at_0_and_tells_the_signs_apart(sight):
    colours = lab(matplotlib.colormaps["PuOr_r"](np.linspace(0, 1, 41))[:, :3], sight)
    lightness = colours[:, 0]
    assert (np.diff(lightness[:20]) > 0).all() and (np.diff(lightness[21:]) < 0).all()
    assert all(np.linalg.norm(colours[20 - k] - colours[20 + k]) > 23 for k in range(8, 20))


# --- in words ---------------------------------------------------------------------------------------------------------

CELL = """
from fmlab import plots
plots.plot_histogram([1.0, 2.0])
plots.describe("Two bars, one as high as the other: 1 < 2.")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A cell that draws and describes, as a kernel runs it."""
    nb = new_notebook(cells=[new_code_cell(CELL)], metadata=build.METADATA)
    return build.execute(nb, tmp_path_factory.mktemp("run"))


def test_a_described_figure_is_shown_once_with_its_words_in_it_and_below_it(run):
    words = "Two bars, one as high as the other: 1 < 2."
    (shown,) = run.cells[0].outputs
    assert set(shown.data) == {"text/html", "text/plain"} and shown.data["text/plain"] == words
    said = {(tag, name): value for tag, name, value in Page(shown.data["text/html"]).attributes}
    assert said["img", "alt"] == words
    assert Image.open(io.BytesIO(base64.b64decode(said["img", "src"].partition("base64,")[2]))).width > 200
    assert said["summary", "aria-label"] == "In words: Two bars, one as high as …"


def test_nbconvert_gives_the_picture_its_words(run):
    page, _ = HTMLExporter().from_notebook_node(run)
    assert 'alt="Two bars, one as high as the other: 1 &lt; 2."' in page


@pytest.mark.parametrize("source", build.sources(), ids=lambda path: path.stem)
def test_every_picture_of_a_solution_says_what_is_to_be_seen(source):
    solution = nbformat.read(build.notebook_path("solutions", source.stem), as_version=4)
    found = set()
    shown = [(cell.id, output.get("data", {})) for cell in solution.cells for output in cell.get("outputs", [])]
    for name, data in shown:
        page = Page(data.get("text/html", ""))
        assert page.tags["img"] or "image/png" not in data, f"{name} shows a picture without plots.describe(…)"
        for words in (value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")):
            assert len(words) > 40, f"the picture of {name} is described in too few words"
            assert words not in found, f"{name}: another picture has the same words"
            found.add(words)
    assert found


class TestInABrowser:
    pytestmark = needs_a_browser

    def test_an_animation_plays_stops_and_steps_by_keyboard(self):
        frames = [np.full((40, 60, 3), 20 * k, dtype=np.uint8) for k in range(12)]
        names = [f"t = {k / 10:.1f}" for k in range(12)]
        data = plots.Animation(frames, 'a "dark" < light', seconds=1.1, names=names)._repr_mimebundle_()
        with chromium() as browser:
            page = browser.new_page()
            page.clock.install(time="2020-01-01")
            page.set_content(data["text/html"])
            page.clock.pause_at("2020-01-02")  # from here on time passes only when told to
            picture, button, slider = page.get_by_role("img"), page.get_by_role("button"), page.get_by_role("slider")

            def seen() -> tuple[int, str]:
                """The frame in the window, and what the button offers."""
                top = picture.evaluate("image => image.style.marginTop").removesuffix("px")
                assert float(top) == -40 * int(slider.input_value())
                assert slider.get_attribute("aria-valuetext") == f"t = {int(slider.input_value()) / 10:.1f}"
                return int(slider.input_value()), button.text_content()

            assert picture.get_attribute("alt") == 'a "dark" < light'
            assert picture.evaluate("image => image.decode().then(() => image.naturalHeight)") == 12 * 40
            assert seen() == (11, "Play")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.clock.run_for(350)  # three frames of 100 ms
            assert seen() == (3, "Pause")
            page.keyboard.press("Space")
            page.clock.run_for(350)
            assert seen() == (3, "Play")
            page.keyboard.press("Enter")
            page.clock.run_for(5000)
            assert seen() == (11, "Play")
            page.keyboard.press("Tab")
            page.keyboard.press("ArrowLeft")
            assert seen() == (10, "Play")

    def test_an_animation_is_a_still_picture_without_scripts(self):
        frames = [np.full((40, 60, 3), 20 * k, dtype=np.uint8) for k in range(12)]
        with chromium() as browser:
            page = browser.new_context(java_script_enabled=False).new_page()
            page.set_content(plots.Animation(frames, "grey")._repr_mimebundle_()["text/html"])
            window = Image.open(io.BytesIO(page.locator("figure div").screenshot())).convert("RGB")
            assert window.crop((1, 1, 61, 41)).getcolors() == [(60 * 40, (220, 220, 220))]  # within its frame
