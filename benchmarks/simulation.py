"""What a simulation costs, in units of drawing its normal numbers."""

import math
from importlib.util import find_spec

import numpy as np
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from benchmarks.measure import Rows
from fmlab.distributions import GaussianMixture
from fmlab.processes import SDE, langevin, ornstein_uhlenbeck
from fmlab.simulators import simulate

THETA, SIGMA = 1.0, 1.0


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

    drift, diffusion = lambda x, t: -THETA * x, lambda x, t: SIGMA * x
    return {
        "normals": lambda: _normals(x0, steps),
        "fmlab, affine drift": lambda: simulate(ornstein_uhlenbeck(THETA, SIGMA), x0, ts),
        "fmlab, any drift": lambda: simulate(SDE(drift, SIGMA), x0, ts),
        "fmlab, multiplicative noise": lambda: simulate(SDE(drift, diffusion), x0, ts),
        "plain torch": plain,
        "numpy, in place": in_numpy,
    } | _torchsde(drift, SIGMA, x0[:, None], h)


def langevin_mixture(quick: bool) -> Rows:
    """Langevin dynamics on a mixture of 8 Gaussians in the plane, end points of 20 000 particles in 500 steps"""
    n, steps, h = 20_000, 10 if quick else 500, 0.01
    mixture = eight_gaussians()
    x0, ts = mixture.sample(n, torch.Generator().manual_seed(0)), h * torch.arange(steps + 1)
    components = MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(mixture.means, mixture.covs))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: mixture.log_prob(x[None])[0]))

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
        "the score by vmap(jacrev)": run(jacobian),
    } | _torchsde(drift, sigma, x0, h, steps, name="torchsde, exact score")


def eight_gaussians() -> GaussianMixture:
    """Eight correlated components on a circle."""
    angle = torch.arange(8) * math.pi / 4
    out = torch.stack([angle.cos(), angle.sin()], dim=1)
    return GaussianMixture(3 * out, 0.1 * torch.eye(2) + 0.2 * out[:, :, None] * out[:, None, :])


def _normals(x0: torch.Tensor, steps: int) -> None:
    noise = torch.empty_like(x0)
    for _ in range(steps):
        noise.normal_()


def _torchsde(drift, sigma: float, x0: torch.Tensor, h: float, steps: int | None = None, name="torchsde") -> Rows:
    """The row of torchsde's Euler method with its default Brownian motion, where torchsde is installed."""
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
    return {name: lambda: torchsde.sdeint(Problem(), x0, ts, method="euler", dt=h)[-1]}
