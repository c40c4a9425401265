"""What a simulation costs, in units of what it cannot do without: normal numbers, or calls of a network."""

import math
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from benchmarks.densities import pointwise_score
from benchmarks.measure import Rows, at_least, at_most, targets
from fmlab.distributions import GaussianMixture
from fmlab.jumps import simulate_chain
from fmlab.models import MLP
from fmlab.processes import ODE, SDE, langevin, ornstein_uhlenbeck
from fmlab.sentences import Sentences
from fmlab.simulators import simulate
from fmlab.token_datasets import sudoku, sums
from fmlab.token_models import TokenMLP, denoiser
from fmlab.tokens import TokenPath
from fmlab.unmasking import sample_tokens

THETA, SIGMA = 1.0, 1.0


@targets(
    at_most("fmlab, affine drift", 1.12, "normals"),
    at_most("fmlab, any drift", 1.25, "normals"),
    at_least("torchsde, its default", 25, "fmlab, affine drift"),
    at_least("torchsde, Euler", 12, "fmlab, affine drift"),
    at_most("fmlab, in two threads", 1, "normals"),
)
def ou(quick: bool) -> Rows:
    """Ornstein–Uhlenbeck process from 0 to t = 1, end points of 100 000 particles in 1000 steps"""
    n, steps = 100_000, 40 if quick else 1000
    h = 1 / steps
    x0, ts = torch.ones(n), torch.linspace(0, 1, steps + 1)

    def plain():
        x = x0
        for _ in range(steps):
            x = x - h * THETA * x + SIGMA * math.sqrt(h) * torch.randn_like(x)
        return x

    def in_numpy():
        rng, x, noise = np.random.default_rng(0), np.ones(n, np.float32), np.empty(n, np.float32)
        for _ in range(steps):
            rng.standard_normal(dtype=np.float32, out=noise)
            x *= 1 - h * THETA
            noise *= SIGMA * math.sqrt(h)
            x += noise
        return x

    def in_two_threads():
        """Halves of the particles, each with a generator of its own."""
        generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
        process = ornstein_uhlenbeck(THETA, SIGMA)
        with ThreadPoolExecutor(2) as pool:
            ends = pool.map(lambda x, g: simulate(process, x, ts, generator=g), x0.chunk(2), generators)
            return torch.cat(list(ends))

    drift, diffusion = lambda x, t: -THETA * x, lambda x, t: SIGMA * x
    rows = {
        "normals": lambda: _normals(x0, steps),
        "fmlab, affine drift": lambda: simulate(ornstein_uhlenbeck(THETA, SIGMA), x0, ts),
        "fmlab, any drift": lambda: simulate(SDE(drift, SIGMA), x0, ts),
        "fmlab, multiplicative noise": lambda: simulate(SDE(drift, diffusion), x0, ts),
        "fmlab, in two threads": in_two_threads,
        "plain torch": plain,
        "numpy, in place": in_numpy,
    }
    peers = {"torchsde, its default": None, "torchsde, Euler": "euler"}  # None: of strong order 1.5
    for name, method in peers.items():
        rows |= _torchsde(drift, SIGMA, x0[:, None], h, name=name, method=method)
    return rows | _diffrax(n, steps)


@targets(
    at_most("fmlab, exact score", 8, "normals"),
    at_least("the score by vmap(jacrev)", 25, "fmlab, exact score"),
)
def langevin_mixture(quick: bool) -> Rows:
    """Langevin dynamics on a mixture of 8 Gaussians in the plane, end points of 20 000 particles in 500 steps"""
    n, steps, h = 20_000, 4 if quick else 500, 0.01
    mixture = eight_gaussians()
    x0, ts = mixture.sample(n, torch.Generator().manual_seed(0)), h * torch.arange(steps + 1)
    components = MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(mixture.means, mixture.covs))

    def autograd(x):
        x = x.requires_grad_()
        return torch.autograd.grad(components.log_prob(x).sum(), x)[0]

    def run(score):
        return lambda: simulate(langevin(score), x0, ts)

    drift, sigma = lambda x, t: mixture.score(x), math.sqrt(2)
    return {
        "normals": lambda: _normals(x0, steps),
        "fmlab, exact score": run(mixture.score),
        "the score by autograd": run(lambda x: autograd(x.clone())),
        "the score by vmap(jacrev)": run(pointwise_score(mixture.weights, mixture.means, mixture.covs)),
    } | _torchsde(drift, sigma, x0, h, steps, name="torchsde, exact score")


@targets(
    at_most("fmlab, end points", 1.10, "the network"),
    at_most("fmlab, recorded", 1.15, "the network"),
)
def network_ode(quick: bool) -> Rows:
    """Euler's method along a 4 × 64 network, 10 000 points in 200 steps"""
    return _network_ode(10_000, 10 if quick else 200)


@targets(
    at_most("fmlab, end points", 1.10, "the network"),
    at_most("fmlab, recorded", 1.15, "the network"),
)
def network_ode_small(quick: bool) -> Rows:
    """Euler's method along a 4 × 64 network, 500 points in 200 steps"""
    return _network_ode(500, 20 if quick else 200)


def _network_ode(n: int, steps: int) -> Rows:
    torch.manual_seed(0)
    model, x0 = MLP(2).requires_grad_(False), torch.randn(n, 2)
    ts = torch.linspace(0, 1, steps + 1)

    def calls():
        for t in ts[:-1]:
            model(x0, t)

    rows = {
        "the network": calls,
        "fmlab, end points": lambda: simulate(ODE(model), x0, ts),
        "fmlab, recorded": lambda: simulate(ODE(model), x0, ts, record=True),
    }
    if find_spec("torchdiffeq"):
        from torchdiffeq import odeint

        rows["torchdiffeq, recorded"] = lambda: odeint(lambda t, x: model(x, t), x0, ts, method="euler")
    if find_spec("flow_matching"):
        from flow_matching.solver import ODESolver

        solver = ODESolver(velocity_model=lambda x, t: model(x, t))
        rows["flow_matching, end points"] = lambda: solver.sample(x0, step_size=1 / steps, method="euler")
    return rows


def eight_gaussians() -> GaussianMixture:
    """Eight correlated components on a circle."""
    angle = torch.arange(8) * math.pi / 4
    out = torch.stack([angle.cos(), angle.sin()], dim=1)
    return GaussianMixture(3 * out, 0.1 * torch.eye(2) + 0.2 * out[:, :, None] * out[:, None, :])


SAMPLED = targets(
    at_most("fmlab, masks", 1.3, "posteriors, masks"),
    at_most("fmlab, masks and churn", 1.3, "posteriors, masks and churn"),
    at_most("fmlab, uniform noise", 1.3, "posteriors, uniform noise"),
)


@SAMPLED
def tokens_sudoku(quick: bool) -> Rows:
    """Tokens from noise, by the exact posterior of 288 sudokus of 16 cells, 3000 in 32 steps"""
    return _from_table(sudoku(), 4, 300 if quick else 3000, 32)


@SAMPLED
def tokens_sums(quick: bool) -> Rows:
    """Tokens from noise, by the exact posterior of 10 000 sums of 7 digits, 3000 in 8 steps"""
    return _from_table(sums(), 10, 300 if quick else 3000, 8)


@targets(
    at_most("fmlab, masks", 1.3, "network, masks"), at_most("fmlab, masks and churn", 1.3, "network, masks and churn")
)
def tokens_network(quick: bool) -> Rows:
    """Tokens from noise, by the network of lab 9 that writes sums, 3000 of 7 digits in 16 steps"""
    torch.manual_seed(0)
    path, ask, n = TokenPath(10), denoiser(TokenMLP(10, 7)), 300 if quick else 3000
    return {
        **_sampled("network", "masks", path, ask, n, 7, 16),
        **_sampled("network", "masks and churn", path, ask, n, 7, 16, churn=3.0),
    }


def _from_table(table: torch.Tensor, size: int, n: int, steps: int) -> Rows:
    rows: Rows = {}
    for noise, masked, churn in (("masks", True, 0.0), ("masks and churn", True, 3.0), ("uniform noise", False, 0.0)):
        path = TokenPath(size, masked)
        rows |= _sampled("posteriors", noise, path, Sentences(table, path).posterior, n, table.shape[1], steps, churn)
    return rows


def _sampled(bare: str, noise: str, path: TokenPath, ask, n: int, places: int, steps: int, churn: float = 0.0) -> Rows:
    """A sampling, and its calls of the denoiser alone, at states and times of such a sampling."""
    x0 = path.noise_like(torch.zeros(n, places, dtype=torch.int64), torch.Generator().manual_seed(0))
    states = sample_tokens(ask, path, x0, steps, churn=churn, record=True)
    times = torch.linspace(0, 1, steps + 1)[:-1]

    def calls():
        for x, t in zip(states, times):
            found = ask(x, t)
        return found

    return {f"{bare}, {noise}": calls, f"fmlab, {noise}": lambda: sample_tokens(ask, path, x0, steps, churn=churn)}


@targets(
    at_most("fmlab", 12, "uniform numbers"),
    at_most("fmlab, 256 states", 3, "fmlab"),
    at_least("plain torch", 5, "fmlab"),
)
def chain(quick: bool) -> Rows:
    """A chain of 8 states with constant rates until t = 4, of 100 000 particles, which jump four times on average"""
    n = 2000 if quick else 100_000
    x0 = torch.zeros(n, dtype=torch.int64)

    def run(states: int):
        rates = even_rates(states)
        return lambda: simulate_chain(rates, x0, 4.0)

    def plain():
        """A jump of all particles at a time, each of which is drawn from a row of its own."""
        x, left, rates = x0.clone(), torch.full((n,), 4.0, dtype=torch.float64), even_rates(8)
        jumps = rates - torch.diag(rates.diagonal())
        while bool((left > 0).any()):
            left -= -torch.rand(n, dtype=torch.float64).log() / -rates.diagonal()[x]
            x = torch.where(left > 0, torch.multinomial(jumps[x], 1)[:, 0], x)
        return x

    def numbers():
        """Two for each jump, and for each particle that stays where it is until the end."""
        torch.rand(2, 5 * n, dtype=torch.float64)

    return {"uniform numbers": numbers, "fmlab": run(8), "fmlab, 256 states": run(256), "plain torch": plain}


def even_rates(states: int) -> torch.Tensor:
    """Each state is left at the rate 1, for any other."""
    return (torch.ones(states, states, dtype=torch.float64) - states * torch.eye(states)) / (states - 1)


def _normals(x0: torch.Tensor, steps: int) -> None:
    noise = torch.empty_like(x0)
    for _ in range(steps):
        noise.normal_()


def _torchsde(drift, sigma, x0, h, steps: int | None = None, name="torchsde", method: str | None = "euler") -> Rows:
    """The row of one of torchsde's methods with its default Brownian motion, where torchsde is installed."""
    if not find_spec("torchsde"):
        return {}
    import torchsde

    class Problem:
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, x):
            return drift(x, t)

        def g(self, t, x):
            return torch.full_like(x, sigma)

    ts = torch.tensor([0.0, h * steps if steps else 1.0])
    return {name: lambda: torchsde.sdeint(Problem(), x0, ts, method=method, dt=h)[-1]}


def _diffrax(n: int, steps: int) -> Rows:
    """The row of diffrax's Euler method with its fastest noise, compiled before, where diffrax is installed."""
    if not find_spec("diffrax"):
        return {}
    import diffrax
    import jax
    import lineax

    @jax.jit
    def solve(key):
        noise = diffrax.UnsafeBrownianPath(shape=(n,), key=key)
        sigma = lineax.DiagonalLinearOperator(jax.numpy.full(n, SIGMA))
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, x, args: -THETA * x), diffrax.ControlTerm(lambda t, x, args: sigma, noise)
        )
        adjoint = diffrax.DirectAdjoint()
        x0 = jax.numpy.ones(n)
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, 1.0, 1 / steps, x0, max_steps=steps + 1, adjoint=adjoint
        ).ys[0]

    def run():
        return np.asarray(solve(jax.random.PRNGKey(0)))

    run()
    return {"diffrax, all cores": run}
