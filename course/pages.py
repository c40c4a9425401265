"""Words of students on pages and in files: filled in by Jinja, which escapes them, and free of what misleads a reader.

Students may be hostile. Pages for students run no scripts, those for teachers the one that sorts tables, which the page
names by its digest; none loads anything from elsewhere.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def page(template: str, **values: Any) -> str:
    """A template of course/templates/ with these values."""
    return _templates().get_template(template).render(**values)


@functools.cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=lambda value: clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(number=number, percent=percent, prose=_prose)
    script = (Path(__file__).parent / "templates" / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    templates.globals.update(sort_script=Markup(script), sort_digest=digest)
    return templates


def _prose(text: str) -> Markup:
    """Markdown with formulas, as harmless HTML."""
    from course.prose import prose  # which cleans by this module

    return prose(text)


def number(value: float | None) -> str:
    """2.0 as 2, 2.50 as 2.5, None as nothing."""
    return "" if value is None else f"{round(value, 4):.10g}"


def percent(share: float | None) -> str:
    if share is None:
        return ""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def clean(text: str) -> str:
    """Text without colours of terminals, and with a � for what cannot be written or turns the text around it."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r\n", "\n"))
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "�", text)


def line(text: str) -> str:
    """Text for a line on the terminal."""
    return re.sub(r"\s", " ", clean(text))
