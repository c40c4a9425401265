"""The formulas of docstrings, which are written in Unicode so that they can be read in code, as TeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

ACCENTS = {"\N{COMBINING CIRCUMFLEX ACCENT}": "hat", "\N{COMBINING DOT ABOVE}": "dot"}
ACCENTS |= {"\N{COMBINING TILDE}": "tilde", "\N{COMBINING MACRON}": "bar"}
RAISED = str.maketrans("⁰¹²³⁻ᵀ", "0123-T")
SYMBOLS = {
    "−": "-", "·": r"\cdot ", "×": r"\times ", "~": r"\sim ", "≤": r"\le ", "≥": r"\ge ", "≈": r"\approx ",
    "∈": r"\in ", "→": r"\to ", "↦": r"\mapsto ", "∘": r"\circ ", "∞": r"\infty ", "∂": r"\partial ", "∇": r"\nabla ",
    "∫": r"\int ", "±": r"\pm ", "⋯": r"\cdots ", "…": r"\dots ", "∅": r"\emptyset ", "∝": r"\propto ", "‖": r"\|",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "′": "'", "½": r"\tfrac12 ", "π": r"\pi ", "ℓ": r"\ell ", "√": r"\surd ",
}  # fmt: skip
FUNCTIONS = {"log", "exp", "sin", "cos", "min", "max", "det"}
NAMES = FUNCTIONS | {"div", "tr", "diag", "softmax", "KL", "Cov", "Attn", "LN", "Exp"}
OPERATORS = set("=+−·×/|~<>≤≥≠≈∈→↦∘")
LETTER = r"(?:\\[a-z]+\{\w\}|[^\W\d_])"
STRONG = re.compile(  # what is nowhere but in formulas
    r"[\u0370-\u03ff²³⁻ᵀ∂∇∫√‖∞½∅ℓ⋯⌊]"
    r"|(?<![^\W_])[^\W\d_][\u0302-\u0304\u0307](?![^\W\d_])"
    r"|(?<![^\W_])(?:d[XW]|[^\W\d][\u0302-\u0307]?)[_^][\w{]"
    r"|^\W*−\d|\d/\d"
)
MARKS = r"[\d()\[\]{}|/'+=.,;:−′]*"
WEAK = re.compile(rf"{MARKS}(?:(?:d[rstxXW]|{LETTER}|{'|'.join(NAMES)})(?![^\W\d_]){MARKS})*")
JOINED = re.compile(r"\w.*[=+−×/<>~≤≥≠∈].*\w|\b[^\W\d_]\(")  # what makes a formula of letters and numbers


def tex(formula: str) -> str:
    r"""A formula in TeX: α_t z + β̇_t ε² becomes α_t z + \dot{β}_t ε^{2}."""
    formula = formula.replace("≠", r"\ne ")  # which is else taken apart
    formula = re.sub(f"(.)([{''.join(ACCENTS)}])", _accented, unicodedata.normalize("NFD", formula))
    formula = re.sub("[⁰¹²³⁻ᵀ]+", lambda match: f"^{{{match[0].translate(RAISED)}}}", formula)
    formula = re.sub(rf"√({LETTER}(?:_(?:\w|\{{[^}}]*\}}))?|\d+)", r"\\sqrt{\1}", formula)
    while match := re.search(r"√\(", formula):
        end = _closing(formula, match.end() - 1)
        formula = f"{formula[: match.start()]}\\sqrt{{{formula[match.end() : end]}}}{formula[end + 1 :]}"
    formula = re.sub(r"\bN(?=\()", r"\\mathcal{N}", formula)
    formula = re.sub(r"\bR(?=\^)", r"\\mathbb{R}", formula)
    formula = re.sub(r"\bE(?=_|\[|\s?‖|\s[wΣ])", r"\\mathbb{E}", formula)
    formula = re.sub(r"Σ(?=_(?:\w|\{[^}]*\})(?:\^\w)?\s)", r"\\sum", formula)
    formula = re.sub(r"Π(?=_)", r"\\prod", formula)
    formula = re.sub(r"(?<![\\\w{])[A-Za-z]{2,}(?:_[A-Za-z]{2,})*|(?<=_)[A-Za-z]{2,}", _word, formula)
    formula = formula.replace(" | ", r" \mid ")
    return "".join(SYMBOLS.get(letter, letter) for letter in formula).strip()


def parts(text: str) -> Iterator[tuple[bool, str]]:
    """A sentence, cut into what is a formula and what is not: pairs (is it one, text)."""
    words = re.findall(r"\s*\S+\s*|\s+", text)
    start = 0
    while start < len(words):
        end = start
        depth = 0
        while end < len(words) and _belongs(words[end].strip(), depth, end > start):
            if depth <= 0 and end > start and re.match(r"\(\w+ [=<>≤≥]", "".join(words[end : end + 2])):
                break  # a remark, as in "where β = 0 (t = 1)"
            word = words[end].strip()
            depth += _depth(word)
            end += 1
            if depth <= 0 and word[-1] in ".,;:":
                break
        before, formula, after = _trimmed("".join(words[start:end]))
        if formula and _is_formula(formula):
            yield False, before
            yield True, formula
            yield False, after
        else:
            end = start + 1
            yield False, words[start]
        start = end


def sides(formula: str) -> list[str]:
    """A formula; a long one is cut before the signs of equality that stand outside of brackets."""
    if len(formula) < 30:
        return [formula]
    found = [""]
    for word in re.findall(r"\S+\s*", formula):
        if word.strip() in "=≤≥~" and found[-1] and _depth("".join(found)) == 0:
            found.append("")
        found[-1] += word
    return found


def _belongs(word: str, depth: int, goes_on: bool) -> bool:
    """Whether a word can be part of a formula: one of depth open brackets, or one that has begun."""
    if (
        not word
        or re.search(r"-[a-z]{2}", word)
        or (word.strip(".,;:") in ("a", "A", "I") and not (depth or (goes_on and word[0] == "I")))
    ):
        return False
    return word in OPERATORS or bool(STRONG.search(unicodedata.normalize("NFD", word)) or WEAK.fullmatch(word))


def _is_formula(text: str) -> bool:
    text = unicodedata.normalize("NFD", text)
    return bool(re.search(r"\w", text) and (STRONG.search(text) or JOINED.search(text)))


def _trimmed(run: str) -> tuple[str, str, str]:
    """What is before a formula, the formula, what is after it: operators, commas and brackets that have no partner."""
    formula = run
    while True:
        shorter = re.sub(r"^\s*[=+·×/|<>≤≥→↦~](?=\s)|^\s+|[\s.,;:]+$|\s[=+−·×/|<>≤≥→↦~]$", "", formula)
        if _depth(shorter) > 0 and re.match(r"[(\[]", shorter):
            shorter = shorter[1:]
        elif _depth(shorter) > 0:
            shorter = shorter.rpartition(" ")[0]
        elif _depth(shorter) < 0:
            shorter = re.sub(r"[)\]][^)\]]*$", "", shorter)
        if shorter == formula:
            before, _, after = run.partition(formula) if formula else (run, "", "")
            return before, formula, after
        formula = shorter


def _depth(text: str) -> int:
    return sum(text.count(bracket) for bracket in "([{") - sum(text.count(bracket) for bracket in ")]}")


def _closing(text: str, start: int) -> int:
    """Where the bracket closes that opens at start."""
    depth = 0
    for k in range(start, len(text)):
        depth += _depth(text[k])
        if depth == 0:
            return k
    return len(text)


def _accented(match: re.Match) -> str:
    return f"\\{ACCENTS[match[2]]}{{{match[1]}}}"


def _word(match: re.Match) -> str:
    word = match[0]
    if word in FUNCTIONS:
        return f"\\{word} "
    return word if re.fullmatch("d[a-zA-Z]", word) else rf"\mathrm{{{word}}}".replace("_", r"\_")
