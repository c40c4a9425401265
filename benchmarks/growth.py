"""How cost grows: slopes of log time against log size, 1 where it is proportional and 0 where it does not matter."""

from functools import partial

import torch

from benchmarks import grading
from benchmarks.measure import Numbers, at_most, costs, interleave, targets
from benchmarks.simulation import even_rates
from fmlab.datasets import Empirical
from fmlab.distributions import GaussianMixture
from fmlab.jumps import simulate_chain
from fmlab.metrics import convergence_order, energy_distance
from fmlab.paths import GaussianPath
from fmlab.processes import ornstein_uhlenbeck
from fmlab.sentences import Sentences
from fmlab.simulators import simulate
from fmlab.token_datasets import sudoku
from fmlab.tokens import TokenPath
from fmlab.unmasking import sample_tokens

AT_MOST = {  # what the method must cost, and a tenth for chance
    "simulate, particles": 1.1,
    "simulate, steps": 1.1,
    "simulate, dimension": 1.1,
    "mixture score, points": 1.1,
    "mixture score, components": 1.1,
    "mixture score, dimension": 2.1,  # d² features
    "data set field, data points": 1.1,
    "data set field, queries": 1.1,
    "data set field, dimension": 1.1,
    "energy distance, points": 2.1,  # distances of all pairs
    "posterior of a table, sentences of it": 1.1,
    "posterior of a table, noisy sentences": 1.1,
    "posterior of a table, tokens": 1.1,
    "posterior of a table, vocabulary": 1.1,
    "unmasking, sentences": 1.1,
    "unmasking, steps": 1.1,
    "jumps, particles": 1.1,
    "jumps, time": 1.1,
    "jumps, states": 0.3,  # a bisection
}


@targets(*(at_most(name, slope, "proportional") for name, slope in AT_MOST.items()))
def growth(quick: bool) -> Numbers:
    """Slopes of log time against log size"""
    top = 1 if quick else 4  # sizes are those of the labs and a little beyond
    axes = {
        "simulate, particles": (lambda n: simulation(n, 20, 2), [10_000, 20_000, 40_000 * top]),
        "simulate, steps": (lambda steps: simulation(10_000, steps, 2), [25, 50, 100 * top]),
        "simulate, dimension": (lambda d: simulation(5000, 20, d), [4, 8, 16 * top]),
        "mixture score, points": (lambda n: score(n, 8, 2), [10_000, 20_000, 40_000 * top]),
        "mixture score, components": (lambda k: score(10_000, k, 2), [8, 16, 32 * top]),
        "mixture score, dimension": (lambda d: score(10_000, 8, d), [2, 4, 8 * top]),
        "data set field, data points": (lambda size: field(size, 200, 2), [5000, 10_000, 20_000 * top]),
        "data set field, queries": (lambda n: field(10_000, n, 2), [100, 200, 400 * top]),
        "data set field, dimension": (lambda d: field(5000, 200, d), [4, 16, 64 * top]),
        "energy distance, points": (distance, [1000, 2000, 4000 * top]),
        "posterior of a table, sentences of it": (lambda size: posterior(size, 200, 8, 8), [1000, 2000, 4000 * top]),
        "posterior of a table, noisy sentences": (lambda n: posterior(2000, n, 8, 8), [100, 200, 400 * top]),
        "posterior of a table, tokens": (lambda places: posterior(2000, 200, places, 8), [8, 16, 32 * top]),
        "posterior of a table, vocabulary": (lambda symbols: posterior(2000, 200, 8, symbols), [8, 16, 32 * top]),
        "unmasking, sentences": (lambda n: unmasking(n, 10), [1000, 2000, 4000 * top]),
        "unmasking, steps": (lambda steps: unmasking(1000, steps), [10, 20, 40 * top]),
        "jumps, particles": (lambda n: jumps(n, 1.0, 8), [10_000, 20_000, 40_000 * top]),
        "jumps, time": (lambda t: jumps(10_000, t, 8), [2, 4, 8 * top]),
        "jumps, states": (lambda states: jumps(20_000, 1.0, states), [8, 16, 32 * top]),
    }
    if not quick:
        axes["grading, submissions"] = (a_class, [10, 20, 40, 80])
    return {"proportional": 1.0} | {name: _slope(make, sizes, quick) for name, (make, sizes) in axes.items()}


def _slope(make, sizes: list[int], quick: bool) -> float:
    rows = {str(size): make(size) for size in sizes}
    best = costs(interleave(rows, 5 if quick else 20, 0.5 if quick else 3))["best"]
    return float(convergence_order(torch.tensor(sizes), torch.tensor([best[str(size)] for size in sizes])))


def simulation(n: int, steps: int, d: int):
    process, x0, ts = ornstein_uhlenbeck(1.0, 1.0), torch.ones(n, d), torch.linspace(0, 1, steps + 1)
    return lambda: simulate(process, x0, ts)


def score(n: int, k: int, d: int):
    """Of components close and wide enough to be computed in one way, however many there are."""
    generator = torch.Generator().manual_seed(0)
    mixture = GaussianMixture(2 * torch.randn(k, d, generator=generator), 0.5)
    x = mixture.sample(n, generator)
    return lambda: mixture.score(x)


def field(size: int, queries: int, d: int):
    generator = torch.Generator().manual_seed(0)
    marginal = GaussianPath().marginal(Empirical(torch.randn(size, d, generator=generator)))
    x = torch.randn(queries, d, generator=generator)
    return lambda: marginal.vector_field(x, 0.3)


def distance(n: int):
    x, y = torch.randn(2, n, 2, generator=torch.Generator().manual_seed(0))
    return lambda: energy_distance(x, y)


def posterior(size: int, queries: int, places: int, symbols: int):
    """Of noisy sentences, given a table of random ones."""
    generator = torch.Generator().manual_seed(0)
    path = TokenPath(symbols)
    table = Sentences(torch.randint(symbols, (size, places), generator=generator), path)
    x = path.sample(table.sample(queries, generator), 0.5, generator)
    return lambda: table.posterior(x, 0.5)


def unmasking(n: int, steps: int):
    path = TokenPath(4)
    ask, x0 = Sentences(sudoku(), path).posterior, torch.full((n, 16), path.mask)
    return lambda: sample_tokens(ask, path, x0, steps)


def jumps(n: int, t: float, states: int):
    rates, x0 = even_rates(states), torch.zeros(n, dtype=torch.int64)
    return lambda: simulate_chain(rates, x0, t)


def a_class(size: int):
    return partial(grading.ours, grading.classroom(size), "--workers", "2")
