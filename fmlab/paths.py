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
from torch.nn.functional import scaled_dot_product_attention

from fmlab.distributions import LOST, Empirical, GaussianMixture, NaturalForm, floored, natural_form
from fmlab.schedules import CondOT, Schedule, coefficient, require, time_like
from fmlab.values import holds, precise

CHUNK = 2**20  # numbers in the largest table held at a time when averaging over a data set


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

    That is computed as it stands where t differs from point to point, or a component is narrow. Elsewhere the same sums
    are taken over the mixture's `NaturalForm`.
    """

    def __init__(self, schedule: Schedule, p_data: GaussianMixture):
        self.schedule, self.p_data = schedule, p_data
        variances, self._axes = torch.linalg.eigh(precise(p_data.covs))  # (K, d), (K, d, d)
        self._variances = variances.clamp(min=0)[..., None]
        self._means = precise(p_data.means)[..., None]
        self._centre = self._means.mean(0)  # (d, 1)
        self._centres = self._axes.mT @ self._means  # Qᵀ m: (K, d, 1)
        self._log_weights = precise(p_data.weights).log()[:, None]

    def sample(self, n: int, t, generator: torch.Generator | None = None) -> Tensor:
        """n samples x ~ p_t: z from the data, then x from p_t(· | z).    [notes, eq. 12]"""
        return GaussianPath(self.schedule).sample(self.p_data.sample(n, generator), t, generator)

    def log_prob(self, x: Tensor, t) -> Tensor:
        """log p_t(x). Returns (n,)."""
        t = self._time(x, t)
        natural = self._natural_form(t)
        return natural.log_prob(x) if natural else self._log_joint(*self._rotated(x, t)).logsumexp(0)

    def score(self, x: Tensor, t) -> Tensor:
        """s_t(x) = ∇ log p_t(x). Returns (n, d)."""
        t = self._time(x, t)
        return self._average(x, t, torch.zeros_like(t), -torch.ones_like(self._variances).to(t))

    def vector_field(self, x: Tensor, t) -> Tensor:
        """u_t(x), which moves p_0 along the path. Returns (n, d)."""
        t = self._time(x, t)
        alpha, alpha_dot = self.schedule.alpha(t), self.schedule.alpha_dot(t)
        return self._average(
            x, t, alpha_dot, alpha * alpha_dot * self._variances.to(t) + self.schedule.beta_beta_dot(t)
        )

    def posterior_mean(self, x: Tensor, t) -> Tensor:
        """E[z | x_t = x], the denoiser. Returns (n, d)."""
        t = self._time(x, t)
        return self._average(x, t, torch.ones_like(t), self.schedule.alpha(t) * self._variances.to(t))

    def _time(self, x: Tensor, t) -> Tensor:
        """t in the dtype of x, or in double precision where it is one for all points."""
        d = self.p_data.means.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {tuple(x.shape)}")
        t = time_like(t, x)
        return t if t.ndim else precise(t)

    def _average(self, x: Tensor, t: Tensor, rate: Tensor, scale: Tensor) -> Tensor:
        """Σ_k r_k (rate · m_k + Q_k (scale_k / v_k · y_k)). rate: like t; scale: like v. Returns (n, d)."""
        if natural := self._natural_form(t):
            maps = natural.whiten.mT * scale.mT  # Q_k scale_k / √v_k
            return natural.average(x, natural.affine(maps, rate * self._means.to(t)))
        y, v = self._rotated(x, t)
        moved = (rate * self._centres.to(x) + scale.to(x) / v * y) * self._log_joint(y, v).softmax(0)[:, None]
        return moved.flatten(0, 1).mT @ self._axes.mT.flatten(0, 1).to(x)

    def _natural_form(self, t: Tensor) -> NaturalForm | None:
        """The mixture p_t, for one time t, where its natural form is of use."""
        if t.ndim:
            return None
        alpha = self.schedule.alpha(t)
        v = self._variances_at(t, alpha)
        whiten = (self._axes.to(t) * v.rsqrt().mT).mT
        shift = whiten @ (alpha * (self._means - self._centre).to(t))
        return natural_form(whiten, shift, self._log_scale(v), alpha * self._centre.to(t))

    def _rotated(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """y: (K, d, n), and the variances v, which broadcast with it."""
        k, d = self.p_data.means.shape
        rotated = (self._axes.mT.reshape(k * d, d).to(x) @ x.mT).view(k, d, -1)
        alpha = self.schedule.alpha(t)
        return rotated - alpha * self._centres.to(x), self._variances_at(t, alpha).to(x)

    def _variances_at(self, t: Tensor, alpha: Tensor) -> Tensor:
        """v = α² Λ + β²: (K, d, 1) or (K, d, n)."""
        v = alpha**2 * self._variances.to(t) + self.schedule.beta(t) ** 2
        require(v.flatten(0, 1).amin(0) > 0, t, "a component has no density")
        return v

    def _log_scale(self, v: Tensor) -> Tensor:
        return self._log_weights.to(v) - (v.log().sum(1) + v.shape[1] * math.log(2 * math.pi)) / 2

    def _log_joint(self, y: Tensor, v: Tensor) -> Tensor:
        """log (w_k N(x; α m_k, α² C_k + β² I)): (K, n)."""
        return floored(self._log_scale(v) - (y.square() / v).sum(1) / 2)


class EmpiricalMarginal:
    """Marginal path of a finite data set z_1 … z_N: p_t = 1/N Σ_i N(α_t z_i, β_t² I).    [notes, thm. 9]

    The posterior over the data is w = softmax(ℓ), ℓ_i = −‖x − α_t z_i‖² / (2 β_t²), and everything is an average over
    it. As β_t → 0 it picks the nearest point; then distances are differences, so that no digits are lost. Before,
    squares are expanded: w is the attention that the query α x/β² pays to the keys z_i. Queries are taken in chunks, so
    memory does not grow with their number.
    """

    def __init__(self, schedule: Schedule, p_data: Empirical):
        self.schedule, self.p_data = schedule, p_data
        self._farthest = p_data.z.flatten(1).square().sum(1).max()  # ‖z_i‖²

    def sample(self, n: int, t, generator: torch.Generator | None = None) -> Tensor:
        """n samples x ~ p_t: z from the data, then x from p_t(· | z).    [notes, eq. 12]"""
        return GaussianPath(self.schedule).sample(self.p_data.sample(n, generator), t, generator)

    def log_prob(self, x: Tensor, t) -> Tensor:
        """log p_t(x). Returns (n,)."""
        _, beta = self._weights(x, t)
        d = self.p_data.z[0].numel()
        log_scale = -d * (beta.log() + math.log(2 * math.pi) / 2) - math.log(len(self.p_data.z))
        return self._each_chunk(lambda logits, z: logits.logsumexp(1), x, t) + log_scale

    def posterior_mean(self, x: Tensor, t) -> Tensor:
        """E[z | x_t = x] = Σ_i w_i z_i, the denoiser. Returns (n, *shape)."""
        alpha, beta = self._weights(x, t)
        tracked = x.requires_grad or alpha.requires_grad or beta.requires_grad  # attention has no second derivative
        if tracked or alpha.ndim or self._sharp(alpha, beta):
            return self._each_chunk(lambda logits, z: logits.softmax(1) @ z, x, t).reshape(x.shape)
        return self._attention(x, alpha, beta)

    def posterior_weights(self, x: Tensor, t) -> Tensor:
        """w_i(x) = p(z_i | x_t = x), all of them. Returns (n, N)."""
        return self._each_chunk(lambda logits, z: logits.softmax(1), x, t)

    def score(self, x: Tensor, t) -> Tensor:
        """s_t(x) = −(x − α_t E[z | x])/β_t². Returns (n, *shape)."""
        return GaussianPath(self.schedule).score(x, self.posterior_mean(x, t), t)

    def vector_field(self, x: Tensor, t) -> Tensor:
        """u_t(x) = Σ_i w_i u_t(x | z_i), or u_t(x | E[z | x]) since u_t(x | z) is linear in z.    [notes, eq. 18]"""
        return GaussianPath(self.schedule).vector_field(x, self.posterior_mean(x, t), t)

    def _weights(self, x: Tensor, t) -> tuple[Tensor, Tensor]:
        """α_t and β_t, after a check that x fits the data and β_t is not 0."""
        if x.shape[1:] != self.p_data.z.shape[1:]:
            raise ValueError(f"x must have shape (n, {str(tuple(self.p_data.z.shape[1:]))[1:]}, got {tuple(x.shape)}")
        t = time_like(t, x)
        alpha, beta = self.schedule.alpha(t), self.schedule.beta(t)
        require(beta != 0, t, "β_t = 0, and points have no density")
        return alpha, beta

    def _sharp(self, alpha: Tensor, beta: Tensor) -> bool:
        """Whether expanding ‖x − α z‖²/β² would cost digits: it comes out as a difference of numbers near ‖α z‖²/β²."""
        limit = LOST * self.p_data.z[0].numel() ** 0.5
        return not holds((alpha / beta) ** 2 * self._farthest.to(alpha) <= limit)

    def _attention(self, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """Σ_i softmax(α/β² xᵀ z_i − ½ (α/β)² ‖z_i‖²)_i z_i, for one time, without ever holding a table (n, N)."""
        z = self.p_data.z.to(x).flatten(1)
        bias = (alpha / beta) ** 2 * z.square().sum(1) / -2
        queries = (alpha / beta**2 * x.flatten(1)).split(max(256, CHUNK // len(z)))
        keys = z[None, None]  # of one batch and one head
        means = [
            scaled_dot_product_attention(q[None, None], keys, keys, bias[None, None, None], scale=1.0) for q in queries
        ]
        return torch.cat(means, dim=2).reshape(x.shape)

    def _each_chunk(self, reduce, x: Tensor, t) -> Tensor:
        """reduce(ℓ, z) over chunks of x."""
        alpha, beta = self._weights(x, t)
        if not self._sharp(alpha, beta):
            logits, width = _expanded_logits, 1
        elif x.requires_grad:
            logits, width = _difference_logits, x[0].numel()
        else:
            logits, width = _distance_logits, 1
        z = self.p_data.z.to(x).flatten(1)
        rows = max(1, CHUNK // (len(z) * width))
        alpha, beta = alpha.expand(len(x)), beta.expand(len(x))
        chunks = zip(x.flatten(1).split(rows), alpha.split(rows), beta.split(rows))
        return torch.cat([reduce(floored(logits(x, z, a[:, None], b[:, None]), 1), z) for x, a, b in chunks])


def _expanded_logits(x: Tensor, z: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """α/β² xᵀ z_i − ½ (α/β)² ‖z_i‖² − ½ ‖x/β‖²: (n, N), with α, β: (n, 1)."""
    of_data = -((alpha / beta) ** 2) / 2 * z.square().sum(1)
    return torch.addmm(of_data - (x / beta).square().sum(1, keepdim=True) / 2, alpha / beta**2 * x, z.mT)


def _distance_logits(x: Tensor, z: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """−(α/β)² ‖x/α − z_i‖² / 2, so that α may differ from row to row. Has no second derivative."""
    distances = torch.cdist(x / alpha, z, compute_mode="donot_use_mm_for_euclid_dist")
    return -((alpha / beta * distances) ** 2) / 2


def _difference_logits(x: Tensor, z: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """The same, with all derivatives, through a table (n, N, d)."""
    return -((x[:, None] - alpha[..., None] * z) / beta[..., None]).square().sum(2) / 2


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
