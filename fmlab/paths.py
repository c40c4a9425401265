"""Probability paths: p_t(x | z) from noise to one data point.

    p_t(x | z) = N(α_t z, β_t² I)                               [notes, eq. 15]
    u_t(x | z) = (α̇_t − (β̇_t/β_t) α_t) z + (β̇_t/β_t) x         [notes, eq. 20]
    ∇ log p_t(x | z) = −(x − α_t z)/β_t²                        [slides]

The marginal path, from noise to the data distribution, draws z from the data first: `fmlab.marginals` has it in closed
form. x, z: (n, *shape); t: a scalar or (n,). At a time where a formula divides by zero it raises ValueError.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fmlab.datasets import Empirical
from fmlab.distributions import GaussianMixture, log_normal
from fmlab.marginals import EmpiricalMarginal, Marginal, MixtureMarginal
from fmlab.schedules import CondOT, Schedule
from fmlab.values import coefficient, half, in_single, normal_like, require, require_one_shape, time_like


@runtime_checkable
class Path(Protocol):
    """A way from each starting point to its data point: what a flow is trained on."""

    def interpolate(self, z: Tensor, noise: Tensor, t, /) -> Tensor:
        """The state x_t on the way from a starting point, such as noise, to z. Returns (n, *shape)."""

    def velocity(self, z: Tensor, noise: Tensor, t, /) -> Tensor:
        """Its velocity ∂x_t/∂t there. Returns (n, *shape)."""


class GaussianPath:
    """Gaussian conditional path x_t = α_t z + β_t ε of a noise schedule.    [notes, ex. 8]"""

    def __init__(self, schedule: Schedule | None = None):
        self.schedule = CondOT() if schedule is None else schedule

    def interpolate(self, z: Tensor, noise: Tensor, t) -> Tensor:
        """x_t = α_t z + β_t ε for the given noise: the conditional flow applied to ε.    [notes, eq. 21]"""
        if half(z, noise):
            return in_single(self.interpolate, z, noise, t)
        alpha, beta = self._weights(z, noise, t)
        return alpha * z + beta * noise

    def velocity(self, z: Tensor, noise: Tensor, t) -> Tensor:
        """u_t(x_t | z) = α̇_t z + β̇_t ε along the conditional flow, finite wherever β̇_t is.    [notes, eq. 31]"""
        if half(z, noise):
            return in_single(self.velocity, z, noise, t)
        require_one_shape(z=z, noise=noise)
        t = time_like(t, z)
        alpha_dot, beta_dot = self.schedule.alpha_dot(t), self.schedule.beta_dot(t)
        require(torch.isfinite(beta_dot), t, "β̇_t is infinite")
        return coefficient(alpha_dot, z) * z + coefficient(beta_dot, z) * noise

    def sample(self, z: Tensor, t, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p_t(· | z), one for each z.    [notes, eq. 28]"""
        if half(z):
            return in_single(self.sample, z, t, generator)
        return self.interpolate(z, normal_like(z, generator), t)

    def log_prob(self, x: Tensor, z: Tensor, t) -> Tensor:
        """log p_t(x | z). Returns (n,). Raises ValueError where β_t = 0: a point has no density."""
        if half(x, z):
            return in_single(self.log_prob, x, z, t)
        alpha, beta = self._weights(z, x, t)
        require(beta != 0, t, "β_t = 0, and a point has no density")
        return log_normal(x, alpha * z, beta)

    def vector_field(self, x: Tensor, z: Tensor, t) -> Tensor:
        """u_t(x | z) = α̇ z + (β̇/β) (x − α z).    [notes, eq. 20] Raises ValueError where β_t = 0."""
        if half(x, z):
            return in_single(self.vector_field, x, z, t)
        alpha, beta = self._weights(z, x, t)
        require(beta != 0, t, "β_t = 0")
        t = time_like(t, x)
        alpha_dot, rate = self.schedule.alpha_dot(t), self.schedule.beta_beta_dot(t)
        return coefficient(alpha_dot, x) * z + coefficient(rate, x) / beta**2 * (x - alpha * z)

    def score(self, x: Tensor, z: Tensor, t) -> Tensor:
        """∇ log p_t(x | z) = −(x − α z)/β².    [slides] Raises ValueError where β_t = 0."""
        if half(x, z):
            return in_single(self.score, x, z, t)
        alpha, beta = self._weights(z, x, t)
        require(beta != 0, t, "β_t = 0")
        return -(x - alpha * z) / beta**2

    def marginal(self, p_data: GaussianMixture | Empirical) -> Marginal:
        """The marginal path of a data distribution for which it is closed form.

        Raises TypeError for other distributions: draw a data set z from them and use `Empirical(z)`.
        """
        if isinstance(p_data, GaussianMixture):
            return MixtureMarginal(self.schedule, p_data)
        if isinstance(p_data, Empirical):
            return EmpiricalMarginal(self.schedule, p_data)
        raise TypeError(
            f"no closed form for {type(p_data).__name__}; use a GaussianMixture, or Empirical(z) of samples z"
        )

    def _weights(self, z: Tensor, x: Tensor, t) -> tuple[Tensor, Tensor]:
        require_one_shape(z=z, x=x)
        t = time_like(t, z)
        return coefficient(self.schedule.alpha(t), z), coefficient(self.schedule.beta(t), z)


class GeneralGaussianPath:
    """Gaussian conditional path N(μ_t(z), σ_t(z)² I) with any mean and scale.    [intro, eqs. 10–15]

    Its affine flow x_t = μ_t(z) + σ_t(z) ε has the field u_t(x | z) = (σ̇_t/σ_t) (x − μ_t) + μ̇_t; dots come from
    automatic differentiation.

    mean: callable μ(z, t) → (n, *shape). scale: callable σ(z, t) → positive, broadcastable to z. Both are handed t in
    the shape that broadcasts with z.
    """

    def __init__(self, mean: Callable[[Tensor, Tensor], Tensor], scale: Callable[[Tensor, Tensor], Tensor]):
        self.mean, self.scale = mean, scale

    def interpolate(self, z: Tensor, noise: Tensor, t) -> Tensor:
        """x_t = μ_t(z) + σ_t(z) ε for the given noise: the affine flow applied to ε.    [intro, eq. 11]"""
        if half(z, noise):
            return in_single(self.interpolate, z, noise, t)
        mean, scale, _, _ = self._coefficients(z, noise, t)
        return mean + scale * noise

    def velocity(self, z: Tensor, noise: Tensor, t) -> Tensor:
        """u_t(x_t | z) = μ̇_t + σ̇_t ε along the affine flow.    [intro, eq. 13]"""
        if half(z, noise):
            return in_single(self.velocity, z, noise, t)
        _, _, mean_dot, scale_dot = self._coefficients(z, noise, t)
        return mean_dot + scale_dot * noise

    def sample(self, z: Tensor, t, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p_t(· | z), one for each z."""
        if half(z):
            return in_single(self.sample, z, t, generator)
        return self.interpolate(z, normal_like(z, generator), t)

    def log_prob(self, x: Tensor, z: Tensor, t) -> Tensor:
        """log p_t(x | z). Returns (n,)."""
        if half(x, z):
            return in_single(self.log_prob, x, z, t)
        mean, scale, _, _ = self._coefficients(z, x, t, regular=True)
        return log_normal(x, mean, scale)

    def vector_field(self, x: Tensor, z: Tensor, t) -> Tensor:
        """u_t(x | z) = (σ̇/σ) (x − μ) + μ̇.    [intro, eq. 15]"""
        if half(x, z):
            return in_single(self.vector_field, x, z, t)
        mean, scale, mean_dot, scale_dot = self._coefficients(z, x, t, regular=True)
        return scale_dot / scale * (x - mean) + mean_dot

    def score(self, x: Tensor, z: Tensor, t) -> Tensor:
        """∇ log p_t(x | z) = −(x − μ)/σ²."""
        if half(x, z):
            return in_single(self.score, x, z, t)
        mean, scale, _, _ = self._coefficients(z, x, t, regular=True)
        return -(x - mean) / scale**2

    def _coefficients(self, z: Tensor, x: Tensor, t, regular: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """μ, σ, μ̇, σ̇ at (z, t)."""
        require_one_shape(z=z, x=x)
        t = coefficient(time_like(t, z), z)
        with torch.inference_mode(False):  # in which there are no derivatives, not even of clones made there
            z, t = (value.clone() if value.is_inference() else value for value in (z, t))
            (mean, mean_dot), (scale, scale_dot) = (  # type: ignore[misc]
                torch.func.jvp(partial(f, z), (t,), (torch.ones_like(t),)) for f in (self.mean, self.scale)
            )
        if regular:
            require(scale > 0, t, "σ_t is not positive")
        return mean, scale, mean_dot, scale_dot


class LinearPath:
    """Straight path x_t = (1 − t) x_0 + t x_1 between two data sets, of which neither need be noise.

    Given the pair, the velocity is x_1 − x_0; the marginal field averages it over the pairs that pass through x.
    """

    def interpolate(self, x1: Tensor, x0: Tensor, t) -> Tensor:
        """x_t = (1 − t) x_0 + t x_1."""
        if half(x1, x0):
            return in_single(self.interpolate, x1, x0, t)
        require_one_shape(x1=x1, x0=x0)
        t = coefficient(time_like(t, x1), x1)
        return (1 - t) * x0 + t * x1

    def velocity(self, x1: Tensor, x0: Tensor, t) -> Tensor:
        """u_t(x_t | x_0, x_1) = x_1 − x_0."""
        if half(x1, x0):
            return in_single(self.velocity, x1, x0, t)
        require_one_shape(x1=x1, x0=x0)
        time_like(t, x1)
        return x1 - x0
