"""Unmasking: sampling tokens, from noise at t = 0 to sentences at t = 1.

A token that is noise turns into data at the hazard κ̇/(1 − κ). Over a step from t to s it does so with probability

    ∫ hazard:   1 − exp(−∫_t^s κ̇_r/(1 − κ_r) dr) = (κ_s − κ_t)/(1 − κ_t)

which is exact for every step, and 1 where κ_s = 1, so that no mask is left. What is not exact is that all tokens of a
step are drawn on their own, from p(z^i | x_t); a second thought costs steps, or churn: tokens turn back into noise at
a rate c, and into data faster by c κ/(1 − κ), which leaves p_t alone.    [Campbell et al. 2024, § 4.1]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fmlab.jumps import draw
from fmlab.samplers import ROUNDING, Steps, time_grid
from fmlab.sentences import Denoiser
from fmlab.simulators import Method, simulate
from fmlab.tokens import TokenPath, uniform_like
from fmlab.values import coefficient, holds, precise


class Unmasking(Method):
    """One step in which each token that is noise turns into data with probability (κ_s − κ_t)/(1 − κ_t).

    The model is a denoiser, (x, t) ↦ p(z^i = y | x): (n, D, K). churn: the rate c ≥ 0 above, which the last step, to
    κ_s = 1, leaves out. Noise: a uniform number for each token. Below the chance to turn back, or else in the range of
    the chance to turn into data, it is uniform there, and so also says into what.
    """

    draws = True

    def __init__(self, path: TokenPath, churn: float = 0.0):
        if not churn >= 0:
            raise ValueError(f"churn must be ≥ 0, got {churn}")
        self.path, self.churn = path, float(churn)

    def noise_like(self, x, generator=None):
        return uniform_like(x, generator)

    def checked(self, model, x0):
        if not callable(model):
            raise TypeError(f"the denoiser must be a callable of (x, t), got {type(model).__name__}")
        if x0.is_floating_point() or x0.ndim != 2:
            raise ValueError(f"x0 must be whole numbers of shape (n, D), got {x0.dtype} of shape {tuple(x0.shape)}")
        return model

    def step(self, model, x, t, s, noise=None):
        probs = model(x, _moment(t, x))
        if probs.shape != (*x.shape, self.path.size):
            shape = (*x.shape, self.path.size)
            raise ValueError(f"the denoiser must return probabilities {shape}, got {tuple(probs.shape)}")
        kappa, later = self.path.kappa(t, x), self.path.kappa(s, x)
        chance = (later - kappa) / (1 - kappa)
        if not self.churn or holds(1 - later < ROUNDING):
            return self._turned(x, probs, noise, 0.0, chance)
        often = self.churn * precise(coefficient(s - t, x)).to(x.device)
        back = 1 - torch.exp(-often)
        moved = self._turned(x, probs, noise, back, 1 - (1 - chance) * torch.exp(-often * kappa / (1 - kappa)))
        return torch.where(noise < back, self.path.noise_from(noise / back), moved)

    def _turned(self, x: Tensor, probs: Tensor, uniform: Tensor, low: float | Tensor, chance: Tensor) -> Tensor:
        """x with tokens drawn where the uniform number is within a range, from `low` on, of the chance's share of what
        is above `low`. With masks, a token that is data stays."""
        within = (uniform - low) / ((1 - low) * chance)
        turns = (within >= 0) & (within < 1)
        if self.path.masked:
            turns &= x == self.path.mask
        which = turns.nonzero(as_tuple=True)
        return x.index_put(which, draw(probs[which], within[which]).to(x))


@torch.no_grad()
def sample_tokens(
    denoiser: Denoiser,
    path: TokenPath,
    x0: Tensor,
    steps: Steps = 64,
    *,
    churn: float = 0.0,
    record: bool | Sequence[int] = False,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """Sentences from noise x_0: (n, D), such as `path.noise_like(z)`. Tokens of x_0 that are data stay, with masks, so
    that a sentence with gaps is filled in.

    denoiser: callable (x, t) ↦ probabilities (n, D, K), asked once a step. steps: a number of even steps, or the times.
    Returns the end points (n, D) or, as in `simulate`, the recorded states.
    """
    return simulate(denoiser, x0, time_grid(steps), Unmasking(path, churn), record, generator, progress)


def _moment(t, x: Tensor) -> Tensor:
    """A time as networks take it."""
    return torch.as_tensor(t, dtype=torch.get_default_dtype(), device=x.device)
