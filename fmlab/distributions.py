"""Distributions with exact samples, densities and scores.

p(x) is a density on R^d and s(x) = ∇ log p(x) its score. For a Gaussian mixture with weights w_k, means m_k and
covariances C_k = L_k L_kᵀ everything is closed form once each component is whitened:

    y_k = L_k⁻¹ (x − m_k)
    log p(x) = log Σ_k exp(ℓ_k),   ℓ_k = log w_k − ½‖y_k‖² − log det L_k − (d/2) log 2π
    s(x) = −Σ_k r_k L_k⁻ᵀ y_k,     r = softmax(ℓ), the probability that x came from component k

Whitening keeps components as the leading axis (K, d, n) and is one matrix product; it also keeps the digits that
expanding the square (x − m)ᵀ C⁻¹ (x − m) loses for narrow components. Where there are none, `NaturalForm` expands it,
and is several times faster.
"""

import math

import torch
from torch import Tensor

from fmlab.datasets import Checkerboard, Circles, Digits, Empirical, Labelled, Moons, Word, mnist  # noqa: F401  for labs
from fmlab.natural import floored, natural_form, short
from fmlab.values import floating, half, holds, in_single, precise, require_floating, require_one_shape, require_precise

CHUNK = 2**20  # numbers in the largest table of factors that samples are made with


class GaussianMixture:
    """Mixture Σ_k w_k N(m_k, C_k) of K Gaussians in R^d.

    means: (K, d). covs: one variance for all, (K,) variances, or full covariances (K, d, d).
    weights: (K,), positive, normalised here; equal if not given.
    Samples take the dtype and device of `means`; `log_prob` and `score` follow those of x.
    A mixture does not change: it keeps copies of what it is given, and `means`, `covs` and `weights` are copies again.
    Raises ValueError if the shapes disagree, a number is not finite, a weight is not positive or a covariance is not
    symmetric positive definite.
    """

    def __init__(self, means, covs, weights=None):
        self._means = floating(means).clone()
        require_precise(self._means, "means")
        if self._means.ndim != 2 or not len(self._means):
            raise ValueError(f"means must have shape (K, d), got {tuple(self._means.shape)}")
        if not holds(self._means.isfinite()):
            raise ValueError(f"means must be finite, got {str(self._means.tolist())[:80]}")
        k, d = self._means.shape
        self._covs = _full_covariances(covs, self._means)
        self._weights = self._means.new_ones(k) if weights is None else _like(weights, self._means)
        if self._weights.shape != (k,) or not holds((self._weights > 0) & self._weights.isfinite()):
            raise ValueError(f"weights must be {k} positive, finite numbers, got {self._weights.tolist()}")
        self._weights = self._weights / self._weights.sum()

        means, covs, weights = map(precise, (self._means, self._covs, self._weights))
        factor, failed = torch.linalg.cholesky_ex(covs)
        if not holds(failed == 0) or not holds(torch.isclose(covs, covs.mT)):
            raise ValueError("each covariance must be symmetric and positive definite")
        whiten = torch.linalg.solve_triangular(factor, torch.eye(d).to(factor).expand(k, d, d), upper=False)
        self._factor = factor
        self._whiten = whiten
        self._near = short(means)[..., None]  # the means, as states in single precision may have them
        self._rest = whiten @ (means[..., None] - self._near)
        centre = short(means.mean(0))[:, None]
        centred = whiten @ (means[..., None] - centre)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        self._log_scale = (weights.log() - log_det - d / 2 * math.log(2 * math.pi))[:, None]
        self._natural = natural_form(whiten, centred, self._log_scale, centre)
        self._score_table = self._natural and self._natural.affine(-whiten.mT)

    @property
    def means(self) -> Tensor:
        """The means m_k, (K, d)."""
        return self._means.clone()

    @property
    def covs(self) -> Tensor:
        """The covariances C_k, (K, d, d)."""
        return self._covs.clone()

    @property
    def weights(self) -> Tensor:
        """The weights w_k, which sum to 1, (K,)."""
        return self._weights.clone()

    @property
    def mean(self) -> Tensor:
        """Mean Σ w_k m_k of the mixture, (d,)."""
        return self._weights @ self._means

    @property
    def cov(self) -> Tensor:
        """Covariance Σ w_k (C_k + (m_k − m) (m_k − m)ᵀ) of the mixture, (d, d)."""
        apart = self._means - self.mean
        return torch.einsum("k,kij->ij", self._weights, self._covs + apart[:, :, None] * apart[:, None, :])

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples m_k + L_k ε with k ~ w, ε ~ N(0, I). Returns (n, d)."""
        if n < 0:
            raise ValueError(f"the number of samples must be ≥ 0, got {n}")
        k, d = self._means.shape
        noise = torch.randn(n, d, dtype=self._means.dtype, device=self._means.device, generator=generator)
        factor = self._factor.to(noise)
        if k == 1 or not n:
            return self._means[0] + noise @ factor[0].T
        component = torch.multinomial(self._weights, n, replacement=True, generator=generator)
        rows = max(1, CHUNK // d**2)  # each has a factor of its own
        moved = [(factor[c] @ e[..., None])[..., 0] for c, e in zip(component.split(rows), noise.split(rows))]
        return self._means[component] + torch.cat(moved)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density log Σ_k exp(ℓ_k) at x: (n, d). Returns (n,)."""
        if half(x):
            return in_single(self.log_prob, x)
        self._require_points(x)
        return self._natural.log_prob(x) if self._natural else self._log_joint(self._whitened(x)).logsumexp(0)

    def score(self, x: Tensor) -> Tensor:
        """Score ∇ log p(x) = −Σ_k r_k L_k⁻ᵀ y_k at x: (n, d). Returns (n, d)."""
        if half(x):
            return in_single(self.score, x)
        self._require_points(x)
        if self._natural:
            return self._natural.average(x, self._score_table)
        y = self._whitened(x)
        if len(y) > 1:
            y = y * self._log_joint(y).softmax(0)[:, None]
        return y.flatten(0, 1).mT @ -self._whiten.flatten(0, 1).to(x)

    def _whitened(self, x: Tensor) -> Tensor:
        """y_k = L_k⁻¹ (x − m_k) for all components: (K, d, n)."""
        return torch.baddbmm(-self._rest.to(x), self._whiten.to(x), x.mT - self._near.to(x))

    def _log_joint(self, y: Tensor) -> Tensor:
        """ℓ_k = log (w_k N(x; m_k, C_k)) from the whitened y: (K, n)."""
        return floored(self._log_scale.to(y) - y.square().sum(1) / 2)

    def _require_points(self, x: Tensor) -> None:
        d = self._means.shape[1]
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor of shape (n, {d}), got {type(x).__name__}")
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {tuple(x.shape)}")
        require_floating(x, "x")


class Gaussian(GaussianMixture):
    """Normal distribution N(mean, cov) in R^d: the mixture with one component.

    mean: (d,). cov: a variance, or a full covariance (d, d).
    Raises ValueError if the shapes disagree or cov is not symmetric positive definite.
    """

    def __init__(self, mean, cov):
        mean = floating(mean)
        cov = _like(cov, mean)
        if mean.ndim != 1:
            raise ValueError(f"mean must have shape (d,), got {tuple(mean.shape)}")
        if cov.ndim == 1:
            raise ValueError("cov must be a variance or a matrix (d, d); for a diagonal covariance use torch.diag")
        super().__init__(mean[None], cov[None] if cov.ndim else cov)


def log_normal(x: Tensor, mean: Tensor, scale) -> Tensor:
    """log N(x; mean, scale² I) of x: (n, *shape). Returns (n,).

    scale: a positive number, or a tensor that broadcasts with x.
    """
    require_one_shape(x=x, mean=mean)
    scale = _like(scale, x)
    logs = -(((x - mean) / scale) ** 2) / 2 - (scale.log() + math.log(2 * math.pi) / 2)
    return logs.reshape(len(x), math.prod(x.shape[1:])).sum(1)


def _like(value, other: Tensor) -> Tensor:
    """A value as a tensor of the dtype and device of another; numbers keep all the digits that these have."""
    return torch.as_tensor(value, dtype=other.dtype, device=other.device)


def _full_covariances(covs, means: Tensor) -> Tensor:
    """Expand a variance or K variances to full covariances (K, d, d)."""
    k, d = means.shape
    covs = _like(covs, means).clone()
    if covs.ndim == 0:
        covs = covs.expand(k)
    if covs.shape == (k,):
        covs = covs[:, None, None] * torch.eye(d).to(means)
    if covs.shape != (k, d, d):
        raise ValueError(f"covs must be a variance, ({k},) variances or ({k}, {d}, {d}), got {tuple(covs.shape)}")
    return covs
