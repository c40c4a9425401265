"""Processes: ordinary and stochastic differential equations as objects.

    ODE   dX_t = u_t(X_t) dt                          [notes, eq. 1]
    SDE   dX_t = u_t(X_t) dt + σ_t(X_t) dW_t          [notes, eq. 7]

A process only states its equation; `fmlab.simulators` solves it. A field is any callable u(x, t) with x: (n, *shape)
and t a 0-dimensional tensor; it returns a tensor of the shape and dtype of x. A diffusion coefficient is a number or a
callable σ(x, t) that returns a number or a tensor broadcastable to x; it multiplies the noise coordinate by coordinate,
with its sign: the law is that of |σ|, the path is mirrored. σ = 0 gives back the ODE.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fmlab.distributions import Gaussian
from fmlab.schedules import Schedule, diffusion_coefficients
from fmlab.values import holds

Field = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[Tensor, Tensor], float | Tensor]


class SDE:
    """Itô process dX_t = u_t(X_t) dt + σ_t(X_t) dW_t with drift u and diffusion coefficient σ.    [notes, eq. 7]

    drift: callable u(x, t). diffusion: a number, or a callable σ(x, t).
    """

    def __init__(self, drift: Field, diffusion: float | Noise):
        self.drift = _callable(drift, "drift")
        self.diffusion = _coefficient(diffusion, "diffusion")


class ODE(SDE):
    """Flow dX_t = u_t(X_t) dt along a vector field u: an SDE with σ = 0.    [notes, eq. 1]

    vector_field: callable u(x, t).
    """

    def __init__(self, vector_field: Field):
        super().__init__(_callable(vector_field, "vector_field"), 0.0)


class LinearSDE(SDE):
    """Linear process dX_t = a_t X_t dt + σ_t dW_t with additive noise.

    rate, sigma: numbers, or callables a(t), σ(t).
    Its law given x_0 is Gaussian, so with constant coefficients `moments` and `stationary` are exact.
    """

    spare: Tensor | None  # while it is simulated: memory for the next state,
    made: Tensor | None  # and the last one that was made there

    def __init__(self, rate: float | Callable, sigma: float | Callable):
        self.rate = rate if callable(rate) else _number(rate, "rate")
        self.sigma = sigma if callable(sigma) else _nonnegative(sigma, "sigma")

    def drift(self, x: Tensor, t) -> Tensor:
        """a_t x."""
        return at(self.rate, t) * x

    def diffusion(self, x: Tensor, t) -> float | Tensor:
        """σ_t."""
        return at(self.sigma, t)

    def moments(self, x0: Tensor, t) -> tuple[Tensor, Tensor]:
        """Mean and variance of X_t given X_0 = x_0, for constant coefficients.    [notes, ex. 6]

        mean e^{at} x_0, variance σ² (e^{2at} − 1) / (2a), which is σ² t where a = 0.

        x0: any shape; t ≥ 0: a scalar, or a tensor that broadcasts with x0. Returns (mean, variance), both
        broadcast over x0 and t.
        Raises ValueError if a coefficient depends on time or t < 0.
        """
        a, sigma = self._constants()
        x0 = torch.as_tensor(x0) * 1.0  # whole numbers become floating point
        t = torch.as_tensor(t, dtype=x0.dtype, device=x0.device)
        if not holds(t >= 0):
            raise ValueError(f"moments need t ≥ 0, got {float(t.min())}")
        growth = t if a == 0 else torch.expm1(2 * a * t) / (2 * a)
        mean = torch.exp(a * t) * x0
        return mean, (sigma**2 * growth).expand_as(mean)

    def stationary(self) -> Gaussian:
        """Limit law N(0, σ²/(−2a)) in one dimension, which exists for constant a < 0 and σ > 0.    [notes, ex. 6]

        Raises ValueError where it does not exist.
        """
        a, sigma = self._constants()
        if a >= 0 or sigma == 0:
            raise ValueError(f"no stationary density: need rate < 0 and sigma > 0, got {a} and {sigma}")
        return Gaussian([0.0], sigma**2 / (-2 * a))

    def _constants(self) -> tuple[float, float]:
        if callable(self.rate) or callable(self.sigma):
            raise ValueError("closed forms need constant coefficients; this process has a time-dependent rate or sigma")
        return self.rate, self.sigma


def brownian_motion(sigma: float = 1.0) -> LinearSDE:
    """Brownian motion σ W_t: increments N(0, σ² (t − s) I), independent over disjoint intervals.    [notes, eq. 5]"""
    return LinearSDE(0.0, sigma)


def ornstein_uhlenbeck(theta: float, sigma: float) -> LinearSDE:
    """Ornstein–Uhlenbeck process dX_t = −θ X_t dt + σ dW_t.    [notes, eq. 8]

    Given x_0 its mean is x_0 e^{−θt} and its variance σ² (1 − e^{−2θt}) / (2θ); for θ > 0 it tends to
    N(0, σ²/(2θ)).
    """
    return LinearSDE(-theta, sigma)


class GeometricBrownianMotion(SDE):
    """Geometric Brownian motion dX_t = μ X_t dt + σ X_t dW_t, the classic case of multiplicative noise.

    By Itô's formula log X_t is a Brownian motion with drift, so X_t = x_0 exp((μ − σ²/2) t + σ W_t).
    """

    def __init__(self, mu: float, sigma: float):
        self.mu, self.sigma = _number(mu, "mu"), _nonnegative(sigma, "sigma")

    def drift(self, x: Tensor, t) -> Tensor:
        """μ x."""
        return self.mu * x

    def diffusion(self, x: Tensor, t) -> Tensor:
        """σ x."""
        return self.sigma * x

    def solution(self, x0: Tensor, t, w: Tensor) -> Tensor:
        """X_t for the Brownian motion that stands at w = W_t. x0, t, w broadcast."""
        return x0 * torch.exp((self.mu - self.sigma**2 / 2) * t + self.sigma * w)


def langevin(score: Callable[[Tensor], Tensor], sigma: float | Callable = math.sqrt(2)) -> SDE:
    """Langevin dynamics dX_t = ½ σ_t² ∇ log p(X_t) dt + σ_t dW_t, which leaves p invariant.    [summary, 3.3]

    score: callable s(x) = ∇ log p(x), for instance `GaussianMixture(...).score`. sigma: a number, or a callable σ(t).
    """
    _callable(score, "score")
    sigma = sigma if callable(sigma) else _nonnegative(sigma, "sigma")
    return SDE(partial(_langevin_drift, score, sigma), partial(_noise_of_time, sigma))


def sde_extension(vector_field: Field, score: Field, sigma: float | Callable) -> SDE:
    """SDE dX_t = (u_t + ½ σ_t² s_t)(X_t) dt + σ_t dW_t with the marginals of the flow, for any σ.    [summary, 3.3]

    vector_field, score: callables u(x, t) and s(x, t) = ∇ log p_t(x) of one path p_t. sigma: a number, or a callable
    σ(t). The number 0 gives the ODE itself, which never asks for the score.
    """
    _callable(vector_field, "vector_field"), _callable(score, "score")
    sigma = sigma if callable(sigma) else _nonnegative(sigma, "sigma")
    if sigma == 0:
        return ODE(vector_field)
    return SDE(partial(_extended_drift, vector_field, score, sigma), partial(_noise_of_time, sigma))


def forward_sde(schedule: Schedule) -> LinearSDE:
    """The noising diffusion dX_s = f X_s ds + g dW_s of a schedule, in its own time s = 1 − t.    [intro, 3.1, 4.2]

    From p_1 (the data, where β_1 = 0) at s = 0 it has the path's marginals, X_s ~ p_{1−s}. Where α_0 = 0 its rates are
    infinite at s = 1.
    """
    return LinearSDE(partial(_noising_rate, schedule, 0), partial(_noising_rate, schedule, 1))


def reverse_sde(schedule: Schedule, score: Field, eta: float = 1.0) -> SDE:
    """The diffusion run from noise to data, dX_t = (−f X_t + ½ (1 + η²) g² s_t(X_t)) dt + η g dW_t.    [intro, 3.2]

    For any η ≥ 0 it has the path's marginals: it is `sde_extension` with σ = η g [meet, how to relate; with η² for η].
    η = 1 undoes `forward_sde`, η = 0 is `probability_flow`. Where α_0 = 0 it starts at some t > 0.

    score: callable s(x, t) = ∇ log p_t(x).
    """
    _callable(score, "score")
    eta = _nonnegative(eta, "eta")
    return SDE(partial(_reversed_drift, schedule, score, eta), partial(_reversed_noise, schedule, eta))


def probability_flow(schedule: Schedule, score: Field) -> ODE:
    """The flow dX_t = (−f X_t + ½ g² s_t(X_t)) dt from noise to data with the path's marginals.    [intro, 3.2, 5.5]

    Its field is the path's vector field, written by the score. score: callable s(x, t) = ∇ log p_t(x).
    """
    return ODE(reverse_sde(schedule, score, eta=0.0).drift)


def at(coefficient: float | Callable, t):
    """Value at time t of a coefficient given as a number or as a callable of t."""
    return coefficient(t) if callable(coefficient) else coefficient


# What processes are made of: functions of the module, with what they need, so that a process can be pickled and copied.


def _constant(value: float, x: Tensor, t) -> float:
    return value


def _noise_of_time(sigma: float | Callable, x: Tensor, t) -> float | Tensor:
    return at(sigma, t)


def _langevin_drift(score: Callable[[Tensor], Tensor], sigma: float | Callable, x: Tensor, t) -> Tensor:
    return 0.5 * at(sigma, t) ** 2 * score(x)


def _extended_drift(vector_field: Field, score: Field, sigma: float | Callable, x: Tensor, t) -> Tensor:
    return vector_field(x, t) + 0.5 * at(sigma, t) ** 2 * score(x, t)


def _noising_rate(schedule: Schedule, which: int, s) -> Tensor:
    return diffusion_coefficients(schedule, 1 - s)[which]


def _reversed_drift(schedule: Schedule, score: Field, eta: float, x: Tensor, t) -> Tensor:
    f, g = diffusion_coefficients(schedule, t)
    return -f * x + 0.5 * (1 + eta**2) * g**2 * score(x, t)


def _reversed_noise(schedule: Schedule, eta: float, x: Tensor, t) -> Tensor:
    return eta * diffusion_coefficients(schedule, t)[1]


def _callable(field, name: str):
    if not callable(field):
        raise TypeError(f"{name} must be a callable of (x, t), got {type(field).__name__}")
    return field


def _coefficient(value: float | Noise, name: str) -> Noise:
    if callable(value):
        return value
    return partial(_constant, _nonnegative(value, name))


def _nonnegative(value: float, name: str) -> float:
    if (value := _number(value, name)) < 0:
        raise ValueError(f"{name} must be a number ≥ 0, got {value}")
    return value


def _number(value: float, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number, or a callable where it may vary; got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number
