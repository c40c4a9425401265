"""Laws of tokens, whole: every state of sentences of two or three tokens written down, and every set of masks.

What is true of a path, its rates and its samplers can be computed here without chance, in double precision on the CPU.
Bounds on −log p(z) are those of `fmlab.sentences`: exactly, over all sets of masks, or estimated for longer sentences.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fmlab.sentences import Sentences
from fmlab.tokens import TokenPath

DOUBLE = torch.float64


def states(path: TokenPath, places: int = 2) -> Tensor:
    """All noisy sentences of so many tokens, (S, D): S = symbols^D, the last token changing fastest."""
    return torch.cartesian_prod(*[torch.arange(path.symbols)] * places).reshape(-1, places)


def law(path: TokenPath, t, table: Tensor) -> Tensor:
    """p_t of all states, for data that are the sentences of a table, all equally likely. table: (N, D). (S,)."""
    every = states(path, table.shape[1])
    return torch.stack([path.prob(every, z.expand_as(every), t) for z in table]).mean(0)


def whole_matrix(path: TokenPath, rates: Tensor) -> Tensor:
    """Q(x, y) between all states, of rates (S, D, symbols) that change one token at a time: (S, S)."""
    count, places, size = rates.shape
    every, number = states(path, places), torch.arange(count)
    q = torch.zeros(count, count, dtype=DOUBLE)
    for place, y in itertools.product(range(places), range(size)):
        q[number, number + (y - every[:, place]) * size ** (places - 1 - place)] += rates[:, place, y].double()
    return q


def kolmogorov_residual(path: TokenPath, rates: Tensor, table: Tensor, t: float) -> float:
    """The largest entry of |p_t Q_t − dp_t/dt|, with the derivative by autograd. rates: (S, D, symbols) at t."""
    now = torch.tensor(t, dtype=DOUBLE)
    change = torch.autograd.functional.jvp(lambda t: law(path, t, table), now, torch.ones_like(now))[1]
    return float((law(path, now, table) @ whole_matrix(path, rates) - change).abs().max())


def law_in_steps(path: TokenPath, table: Tensor, steps: int) -> Tensor:
    """The law that n even steps with the exact posterior end with, all tokens of a step drawn on their own: (K,) * D.

    Each token that is noise turns with the exact chance (κ_s − κ_t)/(1 − κ_t), as in `unmasking.Unmasking`.
    """
    exact, every = Sentences(table, path, dtype=DOUBLE), states(path, table.shape[1])
    stay, found = one_hot(every, path.symbols).double(), law(path, 0.0, table)
    for k in range(steps):
        t = torch.tensor(k / steps, dtype=DOUBLE)
        kappa, later = (float(path.schedule.kappa(time)) for time in (t, (k + 1) / steps))
        turned = (later - kappa) / (1 - kappa)
        each = (1 - turned) * stay + turned * path.clean(exact.posterior(every, t), every)
        joint = found
        for place in range(table.shape[1]):  # (S, …) times (S, symbols): one axis more for each token
            joint = joint[..., None] * each[:, place].reshape(len(every), *[1] * (joint.ndim - 1), -1)
        found = joint.sum(0).flatten()
    whole = found.reshape([path.symbols] * table.shape[1])
    return whole[tuple(slice(path.size) for _ in whole.shape)]


def exact_bound(ask: Callable[[Tensor], Tensor], z: Tensor, mask: int) -> float:
    """The bound on −log p(z) of one sentence, over all sets of masks and all times.    [Sahoo et al. 2024, eq. 10]

    A set of m masks among D has the weight ∫ κ̇/(1 − κ) (1 − κ)^m κ^{D−m} dt = (m−1)! (D−m)!/D!, for every schedule.
    ask(x) ↦ probabilities (n, D, K); z: (D,).
    """
    places = len(z)
    hidden = torch.cartesian_prod(*[torch.tensor([False, True])] * places).reshape(-1, places)[1:]
    m = hidden.sum(1).double()
    weights = (torch.lgamma(m) + torch.lgamma(places - m + 1) - math.lgamma(places + 1)).exp()
    return float((weights * _surprise(ask, z.expand_as(hidden), hidden, mask)).sum())


def estimated_bound(ask: Callable[[Tensor], Tensor], z: Tensor, mask: int, rounds: int = 4, seed: int = 0) -> float:
    """The mean bound on −log p(z) of sentences, with sets of m = 1 … D masks in turn, drawn by chance.

    A set of m weighs D/m, and all m are as frequent: less chance than by drawing times. z: (n, D).
    """
    places, generator, total = z.shape[1], torch.Generator().manual_seed(seed), 0.0
    for m in [*range(1, places + 1)] * rounds:
        hidden = torch.rand(z.shape, generator=generator).argsort(1).argsort(1) < m
        total += float(_surprise(ask, z, hidden, mask).mean()) / m / rounds
    return total


def uniform_bound(table: Tensor, size: int, z: Tensor, nodes: int = 60) -> float:
    """The bound on −log p(z) of rates towards a target where noise is uniform, of the exact posterior; for κ_t = t.

        ∫ κ̇/(1 − κ) E Σ_i [δ(x^i, z^i) − p(z^i = x^i | x) − (1 − δ(x^i, z^i)) log p(z^i | x)] dt

    [Gat et al. 2024; flow_matching's generalized KL], over all states. It is loose, since these rates forget which
    tokens have turned; that of the reversed noising process is tight. The midpoint rule in s, with t = 1 − s³. z: (D,).
    """
    path = TokenPath(size, masked=False)
    exact, every, total = Sentences(table, path, dtype=DOUBLE), states(path, len(z)), 0.0
    same = (every == z).double()
    for s in (torch.arange(nodes, dtype=DOUBLE) + 0.5) / nodes:
        t = 1 - s**3
        probs = exact.posterior(every, t)
        stay = probs.gather(-1, every[..., None])[..., 0]
        true = probs.gather(-1, z.expand_as(every)[..., None])[..., 0]
        each = (same - stay - torch.where(same > 0, 0.0, true.log())).sum(1)
        total += float((path.prob(every, z.expand_as(every), t) * each).sum() / (1 - t) * 3 * s**2) / nodes
    return total


def _surprise(ask, z: Tensor, hidden: Tensor, mask: int) -> Tensor:
    """Σ −log p of the hidden tokens of each sentence: (n,)."""
    probs = ask(torch.where(hidden, mask, z)).gather(-1, z[..., None])[..., 0]
    return -torch.where(hidden, probs.double().log(), 0.0).sum(1)
