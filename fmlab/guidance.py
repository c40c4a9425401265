"""Guidance: fields that ask for something, made of fields that a network has learned.

    ũ_t(x | y) = (1 − w) u_t(x | ∅) + w u_t(x | y)                                    classifier-free [course labs]
    ũ_t(x | y) = u_t(x) + w κ_t ∇ log p_t(y | x),   κ_t = β_t² α̇_t/α_t − β_t β̇_t      by a classifier, or a measurement

w = 0 ignores the label, w = 1 samples p(x | y), and w > 1 overshoots: samples show the label more plainly, and vary
less. For a Gaussian path the same holds for scores, since field and score are affine in each other. Two labels can be
given scales of their own.

What w > 1 samples has a closed form for Gaussians p(x | y) = N(m, s²), p(x) = N(M, S²): a Gaussian with the standard
deviation s^w S^{1−w}. That is not p(x | y)^w p(x)^{1−w}, since tilting and noising do not commute.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fmlab.losses import drop_labels, null_label
from fmlab.schedules import CondOT, Schedule
from fmlab.values import coefficient, holds, require, time_like

__all__ = [
    "autoguided_field",
    "batch_guidance",
    "classifier_guided_field",
    "doubly_guided_vector_field",
    "drop_labels",
    "guidance_in_interval",
    "guided_std",
    "guided_vector_field",
    "inpaint",
    "measurement_log_prob",
    "negative_field",
]


def guided_vector_field(model: Callable[..., Tensor], y, w: float = 1.0, null: int | None = None) -> Callable:
    """The guided field ũ(x, t) = (1 − w) u(x, t | ∅) + w u(x, t | y).

    model: callable u(x, t, y). y: one label, or one for each point (n,). null: by default `model.null_label`.
    """
    return partial(_guided, model, y, w, null_label(model, null))


def _guided(model: Callable[..., Tensor], y, w: float, null: int, x: Tensor, t) -> Tensor:
    guided = model(x, t, y)
    return guided if w == 1 else (1 - w) * model(x, t, null) + w * guided


def doubly_guided_vector_field(
    model: Callable[..., Tensor], y, f, w: float, v: float, no_y: int, no_f: int
) -> Callable:
    """Two requests, each with a scale of its own.    [Brooks et al. 2023, eq. 3]

        ũ(x, t) = u(∅, ∅) + w (u(y, ∅) − u(∅, ∅)) + v (u(y, f) − u(y, ∅))

    model: callable u(x, t, y, f). y, f: one label each, or one for each point (n,). no_y, no_f: their null labels.
    w = 1 and v = 0 sample p(x | y), w = v = 1 sample p(x | y, f).
    """
    return partial(_doubly_guided, model, y, f, w, v, no_y, no_f)


def _doubly_guided(
    model: Callable[..., Tensor], y, f, w: float, v: float, no_y: int, no_f: int, x: Tensor, t
) -> Tensor:
    free, shown, both = model(x, t, no_y, no_f), model(x, t, y, no_f), model(x, t, y, f)
    return free + w * (shown - free) + v * (both - shown)


def batch_guidance(model: Callable[..., Tensor], x: Tensor, t, y, w: float = 1.0, null: int | None = None) -> Tensor:
    """`guided_vector_field` at (x, t), by one call of the model with 2n rows: first all without the label, then with.

    x: (n, *shape). t: a scalar or (n,). y: one label, or one for each point (n,). Returns (n, *shape).
    """
    times = torch.cat([t, t]) if getattr(t, "ndim", 0) else t
    labels = torch.as_tensor(y, device=x.device).expand(len(x))
    none = torch.full_like(labels, null_label(model, null))
    free, guided = model(torch.cat([x, x]), times, torch.cat([none, labels])).chunk(2)
    return (1 - w) * free + w * guided


def guided_std(s, S, w):
    """s^w S^{1−w}, the standard deviation at t = 1 of the guided flow of p(x | y) = N(m, s²) and p(x) = N(M, S²).

    The fields are affine, so distances d of trajectories obey ḋ/d = w σ̇/σ + (1 − w) Σ̇/Σ, where σ and Σ are the standard
    deviations of the two paths, from 1 to s and S. It holds for any schedule. Numbers or tensors that broadcast.
    """
    return s**w * S ** (1 - w)


def guidance_in_interval(
    model: Callable[..., Tensor], y, w: float, start: float, end: float, null: int | None = None
) -> Callable:
    """The guided field with the scale w at times start ≤ t < end, and 1 at others.    [Kynkäänniemi et al. 2024]

    Outside of the interval the model is called once. Arguments else as for `guided_vector_field`. For Gaussians it ends
    at the standard deviation s ((σ_b/σ_a) / (Σ_b/Σ_a))^{w−1}, where a and b are start and end.
    """
    return partial(_guided_within, model, y, w, start, end, null_label(model, null))


def _guided_within(model, y, w: float, start: float, end: float, null: int, x: Tensor, t) -> Tensor:
    each = torch.as_tensor(t, device=x.device)
    within, guided = (start <= each) & (each < end), model(x, t, y)
    if holds(~within, unseen=False):
        return guided
    scale = coefficient(1 + (w - 1) * within.to(x), x)
    return (1 - scale) * model(x, t, null) + scale * guided


def autoguided_field(good: Callable[..., Tensor], bad: Callable[..., Tensor], w: float) -> Callable:
    """w u_good + (1 − w) u_bad, of two fields (x, t) for one and the same request.    [Karras et al. 2024]

    bad: a smaller or less trained model, which makes larger errors of the same kind. Where both have the same mean, the
    flow keeps it.
    """
    return partial(_autoguided, good, bad, w)


def _autoguided(good: Callable[..., Tensor], bad: Callable[..., Tensor], w: float, x: Tensor, t) -> Tensor:
    return w * good(x, t) + (1 - w) * bad(x, t)


def negative_field(model: Callable[..., Tensor], y, avoid, w: float) -> Callable:
    """(1 − w) u(x, t | avoid) + w u(x, t | y): a label to move away from in place of the null label.

    y, avoid: one label each, or one for each point (n,). For Gaussians of one spread, N(m, s²) and N(m', s²), the flow
    ends at N(m + (w − 1)(m − m'), s²).
    """
    return partial(_guided, model, y, w, avoid)


def classifier_guided_field(
    vector_field: Callable[..., Tensor],
    log_likelihood: Callable[..., Tensor],
    w: float = 1.0,
    schedule: Schedule | None = None,
) -> Callable:
    """u_t(x) + w κ_t ∇ log p_t(y | x), which at w = 1 is u_t(x | y).    [Dhariwal & Nichol 2021; in flows, notes, § 5]

    log_likelihood: callable log p_t(y | x) → (n,) for (x, t), up to what does not depend on x, differentiable in x; it
    treats each row on its own. schedule: `CondOT()` if not given. The field has no gradients of the second order.
    Raises ValueError where α_t = 0 and within torch.func's transforms, TypeError for states that are whole numbers.
    """
    return partial(_classifier_guided, vector_field, log_likelihood, w, schedule or CondOT())


def _classifier_guided(vector_field, log_likelihood, w: float, schedule: Schedule, x: Tensor, t) -> Tensor:
    x = torch.as_tensor(x)
    if not x.is_floating_point():
        raise TypeError(
            f"states have to be floating-point numbers, since a gradient is taken there; these are {x.dtype}"
        )
    if any(map(torch._C._functorch.is_functorch_wrapped_tensor, filter(torch.is_tensor, (x, t)))):
        raise ValueError("this field takes a gradient itself, so call it outside of torch.func's transforms")
    with torch.inference_mode(False), torch.enable_grad():
        seen = x.detach().clone().requires_grad_()
        (push,) = torch.autograd.grad(log_likelihood(seen, t).sum(), seen)
    t_x = time_like(t, x)
    alpha = schedule.alpha(t_x)
    require(alpha != 0, t_x, "α_t = 0, and the gradient has no finite weight")
    kappa = schedule.beta(t_x) ** 2 * schedule.alpha_dot(t_x) / alpha - schedule.beta_beta_dot(t_x)
    return vector_field(x, t) + w * coefficient(kappa, x) * push


def measurement_log_prob(mean: Tensor, cov: Tensor, A: Tensor, y: Tensor, noise_var: float) -> Tensor:
    """log N(y; A ẑ, r² I + A C Aᵀ): a measurement y = A z + noise, as the classifier of `classifier_guided_field`.

    mean: ẑ = E[z | x_t], (n, d). cov: C = Cov(z | x_t), (d, d) or (n, d, d). A: (k, d). y: (k,). noise_var: r². Exact
    for Gaussian data. C = 0 is diffusion posterior sampling [Chung et al. 2023], which ends far too narrow.
    Returns (n,).
    """
    dtype, wide = mean.dtype, torch.promote_types(mean.dtype, torch.float32)  # no factors in half precision
    mean, cov, A, y = (each.to(wide) for each in (mean, cov, A, y))
    spread = A @ cov @ A.mT + noise_var * torch.eye(len(y), dtype=wide, device=mean.device)
    factor = torch.linalg.cholesky(spread)
    white = torch.linalg.solve_triangular(factor, (y - mean @ A.mT)[..., None], upper=False)
    log_scale = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + len(y) * math.log(2 * math.pi) / 2
    return (-white.square().sum((-2, -1)) / 2 - log_scale).to(dtype)


def inpaint(vector_field: Callable[..., Tensor], known: Tensor, mask: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Samples whose known pixels are replaced by their noised selves, t · known + (1 − t) · noise, before each of
    Euler's steps, for a field of the straight path.

    known, mask: (*shape); mask is true where a pixel is known. noise: (n, *shape), the states at t = 0. It is no exact
    sampler of the data given the known pixels: the field sees them through their noise alone. Returns (n, *shape).
    """
    x = noise
    for k in range(steps):
        t = k / steps
        x = torch.where(mask, t * known + (1 - t) * noise, x)
        x = x + vector_field(x, t) / steps
    return torch.where(mask, known, x)
