"""Marginal paths p_t(x) from noise to a data distribution, closed form for Gaussians, mixtures and finite data sets.

    p_t(x) = E_z p_t(x | z),   p_t(x | z) = N(α_t z, β_t² I)    [notes, eq. 13]

Field and score are posterior averages of the conditional ones (the marginalisation trick, notes, thm. 9).
x: (n, *shape); t: a scalar or (n,). At a time where a formula divides by zero it raises ValueError.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fmlab.datasets import Empirical
from fmlab.distributions import GaussianMixture
from fmlab.natural import LOST, NaturalForm, floored, natural_form, short
from fmlab.schedules import Schedule
from fmlab.values import (
    coefficient,
    half,
    holds,
    in_single,
    normal_like,
    precise,
    require,
    require_floating,
    time,
    time_like,
    tracked,
    widest,
)

CHUNK = 2**20  # numbers in the largest table held at a time when averaging over a data set
LONG = 2**14  # terms of the longest sum of products that keeps its digits in single precision


@runtime_checkable
class Marginal(Protocol):
    """The law p_t of a path at any time, from noise at t = 0 to data at t = 1."""

    def sample(self, n: int, t, generator: torch.Generator | None = None) -> Tensor:
        """n samples x ~ p_t. Returns (n, *shape)."""

    def log_prob(self, x: Tensor, t) -> Tensor:
        """log p_t(x). Returns (n,)."""

    def score(self, x: Tensor, t) -> Tensor:
        """s_t(x) = ∇ log p_t(x). Returns (n, *shape)."""

    def vector_field(self, x: Tensor, t) -> Tensor:
        """u_t(x), which moves p_0 along the path. Returns (n, *shape)."""

    def posterior_mean(self, x: Tensor, t) -> Tensor:
        """E[z | x_t = x], the denoiser. Returns (n, *shape)."""


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
        self._centre = self._means.mean(0)  # c: (d, 1)
        self._centres = self._axes.mT @ self._means  # Qᵀ m: (K, d, 1)
        self._offsets = self._axes.mT @ (self._means - self._centre)  # Qᵀ (m − c): (K, d, 1)
        self._log_weights = precise(p_data.weights).log()[:, None]

    def sample(self, n: int, t, generator: torch.Generator | None = None) -> Tensor:
        """n samples x ~ p_t: z from the data, then x from p_t(· | z).    [notes, eq. 12]"""
        return _noised(self.schedule, self.p_data.sample(n, generator), t, generator)

    def log_prob(self, x: Tensor, t) -> Tensor:
        """log p_t(x). Returns (n,)."""
        if half(x):
            return in_single(self.log_prob, x, t)
        t = self._time(x, t)
        natural = self._natural_form(t)
        return natural.log_prob(x) if natural else self._log_joint(*self._rotated(x, t)).logsumexp(0)

    def score(self, x: Tensor, t) -> Tensor:
        """s_t(x) = ∇ log p_t(x). Returns (n, d)."""
        if half(x):
            return in_single(self.score, x, t)
        t = self._time(x, t)
        return self._average(x, t, torch.zeros_like(t), -torch.ones_like(self._variances).to(t))

    def vector_field(self, x: Tensor, t) -> Tensor:
        """u_t(x), which moves p_0 along the path. Returns (n, d)."""
        if half(x):
            return in_single(self.vector_field, x, t)
        t = self._time(x, t)
        alpha, alpha_dot = self.schedule.alpha(t), self.schedule.alpha_dot(t)
        return self._average(
            x, t, alpha_dot, alpha * alpha_dot * self._variances.to(t) + self.schedule.beta_beta_dot(t)
        )

    def posterior_mean(self, x: Tensor, t) -> Tensor:
        """E[z | x_t = x], the denoiser. Returns (n, d)."""
        if half(x):
            return in_single(self.posterior_mean, x, t)
        t = self._time(x, t)
        return self._average(x, t, torch.ones_like(t), self.schedule.alpha(t) * self._variances.to(t))

    def _time(self, x: Tensor, t) -> Tensor:
        """t in the dtype of x, or in double precision where it is one for all points."""
        require_floating(x, "x")
        d = self._means.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {tuple(x.shape)}")
        each = time_like(t, x)
        return each if each.ndim else time(torch.as_tensor(t, dtype=widest(x.device), device=x.device))

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
        centre = short(alpha * self._centre.to(t))
        shift = whiten @ (alpha * self._means.to(t) - centre)
        return natural_form(whiten, shift, self._log_scale(v), centre)

    def _rotated(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """y: (K, d, n), and the variances v, which broadcast with it."""
        k, d, _ = self._means.shape
        moved = (precise(x).mT - self.schedule.alpha(precise(t)) * self._centre).to(x.dtype)  # x − α c
        rotated = (self._axes.mT.reshape(k * d, d).to(x) @ moved).view(k, d, -1)
        alpha = self.schedule.alpha(t)
        return rotated - alpha.to(x) * self._offsets.to(x), self._variances_at(t, alpha).to(x)

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
        return _noised(self.schedule, self.p_data.sample(n, generator), t, generator)

    def log_prob(self, x: Tensor, t) -> Tensor:
        """log p_t(x). Returns (n,)."""
        if half(x):
            return in_single(self.log_prob, x, t)
        _, beta = self._weights(x, t)
        d = self.p_data.z[0].numel()
        log_scale = -d * (beta.log() + math.log(2 * math.pi) / 2) - math.log(len(self.p_data.z))
        return self._each_chunk(lambda logits, z: logits.logsumexp(1), x, t) + log_scale

    def posterior_mean(self, x: Tensor, t) -> Tensor:
        """E[z | x_t = x] = Σ_i w_i z_i, the denoiser. Returns (n, *shape)."""
        if half(x):
            return in_single(self.posterior_mean, x, t)
        alpha, beta = self._weights(x, t)
        if tracked(x, alpha, beta) or alpha.ndim or self._sharp(alpha, beta):  # attention has no second derivative
            return self._each_chunk(_mean, x, t).reshape(x.shape)
        return self._attention(x, alpha, beta)

    def posterior_weights(self, x: Tensor, t) -> Tensor:
        """w_i(x) = p(z_i | x_t = x), all of them. Returns (n, N)."""
        if half(x):
            return in_single(self.posterior_weights, x, t)
        return self._each_chunk(lambda logits, z: _weights(logits), x, t)

    def score(self, x: Tensor, t) -> Tensor:
        """s_t(x) = −(x − α_t E[z | x])/β_t². Returns (n, *shape)."""
        if half(x):
            return in_single(self.score, x, t)
        mean, (alpha, beta) = self.posterior_mean(x, t), self._weights(x, t)
        return -(x - coefficient(alpha, x) * mean) / coefficient(beta, x) ** 2

    def vector_field(self, x: Tensor, t) -> Tensor:
        """u_t(x) = Σ_i w_i u_t(x | z_i), or u_t(x | E[z | x]) since u_t(x | z) is linear in z.    [notes, eq. 18]"""
        if half(x):
            return in_single(self.vector_field, x, t)
        mean, (alpha, beta), t = self.posterior_mean(x, t), self._weights(x, t), time_like(t, x)
        alpha_dot, rate = self.schedule.alpha_dot(t), self.schedule.beta_beta_dot(t) / beta**2
        return coefficient(alpha_dot, x) * mean + coefficient(rate, x) * (x - coefficient(alpha, x) * mean)

    def _weights(self, x: Tensor, t) -> tuple[Tensor, Tensor]:
        """α_t and β_t, after a check that x fits the data and β_t is not 0."""
        require_floating(x, "x")
        if x.shape[1:] != self.p_data.z.shape[1:]:
            raise ValueError(f"x must have shape (n, {str(tuple(self.p_data.z.shape[1:]))[1:]}, got {tuple(x.shape)}")
        t = time_like(t, x)
        alpha, beta = self.schedule.alpha(t), self.schedule.beta(t)
        require(beta != 0, t, "β_t = 0, and points have no density")
        return alpha, beta

    def _sharp(self, alpha: Tensor, beta: Tensor) -> bool:
        """Whether expanding ‖x − α z‖²/β² would cost digits: it comes out as a difference of numbers near ‖α z‖²/β²."""
        limit = LOST * self.p_data.z[0].numel() ** 0.5
        return not holds((alpha / beta) ** 2 * self._farthest.to(alpha) <= limit, unseen=False)

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
        elif tracked(x, alpha, beta):
            logits, width = _difference_logits, math.prod(x.shape[1:])
        else:
            logits, width = _distance_logits, 1
        z = self.p_data.z.to(x).flatten(1)
        rows = max(1, CHUNK // (len(z) * width))
        alpha, beta = alpha.expand(len(x)), beta.expand(len(x))
        chunks = zip(x.flatten(1).split(rows), alpha.split(rows), beta.split(rows))
        return torch.cat([reduce(floored(logits(x, z, a[:, None], b[:, None]), 1), z) for x, a, b in chunks])


def _mean(logits: Tensor, z: Tensor) -> Tensor:
    """Σ_i softmax(ℓ)_i z_i. Long sums are taken in parts, which are added in the best precision of the device."""
    if len(z) <= LONG:
        return logits.softmax(1) @ z
    parts = [w @ some for w, some in zip(_weights(logits).split(LONG, dim=1), z.split(LONG))]
    return precise(torch.stack(parts)).sum(0).to(z)


def _weights(logits: Tensor) -> Tensor:
    """softmax(ℓ), by a sum that is taken in pairs and so keeps its digits."""
    w = (logits - logits.amax(1, keepdim=True)).exp()
    return w / w.sum(1, keepdim=True)


def _expanded_logits(x: Tensor, z: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """α/β² xᵀ z_i − ½ (α/β)² ‖z_i‖² − ½ ‖x/β‖²: (n, N), with α, β: (n, 1)."""
    of_data = -((alpha / beta) ** 2) / 2 * z.square().sum(1)
    return torch.addmm(of_data - (x / beta).square().sum(1, keepdim=True) / 2, alpha / beta**2 * x, z.mT)


def _distance_logits(x: Tensor, z: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """−(α/β)² ‖x/α − z_i‖² / 2, so that α may differ from row to row. Has no second derivative.

    Where α = 0, beside rows where it is not, all data points are equally far: −‖x/β‖² / 2.
    """
    started = alpha != 0
    distances = torch.cdist(x / alpha.where(started, 1.0), z, compute_mode="donot_use_mm_for_euclid_dist")
    distances = torch.where(started, alpha * distances, x.norm(dim=1, keepdim=True))
    return -((distances / beta) ** 2) / 2


def _difference_logits(x: Tensor, z: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """The same, with all derivatives, through a table (n, N, d)."""
    return -((x[:, None] - alpha[..., None] * z) / beta[..., None]).square().sum(2) / 2


def _noised(schedule: Schedule, z: Tensor, t, generator: torch.Generator | None) -> Tensor:
    """α_t z + β_t ε with fresh noise.    [notes, eq. 28]"""
    t, noise = time_like(t, z), normal_like(z, generator)
    return coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
