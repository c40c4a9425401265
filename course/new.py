"""Begin an exercise: `python -m course new lab2 name` puts its parts where they belong and marks what to write TODO.

    fmlab/exercises/lab2.py        the card: what is right, which inputs students see, which mistakes are known
    course/hidden/lab2.py          inputs that they do not see
    course/sources/lab2_*.py       text, exercise, check and figure, at the end; move them to their place
    tests/wrong_answers/lab2.py    answers to be rejected, beside the mistakes on the card
    tests/right_answers/lab2.py    answers to be accepted

Nothing is overwritten. The files can be imported and pass the linter as they are; the builder and the tests say what is
still missing.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator
from pathlib import Path

from course import build

TEXT = '''
# %% [markdown]
# ### Exercise {{exercise:{name}}} · TODO: a title ({{points:{name}}} points)
#
# TODO: say why before how, and show the equation.
#
# <a id="{anchor}"></a>
# $$y = x \\tag{{TODO}}$$
#
# Write `{name}(x)`: [TODO: the equation's name](#{anchor}).
#
# <details><summary>Hint</summary>
# TODO: how to begin.
# </details>

# %% exercise="{name}"
def {name}(x):
    """TODO: what comes back. x: (n, *shape). Returns (n, *shape)."""
    ### BEGIN SOLUTION
    raise NotImplementedError("TODO: the solution of {name}")
    ### END SOLUTION


# %% check="{name}" points=1

# %% [markdown]
# **TODO: what the figure says.**

# %%
answer = {lab}.answer_or("{name}")
# TODO: draw what it makes
plots.describe("TODO: one or two sentences on what is to be seen, for those who cannot see it.")
'''

CARD = """

@lab.exercise(
    reread=("{anchor}", "TODO: the equation's name"),
    passed="TODO: what a right answer does, in a few words",
    hints=("TODO: up to three hints, each more of a help than the one before.",),
    library=lambda x: x,  # TODO: the library's answer, which figures use until there is another
    visible=[],  # TODO: tuples of arguments for the function below, one for each kind of input that is promised
    mistakes={{
        "TODO: what went wrong, in words a student understands": lambda x: -x,
    }},
)
def {name}(x):
    return Case("TODO: what comes back", (x,), x)  # TODO: what is right, not by the formula that is asked for
"""

HIDDEN = """
# TODO: inputs of all the kinds on the card, none of which stands there
{name} = []
"""

WRONG = """\
    "{name}": {{
        # TODO: "a misconception": (an answer, "words of its verdict"), at least six with the mistakes on the card
    }},
"""

RIGHT = """\
    "{name}": [
        # TODO: three answers or more in other styles than the solution's
    ],
"""

# How the files of a lab begin.
LAB = "from fmlab.checks.lab import Lab\n"
HEADS = {
    "card": '''"""Lab {number}."""

from fmlab.checks.lab import Lab

lab = Lab("{lab}")
''',
    "hidden": '"""Other inputs for the exercises of lab {number}."""\n',
    "wrong": '''"""Wrong answers to lab {number}, beside the mistakes on its cards.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

WRONG = {{}}
''',
    "right": '"""Right answers to lab {number} in other styles than the solution\'s."""\n\nRIGHT = {{}}\n',
}


def begin(lab: str, name: str, root: Path = build.ROOT) -> dict[Path, str]:
    """Write the parts of a new exercise; returns what was added, by file. Raises BuildError, and writes nothing, where
    the name is taken or is none."""
    (source,) = build.sources([lab], root)
    lab = build.short(source.stem)
    paths = {
        "card": root / "fmlab" / "exercises" / f"{lab}.py",
        "hidden": root / "course" / "hidden" / f"{lab}.py",
        "text": source,
        "wrong": root / "tests" / "wrong_answers" / f"{lab}.py",
        "right": root / "tests" / "right_answers" / f"{lab}.py",
    }
    words = {"lab": lab, "number": lab.removeprefix("lab"), "name": name, "anchor": _anchor(name)}
    old = {
        part: path.read_text(encoding="utf-8") if path.exists() else HEADS[part].format(**words)
        for part, path in paths.items()
    }
    _refuse(name, {paths[part].relative_to(root).as_posix(): text for part, text in old.items()})
    if "Case" not in _names(old["card"]):
        old["card"] = old["card"].replace(LAB, "from fmlab.checks.exercise import Case\n" + LAB, 1)
    if f'id="{words["anchor"]}"' in old["text"]:
        words["anchor"] += "-too"
    parts = {"card": CARD, "hidden": HIDDEN, "text": TEXT, "wrong": WRONG, "right": RIGHT}
    added = {part: text.format(**words) for part, text in parts.items()}
    for part, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_put(old[part], added[part], part.upper()), encoding="utf-8")
    return {paths[part]: text for part, text in added.items()}


def _anchor(name: str) -> str:
    """JupyterLab finds anchors of small letters and dashes alone."""
    return "eq-" + re.sub("[^a-z]+", "-", name.lower()).strip("-")


def _refuse(name: str, files: dict[str, str]) -> None:
    """Raise BuildError if a name cannot be that of a new exercise."""
    from fmlab.checks.lab import Lab  # loads torch

    if not re.fullmatch("[a-z][a-z0-9_]{0,55}", name) or keyword.iskeyword(name):
        raise build.BuildError(f"{name!r} is no name for a function; take small letters and underscores")
    if hasattr(Lab, name):
        raise build.BuildError(f"{name!r} is what every lab has already, as in lab1.{name}(); take another name")
    for file, text in files.items():
        if name in _names(text):
            raise build.BuildError(f"{name!r} stands in {file} already; take another name, or go on with what is there")


def _names(code: str) -> Iterator[str]:
    """What a file calls by name: its functions, values and imports, the cells of a source, and the keys of tables."""
    yield from re.findall(r'(?m)^# %%.* (?:exercise|check|answer)="(\w+)"', code)
    for node in ast.parse(code).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name))
            if isinstance(node.value, ast.Dict):
                yield from (key.value for key in node.value.keys if isinstance(key, ast.Constant))


def _put(text: str, addition: str, table: str) -> str:
    """Code with an addition: at the end of the dictionary that has this name, if there is one, or else at its end."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and node.targets[0].id == table:
            end = sum(map(len, text.splitlines(keepends=True)[: node.end_lineno - 1])) + _characters(text, node) - 1
            before = text[:end] if text[:end].endswith("\n") else text[:end] + "\n"
            return before + addition + text[end:]
    return text.rstrip("\n") + "\n" + addition


def _characters(text: str, node: ast.AST) -> int:
    """Where a node ends in its last line: ast counts bytes."""
    return len(text.splitlines()[node.end_lineno - 1].encode()[: node.end_col_offset].decode())
