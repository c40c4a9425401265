"""The teacher's pages in a browser: tables sort by keyboard, and nothing is wider than a phone, by day and by night."""

import re

import pytest

from course import report
from tests.browser import chromium, needs_a_browser, violations
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
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    for address in addresses:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        assert violations(page) == [], address
    context.close()
