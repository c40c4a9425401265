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
    leave, levels = rates.diagonal().abs(), _levels(rates)
    found, which = x0.clone(), torch.arange(len(x0), device=x0.device)  # the particles that still move, at x
    x, left = x0, torch.full(x0.shape, float(t), dtype=widest(x0.device), device=x0.device)
    while len(which):
        hold, pick = torch.rand(2, len(which), dtype=widest(x0.device), generator=generator, device=x0.device)
        left = left + torch.log1p(-hold) / leave[x]  # for ever where nothing leaves
        jumps = (left > 0).nonzero()[:, 0]
        which, x, left, pick = (each[jumps] for each in (which, x, left, pick))
        x = (torch.searchsorted(levels, x + pick, right=True) % len(rates)).to(x)
        found[which] = x
    return found


def _levels(rates: Tensor) -> Tensor:
    """x + P(the next state is ≤ y), given that x is left, for all pairs (x, y): (S²,).

    It rises, so one bisection for x + u, u uniform, finds the pair, in log S² looks. P is 1 where x is never left.
    """
    cdf = (rates - torch.diag(rates.diagonal())).cumsum(1)
    return ((cdf / cdf[:, -1:]).nan_to_num(1.0) + torch.arange(len(rates)).to(cdf)[:, None]).flatten()


def _generator(rates: Tensor) -> Tensor:
    """Rates in double precision. Raises ValueError unless they are those of a chain."""
    rates = precise(rates)
    square = rates.ndim == 2 and rates.shape[0] == rates.shape[1]
    if not square or not holds((rates - torch.diag(rates.diagonal())) >= 0):
        raise ValueError("rates must be square, (S, S), and not negative off the diagonal")
    if not holds(rates.sum(1).abs() <= 1e-6 * rates.abs().max()):
        raise ValueError("each row of the rates must sum to 0; is the matrix transposed?")
    return rates
