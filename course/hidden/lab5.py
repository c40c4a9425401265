"""Hidden tests of lab 5: images, single states, double precision, other schedules and times."""

import math

import torch

from course.hidden import check
from fmlab.checks.compare import require_close, require_number
from fmlab.checks.inputs import Bent, states
from fmlab.checks.lab5 import (
    Bare,
    coefficients,
    conversions,
    effective_weights,
    integrated,
    mixed,
    renoised,
    weighted_loss,
    weights,
)
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, Schedule

DOUBLE = torch.float64
SCHEDULES = (CondOT(), CondOT(sigma_min=0.1), Cosine(), LinearVP(), VE(5.0), Bent())


def double(*times: float) -> torch.Tensor:
    return torch.tensor(times, dtype=DOUBLE)


def images(seed: int, n: int = 3) -> torch.Tensor:
    return states(seed, n, 1, 4, 4, dtype=DOUBLE)


@check("the text above the exercise (meet, noise schedule)")
def log_snr(answer):
    t = torch.tensor([[0.1, 0.35], [0.6, 0.99]], dtype=DOUBLE)
    require_close(answer(t, Bare(CondOT())), torch.logit(t) * 2, "λ of CondOT")
    require_close(answer(t, Bare(VE(5.0))), -2 * (5 * (1 - t)).log(), "λ of a variance-exploding schedule")
    spent = 0.1 * (1 - t) + 19.9 * (1 - t) ** 2 / 2
    require_close(answer(t, Bare(LinearVP())), -torch.expm1(spent).log(), "λ of LinearVP", tolerance=1e-10)
    single = torch.tensor(0.3, dtype=DOUBLE)
    require_number(answer(single, Bare(Cosine())), 2 * math.log(math.tan(0.15 * math.pi)), "λ of a single time")


@check("the text above the exercise (meet, noise schedule)")
def to_variance_preserving(answer):
    for schedule in SCHEDULES:
        for n, t in ((3, double(0.2, 0.5, 0.7)), (1, double(0.6)), (4, torch.tensor(0.45, dtype=DOUBLE))):
            z, noise, snr = images(51, n), images(52, n), schedule.log_snr(t)
            expected = mixed(torch.sigmoid(snr).sqrt(), z, torch.sigmoid(-snr).sqrt(), noise)
            x = mixed(schedule.alpha(t), z, schedule.beta(t), noise)
            require_close(answer(x, t, Bare(schedule)), expected, f"the rescaled images of {schedule}", tolerance=1e-9)
    z, noise = states(53, 2, 2, dtype=DOUBLE), states(54, 2, 2, dtype=DOUBLE)
    t = double(0.3, 0.8)  # as many times as coordinates: a missing shape would not raise
    x = mixed(1 + 0 * t, z, 5 * (1 - t), noise)
    expected = x / (1 + 25 * (1 - t) ** 2).sqrt()[:, None]
    require_close(answer(x, t, Bare(VE(5.0))), expected, "two rescaled points of the plane")


@check("the table above the exercise (meet, network output)")
def convert_output(answer):
    for schedule in SCHEDULES:
        conversions(answer, images(55), images(56), double(0.3, 0.5, 0.8), schedule, 1e-7, named={})
    conversions(answer, images(57, 1), images(58, 1), torch.tensor(0.6, dtype=DOUBLE), Bent(), 1e-7)
    conversions(
        answer, states(59, 2, 2, dtype=DOUBLE), states(60, 2, 2, dtype=DOUBLE), double(0.4, 0.7), Cosine(), 1e-7
    )


@check("the text above the exercise, and entry 1 of docs/errata.md")
def x_mse_weight(answer):
    for schedule in SCHEDULES:
        weights(answer, double(0.15, 0.4, 0.75, 0.9), schedule, 1e-7)
    found = answer("vector_field", torch.tensor(0.25, dtype=DOUBLE), Bare(CondOT()))
    require_number(found, 16 / 9, "the factor of the vector field of CondOT at t = 1/4")


@check("the formula above the exercise (meet, training)")
def loss_over_log_snr(answer):
    t = double(0.25, 0.5, 0.8)
    for schedule in SCHEDULES:
        weighted_loss(answer, images(61), images(62), t, schedule, lambda snr: torch.sigmoid(1 - snr), 1e-8)
    single = double(0.6)
    weighted_loss(answer, images(63, 1), images(64, 1), single, Bent(), lambda snr: 2 + snr / 10, 1e-8)


@check("the formula above the exercise (meet, training)")
def effective_weight(answer):
    t = double(0.15, 0.4, 0.75, 0.9)
    for schedule in SCHEDULES:
        effective_weights(answer, t, schedule, 1e-7)
    found = answer("velocity", t, Bare(Cosine()))
    require_close(found, torch.exp(-Cosine().log_snr(t) / 2) / math.pi, "the weight of the velocity, cosine schedule,")


@check("the two equations above the exercise (meet, overview)")
def ddim_step(answer):
    for schedule in SCHEDULES:
        for n, t, s in ((3, double(0.2, 0.5, 0.6), double(0.3, 0.9, 0.7)), (1, *double(0.4, 0.45))):
            data, noise = images(65, n), images(66, n)
            x = mixed(schedule.alpha(t), data, schedule.beta(t), noise)
            expected = mixed(schedule.alpha(s), data, schedule.beta(s), noise)
            found = answer(x, data, t, s, Bare(schedule))
            require_close(found, expected, f"the step on a batch of images with {schedule}", tolerance=1e-8)
    data, noise = images(67), images(68)
    t, s = double(0.5, 0.2)
    x = mixed(t, data, 1 - t, noise)
    found = answer(x, data, t, s, Bare(CondOT()))
    require_close(found, x + (s - t) * (data - noise), "a step backwards, towards noise", tolerance=1e-8)


@check("the formulas above the exercise (meet, sampling)")
def ddpm_step(answer):
    for schedule in SCHEDULES[:1] + SCHEDULES[2:]:
        for n, t, s in ((3, double(0.3, 0.5, 0.6), double(0.4, 0.6, 0.75)), (1, *double(0.4, 0.45))):
            for churn in (0.0, 0.3, 1.0, 1.7):
                renoised(answer, images(69, n), images(70, n), t, s, schedule, images(71, n), churn, 1e-6)


class Tilted(Schedule):
    """α = (1 + 2t)/3, β = 2 (1 − t)², whose diffusion is rational."""

    def alpha(self, t):
        return (1 + 2 * torch.as_tensor(t)) / 3

    def beta(self, t):
        return 2 * (1 - torch.as_tensor(t)) ** 2

    def alpha_dot(self, t):
        return torch.full_like(torch.as_tensor(t), 2 / 3)

    def beta_dot(self, t):
        return -4 * (1 - torch.as_tensor(t))


@check("the formulas above the exercise (meet, how to relate)")
def sde_from_schedule(answer):
    t = double(0.1, 0.5, 0.8)
    tangent = torch.tan(math.pi / 2 * t)
    coefficients(answer, t, Cosine(), -math.pi / 2 / tangent, math.pi / tangent, "the cosine schedule", 1e-8)
    coefficients(answer, t, VE(5.0), 0 * t, 50 * (1 - t), "a variance-exploding schedule", 1e-8)
    rate = LinearVP(0.5, 8.0).noise_rate(1 - t)
    coefficients(answer, t, LinearVP(0.5, 8.0), -rate / 2, rate, "LinearVP with other rates", 1e-8)
    growth = 2 / (1 + 2 * t)
    spread = 8 * (1 - t) ** 4 * growth + 16 * (1 - t) ** 3
    coefficients(answer, t, Tilted(), -growth, spread, "another schedule", 1e-8)


@check("the formulas above the exercise, and entry 2 of docs/errata.md")
def schedule_from_sde(answer):
    s = torch.linspace(0, 1, 1001, dtype=DOUBLE)
    for theta, g_squared in ((0.7, 2.0), (2.0, 1.0)):
        alpha = torch.exp(-theta * s)
        beta = (g_squared * (1 - alpha**2) / (2 * theta)).sqrt()
        integrated(answer, lambda s, a=theta: -a + 0 * s, lambda s, c=g_squared: c + 0 * s, s, alpha, beta)
    integrated(answer, lambda s: 0 * s, lambda s: 2 * s, s, torch.ones_like(s), s)  # variance exploding, β = s
    uneven = 1.5 * torch.linspace(0, 1, 1501, dtype=DOUBLE) ** 1.5
    alpha = torch.exp(-0.1 * uneven - uneven**2)
    integrated(
        answer,
        lambda s: -0.1 - 2 * s,
        lambda s: 0.2 + 4 * s,
        uneven,
        alpha,
        (1 - alpha**2).sqrt(),
    )


@check("the text above the exercise (meet, straightness misnomer)")
def path_curvature(answer):
    line = torch.linspace(0, 1, 50, dtype=DOUBLE)[:, None, None, None, None] ** 2 * images(72, 6)
    found = 1 + answer(line + 3.0)
    require_number(found, 1.0, "1 + the curvature of straight lines, run through at changing speed,", tolerance=1e-9)
    corner = torch.zeros(3, 2, 1, 4, 4, dtype=DOUBLE)
    corner[1:, :, 0, 0, 0], corner[2:, :, 0, 3, 3] = 3.0, 4.0
    corner[:, 1] *= 2  # both paths are 7/5 as long as their chords
    require_number(answer(corner), 0.4, "the curvature of paths with a corner, through images")
    two = torch.stack([corner[:, 0], line[::24][:3, 0] + 0 * corner[:, 0]], dim=1)
    length = 7 + float(two[-1, 1].sub(two[0, 1]).norm())
    require_number(answer(two), length / (length - 2) - 1, "the curvature of a corner and a line")
