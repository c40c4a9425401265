"""How long a lab takes: one rule for all labs, and the table of labs that is made by it.

    python -m course pace [labs] [--run]        cells, words, lines and minutes of each lab; with --run, seconds too

The rule was fitted to the hours that readers of labs 1 to 6 took. A core of at most two hours is what a lab is to have;
the text of a further exercise runs from its heading to the next one.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jupytext
from nbformat import NotebookNode

from course import build, hosted
from course.build import ROOT, Cell

WORDS_A_MINUTE, AN_EXERCISE, A_LINE, A_QUESTION = 130, 4, 1.5, 5  # the last three in minutes
LISTS = {"README.md": "labs/", "labs/README.md": "", "docs/site/index.md": "../../labs/"}  # and how links begin there
MARKS = "<!-- labs: made by `make build` -->", "<!-- end of labs -->"


class Part(NamedTuple):
    """The core of a lab, or what is further. lines: of solutions."""

    words: int
    exercises: int
    questions: int
    lines: int

    @property
    def minutes(self) -> float:
        reading = self.words / WORDS_A_MINUTE
        return reading + AN_EXERCISE * self.exercises + A_LINE * self.lines + A_QUESTION * self.questions


class Pace(NamedTuple):
    """What a lab asks for. stubs: lines of the cells with exercises, signatures and docstrings included. open, folded:
    the lengths of the cells of code that are given, by whether they are shown. title, writes, needs: what its first
    cell says of it."""

    lab: str
    title: str
    writes: str
    needs: str
    cells: int
    core: Part
    further: Part
    stubs: int
    open: Sequence[int]
    folded: Sequence[int]


def pace(source: Path) -> Pace:
    raw = jupytext.read(source, fmt="py:percent").cells
    cells, says = [build.parse(cell) for cell in raw], raw[0].metadata
    optional = _optional(cells)
    given = [cell for cell in cells if cell.cell_type == "code" and cell.kind in ("", "figure")]
    return Pace(
        source.stem,
        cells[0].source.split("\n")[0].removeprefix("# Lab ").strip(),
        says.get("writes", ""),
        says.get("needs", ""),
        len(cells),
        _part(cell for cell, left_out in zip(cells, optional) if not left_out),
        _part(cell for cell, left_out in zip(cells, optional) if left_out),
        sum(_lines(_bare(cell)) for cell in cells if cell.kind == "exercise"),
        [_lines(cell.source) for cell in given if not cell.kind],
        [_lines(cell.source) for cell in given if cell.kind],
    )


def _optional(cells: Sequence[Cell]) -> list[bool]:
    """Of each cell, whether it can be left out: it stands under the heading of a further exercise, or in a section that
    calls itself *further*."""
    further = {cell.name for cell in cells if cell.further}
    section = exercise = False
    found = []
    for cell in cells:
        for level, heading in re.findall(r"(?m)^(##+) (.*)", cell.source) if cell.cell_type == "markdown" else ():
            if level == "##":
                section = heading.endswith("*further*")
            exercise = bool(further.intersection(re.findall(r"\{exercise:(\w+)\}", heading)))
        found.append(section or exercise or cell.name in further)
    return found


def _part(cells: Iterable[Cell]) -> Part:
    cells = list(cells)
    return Part(
        sum(words(cell.source) for cell in cells if cell.cell_type == "markdown"),
        sum(cell.kind == "exercise" for cell in cells),
        sum(cell.kind == "answer" for cell in cells),
        sum(_lines(_solution(cell)) for cell in cells if cell.kind == "exercise"),
    )


def words(text: str) -> int:
    """Words that everybody reads: no hints, no model answers; a formula is a word."""
    text = re.sub(r"(?s)<details>.*?</details>|### BEGIN SOLUTION.*?### END SOLUTION|<a id=[^>]*></a>", " ", text)
    return len(re.sub(r"(?s)\$\$.*?\$\$|\$[^$]*\$", "formula", text).split())


def _solution(cell: Cell) -> str:
    return "\n".join(re.findall(r"(?s)### BEGIN SOLUTION\n(.*?)### END SOLUTION", cell.source))


def _bare(cell: Cell) -> str:
    return re.sub(r"(?m)^ *### (BEGIN|END) SOLUTION$", "", cell.source)


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.split("\n"))


# --- tables -----------------------------------------------------------------------------------------------------------


def duration(minutes: float) -> str:
    """To ten minutes, upwards; below half an hour to five."""
    step = 10 if minutes > 30 else 5
    hours, rest = divmod(step * -(-minutes // step), 60)
    return " ".join(f"{number:g} {unit}" for number, unit in ((hours, "h"), (rest, "min")) if number) or "–"


def table(paces: Iterable[Pace], prefix: str) -> str:
    """The labs with what they are about and how long they take, for a page from which links begin with `prefix`."""
    rows = ["| lab | you write | you need | core | further |", "|---|---|---|---|---|"]
    for p in paces:
        link, times = f"[{p.title}]({prefix}{p.lab}/{p.lab}.ipynb)", (p.core.minutes, p.further.minutes)
        rows.append(
            f"| {link} | {p.writes} | {p.needs} | {' | '.join(map(duration, times))} |".replace(" h ", "&nbsp;h ")
        )
    return "\n".join(rows)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """The pages that list the labs, as they should be. Raises BuildError where one has no place for the list."""
    paces = [pace(source) for source in build.sources(root=root)]
    lists = [(name, MARKS, table(paces, prefix)) for name, prefix in LISTS.items()]
    lists.append(("labs/README.md", hosted.MARKS, hosted.table({p.lab: p.title for p in paces})))
    lists.append(("docs/hub.md", hosted.MARKS, hosted.pulls(p.lab for p in paces)))
    found: dict[Path, str] = {}
    for name, marks, text in lists:
        path = root / name
        if path.is_file():
            before, begin, rest = found.get(path, path.read_text(encoding="utf-8")).partition(marks[0])
            _, end, after = rest.partition(marks[1])
            if not begin or not end:
                raise build.BuildError(f"{name} has no lines {marks[0]} and {marks[1]} around its list of labs")
            found[path] = f"{before}{begin}\n{text}\n{end}{after}"
    return found


def write(root: Path = ROOT) -> None:
    """Bring the lists of labs up to date."""
    for path, text in pages(root).items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(root).as_posix()}: its list of labs is written")


def stale(root: Path = ROOT) -> list[str]:
    """The pages whose list of labs is not what a build makes."""
    return [path.relative_to(root).as_posix() for path, text in pages(root).items() if path.read_text("utf-8") != text]


COLUMNS = (
    "lab", "cells", "words", "further", "exercises", "further", "to write", "stubs", "given", "median", "folded",
    "core", "further", "seconds", "longest",
)  # fmt: skip


def report(sources: Iterable[Path], run: bool = False) -> str:
    """What each lab asks for, a line each; with `run`, what its solution takes and its longest cell."""
    rows = [COLUMNS]
    for source in sources:
        p = pace(source)
        took = seconds(build.solve(build.read(source)), source.stem) if run else []
        both = [(part.words, part.exercises, part.minutes) for part in (p.core, p.further)]
        (words, exercises, core), (more_words, more_exercises, further) = both
        median = statistics.median(p.open) if p.open else 0
        lines = p.core.lines + p.further.lines
        numbers = [p.cells, words, more_words, exercises, more_exercises, lines, p.stubs, sum(p.open), median]
        numbers += [sum(p.folded), core, further, *([sum(took), max(took)] if took else [])]
        rows.append((build.short(p.lab), *(f"{number:.0f}" for number in numbers)))
    widths = [max(len(row[k]) for row in rows if k < len(row)) for k in range(len(COLUMNS))]
    return "\n".join("  ".join(word.rjust(width) for word, width in zip(row, widths)) for row in rows)


def seconds(solved: NotebookNode, lab: str) -> list[float]:
    """The seconds that each cell of a solved notebook takes, from when it begins to when the next one does."""
    began: list[float] = []
    build.execute(solved, build.notebook_path("labs", lab).parent, lambda number: began.append(time.perf_counter()))
    return [end - start for start, end in zip(began, [*began[1:], time.perf_counter()])]
