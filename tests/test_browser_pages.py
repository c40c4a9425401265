"""The teacher's pages in a browser: tables sort by keyboard, and nothing is wider than a phone, by day and by night."""

import re

import pytest

from course import report
from tests.browser import chromium, needs_a_browser
from tests.made_records import LAB, record

pytestmark = needs_a_browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A class's report, and a page and the feedback of one of it; one browser for all."""
    folder = tmp_path_factory.mktemp("pages")
    made = [record(f"student{k:02}") for k in range(12)]
    for k, each in enumerate(made):
        for name in list(each["exercises"])[: k % 5]:
            each["exercises"][name] |= {"score": 0.0, "by": "visible"}
    report.write_all(made, folder, folder)
    found = [
        folder / f"{LAB}.html",
        folder / "students" / "student03.html",
        *(folder / "feedback" / "student03").rglob("*.html"),
    ]
    with chromium() as browser:
        yield browser, [path.as_uri() for path in found]


def test_tables_sort_by_keyboard(pages):
    browser, (address, *_) = pages
    page, complaints = browser.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(address)
    table = page.locator("#students table")
    head = table.locator("thead th").filter(has_text=re.compile("^code$"))
    column = head.evaluate("head => head.cellIndex + 1")

    def numbers() -> list[float]:
        return [float(text) for text in table.locator(f"tbody tr > :nth-child({column})").all_text_contents()]

    head.get_by_role("button").focus()
    for sorted_by, direction in ((sorted, "ascending"), (lambda found: sorted(found, reverse=True), "descending")):
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == direction
        assert numbers() == sorted_by(numbers()) and len({*numbers()}) > 3
    assert not complaints  # the page's own rules let its script run


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page_or_hard_to_read(pages, width, scheme):
    browser, addresses = pages
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    for address in addresses:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        assert page.evaluate(CONTRAST) == [], address
    context.close()


CONTRAST = """() => {
  // WCAG's ratio of the luminances of text and what is behind it, at least 4.5; the texts for which it is less
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 :
    ((v + .055) / 1.055) ** 2.4).reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll('main :not(svg, svg *)')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    if ((Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5) found.push(element.textContent.trim().slice(0, 40));
  }
  return found;
}"""
