"""What a student is told before handing in: of whole notebooks and broken ones, in a terminal and in a real kernel."""

import copy
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fmlab.__main__ import main
from fmlab.checks import submission as hand_in
from tests import submissions

ROOT = Path(__file__).resolve().parents[1]
LAB = "lab0_welcome"
IMPORT = "from fmlab.checks import lab0"
RIGHT = "def interpolate(noise, data, t):\n    return (1 - t) * noise + t * data"


def asked(name: str, points: float) -> NotebookNode:
    """The check of an exercise."""
    grading = {"grade": True, "solution": False, "grade_id": name, "points": points}
    return new_code_cell(f"lab0.{name}({name})", metadata={"nbgrader": grading})


CHECK = asked("interpolate", 2)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def library_on_the_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


def saved(path: Path, *cells) -> Path:
    """A notebook's file; a cell is code, or a cell already."""
    made = [new_code_cell(cell) if isinstance(cell, str) else copy.deepcopy(cell) for cell in cells]
    for number, cell in enumerate(made):
        cell.id = f"cell-{number}"
    nb = new_notebook(cells=made)
    nbformat.write(nb, path)
    return path


@pytest.fixture
def command(capsys):
    """`python -m fmlab submission` without a process of its own: the exit status, and the lines that are shown."""

    def command(path: Path) -> tuple[int, list[str]]:
        status, shown = main(["submission", str(path)]), capsys.readouterr()
        return status, [line.strip() for line in (shown.out + shown.err).splitlines()]

    return command


def in_terminal(path: Path) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "fmlab", "submission", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, [line.strip() for line in done.stdout.splitlines()]


def test_a_solved_lab_is_complete_and_its_file_is_left_alone(tmp_path):
    path = tmp_path / f"{LAB}.ipynb"
    nbformat.write(submissions.solved(LAB), path)
    before = path.read_bytes()
    status, lines = in_terminal(path)
    assert status == 0 and lines[0] == f"✓ {LAB}.ipynb is complete"
    assert "exercises that pass: 2 of 2, 3 of 3 points for code" in lines and "questions answered: 1 of 1" in lines
    assert any(f"send this one file, {LAB}.ipynb" in line for line in lines)
    assert not any("✗" in line for line in lines)
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_is_open_is_listed_with_its_verdict(tmp_path, command):
    nb = submissions.with_answers(
        LAB,
        {"draw_noise": "def draw_noise(n, d):\n    return torch.rand(n, d)"},
        start=submissions.blank(LAB),
    )
    nb.cells = [cell for cell in nb.cells if cell.get("id") != "interpolate"]  # the check is gone
    path = tmp_path / "renamed (1).ipynb"
    nbformat.write(nb, path)
    status, lines = command(path)
    assert status == 0 and lines[0] == "✓ renamed (1).ipynb can be handed in; some of it is open"
    assert "exercises that pass: 0 of 2, 0 of 1 points for code" in lines and "questions answered: 0 of 1" in lines
    assert any(re.match("✗ draw_noise: .*; it looks as if this is torch.rand,", line) for line in lines)
    assert "✗ interpolate: its check is not in the notebook, or did not run" in lines
    assert "✗ velocity_of_a_point: not answered yet" in lines


def test_a_cell_that_fails_in_a_fresh_process_is_named(tmp_path, command):
    """What the notebook still remembers is no help to the one who grades it."""
    broken = "interpolate = made_in_a_cell_that_was_deleted"
    path = saved(tmp_path / "lab.ipynb", IMPORT, broken, CHECK, RIGHT, CHECK, asked("draw_noise", 1), "draw_noise(3)")
    status, lines = command(path)
    assert status == 1 and lines[0] == "✗ lab.ipynb does not run from top to bottom"
    assert "✗ cell 2: NameError: name 'made_in_a_cell_that_was_deleted' is not defined" in lines
    assert "exercises that pass: 1 of 2, 2 of 3 points for code" in lines  # the last verdict counts
    # The verdict that a function is not defined is no other fault; where it is used beside a check, it is one.
    assert not any("cell 3" in line or "cell 6" in line for line in lines)
    assert any(line.startswith("✗ draw_noise: not defined yet; run the cell above") for line in lines)
    assert "✗ cell 7: NameError: name 'draw_noise' is not defined" in lines


def test_of_many_failing_cells_the_first_are_named(tmp_path, command):
    path = saved(tmp_path / "lab.ipynb", IMPORT, *["1 / 0"] * 7, CHECK)
    _, lines = command(path)
    assert [line for line in lines if "division" in line] == [
        f"✗ cell {number}: ZeroDivisionError: division by zero" for number in (2, 3, 4)
    ]
    assert "… and 4 more, perhaps because of these" in lines


def test_a_process_that_dies_and_a_cell_that_never_ends(tmp_path, command, monkeypatch):
    path = saved(tmp_path / "dies.ipynb", CHECK, "import os; os._exit(1)")
    status, lines = command(path)
    assert status == 1 and "the process died in cell 2" in lines[-1]
    path = saved(tmp_path / "endless.ipynb", "while True:\n    pass", CHECK)
    monkeypatch.setattr(hand_in, "SECONDS", 2)
    card = hand_in.examine(path)
    assert not card.ready and any("cell 1: stopped after 2 seconds" in line for line in card.lines)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.ipynb", None, "there is no file missing.ipynb"),
        ("text.ipynb", "# a text", "is not a notebook"),
        ("other.ipynb", json.dumps(new_notebook(cells=[new_markdown_cell("hello")])), "none of the labs"),
    ],
)
def test_what_is_no_lab_is_told_so(tmp_path, command, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    status, lines = command(tmp_path / name)
    assert status == 1 and words in lines[-1]


class Kernel:
    """A notebook's kernel, as JupyterLab starts it for a file."""

    def __init__(self, path: Path | None):
        env = os.environ | ({"JPY_SESSION_NAME": str(path)} if path else {}) | {"TQDM_DISABLE": "1"}
        self.manager, self.client = start_new_kernel(env=env, extra_arguments=["--log-level=ERROR"])

    def run(self, code: str, meanwhile=None) -> str:
        """All that a cell shows, in words."""
        shown = []

        def listen(message):
            content = message["content"]
            shown.append(content.get("text") or content.get("data", {}).get("text/plain") or content.get("evalue", ""))

        if meanwhile:
            threading.Thread(target=meanwhile, daemon=True).start()
        self.client.execute_interactive(code, output_hook=listen, store_history=True)
        return "\n".join(map(str, shown))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def test_on_colab_words_say_how_the_notebook_is_handed_in_and_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    monkeypatch.setenv("JPY_SESSION_NAME", "/content/fileId=https%3A//github.com/lab1_simulation.ipynb")
    with pytest.raises(hand_in.NotReady, match=r"download it \(File → Download → Download .ipynb\)"):
        hand_in.find()
    assert hand_in.find(saved(tmp_path / "lab.ipynb", IMPORT)) == tmp_path / "lab.ipynb"


def test_in_a_notebook_the_saved_file_is_examined_and_one_that_is_older_is_not(tmp_path):
    """The file calls `submission` itself, too, which does not begin it once more in the fresh process."""
    path = saved(tmp_path / "lab.ipynb", IMPORT, RIGHT, CHECK, "lab0.submission()")
    with Kernel(path) as kernel:
        kernel.run(IMPORT)
        kernel.run("def interpolate(noise, data, t):\n    return data")
        assert "lab.ipynb, saved at" in (shown := kernel.run("lab0.submission()"))
        assert "is older than what you see: interpolate ran with another text" in shown and "Save the notebook" in shown
        kernel.run(RIGHT)
        shown = kernel.run("lab0.submission()")
        assert "exercises that pass: 1 of 1, 2 of 2 points" in shown and shown.count("is complete") == 1
        path.rename(tmp_path / "other.ipynb")
        assert "has it been renamed or moved?" in kernel.run("lab0.submission()")
        assert "other.ipynb is complete" in kernel.run(f"lab0.submission({str(tmp_path / 'other.ipynb')!r})")


def test_a_notebook_that_does_not_know_its_file_asks_for_it(tmp_path):
    with Kernel(None) as kernel:
        assert "which file this notebook is cannot be told" in kernel.run(f"{IMPORT}\nlab0.submission()")


def test_an_interrupt_ends_the_fresh_process_and_says_that_nothing_changed(tmp_path):
    mark = tmp_path / "pid"
    sleeper = f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(3600)"
    path = saved(tmp_path / "lab.ipynb", IMPORT, sleeper, CHECK)

    with Kernel(path) as kernel:

        def interrupt():
            while not (mark.exists() and mark.read_text()):
                time.sleep(0.1)
            kernel.manager.interrupt_kernel()

        assert "stopped; nothing was changed" in kernel.run(f"{IMPORT}\nlab0.submission()", meanwhile=interrupt)
        assert kernel.run("print(1 + 1)").strip() == "2"
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)


def test_the_card_escapes_what_a_notebook_says():
    card = hand_in.Card("✗ a", ["<script>alert(1)</script>"], hand_in.RED)
    assert "<script>" not in card._repr_html_() and 'role="status"' in card._repr_html_()
