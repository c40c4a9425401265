"""labs/words.md and labs/errata.md: what labs link to is there, and every term can be found."""

import re
import shutil

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from course import build
from tests.browser import CHROMIUM, Notebook, chromium, expect, jupyterlab
from tests.labs import SOURCES

LABS = build.ROOT / "labs"
WORDS = (LABS / "words.md").read_text(encoding="utf-8")
TERMS = re.findall(r'^<a id="([a-z0-9-]+)"></a>\n### (.+)$', WORDS, re.M)


def anchors(page: str) -> set[str]:
    """What a link may name in JupyterLab, on GitHub and on the site alike: explicit anchors in small letters."""
    return set(re.findall(r'<a id="([a-z0-9-]+)"></a>', (LABS / page).read_text(encoding="utf-8")))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_links_of_a_lab_to_the_pages_beside_it_lead_somewhere(source):
    text = source.read_text(encoding="utf-8")
    for page, anchor in re.findall(r"\.\./(\w+\.md)(?:#([^)\s]*))?", text):
        assert page in build.PAGES
        assert not anchor or anchor in anchors(page), f"{page}#{anchor}"


def test_links_within_the_pages_lead_somewhere():
    for page in ("words.md", "errata.md"):
        for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", (LABS / page).read_text()):
            assert not path or (LABS / path).is_file(), path
            assert path or anchor in anchors(page), anchor


def test_every_term_has_an_anchor_like_its_heading_a_lab_and_a_place_in_the_list():
    assert len(TERMS) == WORDS.count("\n### ") == len({anchor for anchor, _ in TERMS}) > 40
    listed = re.findall(r"^\[(.+?)\]\(#(.+?)\)", WORDS.partition("\n## ")[0], re.M)
    assert {anchor for _, anchor in listed} == {anchor for anchor, _ in TERMS}
    assert [word.lower() for word, _ in listed] == sorted(word.lower() for word, _ in listed)
    for entry in re.split(r"^### ", WORDS, flags=re.M)[1:]:
        heading = entry.splitlines()[0]
        slug = re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-").replace("ô", "o"))
        assert f'<a id="{slug}"></a>\n### {heading}\n' in WORDS
        assert re.search(r"\]\(lab\d_\w+/lab\d_\w+\.ipynb\)", entry), heading


def test_a_solution_links_to_the_pages_beside_the_labs():
    full = build.read(build.sources(["lab0"])[0])
    full.cells[0].source = "[noise](../words.md#noise), [lab 1](../lab1_simulation/lab1_simulation.ipynb)"
    (found, *_) = build.solve(full).cells
    assert found.source == "[noise](../../labs/words.md#noise), [lab 1](../lab1_simulation/lab1_simulation.ipynb)"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser: install chromium, chromium-browser or google-chrome")
def test_a_link_of_a_notebook_opens_the_page_at_its_term_in_jupyterlab(tmp_path):
    (tmp_path / "home").mkdir()
    shutil.copytree(LABS, tmp_path / "labs", ignore=shutil.ignore_patterns("lab*", ".*"))
    (tmp_path / "labs" / "lab1").mkdir()
    link = new_markdown_cell("How close? The [energy distance](../words.md#energy-distance).")
    nb = new_notebook(cells=[link], metadata=build.METADATA)
    nbformat.write(nb, tmp_path / "labs" / "lab1" / "lab1.ipynb")
    with chromium() as browser, jupyterlab(tmp_path, tmp_path / "home") as address:
        page = Notebook(browser, address, tmp_path, "labs/lab1/lab1.ipynb").page
        page.get_by_role("link", name="energy distance").click()
        preview = page.locator(".jp-MarkdownViewer")
        expect(preview.get_by_role("heading", name="Energy distance")).to_be_in_viewport()
        expect(preview.get_by_role("heading", name="Generative model")).not_to_be_in_viewport()
