"""Noise schedules: the two functions of time that every Gaussian path is made of.

    x_t = α_t z + β_t ε,   ε ~ N(0, I)                          [notes, eq. 16]

α_t is the weight of the data, β_t that of the noise; dots are time derivatives. An exact schedule has α_0 = β_1 = 0
and α_1 = β_0 = 1. λ_t = log(α_t²/β_t²), the log signal-to-noise ratio, rises from noise to data. It is what tells
schedules apart once states are rescaled [meet, noise schedule], so each schedule can also be asked for the time at
which λ takes a value. Times are numbers or tensors in [0, 1]; the result is a tensor of the same shape and dtype, or
float64 for a number, which still takes the dtype of what it multiplies.

The same schedule drives a diffusion that turns data into noise [intro, 3.1; meet, how to relate]. In its own time
s = 1 − t it is dX_s = f X_s ds + g dW_s with

    f = −α̇_t/α_t,   g² = 2 (β_t² α̇_t/α_t − β_t β̇_t)
    α = exp ∫_0^s f,   β² = α² ∫_0^s g² exp(−2 ∫_0^r f) dr        the way back
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fmlab.values import coefficient, floating, half, holds, in_single, require, time, time_like


class Schedule:
    """A noise schedule: subclasses give α, β and their derivatives, and the inverse of λ where it is closed form."""

    def alpha(self, t) -> Tensor:
        """Weight α_t of the data."""
        raise NotImplementedError

    def beta(self, t) -> Tensor:
        """Weight β_t of the noise."""
        raise NotImplementedError

    def alpha_dot(self, t) -> Tensor:
        """Time derivative of α_t."""
        raise NotImplementedError

    def beta_dot(self, t) -> Tensor:
        """Time derivative of β_t."""
        raise NotImplementedError

    def beta_beta_dot(self, t) -> Tensor:
        """β_t β̇_t = ½ dβ_t²/dt, which stays finite where β̇_t alone does not."""
        return self.beta(t) * self.beta_dot(t)

    def weights(self, t, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """α_t, β_t, α̇_t and β̇_t in the shape that multiplies x: (n, *shape). t: a scalar or (n,)."""
        values = self.alpha(t), self.beta(t), self.alpha_dot(t), self.beta_dot(t)
        return tuple(coefficient(value, x) for value in values)

    def log_snr(self, t) -> Tensor:
        """λ_t = 2 log(α_t / β_t), from −∞ (all noise) to ∞ (all data)."""
        return 2 * (self.alpha(t).log() - self.beta(t).log())

    def log_snr_dot(self, t) -> Tensor:
        """λ̇_t = 2 (α̇_t/α_t − β̇_t/β_t)."""
        return 2 * (self.alpha_dot(t) / self.alpha(t) - self.beta_dot(t) / self.beta(t))

    def time_at(self, log_snr) -> Tensor:
        """The time t at which λ_t = log_snr. Raises ValueError for values outside [λ_0, λ_1]."""
        log_snr = floating(log_snr)
        lowest, highest = (self.log_snr(log_snr.new_tensor(t)) for t in (0.0, 1.0))
        slack = 16 * torch.finfo(log_snr.dtype).eps
        if not holds((log_snr >= lowest - slack * lowest.abs()) & (log_snr <= highest + slack * highest.abs())):
            raise ValueError(
                f"{self} has log-SNRs from {float(lowest):g} to {float(highest):g}, got {log_snr.tolist()}"
            )
        return self._time_at(log_snr).clamp(0, 1)

    def _time_at(self, log_snr: Tensor) -> Tensor:
        """The inverse of the increasing function λ by bisection."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(64):
            middle = (low + high) / 2
            below = self.log_snr(middle) < log_snr
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value:g}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class CondOT(Schedule):
    """Conditional optimal transport: α_t = t, β_t = 1 − (1 − σ_min) t.    [notes, ex. 13; intro, eq. 20]

    sigma_min: the noise left at t = 1; with 0, the straight path from noise to data.
    """

    def __init__(self, sigma_min: float = 0.0):
        if not 0 <= sigma_min < 1:
            raise ValueError(f"sigma_min must be in [0, 1), got {sigma_min}")
        self.sigma_min = float(sigma_min)

    def alpha(self, t):
        return time(t)

    def beta(self, t):
        return 1 - (1 - self.sigma_min) * time(t)

    def alpha_dot(self, t):
        return torch.ones_like(time(t))

    def beta_dot(self, t):
        return torch.full_like(time(t), self.sigma_min - 1)

    def _time_at(self, log_snr):
        return 1 / (torch.exp(-log_snr / 2) + 1 - self.sigma_min)


class Cosine(Schedule):
    """α_t = sin(πt/2), β_t = cos(πt/2): variance preserving, α² + β² = 1."""

    def alpha(self, t):
        return torch.sin(math.pi / 2 * time(t))

    def beta(self, t):
        return torch.sin(math.pi / 2 * (1 - time(t)))  # the cosine, and exactly 0 at t = 1

    def alpha_dot(self, t):
        return math.pi / 2 * self.beta(t)

    def beta_dot(self, t):
        return -math.pi / 2 * self.alpha(t)

    def _time_at(self, log_snr):
        return 2 / math.pi * torch.atan(torch.exp(log_snr / 2))


class LinearVP(Schedule):
    """The variance-preserving diffusion with a linear noise rate, run from noise to data.    [intro, eq. 18, § 4.2]

    α_t = exp(−½ T(s)), β_t = √(1 − α_t²), with s = 1 − t and T(s) = ∫_0^s b(r) dr for the noise rate
    b(r) = b_min + (b_max − b_min) r. α_0 is small but not 0 (0.0066 for the usual rates). β̇_t is infinite at t = 1.

    beta_min, beta_max: b_min and b_max, the rates at the data and at the noise.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        if not 0 < beta_min <= beta_max:
            raise ValueError(f"need 0 < beta_min ≤ beta_max, got {beta_min} and {beta_max}")
        self.beta_min, self.beta_max = float(beta_min), float(beta_max)

    def noise_rate(self, s):
        """b(s), at the time s = 1 − t of the diffusion."""
        return self.beta_min + (self.beta_max - self.beta_min) * time(s)

    def _integral(self, t):
        s = 1 - time(t)
        return self.beta_min * s + (self.beta_max - self.beta_min) * s**2 / 2

    def alpha(self, t):
        return torch.exp(-self._integral(t) / 2)

    def beta(self, t):
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    def alpha_dot(self, t):
        return self.noise_rate(1 - time(t)) / 2 * self.alpha(t)

    def beta_dot(self, t):
        return self.beta_beta_dot(t) / self.beta(t)

    def beta_beta_dot(self, t):
        return -self.alpha(t) * self.alpha_dot(t)

    def _time_at(self, log_snr):
        integral = torch.logaddexp(-log_snr, torch.zeros_like(log_snr))  # −log α² where α²/β² = e^λ
        slope = self.beta_max - self.beta_min
        return 1 - 2 * integral / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * integral))


class VE(Schedule):
    """Variance exploding: α_t = 1, β_t = σ_max (1 − t).    [intro, eq. 16]

    The noise is added to data that never fade, so p_0 is only close to N(0, σ_max² I), the closer the larger σ_max.
    """

    def __init__(self, sigma_max: float = 20.0):
        if not sigma_max > 0:
            raise ValueError(f"sigma_max must be positive, got {sigma_max}")
        self.sigma_max = float(sigma_max)

    def alpha(self, t):
        return torch.ones_like(time(t))

    def beta(self, t):
        return self.sigma_max * (1 - time(t))

    def alpha_dot(self, t):
        return torch.zeros_like(time(t))

    def beta_dot(self, t):
        return torch.full_like(time(t), -self.sigma_max)

    def _time_at(self, log_snr):
        return 1 - torch.exp(-log_snr / 2) / self.sigma_max


class DiffusionSchedule(Schedule):
    """The schedule of a noising diffusion dX_s = f(s) X_s ds + g(s) dW_s, s = 1 − t.    [meet, S_t corrected]

    α = exp ∫_0^s f,   β² = α² ∫_0^s g(r)² exp(−2 ∫_0^r f) dr,   α̇ = −f α,   β β̇ = −f β² − ½ g²

    f, g: smooth callables of s on [0, 1], applied to tensors element by element. The integrals are Gauss–Legendre sums,
    exact to rounding for smooth rates.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], g: Callable[[Tensor], Tensor], nodes: int = 32):
        self.f, self.g = f, g
        self._nodes, self._weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(nodes))

    def alpha(self, t):
        return self._integral(self.f, 1 - time(t)).exp()

    def beta(self, t):
        s = 1 - time(t)
        spread = self._integral(lambda r: self.g(r) ** 2 * torch.exp(-2 * self._integral(self.f, r)), s)
        return self.alpha(t) * spread.sqrt()

    def alpha_dot(self, t):
        return -self.f(1 - time(t)) * self.alpha(t)

    def beta_dot(self, t):
        return self.beta_beta_dot(t) / self.beta(t)

    def beta_beta_dot(self, t):
        s = 1 - time(t)
        return -self.f(s) * self.beta(t) ** 2 - self.g(s) ** 2 / 2

    def _integral(self, rate, s: Tensor) -> Tensor:
        """∫_0^s rate(r) dr for each s."""
        values = rate(s[..., None] * (self._nodes.to(s) + 1) / 2)
        return (values * self._weights.to(s)).sum(-1) * s / 2

    def __repr__(self) -> str:
        return f"{type(self).__name__}(f, g)"


def diffusion_coefficients(schedule: Schedule, t) -> tuple[Tensor, Tensor]:
    """(f, g) of the diffusion dX_s = f X_s ds + g dW_s that noises data along a schedule, at s = 1 − t.

    f = −α̇/α,   g² = 2 (β² α̇/α − β β̇)                          [meet, how to relate; with its square root]

    Raises ValueError where α_t = 0: no diffusion reaches pure noise in finite time with finite rates.
    """
    t = time(t)
    alpha = schedule.alpha(t)
    require(alpha != 0, t, "α_t = 0, and the diffusion has infinite rates")
    growth = schedule.alpha_dot(t) / alpha
    return -growth, (2 * (schedule.beta(t) ** 2 * growth - schedule.beta_beta_dot(t))).sqrt()


def to_variance_preserving(x: Tensor, t, schedule: Schedule) -> Tensor:
    """States of a schedule, rescaled to the variance-preserving one with the same λ.    [meet, noise schedule]

    x/√(α² + β²). x: (n, *shape); t: a scalar or (n,).
    """
    if half(x):
        return in_single(to_variance_preserving, x, t, schedule)
    t = time_like(t, x)
    return x / coefficient(torch.hypot(schedule.alpha(t), schedule.beta(t)), x)
