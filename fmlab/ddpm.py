"""The DDPM chain: diffusion in K discrete steps, its reverse, and its bound on the likelihood.

At this door the index runs as in the literature: k = 0 is data, k = K is noise, and x_0 is a data point. It stays
behind it: a network is asked at the library's time, t = 1 − k/K. With α_k = 1 − β_k and ᾱ_k = α_1 ⋯ α_k:

    forward      q(x_k | x_{k−1}) = N(√α_k x_{k−1}, β_k I)                                         [intro, 3.4]
    marginal     q(x_k | x_0) = N(√ᾱ_k x_0, (1 − ᾱ_k) I)                                           [intro, 3.4]
    posterior    q(x_{k−1} | x_k, x_0) = N(μ̃_k, β̃_k I)                                             [intro, 4.4]
                 μ̃_k = (√ᾱ_{k−1} β_k x_0 + √α_k (1 − ᾱ_{k−1}) x_k)/(1 − ᾱ_k),   β̃_k = β_k (1 − ᾱ_{k−1})/(1 − ᾱ_k)
    model        p(x_K) = N(0, I),   p(x_{k−1} | x_k) = N(μ̃_k with x̂_0 for x_0, σ_k² I)
                 x̂_0 = (x_k − √(1 − ᾱ_k) ε̂)/√ᾱ_k, so that this mean is (x_k − β_k/√(1 − ᾱ_k) ε̂)/√α_k
    bound        log p(x_0) ≥ E_q[log p(x_0 | x_1)] − KL(q(x_K | x_0) ‖ p(x_K))
                              − Σ_{k=2}^K E_q[KL(q(x_{k−1} | x_k, x_0) ‖ p(x_{k−1} | x_k))]        [intro, 4.4]

and since both means differ only in ε̂ for ε, each KL is w_k ‖ε − ε̂‖² plus a constant, with [intro, 4.5]

    w_k = β_k² / (2 σ_k² α_k (1 − ᾱ_k)),   constant ½ d (β̃_k/σ_k² − 1 − log (β̃_k/σ_k²)).
"""

import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fmlab.distributions import log_normal
from fmlab.schedules import LinearVP, Schedule
from fmlab.values import (
    coefficient,
    holds,
    normal_like,
    require_no_derivative,
    require_one_shape,
    require_precise,
    squares,
)

NoiseModel = Callable[[Tensor, Tensor], Tensor]


def vp_betas(schedule: LinearVP, n_steps: int) -> Tensor:
    """β_k = b(k/K)/K: Euler–Maruyama for the VP diffusion with noise rate b, up to O(1/K²).    [intro, 4.3]

    One step of size 1/K is x − ½ b/K x + √(b/K) ε, and √(1 − β_k) = 1 − ½ β_k + O(β_k²). Returns (K,), float64.
    Raises ValueError where a β_k reaches 1: take more steps.
    """
    return _checked(schedule.noise_rate(torch.arange(1, n_steps + 1, dtype=torch.float64) / n_steps) / n_steps)


def betas_of(schedule: Schedule, n_steps: int) -> Tensor:
    """The β_k whose chain has the marginals of a variance-preserving schedule exactly: ᾱ_k = α² at t = 1 − k/K.

    Returns (K,), float64. Raises ValueError if the schedule does not preserve the variance, or if it reaches α = 0 or
    keeps noise in the data.
    """
    t = 1 - torch.arange(n_steps + 1, dtype=torch.float64) / n_steps
    alpha_bars, noise = schedule.alpha(t) ** 2, schedule.beta(t) ** 2
    if not torch.allclose(alpha_bars + noise, torch.ones_like(t)) or noise[0] > 1e-12:
        raise ValueError(f"{schedule} does not preserve the variance, α² + β² = 1, up to α = 1 at t = 1")
    return _checked(1 - alpha_bars[1:] / alpha_bars[:-1])


class Chain:
    """The chain of the noise levels β_1 … β_K.    [intro, 3.4]

    betas: (K,), all in (0, 1). Index k counts steps from the data; tables are padded so that `betas[k]` is β_k, with
    β_0 = 0 and ᾱ_0 = 1. k is an integer, x: (n, *shape).
    """

    def __init__(self, betas):
        betas = _checked(torch.as_tensor(betas, dtype=torch.float64))
        self.betas = torch.cat([betas.new_zeros(1), betas])
        self.alphas = 1 - self.betas
        self.alpha_bars = self.alphas.cumprod(0)

    @property
    def n_steps(self) -> int:
        """K."""
        return len(self.betas) - 1

    def time(self, k: int) -> Tensor:
        """The library's time of x_k, t = 1 − k/K, at which networks are asked."""
        return torch.tensor(1 - self._index(k, 0) / self.n_steps, dtype=torch.float64)

    def step(self, x: Tensor, k: int, noise: Tensor) -> Tensor:
        """x_k = √α_k x_{k−1} + √β_k ε from x_{k−1} = x, for 1 ≤ k ≤ K."""
        k = self._index(k)
        return math.sqrt(self.alphas[k]) * x + math.sqrt(self.betas[k]) * noise

    def noised(self, x0: Tensor, k: int, noise: Tensor) -> Tensor:
        """x_k = √ᾱ_k x_0 + √(1 − ᾱ_k) ε at once, for 0 ≤ k ≤ K. k: an integer, or one for each point, (n,)."""
        if isinstance(k, Tensor) and k.ndim:
            return self._noised_each(x0, k, noise)
        k = self._index(k, 0)
        return math.sqrt(self.alpha_bars[k]) * x0 + math.sqrt(1 - self.alpha_bars[k]) * noise

    def _noised_each(self, x0: Tensor, k: Tensor, noise: Tensor) -> Tensor:
        """`noised` with a step for each point, k: (n,)."""
        whole = not (k.is_floating_point() or k.is_complex() or k.dtype == torch.bool)
        if not whole or k.shape != x0.shape[:1] or not holds((k >= 0) & (k <= self.n_steps)):
            raise ValueError(f"k must be one or {len(x0)} whole numbers from 0 to {self.n_steps}, got {str(k)[:80]}")
        kept = self.alpha_bars.to(x0.device)[k.long()]
        return coefficient(kept.sqrt().to(x0), x0) * x0 + coefficient((1 - kept).sqrt().to(x0), x0) * noise

    def predicted_data(self, x: Tensor, noise: Tensor, k: int) -> Tensor:
        """x̂_0 = (x_k − √(1 − ᾱ_k) ε̂)/√ᾱ_k, the inverse of `noised`."""
        k = self._index(k, 0)
        return (x - math.sqrt(1 - self.alpha_bars[k]) * noise) / math.sqrt(self.alpha_bars[k])

    def posterior_mean(self, x: Tensor, x0: Tensor, k: int) -> Tensor:
        """μ̃_k(x_k, x_0), the mean of q(x_{k−1} | x_k, x_0).    [intro, 4.4]"""
        k = self._index(k)
        before, now = self.alpha_bars[k - 1], self.alpha_bars[k]
        of_data = math.sqrt(before) * self.betas[k] / (1 - now)
        of_state = math.sqrt(self.alphas[k]) * (1 - before) / (1 - now)
        return float(of_data) * x0 + float(of_state) * x

    def posterior_variance(self, k: int) -> float:
        """β̃_k, the variance of q(x_{k−1} | x_k, x_0); 0 for k = 1, since x_0 is known.    [intro, 4.4]"""
        k = self._index(k)
        return float(self.betas[k] * (1 - self.alpha_bars[k - 1]) / (1 - self.alpha_bars[k]))

    def model_mean(self, x: Tensor, noise: Tensor, k: int) -> Tensor:
        """Mean of p(x_{k−1} | x_k): (x_k − β_k/√(1 − ᾱ_k) ε̂)/√α_k.    [intro, 4.5]"""
        k = self._index(k)
        weight = self.betas[k] / math.sqrt(1 - self.alpha_bars[k])
        return (x - float(weight) * noise) / math.sqrt(self.alphas[k])

    def model_variance(self, k: int, variance: str = "beta") -> float:
        """σ_k²: "beta" for β_k, best for data of unit variance, or "posterior" for β̃_k, best for one data point.

        As β̃_1 = 0 has no density, "posterior" takes β̃_2 in its place (β_1 if K = 1). For data with a density, only
        "beta" lets the bound tend to log p as K grows: near the data β̃_k is about (k − 1)/k times too small.
        Raises ValueError for another name.
        """
        k = self._index(k)
        if variance == "beta" or (variance == "posterior" and self.n_steps == 1):
            return float(self.betas[k])
        if variance == "posterior":
            return self.posterior_variance(max(k, 2))
        raise ValueError(f'variance must be "beta" or "posterior", got {variance!r}')

    def noise_mse_weight(self, k: int, variance: str = "beta") -> float:
        """w_k = β_k² / (2 σ_k² α_k (1 − ᾱ_k)), the weight of ‖ε − ε̂‖² in the bound.    [intro, 4.5]"""
        sigma2 = self.model_variance(k, variance)
        return float(self.betas[k] ** 2 / (2 * sigma2 * self.alphas[k] * (1 - self.alpha_bars[k])))

    def step_kl(self, x: Tensor, x0: Tensor, noise: Tensor, k: int, variance: str = "beta") -> Tensor:
        """KL(q(x_{k−1} | x_k, x_0) ‖ p(x_{k−1} | x_k)) for the predicted noise ε̂, 2 ≤ k ≤ K. Returns (n,)."""
        k = self._index(k, 2)
        means = self.posterior_mean(x, x0, k), self.model_mean(x, noise, k)
        return gaussian_kl(means[0], self.posterior_variance(k), means[1], self.model_variance(k, variance))

    @torch.no_grad()
    def elbo_terms(
        self, x0: Tensor, model: NoiseModel, variance: str = "beta", generator: torch.Generator | None = None
    ) -> "ElboTerms":
        """The terms of the bound on log p(x_0), each estimated with one x_k ~ q(x_k | x_0).    [intro, 4.4]

        x0: (n, *shape). model: callable ε̂(x, t), at the library's time. To average over q, repeat x_0.
        """
        require_no_derivative(x0, "elbo_terms")
        require_precise(x0, "x0")
        prior = gaussian_kl(self.noised(x0, self.n_steps, torch.zeros_like(x0)), 1 - self.alpha_bars[-1], 0 * x0, 1.0)
        steps = x0.new_empty(self.n_steps - 1, len(x0))
        for k in range(1, self.n_steps + 1):
            x = self.noised(x0, k, normal_like(x0, generator))
            noise = model(x, self.time(k).to(x))
            if k == 1:
                mean, sigma2 = self.model_mean(x, noise, 1), self.model_variance(1, variance)
                reconstruction = log_normal(x0, mean, sigma2**0.5)
            else:
                steps[k - 2] = self.step_kl(x, x0, noise, k, variance)
        return ElboTerms(reconstruction, steps, prior)

    def ancestral_step(
        self, x: Tensor, noise: Tensor, k: int, variance: str = "posterior", generator: torch.Generator | None = None
    ) -> Tensor:
        """x_{k−1} ~ p(x_{k−1} | x_k) from the predicted noise ε̂; for k = 1 its mean, without noise.    [intro, 4.4]"""
        mean = self.model_mean(x, noise, k)
        if k == 1:
            return mean
        return mean + math.sqrt(self.model_variance(k, variance)) * normal_like(x, generator)

    @torch.no_grad()
    def ancestral_sample(
        self,
        model: NoiseModel,
        x: Tensor,
        variance: str = "posterior",
        record: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Data from noise x = x_K, drawn step by step from p(x_{k−1} | x_k).    [intro, 4.4]

        model: callable ε̂(x, t), at the library's time. x: (n, *shape).
        Returns x_0: (n, *shape), or if record all states from x_K to x_0: (K + 1, n, *shape).
        """
        require_no_derivative(x, "ancestral_sample")
        require_precise(x, "x")
        states = [x]
        for k in range(self.n_steps, 0, -1):
            x = self.ancestral_step(x, model(x, self.time(k).to(x)), k, variance, generator)
            states = [*states, x] if record else [x]
        return torch.stack(states) if record else x

    def _index(self, k: int, lowest: int = 1) -> int:
        try:
            k = operator.index(k)
        except (TypeError, RuntimeError):
            raise TypeError(f"k must be a whole number, one for all points, got {str(k)[:80]}") from None
        if not lowest <= k <= self.n_steps:
            raise ValueError(f"k must be from {lowest} to {self.n_steps}, got {k}")
        return k


class ElboTerms(NamedTuple):
    """The terms of the bound: reconstruction (n,), step_kls (K − 1, n) with row k − 2 for step k, prior_kl (n,)."""

    reconstruction: Tensor
    step_kls: Tensor
    prior_kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """The bound on log p(x_0): (n,)."""
        return self.reconstruction - self.prior_kl - self.step_kls.sum(0)


def gaussian_kl(mean: Tensor, variance, other_mean: Tensor, other_variance) -> Tensor:
    """KL(N(m, v I) ‖ N(m', v' I)) = ½ (‖m − m'‖²/v' + d (v/v' − 1 − log (v/v'))).

    means: (n, *shape); variances: positive numbers. Returns (n,).
    """
    require_one_shape(mean=mean, other_mean=other_mean)
    ratio = float(variance / other_variance)
    spread = math.prod(mean.shape[1:]) * (ratio - 1 - math.log(ratio))
    return (squares(mean - other_mean) / float(other_variance) + spread) / 2


def _checked(betas: Tensor) -> Tensor:
    if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas < 1)).all():
        values = f", got values from {float(betas.min()):g} to {float(betas.max()):g}" if betas.numel() else ""
        raise ValueError(f"betas must be K numbers between 0 and 1{values}")
    return betas
