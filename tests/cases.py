"""What the tests of paths, conversions and SDE families share: schedules, distributions and derivatives."""

import torch
from torch import Tensor

from fmlab.datasets import Empirical
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.paths import GaussianPath
from fmlab.schedules import VE, CondOT, Cosine, LinearVP

SCHEDULES = [CondOT(), CondOT(sigma_min=0.1), Cosine(), LinearVP(), VE(sigma_max=3.0)]
KINDS = ["gaussian", "mixture", "empirical"]


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=rng(seed))


def uniform(n: int, low: float, high: float, seed: int) -> Tensor:
    return low + (high - low) * torch.rand(n, dtype=torch.float64, generator=rng(seed))


def distribution(kind: str, seed: int = 0, d: int = 2):
    """A random distribution of a kind, with correlated coordinates."""
    if kind == "empirical":
        return Empirical(normal(12, d, seed=seed))
    k = 1 if kind == "gaussian" else 3
    means, factors = normal(k, d, seed=seed), 0.5 * normal(k, d, d, seed=seed + 1)
    covs = factors @ factors.mT + 0.1 * torch.eye(d, dtype=torch.float64)
    return Gaussian(means[0], covs[0]) if k == 1 else GaussianMixture(means, covs, uniform(k, 0.5, 1.5, seed + 2))


def points_on(schedule, p_data, t: Tensor, seed: int) -> Tensor:
    """One x ~ p_t for each time t: (n,)."""
    return GaussianPath(schedule).sample(p_data.sample(len(t), rng(seed)), t, rng(seed + 1))


def gradient(f, x: Tensor) -> Tensor:
    """∂f/∂x row by row, by autograd, for f: (n, …) → (n,)."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x).sum() + 0 * x.sum(), x)[0]  # 0 where f does not look at x


def rate(f, t: Tensor) -> Tensor:
    """df/dt by autograd, for f of any shape and a time for each row: (n,)."""
    return torch.autograd.functional.jvp(f, t, torch.ones_like(t))[1]


def divergence(field, x: Tensor) -> Tensor:
    """div field(x) = Σ_i ∂field_i/∂x_i by autograd: (n,)."""
    return sum(gradient(lambda x, i=i: field(x)[:, i], x)[:, i] for i in range(x.shape[1]))
