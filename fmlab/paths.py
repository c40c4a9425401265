"""Probability paths: p_t(x | z) from noise to one data point, and p_t(x) from noise to the data distribution.

    p_t(x | z) = N(α_t z, β_t² I)                               [notes, eq. 15]
    u_t(x | z) = (α̇_t − (β̇_t/β_t) α_t) z + (β̇_t/β_t) x         [notes, eq. 20]
    ∇ log p_t(x | z) = −(x − α_t z)/β_t²                        [slides]

The marginal path draws z from the data first. Its field and score are the posterior averages of the conditional ones
(the marginalisation trick, notes, thm. 9). They are closed form where the data are a Gaussian, a mixture, or a finite
set of points. x, z: (n, *shape); t: a scalar or (n,). At a time where a formula divides by zero it raises ValueError.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmlab.distributions import Empirical, GaussianMixture
from fmlab.schedules import CondOT, Schedule, coefficient, require, time_like

CHUNK = 2**22  # numbers in the largest table held at a time when averaging over a data set


class GaussianPath:
    """Gaussian conditional path x_t = α_t z + β_t ε of a noise schedule.    [notes, ex. 8]"""

    def __init__(self, schedule: Schedule | None = None):
        self.schedule = CondOT() if schedule is None else schedule

    def interpolate(self, z: Tensor, noise: Tensor, t) -> Tensor:
        """x_t = α_t z + β_t ε for the given noise: the conditional flow applied to ε.    [notes, eq. 21]"""
        alpha, beta = self._weights(z, noise, t)
        return alpha * z + beta * noise

    def velocity(self, z: Tensor, noise: Tensor, t) -> Tensor:
        """u_t(x_t | z) = α̇_t z + β̇_t ε along the conditional flow, finite wherever β̇_t is.    [notes, eq. 31]"""
        _same_shape(z, noise, "z", "noise")
        t = time_like(t, z)
        alpha_dot, beta_dot = self.schedule.alpha_dot(t), self.schedule.beta_dot(t)
        require(torch.isfinite(beta_dot), t, "β̇_t is infinite")
        return coefficient(alpha_dot, z) * z + coefficient(beta_dot, z) * noise

    def sample(self, z: Tensor, t, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p_t(· | z), one for each z.    [notes, eq. 28]"""
        return self.interpolate(z, torch.empty_like(z).normal_(generator=generator), t)

    def log_prob(self, x: Tensor, z: Tensor, t) -> Tensor:
        """log p_t(x | z). Returns (n,). Raises ValueError where β_t = 0: a point has no density."""
        alpha, beta = self._weights(z, x, t)
        require(beta != 0, t, "β_t = 0, and a point has no density")
        return _log_normal(x, alpha * z, beta)

    def vector_field(self, x: Tensor, z: Tensor, t) -> Tensor:
        """u_t(x | z) = α̇ z + (β̇/β) (x − α z).    [notes, eq. 20] Raises ValueError where β_t = 0."""
        alpha, beta = self._weights(z, x, t)
        require(beta != 0, t, "β_t = 0")
        t = time_like(t, x)
        alpha_dot, rate = self.schedule.alpha_dot(t), self.schedule.beta_beta_dot(t)
        return coefficient(alpha_dot, x) * z + coefficient(rate, x) / beta**2 * (x - alpha * z)

    def score(self, x: Tensor, z: Tensor, t) -> Tensor:
        """∇ log p_t(x | z) = −(x − α z)/β².    [slides] Raises ValueError where β_t = 0."""
        alpha, beta = self._weights(z, x, t)
        require(beta != 0, t, "β_t = 0")
        return -(x - alpha * z) / beta**2

    def marginal(self, p_data: GaussianMixture | Empirical) -> "MixtureMarginal | EmpiricalMarginal":
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
        _same_shape(z, x, "z", "x")
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
        mean, scale, _, _ = self._coefficients(z, noise, t)
        return mean + scale * noise

    def velocity(self, z: Tensor, noise: Tensor, t) -> Tensor:
        """u_t(x_t | z) = μ̇_t + σ̇_t ε along the affine flow.    [intro, eq. 13]"""
        _, _, mean_dot, scale_dot = self._coefficients(z, noise, t)
        return mean_dot + scale_dot * noise

    def sample(self, z: Tensor, t, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p_t(· | z), one for each z."""
        return self.interpolate(z, torch.empty_like(z).normal_(generator=generator), t)

    def log_prob(self, x: Tensor, z: Tensor, t) -> Tensor:
        """log p_t(x | z). Returns (n,)."""
        mean, scale, _, _ = self._coefficients(z, x, t, regular=True)
        return _log_normal(x, mean, scale)

    def vector_field(self, x: Tensor, z: Tensor, t) -> Tensor:
        """u_t(x | z) = (σ̇/σ) (x − μ) + μ̇.    [intro, eq. 15]"""
        mean, scale, mean_dot, scale_dot = self._coefficients(z, x, t, regular=True)
        return scale_dot / scale * (x - mean) + mean_dot

    def score(self, x: Tensor, z: Tensor, t) -> Tensor:
        """∇ log p_t(x | z) = −(x − μ)/σ²."""
        mean, scale, _, _ = self._coefficients(z, x, t, regular=True)
        return -(x - mean) / scale**2

    def _coefficients(self, z: Tensor, x: Tensor, t, regular: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """μ, σ, μ̇, σ̇ at (z, t)."""
        _same_shape(z, x, "z", "x")
        t = coefficient(time_like(t, z), z)
        mean, scale = self.mean(z, t), self.scale(z, t)
        if regular:
            require(scale > 0, t, "σ_t is not positive")
        mean_dot, scale_dot = (
            torch.autograd.functional.jvp(lambda t, f=f: f(z, t), t, torch.ones_like(t))[1]
            for f in (self.mean, self.scale)
        )
        return mean, scale, mean_dot, scale_dot


class LinearPath:
    """Straight path x_t = (1 − t) x_0 + t x_1 between two data sets, of which neither need be noise.

    Given the pair, the velocity is x_1 − x_0; the marginal field averages it over the pairs that pass through x.
    """

    def interpolate(self, x1: Tensor, x0: Tensor, t) -> Tensor:
        """x_t = (1 − t) x_0 + t x_1."""
        _same_shape(x1, x0, "x1", "x0")
        t = coefficient(time_like(t, x1), x1)
        return (1 - t) * x0 + t * x1

    def velocity(self, x1: Tensor, x0: Tensor, t) -> Tensor:
        """u_t(x_t | x_0, x_1) = x_1 − x_0."""
        _same_shape(x1, x0, "x1", "x0")
        time_like(t, x1)
        return x1 - x0


class MixtureMarginal:
    """Marginal path of a Gaussian mixture: p_t = Σ_k w_k N(α_t m_k, α_t² C_k + β_t² I).    [notes, eq. 13]

    With C_k = Q_k Λ_k Q_kᵀ all covariances are diagonal in one basis for all t: v_k = α² Λ_k + β². In that basis, with
    y_k = Q_kᵀ (x − α m_k) and r the posterior probabilities of the components,

        s_t(x) = −Σ_k r_k Q_k (y_k / v_k),   u_t(x) = Σ_k r_k (α̇ m_k + Q_k (½ v̇_k / v_k · y_k)),

    the latter because (σ̇/σ)(x − μ) + μ̇ moves a Gaussian N(μ, σ²) [intro, eq. 15], and σ̇/σ = ½ v̇/v.
    """

    def __init__(self, schedule: Schedule, p_data: GaussianMixture):
        self.schedule, self.p_data = schedule, p_data
        variances, self._axes = torch.linalg.eigh(p_data.covs.double())  # (K, d), (K, d, d)
        self._variances = variances.clamp(min=0)[..., None]
        self._centres = self._axes.mT @ p_data.means.double()[..., None]  # Qᵀ m: (K, d, 1)
        self._log_weights = p_data.weights.double().log()[:, None]

    def sample(self, n: int, t, generator: torch.Generator | None = None) -> Tensor:
        """n samples x ~ p_t: z from the data, then x from p_t(· | z).    [notes, eq. 12]"""
        return GaussianPath(self.schedule).sample(self.p_data.sample(n, generator), t, generator)

    def log_prob(self, x: Tensor, t) -> Tensor:
        """log p_t(x). Returns (n,)."""
        return self._log_joint(*self._whitened(x, t)).logsumexp(0)

    def score(self, x: Tensor, t) -> Tensor:
        """s_t(x) = ∇ log p_t(x). Returns (n, d)."""
        y, v = self._whitened(x, t)
        return self._average(-y / v, self._log_joint(y, v))

    def vector_field(self, x: Tensor, t) -> Tensor:
        """u_t(x), which moves p_0 along the path. Returns (n, d)."""
        t = time_like(t, x)
        y, v = self._whitened(x, t)
        rate = self.schedule.alpha(t) * self.schedule.alpha_dot(t) * self._variances.to(
            x
        ) + self.schedule.beta_beta_dot(t)
        moved = self.schedule.alpha_dot(t) * self._centres.to(x) + rate / v * y
        return self._average(moved, self._log_joint(y, v))

    def posterior_mean(self, x: Tensor, t) -> Tensor:
        """E[z | x_t = x], the denoiser. Returns (n, d)."""
        t = time_like(t, x)
        y, v = self._whitened(x, t)
        shrunk = self._centres.to(x) + self.schedule.alpha(t) * self._variances.to(x) / v * y
        return self._average(shrunk, self._log_joint(y, v))

    def _whitened(self, x: Tensor, t) -> tuple[Tensor, Tensor]:
        """Coordinates y and variances v in the components' own axes, both (K, d, n) or broadcast to it."""
        k, d = self.p_data.means.shape
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {tuple(x.shape)}")
        t = time_like(t, x)
        alpha, beta = self.schedule.alpha(t), self.schedule.beta(t)
        rotated = (self._axes.mT.reshape(k * d, d).to(x) @ x.mT).view(k, d, -1)
        v = alpha**2 * self._variances.to(x) + beta**2
        require(v.flatten(0, 1).amin(0) > 0, t, "a component has no density")
        return rotated - alpha * self._centres.to(x), v

    def _log_joint(self, y: Tensor, v: Tensor) -> Tensor:
        """log (w_k N(x; α m_k, α² C_k + β² I)): (K, n)."""
        log_scale = self._log_weights.to(y) - v.log().sum(1) / 2 - y.shape[1] / 2 * math.log(2 * math.pi)
        return log_scale - (y.square() / v).sum(1) / 2

    def _average(self, values: Tensor, log_joint: Tensor) -> Tensor:
        """Σ_k r_k Q_k values_k: back from the components' axes, averaged over the posterior. Returns (n, d)."""
        weighted = values * log_joint.softmax(0)[:, None]
        k, d, n = weighted.shape
        return weighted.reshape(k * d, n).mT @ self._axes.mT.reshape(k * d, d).to(weighted)


class EmpiricalMarginal:
    """Marginal path of a finite data set z_1 … z_N: p_t = 1/N Σ_i N(α_t z_i, β_t² I).    [notes, thm. 9]

    The posterior over the data is w = softmax(−‖x − α_t z_i‖² / (2 β_t²)), and everything is an average over it. As
    β_t → 0 it picks the nearest point; distances are differences, not expanded squares, so that no digits are lost.
    Queries are taken in chunks, so memory does not grow with their number.
    """

    def __init__(self, schedule: Schedule, p_data: Empirical):
        self.schedule, self.p_data = schedule, p_data

    def sample(self, n: int, t, generator: torch.Generator | None = None) -> Tensor:
        """n samples x ~ p_t: z from the data, then x from p_t(· | z).    [notes, eq. 12]"""
        return GaussianPath(self.schedule).sample(self.p_data.sample(n, generator), t, generator)

    def log_prob(self, x: Tensor, t) -> Tensor:
        """log p_t(x). Returns (n,)."""
        d = self.p_data.z[0].numel()
        log_scale = -d * (self._beta(x, t).log() + math.log(2 * math.pi) / 2) - math.log(len(self.p_data.z))
        return self._each_chunk(lambda logits, z: logits.logsumexp(1), x, t) + log_scale

    def posterior_mean(self, x: Tensor, t) -> Tensor:
        """E[z | x_t = x] = Σ_i w_i z_i, the denoiser. Returns (n, *shape)."""
        return self._each_chunk(lambda logits, z: logits.softmax(1) @ z, x, t).reshape(x.shape)

    def posterior_weights(self, x: Tensor, t) -> Tensor:
        """w_i(x) = p(z_i | x_t = x), all of them. Returns (n, N)."""
        return self._each_chunk(lambda logits, z: logits.softmax(1), x, t)

    def score(self, x: Tensor, t) -> Tensor:
        """s_t(x) = −(x − α_t E[z | x])/β_t². Returns (n, *shape)."""
        return GaussianPath(self.schedule).score(x, self.posterior_mean(x, t), t)

    def vector_field(self, x: Tensor, t) -> Tensor:
        """u_t(x) = Σ_i w_i u_t(x | z_i), or u_t(x | E[z | x]) since u_t(x | z) is linear in z.    [notes, eq. 18]"""
        return GaussianPath(self.schedule).vector_field(x, self.posterior_mean(x, t), t)

    def _beta(self, x: Tensor, t) -> Tensor:
        t = time_like(t, x)
        beta = self.schedule.beta(t)
        require(beta != 0, t, "β_t = 0, and points have no density")
        return beta

    def _each_chunk(self, reduce, x: Tensor, t) -> Tensor:
        """reduce(logits, z) over chunks of x, where logits_i = −‖x − α z_i‖² / (2 β²)."""
        if x.shape[1:] != self.p_data.z.shape[1:]:
            raise ValueError(f"x must have shape (n, {str(tuple(self.p_data.z.shape[1:]))[1:]}, got {tuple(x.shape)}")
        beta, alpha = self._beta(x, t).expand(len(x)), self.schedule.alpha(time_like(t, x)).expand(len(x))
        z = self.p_data.z.to(x).flatten(1)
        rows = max(1, CHUNK // len(z))
        chunks = zip(x.flatten(1).split(rows), alpha.split(rows), beta.split(rows))
        return torch.cat([reduce(_logits(x, z, a[:, None], b[:, None]), z) for x, a, b in chunks])


def _logits(x: Tensor, z: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """−‖x − α z_i‖² / (2 β²): (n, N). Written −(α/β)² ‖x/α − z_i‖² / 2, so that α, (n, 1), may differ from row to row.

    A tiny α stands in for 0, where z no longer matters and only ‖x‖² is left.
    """
    alpha = alpha.clamp(min=1e-12)
    distances = torch.cdist(x / alpha, z, compute_mode="donot_use_mm_for_euclid_dist")
    return -((alpha / beta * distances) ** 2) / 2


def _log_normal(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log N(x; mean, scale² I), (n,), for a scale that broadcasts with x."""
    logs = -(((x - mean) / scale) ** 2) / 2 - (scale.log() + math.log(2 * math.pi) / 2)
    return logs.reshape(len(x), math.prod(x.shape[1:])).sum(1)


def _same_shape(a: Tensor, b: Tensor, name_a: str, name_b: str) -> None:
    for name, value in ((name_a, a), (name_b, b)):
        if not value.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {value.dtype}")
    if a.shape != b.shape:
        raise ValueError(f"{name_a} and {name_b} must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
