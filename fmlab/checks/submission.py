"""Before a lab is handed in: does the saved file run from top to bottom in a fresh process, and what is still open?

    lab1.submission()                                     in the notebook
    python -m fmlab submission lab1_simulation.ipynb      in a terminal

The file is only read. A notebook remembers what ran before, in whatever order; the one who grades it starts from
nothing, and so does this.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from fmlab import extras
from fmlab.checks.notebook import NotReady, find, points, read, shell
from fmlab.checks.verdict import GREEN, MIME, RED, Verdict, card, show
from fmlab.training import progress_bar

SECONDS = 300  # for one cell, as when it is graded
SHOWN = 3  # cells that end with an error
INSIDE = "FMLAB_SUBMISSION"  # set in the fresh process, where this is not begun once more
UNANSWERED = ("", "*Write your answer here.*")
ABSENT = "its check is not in the notebook, or did not run"


def submission(path: str | Path | None = None) -> None:
    """Show what a notebook is worth as it is saved: whether it runs from top to bottom, and what is still open.

    path: the notebook's file; by default the notebook that this is called from. Interrupting it (■) leaves no trace.
    """
    if INSIDE in os.environ:
        return
    try:
        show(examine(find(path)))
    except NotReady as reason:
        show(Card("✗ nothing to hand in yet", [str(reason)], RED))
    except KeyboardInterrupt:
        print("stopped; nothing was changed. Run this cell again before you hand the notebook in.")


def examine(path: Path) -> Card:
    """The card on a notebook's file. Raises NotReady where the file is not what the open notebook says, or no lab."""
    nb = read(path)
    saved = time.strftime("%H:%M:%S", time.localtime(path.stat().st_mtime))
    exercises = points(nb)
    if not exercises:
        raise NotReady("this is none of the labs: it has no check of an exercise")
    if unsaved := changed_since_saved(nb, exercises):
        raise NotReady(
            f"{path.name}, saved at {saved}, is older than what you see: {', '.join(unsaved)} ran with another text. "
            "Save the notebook (Ctrl + S, or ⌘ + S), run that cell again if you changed it back, then run this again."
        )
    begin = time.monotonic()
    execute(nb, path.parent)
    took = f"saved at {saved}; run from top to bottom in {time.monotonic() - begin:.0f} s"
    return summary(path.name, took, exercises, Outcome.of(nb))


# --- the file ---------------------------------------------------------------------------------------------------------


def changed_since_saved(nb, exercises) -> list[str]:
    """The exercises whose function was last defined in this session by a cell that the file does not have."""
    open_, saved = shell(), {cell.source.strip() for cell in nb.cells}
    ran = [source.strip() for source in open_.history_manager.input_hist_raw] if open_ else []
    latest = {
        name: source
        for source in ran
        for name in re.findall(r"^def (\w+)\(", source, re.MULTILINE)
        if name in exercises
    }
    return [name for name, source in latest.items() if source not in saved]


# --- a fresh process --------------------------------------------------------------------------------------------------


def execute(nb, folder: Path) -> None:
    """Run a notebook in a fresh kernel and leave the outputs in it. Raises NotReady if the kernel dies.

    The kernel's messages are waited for in a thread with an event loop of its own, since a notebook's own loop is busy
    with the cell that called this; so an interrupt arrives here, and ends the kernel.
    """
    with extras.needed("running a notebook"):
        from nbclient import NotebookClient
        from nbclient.exceptions import DeadKernelError

    begun = []
    client = NotebookClient(
        nb,
        kernel_name="python3",
        allow_errors=True,
        timeout=SECONDS,
        interrupt_on_timeout=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder.resolve())}},
        on_cell_start=lambda cell, cell_index: begun.append(cell_index),
    )
    loop = asyncio.new_event_loop()
    run = loop.create_task(client.async_execute(env=os.environ | {INSIDE: "1", "TQDM_DISABLE": "1"}))
    with ThreadPoolExecutor(1) as thread, progress_bar("running the notebook", len(nb.cells)) as bar:
        ended = thread.submit(loop.run_until_complete, run)
        try:
            while not wait([ended], timeout=0.2).done:
                bar.update(len(begun) - bar.n)
            ended.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(run.cancel)
            raise
        except DeadKernelError:
            raise NotReady(
                f"the process died in cell {begun[-1] + 1 if begun else 1}, perhaps for want of memory"
            ) from None
        finally:
            thread.shutdown()  # waits until the kernel is gone
            loop.close()


# --- what came of it --------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """verdicts: the last one on each exercise, by name. broken: cells that end with an error that is no verdict.
    unanswered, answered: written questions."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, nb) -> Outcome:
        outcome = cls()
        for number, cell in enumerate(nb.cells, start=1):
            grading = cell.metadata.get("nbgrader", {})
            if cell.cell_type == "markdown" and grading.get("grade") and grading.get("solution"):
                blank = cell.source.strip() in UNANSWERED
                (outcome.unanswered if blank else outcome.answered).append(grading["grade_id"])
            for output in cell.get("outputs", []):
                outcome._note(output, number)
        return outcome

    def _note(self, output, number: int) -> None:
        """A verdict, or an error that is none."""
        if fields := output.get("data", {}).get(MIME):
            self.verdicts[fields["exercise"]] = Verdict(**fields)
        elif output.output_type == "error" and output.ename != "CheckFailed":
            self.broken.append(f"cell {number}: {_error(output)}")


def _error(output) -> str:
    if output.ename == "KeyboardInterrupt":
        return f"stopped after {SECONDS} seconds; a loop that never ends?"
    return f"{output.ename}: {output.evalue.splitlines()[0] if output.evalue else ''}"


def summary(name: str, took: str, exercises: dict, outcome: Outcome) -> Card:
    """The card on a notebook that was run."""
    code, questions = _code(exercises, outcome), _questions(outcome)
    if outcome.broken:
        lines = [took, *_broken(outcome.broken), *code, *questions]
        return Card(f"✗ {name} does not run from top to bottom", lines, RED)
    complete = len(code) == 1 and len(questions) <= 1
    lines = [
        took,
        *code,
        *questions,
        f"To hand it in, send this one file, {name}, in the way your course collects work.",
    ]
    return Card(f"✓ {name} {'is complete' if complete else 'can be handed in; some of it is open'}", lines, GREEN)


def _code(exercises: dict, outcome: Outcome) -> list[str]:
    """How many exercises pass, and what is wrong with each of the others."""
    verdicts = {name: outcome.verdicts.get(name) or Verdict(name, False, ABSENT) for name in exercises}
    passed = [name for name, verdict in verdicts.items() if verdict.passed]
    earned, most = sum(exercises[name] for name in passed), sum(exercises.values())
    return [f"exercises that pass: {len(passed)} of {len(exercises)}, {earned:g} of {most:g} points for code"] + [
        verdict.head for verdict in verdicts.values() if not verdict.passed
    ]


def _questions(outcome: Outcome) -> list[str]:
    """How many written questions are answered, if there are any, and which are not."""
    answered, count = len(outcome.answered), len(outcome.answered) + len(outcome.unanswered)
    open_ = [f"✗ {name}: not answered yet" for name in outcome.unanswered]
    return [f"questions answered: {answered} of {count}", *open_] if count else []


def _broken(cells: list[str]) -> list[str]:
    """The first cells that end with an error, and where to look."""
    others = [f"… and {len(cells) - SHOWN} more, perhaps because of these"] if len(cells) > SHOWN else []
    return [f"✗ {cell}" for cell in cells[:SHOWN]] + [
        *others,
        "Kernel → Restart Kernel and Run All Cells… shows you the same. If a cell worked before, then by "
        "something that is gone from the notebook, or that ran in another order, and was still in its memory.",
    ]


# --- the card ---------------------------------------------------------------------------------------------------------


@dataclass
class Card:
    """A heading and lines, which a notebook shows on a card; ready: whether the file can be handed in as it is."""

    head: str
    lines: list[str]
    color: str

    @property
    def ready(self) -> bool:
        return self.head.startswith("✓")

    def __repr__(self):
        return "\n  ".join([self.head, *self.lines])

    def _repr_html_(self):
        lines = "".join(f"<br>{html.escape(line)}" for line in self.lines)
        return card(f"<b>{html.escape(self.head)}</b>{lines}", self.color)
