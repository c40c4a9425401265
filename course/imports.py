"""The files of this repository that some code depends on: those that it imports, and those that these import."""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path


def followed(code: Iterable[str], root: Path, packages: Collection[str], but: Collection[str] = ()) -> set[Path]:
    """The files of these packages below `root` that some code imports, and those that these import, wherever they do;
    without modules and folders of the names `but`, and what only these import."""
    found: set[Path] = set()
    front = [path for text in code for path in _imports(text, root, packages)]
    while front:
        path = front.pop()
        if path not in found and not {*but} & set(path.relative_to(root).with_suffix("").parts):
            found.add(path)
            front += _imports(path.read_text(encoding="utf-8"), root, packages)
    return found


def _imports(code: str, root: Path, packages: Collection[str]) -> Iterator[Path]:
    """The files that some code imports itself."""
    for parts in (name.split(".") for name in _names(code) if name.split(".")[0] in packages):
        for k in range(1, len(parts) + 1):
            place = root.joinpath(*parts[:k])
            yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


@functools.cache
def _names(code: str) -> list[str]:
    """The dotted names that some code imports; none of what is not Python, which fails when it is run."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names
