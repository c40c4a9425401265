"""What is on the site, gathered in one folder for Sphinx.

A file keeps its path in the repository, so that links between files hold, and so that the page of a lab knows which
notebook to open elsewhere. Only the start page moves up.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat

from course import build

ROOT = build.ROOT
START = "docs/site/index.md"
HIDDEN = ("__init__", "__main__")


def gather(folder: Path) -> None:
    """Write all sources of the site into a folder."""
    labs = [source.stem for source in build.sources()]
    pages = [f"labs/{name}" for name in build.PAGES if name != "README.md"]
    docs = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
    for lab in labs:
        released = build.release(build.read(*build.sources([lab])))  # whatever you have written into yours
        write(folder / notebook("labs", lab), nbformat.writes(released))
        write(folder / notebook("solutions", lab), (ROOT / notebook("solutions", lab)).read_text(encoding="utf-8"))
    for name in [*pages, *docs]:
        write(folder / name, (ROOT / name).read_text(encoding="utf-8").replace("](site/index.md)", "](../index.md)"))
    for name in ("docs/pictures", "docs/hub"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Dockerfile", folder)
    write(folder / "index.md", start(labs, docs))
    for module in modules():
        write(folder / "reference" / f"{module}.rst", f"{module}\n{'=' * len(module)}\n\n.. automodule:: {module}\n")


def notebook(folder: str, lab: str) -> str:
    return build.notebook_path(folder, lab).relative_to(ROOT).as_posix()


def modules() -> list[str]:
    """The modules of the library that have a page of the reference."""
    return [f"fmlab.{path.stem}" for path in sorted((ROOT / "fmlab").glob("*.py")) if path.stem not in HIDDEN]


def start(labs: list[str], docs: list[str]) -> str:
    """The start page, with the order of all others."""
    text = (ROOT / START).read_text(encoding="utf-8").replace("](../../", "](").replace("](../", "](docs/")
    look_up = ["labs/words.md", "docs/notation.md", "docs/concordance.md", "labs/errata.md"]
    teach = [name for name in ("docs/instructor.md", "docs/grading.md", "docs/hub.md") if name in docs]
    parts = {
        "Labs": [notebook("labs", lab) for lab in labs],
        "To look things up": look_up,
        "Teaching": teach,
        "Solved labs": [f"Lab {lab[3]}, solved <{notebook('solutions', lab)}>" for lab in labs],
        "The library": [name for name in docs if name not in (*look_up, *teach)],
        "Reference": [f"reference/{module}" for module in modules()],
    }
    return text + "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n" + "\n".join(names) + "\n```\n"
        for part, names in parts.items()
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
