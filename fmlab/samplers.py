"""Samplers: from noise x_0 at t = 0 to data at t = 1, along a field or with a network that predicts one output of it.

    flow        dX_t = u_t(X_t) dt                                                              [notes, alg. 1]
    diffusion   dX_t = (u_t(X_t) + ½ σ_t² s_t(X_t)) dt + σ_t dW_t, for any σ_t ≥ 0              [slides]
    DDIM        x_s = α_s ẑ + β_s ε̂: the network's guess, moved to the next noise level         [meet, overview]
    DDPM        x_s = α_s ẑ + β_s (e^{−cΔλ/2} ε̂ + √(1 − e^{−cΔλ}) ξ),   ξ ~ N(0, I)             [meet, sampling]

ẑ and ε̂ are the data and the noise that the network sees in the state x = α_t ẑ + β_t ε̂ at time t, and
Δλ = λ_s − λ_t > 0 is the progress of the step in log signal-to-noise ratio.

Why DDPM is DDIM and renoising. Let DDIM overshoot to r, where λ_r = λ_s + cΔλ, and let noise bring it back to s as the
forward diffusion would, which scales by α_s/α_r and adds what is then missing from β_s²:

    x_s = (α_s/α_r) (α_r ẑ + β_r ε̂) + √(β_s² − (α_s/α_r)² β_r²) ξ

Since β_r/α_r = e^{−λ_r/2} = (β_s/α_s) e^{−cΔλ/2}, this is the line above: α_r has dropped out. The churn c is free:
0 is DDIM, 1 the posterior of the DDPM chain, and as steps shrink c samples the diffusion with σ_t² = c β_t² λ̇_t.
It is the exponential integrator of that SDE, for a ẑ held fixed over the step, and stable where Euler–Maruyama is not.

The caller draws x_0 from N(0, β_0² I), which is N(0, I) for all schedules here but VE. `steps` is a number of equal
steps from 0 to 1, or the increasing times themselves. A network is any callable f(x, t) with x: (n, *shape) and t a
0-dimensional tensor.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import cast

import torch
from torch import Tensor

from fmlab.conversions import convert
from fmlab.processes import ODE, SDE, Field, at, sde_extension
from fmlab.schedules import Schedule
from fmlab.simulators import Method, Midpoint, ODEMethod, as_times, like, simulate
from fmlab.values import half, holds, in_single, require_no_derivative, require_one_shape

Steps = int | Sequence[float] | Tensor
ROUNDING = 1e-6  # of a time


@torch.no_grad()
def sample_flow(
    vector_field: Field,
    x0: Tensor,
    steps: Steps = 50,
    method: ODEMethod | None = None,
    record: bool | Sequence[int] = False,
) -> Tensor:
    """Sample a flow model: solve dX = u_t(X) dt from X_0 = x_0.    [notes, alg. 1]

    method: `Midpoint()` if not given; Midpoint and Euler never look at t = 1, where some fields are singular, Heun and
    RK4 do. Decreasing times run the flow backwards, from data to noise.
    x0: (n, *shape). Returns the end points (n, *shape) or, as in `simulate`, the recorded states.
    Raises ValueError for times outside [0, 1] or not monotone, and what `simulate` raises.
    """
    require_no_derivative(x0, "sample_flow")
    return simulate(ODE(vector_field), x0, time_grid(steps), method or Midpoint(), record)


@torch.no_grad()
def sample_diffusion(
    vector_field: Field,
    score: Field | None,
    x0: Tensor,
    sigma,
    steps: Steps = 100,
    *,
    schedule: Schedule | None = None,
    record: bool | Sequence[int] = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample dX = (u_t(X) + ½ σ_t² s_t(X)) dt + σ_t dW by Euler–Maruyama from X_0 = x_0.    [slides; notes, alg. 2]

    score: callable s(x, t); or None with a schedule, to convert the one field u into its score (C6).
    sigma: a number ≥ 0 or a callable σ(t).

    A last step that ends at t = 1 leaves out score and noise, x + h u, which for CondOT ends at the guess ẑ: otherwise
    its noise, σ √h, would stay in the samples. To stop earlier, give the times. Where the data are thin the score grows
    like 1/β_t², and a step h is stable only for h σ_t² < 4 β_t² or so: take σ_t ∝ β_t, or `ddpm` with its churn.
    x0: (n, *shape). Returns the end points or the recorded states.
    Raises ValueError unless exactly one of score and schedule is given, and what `simulate` raises.
    """
    require_no_derivative(x0, "sample_diffusion")
    if (score is None) == (schedule is None):
        raise ValueError("give either the score, or score=None and the schedule to convert the vector field with")
    if not callable(sigma) and not sigma >= 0:
        raise ValueError(f"sigma must be ≥ 0, got {sigma}")
    ts = time_grid(steps)
    if ts[-1] == 1:
        sigma = _until(ts[-2], sigma)
    if score is not None:
        process = sde_extension(vector_field, score, sigma)
    else:
        process = SDE(_converted_drift(vector_field, cast(Schedule, schedule), sigma), lambda x, t: at(sigma, t))
    return simulate(process, x0, ts, record=record, generator=generator)


@torch.no_grad()
def ddim(
    model: Field,
    x0: Tensor,
    schedule: Schedule,
    steps: Steps = 50,
    *,
    output: str = "noise",
    record: bool | Sequence[int] = False,
) -> Tensor:
    """DDIM: x_s = α_s ẑ + β_s ε̂, deterministic.    [meet, overview]

    model: callable f(x, t) that predicts `output`, one of `conversions.OUTPUTS`.
    x0: (n, *shape). Returns the end points or the recorded states. On CondOT this is Euler's method on the flow.
    Raises ValueError where the output does not determine the data: noise and score do not where α_t = 0, at t = 0 for
    CondOT and Cosine. Start such a model at a small t > 0, with steps=torch.linspace(1e-3, 1, 51).
    """
    require_no_derivative(x0, "ddim")
    return simulate(model, x0, time_grid(steps), DDIM(schedule, output), record)


@torch.no_grad()
def ddpm(
    model: Field,
    x0: Tensor,
    schedule: Schedule,
    steps: Steps = 100,
    *,
    output: str = "noise",
    churn: float = 1.0,
    record: bool | Sequence[int] = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """DDPM: DDIM that overshoots by churn · Δλ and is renoised, for each step.    [meet, sampling]

    churn: c ≥ 0 in the formula above: 0 is DDIM, 1 is DDPM (it undoes half of what DDIM did). Otherwise like `ddim`.
    """
    require_no_derivative(x0, "ddpm")
    method = DDPM(schedule, output, churn)
    return simulate(model, x0, time_grid(steps), method, record, generator)


class DDIM(Method):
    """One DDIM step x_s = α_s ẑ + β_s ε̂, of order 1.    [meet, overview]

    The model is the network, f(x, t), which predicts `output`.
    """

    def __init__(self, schedule: Schedule, output: str = "noise"):
        self.schedule, self.output = schedule, output

    def step(self, model, x, t, s, noise=None):
        t, s = like(t, x), like(s, x)
        data, predicted = data_and_noise(model(x, t), x, t, self.schedule, self.output)
        return self.schedule.alpha(s) * data + self.schedule.beta(s) * predicted


class DDPM(DDIM):
    """One DDPM step x_s = α_s ẑ + β_s (q ε̂ + √(1 − q²) ξ) with q = e^{−cΔλ/2}.    [meet, sampling]

    e^{−Δλ/2} = (α_t β_s) / (β_t α_s) is 0 for a step from λ = −∞ or to λ = ∞, where nothing is left of ε̂.
    """

    draws = True

    def __init__(self, schedule: Schedule, output: str = "noise", churn: float = 1.0):
        if not churn >= 0:
            raise ValueError(f"churn must be ≥ 0, got {churn}")
        super().__init__(schedule, output)
        self.churn = float(churn)

    def step(self, model, x, t, s, noise=None):
        t, s = like(t, x), like(s, x)
        data, predicted = data_and_noise(model(x, t), x, t, self.schedule, self.output)
        alpha, beta = self.schedule.alpha(s), self.schedule.beta(s)
        kept = (self.schedule.alpha(t) * beta / (self.schedule.beta(t) * alpha)) ** self.churn
        return alpha * data + beta * (kept * predicted + torch.sqrt(1 - kept**2) * noise)


def renoise(x: Tensor, t, s, schedule: Schedule, noise: Tensor) -> Tensor:
    """The forward diffusion from t back to s ≤ t: x_s = (α_s/α_t) x + √(β_s² − (α_s/α_t)² β_t²) ξ.    [meet, sampling]

    x ~ N(α_t z, β_t² I) becomes N(α_s z, β_s² I). x, noise: (n, *shape); s, t: scalars.
    Raises ValueError if s > t.
    """
    if half(x, noise):
        return in_single(renoise, x, t, s, schedule, noise)
    require_one_shape(x=x, noise=noise)
    ratio = schedule.alpha(s) / schedule.alpha(t)
    missing = schedule.beta(s) ** 2 - (ratio * schedule.beta(t)) ** 2
    if not holds(torch.as_tensor(s) <= torch.as_tensor(t)):
        raise ValueError(f"renoising goes towards noise: need s ≤ t, got s = {float(s):g}, t = {float(t):g}")
    return ratio * x + torch.sqrt(missing.clamp(min=0)) * noise


def data_and_noise(value: Tensor, x: Tensor, t, schedule: Schedule, output: str) -> tuple[Tensor, Tensor]:
    """ẑ and ε̂, with α_t ẑ + β_t ε̂ = x, from the output that a network predicts. Raises what `convert` raises."""
    return (
        convert(value, x, t, schedule, source=output, target="data"),
        convert(value, x, t, schedule, source=output, target="noise"),
    )


def time_grid(steps: Steps) -> Tensor:
    """The times of a sampler: `steps` equal steps from 0 to 1, or the given times. Returns (len,), float64.

    Times within 1e-6 of 0 or 1 are those, as single precision cannot tell them apart.
    Raises ValueError unless there is at least one step and all times are in [0, 1].
    """
    if isinstance(steps, Integral):
        if steps < 1:
            raise ValueError(f"need at least one step, got {steps}")
        return torch.linspace(0, 1, int(steps) + 1, dtype=torch.float64)
    kind = "a number of steps or at least two times in [0, 1]"
    ts = as_times(steps, "the times or steps", kind)
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(f"the times or steps must be {kind}, got {str(steps)[:80]}")
    ts = torch.where((ts - ts.round()).abs() < ROUNDING, ts.round(), ts)
    outside = ~((ts >= 0) & (ts <= 1))
    if outside.any():
        k = int(outside.nonzero()[0])
        raise ValueError(f"times must be in [0, 1], got steps[{k}] = {ts[k]:g}")
    return ts


def _converted_drift(vector_field: Field, schedule: Schedule, sigma) -> Field:
    """u + ½ σ² s with the score converted from u, which is evaluated once."""

    def drift(x, t):
        u = vector_field(x, t)
        return u + 0.5 * at(sigma, t) ** 2 * convert(u, x, t, schedule, source="vector_field", target="score")

    return drift


def _until(end: Tensor, sigma):
    """σ_t before the time `end`, and 0 from there on."""
    return lambda t: at(sigma, t) * (t < float(end))
