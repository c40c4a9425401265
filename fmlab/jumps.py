"""Jumps: simulating chains in continuous time, exactly where rates are constant, and step by step along a path.

d/dt p_t(y) = Σ_x p_t(x) Q_t(x, y)                                             Kolmogorov's equation
P_h = exp(h Q)                                                                 constant rates
hold x for a time Exp(−Q(x, x)), then jump to y with probability Q(x, y)/−Q(x, x)             [Gillespie 1977]
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmlab.values import holds, precise, widest


def draw(probs: Tensor, uniform: Tensor) -> Tensor:
    """A symbol for each row of probabilities, (…, K), by the inverse of its distribution function at `uniform`, (…).

    Rows need not sum to 1. Double precision. Raises ValueError for a row without any probability.
    """
    cdf = precise(probs).cumsum(-1)
    total = cdf[..., -1:]
    if not holds(total > 0):
        raise ValueError("a row of probabilities is 0 everywhere (or nan): nothing can be drawn from it")
    return (cdf <= uniform[..., None] * total).sum(-1).clamp(max=probs.shape[-1] - 1)


def transition_matrix(rates: Tensor, h: float) -> Tensor:
    """P_h = exp(h Q): P_h[x, y] is the probability of going from x to y in a time h. rates: (S, S), rows sum to 0."""
    return torch.linalg.matrix_exp(h * _generator(rates))


def simulate_chain(rates: Tensor, x0: Tensor, t: float, generator: torch.Generator | None = None) -> Tensor:
    """States at time t of a chain with constant rates Q: (S, S), exactly.    [Gillespie 1977]

    A state x is held for an exponential time of mean 1/−Q(x, x), then y is next with probability Q(x, y)/−Q(x, x).
    x0: (n,), whole numbers.
    """
    rates = _generator(rates)
    leave = rates.diagonal().abs()
    jumps = rates - torch.diag(rates.diagonal())
    x, left = x0.clone(), torch.full(x0.shape, float(t), dtype=widest(x0.device), device=x0.device)
    moving = torch.arange(len(x), device=x0.device)
    while len(moving):
        u = torch.rand(2, len(moving), dtype=widest(x0.device), generator=generator, device=x0.device)
        left[moving] -= -torch.log1p(-u[0]) / leave[x[moving]]  # for ever where nothing leaves
        moving, second = moving[left[moving] > 0], u[1][left[moving] > 0]
        if len(moving):
            x[moving] = draw(jumps[x[moving]], second)
    return x


def _generator(rates: Tensor) -> Tensor:
    """Rates in double precision. Raises ValueError unless they are those of a chain."""
    rates = precise(rates)
    square = rates.ndim == 2 and rates.shape[0] == rates.shape[1]
    if not square or not holds((rates - torch.diag(rates.diagonal())) >= 0):
        raise ValueError("rates must be square, (S, S), and not negative off the diagonal")
    if not holds(rates.sum(1).abs() <= 1e-6 * rates.abs().max()):
        raise ValueError("each row of the rates must sum to 0; is the matrix transposed?")
    return rates
