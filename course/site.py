"""Build the site: labs, solutions, notes and the library's reference as pages that need no network and no server.

    python -m course.site [folder]                     build/site/ if no folder is named; open its index.html

nbconvert turns notebooks and Markdown into pages, pdoc the library's docstrings. Formulas become MathML when the site
is built, so a page needs no script to show them, works when opened as a file, and can be read aloud by a screen reader;
a copy of the font STIX Two Math comes along. A link that leads to nothing stops the build.
"""

from __future__ import annotations

import itertools
import re
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import NamedTuple
from urllib.parse import unquote

import nbformat
import pdoc.render
from nbconvert import HTMLExporter, TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from pygments.formatters import HtmlFormatter

from course import build
from course.mathml import mathml

ROOT = build.ROOT
START = "docs/site/index.md"
DESIGN = (ROOT / START).parent  # with the templates and the style
FONT = Path(find_spec("ziamath").origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"


# --- pages ------------------------------------------------------------------------------------------------------------


class Heading(NamedTuple):
    level: int
    anchor: str
    text: str


class Renderer(IPythonRenderer):
    """Markdown to HTML as nbconvert does it, but with MathML, with links led to pages, and with a list of headings."""

    def __init__(self, link_to: Callable[[str], str | None], headings: list[Heading]):
        super().__init__(escape=False)
        self.link_to, self.headings, self.named = link_to, headings, set()

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_html(self, html: str) -> str:
        """HTML is left as it is, but for the formulas in it: hints are written so."""
        return super().block_html(re.sub(r"\$([^$]+)\$", lambda match: mathml(match[1]), html))

    def inline_html(self, html: str) -> str:
        self.named.update(re.findall(r'<a id="([^"]*)"', html))
        return super().inline_html(html)

    def heading(self, text: str, level: int, **attrs) -> str:
        words = re.sub(r"[^\w\- ]", "", re.sub("<[^>]*>", "", text).lower()).strip().replace(" ", "-")
        names = itertools.chain([words], (f"{words}-{k}" for k in itertools.count(1)))
        anchor = next(name for name in names if name not in {heading.anchor for heading in self.headings})
        self.headings.append(Heading(level, anchor, text))
        name = "" if anchor in self.named else f' id="{anchor}"'  # JupyterLab needs small letters: labs/words.md
        return f"<h{level}{name}>{text}</h{level}>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        target = self.link_to(url)
        return text if target is None else super().link(text, target, title)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return super().image(text, self.link_to(url), title)


class Exporter(HTMLExporter):
    """A notebook as a page of the site."""

    def __init__(self, link_to: Callable[[str], str | None]):
        super().__init__(template_file=str(DESIGN / "page.html.j2"))
        self.link_to, self.headings = link_to, []

    def from_notebook_node(self, nb: NotebookNode, resources: dict | None = None, **kw) -> tuple[str, dict]:
        """As any exporter does it: HTMLExporter parses the page once more, for what our template has seen to."""
        self.register_filter("highlight_code", Highlight2HTML(pygments_lexer="python", parent=self))
        return TemplateExporter.from_notebook_node(self, nb, resources, **kw)

    def default_filters(self):
        yield from super().default_filters()
        yield "markdown2html", lambda source: MarkdownWithMath(Renderer(self.link_to, self.headings)).render(source)


# --- the site ---------------------------------------------------------------------------------------------------------


class Site:
    """What is on the site, and where.

    pages: the page of each file of the repository that has one, both by their paths from the top.
    """

    def __init__(self, out: Path):
        self.out, self.labs = out, [source.stem for source in build.sources()]
        files = [notebook(folder, lab) for folder in ("labs", "solutions") for lab in self.labs]
        files += [f"labs/{name}" for name in build.PAGES if name != "README.md"]
        files += [_name(path) for path in sorted(ROOT.glob("docs/*.md"))]
        self.pages = {file: str(PurePosixPath(file).with_suffix(".html")) for file in files}
        self.pages[START] = "index.html"

    def build(self) -> None:
        """Write every page, the style with its font, and the reference."""
        for file in self.pages:
            self.write(self.pages[file], self.page(file))
        self.write("style.css", (DESIGN / "style.css").read_text() + HtmlFormatter().get_style_defs(".highlight"))
        shutil.copy(FONT, self.out)
        reference(self.out / "reference")

    def write(self, name: str, text: str) -> None:
        (self.out / name).parent.mkdir(parents=True, exist_ok=True)
        (self.out / name).write_text(text, encoding="utf-8")

    def page(self, file: str) -> str:
        nb, exporter = content(file), Exporter(lambda url: self.link(url, file))
        page = {
            "title": re.sub("[*`$]", "", nb.cells[0].source.splitlines()[0].lstrip("# ")),
            "kind": file.split("/")[0],
            "lab": PurePosixPath(file).stem,
            "labs": self.labs,
            "docs": [file for file in self.pages if file.endswith(".md") and file != START],
            "to": lambda name: relative(self.pages.get(name, name), self.pages[file]),
        }
        html, _ = exporter.from_notebook_node(nb, resources={"page": page})
        return html.replace("<!-- contents -->", contents(exporter.headings))

    def link(self, url: str, file: str) -> str | None:
        """Where a link of a file leads on the site; None if what it names is in the repository only."""
        path, hash, anchor = url.partition("#")
        if not path or re.match("[a-z]+:", url):
            return url
        name = normpath(PurePosixPath(file).parent / unquote(path))
        if name in self.pages:
            return relative(self.pages[name], self.pages[file]) + hash + anchor
        if not (ROOT / name).exists():
            raise build.BuildError(f"{file} links to {url}, which does not exist")
        if not name.endswith(".png"):
            return None
        (self.out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, self.out / name)
        return relative(name, self.pages[file])


def content(file: str) -> NotebookNode:
    """The notebook behind a page: a lab as it is handed out, whatever you have written into yours; a solution as it was
    run; Markdown as a notebook of one cell."""
    path = ROOT / file
    if path.suffix == ".md":
        return new_notebook(cells=[new_markdown_cell(path.read_text(encoding="utf-8"))])
    if file.startswith("labs/"):
        return build.release(build.read(*build.sources([path.stem])))
    return nbformat.read(path, as_version=4)


def contents(headings: list[Heading]) -> str:
    """The sections of a page, as a list of links."""
    shown = [heading for heading in headings if heading.level in (2, 3)]
    items = "".join(f'<li class="level{h.level}"><a href="#{h.anchor}">{h.text}</a></li>' for h in shown)
    return f"<ul>{items}</ul>"


def notebook(folder: str, lab: str) -> str:
    return _name(build.notebook_path(folder, lab))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def relative(target: str, page: str) -> str:
    return relpath(target, PurePosixPath(page).parent)


def reference(folder: Path) -> None:
    """The library's modules with their docstrings, as they stand: formulas in them are set by hand."""
    pdoc.render.configure(template_directory=DESIGN / "reference")
    pdoc.pdoc("fmlab", "!fmlab.checks", "!fmlab.exercises", output_directory=folder)


if __name__ == "__main__":
    site = Site(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site"))
    try:
        site.build()
    except build.BuildError as error:
        sys.exit(str(error))
    print(f"open {site.out / 'index.html'}")
