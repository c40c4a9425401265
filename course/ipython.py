"""What a cell means to IPython: %%time, %time, !ls and name? as Python; the names and the definitions in it.

Nothing is executed. Of a cell that is not even Python to IPython, since it has an error or another Python's syntax, the
words that stand in it are known, and no more: it would not run.
"""

from __future__ import annotations

import ast
import contextlib
import re
import symtable
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from IPython.core.inputtransformer2 import TransformerManager

LONGEST = 100_000  # characters of a cell that is parsed; no answer is as long
MOST_WORK = 200_000  # characters that IPython looks at, which it does anew for each magic of a cell
FOR_ONE = 1000  # characters whose work each look is worth on top
WORD = re.compile(r"[^\W\d]\w*")
FOREIGN = re.compile(  # magics of cells that are not Python, or not this notebook's
    r"%%(writefile|file|bash|sh|script|system|sx|cmd|html|javascript|js|latex|markdown|svg|perl|ruby|pypy|python[23]?)\b",
    re.IGNORECASE,
)
INSERTED = re.compile(r"[${]\s*([^\W\d]\w*)")  # names whose values IPython puts into a command
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Names(NamedTuple):
    """bound: the names that a cell binds. used: those of other cells that it may use."""

    bound: set[str]
    used: set[str]


def tree(source: str) -> ast.Module | None:
    """The syntax tree of a cell; None if it is not Python."""
    return _parsed(source)[1]


def names(source: str) -> Names:
    """The names in a cell. What a magic is given may bind and use every word in it; so may a cell that is too long to
    look at, or a line that may be a magic without its sign."""
    text, parsed = _parsed(source)
    if FOREIGN.match(source.lstrip()):
        return Names(set(WORD.findall(source.lstrip().partition("\n")[0])), set(INSERTED.findall(source)))
    if parsed is None:
        words = set(WORD.findall(source))
        runs = len(source) > LONGEST or _is_much_work(source) or "\n" not in source.strip()
        return Names(words, words if runs else set(INSERTED.findall(source)))
    try:
        module = symtable.symtable(text, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        words = set(WORD.findall(source))
        return Names(words, words)
    given = [] if text == source else [*_given_to_magics(parsed), *re.findall(r"(?m)^\s*%%.*", source)]
    words = {word for part in given for word in WORD.findall(part)}
    bound = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used, tables = set(), [module]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        free = (symbol for symbol in table.get_symbols() if symbol.is_referenced())
        used |= {symbol.get_name() for symbol in free if table is module or symbol.is_global()}
    return Names(bound | words, used | words)


def definitions(source: str) -> str:
    """What a cell imports and defines, without anything else that it does."""
    parsed = tree(source) or ast.Module([], [])
    return ast.unparse(ast.Module([node for node in parsed.body if _defines(node)], []))


def _defines(node: ast.stmt) -> bool:
    constant = isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.Lambda))
    return constant or isinstance(node, DEFINITIONS)


def _parsed(source: str) -> tuple[str, ast.Module | None]:
    """A cell in plain Python, and its tree; None if there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for plain in (str, _python) if len(source) <= LONGEST else ():
            with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                text = plain(source)
                return text, ast.parse(text)
    return source, None


def _python(source: str) -> str:
    """A cell without IPython's syntax: what runs a whole cell makes way for the cell, other magics become calls."""
    head, _, body = source.lstrip().partition("\n")
    if head.startswith("%%"):
        return "" if FOREIGN.match(head) else _python(body)
    if _is_much_work(source):
        return source
    try:
        return TransformerManager().transform_cell(source)
    except (SyntaxError, ValueError, RuntimeError, MemoryError):
        return source


def _is_much_work(source: str) -> bool:
    return (1 + sum(map(source.count, "%!?"))) * (FOR_ONE + len(source)) > MOST_WORK


def _given_to_magics(parsed: ast.Module) -> Iterator[str]:
    """The texts that stand in a call of `get_ipython()`."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_ipython(node.func.value):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def _is_ipython(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "get_ipython"
