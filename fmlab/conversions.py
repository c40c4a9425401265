"""Conversions between the five things a network may predict.

Given the state x = α z + β ε, each output is a combination a z + b ε of data and noise, averaged over what x leaves
open (E[z | x], E[ε | x]), which changes nothing since all is linear:

    output          a         b
    data            1         0         x-prediction                                  [meet, network output]
    noise           0         1         ε-prediction
    v              −β         α         v-prediction (not dx/dt; "velocity", its older name, works too)
    vector_field    α̇         β̇         u, flow matching                              [notes, eq. 31]
    score           0       −1/β        ∇ log p_t(x) = −E[ε | x]/β                    [slides, denoising score matching]

With x itself as the row (α, β), any two rows span the third:

    target = c_x x + c source,   c_x = (a_t b_s − b_t a_s)/D,   c = (α b_t − β a_t)/D,   D = α b_s − β a_s.

A conversion is singular where D = 0 or the target is infinite: from data at β = 0 (t = 1), from noise or score at α = 0
(t = 0), to the score at β = 0. The vector field, like v, determines the data at both ends.
"""

import torch
from torch import Tensor

from fmlab.schedules import Schedule
from fmlab.values import coefficient, half, in_single, require, require_one_shape, time, time_like

OUTPUTS = ("vector_field", "score", "noise", "data", "v")


def convert(value: Tensor, x: Tensor, t, schedule: Schedule, *, source: str, target: str) -> Tensor:
    """The output `target` from the output `source` = value, at the state x and time t.

    value, x: (n, *shape); t: scalar or (n,). source, target: names from `OUTPUTS`. Returns (n, *shape).
    Raises ValueError for unknown names, shapes that differ, or where the conversion is singular (naming t).
    """
    if half(value, x):
        return in_single(convert, value, x, t, schedule, source=source, target=target)
    _known(source), _known(target)
    require_one_shape(value=value, x=x)
    t = time_like(t, x)
    if source == target:
        return value
    c_x, c = _combination(source, target, schedule, t)
    require(torch.isfinite(c_x) & torch.isfinite(c), t, f"{source} does not determine {target}")
    return coefficient(c_x, x) * x + coefficient(c, x) * value


def score_from_vector_field(u: Tensor, x: Tensor, t, schedule: Schedule) -> Tensor:
    """s = (α u − α̇ x) / (β² α̇ − α β̇ β).    [slides, conversion formula] Singular at t = 1, where β = 0."""
    return convert(u, x, t, schedule, source="vector_field", target="score")


def vector_field_from_score(s: Tensor, x: Tensor, t, schedule: Schedule) -> Tensor:
    """u = (β² α̇/α − β̇ β) s + (α̇/α) x.    [slides, prop. 1] Singular at t = 0, where α = 0."""
    return convert(s, x, t, schedule, source="score", target="vector_field")


def noise_from_score(s: Tensor, x: Tensor, t, schedule: Schedule) -> Tensor:
    """ε = −β s.    [slides, DDPM trick]"""
    return convert(s, x, t, schedule, source="score", target="noise")


def score_from_noise(noise: Tensor, x: Tensor, t, schedule: Schedule) -> Tensor:
    """s = −ε/β.    [slides, DDPM trick] Singular at t = 1, where β = 0."""
    return convert(noise, x, t, schedule, source="noise", target="score")


def data_from_vector_field(u: Tensor, x: Tensor, t, schedule: Schedule) -> Tensor:
    """z = (β̇ x − β u) / (α β̇ − α̇ β); for CondOT, x + (1 − t) u."""
    return convert(u, x, t, schedule, source="vector_field", target="data")


def noise_from_vector_field(u: Tensor, x: Tensor, t, schedule: Schedule) -> Tensor:
    """ε = (α u − α̇ x) / (α β̇ − α̇ β); for CondOT, x − t u."""
    return convert(u, x, t, schedule, source="vector_field", target="noise")


def x_mse_weight(output: str, t, schedule: Schedule) -> Tensor:
    """The factor w(t) in ‖output error‖² = w(t) ‖ẑ − z‖², for any output.    [meet, network output, corrected]

    data 1; noise e^λ; v β² (e^λ + 1)²; vector_field (α̇ + |β̇| α/β)²; score e^λ/β². Since x is known, an error of
    ẑ is an error −α/β times as large of ε̂, so w = (a − b α/β)² with the row (a, b) of the output.

    Raises ValueError for an unknown name, or where the factor is infinite (β = 0).
    """
    _known(output)
    t = time(t)
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    a, b = _row(output, schedule, t)
    weight = (a - b * alpha / beta) ** 2 if output != "data" else a
    require(torch.isfinite(weight), t, f"an error of the data is an infinite error of the {output}")
    return weight


def _combination(source: str, target: str, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """(c_x, c) in target = c_x x + c source. The score enters as the noise −β s, finite at β = 0."""
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    through, to = ("noise" if name == "score" else name for name in (source, target))
    if through == to:
        c_x, c = torch.zeros_like(t), torch.ones_like(t)
    else:
        (a_s, b_s), (a_t, b_t) = _row(through, schedule, t), _row(to, schedule, t)
        determinant = alpha * b_s - beta * a_s
        c_x, c = (a_t * b_s - b_t * a_s) / determinant, (alpha * b_t - beta * a_t) / determinant
    if source == "score":
        c = -beta * c
    return (-c_x / beta, -c / beta) if target == "score" else (c_x, c)


def _row(output: str, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients (a, b) of data and noise in an output."""
    one, zero = torch.ones_like(t), torch.zeros_like(t)
    if output == "data":
        return one, zero
    if output == "noise":
        return zero, one
    if output in ("v", "velocity"):
        return -schedule.beta(t), schedule.alpha(t)
    if output == "score":
        return zero, -1 / schedule.beta(t)
    return schedule.alpha_dot(t), schedule.beta_dot(t)


def _known(output: str) -> None:
    if output not in (*OUTPUTS, "velocity"):
        raise ValueError(f"unknown output {output!r}; choose from {', '.join(OUTPUTS)}")
