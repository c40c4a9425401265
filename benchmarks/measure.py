"""Interleaved timing. Only ratios within one run mean anything: machines differ, and neighbours come and go.

Rows take turns, so that slow spells hit all of them. The best of many turns estimates what the work itself costs; the
median says what it cost on the day. CPU time leaves out the waiting for a core, and adds up over threads and over the
processes that a row has started and seen end.
"""

import os
import time
from collections.abc import Callable
from statistics import median

Rows = dict[str, Callable[[], object]]
Times = dict[str, dict[str, list[float]]]


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


def ratios(times: Times) -> dict[str, dict[str, float]]:
    """Each row's cost in units of the first row's, {row: {"best", "median", "cpu": best CPU time}}."""

    def summary(row):
        return {"best": min(row["wall"]), "median": median(row["wall"]), "cpu": min(row["cpu"])}

    unit = summary(next(iter(times.values())))
    return {name: {key: value / unit[key] for key, value in summary(row).items()} for name, row in times.items()}


def table(title: str, times: Times) -> str:
    """The ratios as text."""
    lines = [title, f"{'':32s}{'best':>8s}{'median':>8s}{'cpu':>8s}{'seconds':>10s}{'turns':>7s}"]
    for name, row in ratios(times).items():
        cells = "".join(f"{row[key]:8.2f}" for key in ("best", "median", "cpu"))
        wall = times[name]["wall"]
        lines.append(f"{name:32s}{cells}{min(wall):10.3g}{len(wall):7d}")
    return "\n".join(lines)
