"""What training buys: how good samples are after it, and how long it takes until they are good.

Samples in the plane are judged by the energy distance of n = 20 000 of them to as many fresh ones from the data, in
units of f = 2 E‖X − X'‖/n, which two fresh sets have to each other. Time is CPU time of one thread, without judging.
"""

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from functools import partial
from multiprocessing import get_context
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from benchmarks import peers
from benchmarks.measure import Numbers, at_least, at_most, targets
from benchmarks.peers import Example
from fmlab.datasets import Checkerboard, Circles, Digits, Moons
from fmlab.guidance import guided_vector_field
from fmlab.losses import flow_matching_loss, guided_flow_matching_loss
from fmlab.metrics import energy_distance, fidelity, nearest_neighbour_distance
from fmlab.models import MLP, UNet
from fmlab.paths import GaussianPath
from fmlab.samplers import sample_flow
from fmlab.simulators import Midpoint
from fmlab.training import train

# Seconds of training so far, and the field as it is then, whose samples are so many times as large as the data.
Run = Iterator[tuple[float, Callable, float]]

SEEDS, BATCH = 5, 2000
LOOKS = 20  # at a run, equally far apart in steps
STEPS = 3000  # of `train`, by default


@targets(
    at_least("the peer lab's trainer", 2, "fmlab"),
    at_least("torchcfm's example", 5, "fmlab"),
)
def time_to_quality(quick: bool) -> Numbers:
    """CPU seconds of training until samples of the checkerboard are within 4 f, median of five seeds; inf: never"""
    runs = {
        "fmlab": default_run,
        "the peer lab's trainer": partial(example_run, peers.peer_lab, 10_000),
        "torchcfm's example": partial(example_run, peers.torchcfm_plane, 20_000),
    }
    settings = {"share": 0.05, "good": 20, "n": 2000} if quick else {"share": 1.0, "good": 4, "n": 20_000}
    return medians({name: partial(until_good, run, **settings) for name, run in runs.items()}, quick)


@targets(
    at_most("checkerboard", 2.5, "fresh samples"),
    at_most("moons", 1.5, "fresh samples"),
    at_most("circles", 1.5, "fresh samples"),
)
def trained(quick: bool) -> Numbers:
    """Energy distance in units of f at the end of default training, median of five seeds"""
    boards = {"checkerboard": Checkerboard(), "moons": Moons(), "circles": Circles()}
    settings = {"steps": 60, "n": 2000} if quick else {"steps": STEPS, "n": 20_000}
    works = {name: partial(at_the_end, data, **settings) for name, data in boards.items()}
    return {"fresh samples": 1.0} | medians(works, quick)


def medians(works: dict[str, Callable[..., float]], quick: bool) -> Numbers:
    """The median of each work over the seeds, on as many cores as there are; in quick mode of one seed, here."""
    if quick:
        return {name: work(seed=0) for name, work in works.items()}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = {(name, seed): pool.submit(works[name], seed=seed) for seed in range(SEEDS) for name in works}
        for _ in tqdm(as_completed(futures.values()), total=len(futures), desc="runs", leave=False, disable=None):
            pass
        return {name: median(futures[name, seed].result() for seed in range(SEEDS)) for name in works}


def until_good(run: Callable[..., Run], share: float, good: float, n: int, seed: int) -> float:
    """Seconds until a run is first seen to be within `good` times f. share: of the steps of a full run."""
    data, generator = Checkerboard(), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    looks = run(data, share, generator)
    found = (seconds for seconds, *field in looks if quality(*field, data, n, generator) <= good)
    return next(found, float("inf"))


def at_the_end(data, steps: int, n: int, seed: int) -> float:
    """The quality that default training ends with, from eight samples of the same field."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = train(MLP(2), default_loss(data, generator), steps, generator=generator)
    return sum(quality(model, 1.0, data, n, generator) for _ in range(8)) / 8


def quality(field: Callable, scale: float, data, n: int, generator: torch.Generator) -> float:
    """The energy distance of n samples to n fresh ones, in units of f. The field leads to `scale` times the data."""
    x = sample_flow(field, torch.randn(n, 2, generator=generator), 50, Midpoint()) / scale
    return float(energy_distance(x, data.sample(n, generator))) / fresh(data, n)


@functools.cache
def fresh(data, n: int) -> float:
    """f = 2 E‖X − X'‖/n, to a thousandth."""
    x, other = (data.sample(10**6, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    return 2 * float((x - other).norm(dim=1).mean()) / n


# --- runs -------------------------------------------------------------------------------------------------------------


def default_loss(data, generator: torch.Generator) -> Callable:
    return lambda model: flow_matching_loss(model, GaussianPath(), data.sample(BATCH, generator), generator=generator)


def default_run(data, share: float, generator: torch.Generator) -> Run:
    """`train` as it is by default, interrupted for every look at it, which changes nothing."""
    model, loss, steps = MLP(2), default_loss(data, generator), int(share * STEPS)
    calls, seconds = itertools.count(1), 0.0

    def interrupted(model):
        if next(calls) % (1 + steps // LOOKS) == 0:
            raise KeyboardInterrupt
        return loss(model)

    while len(getattr(model, "history", [])) < steps:
        begin = time.process_time()
        with redirect_stdout(None):
            train(model, interrupted, steps, generator=generator)
        seconds += time.process_time() - begin
        yield seconds, model, 1.0


def example_run(begin: Callable[..., Example], steps: int, data, share: float, generator: torch.Generator) -> Run:
    """An example of a peer, which has so many steps."""
    example, seconds = begin(lambda n: (data.sample(n, generator), None)), 0.0
    for _ in range(LOOKS):
        start = time.process_time()
        for _ in range(max(1, int(share * steps) // LOOKS)):
            next(example.losses)
        seconds += time.process_time() - start
        yield seconds, example.field(None), example.scale


# --- digits -----------------------------------------------------------------------------------------------------------


@targets(
    at_least("recognised, w = 2", 0.995, "all"),
    at_least("recognised, unguided", 0.97, "all"),
    at_most("energy distance to real, unguided", 2, "energy distance to real, real"),
    at_least("distance to the nearest seen, unguided", 0.95, "distance to the nearest seen, real"),
)
def digits(quick: bool) -> Numbers:
    """A small U-Net after a minute's training on 8 × 8 digits, and real ones, which it has not seen"""
    torch.manual_seed(0)
    seen, real, classifier = Digits(), Digits(train=False), reader(60 if quick else 1500)
    begin = time.perf_counter()
    model = train(
        UNet(labels=10),
        lambda model: guided_flow_matching_loss(model, GaussianPath(), *seen.sample_labelled(64)),
        steps=30 if quick else 1800,
        lr=3e-3,
    )
    seconds = time.perf_counter() - begin
    y = torch.cat([seen.y, real.y])
    y = y[torch.randperm(len(y))[: 100 if quick else len(y)]]
    unguided, guided = (
        sample_flow(guided_vector_field(model, y, w), torch.randn(len(y), 1, 8, 8), 20, Midpoint()) for w in (1.0, 2.0)
    )

    def recognised(x: Tensor, y: Tensor) -> float:
        with torch.no_grad():
            return float(fidelity(classifier(x), y))

    def nearest(x: Tensor) -> float:
        return float(nearest_neighbour_distance(x, seen.z).mean())

    everyone = torch.cat([seen.z, real.z])
    return {
        "all": 1.0,
        "seconds of training": seconds,
        "recognised, real": recognised(real.z, real.y),
        "recognised, unguided": recognised(unguided, y),
        "recognised, w = 2": recognised(guided, y),
        "energy distance to real, real": between_halves(everyone, everyone),
        "energy distance to real, unguided": between_halves(unguided, everyone),
        "distance to the nearest seen, real": nearest(real.z),
        "distance to the nearest seen, unguided": nearest(unguided),
    }


def between_halves(x: Tensor, y: Tensor) -> float:
    """Mean energy distance between random halves of two sets, disjoint ones where the sets are the same."""
    found = []
    for _ in range(8):
        order, half = torch.randperm(len(y)), len(y) // 2
        found.append(energy_distance(x[order[:half] % len(x)], y[order[half:]]))
    return float(torch.stack(found).mean())


def reader(steps: int) -> nn.Module:
    """A classifier of digits, trained on real ones with a little noise; it never sees a generated image."""
    seen = Digits()
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )

    def loss(network):
        z, y = seen.sample_labelled(128)
        return cross_entropy(network(z + 0.3 * torch.randn_like(z)), y)

    return train(network, loss, steps, lr=3e-3)
