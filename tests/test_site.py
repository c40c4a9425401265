"""The site: built with no network, read with none; every link leads somewhere and every formula is one."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from course import build
from course.mathml import mathml
from course.site import Exporter, Site
from fmlab.checks import notebook
from tests.browser import CHROMIUM, Notebook, chromium, expect, jupyterlab
from tests.labs import SOURCES
from tests.walls import possible

LAB = "lab1_simulation/lab1_simulation"
pytestmark = pytest.mark.slow
NO_NETWORK = ["bwrap", "--unshare-net", "--dev-bind", "/", "/"] if possible("bwrap") else []


class Page(HTMLParser):
    """What some HTML holds: anchors, links, images and whatever else a browser fetches, the number of formulas in its
    main part, and words that are not code."""

    FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
    CODE = {"pre", "code", "script", "style"}

    def __init__(self, html: str):
        super().__init__()
        self.anchors, self.links, self.fetched, self.images = [], [], [], []
        self.formulas, self.words, self.code = 0, "", 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors += [attrs["id"]] if "id" in attrs else []
        if tag == "main":
            self.formulas = 0  # those before it belong to the list of contents
        self.formulas += tag == "math"
        self.code += tag in self.CODE
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        if url := attrs.get(self.FETCHED.get(tag)):
            self.fetched.append(url)

    def handle_endtag(self, tag):
        self.code -= tag in self.CODE

    def handle_data(self, data):
        if not self.code:
            self.words += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site, built behind a wall that lets no network through, where there is one."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([*NO_NETWORK, sys.executable, "-m", "course.site", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


# --- links ------------------------------------------------------------------------------------------------------------


def test_every_link_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for url in [*page.links, *page.fetched]:
            if urlsplit(url).scheme:
                continue
            name, _, anchor = unquote(url).partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.is_file() or site not in target.parents:
                broken.append(f"{path.relative_to(site)}: {url}")
            elif anchor and target.suffix == ".html" and anchor not in pages[target].anchors:
                broken.append(f"{path.relative_to(site)}: {url} has no such anchor")
    assert not broken, "\n".join(broken)


def test_nothing_is_fetched_from_elsewhere(site, pages):
    fetched = [url for page in pages.values() for url in page.fetched]
    style = (site / "style.css").read_text()
    fetched += re.findall(r"""(?:url\(|@import)\s*["']?([^"')]+)""", style)
    assert fetched
    assert not [url for url in fetched if urlsplit(url).scheme not in ("", "data") or url.startswith("//")]
    assert all((site / name).is_file() for name in re.findall(r'url\("([^"]+)"\)', style))


def test_pages_of_labs_and_docs_need_no_script(site, pages):
    own = [path for path in pages if (site / "reference") not in path.parents]
    assert len(own) > 12
    assert not [path for path in own if "<script" in path.read_text(encoding="utf-8")]


def test_every_page_can_be_reached_from_the_start(site, pages):
    seen, front = set(), [site / "index.html"]
    while front:
        path = front.pop()
        if path in pages and path not in seen:
            seen.add(path)
            front += [(path.parent / unquote(url.partition("#")[0])).resolve() for url in pages[path].links]
    assert {path for path in pages if path.parent.name != "reference"} <= seen


@pytest.mark.parametrize("lab", [source.stem for source in SOURCES])
def test_a_lab_and_its_solution_are_one_click_apart(lab, site, pages):
    lab_page, solution = (pages[site / folder / lab / f"{lab}.html"] for folder in ("labs", "solutions"))
    back_and_forth = f"../../{{}}/{lab}/{lab}.html"
    assert back_and_forth.format("labs") in solution.links
    assert back_and_forth.format("solutions") in lab_page.links
    exercises = [a for a in lab_page.anchors if re.fullmatch(r"cell-id=\w+-answer", a)]
    assert exercises
    for anchor in exercises:
        assert f"{back_and_forth.format('solutions')}#{anchor}" in lab_page.links


def test_a_lab_does_not_show_its_solution(site):
    lab, solution = ((site / folder / f"{LAB}.html").read_text() for folder in ("labs", "solutions"))
    for words in ("Solved.", "For late times the distribution is"):
        assert words in solution and words not in lab
    assert lab.count("NotImplementedError") > solution.count("NotImplementedError")


def test_a_link_to_nothing_stops_the_build(tmp_path):
    site = Site(tmp_path)
    assert site.link("../labs/errata.md#top", "docs/notation.md") == "../labs/errata.html#top"
    assert site.link("../course/site.py", "docs/notation.md") is None  # in the repository, not on the site
    with pytest.raises(build.BuildError, match=r"docs/notation\.md links to erata\.md"):
        site.link("erata.md", "docs/notation.md")


# --- formulas ---------------------------------------------------------------------------------------------------------


def formulas(source: Path) -> list[str]:
    """The formulas in the text cells that a source releases, found without a Markdown parser."""
    cells = [cell.source for cell in build.release(build.read(source)).cells if cell.cell_type == "markdown"]
    return re.findall(r"(?s)\$\$.+?\$\$|\$[^$]+\$", re.sub("`[^`]*`", "", "\n\n".join(cells)))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_formula_of_a_lab_became_mathematics(source, site, pages):
    assert pages[site / "labs" / source.stem / f"{source.stem}.html"].formulas == len(formulas(source)) > 0


def test_no_formula_is_left_in_tex(site, pages):
    own = {path: page for path, page in pages.items() if (site / "reference") not in path.parents}
    assert not [(path.name, line) for path in own for line in re.findall(r".*(?:\$|\\[a-z]).*", own[path].words)]


@pytest.mark.parametrize(
    "tex, text",
    [
        (r"\mathbb E\, \bigl\| u_t(x) \bigr\|^2", "𝔼‖ut(x)‖2"),
        (r"\mathcal L_{\mathrm{FM}} \sim \|x\|", "ℒFM∼‖x‖"),
        (r"\log p_t(x \mid z)", "logpt(x∣z)"),
        (r"X' = \tfrac h2 \dot\alpha_t", "X′=h2α˙t"),
    ],
)
def test_letters_of_a_formula(tex, text):
    assert "".join(Page(mathml(tex)).words.split()) == text


def test_a_tag_stands_beside_its_equation_and_reads_as_text():
    html = mathml(r"a < b \tag{notes, eq. 1 & 2}", "block")
    assert html.endswith('</math><span class="tag">(notes, eq. 1 &amp; 2)</span></span>')
    assert Page(html).words == "a<b(notes, eq. 1 & 2)"


def test_an_unknown_command_stops_the_build():
    with pytest.raises(build.BuildError, match=r"cannot set the formula .*\\nosuchthing"):
        mathml(r"a + \nosuchthing{b}")


# --- figures ----------------------------------------------------------------------------------------------------------


def exported(*cells) -> Page:
    resources = {"page": {"title": "", "kind": "solutions", "lab": "", "labs": [], "docs": [], "to": lambda name: name}}
    html, _ = Exporter(lambda url: url).from_notebook_node(new_notebook(cells=list(cells)), resources=resources)
    return Page(html)


def test_the_words_of_a_figure_reach_the_page():
    words = 'Two curves: "exact" above, Euler < Heun below.'
    figure = new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"alt": words}})
    (image,) = exported(new_code_cell("draw()", outputs=[figure])).images
    assert image["alt"] == words


def test_figures_say_on_the_site_what_they_say_in_the_notebook(site, pages):
    for source in SOURCES:
        nb = nbformat.read(build.notebook_path("solutions", source.stem), as_version=4)
        outputs = [
            output for cell in nb.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
        ]
        said = [output.metadata.get("image/png", {}).get("alt", "") for output in outputs]
        images = pages[site / "solutions" / source.stem / f"{source.stem}.html"].images
        shown = [image["alt"] for image in images if image["alt"]]  # without those that only decorate
        assert shown == said
        assert said


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_each_check_of_a_solution_shows_its_card(source, site):
    page = (site / "solutions" / source.stem / f"{source.stem}.html").read_text(encoding="utf-8")
    cards = re.findall(r'<div role="status" style="[^"]*"><b>✓ (\w+)</b>', page)
    assert cards == list(notebook.points(build.read(source)))


# --- exercises --------------------------------------------------------------------------------------------------------


def exercise_texts(source: Path) -> dict[str, str]:
    """exercise → the text above it."""
    texts, text = {}, ""
    for cell in build.read(source).cells:
        if cell.cell_type == "markdown":
            text = cell.source
        elif cell.id.endswith("-answer"):
            texts[cell.id.removesuffix("-answer")] = text
    return texts


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_exercise_links_to_a_displayed_equation_of_its_notebook(source):
    text = "\n\n".join(cell.source for cell in build.release(build.read(source)).cells if cell.cell_type == "markdown")
    equations = re.findall(r'<a id="(eq-[a-z-]+)"></a>\n\$\$', text)
    assert len(equations) == len(set(equations))
    for exercise, above in exercise_texts(source).items():
        linked = re.findall(r"\]\(#([^)]*)\)", above)
        assert linked, f"{exercise} does not say which equation it implements"
        assert set(linked) <= set(equations), exercise


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no browser: install chromium, chromium-browser or google-chrome")
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser, site):
    """A function that opens a page of the site from the disk, and then asserts that the browser had nothing to say."""
    complaints = []

    def visit(name, **context):
        page = browser.new_context(offline=True, **context).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
        page.goto((site / name).as_uri())
        return page

    yield visit
    assert not complaints


PAGES = ["index.html", f"labs/{LAB}.html", f"solutions/{LAB}.html", "docs/notation.html", "reference/fmlab/paths.html"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_complaint_and_fits_the_screen(visit, name, width):
    page = visit(name, viewport={"width": width, "height": 800}, java_script_enabled=name.startswith("reference"))
    expect(page.locator("h1").first).to_be_visible()
    # evaluate() runs in the driver's own world, also where pages may run no scripts
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    heights = page.evaluate("[...document.querySelectorAll('main math')].map(m => m.getBoundingClientRect().height)")
    assert all(height > 5 for height in heights if height)  # those in closed hints have none
    assert not name.startswith(("labs", "solutions")) or sum(height > 5 for height in heights) > 50


def in_view(page, anchor):
    return page.locator(f"#{anchor}").evaluate(
        "a => 0 <= a.getBoundingClientRect().top && a.getBoundingClientRect().top < 800"
    )


@pytest.mark.browser
def test_an_exercise_leads_to_its_equation(visit):
    page = visit(f"labs/{LAB}.html", viewport={"width": 1280, "height": 800})
    page.get_by_role("link", name="the equation above").click()
    assert page.url.endswith("#eq-gbm")
    assert in_view(page, "eq-gbm")


@pytest.mark.browser
def test_an_exercise_leads_to_its_equation_in_jupyterlab_too(browser, tmp_path):
    (tmp_path / "home").mkdir()
    nb = build.release(build.read(*build.sources(["lab1"])))
    nb.cells = [cell for cell in nb.cells if cell.cell_type == "markdown"]
    nbformat.write(nb, tmp_path / "lab1.ipynb")
    with jupyterlab(tmp_path, tmp_path / "home") as address:
        notebook = Notebook(browser, address, tmp_path, "lab1.ipynb")
        height = "document.querySelector('[data-jupyter-id=eq-flow]').getBoundingClientRect().top"
        link = notebook.cell("Write `simulate(").get_by_role("link", name="the flow")
        link.scroll_into_view_if_needed()
        assert notebook.page.evaluate(height) < 0
        link.click()
        notebook.page.wait_for_function(f"() => {height} > 0")
