"""Formulas of docstrings: found among words, and turned into TeX that can be set."""

import ast
from pathlib import Path

import pytest

from course.mathml import mathml
from course.site.reference import displayed, said, sentence
from course.site.unicode_math import parts, sides, tex

MODULES = sorted((Path(__file__).parents[1] / "fmlab").glob("*.py"))


def formulas(text: str) -> list[str]:
    return [part for is_formula, part in parts(text) if is_formula]


@pytest.mark.parametrize(
    "written, expected",
    [
        ("x_t = α_t z + β̇_t ε", r"x_t = α_t z + \dot{β}_t ε"),
        ("p_t(x | z) = N(α_t z, β_t² I)", r"p_t(x \mid z) = \mathcal{N}(α_t z, β_t^{2} I)"),
        ("√(1 − ᾱ_k) ε̂", r"\sqrt{1 - \bar{α}_k} \hat{ε}"),
        ("E‖u_θ(x, t) − ẑ‖²", r"\mathbb{E}\|u_θ(x, t) - \hat{z}\|^{2}"),
        ("L_k⁻ᵀ y", "L_k^{-T} y"),
        ("s ≠ t", r"s \ne  t"),
        ("Σ_k w_k", r"\sum_k w_k"),
        ("log p_data", r"\log  p_\mathrm{data}"),
    ],
)
def test_a_formula_in_unicode_becomes_tex(written, expected):
    assert tex(written) == expected
    assert mathml(expected)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The state x_t = α_t z + β_t ε, at a time t.", ["x_t = α_t z + β_t ε"]),
        ("A jump to the data, ẑ = x + (1 − t) v(x, t), and back.", ["ẑ = x + (1 − t) v(x, t)"]),
        ("Raises ValueError where the factor is infinite (β = 0).", ["(β = 0)"]),
        ("One step of size 1/K is x − ½ b/K x in the Itô sense.", ["1/K", "x − ½ b/K x"]),
        ("An image of 8 × 8 pixels, and a score.", ["8 × 8"]),
        ("It is singular at β = 0 (t = 1), for the ε-prediction too.", ["β = 0", "(t = 1)"]),
        ("Samples (n, *shape) of a process, n at once. I am a sentence.", []),
    ],
)
def test_formulas_are_found_among_words(text, expected):
    assert formulas(text) == expected
    assert "".join(part for _, part in parts(text)) == text


def test_a_long_formula_may_be_broken_before_its_signs_of_equality():
    assert sides("x = y") == ["x = y"]
    assert sides("KL(N(m, v I) ‖ N(n, w I)) = ½ d (v/w − 1)") == ["KL(N(m, v I) ‖ N(n, w I)) ", "= ½ d (v/w − 1)"]


def test_every_formula_of_the_library_can_be_set():
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                found += formulas(ast.get_docstring(node) or "")
    assert len(found) > 500
    assert all(mathml(tex(formula)) for formula in found)


def test_code_is_marked_and_what_has_a_meaning_in_restructuredtext_is_not():
    assert sentence("as `simulate`, x: (n, *shape)") == r"as \ :py:obj:`simulate`\ , x: (n, \*shape)"
    assert sentence("`Midpoint()` if not given") == r"\ ``Midpoint()``\  if not given"


def test_what_is_said_of_a_parameter_begins_a_paragraph():
    assert said("x, z: (n, d). t: a scalar", {"x", "z", "t"}) == ["", "``x``, ``z``: (n, d). t: a scalar"]
    assert said("note: this", {"x"}) == ["note: this"]


def test_indented_lines_become_a_table_of_formulas_with_their_sources():
    lines = displayed(["    ODE   dX_t = u_t(X_t) dt      [notes, eq. 1]", "    SDE   X_t"])
    assert [line.strip() for line in lines[3:]] == [
        "* - ODE",
        r"- \ :math:`dX_t = u_t(X_t) dt`" + "\\",
        "- [notes, eq. 1]",
        "* - SDE",
        r"- \ :math:`X_t`" + "\\",
        "-",
    ]


def test_indented_code_stays_code():
    assert displayed(["    field = guided(digits(), y, w=2)"])[0] == ".. code-block:: python"
