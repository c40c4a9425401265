"""The cell that installs fmlab where it is missing, and links that open the labs elsewhere: all of one address."""

import builtins
import re
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
from IPython.core.interactiveshell import InteractiveShell

from course import build, hosted, judge
from course.repair import repair
from tests import submissions
from tests.test_documents import PAGES, text

SOURCES = build.sources()
LAB = "lab0_welcome"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_first_cell_of_code_installs_what_is_missing_and_is_folded(source):
    first, setup = [cell for cell in build.read(source).cells if cell.cell_type == "code"][:2]
    assert hosted.is_install(first) and first.metadata.jupyter.source_hidden
    assert first.source.startswith("# ") and "import torch" in setup.source


@pytest.mark.parametrize("missing", [True, False])
def test_it_asks_pip_where_fmlab_is_missing_and_else_does_nothing(missing, monkeypatch):
    shell, asked = InteractiveShell(), []
    monkeypatch.setattr(shell, "run_line_magic", lambda name, line, *_: asked.append((name, line)))
    shell.user_ns["get_ipython"] = lambda: shell
    shell.user_ns["__builtins__"] = vars(builtins).copy()
    if missing:
        monkeypatch.setitem(sys.modules, "fmlab", None)
    assert shell.run_cell(hosted.install(LAB).source).success
    assert asked == [("pip", f'install -q "fmlab[labs] @ git+{hosted.address()}"')] * missing


def test_a_grader_runs_the_set_up_of_a_notebook_that_lost_it_and_not_the_installation():
    nb = submissions.solved(LAB)
    full = build.read(*build.sources([LAB]))
    setup = next(cell for cell in full.cells if "import torch" in cell.source)
    nb.cells = [cell for cell in nb.cells if cell.id not in (setup.id, f"{LAB}-install")]
    repaired = repair(build.as_bytes(nb), build.release(full))
    assert any("imports was missing" in note for note in repaired.notes)
    assert setup.source in {cell.source for cell in repaired.notebook.cells}
    ran = judge.to_run(nb, full)
    assert ran[0].source == setup.source and not any(map(hosted.is_install, ran))


def test_links_lead_to_notebooks_that_are_there():
    owner_and_name = hosted.address().removeprefix("https://github.com/")
    for source in SOURCES:
        path = f"labs/{source.stem}/{source.stem}.ipynb"
        assert (build.ROOT / path).is_file()
        assert hosted.colab(source.stem).endswith(f"/github/{owner_and_name}/blob/main/{path}")
        binder = urlsplit(hosted.binder(source.stem))
        assert binder.path == f"/v2/gh/{owner_and_name}/main"
        assert parse_qs(binder.query) == {"urlpath": [f"lab/tree/{path}"]}
    pull = urlsplit(hosted.nbgitpuller("https://hub.example.org/", "https://example.org/a/labs.git", "labs/one.ipynb"))
    assert pull.hostname == "hub.example.org" and pull.path == "/hub/user-redirect/git-pull"
    asked = {key: value for key, (value,) in parse_qs(pull.query).items()}
    assert asked == {
        "repo": "https://example.org/a/labs.git",
        "branch": "main",
        "urlpath": "lab/tree/labs/labs/one.ipynb",
    }


def test_no_page_names_another_address():
    named = {link for name in PAGES for link in re.findall(r"git\+(https://[\w./-]+)", text(name))}
    assert named <= {hosted.address()}
