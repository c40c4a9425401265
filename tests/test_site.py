"""The site: built with no network, read with none; every link leads somewhere and every formula is one."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from course import build
from course.edition import tomllib
from course.mathml import mathml
from course.site.__main__ import write_pages
from fmlab.checks import notebook
from tests.browser import CHROMIUM, PATIENCE, Notebook, chromium, expect, jupyterlab, violations
from tests.labs import SOURCES
from tests.walls import possible

LAB = "lab1_simulation/lab1_simulation"
LABS = [source.stem for source in SOURCES]
pytestmark = pytest.mark.slow
NO_NETWORK = ["bwrap", "--unshare-net", "--dev-bind", "/", "/"] if possible("bwrap") else []


class Page(HTMLParser):
    """What some HTML holds: anchors, links, images and whatever else a browser fetches; of its article the number of
    formulas, the text, and the words that are not code."""

    FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
    CODE = {"pre", "code", "script", "style"}

    def __init__(self, html: str):
        super().__init__()
        self.anchors, self.links, self.fetched, self.images = [], [], [], []
        self.formulas, self.text, self.words, self.code, self.aside = 0, "", "", 0, "<article" in html
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors += [attrs["id"]] if "id" in attrs else []
        self.aside = self.aside and tag != "article"
        self.formulas += tag == "math" and not self.aside
        self.code += tag in self.CODE
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        if url := attrs.get(self.FETCHED.get(tag)):
            self.fetched.append(url)

    def handle_endtag(self, tag):
        self.code -= tag in self.CODE
        self.aside = self.aside or tag == "article"

    def handle_data(self, data):
        if not self.aside:
            self.text += data
            self.words += data if not self.code else ""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site, built behind a wall that lets no network through, where there is one."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run([*NO_NETWORK, sys.executable, "-m", "course.site", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    paths = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    return {path: Page(path.read_text(encoding="utf-8")) for path in paths}


def lab_page(pages, site, folder, lab):
    return pages[site / folder / lab / f"{lab}.html"]


# --- links ------------------------------------------------------------------------------------------------------------


def test_every_link_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for url in [*page.links, *page.fetched]:
            if urlsplit(url).scheme:
                continue
            name, _, anchor = unquote(url).partition("#")
            target = (path.parent / name.partition("?")[0]).resolve() if name else path
            if not target.is_file() or site not in target.parents:
                broken.append(f"{path.relative_to(site)}: {url}")
            elif anchor and target.suffix == ".html" and anchor not in pages[target].anchors:
                broken.append(f"{path.relative_to(site)}: {url} has no such anchor")
    assert not broken, "\n".join(broken)


def test_nothing_is_fetched_from_elsewhere(site, pages):
    fetched = [url for page in pages.values() for url in page.fetched]
    for style in site.rglob("*.css"):
        fetched += re.findall(r"""(?:url\(|@import)\s*["']?([^"')]+)""", style.read_text(encoding="utf-8"))
    assert fetched
    assert not [url for url in fetched if urlsplit(url).scheme not in ("", "data") or url.startswith("//")]


def test_every_page_can_be_reached_from_the_start(site, pages):
    seen, front = set(), [site / "index.html"]
    while front:
        path = front.pop()
        if path in pages and path not in seen:
            seen.add(path)
            front += [(path.parent / unquote(re.split("[?#]", url)[0])).resolve() for url in pages[path].links]
    assert {path for path in pages if path.name != "search.html"} <= seen


def test_one_goes_through_the_labs_by_next_and_previous(site):
    for lab, following in zip(LABS, LABS[1:]):
        before, after = ((site / "labs" / each / f"{each}.html").read_text() for each in (lab, following))
        assert re.search(rf'<a class="right-next"\s+href="../{following}/{following}.html"', before)
        assert re.search(rf'<a class="left-prev"\s+href="../{lab}/{lab}.html"', after)


@pytest.mark.parametrize("lab", LABS)
def test_a_lab_and_its_solution_are_one_click_apart(lab, site, pages):
    to_do, solution = (lab_page(pages, site, folder, lab) for folder in ("labs", "solutions"))
    back_and_forth = f"../../{{}}/{lab}/{lab}.html"
    assert back_and_forth.format("labs") in solution.links
    assert back_and_forth.format("solutions") in to_do.links
    exercises = [anchor for anchor in solution.anchors if anchor.endswith("-answer")]
    assert exercises
    for anchor in exercises:
        assert f"{back_and_forth.format('solutions')}#{anchor}" in to_do.links


@pytest.mark.parametrize("lab", LABS)
def test_the_notebooks_are_there_to_download(lab, site, pages):
    handed_out = build.release(build.read(*build.sources([lab])))
    for folder, expected in (("labs", handed_out), ("solutions", None)):
        name = f"_sources/{folder}/{lab}/{lab}.ipynb"
        assert f"../../{name}" in lab_page(pages, site, folder, lab).links
        nb = nbformat.read(site / name, as_version=4)
        assert nb == (expected or nbformat.read(build.notebook_path(folder, lab), as_version=4))


def test_labs_open_elsewhere_where_the_address_of_the_repository_is_set(site, pages):
    project = tomllib.loads((build.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project.get("urls", {}).get("Repository", "")
    links = lab_page(pages, site, "labs", LABS[0]).links
    elsewhere = [url for url in links if re.match("https://(mybinder|colab)[^?]*", url)]
    assert len(elsewhere) == (2 if repository else 0)
    for url in elsewhere:
        assert urlsplit(repository).path in url and url.endswith(f"labs/{LABS[0]}/{LABS[0]}.ipynb")


def test_a_link_to_nothing_stops_the_build(tmp_path, capsys):
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "index.md").write_text("# Start\n\n[Errata](erata.md)\n")
    with pytest.raises(build.BuildError):
        write_pages(tmp_path / "sources", tmp_path / "html")
    assert "index.md:3" in (said := capsys.readouterr().err) and "erata.md" in said


# --- what is on a lab's page ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_lab_gives_no_answer_away(source, site, pages):
    to_do, solution = (lab_page(pages, site, folder, source.stem) for folder in ("labs", "solutions"))
    stubs = {cell.id: cell.source for cell in build.release(build.read(source)).cells if build.is_solution(cell)}
    given = "\n".join(cell.source for cell in build.release(build.read(source)).cells)
    for cell in nbformat.read(build.notebook_path("solutions", source.stem), as_version=4).cells:
        lines = [line.strip() for line in cell.source.splitlines() if cell.id in stubs and line not in stubs[cell.id]]
        for line in lines:
            if len(line) > 20 and line not in given and cell.cell_type == "code":
                assert line in solution.text and line not in to_do.text
    assert "gives all answers of the lab away" in solution.words and "gives all answers" not in to_do.words
    assert not re.search("You have typed no prediction", to_do.text)  # the numbers that students are to guess


@pytest.mark.parametrize("lab", LABS)
def test_a_lab_shows_the_figures_of_its_solution(lab, site, pages):
    to_do, solution = (lab_page(pages, site, folder, lab).images for folder in ("labs", "solutions"))
    assert [image["alt"] for image in to_do] == [image["alt"] for image in solution]
    assert sum(bool(image["alt"]) for image in to_do) > 3


# --- formulas ---------------------------------------------------------------------------------------------------------


def formulas(source: Path) -> list[str]:
    """The formulas in the text cells that a source releases, found without a Markdown parser."""
    cells = [cell.source for cell in build.release(build.read(source)).cells if cell.cell_type == "markdown"]
    return re.findall(r"(?s)\$\$.+?\$\$|\$[^$]+\$", re.sub("`[^`]*`", "", "\n\n".join(cells)))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_formula_of_a_lab_became_mathematics(source, site, pages):
    assert lab_page(pages, site, "labs", source.stem).formulas == len(formulas(source)) > 0


def test_no_formula_is_left_in_tex(site, pages):
    left = [(path.name, line) for path, page in pages.items() for line in re.findall(r".*(?:\$|\\[a-z]).*", page.words)]
    assert not left


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


def test_every_picture_has_words(pages):
    assert not [(path.name, image) for path, page in pages.items() for image in page.images if "alt" not in image]


@pytest.mark.parametrize("lab", LABS)
def test_figures_say_on_the_site_what_they_say_in_the_notebook(lab, site, pages):
    nb = nbformat.read(build.notebook_path("solutions", lab), as_version=4)
    shown = [output.get("data", {}).get("text/html", "") for cell in nb.cells for output in cell.get("outputs", [])]
    said = [image["alt"] for html in shown for image in Page(html).images]
    images = lab_page(pages, site, "solutions", lab).images
    assert [image["alt"] for image in images if image["src"].startswith("data:")] == said
    assert all(said)


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
        page.set_default_timeout(1000 * PATIENCE)
        page.on("console", lambda message: message.type in ("warning", "error") and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
        page.goto(f"{site.as_uri()}/{name}")
        return page

    yield visit
    assert not complaints


WIDTHS, SCHEMES = (1440, 390), ("light", "dark")
PAGES = ["index.html", f"labs/{LAB}.html", f"solutions/{LAB}.html", "docs/notation.html", "reference/fmlab.ddpm.html"]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_each_kind_can_be_read_by_all_and_fits_the_screen(visit, name, width, scheme):
    page = visit(name, viewport={"width": width, "height": 800}, color_scheme=scheme)
    expect(page.locator("article h1")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    heights = page.evaluate("[...document.querySelectorAll('article math')].map(m => m.getBoundingClientRect().height)")
    assert all(height > 5 for height in heights if height)  # those in closed hints have none
    assert not name.startswith(("labs", "solutions")) or sum(height > 5 for height in heights) > 50
    background = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (min(background) > 200) == (scheme == "light")


@pytest.mark.browser
@pytest.mark.parametrize("first, width, scheme", [*zip((0, 1), WIDTHS, SCHEMES)])
def test_every_page_can_be_read_by_all_and_fits_the_screen(visit, site, pages, first, width, scheme):
    """But for code, formulas and the list of all pages, which take axe long and are alike on the pages above. axe looks
    at each page once, by day or by night."""
    page, found = visit("index.html", viewport={"width": width, "height": 800}, color_scheme=scheme), []
    for number, path in enumerate(pages):
        page.goto(path.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth") > width
        page.evaluate("document.querySelectorAll('pre, math, .bd-sidebar-primary li').forEach(part => part.remove())")
        said = violations(page) if number % 2 == first else []
        found += [f"{path.relative_to(site)}: {words}" for words in [*said, *["too wide"] * wide]]
    assert not found, "\n".join(found)


@pytest.mark.browser
def test_a_search_finds_a_word_without_a_network(visit):
    page = visit("search.html?q=churn")
    first = page.locator("#search-results li a").first
    expect(first).to_be_visible()
    first.click()
    expect(page.locator("article")).to_contain_text("churn")


@pytest.mark.browser
def test_an_animation_plays_on_the_page(visit):
    page = visit(f"labs/{LAB}.html")
    player = page.locator("figure").filter(has=page.get_by_role("button", name="Play")).first
    shown = player.locator("img").first.evaluate("image => image.style.marginTop")
    player.get_by_role("button", name="Play").click()
    page.wait_for_function("before => document.querySelector('figure img').style.marginTop !== before", arg=shown)


@pytest.mark.browser
def test_the_first_picture_stands_still_where_the_reader_asks_for_that(visit):
    for motion, moves in (("no-preference", True), ("reduce", False)):
        picture = visit("index.html", reduced_motion=motion).locator("article img").first
        assert ("normal" in picture.evaluate("image => getComputedStyle(image).content")) == moves


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
