"""A real JupyterLab in a real Chromium, and what a student does there: open, run, type, move a slider."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
PATIENCE = 60  # seconds to wait for anything; a busy machine needs them
TOKEN = "for-this-test"
DONE = re.compile(r"\[\d+\]:")  # beside a cell that has run

expect.set_options(timeout=1000 * PATIENCE)

needs_a_browser = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: install chromium, chromium-browser or google-chrome"),
]


@contextmanager
def student_desk(folder: Path, home: Path) -> Iterator[Callable[[str], "Notebook"]]:
    """A function that opens a notebook of labs/ or solutions/; one JupyterLab and one browser for all of them.

    folder, home: empty folders for the notebooks and for what Jupyter writes down.
    """
    for name in ("labs", "solutions"):
        shutil.copytree(ROOT / name, folder / name)
    with jupyterlab(folder, home) as address, chromium() as browser:
        yield lambda path: Notebook(browser, address, folder, path)


@contextmanager
def jupyterlab(folder: Path, home: Path, start: Path = ROOT) -> Iterator[str]:
    """The address of a JupyterLab on `folder`, started as `make lab` does but without this user's settings.

    home: an empty folder for what Jupyter writes down. start: where the command is given, and nbgrader's settings are.
    """
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", f"--notebook-dir={folder}", "--no-browser", f"--port={port}"]
    command += ["--allow-root", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    own = {f"JUPYTER_{name.upper()}_DIR": str(home / name) for name in ("config", "data", "runtime")}
    env = os.environ | own | {"IPYTHONDIR": str(home / "ipython"), "PYTHONPATH": str(ROOT)}
    env.pop("MPLBACKEND", None)  # figures go into the notebook
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, cwd=start, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(server, f"http://127.0.0.1:{port}/api", home / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(server)


def _wait_for(server: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=PATIENCE).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


def _stop(server: subprocess.Popen) -> None:
    """Ask the server to end its kernels and itself, and end its process group if it does not."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    flags = ["--disable-gpu", "--disable-quic", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds critical or serious on a page: for each place the rule, where, and what is wrong."""
    options = {"resultTypes": ["violations"], "preload": False}  # else it fetches the styles once more
    found = Axe().run(page, options=options).response["violations"]
    grave = [rule for rule in found if rule["impact"] in ("critical", "serious")]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in grave for node in rule["nodes"]]


class Notebook:
    """A notebook open in JupyterLab. A cell is named by a piece of the source that it has in the file.

    errors: outputs that are errors. complaints: what widgets had to say on the browser's console.
    """

    def __init__(self, browser: Browser, address: str, folder: Path, path: str):
        self.sources = ["".join(cell["source"]) for cell in json.loads((folder / path).read_text())["cells"]]
        self.page, self.complaints = browser.new_page(viewport={"width": 1280, "height": 1000}), []
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("console", lambda message: message.type == "error" and self._note(message.text))
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.cells = self.page.locator(".jp-Notebook-cell")
        self.errors = self.page.locator("[data-mime-type='application/vnd.jupyter.stderr']")
        self.page.goto(f"{address}/lab/tree/{path}?reset&token={TOKEN}")
        expect(self.page.locator(".jp-KernelName")).to_contain_text("Python")
        expect(self.page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle")
        expect(self.cells).to_have_count(len(self.sources))

    def _note(self, complaint: str) -> None:
        if re.search("widget|model", complaint, re.IGNORECASE):
            self.complaints.append(complaint)

    def cell(self, piece: str) -> Locator:
        (index,) = [k for k, source in enumerate(self.sources) if piece in source]
        return self.cells.nth(index)

    def outputs(self, piece: str) -> Locator:
        return self.cell(piece).locator(".jp-OutputArea-output")

    def run_all(self) -> None:
        """Run all cells, and wait for the last; it never runs if one before it stops the notebook."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        expect(self.page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text(DONE, timeout=15_000 * PATIENCE)

    def run(self, piece: str) -> None:
        """Run one cell, and wait for it."""
        prompt = self.cell(piece).locator(".jp-InputPrompt")
        if (folded := self.cell(piece).locator(".jp-InputPlaceholder")).count():
            folded.click()
        before = prompt.text_content()
        self.cell(piece).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        expect(prompt).not_to_have_text(before)
        expect(prompt).to_have_text(DONE, timeout=15_000 * PATIENCE)

    def write(self, piece: str, source: str) -> None:
        """Replace all that a cell says."""
        self.cell(piece).locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(source)

    def answer(self, name: str, line: str) -> Locator:
        """Solve an exercise by `line`, run it and its check. Returns what the check shows."""
        (stub,) = [source for source in self.sources if f"def {name}(" in source]
        return self.solve(name, re.sub("raise NotImplementedError.*", lambda _: line, stub))

    def solve(self, name: str, source: str) -> Locator:
        """Write the cell of an exercise, run it and its check. Returns what the check shows."""
        exercise, check = f"def {name}(", f".{name}({name})"
        self.write(exercise, source)
        self.run(exercise)
        self.run(check)
        return self.outputs(check)

    def save(self) -> None:
        self.page.get_by_role("menuitem", name="File", exact=True).click()
        self.page.get_by_text("Save Notebook", exact=True).click()
        expect(self.page.locator(".jp-mod-current.jp-mod-dirty")).to_have_count(0)


class Slider:
    """A slider of an explorer, with the picture that follows it."""

    def __init__(self, explorer: Locator, number: int):
        slider = explorer.locator(".widget-slider").nth(number)
        self.track, self.handle = slider.locator(".noUi-base"), slider.locator(".noUi-handle")
        self.readout, self.picture = slider.locator(".widget-readout"), explorer.locator("img")

    def press(self, key: str) -> None:
        self.handle.focus()
        self.handle.press(key)

    def drag(self, share: float) -> None:
        """Drag the handle to a share of the track's length; again where a page still being laid out slips away."""
        before = self.handle.get_attribute("aria-valuenow")
        for _ in range(3):
            box = self.track.bounding_box()
            self.handle.drag_to(self.track, target_position={"x": share * box["width"], "y": box["height"] / 2})
            if self.handle.get_attribute("aria-valuenow") != before:
                break

    def moves_picture(self, act: Callable[[], None]) -> None:
        """Assert that the picture changes with the act, and that its words come to tell the slider's new value."""
        words, source = self.picture.get_attribute("alt"), self.picture.get_attribute("src")
        act()
        expect(self.picture).not_to_have_attribute("alt", words)
        value = f"{float(self.readout.text_content()):g}"
        zeros = "0*" if "." in value else r"(\.0+)?"
        expect(self.picture).to_have_attribute("alt", re.compile(rf"(?<![\d.]){re.escape(value)}{zeros}(?!\.?\d)"))
        expect(self.picture).not_to_have_attribute("src", source)
        assert self.picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
