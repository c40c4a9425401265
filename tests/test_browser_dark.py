"""Solutions in JupyterLab's dark theme: figures are white cards with a frame, and all text can be read."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from fmlab import plots
from tests.browser import expect, needs_a_browser, student_desk

pytestmark = needs_a_browser
THEME = "config/lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
FRAME = tuple(int(plots.FRAME["edgecolor"][k : k + 2], 16) for k in (1, 3, 5))


@pytest.fixture(scope="module", params=["lab1_simulation", "lab2_paths"])
def notebook(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("jupyter")
    (home / THEME).parent.mkdir(parents=True)
    (home / THEME).write_text(json.dumps({"theme": "JupyterLab Dark"}))
    with student_desk(tmp_path_factory.mktemp("desk"), home) as desk:
        notebook = desk(f"solutions/{request.param}/{request.param}.ipynb")
        expect(notebook.page.locator("body")).to_have_attribute("data-jp-theme-name", "JupyterLab Dark")
        yield notebook


def pixels(picture: bytes) -> np.ndarray:
    """(height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def test_figures_are_white_cards_with_a_frame_on_a_dark_page(notebook):
    figures = notebook.page.locator(".jp-OutputArea-output img[src^='data:image/png']")
    expect(figures).not_to_have_count(0)
    for number in range(figures.count()):
        card = pixels(base64.b64decode(figures.nth(number).get_attribute("src").partition("base64,")[2]))
        for edge in (card[:, 0], card[0], card[-1]):
            assert np.abs(np.median(edge, axis=0) - FRAME).max() < 8, f"figure {number} has no frame"
        assert (card[4:-4, 3:9] > 250).mean() > 0.99, f"figure {number} has no margin"
    page = pixels(notebook.page.locator(".jp-Notebook").first.screenshot())
    assert np.median(page) < 60


def test_text_stands_out_from_the_page(notebook):
    """The contrast of text against what is behind it, as WCAG defines it: at least 4.5."""
    for words in notebook.page.locator("div[role=status], .jp-RenderedMarkdown p, summary").all()[:40]:
        colours = words.evaluate(
            """element => {
              let behind = element;
              while (behind && getComputedStyle(behind).backgroundColor.endsWith(', 0)')) behind = behind.parentElement;
              return [element, behind].map((e, k) => getComputedStyle(e)[k ? 'backgroundColor' : 'color']);
            }"""
        )
        light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (words.text_content(), colours)


def luminance(colour: str) -> float:
    """Of "rgb(…)", as WCAG defines it."""
    rgb = np.array([float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
