"""TeX as MathML: the formulas of the notebooks, for pages that show them without a script.

latex2mathml does the work. What is mended here is what browsers leave to the author or latex2mathml gets wrong.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from html import escape

from latex2mathml.converter import convert

from course.build import BuildError


@functools.cache
def mathml(tex: str, display: str = "inline") -> str:
    r"""A formula of the notebooks as MathML; a \tag stands beside it. display: "inline" or "block"."""
    tags, tex = re.findall(TAG, tex), re.sub(TAG, "", tex)
    tex = re.sub(r"\\[bB]igg?[lr]?\\\|", r"\\|", tex)  # browsers make one bar of a norm taller than the other
    math = convert(tex, display=display)
    if "\\" in re.sub("<[^>]*>", "", math):
        raise BuildError(f"the site cannot set the formula {tex}")
    for pattern, better in MENDS:
        math = re.sub(pattern, better, math)
    number = "".join(f'<span class="tag">({escape(tag)})</span>' for tag in tags)
    return f'<span class="equation">{math}{number}</span>' if display == "block" else math


def _letter(match: re.Match) -> str:
    name = f"{match[1].upper()} CAPITAL {match[2]}"
    try:
        return f"<mi>{unicodedata.lookup(f'MATHEMATICAL {name}')}</mi>"
    except KeyError:  # a few, such as ℒ, are older than the others
        return f"<mi>{unicodedata.lookup(name)}</mi>"


TAG = r"\\tag\{([^}]*)\}"
MENDS: tuple[tuple[str, str | Callable[[re.Match], str]], ...] = (
    ("<mi>&#x0007E;</mi>", "<mo>∼</mo>"),
    ("<mo>&#x02016;</mo>", '<mo stretchy="false">‖</mo>'),
    (r"<mo[^>]*>(&#x0002F;|&#x0007C;)</mo>", r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'),  # a/b, |a|
    ("<mo>&#x0002E;</mo>", '<mo lspace="0">.</mo>'),
    (r"<msup>(<mi>\w</mi>)<mi>&#x02032;</mi></msup>", r"<mrow>\1<mo>′</mo></mrow>"),  # a prime is high by itself
    # 𝔼 and ℒ: browsers know these letters, but not MathML's names for their styles.
    ('<mi mathvariant="(double-struck|script)">([A-Z])</mi>', _letter),
    # "std" is one word, not three letters; and a word is upright without being told.
    (r'(?:<mi mathvariant="normal">\w</mi>){2,}', lambda match: f"<mi>{re.sub('<[^>]*>', '', match[0])}</mi>"),
    # "log p", but "log(p)": browsers set no space after the name of a function.
    (r"(<mi>(?:log|exp|sin|cos)</mi>)(?!<mo[^>]*>(?:\(|&#x00028;))", r'\1<mspace width="0.17em"></mspace>'),
)
