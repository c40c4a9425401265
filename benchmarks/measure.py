"""Interleaved timing. Only ratios within one run mean anything: machines differ, and neighbours come and go.

Rows take turns, so that slow spells hit all of them. The best of many turns estimates what the work itself costs; the
median says what it cost on the day. CPU time leaves out the waiting for a core, and adds up over threads and over the
processes that a row has started and seen end. A workload states what is to be reached as bounds on ratios of rows.
"""

import os
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

Rows = dict[str, Callable[[], object]]
Numbers = dict[str, float]
Times = dict[str, dict[str, list[float]]]


class Bound(NamedTuple):
    """cost(row) ≤ factor · cost(of), or ≥ where `least`."""

    row: str
    factor: float
    of: str
    least: bool = False

    def ratio(self, costs: dict[str, float]) -> float | None:
        """What was measured, or None where a row is missing."""
        return costs[self.row] / costs[self.of] if self.row in costs and self.of in costs else None

    def holds(self, ratio: float) -> bool:
        return ratio >= self.factor if self.least else ratio <= self.factor

    def __str__(self) -> str:
        return f"{self.row} {'≥' if self.least else '≤'} {self.factor:g} × {self.of}"


def at_most(row: str, factor: float, of: str) -> Bound:
    return Bound(row, factor, of)


def at_least(row: str, factor: float, of: str) -> Bound:
    return Bound(row, factor, of, least=True)


def targets(*bounds: Bound) -> Callable:
    """Decorator: what the rows of a workload are to reach."""

    def attach(workload):
        workload.bounds = bounds
        return workload

    return attach


def interleave(rows: Rows, rounds: int, budget: float) -> Times:
    """Seconds per call, {row: {"wall": [...], "cpu": [...]}}.

    In every round each row has its turn, until its turns add up to `budget` seconds: slow rows get few, one at least.
    """
    times: Times = {name: {"wall": [], "cpu": []} for name in rows}
    for _ in range(rounds):
        for name, call in rows.items():
            if sum(times[name]["wall"]) < budget:
                wall, cpu = time.perf_counter(), cpu_time()
                call()
                times[name]["wall"].append(time.perf_counter() - wall)
                times[name]["cpu"].append(cpu_time() - cpu)
    return times


def cpu_time() -> float:
    """Seconds of CPU that this process and the ended ones of its children have used."""
    return time.process_time() + sum(os.times()[2:4])  # the latter to a hundredth


def measure(workload: Callable[[bool], Rows | Numbers], quick: bool, rounds: int, budget: float) -> Times | Numbers:
    """The times of a workload's rows, or its numbers as they are."""
    rows = workload(quick)
    return interleave(rows, rounds, budget) if callable(next(iter(rows.values()))) else rows


def medians(work: Callable[[int, bool], Numbers], quick: bool) -> Numbers:
    """The median of each number over three seeds, after a row "one"; in quick mode of one seed. work: (seed, quick)."""
    found = [work(seed, quick) for seed in range(1 if quick else 3)]
    return {"one": 1.0} | {name: median(numbers[name] for numbers in found) for name in found[0]}


def costs(found: Times | Numbers) -> dict[str, Numbers]:
    """What is compared, by column: "best", "median" and "cpu" (the best CPU time) of times; the "value" of numbers."""
    if not isinstance(next(iter(found.values())), dict):
        return {"value": found}
    return {
        "best": {name: min(row["wall"]) for name, row in found.items()},
        "median": {name: median(row["wall"]) for name, row in found.items()},
        "cpu": {name: min(row["cpu"]) for name, row in found.items()},
    }


def ratios(found: Times | Numbers) -> dict[str, Numbers]:
    """Each row in units of the first, {row: {column: ratio}}."""
    first, columns = next(iter(found)), costs(found)
    return {name: {key: column[name] / column[first] for key, column in columns.items()} for name in found}


def verdicts(bounds: tuple[Bound, ...], found: Times | Numbers) -> list[dict]:
    """For each bound the ratio in every column, and whether the first, the best, holds; None where a row is missing."""
    columns, said = costs(found), []
    for bound in bounds:
        ratio = {key: bound.ratio(column) for key, column in columns.items()}
        judged = next(iter(ratio.values()))
        said.append({"bound": str(bound), **ratio, "holds": None if judged is None else bound.holds(judged)})
    return said


def table(title: str, found: Times | Numbers, bounds: tuple[Bound, ...] = ()) -> str:
    """The ratios, or the numbers, as text, and under them the bounds."""
    columns = costs(found)
    if "value" in columns:
        lines = [title, *(f"{name:36s}{value:10.4g}" for name, value in found.items())]
    else:
        lines = [title, f"{'':36s}{'best':>8s}{'median':>8s}{'cpu':>8s}{'seconds':>10s}{'turns':>7s}"]
        for name, row in ratios(found).items():
            cells = "".join(f"{row[key]:8.2f}" for key in columns)
            wall = found[name]["wall"]
            lines.append(f"{name:36s}{cells}{min(wall):10.3g}{len(wall):7d}")
    for verdict in verdicts(bounds, found):
        bound, holds = verdict.pop("bound"), verdict.pop("holds")
        values = ", ".join(f"{value:.2f} {key}" for key, value in verdict.items() if value is not None)
        lines.append(f"  {'?' if holds is None else '✓' if holds else '✗'} {bound}: {values or 'a row is missing'}")
    return "\n".join(lines)
