"""Training losses: regression on a conditional target, whose minimiser is the marginal one.

With t drawn by `times`, z from the data, noise ε ~ N(0, I) and x = α_t z + β_t ε:

    flow matching        E‖u_θ(x, t) − (α̇ z + β̇ ε)‖²            [notes, eq. 31]
    score matching       E w(t) ‖s_θ(x, t) + ε/β‖²               [slides, denoising score matching]
    noise prediction     E‖ε_θ(x, t) − ε‖²                       [slides, DDPM]

‖·‖² is the sum over coordinates, E the mean over the batch. The losses that regress on the marginal field or score
itself exceed these by a constant, minus the variance of the target given x, which the model cannot change:

    L_FM − L_CFM = E‖u_t(x)‖² − E‖u_t(x|z)‖²                     [notes, thm. 12]

A model is any callable model(x, t), z: (n, *shape) a batch of data. All return a scalar. `times(n, generator)` draws
(n,) times: `uniform()`, `uniform(0, 0.99)` to stay clear of a singular end, or any callable.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fmlab.conversions import x_mse_weight
from fmlab.datasets import Empirical
from fmlab.distributions import GaussianMixture
from fmlab.paths import GaussianPath, LinearPath, Path
from fmlab.schedules import Schedule
from fmlab.values import coefficient, normal_like, require_precise, squares, time_like

Model = Callable[..., Tensor]
Times = Callable[[int, torch.Generator | None], Tensor]


def uniform(low: float = 0.0, high: float = 1.0) -> Times:
    """The draw of n times uniform on [low, high)."""
    if not 0 <= low < high <= 1:
        raise ValueError(f"need 0 ≤ low < high ≤ 1, got {low} and {high}")
    return partial(_uniform, low, high)


def _uniform(low: float, high: float, n: int, generator: torch.Generator | None = None) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator, device=generator.device if generator else None)


def flow_matching_loss(
    model: Model,
    path: Path,
    z: Tensor,
    x0: Tensor | None = None,
    times: Times = uniform(),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Conditional flow matching loss E‖u_θ(x, t) − (α̇ z + β̇ ε)‖².    [notes, eq. 31, alg. 3]

    x0: the starting points ε, such as a batch of another data set for a `LinearPath`; standard normal if not given.
    """
    t = _times(times, z, generator)
    noise = normal_like(z, generator) if x0 is None else x0
    return squares(_predict(model, path.interpolate(z, noise, t), t) - path.velocity(z, noise, t)).mean()


def score_matching_loss(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    weight: Callable[[Tensor], Tensor] | None = None,
    times: Times = uniform(),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoising score matching loss E w(t) ‖s_θ(x, t) + ε/β‖².    [slides]

    weight: w(t), 1 if not given. The target then grows like 1/β² as t → 1, so that with uniform times on [0, 1) the
    expectation is infinite: clip the times, uniform(0, 0.99), or weigh with β², which gives the noise prediction loss.
    """
    t, noise = _times(times, z, generator), normal_like(z, generator)
    beta = coefficient(path.schedule.beta(t), z)
    errors = squares(_predict(model, path.interpolate(z, noise, t), t) + noise / beta)
    return _weighted(errors, weight, t)


def ddpm_loss(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    times: Times = uniform(),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Noise prediction loss E‖ε_θ(x, t) − ε‖²: score matching with ε_θ = −β s_θ and weight β².    [slides]"""
    t, noise = _times(times, z, generator), normal_like(z, generator)
    return squares(_predict(model, path.interpolate(z, noise, t), t) - noise).mean()


def guided_flow_matching_loss(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    y: Tensor,
    drop: float = 0.1,
    null: int | None = None,
    times: Times = uniform(),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Flow matching loss of a model u_θ(x, t | y) that must also do without the label.    [notes, key idea 4]

    y: (n,) labels of z, each replaced by the null label with probability `drop`; null: by default `model.null_label`.
    """
    y = drop_labels(y, drop, null_label(model, null), generator)
    if len(y) != len(z):
        raise ValueError(f"need one label for each of the {len(z)} points, got {len(y)}")
    return flow_matching_loss(lambda x, t: model(x, t, y), path, z, times=times, generator=generator)


def null_label(model: Model, null: int | None = None) -> int:
    """The label that says none: `null`, or the one that the model names. Raises ValueError where there is neither."""
    null = getattr(model, "null_label", None) if null is None else null
    if null is None:
        raise ValueError(
            "guidance needs a model with labels: build a network with labels=… (the number of classes), or say with "
            "null=… which label a function takes for none"
        )
    return null


def drop_labels(y: Tensor, p: float, null: int, generator: torch.Generator | None = None) -> Tensor:
    """The labels y: (n,), each replaced by `null` with probability p. Leaves y as it is.

    They keep their dtype where it has room for `null`, and else become int64.
    """
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or y.ndim != 1:
        raise ValueError(f"labels must be a tensor of whole numbers (n,), got {_describe(y)}")
    if not 0 <= p <= 1:
        raise ValueError(f"the probability of dropping a label must be in [0, 1], got {p}")
    dropped = torch.rand(len(y), generator=generator, device=y.device) < p
    room = torch.iinfo(y.dtype)
    y = y if room.min <= null <= room.max else y.long()
    return torch.where(dropped, torch.full_like(y, null), y)


def marginal_flow_matching_loss(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    p_data: GaussianMixture | Empirical,
    times: Times = uniform(),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Flow matching loss E‖u_θ(x, t) − u_t(x)‖² on the marginal field of p_data, in closed form.    [notes, eq. 24]

    With z from p_data and a generator in the same state, the same x and t are drawn as by `flow_matching_loss`.
    """
    t, noise = _times(times, z, generator), normal_like(z, generator)
    x = path.interpolate(z, noise, t)
    return squares(_predict(model, x, t) - path.marginal(p_data).vector_field(x, t)).mean()


def marginal_score_matching_loss(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    p_data: GaussianMixture | Empirical,
    weight: Callable[[Tensor], Tensor] | None = None,
    times: Times = uniform(),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Score matching loss E w(t) ‖s_θ(x, t) − ∇ log p_t(x)‖² on the marginal score.    [slides]

    With z from p_data and a generator in the same state, the same x and t are drawn as by `score_matching_loss`.
    """
    t, noise = _times(times, z, generator), normal_like(z, generator)
    x = path.interpolate(z, noise, t)
    errors = squares(_predict(model, x, t) - path.marginal(p_data).score(x, t))
    return _weighted(errors, weight, t)


def reflow_loss(sample: Callable[[Tensor], Tensor], x0: Tensor) -> Callable[[Model, Tensor, Tensor], Tensor]:
    """Straight-line loss on the pairs (x_0, x_1 = sample(x_0)) of a trained flow, drawn once.    [Liu, Gong, Liu 2022]

    Returns the loss(model, k, t) = E‖u_θ((1 − t) x_0 + t x_1, t) − (x_1 − x_0)‖² over the pairs k at the times t, both
    (n,). The pairs of a flow hardly cross, so that the marginal field of their lines is nearly straight.
    """
    with torch.no_grad():
        x1 = sample(x0)
    return partial(_reflow_loss, x0, x1)


def _reflow_loss(x0: Tensor, x1: Tensor, model: Model, k: Tensor, t: Tensor) -> Tensor:
    return flow_matching_loss(model, LinearPath(), x1[k], x0[k], times=lambda n, generator: t)


def loss_over_log_snr(
    model: Model,
    path: GaussianPath,
    z: Tensor,
    weight: Callable[[Tensor], Tensor],
    low: float,
    high: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Noise prediction loss ∫ w(λ) E‖ε_θ(x, t) − ε‖² dλ over the log signal-to-noise ratio.    [meet, training]

    λ is drawn uniform on [low, high) and t is the time at which the schedule has it. The schedule enters only there:
    for one denoiser, seen through each schedule's scale, the value depends on w and the end points alone.
    """
    _require_data(z)
    log_snr = low + (high - low) * torch.rand(len(z), generator=generator, dtype=z.dtype, device=z.device)
    t, noise = path.schedule.time_at(log_snr), normal_like(z, generator)
    errors = squares(_predict(model, path.interpolate(z, noise, t), t) - noise)
    return (high - low) * _weighted(errors, weight, log_snr)


def effective_weight(output: str, log_snr: Tensor, schedule: Schedule) -> Tensor:
    """w(λ) for which the plain error of an output, with t uniform, is ∫ w(λ) E‖ε̂ − ε‖² dλ.    [meet, training]

    The error of the output is its factor over the noise's, times the noise's error; and dt = dλ/λ̇.
    output: a name from `conversions.OUTPUTS`.
    """
    t = schedule.time_at(log_snr)
    return x_mse_weight(output, t, schedule) / x_mse_weight("noise", t, schedule) / schedule.log_snr_dot(t)


def _times(times: Times, z: Tensor, generator: torch.Generator | None) -> Tensor:
    """One time for each point of z, after a check of both."""
    _require_data(z)
    t = times(len(z), generator)
    if not isinstance(t, Tensor) or t.shape != z.shape[:1]:
        raise ValueError(f"times must draw one for each of the {len(z)} points, got {_describe(t)}")
    return time_like(t, z)


def _require_data(z: Tensor) -> None:
    if not isinstance(z, Tensor) or not z.is_floating_point() or z.ndim < 2 or not len(z):
        raise ValueError(f"z must be floating point of shape (n, *shape), n ≥ 1, got {_describe(z)}")
    require_precise(z, "z")


def _predict(model: Model, x: Tensor, t: Tensor) -> Tensor:
    """model(x, t), which must have the shape of x: a difference of other shapes would broadcast unnoticed."""
    value = model(x, t)
    if value.shape != x.shape:
        raise ValueError(f"the model must return the shape of x, {tuple(x.shape)}, got {tuple(value.shape)}")
    return value


def _weighted(errors: Tensor, weight: Callable[[Tensor], Tensor] | None, t: Tensor) -> Tensor:
    """Mean of w(t) times the errors, both (n,)."""
    w = torch.ones_like(errors) if weight is None else torch.as_tensor(weight(t))
    if w.ndim and w.shape != errors.shape:
        raise ValueError(f"weight must return one number for each of the {len(t)} times, got shape {tuple(w.shape)}")
    return (w * errors).mean()


def _describe(value) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
