"""Distributions with exact samples, densities and scores.

p(x) is a density on R^d and s(x) = ∇ log p(x) its score. For a Gaussian mixture with weights w_k, means m_k and
covariances C_k = L_k L_kᵀ everything is closed form once each component is whitened:

    y_k = L_k⁻¹ (x − m_k)
    log p(x) = log Σ_k exp(ℓ_k),   ℓ_k = log w_k − ½‖y_k‖² − log det L_k − (d/2) log 2π
    s(x) = −Σ_k r_k L_k⁻ᵀ y_k,     r = softmax(ℓ), the probability that x came from component k

Whitening keeps components as the leading axis (K, d, n) and is one matrix product; it also keeps the digits that
expanding the square (x − m)ᵀ C⁻¹ (x − m) loses for narrow components.
"""

import math

import torch
from torch import Tensor


class GaussianMixture:
    """Mixture Σ_k w_k N(m_k, C_k) of K Gaussians in R^d.

    means: (K, d). covs: one variance for all, (K,) variances, or full covariances (K, d, d).
    weights: (K,), positive, normalised here; equal if not given.
    Samples take the dtype and device of `means`; `log_prob` and `score` follow those of x.
    Raises ValueError if the shapes disagree, a weight is not positive or a covariance is not symmetric
    positive definite.
    """

    def __init__(self, means, covs, weights=None):
        self.means = _float(means)
        if self.means.ndim != 2 or not len(self.means):
            raise ValueError(f"means must have shape (K, d), got {tuple(self.means.shape)}")
        k, d = self.means.shape
        self.covs = _full_covariances(covs, self.means)
        self.weights = torch.ones(k).to(self.means) if weights is None else torch.as_tensor(weights).to(self.means)
        if self.weights.shape != (k,) or not (self.weights > 0).all():
            raise ValueError(f"weights must be {k} positive numbers, got {self.weights.tolist()}")
        self.weights = self.weights / self.weights.sum()

        means, covs, weights = self.means.double(), self.covs.double(), self.weights.double()
        factor, failed = torch.linalg.cholesky_ex(covs)
        if failed.any() or not torch.allclose(covs, covs.mT):
            raise ValueError("each covariance must be symmetric and positive definite")
        whiten = torch.linalg.solve_triangular(factor, torch.eye(d).to(factor).expand(k, d, d), upper=False)
        self._factor = factor
        self._whiten = whiten.reshape(k * d, d)
        self._shift = (whiten @ means[..., None]).reshape(k * d, 1)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        self._log_scale = (weights.log() - log_det - d / 2 * math.log(2 * math.pi))[:, None]

    @property
    def mean(self) -> Tensor:
        """Mean Σ w_k m_k of the mixture, (d,)."""
        return self.weights @ self.means

    @property
    def cov(self) -> Tensor:
        """Covariance Σ w_k (C_k + m_k m_kᵀ) − m mᵀ of the mixture, (d, d)."""
        second_moments = self.covs + self.means[:, :, None] * self.means[:, None, :]
        return torch.einsum("k,kij->ij", self.weights, second_moments) - torch.outer(self.mean, self.mean)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples m_k + L_k ε with k ~ w, ε ~ N(0, I). Returns (n, d)."""
        k, d = self.means.shape
        noise = torch.randn(n, d, dtype=self.means.dtype, device=self.means.device, generator=generator)
        if k == 1:
            return self.means[0] + noise @ self._factor[0].to(noise).T
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.means[component] + (self._factor.to(noise)[component] @ noise[..., None])[..., 0]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density log Σ_k exp(ℓ_k) at x: (n, d). Returns (n,)."""
        return self._log_joint(self._whitened(x)).logsumexp(0)

    def score(self, x: Tensor) -> Tensor:
        """Score ∇ log p(x) = −Σ_k r_k L_k⁻ᵀ y_k at x: (n, d). Returns (n, d)."""
        y = self._whitened(x)
        if len(y) > 1:
            y = y * self._log_joint(y).softmax(0)[:, None]
        return y.flatten(0, 1).mT @ -self._whiten.to(x)

    def _whitened(self, x: Tensor) -> Tensor:
        """y_k = L_k⁻¹ (x − m_k) for all components: (K, d, n)."""
        k, d = self.means.shape
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"x must be floating point, got {x.dtype}; use x.float() or x.double()")
        return torch.addmm(-self._shift.to(x), self._whiten.to(x), x.mT).view(k, d, -1)

    def _log_joint(self, y: Tensor) -> Tensor:
        """ℓ_k = log (w_k N(x; m_k, C_k)) from the whitened y: (K, n)."""
        return self._log_scale.to(y) - y.square().sum(1) / 2


class Gaussian(GaussianMixture):
    """Normal distribution N(mean, cov) in R^d: the mixture with one component.

    mean: (d,). cov: a variance, or a full covariance (d, d).
    Raises ValueError if the shapes disagree or cov is not symmetric positive definite.
    """

    def __init__(self, mean, cov):
        mean, cov = _float(mean), torch.as_tensor(cov)
        if mean.ndim != 1:
            raise ValueError(f"mean must have shape (d,), got {tuple(mean.shape)}")
        if cov.ndim == 1:
            raise ValueError("cov must be a variance or a matrix (d, d); for a diagonal covariance use torch.diag")
        super().__init__(mean[None], cov[None] if cov.ndim else cov)


def _float(value) -> Tensor:
    """The value as a floating-point tensor (whole numbers take the default dtype)."""
    value = torch.as_tensor(value)
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def _full_covariances(covs, means: Tensor) -> Tensor:
    """Expand a variance or K variances to full covariances (K, d, d)."""
    k, d = means.shape
    covs = torch.as_tensor(covs).to(means)
    if covs.ndim == 0:
        covs = covs.expand(k)
    if covs.shape == (k,):
        covs = covs[:, None, None] * torch.eye(d).to(means)
    if covs.shape != (k, d, d):
        raise ValueError(f"covs must be a variance, ({k},) variances or ({k}, {d}, {d}), got {tuple(covs.shape)}")
    return covs
