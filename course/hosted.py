"""The labs where nothing is installed: the cell by which they install fmlab, and links that open them elsewhere.

All of it is made from the one address in pyproject.toml, `Repository` under [project.urls].
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, urlencode

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from course.edition import tomllib

ROOT = Path(__file__).resolve().parents[1]
BRANCH = "main"
MARKS = "<!-- links: made by `make build` -->", "<!-- end of links -->"
INSTALL = """\
# Installs fmlab where it is missing, as on Colab.
try:
    import fmlab
except ModuleNotFoundError:
    %pip install -q "fmlab[labs] @ git+{address}\""""


@functools.cache
def address() -> str:
    """Where the repository is, https://github.com/OWNER/NAME."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["urls"]["Repository"]


def install(stem: str) -> NotebookNode:
    """The cell that stands, folded, above a lab's set-up."""
    return new_code_cell(
        INSTALL.format(address=address()), id=f"{stem}-install", metadata={"jupyter": {"source_hidden": True}}
    )


def is_install(cell: NotebookNode) -> bool:
    return cell.id.endswith("-install")


def colab(stem: str) -> str:
    name = address().removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{name}/blob/{BRANCH}/{_path(stem)}"


def binder(stem: str) -> str:
    name = address().removeprefix("https://github.com/")
    return f"https://mybinder.org/v2/gh/{name}/{BRANCH}?urlpath={quote(f'lab/tree/{_path(stem)}', safe='')}"


def nbgitpuller(hub: str, repository: str, path: str) -> str:
    """The link by which a student of a hub gets a repository, and each time its news, and opens a notebook in it."""
    folder = repository.rstrip("/").rpartition("/")[2].removesuffix(".git")
    asked = {"repo": repository, "branch": BRANCH, "urlpath": f"lab/tree/{folder}/{path}"}
    return f"{hub.rstrip('/')}/hub/user-redirect/git-pull?{urlencode(asked)}"


def _path(stem: str) -> str:
    return f"labs/{stem}/{stem}.ipynb"


def table(titles: dict[str, str]) -> str:
    """Links to the labs, by their stems."""
    rows = ["| lab | Google Colab | Binder |", "|---|---|---|"]
    rows += [f"| {title} | [open]({colab(stem)}) | [open]({binder(stem)}) |" for stem, title in titles.items()]
    return "\n".join(rows)


def pulls(stems: Iterable[str]) -> str:
    """A hub's link to the first of these labs, in a repository of the labs alone."""
    first, *_ = stems
    return "\n".join(["```", nbgitpuller("https://HUB", f"{address()}-labs", _path(first)), "```"])
