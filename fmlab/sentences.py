"""Sentences: what a table of them says of noisy ones, exactly, and how likely a denoiser makes them.

For a path of tokens, p(z | x) ∝ p_t(x | z) for the sentences z of the table. With masks it keeps those that agree with
all that is revealed, whatever t is. Two ways from a denoiser to a likelihood:

    −log p(z) ≤ ∫ κ̇_t/(1 − κ_t) E Σ_masked −log p(z^i | x_t) dt                 [Sahoo et al. 2024, eq. 10]
     log p(z) = Σ_j log p(z^{σ_j} | z^{σ_1} … z^{σ_{j−1}}) in any order σ        [Uria et al. 2014]

The bound is tight, and the sum the same for all orders, where the denoiser is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding

from fmlab.tokens import TokenPath
from fmlab.values import holds, precise, widest

Denoiser = Callable[[Tensor, Tensor], Tensor]


class Sentences:
    """A table of sentences, all equally likely, and what it says of noisy ones: the exact denoiser.

    table: (N, D), whole numbers below path.size. chunk: noisy sentences that are compared with the table at a time,
    which bounds the memory by chunk × N numbers; by default 2¹⁹ numbers, or one sentence. dtype: of the probabilities.

    Where no sentence of the table can have led to x (revealed tokens that clash, as parallel reveals make them at
    once) Bayes' rule is 0/0. Then the sentences with the most matching tokens count, as if the others had been noise.
    """

    def __init__(self, table: Tensor, path: TokenPath, chunk: int | None = None, dtype: torch.dtype = torch.float32):
        if table.ndim != 2 or not len(table) or not holds((table >= 0) & (table < path.size)):
            raise ValueError(f"the table must be (N, D) with symbols 0 … {path.size - 1}, got {tuple(table.shape)}")
        self.table, self.path, self.chunk = table, path, chunk or max(1, 2**19 // len(table))
        self._vectors = torch.eye(path.symbols, path.size, dtype=dtype, device=table.device)  # of a mask: 0
        self._rows = self._as_vectors(table)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n sentences, (n, D)."""
        return self.table[torch.randint(len(self.table), (n,), generator=generator, device=self.table.device)]

    def weights(self, x: Tensor, t) -> Tensor:
        """p(z | x) for each sentence z of the table: (n, N)."""
        likelihoods = self._likelihoods(x, t)
        return likelihoods / likelihoods.sum(1, keepdim=True)

    def posterior(self, x: Tensor, t) -> Tensor:
        """p(z^i = y | x): (n, D, K). With masks it does not depend on t. t: a scalar or (n,)."""
        t = precise(t)
        if len(x) <= self.chunk:
            sums = (self._likelihoods(x, t) @ self._rows).reshape(*x.shape, self.path.size)
            return sums / sums.sum(-1, keepdim=True)
        found = x.new_empty(*x.shape, self.path.size, dtype=self._rows.dtype)
        for first in range(0, len(x), self.chunk):
            some = slice(first, first + self.chunk)
            found[some] = self.posterior(x[some], t[some] if t.ndim else t)
        return found

    def _likelihoods(self, x: Tensor, t) -> Tensor:
        """p_t(x | z) of the sentences of the table, in units of the largest for each x: (n, N)."""
        matches = self._as_vectors(x) @ self._rows.T
        best = matches.amax(1, keepdim=True)
        if self.path.masked:
            return matches.eq_(best)
        kappa = self.path.kappa(t, x)
        gain = torch.log1p(kappa * self.path.size / (1 - kappa)).to(matches).nan_to_num()  # of one more match
        return (matches.sub_(best) * gain).exp_()

    def _as_vectors(self, x: Tensor) -> Tensor:
        """Sentences as vectors of 0 and 1, (n, D · K), so that products of two count the tokens that match."""
        return embedding(x, self._vectors).flatten(1)


def masked_cross_entropy(model: Callable, path: TokenPath, z: Tensor, t: Tensor, uniform: Tensor) -> Tensor:
    """κ̇/(1 − κ) Σ_masked −log p(z^i | x), averaged over the batch: its mean over t bounds −log p(z).

    The bound is tight for the exact denoiser [Sahoo et al. 2024, eq. 10; Shi et al. 2024]. model(x, t) ↦ logits
    (n, D, K). t: (n,) in [0, 1); uniform: (n, D), which tokens are masked.
    """
    if not len(z):
        raise ValueError("a mean over no sentences is no number; give one at least")
    x = path.corrupt(z, torch.full_like(z, path.mask), t, uniform)
    log_probs = model(x, t).log_softmax(-1)
    surprise = -log_probs.gather(-1, z[..., None])[..., 0]
    weight = path.hazard(t, x).to(surprise)
    return (weight * surprise * (x == path.mask)).sum(1).mean()


def any_order_log_likelihood(model: Denoiser, path: TokenPath, z: Tensor, order: Tensor) -> Tensor:
    """log p(z) as Σ_j log p(z^{σ_j} | z^{σ_1} … z^{σ_{j−1}}), token by token in a given order.    [Uria et al. 2014]

    model(x, t) ↦ probabilities (n, D, K); order: a permutation of the D places. Returns (n,), the same for all orders
    where the denoiser is exact. t is the share that is revealed.
    """
    x, total = torch.full_like(z, path.mask), torch.zeros(len(z), dtype=widest(z.device), device=z.device)
    for revealed, place in enumerate(order.tolist()):
        probs = model(x, torch.tensor(revealed / z.shape[1], dtype=widest(z.device), device=z.device))[:, place]
        total += precise(probs).gather(1, z[:, place, None])[:, 0].log()
        x[:, place] = z[:, place]
    return total


def guided_probs(conditional: Tensor, unconditional: Tensor, w: float) -> Tensor:
    """p_w ∝ p(· | x, y)^w p(· | x)^{1−w}, normalised: classifier-free guidance for tokens.    [Nisonoff et al. 2024]

    w = 0 ignores the condition, w = 1 is conditional. (…, K).
    """
    logits = w * precise(conditional).log() + (1 - w) * precise(unconditional).log()
    return logits.nan_to_num(-math.inf, neginf=-math.inf).softmax(-1)
