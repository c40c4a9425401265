"""What people write, as HTML: students' texts, comments and model answers, with their Markdown and their formulas.

Nothing of it can run, load or lead anywhere: HTML in it is text, links and pictures are their words, and a formula that
cannot be set stands there as it was typed.
"""

from __future__ import annotations

import re
from html import escape

from markupsafe import Markup
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from course.mathml import mathml
from course.pages import clean

LONGEST_FORMULA = 2000  # characters


class Renderer(IPythonRenderer):
    """Markdown to harmless HTML."""

    def __init__(self):
        super().__init__(escape=True)

    def block_math(self, body: str) -> str:
        return _formula(body, "block")

    multiline_math = block_math

    def inline_math(self, body: str) -> str:
        return _formula(body, "inline")

    def block_html(self, html: str) -> str:
        return f"<p>{escape(html)}</p>\n"

    def inline_html(self, html: str) -> str:
        return escape(html)

    def heading(self, text: str, level: int, **attrs) -> str:
        return f"<p><b>{text}</b></p>\n"

    def block_code(self, code: str, info: str | None = None) -> str:
        return f"<pre>{escape(code)}</pre>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return text if url in text else f"{text} ({escape(url)})"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return f"[picture: {text}]"


def prose(text: str) -> Markup:
    """A text as HTML. It may be anything."""
    text = clean(text)
    try:
        return Markup(MarkdownWithMath(renderer=Renderer()).render(text))
    except Exception:  # a parser of Markdown that meets what nobody thought of
        return Markup(f"<pre>{escape(text)}</pre>")


def _formula(tex: str, display: str) -> str:
    shown = f"<code>{escape(tex.strip())}</code>"
    if len(tex) > LONGEST_FORMULA:
        return shown
    try:
        math = mathml(tex, display)
    except Exception:  # what is no TeX fails in many ways
        return shown
    return shown if re.search(r"(?i)<\s*(?!/?(?:math|m[a-z]+|span)\b)|\bhref|\bon\w+\s*=|\bsrc\s*=", math) else math
