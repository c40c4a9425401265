"""How notebooks and Markdown become pages, an extension of Sphinx.

A lab gets the figures of its solution, which its own cells draw too, but none of what depends on an answer; each
exercise gets a link to one solution. Formulas become MathML when the site is built, so that a page needs no script to
show them and can be read aloud.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from course import build
from course.mathml import mathml
from fmlab.checks.verdict import MIME

LONG = 80  # letters of TeX: a formula in a sentence that is wider than a phone
TO_WORK_ON = """\
:::{{admonition}} To write your own answers
Run `make lab` and open `{lab}`, or download the notebook with the button above. There is a
[solved notebook](../../solutions/{lab}/{lab}.ipynb) for afterwards. The figures on this page are drawn with the
functions of the library.
:::"""
SOLVED = """\
:::{{admonition}} Solved
:class: warning
This page gives all answers of the lab away. [Back to the lab](../../labs/{lab}/{lab}.ipynb)
:::"""


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    app.connect("source-read", read)
    app.add_transform(Html)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# --- notebooks --------------------------------------------------------------------------------------------------------


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Turn a notebook into what its page shows."""
    folder, lab = page.split("/")[0], page.split("/")[-1]
    if folder == "solutions":
        source[0] = nbformat.writes(solved(nbformat.reads(source[0], as_version=4), lab))
    elif folder == "labs" and lab.startswith("lab"):
        solution = nbformat.read(build.notebook_path("solutions", lab), as_version=4)
        source[0] = nbformat.writes(to_work_on(nbformat.reads(source[0], as_version=4), solution, lab))


def to_work_on(nb: NotebookNode, solution: NotebookNode, lab: str) -> NotebookNode:
    """A lab as its page shows it."""
    drawn = {cell.id: cell for cell in solution.cells if cell.cell_type == "code"}
    cells = []
    for cell in nb.cells:
        cells.append(cell)
        if build.is_solution(cell) and cell.cell_type == "code":
            name = cell.id.removesuffix("-answer")
            link = f"[one solution of `{name}`](../../solutions/{lab}/{lab}.ipynb#{cell.id})"
            cells.append(new_markdown_cell(f"{{.peek}}\n{link}"))
        elif cell.cell_type == "code" and cell.source == drawn[cell.id].source and not build.is_check(cell):
            cell.outputs = [output for output in drawn[cell.id].outputs if output.output_type != "stream"]
    return finished(nb, cells, TO_WORK_ON.format(lab=lab))


def solved(nb: NotebookNode, lab: str) -> NotebookNode:
    """A solution as its page shows it."""
    cells = []
    for cell in nb.cells:
        if cell.id.endswith("-answer"):
            cells.append(new_markdown_cell(f'<a id="{cell.id}"></a>'))
        cells.append(cell)
    nb.cells[0].source = nb.cells[0].source.replace("\n", " (solved)\n", 1)
    return finished(nb, cells, SOLVED.format(lab=lab))


def finished(nb: NotebookNode, cells: Iterable[NotebookNode], note: str) -> NotebookNode:
    """A notebook of these cells: a note under its title, code folded as in JupyterLab."""
    nb.cells = list(cells)
    nb.cells[0].source = nb.cells[0].source.replace("\n", f"\n\n{note}\n", 1)
    for cell in nb.cells:
        if cell.cell_type == "markdown":  # a formula is one as a paragraph of its own
            cell.source = re.sub(r'^(<a id="[^"]*"></a>)\n(?=\$\$)', r"\1\n\n", cell.source, flags=re.MULTILINE)
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            title = cell.source.partition("\n")[0].lstrip("# ")
            cell.metadata |= {"tags": ["hide-input"], "mystnb": {"code_prompt_show": title, "code_prompt_hide": title}}
        if cell.cell_type == "code":
            for output in cell.outputs:
                output.get("data", {}).pop(MIME, None)  # which is on the page as HTML
    return nb


# --- formulas and anchors ---------------------------------------------------------------------------------------------


def inline(translator, node: nodes.math) -> None:
    tex = node.astext()
    long = ' class="long"' if len(tex) > LONG else ""
    translator.body.append(f"<span{long}>{mathml(tex)}</span>")
    raise nodes.SkipNode


def block(translator, node: nodes.math_block) -> None:
    translator.body.append(mathml(node.astext(), "block"))
    raise nodes.SkipNode


class Html(SphinxTransform):
    """HTML within Markdown: links may lead to its anchors, and formulas in it, as in hints, are set. A link that is
    nothing but a formula gets a name that can be read aloud."""

    default_priority = 800  # before MyST resolves links

    def apply(self) -> None:
        anchors = {}
        for node in self.document.findall(nodes.raw):
            anchors |= {name: (None, name, "") for name in re.findall(r'<a id="([^"]*)"', node.astext())}
            if not isinstance(node.parent, nodes.container):  # the output of a cell
                node.children = [nodes.Text(re.sub(r"\$([^$]+)\$", lambda match: mathml(match[1]), node.astext()))]
        self.env.metadata[self.env.docname].setdefault("myst_slugs", {}).update(anchors)  # for links of other pages
        for link in self.document.findall(nodes.reference):
            if link.get("id_link") and (name := link["refuri"][1:]) in anchors:
                link["refid"] = name
                del link["refuri"], link["id_link"]
            if link.children and all(isinstance(part, nodes.math) for part in link.children):
                link["reftitle"] = "this formula"
