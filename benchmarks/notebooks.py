"""What a student waits for: every lab, solved, from its first cell to its last in a kernel of its own."""

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.measure import Numbers, at_most, targets
from course import build
from fmlab.datasets import Checkerboard
from fmlab.losses import flow_matching_loss
from fmlab.models import MLP
from fmlab.paths import GaussianPath
from fmlab.training import train


@targets(at_most("the slowest cell", 30, "a second"), at_most("all labs", 360, "a second"))
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


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
