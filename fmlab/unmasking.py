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
from fmlab.tokens import TokenPath
from fmlab.values import holds, widest


class Unmasking(Method):
    """One step in which each token that is noise turns into data with probability (κ_s − κ_t)/(1 − κ_t).

    The model is a denoiser, (x, t) ↦ p(z^i = y | x): (n, D, K). churn: the rate c ≥ 0 above, which the last step, to
    κ_s = 1, leaves out. Noise: four uniform numbers for each token.
    """

    draws = True

    def __init__(self, path: TokenPath, churn: float = 0.0):
        if not churn >= 0:
            raise ValueError(f"churn must be ≥ 0, got {churn}")
        self.path, self.churn = path, float(churn)

    def noise_like(self, x, generator=None):
        return torch.rand((4, *x.shape), dtype=widest(x.device), device=x.device, generator=generator)

    def checked(self, model, x0):
        if not callable(model):
            raise TypeError(f"the denoiser must be a callable of (x, t), got {type(model).__name__}")
        if x0.is_floating_point() or x0.ndim != 2:
            raise ValueError(f"x0 must be whole numbers of shape (n, D), got {x0.dtype} of shape {tuple(x0.shape)}")
        return model

    def step(self, model, x, t, s, noise=None):
        probs = self.path.clean(model(x, _moment(t, x)), x)
        kappa, later = self.path.kappa(t, x), self.path.kappa(s, x)
        turned = (later - kappa) / (1 - kappa)
        if not self.churn or (not later.is_meta and holds(1 - later < ROUNDING)):
            return torch.where(noise[0] < turned, draw(probs, noise[1]), x)
        often = self.churn * torch.as_tensor(s - t, dtype=widest(x.device), device=x.device)
        turned = 1 - (1 - turned) * torch.exp(-often * kappa / (1 - kappa))
        moved = torch.where(noise[0] < turned, draw(probs, noise[1]), x)
        return torch.where(noise[2] < 1 - torch.exp(-often), self.path.noise_from(noise[3]), moved)


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
