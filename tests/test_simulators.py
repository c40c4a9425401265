"""Simulators against closed forms, their own order of convergence, and other libraries.

Random results are judged against exact values for the step size used, at five standard errors; seeds are fixed.
"""

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torchsde
from scipy import stats
from torchdiffeq import odeint

from fmlab.distributions import GaussianMixture
from fmlab.metrics import energy_test
from fmlab.processes import (
    ODE,
    SDE,
    GeometricBrownianMotion,
    LinearSDE,
    brownian_motion,
    langevin,
    ornstein_uhlenbeck,
)
from fmlab.simulators import RK4, Euler, EulerMaruyama, Heun, Method, Midpoint, ODEMethod, like, simulate

METHODS = [Euler(), Heun(), Midpoint(), RK4()]
ORDERS = {Euler: 1, Heun: 2, Midpoint: 2, RK4: 4}


each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def grid(stop, steps, start=0.0):
    return torch.linspace(start, stop, steps + 1, dtype=torch.float64)


def swirl(x, t):
    """A nonlinear, time-dependent field in the plane."""
    turn = torch.stack([-x[:, 1], x[:, 0]], dim=1)
    return torch.exp(-x.square().sum(1, keepdim=True) / 2) * turn + t * torch.sin(2 * x.flip(1))


# --- deterministic methods: what one step computes ---------------------------------------------------------------


@each_method
def test_on_a_linear_field_a_step_is_the_taylor_polynomial_of_its_order(method):
    """On u = λx a Runge–Kutta method of order p ≤ 4 with p stages multiplies by Σ_{k ≤ p} (λh)^k / k!."""
    x, h, rate = normal(5, 2), 0.3, -1.7
    growth = sum((rate * h) ** k / math.factorial(k) for k in range(method.order + 1))
    found = method.step(lambda x, t: rate * x, x, 0.0, h)
    torch.testing.assert_close(found, growth * x, rtol=1e-14, atol=1e-14)


QUADRATURE = {  # on u = f(t) a step is a quadrature rule: weights of f(t), f(t + h/2), f(t + h)
    Euler: (1, 0, 0),
    Heun: (1 / 2, 0, 1 / 2),
    Midpoint: (0, 1, 0),
    RK4: (1 / 6, 4 / 6, 1 / 6),
}


@each_method
def test_on_a_field_of_time_alone_a_step_is_its_quadrature_rule(method):
    x, t, h = normal(5, 2), torch.tensor(0.4, dtype=torch.float64), 0.3
    rule = sum(weight * math.exp(t + c * h) for weight, c in zip(QUADRATURE[type(method)], (0, 0.5, 1)))
    found = method.step(lambda x, t: torch.exp(t).expand_as(x), x, t, t + h)
    torch.testing.assert_close(found, x + h * rule, rtol=1e-14, atol=1e-14)


# --- deterministic methods: order of convergence -----------------------------------------------------------------


def logistic_like(x, t):
    """ẋ = x² cos t, solved by x₀ / (1 − x₀ sin t)."""
    return x**2 * torch.cos(t)


GRIDS = {
    "uniform": lambda s: 1.5 * s,
    "refined at the start": lambda s: 1.5 * s**2 / 2 + 0.75 * s,
    "backwards": lambda s: 1.5 - 1.5 * s,
}


@pytest.mark.parametrize("spacing", GRIDS.values(), ids=GRIDS)
@each_method
def test_measured_order(method, spacing):
    """The error expands as c h^p (1 + C h + …), so log₂ e(h)/e(h/2) = p + C h / (2 log 2) + O(h²).

    At h = 1/64 and |C| ≤ 16 that is within 0.2 of p; and the deviation halves with h.
    """
    c = torch.tensor([0.3, 0.5, -0.8], dtype=torch.float64)

    def error(steps):
        ts = spacing(grid(1, steps))
        start, end = (c / (1 - c * torch.sin(t)) for t in (ts[0], ts[-1]))
        return (simulate(ODE(logistic_like), start, ts, method) - end).norm()

    e = [error(steps) for steps in (64, 128, 256)]
    coarse, fine = (float(torch.log2(a / b)) - ORDERS[type(method)] for a, b in pairwise(e))
    assert abs(coarse) < 0.2
    assert abs(fine) < 0.6 * abs(coarse) + 0.005
    assert ORDERS[type(method)] == method.order


# --- deterministic methods: flows --------------------------------------------------------------------------------


@each_method
def test_flows_compose(method):
    """The flow over two stretches of time is the second after the first, bit for bit."""
    ts, x0 = grid(1.0, 20), normal(7, 2)
    halfway = simulate(ODE(swirl), x0, ts[:9], method)
    assert torch.equal(simulate(ODE(swirl), halfway, ts[8:], method), simulate(ODE(swirl), x0, ts, method))


@each_method
def test_running_backwards_inverts_the_flow(method):
    """There and back again errs like h^p (or better), and so falls 2^p times where the steps are halved."""
    x0 = normal(50, 2)

    def error(steps):
        there = simulate(ODE(swirl), x0, grid(1.0, steps), method)
        return (simulate(ODE(swirl), there, grid(0.0, steps, start=1.0), method) - x0).abs().max()

    assert error(80) < 0.05 / 10 ** (method.order - 1)
    assert error(80) < 1.2 * error(40) / 2**method.order


def test_a_rotation_keeps_its_radius_and_comes_home():
    angle = 2 * math.pi
    x0 = normal(20, 2)
    turn = ODE(lambda x, t: torch.stack([-x[:, 1], x[:, 0]], dim=1))
    states = simulate(turn, x0, grid(angle, 400), RK4(), record=True)
    torch.testing.assert_close(states.norm(dim=2), x0.norm(dim=1).expand(401, 20), rtol=1e-8, atol=0)
    quarter = torch.stack([-x0[:, 1], x0[:, 0]], dim=1)
    torch.testing.assert_close(states[100], quarter, rtol=0, atol=1e-7)
    torch.testing.assert_close(states[-1], x0, rtol=0, atol=1e-7)


# --- deterministic methods: torchdiffeq --------------------------------------------------------------------------


def steep(x, t):
    return x @ torch.tensor([[0.1, 1.0], [-1.0, -0.2]], dtype=torch.float64)


@pytest.mark.parametrize(
    "method, theirs, u",
    [
        (Euler(), "euler", swirl),
        (Heun(), "heun2", swirl),
        (Midpoint(), "midpoint", swirl),
        (RK4(), "rk4", steep),  # theirs is the 3/8 rule: another method, the same on linear fields
    ],
    ids=["euler", "heun", "midpoint", "rk4"],
)
def test_torchdiffeq_takes_the_same_steps(method, theirs, u):
    x0, ts = normal(9, 2), grid(1.0, 30) ** 1.5
    expected = odeint(lambda t, x: u(x, t), x0, ts, method=theirs)
    torch.testing.assert_close(simulate(ODE(u), x0, ts, method, record=True), expected, rtol=1e-13, atol=1e-13)


@each_method
def test_torchdiffeq_solves_the_same_problem(method):
    x0 = normal(9, 2)
    expected = odeint(lambda t, x: swirl(x, t), x0, grid(1.0, 1), method="dopri5", rtol=1e-11, atol=1e-12)[-1]
    found = simulate(ODE(swirl), x0, grid(1.0, 400), method)
    bound = {1: 0.05, 2: 1e-4, 4: 1e-9}[method.order]
    assert (found - expected).abs().max() < bound


# --- Euler–Maruyama: what a step computes ------------------------------------------------------------------------


def by_definition(process, x, ts, generator):
    """Euler–Maruyama, formula by formula."""
    states = [x]
    for t, h in zip(ts, ts.diff()):
        noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
        x = x + h * process.drift(x.clone(), t) + h.sqrt() * process.diffusion(x.clone(), t) * noise
        states.append(x)
    return torch.stack(states)


def halved(x, t):
    return -x / 2


TIMES_BY_HAND = torch.tensor([0.0, 0.1, 0.3, 0.35, 0.6, 1.0], dtype=torch.float64)
PROCESSES = {
    "Brownian motion": brownian_motion(0.7),
    "Ornstein–Uhlenbeck": ornstein_uhlenbeck(1.5, 0.7),
    "Ornstein–Uhlenbeck without noise": ornstein_uhlenbeck(1.5, 0.0),
    "linear, coefficients as numbers": LinearSDE(lambda t: -1.0, lambda t: 0.7),
    "linear, coefficients as tensors": LinearSDE(lambda t: -t, lambda t: (1 - t).sqrt()),
    "geometric Brownian motion": GeometricBrownianMotion(0.5, 0.3),
    "Langevin": langevin(torch.sin, lambda t: 1 - t),
    "constant coefficient": SDE(halved, 0.7),
    "coefficient as a whole number": SDE(halved, lambda x, t: 2),
    "coefficient as a 0-dimensional tensor": SDE(halved, lambda x, t: t),
    "coefficient as a tensor per particle": SDE(halved, lambda x, t: x.flatten(1).norm(dim=1)[:, None, None]),
    "coefficient as a tensor per coordinate": SDE(halved, lambda x, t: torch.arange(3.0).to(x).view(1, 1, 3)),
    "coefficient like the state": SDE(halved, lambda x, t: x.cos() + t),
    "coefficient that is the state": SDE(halved, lambda x, t: x),
    "coefficient that shows the state": SDE(halved, lambda x, t: x.mT),
    "drift that is the state": SDE(lambda x, t: x, 0.7),
    "drift that shows the state": SDE(lambda x, t: x.mT, lambda x, t: x.mT),
    "drift that repeats a row": SDE(lambda x, t: x[:1].expand_as(x), 0.7),
    "an ODE": ODE(lambda x, t: x.sin() * t),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


@each_process
def test_simulating_is_repeating_the_formula(process):
    """Whatever saves memory traffic on the way changes no more than the rounding."""
    x0 = normal(4, 3, 3)
    expected = by_definition(process, x0, TIMES_BY_HAND, seeded(1))
    found = simulate(process, x0, TIMES_BY_HAND, EulerMaruyama(), record=True, generator=seeded(1))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@each_process
def test_a_step_is_the_formula_and_leaves_its_arguments_alone(process):
    x, noise, t = normal(4, 3, 3), normal(4, 3, 3, seed=1), torch.tensor(0.3, dtype=torch.float64)
    expected = x + 0.04 * process.drift(x, t) + 0.2 * process.diffusion(x, t) * noise
    before = x.clone(), noise.clone()
    torch.testing.assert_close(EulerMaruyama().step(process, x, t, t + 0.04, noise), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before[0]) and torch.equal(noise, before[1])
    found = EulerMaruyama().advance(process, x, 0.3, 0.34, seeded(1))  # which may write over its own noise
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before[0])


@pytest.mark.parametrize(
    "sigma", [0.0, lambda x, t: 0.0, lambda x, t: 0 * t, lambda x, t: 0 * x], ids=["0", "a number", "0-dim", "tensor"]
)
def test_without_noise_euler_maruyama_is_eulers_method(sigma):
    x0, ts = normal(30, 2), grid(1.0, 25)
    expected = simulate(ODE(swirl), x0, ts, Euler(), record=True)
    assert torch.equal(simulate(SDE(swirl, sigma), x0, ts, record=True), expected)
    assert torch.equal(simulate(ODE(swirl), x0, ts, EulerMaruyama(), record=True), expected)


def test_an_ode_also_runs_backwards_by_euler_maruyama():
    x0, ts = normal(30, 2), grid(0.0, 25, start=1.0)
    assert torch.equal(simulate(ODE(swirl), x0, ts, EulerMaruyama()), simulate(ODE(swirl), x0, ts, Euler()))


# --- Euler–Maruyama: the law of what it computes -----------------------------------------------------------------


def require_moments(x, mean, variance):
    """x: (n, …) Gaussian in law, its sample mean and variance within five standard errors of the true ones."""
    n = len(x)
    assert ((x.mean(0) - mean).abs() <= 5 * (variance / n) ** 0.5).all()
    assert ((x.var(0) - variance).abs() <= 5 * variance * (2 / n) ** 0.5).all()


LINEAR = {
    "linear": ornstein_uhlenbeck(1.2, 0.8),
    "any drift": SDE(lambda x, t: -1.2 * x, 0.8),
    "any drift, coefficient as a tensor": SDE(lambda x, t: -1.2 * x, lambda x, t: torch.full_like(x, 0.8)),
}


@pytest.mark.parametrize("process", LINEAR.values(), ids=LINEAR)
def test_simulated_law_of_a_linear_process_is_the_exact_law_of_its_steps(process):
    """A step takes mean m and variance v to (1 − θh) m and (1 − θh)² v + σ² h."""
    x0, ts = torch.tensor([2.0, -1.0], dtype=torch.float64), grid(1.0, 10) ** 2
    states = simulate(process, x0.expand(100_000, 2), ts, record=True, generator=seeded())
    mean, variance = x0, torch.zeros(2)
    for k, h in enumerate(ts.diff().tolist(), start=1):
        mean, variance = (1 - 1.2 * h) * mean, (1 - 1.2 * h) ** 2 * variance + 0.8**2 * h
        require_moments(states[k], mean, variance)
    standardised = (states[-1] - mean) / variance.sqrt()
    assert stats.kstest(standardised.flatten(), "norm").pvalue > 1e-4
    covariance = (standardised[:, 0] * standardised[:, 1]).mean()
    assert abs(covariance) < 5 / 100_000**0.5  # coordinates do not share their noise


@pytest.mark.parametrize("theta, sigma", [(0.25, 1.0), (1.0, 0.5), (-0.5, 1.0)])
def test_fine_steps_reach_the_exact_moments(theta, sigma):
    """h = 1/1000 is close enough: its bias, θ²h t/2 of the mean and θh of the variance, is below a standard error."""
    process, x0 = ornstein_uhlenbeck(theta, sigma), torch.full((20_000,), 3.0)
    require_moments(simulate(process, x0, grid(1.0, 1000), generator=seeded()), *process.moments(x0[0], 1.0))


BROWNIAN = {
    "linear": brownian_motion(1.5),
    "any drift": SDE(lambda x, t: torch.zeros_like(x), 1.5),
    "any drift, coefficient as a tensor": SDE(lambda x, t: torch.zeros_like(x), lambda x, t: torch.full_like(x, 1.5)),
}


@pytest.mark.parametrize("process", BROWNIAN.values(), ids=BROWNIAN)
def test_brownian_motion_has_independent_gaussian_increments(process):
    """Each N(0, σ² h), of kurtosis 3 (noise multiplied in twice would give 9), uncorrelated even in their squares."""
    n, ts = 100_000, torch.tensor([0.0, 0.1, 0.15, 0.5, 2.0])
    paths = simulate(process, torch.zeros(n, dtype=torch.float64), ts, record=True, generator=seeded())
    assert not paths[0].any()
    increments = paths.diff(dim=0).T
    require_moments(increments, 0.0, 1.5**2 * ts.double().diff())
    standard = increments / increments.std(0)
    assert ((standard**4).mean(0) - 3).abs().max() < 5 * (24 / n) ** 0.5
    for values in (standard, standard**2 - 1):
        correlation = torch.corrcoef(values.T) - torch.eye(4)
        assert correlation.abs().max() < 5 / n**0.5
    for increment in standard.T:
        assert stats.kstest(increment, "norm").pvalue > 1e-4


# --- Euler–Maruyama: strong and weak order -----------------------------------------------------------------------


class Driven(EulerMaruyama):
    """Euler–Maruyama along given increments of Brownian motion, (steps, n)."""

    def __init__(self, increments):
        self.increments = iter(increments)

    def step(self, model, x, t, s, noise=None):
        return super().step(model, x, t, s, next(self.increments) / (s - t) ** 0.5)


def mean_and_error(samples):
    return float(samples.mean()), float(samples.std()) / len(samples) ** 0.5


def require_order(samples, exact, order, power):
    """Errors e(h) ∝ h^order for halved h: e(h)^power is the mean of samples[k], exactly exact[k].

    Both the means and the orders between two of them must be within five standard errors of the exact ones (the error
    of a logarithm of a quotient by the delta method); the exact orders approach the nominal one.
    """
    for sample, value in zip(samples, exact):
        mean, error = mean_and_error(sample)
        assert abs(mean - value) <= 5 * error
    for (coarse, fine), (a, b) in zip(pairwise(samples), pairwise(exact)):
        measured = math.log2(coarse.mean() / fine.mean()) / power
        _, error = mean_and_error(coarse / a - fine / b)
        assert abs(measured - math.log2(a / b) / power) <= 5 * error / (power * math.log(2))
    assert math.log2(exact[-2] / exact[-1]) / power == pytest.approx(order, abs=0.05)
    assert 5 * error / (power * math.log(2)) < 0.2  # enough samples to tell the orders ½ and 1 apart


FINE, PATHS, COUNTS = 64, 100_000, (4, 8, 16, 32, 64)


def driven_ends(process, x0, increments):
    """End points at t = 1 for each of COUNTS steps, along one set of Brownian paths."""
    for steps in COUNTS:
        yield simulate(process, x0, grid(1.0, steps), Driven(increments.unflatten(0, (steps, -1)).sum(1)))


def geometric_brownian_motion(mu, sigma):
    """End points of geometric Brownian motion: simulated with COUNTS steps, and exact ones on the same paths."""
    increments = normal(FINE, PATHS, seed=2) / FINE**0.5
    process, x0 = GeometricBrownianMotion(mu, sigma), torch.ones(PATHS, dtype=torch.float64)
    return driven_ends(process, x0, increments), process.solution(x0, 1.0, increments.sum(0))


def test_strong_order_is_a_half_for_multiplicative_noise():
    """Steps are independent factors, so the mean square error is a difference of powers of their moments:

    E (X_h − X)² = ((1 + μh)² + σ²h)ⁿ − 2 ((1 + (μ + σ²)h) e^{μh})ⁿ + e^{2μ + σ²},   n = 1/h.
    """
    mu, sigma = 0.2, 0.6  # noise dominates
    ends, solution = geometric_brownian_motion(mu, sigma)

    def mean_square(n):
        h = 1 / n
        cross = ((1 + (mu + sigma**2) * h) * math.exp(mu * h)) ** n
        return ((1 + mu * h) ** 2 + sigma**2 * h) ** n - 2 * cross + math.exp(2 * mu + sigma**2)

    require_order([(x - solution) ** 2 for x in ends], [mean_square(n) for n in COUNTS], 0.5, power=2)


def test_weak_order_is_one():
    """Of mean and second moment: E X_h = (1 + μh)ⁿ against e^μ, and E X_h² = ((1 + μh)² + σ²h)ⁿ against e^{2μ + σ²}.

    The exact solution on the same paths serves as control variate.
    """
    mu, sigma = 1.0, 0.3  # drift dominates
    ends, solution = geometric_brownian_motion(mu, sigma)
    ends = list(ends)
    exact = [math.exp(mu) - (1 + mu / n) ** n for n in COUNTS]
    require_order([solution - x for x in ends], exact, 1.0, power=1)
    exact = [math.exp(2 * mu + sigma**2) - ((1 + mu / n) ** 2 + sigma**2 / n) ** n for n in COUNTS]
    require_order([solution**2 - x**2 for x in ends], exact, 1.0, power=1)


def test_strong_order_is_one_for_additive_noise():
    """On the Ornstein–Uhlenbeck process, whose exact solution X is drawn along with the increments ΔW: in each step

    X_{t+h} = e^{−θh} X_t + σ I,  I = ∫ e^{−θ(h−s)} dW_s,  Cov(ΔW, I) = (1 − e^{−θh})/θ,  Var I = (1 − e^{−2θh})/(2θ),

    and the error of n steps is a sum of independent terms σ ((1 − θh)^m ΔW − e^{−θhm} I) of known variance.
    """
    theta, sigma = 1.0, 0.7

    def covariances(h):
        return h, (1 - math.exp(-theta * h)) / theta, (1 - math.exp(-2 * theta * h)) / (2 * theta)

    h, cross, var = covariances(1 / FINE)
    increments = h**0.5 * normal(FINE, PATHS, seed=3)
    rest = (var - cross**2 / h) ** 0.5 * normal(FINE, PATHS, seed=4)
    solution = torch.zeros(PATHS, dtype=torch.float64)
    for integral in cross / h * increments + rest:
        solution = math.exp(-theta * h) * solution + sigma * integral

    def mean_square(n):
        h, cross, var = covariances(1 / n)
        pairs = [((1 - theta * h) ** m, math.exp(-theta * h * m)) for m in range(n)]
        return sigma**2 * sum(a**2 * h - 2 * a * b * cross + b**2 * var for a, b in pairs)

    ends = driven_ends(ornstein_uhlenbeck(theta, sigma), torch.zeros_like(solution), increments)
    require_order([(x - solution) ** 2 for x in ends], [mean_square(n) for n in COUNTS], 1.0, power=2)


# --- Euler–Maruyama: torchsde ------------------------------------------------------------------------------------

SHARED = {
    "Ornstein–Uhlenbeck": ornstein_uhlenbeck(1.5, 0.7),
    "geometric Brownian motion": GeometricBrownianMotion(0.5, 0.3),
    "nonlinear": SDE(swirl, lambda x, t: 0.5 + t * x.cos()),
    "Langevin": langevin(GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], 0.3).score),
}


@pytest.mark.parametrize("process", SHARED.values(), ids=SHARED)
def test_torchsde_takes_the_same_steps(process):
    class Problem:
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, x):
            return process.drift(x, t)

        def g(self, t, x):
            return torch.as_tensor(process.diffusion(x, t), dtype=x.dtype).expand_as(x)

    x0, ts = normal(40, 2).exp(), grid(1.0, 32)
    brownian = torchsde.BrownianInterval(0.0, 1.0, size=(40, 2), dtype=torch.float64, entropy=5)
    increments = torch.stack([brownian(a, b) for a, b in pairwise(ts)])
    expected = torchsde.sdeint(Problem(), x0, ts, bm=brownian, method="euler", dt=1 / 32)
    torch.testing.assert_close(
        simulate(process, x0, ts, Driven(increments), record=True), expected, rtol=1e-11, atol=1e-11
    )


# --- Langevin dynamics -------------------------------------------------------------------------------------------

MIXTURE = GaussianMixture(
    [[-1.5, 0.0], [1.5, 0.0], [0.0, 2.0]],
    torch.stack([0.4 * torch.eye(2), torch.tensor([[0.5, 0.3], [0.3, 0.5]]), 0.6 * torch.eye(2)]),
    [1.0, 2.0, 1.0],
)


def still_from_the_mixture(process, seed):
    """p-value of the permutation test between states that began in the mixture, at a later time, and fresh samples."""
    n = 2000
    moved = simulate(process, MIXTURE.sample(n, seeded(seed)), torch.linspace(0, 2, 201), generator=seeded(seed + 1))
    return energy_test(moved, MIXTURE.sample(n, seeded(seed + 2)), generator=seeded(seed + 3))


@pytest.mark.parametrize("sigma", [math.sqrt(2), 0.8, lambda t: 1 + t / 2], ids=["√2", "0.8", "1 + t/2"])
def test_langevin_dynamics_keeps_samples_of_a_mixture_in_law(sigma):
    assert still_from_the_mixture(langevin(MIXTURE.score, sigma), 10) > 1e-3


WRONG = {
    "drift without the ½": SDE(lambda x, t: 2 * MIXTURE.score(x), math.sqrt(2)),
    "σ instead of σ²": SDE(lambda x, t: 2.0 / 2 * MIXTURE.score(x), 2.0),
    "no noise": ODE(lambda x, t: MIXTURE.score(x)),
    "sign": SDE(lambda x, t: -MIXTURE.score(x), math.sqrt(2)),
}


@pytest.mark.parametrize("process", WRONG.values(), ids=WRONG)
def test_the_same_test_sees_wrong_dynamics(process):
    assert still_from_the_mixture(process, 20) <= 1e-3


def test_langevin_dynamics_finds_the_mixture_from_elsewhere():
    x0 = torch.full((1000, 2), 4.0)
    found = simulate(langevin(MIXTURE.score), x0, torch.linspace(0, 30, 1501), generator=seeded(1))
    assert energy_test(found, MIXTURE.sample(1000, seeded(2)), generator=seeded(3)) > 1e-3


# --- recording ---------------------------------------------------------------------------------------------------

RECORDS = [[], [0], [20], [0, 20], [-1], [3, 4, 11], range(0, 21, 5), torch.tensor([1, 19]), (k for k in (2, 7))]
RECORDED = {
    "ODE": (ODE(swirl), Heun()),
    "SDE": (SDE(swirl, lambda x, t: x.sin()), None),
    "linear": (ornstein_uhlenbeck(1.0, 1.0), None),
}


@pytest.mark.parametrize("process, method", RECORDED.values(), ids=RECORDED)
def test_every_subset_of_states_is_that_of_the_full_record(process, method):
    x0, ts = normal(6, 2), grid(1.0, 20)
    full = simulate(process, x0, ts, method, record=True, generator=seeded())
    assert full.shape == (21, 6, 2) and torch.equal(full[0], x0)
    assert torch.equal(simulate(process, x0, ts, method, generator=seeded()), full[-1])
    for record in RECORDS:
        record = [int(k) for k in record]
        some = simulate(process, x0, ts, method, record=record, generator=seeded())
        assert torch.equal(some, full[record])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell the peak of memory")
def test_only_the_recorded_states_are_held():
    """Peak memory of a process of its own, in states of 36 MB, which the system takes back at once."""
    code = r"""
import re, torch
from fmlab.processes import ODE, SDE, ornstein_uhlenbeck
from fmlab.simulators import simulate

def peak():
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])

torch.set_num_threads(1)
processes = [ornstein_uhlenbeck(1.0, 1.0), SDE(lambda x, t: -x, lambda x, t: x), ODE(lambda x, t: -x)]
ts, x0 = torch.linspace(0, 1, 6), torch.zeros(9_000_000)
for process in processes:
    simulate(process, x0[:1000], ts)
before = peak()
for record in (False, [3], True):
    for process in processes:
        simulate(process, x0, ts, record=record)
    print((peak() - before) / x0.nbytes)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    end, one, six = (float(line) for line in found.split())
    assert end < 5.5  # the state and its noise, the values of drift and coefficient, and one more
    assert one < end + 1.5
    assert end + 4.5 < six < end + 6.5  # the last is written when the field's values are gone


# --- what callers may rely on ------------------------------------------------------------------------------------

RUNS = {
    "Euler": (ODE(swirl), Euler()),
    "RK4": (ODE(swirl), RK4()),
    "SDE": (SDE(swirl, 0.5), None),
    "multiplicative": (SDE(swirl, lambda x, t: x.sin()), None),
    "linear": (ornstein_uhlenbeck(1.0, 1.0), None),
}
each_run = pytest.mark.parametrize("process, method", RUNS.values(), ids=RUNS)


@each_run
def test_the_start_is_left_alone_and_the_result_is_new(process, method):
    x0 = normal(20, 2)
    before = x0.clone()
    results = [simulate(process, x0, grid(1.0, 3), method, record=record) for record in (False, True)]
    assert torch.equal(x0, before)
    for result in results:
        result.zero_()
    assert torch.equal(x0, before)


@pytest.mark.parametrize("process", [run[0] for name, run in RUNS.items() if name not in ("Euler", "RK4")])
def test_the_generator_decides_the_noise(process):
    x0, ts = normal(20, 2), grid(1.0, 5)
    first = simulate(process, x0, ts, generator=seeded(1))
    assert torch.equal(simulate(process, x0, ts, generator=seeded(1)), first)
    assert not torch.equal(simulate(process, x0, ts, generator=seeded(2)), first)
    torch.manual_seed(3)
    without = torch.rand(3)
    torch.manual_seed(3)
    simulate(process, x0, ts, generator=seeded(1))
    assert torch.equal(torch.rand(3), without)  # the common generator was not touched
    torch.manual_seed(1)
    assert torch.equal(simulate(process, x0, ts), first)  # and serves where no other is given


@pytest.mark.parametrize("process", [run[0] for name, run in RUNS.items() if name not in ("Euler", "RK4")])
def test_a_run_can_be_interrupted_and_continued(process):
    x0, ts, generator = normal(20, 2), grid(1.0, 12), seeded()
    halfway = simulate(process, x0, ts[:6], generator=generator)
    rest = simulate(process, halfway, ts[5:], generator=generator)
    assert torch.equal(rest, simulate(process, x0, ts, generator=seeded()))


each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)


@each_dtype
@each_run
def test_the_result_has_the_dtype_of_the_start(process, method, dtype):
    x0, ts = normal(20, 2), grid(1.0, 20)
    found = simulate(process, x0.to(dtype), ts, method, record=True, generator=seeded())
    assert found.dtype == dtype
    if isinstance(process, ODE):  # (torch draws other normal numbers in other types)
        exact = simulate(process, x0, ts, method, record=True)
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=20 * torch.finfo(dtype).eps)


@each_dtype
def test_a_field_sees_states_and_a_time_of_the_dtype_of_the_start(dtype):
    seen = set()

    def field(x, t):
        seen.add((x.dtype, t.dtype, t.ndim))
        return -x

    for process, method in [(ODE(field), method) for method in METHODS] + [(SDE(field, field), None)]:
        simulate(process, normal(5, 2).to(dtype), grid(1.0, 3), method)
    assert seen == {(dtype, dtype, 0)}


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 3, 4, 4), (1, 2), (0, 2)], ids=str)
def test_states_may_have_any_shape(shape):
    x0, ts = normal(*shape), grid(1.0, 4)
    for process in (ODE(torch.mul), SDE(torch.mul, 0.5), SDE(torch.mul, torch.add), ornstein_uhlenbeck(1.0, 1.0)):
        end = simulate(process, x0, ts, generator=seeded())
        full = simulate(process, x0, ts, record=True, generator=seeded())
        assert end.shape == shape and full.shape == (5, *shape) and torch.equal(full[-1], end)
    flat = simulate(ODE(torch.mul), x0.flatten(), ts, RK4())
    assert torch.equal(simulate(ODE(torch.mul), x0, ts, RK4()).flatten(), flat)


def test_a_start_need_not_be_contiguous():
    x0, ts = normal(3, 40).T, grid(1.0, 4)
    for process in (ODE(torch.mul), SDE(torch.mul, 0.5), ornstein_uhlenbeck(1.0, 1.0)):
        for start in (x0, x0[:1].expand(40, 3)):
            found = simulate(process, start, ts, record=True, generator=seeded())
            assert found.shape == (5, 40, 3) and torch.equal(found[0], start)
    end = simulate(brownian_motion(), torch.zeros(1, 1).expand(1000, 2), [0.0, 1.0], generator=seeded())
    assert len(end.unique()) > 1900  # every coordinate has its own noise


@pytest.mark.parametrize(
    "times", [[0, 1, 3], (0.0, 1.0, 3.0), range(0, 4, 1), torch.arange(4), torch.arange(4.0)], ids=str
)
def test_times_may_be_any_sequence_of_numbers(times):
    assert float(simulate(ODE(lambda x, t: torch.ones_like(x)), torch.zeros(1), times)) == 3


def test_a_field_sees_the_times_and_steps_of_the_grid():
    seen = []

    class Watch(ODEMethod):
        def step(self, model, x, t, s, noise=None):
            seen.append((t, s))
            return x

    ts = [0.0, 0.25, 0.75, 1.0]
    simulate(ODE(swirl), torch.zeros(1, 2), ts, Watch())
    assert seen == [(0.0, 0.25), (0.25, 0.75), (0.75, 1.0)]
    seen.clear()
    simulate(ODE(swirl), torch.zeros(1, 2), ts[::-1], Watch())
    assert seen == [(1.0, 0.75), (0.75, 0.25), (0.25, 0.0)]


def test_a_method_of_ones_own_needs_only_a_step():
    class Ralston(ODEMethod):
        def step(self, model, x, t, s, noise=None):
            h, k = s - t, model(x, like(t, x))
            return x + h / 4 * (k + 3 * model(x + 2 / 3 * h * k, like(t + 2 / 3 * h, x)))

    class Milstein(EulerMaruyama):
        """Strong order 1 on dX = μX dt + σX dW, by the term ½ σ² X h (ε² − 1)."""

        def step(self, model, x, t, s, noise=None):
            return super().step(model, x, t, s, noise) + model.sigma**2 / 2 * x * (s - t) * (noise**2 - 1)

    x0 = normal(5, 2)
    expected = simulate(ODE(swirl), x0, grid(1.0, 200), RK4())
    assert (simulate(ODE(swirl), x0, grid(1.0, 200), Ralston()) - expected).abs().max() < 1e-4

    process, n, h = GeometricBrownianMotion(0.3, 0.5), 50_000, 1 / 50
    end = simulate(process, torch.ones(n, dtype=torch.float64), grid(1.0, 50), Milstein(), generator=seeded())
    mean, error = mean_and_error(end**2)
    exact = ((1 + 0.3 * h) ** 2 + 0.5**2 * h + 0.5**4 * h**2 / 2) ** 50  # E X², from E (ε² − 1)² = 2
    assert abs(mean - exact) < 5 * error


# --- gradients ---------------------------------------------------------------------------------------------------


@each_method
def test_gradients_flow_through_an_ode(method):
    """Against finite differences, to the start and to a parameter of the field, in ends and records."""

    def run(x0, a):
        return simulate(ODE(lambda x, t: torch.sin(a * x) + t), x0, grid(1.0, 4), method, record=[1, 3, 4])

    a = torch.tensor(1.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(run, (normal(3, 2).requires_grad_(), a.requires_grad_()))


TRAINABLE = {
    "drift": lambda a: SDE(lambda x, t: torch.sin(a * x), 0.5),
    "number": lambda a: SDE(halved, lambda x, t: a * t),
    "multiplicative": lambda a: SDE(halved, lambda x, t: torch.sin(a * x)),
    "everything": lambda a: SDE(lambda x, t: a * x.cos(), lambda x, t: torch.sin(a * x)),
    "linear, rate": lambda a: LinearSDE(lambda t: -a * t, 0.5),
    "linear, sigma": lambda a: LinearSDE(-0.5, lambda t: a * t),
    "linear, both": lambda a: LinearSDE(lambda t: -a, lambda t: a),
}


@pytest.mark.parametrize("of_start", [True, False], ids=["start too", "parameter alone"])
@pytest.mark.parametrize("build", TRAINABLE.values(), ids=TRAINABLE)
def test_gradients_flow_through_an_sde(build, of_start):
    def run(x0, a):
        return simulate(build(a), x0, grid(1.0, 4), record=[1, 3, 4], generator=seeded())

    a = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (normal(3, 2).requires_grad_(of_start), a))


@each_process
def test_tracking_gradients_changes_no_more_than_the_rounding(process):
    x0 = normal(4, 3, 3)
    plain = simulate(process, x0, TIMES_BY_HAND, record=True, generator=seeded(1))
    tracked = simulate(process, x0.requires_grad_(), TIMES_BY_HAND, record=True, generator=seeded(1))
    torch.testing.assert_close(tracked, plain, rtol=1e-12, atol=1e-12, check_stride=False)
    assert tracked.requires_grad and not plain.requires_grad
    with torch.no_grad():
        assert torch.equal(simulate(process, x0, TIMES_BY_HAND, record=True, generator=seeded(1)), plain)


# --- bad input ---------------------------------------------------------------------------------------------------

X0, TS = torch.zeros(4, 2), [0.0, 0.5, 1.0]


def decay(x, t):
    return -x


@pytest.mark.parametrize("process", [decay, None, 1.0], ids=["a field", "None", "a number"])
def test_a_process_must_be_one(process):
    with pytest.raises(TypeError, match=r"process must be an ODE or an SDE.*ODE\(u\)"):
        simulate(process, X0, TS)


@pytest.mark.parametrize("x0", [[0.0], 1.0, torch.tensor(1.0), torch.arange(3), torch.zeros(3, dtype=torch.complex64)])
def test_a_start_must_be_a_batch_of_floating_point_states(x0):
    with pytest.raises(ValueError, match=r"x0 must be a (floating-point )?tensor of shape \(n, \*shape\)"):
        simulate(ODE(decay), x0, TS)


@pytest.mark.parametrize(
    "ts, message",
    [
        ([0.0], r"at least two times in one dimension, got shape \(1,\)"),
        ([[0.0, 1.0]], r"got shape \(1, 2\)"),
        (1.0, r"got shape \(\)"),
        (None, "ts must be a sequence of times, got None"),
        ("01", "ts must be a sequence of times, got 01"),
        ([0.0, [1.0]], "ts must be a sequence of times"),
        ([0.0, math.inf], "ts must be finite"),
        ([0.0, math.nan, 1.0], "ts must be finite"),
        ([0.0, 0.5, 0.5], r"strictly increasing.*ts\[1\] = 0.5, ts\[2\] = 0.5"),
        ([0.0, 1.0, 0.5], r"strictly increasing.*ts\[1\] = 1, ts\[2\] = 0.5"),
        ([1.0, 0.5, 0.7], r"strictly increasing.*\[\d\] = 0.5, ts\[\d\] = 0.7|ts\[0\] = 1, ts\[1\] = 0.5"),
    ],
    ids=str,
)
@pytest.mark.parametrize("process", [ODE(decay), SDE(decay, 1.0)], ids=["ODE", "SDE"])
def test_times_must_increase(process, ts, message):
    with pytest.raises(ValueError, match=message):
        simulate(process, X0, ts)


def test_only_an_ode_runs_backwards():
    simulate(ODE(decay), X0, [1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match=r"strictly decreasing, to run an ODE backwards.*ts\[1\] = 0.5, ts\[2\] = 0.7"):
        simulate(ODE(decay), X0, [1.0, 0.5, 0.7])
    for process in (SDE(decay, 1.0), ornstein_uhlenbeck(1.0, 1.0)):
        with pytest.raises(ValueError, match=r"strictly increasing: ts\[0\] = 1, ts\[1\] = 0.5"):
            simulate(process, X0, [1.0, 0.5, 0.0])


WRONG_VALUES = {
    "nothing": (lambda x: None, "must return a tensor like the state, got NoneType"),
    "a number": (lambda x: 1.0, "must return a tensor like the state, got float"),
    "a whole number": (lambda x: 0, "must return a tensor like the state, got int"),
    "a tuple": (lambda x: (x,), "must return a tensor like the state, got tuple"),
    "an array": (lambda x: x.numpy(), "must return a tensor like the state, got ndarray"),
    "one value per particle": (lambda x: x[:, 0], r"returned shape \(4,\), but the state has \(4, 2\)"),
    "a column": (lambda x: x[:, :1], r"returned shape \(4, 1\), but the state has \(4, 2\)"),
    "one particle": (lambda x: x[:1], r"returned shape \(1, 2\), but the state has \(4, 2\)"),
    "a transpose": (lambda x: x.T, r"returned shape \(2, 4\), but the state has \(4, 2\)"),
    "an extra dimension": (lambda x: x[None], r"returned shape \(1, 4, 2\), but the state has \(4, 2\)"),
    "a sum": (lambda x: x.sum(), r"returned shape \(\), but the state has \(4, 2\)"),
    "another dtype": (lambda x: x.double(), "returned dtype torch.float64, but the state has torch.float32"),
    "whole numbers": (lambda x: x.long(), "returned dtype torch.int64, but the state has torch.float32"),
    "another device": (lambda x: x.to("meta"), "returned device meta, but the state has cpu"),
}
each_wrong_value = pytest.mark.parametrize("wrong, message", WRONG_VALUES.values(), ids=WRONG_VALUES)


@each_wrong_value
def test_a_field_must_return_a_tensor_like_the_state(wrong, message):
    for process in (ODE(lambda x, t: wrong(x)), SDE(lambda x, t: wrong(x), 1.0)):
        with pytest.raises(ValueError, match=f"the field {message}"):
            simulate(process, X0, TS)
    for method in METHODS[1:]:  # at a later stage too
        with pytest.raises(ValueError, match=f"the field {message}"):
            simulate(ODE(lambda x, t: wrong(x) if t > 0 else x), X0, TS, method)


@each_wrong_value
def test_a_method_must_return_a_tensor_like_the_state(wrong, message):
    class Own(ODEMethod):
        def step(self, model, x, t, s, noise=None):
            return wrong(x)

    class OwnNoisy(EulerMaruyama):
        def step(self, model, x, t, s, noise=None):
            return wrong(x)

    for process, method in ((ODE(decay), Own()), (SDE(decay, 1.0), OwnNoisy()), (brownian_motion(), OwnNoisy())):
        with pytest.raises(ValueError, match=f"the step {message}"):
            simulate(process, X0, TS, method)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda x: None, "got NoneType"),
        (lambda x: (1.0,), "got tuple"),
        (lambda x: x.numpy(), "got ndarray"),
        (lambda x: x[:, 0], r"returned shape \(4,\), but the state has \(4, 2\)"),
        (lambda x: x[0], r"returned shape \(2,\), but the state has \(4, 2\)"),
        (lambda x: x.T, r"returned shape \(2, 4\), but the state has \(4, 2\)"),
        (lambda x: torch.eye(2).expand(4, 2, 2), r"returned shape \(4, 2, 2\), but the state has \(4, 2\)"),
        (lambda x: x.double(), "returned dtype torch.float64, but the state has torch.float32"),
        (lambda x: x.to("meta"), "returned device meta, but the state has cpu"),
    ],
    ids=["nothing", "tuple", "array", "per particle", "per coordinate", "transpose", "matrix", "dtype", "device"],
)
def test_a_diffusion_coefficient_must_be_a_number_or_broadcast_to_the_state(wrong, message):
    with pytest.raises(ValueError, match=f"diffusion coefficient.*{message}"):
        simulate(SDE(decay, lambda x, t: wrong(x)), X0, TS)


@pytest.mark.parametrize("bad", [None, "1", torch.ones(2)], ids=["None", "text", "tensor"])
def test_coefficients_of_a_linear_process_must_be_numbers(bad):
    with pytest.raises(ValueError, match="rate must be a number at each time"):
        simulate(LinearSDE(lambda t: bad, 1.0), X0, TS)
    with pytest.raises(ValueError, match="sigma must be a number at each time"):
        simulate(LinearSDE(-1.0, lambda t: bad), X0, TS)


@pytest.mark.parametrize("method", METHODS[1:] + [Euler()], ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("process", [SDE(decay, 0.0), ornstein_uhlenbeck(1.0, 1.0)], ids=["SDE", "linear"])
def test_a_deterministic_method_does_not_solve_an_sde(process, method):
    with pytest.raises(TypeError, match=f"{type(method).__name__} solves ODEs.*use EulerMaruyama"):
        simulate(process, X0, TS, method)


@pytest.mark.parametrize(
    "method", ["euler", Euler, EulerMaruyama, lambda u, x, t, h: x], ids=["name", "class", "another class", "function"]
)
@pytest.mark.parametrize("process", [ODE(decay), SDE(decay, 1.0)], ids=["ODE", "SDE"])
def test_a_method_must_be_one(process, method):
    with pytest.raises(TypeError, match=r"method must be an object with a step, like Euler\(\)"):
        simulate(process, X0, TS, method)


@pytest.mark.parametrize(
    "record, message",
    [
        ("all", "indices into the 3 times, got 'all'"),
        (2, "indices into the 3 times, got 2"),
        (None, "indices into the 3 times, got None"),
        ([3], r"indices into the 3 times, got \[3\]"),
        ([-4], r"indices into the 3 times, got \[-4\]"),
        ([0.5], r"indices into the 3 times, got \[0.5\]"),
        ([1, 0], r"increasing order, got \[1, 0\]"),
        ([1, 1], r"each time once, in increasing order, got \[1, 1\]"),
        ([2, -1], r"each time once, in increasing order, got \[2, -1\]"),
    ],
    ids=str,
)
def test_a_record_must_list_times_in_order(record, message):
    with pytest.raises(ValueError, match=f"record must.*{message}"):
        simulate(ODE(decay), X0, TS, record=record)


def test_times_may_be_on_any_device_and_a_generator_must_be_where_the_states_are():
    assert simulate(ODE(decay), X0.to("meta"), torch.tensor(TS)).is_meta
    for process in (SDE(decay, 1.0), brownian_motion()):
        assert simulate(process, X0.to("meta"), TS).is_meta
        with pytest.raises(ValueError, match="mixed devices: x0 is on meta, the generator on cpu"):
            simulate(process, X0.to("meta"), TS, generator=seeded())


@pytest.mark.parametrize(
    "process",
    [SDE(decay, 1.0), ODE(decay), SDE(decay, lambda x, t: x)],
    ids=["additive noise", "no noise", "multiplicative noise"],
)
def test_a_field_may_keep_what_it_is_shown(process):
    """No state that was handed to a field changes afterwards."""
    kept = []
    drift = process.drift
    process.drift = lambda x, t: (kept.append((x, x.clone())), drift(x, t))[1]
    simulate(process, normal(50, 2), grid(1.0, 20), generator=seeded())
    assert len(kept) == 20 and all(torch.equal(*pair) for pair in kept)


def test_states_may_be_whole_numbers_where_the_method_moves_them():
    class Climb(Method):
        draws = True

        def noise_like(self, x, generator=None):
            return torch.randint(0, model + 1, x.shape, generator=generator)

        def step(self, model, x, t, s, noise=None):
            return x + noise

    model = 3
    climbed = simulate(model, torch.zeros(10, 4, dtype=torch.long), grid(1.0, 5), Climb(), generator=seeded())
    draw = seeded()
    assert torch.equal(climbed, sum(torch.randint(0, 4, (10, 4), generator=draw) for _ in range(5)))


def test_noise_does_not_follow_the_layout_of_memory():
    images = torch.zeros(2, 3, 4, 4)
    ends = [
        simulate(brownian_motion(), x, TS, generator=seeded())
        for x in (
            images,
            images.contiguous(memory_format=torch.channels_last),
            torch.zeros(1, 1, 1, 1).expand(2, 3, 4, 4),
        )
    ]
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])


def test_a_bar_shows_how_far_a_simulation_is(capsys):
    simulate(ODE(decay), X0, TS, progress=True)
    simulate(ODE(decay), X0, TS)
    assert "steps" not in capsys.readouterr().err  # no terminal


def test_a_generator_must_be_one():
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator, got int"):
        simulate(brownian_motion(), X0, TS, generator=0)


# --- states that stop being finite -------------------------------------------------------------------------------


def spoiled(value, after):
    """A field that is 0 until a time, and then spoils one coordinate of one particle."""

    def u(x, t):
        out = torch.zeros_like(x)
        if t > after:
            out[1, 1] = value
        return out

    return u


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "build", [ODE, lambda u: SDE(u, 1.0), lambda u: SDE(decay, u)], ids=["ODE", "drift", "diffusion"]
)
def test_a_state_that_is_not_finite_is_reported_with_its_time(build, value):
    """The first step that starts after t = 0.55 ends at t = 0.7."""
    with pytest.raises(
        FloatingPointError, match=r"state at t = 0.7, after 7 of 10 steps, is not finite.*at t = 0.6 it"
    ):
        simulate(build(spoiled(value, 0.55)), X0, torch.linspace(0, 1, 11), record=[2])


@pytest.mark.parametrize("steps", [3, 100, 199, 200, 1234])
@pytest.mark.parametrize("after", [0.0, 0.4321, 0.999])
def test_long_runs_name_a_time_at_most_a_hundredth_late(steps, after):
    ts = grid(1.0, steps)
    spoils = int((ts[:-1] <= after).sum()) + 1 if after < float(ts[-2]) else None
    if spoils is None:  # the last step starts before it spoils
        return
    with pytest.raises(FloatingPointError) as caught:
        simulate(ODE(spoiled(math.nan, after)), X0.double(), ts)
    words = str(caught.value).replace(",", "").replace(";", "").split()
    found, finite = (float(words[k + 2]) for k, word in enumerate(words) if word == "t")
    assert finite <= float(ts[spoils - 1]) + 1e-6 and float(ts[spoils]) <= found + 1e-6
    assert found - finite <= max(0.01, 1 / steps) + 1e-6


def test_explosion_is_reported():
    with pytest.raises(FloatingPointError, match="Try smaller steps"):
        simulate(ODE(lambda x, t: x**3), torch.full((3,), 10.0), torch.linspace(0, 1, 11))


def test_a_start_that_is_not_finite_is_reported():
    for value in (math.nan, math.inf):
        with pytest.raises(FloatingPointError, match=r"initial state, at t = 0.25, is not finite"):
            simulate(ODE(decay), torch.tensor([0.0, value]), [0.25, 1.0])


@pytest.mark.parametrize(
    "x0", [torch.full((1000,), 1e38), torch.full((100_000,), 1.0, dtype=torch.float16)], ids=["float32", "float16"]
)
def test_finite_states_with_an_infinite_sum_are_no_error(x0):
    assert torch.equal(simulate(ODE(lambda x, t: torch.zeros_like(x)), x0, TS), x0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_many_small_steps_in_half_precision_arrive(dtype):
    """A thousand steps of 0.003 from 0, of which each alone would be lost beside 2."""
    ts = torch.linspace(0, 1, 1001)
    x = simulate(ODE(lambda x, t: torch.full_like(x, 3.0)), torch.zeros(2, 1, dtype=dtype), ts)
    assert x.dtype == dtype and ((x - 3).abs() < 0.02).all()


def test_a_field_that_widens_half_precision_is_told():
    with pytest.raises(ValueError, match=r"returned dtype torch.float32, but the state has torch.float16"):
        simulate(ODE(lambda x, t: x.float()), torch.ones(3, dtype=torch.float16), TS)


def test_a_negative_sigma_mirrors_the_path_whatever_the_process():
    x0, ts = normal(20, 2), grid(1.0, 7)

    def constant(x, t):
        return -0.5

    ends = [
        simulate(process, x0, ts, generator=seeded())
        for process in (LinearSDE(0.0, lambda t: -0.5), SDE(lambda x, t: 0 * x, constant))
    ]
    torch.testing.assert_close(ends[0], ends[1])
    mirrored = simulate(LinearSDE(0.0, 0.5), x0, ts, generator=seeded())
    torch.testing.assert_close(ends[0] - x0, x0 - mirrored)


def test_gradients_to_times_are_refused_in_words():
    with pytest.raises(ValueError, match="gradients do not flow through ts"):
        simulate(ODE(decay), torch.ones(2), torch.linspace(0, 1, 3).requires_grad_())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_simulations_have_forward_derivatives_and_can_be_batched(method):
    x0 = normal(3, 2)

    def end(x0):
        return simulate(ODE(lambda x, t: torch.sin(x) * (1 + t)), x0, grid(1.0, 5), method)

    torch.testing.assert_close(torch.func.jacfwd(end)(x0), torch.func.jacrev(end)(x0))
    torch.testing.assert_close(torch.func.vmap(end)(x0[:, None]), end(x0)[:, None])
