"""What a student waits for: every lab, solved, from its first cell to its last in a kernel of its own."""

import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import Rows
from course import build
from fmlab.distributions import Checkerboard
from fmlab.losses import flow_matching_loss
from fmlab.models import MLP
from fmlab.paths import GaussianPath
from fmlab.training import train


def labs(quick: bool) -> Rows:
    """Solved notebooks, executed whole, in units of 300 training steps of a network in the plane"""
    sources = build.sources(["lab1"] if quick else ())
    return {"300 training steps": reference} | {source.stem: partial(execute, source) for source in sources}


def reference() -> None:
    """The commonest heavy work of the labs: a part of the default training run, on one thread."""
    generator, data = torch.Generator().manual_seed(0), Checkerboard()
    train(
        MLP(2),
        lambda model: flow_matching_loss(model, GaussianPath(), data.sample(2000, generator), generator=generator),
        steps=300,
        generator=generator,
    )


def execute(source: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build.execute(build.solve(build.read(source)), Path(folder))
