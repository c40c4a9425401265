"""Students' words as HTML: Markdown and formulas are set, and nothing of it can do anything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course.prose import prose
from tests.html_page import Page


def tags(text: str) -> set[str]:
    return set(Page(prose(text)).tags)


def test_markdown_and_formulas_are_set():
    html = prose(
        "The field is **linear**, so $u_t(x) = a x$:\n\n- one\n- two\n\n"
        "$$\\int_0^1 u\\,dt = \\frac12$$\n\n```\ncode\n```"
    )
    page = Page(html)
    assert page.tags["strong"] == 1 and page.tags["li"] == 2 and page.tags["math"] == 2 and page.tags["mfrac"] == 1
    assert page.tags["pre"] == 1 and "$" not in page.text


HOSTILE = [
    "<script>alert(1)</script>",
    "text <img src=x onerror=alert(1)> text",
    "[a](javascript:alert(1)) ![b](https://example.org/x.png) <https://example.org>",
    "$\\href{javascript:alert(1)}{x}$ and $\\text{<script>alert(1)</script>}$",
    '# title <a href="x">\n\n| a | b |\n|---|---|\n| <b onclick="x">1</b> | 2 |',
    "[x]: javascript:alert(1)\n\n[y][x]",
    "$$\\unicode{0}\\nosuchthing{$$ and $" + "x" * 5000 + "$",
    "\x1b[31mred\x1b[0m \u202e backwards \ud800",
    "&lt;script&gt; `<script>` **<script>**",
]


def harmless(text: str) -> None:
    html = prose(text)
    page = Page(html)
    assert not page.tags.keys() & {"script", "img", "a", "iframe", "object", "style", "link", "svg", "form", "input"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name in ("href", "src", "style")]
    html.encode()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_can_run_load_or_lead_away(text):
    harmless(text)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([*HOSTILE, "$", "$$", "\\", "`", "\n\n", "<", ">", "*", "[", "](", ")", "#", "|"])).map(
        "".join
    )
)
def test_nor_can_any_mixture_of_it(text):
    harmless(text)


def test_a_formula_that_cannot_be_set_stands_there_as_it_was_typed():
    assert "nosuchthing{a}" in prose("so $\\nosuchthing{a}$ holds")
