"""What a student waits for: every lab, solved, from its first cell to its last in a kernel of its own."""

import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib import rc_context

from benchmarks.measure import Numbers, at_most, targets
from course import build, hosted
from fmlab import training
from fmlab.datasets import Checkerboard
from fmlab.losses import flow_matching_loss
from fmlab.models import MLP
from fmlab.paths import GaussianPath
from fmlab.training import train


@targets(at_most("the slowest cell", 30, "a second"), at_most("all labs", 480, "a second"))
def labs(quick: bool) -> Numbers:
    """Seconds of solved notebooks and of their slowest cells, beside 300 training steps of a network in the plane"""
    cells = {source.stem: execute(source) for source in build.sources(["lab1"] if quick else ())}
    whole = {lab: sum(each) for lab, each in cells.items()}
    slowest = {f"{lab}, slowest cell": max(each) for lab, each in cells.items()}
    most = {"all labs": sum(whole.values()), "the slowest cell": max(slowest.values())}
    return {"a second": 1.0, "300 training steps": seconds(reference)} | whole | slowest | most


def reference() -> None:
    """The commonest heavy work of the labs: a part of the default training run, on one thread."""
    generator, data = torch.Generator().manual_seed(0), Checkerboard()
    train(
        MLP(2),
        lambda model: flow_matching_loss(model, GaussianPath(), data.sample(2000, generator), generator=generator),
        steps=300,
        generator=generator,
    )


def execute(source: Path) -> list[float]:
    """Seconds of each cell of a solved notebook in a kernel of its own; the first includes starting it."""
    begins = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        build.execute(build.solve(build.read(source)), Path(folder), lambda number: begins.append(time.perf_counter()))
    return [end - begin for begin, end in pairwise([*begins, time.perf_counter()])]


def names_of(lab: str, seed: int, steps: int | None = None) -> dict:
    """What a solved notebook defines, run in this process with another SEED; steps: of each training, if fewer.

    So a measurement is of what students see. Pictures are drawn and thrown away.
    """
    names: dict = {"display": lambda *things: None}
    nb, before = build.solve(build.read(build.sources([lab])[0])), training.train
    cells = [cell.source for cell in nb.cells if cell.cell_type == "code" and not hosted.is_install(cell)]
    cells[0] = cells[0].replace("SEED = 0", f"SEED = {seed}")
    try:
        if steps:
            training.train = lambda *args, **options: before(*args, **options | {"steps": steps})
        with rc_context({"backend": "agg"}), redirect_stdout(io.StringIO()):
            for cell in cells:
                exec(compile(cell, lab, "exec"), names)
                plt.close("all")
    finally:
        training.train = before
    return names


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
