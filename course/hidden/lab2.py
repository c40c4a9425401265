"""Hidden tests of lab 2: images, single rows, double precision, other schedules, one time for all or for each row."""

import math

import torch
from torch import distributions as td

from course.hidden import check
from fmlab.checks.compare import require, require_close, require_tensor
from fmlab.checks.inputs import states
from fmlab.checks.lab2 import (
    FAMILIES,
    MovingGaussian,
    bent,
    called,
    case,
    draw,
    exponents,
    fresh_noise,
    grow,
    mixture_score,
    narrow_weights,
    require_exact,
    require_four,
    schedule_values,
)
from fmlab.distributions import GaussianMixture
from fmlab.paths import GaussianPath
from fmlab.processes import sde_extension
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, coefficient

DOUBLE = torch.float64


def times(n: int) -> torch.Tensor:
    return torch.linspace(0.15, 0.85, n, dtype=DOUBLE)


def situations():
    """Schedules, times and shapes that the visible checks do not show."""
    yield LinearVP(), times(3), (3, 1, 4, 4)
    yield CondOT(0.1), torch.tensor(0.35, dtype=DOUBLE), (2, 1, 4, 4)
    yield VE(3.0), times(4), (4, 1)
    yield Cosine(), torch.tensor([0.6], dtype=DOUBLE), (1, 5)
    yield CondOT(), torch.tensor(0.7), (3, 2)


@check("notes, eq. 16, and intro, eq. 18 (noise schedules)")
def alpha_beta(answer):
    for t in (times(6).reshape(2, 3), torch.tensor(0.25, dtype=DOUBLE), torch.tensor([0.0, 0.9])):
        for family in FAMILIES:
            found = answer(t, family)
            require_four(found)
            expected = [value.to(t.dtype) for value in schedule_values(family, t.double())]
            for name, mine, value in zip(("α_t", "β_t", "α̇_t", "β̇_t"), found, expected, strict=True):
                require_close(mine, value, f"{name} of the family {family!r} at other times", tolerance=1e-4)


@check("notes, eq. 16 (the Gaussian path)")
def sample_conditional_path(answer):
    for k, (schedule, t, shape) in enumerate(situations()):
        z, noise, x, *_ = case(81 + k, schedule, t, *shape)
        require_close(answer(z, noise, t, schedule), x, f"the sample for shape {shape}")
    z, noise, x, *_ = case(91, CondOT(), torch.tensor(1.0), 2, 3)
    require_close(answer(z, noise, torch.tensor(1.0), CondOT()), z, "the sample at t = 1")


@check("notes, eq. 12 and 16 (sampling the marginal path)")
def sample_marginal_path(answer):
    n, t, schedule = 500, torch.tensor(0.6), CondOT(0.1)
    x, z = draw(answer, lambda k: 1.5 * torch.randn(k, 1, 4, 4).sign(), n, t, schedule)
    fresh_noise(x, z, schedule.alpha(t), schedule.beta(t), float(t))
    one, other = (draw(answer, lambda k: torch.ones(k, 3), 5, t, schedule)[0] for _ in range(2))
    require(not torch.equal(one, other), "two calls gave the same noise; each call needs new noise")
    t = torch.linspace(0.2, 0.8, n)
    x, z = draw(answer, lambda k: 1.5 * torch.randn(k, 16).sign(), n, t, schedule)
    alpha, beta = schedule.alpha(t)[:, None], schedule.beta(t)[:, None]
    fresh_noise((x - alpha * z) / beta + z, z, torch.tensor(1.0), torch.tensor(1.0), 1.0)


@check("notes, eq. 20 and 21 (the conditional vector field)")
def conditional_vector_field(answer):
    for k, (schedule, t, shape) in enumerate(situations()):
        z, noise, x, *_, a_dot, b_dot = case(101 + k, schedule, t, *shape)
        expected = a_dot * z + b_dot * noise
        require_close(answer(x, z, t, schedule), expected, f"the field for shape {shape}", tolerance=1e-5)


@check("intro, eq. 15 (Theorem 3)")
def general_vector_field(answer):
    for seed, shape in ((111, (3, 1, 4, 4)), (113, (1, 6))):
        z, noise = states(seed, *shape, dtype=DOUBLE), states(seed + 1, *shape, dtype=DOUBLE)
        scale, scale_dot = torch.tensor(0.35, dtype=DOUBLE), torch.tensor(-1.2, dtype=DOUBLE)
        found = answer(z.sin() + scale * noise, z.sin(), scale, z.cos(), scale_dot)
        require_close(found, z.cos() + scale_dot * noise, f"the field for shape {shape}")


@check("notes, text after eq. 21 (Bayes' rule)")
def posterior_weights(answer):
    for k, (schedule, t, shape) in enumerate(situations()):
        data = 0.5 * states(121 + k, 6, *shape[1:], dtype=t.dtype)
        x = 0.5 * states(131 + k, *shape, dtype=t.dtype)
        alpha, beta = schedule.alpha(t).expand(len(x)), schedule.beta(t).expand(len(x))
        expected = exponents(x, data, alpha, beta).softmax(1)
        require_close(answer(x, data, t, schedule), expected, f"the table of weights for shape {shape}", tolerance=1e-4)
    narrow_weights(answer, DOUBLE)


@check("notes, theorem 9, eq. 18 (the marginalisation trick)")
def marginal_vector_field(answer):
    for k, (_, t, shape) in enumerate(situations()):
        data, x = states(141 + k, 5, *shape[1:], dtype=t.dtype), states(151 + k, *shape, dtype=t.dtype)
        w = states(161 + k, len(x), 5, dtype=t.dtype).softmax(1)
        expected = sum(coefficient(w[:, i], x) * bent(x, data[i].expand_as(x), t) for i in range(5))
        require_close(answer(x, data, t, w, bent), expected, f"the field for shape {shape}")
    schedule, t = Cosine(), torch.tensor(0.6, dtype=DOUBLE)
    data, x = states(171, 4, 2, dtype=DOUBLE), states(172, 3, 2, dtype=DOUBLE)
    w = exponents(x, data, schedule.alpha(t).expand(3), schedule.beta(t).expand(3)).softmax(1)
    a, b, a_dot, b_dot = (f(t) for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))

    def field(x, z, t):
        return a_dot * z + b_dot * (x - a * z) / b

    found = answer(x, data, t, w, field)
    require_close(found, field(x, w @ data, t), "the field of a Gaussian path, which is linear in z,")


@check("notes, eq. 22 (divergence)")
def divergence(answer):
    for d, n in ((3, 4), (1, 6), (5, 1)):
        matrix, x = states(181 + d, d, d, dtype=DOUBLE), states(182 + d, n, d, dtype=DOUBLE)
        t = times(n)
        found = answer(lambda x, t, m=matrix: coefficient(t, x) * x @ m.T + x**3, x, t)
        expected = t * matrix.trace() + 3 * x.square().sum(1)
        require_exact(found, expected, f"the divergence in {d} dimensions")
        scalar = torch.tensor(0.4, dtype=DOUBLE)
        found = answer(lambda x, t: torch.cos(t * x) + x.flip(1), x, scalar)
        middle = d % 2  # x.flip(1) leaves the middle coordinate of an odd number where it is
        require_exact(found, -0.4 * torch.sin(0.4 * x).sum(1) + middle, f"the divergence in {d} dimensions at one time")


@check("notes, eq. 23 (the continuity equation)")
def continuity_residual(answer):
    for d, n in ((3, 4), (1, 1)):
        path, x, t = MovingGaussian(states(191, d, dtype=DOUBLE)), states(192, n, d, dtype=DOUBLE), times(n)
        found = answer(path.density, grow, x.clone(), t.clone())
        require_close(found, path.change(x, t) + path.outflow(x, t), f"the residual in {d} dimensions", tolerance=1e-8)
    marginal = GaussianPath(Cosine()).marginal(GaussianMixture([[1.0, 0.0], [-1.0, 1.0]], 0.3))
    x, t = states(193, 6, 2, dtype=DOUBLE), times(6)
    found = answer(lambda x, t: marginal.log_prob(x, t).exp(), marginal.vector_field, x.clone(), t.clone())
    require_tensor(found, t, "the residual")
    require(float(found.abs().max()) < 1e-9, "the residual of a mixture and its marginal field should be 0")


@check("slides, the conditional score")
def conditional_score(answer):
    for k, (schedule, t, shape) in enumerate(situations()):
        z, _, x, a, b, *_ = case(201 + k, schedule, t, *shape)
        y = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(td.Normal(a * z, b.expand_as(z)).log_prob(y).sum(), y)
        require_close(answer(x, z, t, schedule), expected, f"the score for shape {shape}", tolerance=1e-5)


@check("summary, § 3.3 (the marginal score)")
def marginal_score(answer):
    for k, (schedule, t, shape) in enumerate(situations()):
        data = 0.5 * states(211 + k, 6, *shape[1:], dtype=t.dtype)
        x = 0.5 * states(221 + k, *shape, dtype=t.dtype)
        alpha, beta = schedule.alpha(t).expand(len(x)), schedule.beta(t).expand(len(x))
        w = exponents(x, data, alpha, beta).softmax(1)
        expected = mixture_score(x, data, alpha, beta)
        require_close(answer(x, data, t, w, schedule), expected, f"the score for shape {shape}", tolerance=1e-4)


@check("intro, § 1.3–1.4 (thin data)")
def score_along_normal(answer):
    beta, angle = 0.05, torch.tensor([0.3, 2.0, 4.0], dtype=DOUBLE)
    x = 1.1 * torch.stack([angle.cos(), angle.sin()], 1)

    def on_circle(x, t):
        """The score of a thin ring, and a swirl along it."""
        return -(x - x / x.norm(dim=1, keepdim=True)) / beta**2 + x.flip(1) * torch.tensor([-1.0, 1.0])

    found = answer(on_circle, x, torch.tensor(0.95, dtype=DOUBLE))
    require_close(found, torch.full((3,), -0.1 / beta**2, dtype=DOUBLE), "the component at a distance of 0.1")
    x, t = states(231, 4, 3, dtype=DOUBLE), times(4)
    found = answer(lambda x, t: coefficient(t, x) * x, x, t)
    require_close(found, t * x.square().sum(1).sqrt(), "the component in three dimensions")


@check("summary, § 3.3 (the SDE extension)")
def sde_extension_drift(answer):
    marginal = GaussianPath(Cosine()).marginal(GaussianMixture([[1.0, 0.0], [-1.0, 1.0]], 0.3))
    x, t = states(241, 5, 2, dtype=DOUBLE), torch.tensor(0.4, dtype=DOUBLE)
    u, s = marginal.vector_field, marginal.score
    first, second = answer(u, s, lambda t: 0.5 + 0 * t), answer(u, s, lambda t: 2 * torch.cos(t))
    require_close(called(first, x, t), u(x, t) + 0.125 * s(x, t), "a drift made before another one")
    require_close(
        called(second, x, t), u(x, t) + 2 * math.cos(0.4) ** 2 * s(x, t), "the drift at one time for all rows"
    )
    without = answer(u, s, lambda t: 0 * t)
    require_close(called(without, x, t), u(x, t), "the drift without noise")
    x, t = states(242, 3, 1, 4, 4, dtype=DOUBLE), times(3)
    found = called(answer(lambda x, t: -x, lambda x, t: x**2, lambda t: 1 + t), x, t)
    require_close(found, -x + coefficient((1 + t) ** 2 / 2, x) * x**2, "the drift on images")


@check("notes, theorem 15, eq. 50 (Fokker–Planck)")
def fokker_planck_residual(answer):
    for d, n, sigma in ((3, 4, 0.6), (1, 1, 2.0), (2, 3, 0.0)):
        path, x, t = MovingGaussian(states(251, d, dtype=DOUBLE)), states(252, n, d, dtype=DOUBLE), times(n)
        found = answer(path.density, path.score, grow, sigma, x.clone(), t.clone())
        expected = path.change(x, t) + path.outflow(x, t) - sigma**2 / 2 * path.laplacian(x, t)
        require_close(found, expected, f"the residual in {d} dimensions", tolerance=1e-8)
    marginal = GaussianPath(Cosine()).marginal(GaussianMixture([[1.0, 0.0], [-1.0, 1.0]], 0.3))
    x, t = states(253, 6, 2, dtype=DOUBLE), times(6)
    drift = sde_extension(marginal.vector_field, marginal.score, 0.9).drift
    found = answer(lambda x, t: marginal.log_prob(x, t).exp(), marginal.score, drift, 0.9, x.clone(), t.clone())
    require_tensor(found, t, "the residual")
    require(float(found.abs().max()) < 1e-9, "the residual of the SDE extension of a mixture should be 0")
