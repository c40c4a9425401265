"""Hidden tests of lab 1: other shapes, dtypes and parameters, time-dependent fields, measured orders."""

import math

import torch

from course.hidden import check
from fmlab.checks.compare import fail, require, require_close, require_number
from fmlab.checks.inputs import states
from fmlab.checks.lab1 import brownian_moments
from fmlab.distributions import Gaussian, GaussianMixture

DOUBLE = torch.float64


def swirl(x, t):
    """A field that depends on time and mixes both coordinates; on images, the last two columns."""
    return torch.cos(t * torch.ones_like(x)) * x.flip(-1) + t


def global_order(step, steps: tuple[int, int]) -> float:
    """Order measured from the global errors on u_t(x) = −x + cos t, solved from 1 by (e^{−t} + sin t + cos t)/2."""
    exact = math.exp(-1) / 2 + (math.sin(1) + math.cos(1)) / 2
    errors = []
    for n in steps:
        x = torch.ones(1, dtype=DOUBLE)
        for k in range(n):
            x = step(lambda x, t: -x + math.cos(t), x, k / n, 1 / n)
        errors.append(abs(float(x) - exact))
    return math.log(errors[0] / errors[1]) / math.log(steps[1] / steps[0])


@check("notes, § 2.1, eq. 4 (Euler's method)")
def euler_step(answer):
    x = states(21, 3, 1, 4, 4, dtype=DOUBLE)
    t, h = torch.tensor(0.6, dtype=DOUBLE), 0.05
    require_close(answer(swirl, x, t, h), x + h * (math.cos(0.6) * x.flip(-1) + 0.6), "the step on a batch of images")
    require_close(answer(swirl, x, t, -h), x - h * (math.cos(0.6) * x.flip(-1) + 0.6), "a step backwards in time")
    require_number(global_order(answer, (64, 128)), 1.0, "the measured order of convergence", tolerance=0.05)


@check("notes, § 2.1 (Heun's method)")
def heun_step(answer):
    x, t, h = states(22, 3, 1, 4, 4, dtype=DOUBLE), torch.tensor(0.6, dtype=DOUBLE), 0.05
    now = math.cos(0.6) * x.flip(-1) + 0.6
    ahead = math.cos(0.65) * (x + h * now).flip(-1) + 0.65
    require_close(answer(swirl, x, t, h), x + h / 2 * (now + ahead), "the step on a batch of images")
    require_number(global_order(answer, (64, 128)), 2.0, "the measured order of convergence", tolerance=0.05)


@check("notes, algorithm 1")
def simulate(answer):
    for n, times in ((1, 7), (6, 3)):
        x0 = states(23, n, 2, 3, dtype=DOUBLE)
        ts = torch.linspace(0.5, 1.5, times, dtype=DOUBLE) ** 2
        growth = torch.cat([torch.ones(1, dtype=DOUBLE), (1 + ts.diff() * ts[:-1]).cumprod(0)])
        found = answer(lambda x, t, h: x + h * t * x, x0, ts)
        require_close(found, growth[:, None, None, None] * x0, "the states for a time-dependent step", tolerance=1e-6)


@check("notes, example 4, eq. 3 (linear vector fields)")
def linear_flow(answer):
    x0 = states(24, 3, 4, dtype=DOUBLE)
    for t, theta in ((0.0, 2.0), (3.0, 0.25), (0.5, -1.0)):
        require_close(answer(x0, torch.tensor(t, dtype=DOUBLE), theta), x0 * math.exp(-theta * t), "the flow")


@check("the text above the exercise: orders are slopes")
def convergence_order(answer):
    hs = 0.5 ** torch.arange(2.0, 8.0, dtype=DOUBLE)
    for order, constant in ((1.0, 0.1), (4.0, 20.0), (0.5, 1.0)):
        require_number(answer(hs, constant * hs**order), order, f"the order of the errors {constant:g} h^{order:g}")
        hs_rising = hs.flip(0)
        require_number(answer(hs_rising, constant * hs_rising**order), order, "the order for rising steps")


@check("notes, § 2.2, eq. 5 (Brownian motion)")
def brownian_paths(answer):
    n, ts = 30_000, torch.tensor([1.0, 1.5, 1.6, 2.6, 2.9, 4.0])
    paths = answer(n, ts, 0.7)
    brownian_moments(paths, n, ts, 0.7)
    require(not torch.equal(paths, answer(n, ts, 0.7)), "two calls gave the same paths; each call needs new noise")


@check("notes, example 6, eq. 8 (Ornstein–Uhlenbeck process)")
def ou_drift(answer):
    x = states(26, 3, 2, 2, dtype=DOUBLE)
    for t, theta in ((0.0, 0.25), (2.0, 3.0)):
        require_close(answer(x, t, theta), -theta * x, "the drift")


@check("notes, example 6, eq. 8 (Ornstein–Uhlenbeck process)")
def ou_diffusion(answer):
    x = states(27, 3, 2, 2, dtype=DOUBLE)
    for t, sigma in ((0.0, 0.0), (2.0, 1.7)):
        found = torch.as_tensor(answer(x, t, sigma)).to(x).expand_as(x)
        require_close(found, torch.full_like(x, sigma), "the diffusion coefficient", tolerance=1e-6)


@check("notes, example 6 (Ornstein–Uhlenbeck process)")
def ou_moments(answer):
    x0 = states(28, 4, 1, dtype=DOUBLE)
    for t, theta, sigma in ((0.0, 1.0, 1.0), (0.3, 0.25, 2.0), (50.0, 1.5, 0.7)):
        mean, variance = answer(x0, torch.tensor(t, dtype=DOUBLE), theta, sigma)
        exact = sigma**2 * (1 - math.exp(-2 * theta * t)) / (2 * theta)
        require_close(mean, x0 * math.exp(-theta * t), "the mean")
        variance = torch.as_tensor(variance, dtype=DOUBLE).flatten()
        close = (variance - exact).abs().max() < 1e-6 * max(exact, 1)
        require(bool(close), "the variance is not right at another t, θ, σ")


@check("notes, § 2.2, eq. 9 (Euler–Maruyama)")
def euler_maruyama_step(answer):
    x, noise = states(29, 3, 1, 4, 4, dtype=DOUBLE), states(30, 3, 1, 4, 4, dtype=DOUBLE)
    t, h = torch.tensor(0.6, dtype=DOUBLE), 0.09
    drift = x + h * (math.cos(0.6) * x.flip(-1) + 0.6)
    found = answer(swirl, lambda x, t: 2.0 * t, x, t, h, noise)
    require_close(found, drift + 0.3 * 1.2 * noise, "the step with noise that depends on time alone")
    found = answer(swirl, lambda x, t: 0.0, x, t, h, noise)
    require_close(found, drift, "the step with σ = 0, which is Euler's,")


@check("the text above the exercise: Itô's correction")
def geometric_brownian_motion(answer):
    x0, w = states(31, 4, 2, dtype=DOUBLE), states(32, 4, 2, dtype=DOUBLE)
    for t, mu, sigma in ((1.0, -0.4, 0.5), (2.5, 1.1, 0.2), (0.5, 0.3, 0.0)):
        found = answer(x0, torch.tensor(t, dtype=DOUBLE), w, mu, sigma)
        require_close(found, x0 * ((mu - sigma**2 / 2) * t + sigma * w).exp(), "the solution")


@check("the text above the exercise: errors path by path")
def strong_error(answer):
    x, y = states(33, 1000, dtype=DOUBLE), states(34, 1000, dtype=DOUBLE)
    exact = sum(abs(a - b) for a, b in zip(x.tolist(), y.tolist(), strict=True)) / 1000
    require_number(answer(x, y), exact, "the error")


@check("the text above the exercise: means first")
def weak_error(answer):
    x, y = states(35, 1000, dtype=DOUBLE) + 0.3, states(36, 1000, dtype=DOUBLE)
    require_number(answer(x, y), abs(sum(x.tolist()) - sum(y.tolist())) / 1000, "the error")


@check("summary, § 3.3 (Langevin dynamics)")
def langevin_drift(answer):
    mixture = GaussianMixture([[1.0, 0.0], [-1.0, 2.0]], [0.5, 1.5])
    x = states(37, 6, 2, dtype=DOUBLE)
    y = x.clone().requires_grad_()
    exact = torch.autograd.grad(mixture.log_prob(y).sum(), y)[0]
    for sigma in (0.5, 2.0):
        drift = answer(mixture.score, sigma)
        if not callable(drift):
            fail("langevin_drift should return a function of (x, t)")
        for t in (0.0, torch.tensor(0.9)):
            require_close(drift(x, t), sigma**2 / 2 * exact, "the drift on a mixture")
    first, second = answer(mixture.score, 0.5), answer(Gaussian([0.0, 0.0], 1.0).score, 3.0)
    require(second is not first, "each call should make a drift of its own")
    require_close(first(x, 0.0), 0.125 * exact, "a drift made before another one")
