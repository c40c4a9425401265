"""Closed forms of processes against the differential equations that define them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.processes import (
    ODE,
    SDE,
    GeometricBrownianMotion,
    LinearSDE,
    brownian_motion,
    langevin,
    ornstein_uhlenbeck,
)

TIME = torch.tensor(0.3, dtype=torch.float64)


def states(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def field(x, t):
    return t * x


# --- the equations -----------------------------------------------------------------------------------------------


def test_an_ode_is_an_sde_without_noise():
    process = ODE(field)
    assert isinstance(process, SDE)
    assert process.drift is field
    assert process.diffusion(states(3), TIME) == 0


def test_an_sde_takes_its_coefficient_as_a_number_or_as_a_callable():
    x = states(3)
    assert SDE(field, 0.7).drift is field
    assert SDE(field, 0.7).diffusion(x, TIME) == 0.7
    assert SDE(field, field).diffusion is field


EQUATIONS = {
    "Brownian motion": (brownian_motion(), lambda x, t: 0 * x, 1.0),
    "scaled Brownian motion": (brownian_motion(0.4), lambda x, t: 0 * x, 0.4),
    "Ornstein-Uhlenbeck": (ornstein_uhlenbeck(1.5, 0.4), lambda x, t: -1.5 * x, 0.4),
    "linear": (LinearSDE(lambda t: -t, lambda t: 1 - t), lambda x, t: -t * x, 0.7),
    "geometric Brownian motion": (GeometricBrownianMotion(0.2, 0.5), lambda x, t: 0.2 * x, lambda x: 0.5 * x),
    "Langevin": (langevin(torch.sin), lambda x, t: x.sin(), math.sqrt(2)),
    "Langevin, σ = 0.6": (langevin(torch.sin, 0.6), lambda x, t: 0.18 * x.sin(), 0.6),
    "Langevin, σ = 2t": (langevin(torch.sin, lambda t: 2 * t), lambda x, t: 2 * t**2 * x.sin(), 0.6),
}


@pytest.mark.parametrize("process, drift, diffusion", EQUATIONS.values(), ids=EQUATIONS)
def test_drift_and_diffusion_are_as_stated(process, drift, diffusion):
    x = states(5, 2)
    torch.testing.assert_close(process.drift(x, TIME), drift(x, TIME))
    found = torch.as_tensor(process.diffusion(x, TIME), dtype=torch.float64)
    torch.testing.assert_close(found, torch.as_tensor(diffusion(x) if callable(diffusion) else diffusion).to(found))


# --- moments of linear processes ---------------------------------------------------------------------------------

rates = st.one_of(st.just(0.0), st.floats(-3, 2, allow_subnormal=False))
times = st.floats(0, 3)
examples = settings(max_examples=50, deadline=None, derandomize=True)


@given(rates, st.floats(0, 2), times)
@examples
def test_moments_solve_their_equations(a, sigma, t):
    """Mean m and variance v of dX = a X dt + σ dW solve ṁ = a m, v̇ = 2 a v + σ²: by a stiff solver, at 1e-10."""
    x0 = torch.tensor([1.3, -0.2], dtype=torch.float64)
    mean, variance = LinearSDE(a, sigma).moments(x0, t)
    solved = solve_ivp(
        lambda t, y: [a * y[0], a * y[1], 2 * a * y[2] + sigma**2], (0, t), [*x0, 0.0], "DOP853", rtol=1e-11, atol=1e-12
    ).y[:, -1]
    torch.testing.assert_close(mean, torch.as_tensor(solved[:2]), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(variance, torch.as_tensor(solved[2:]).expand(2), rtol=1e-8, atol=1e-8)


@given(rates, st.floats(0, 2), times)
@examples
def test_moments_solve_their_equations_pointwise(a, sigma, t):
    """The same two equations with the time derivative by autograd."""
    x0, t = states(3), torch.tensor(t, dtype=torch.float64, requires_grad=True)
    mean, variance = LinearSDE(a, sigma).moments(x0, t)
    for value, rhs in zip([*mean, *variance], [*(a * mean), *(2 * a * variance + sigma**2)]):
        (derivative,) = torch.autograd.grad(value, t, retain_graph=True, allow_unused=True, materialize_grads=True)
        torch.testing.assert_close(derivative, rhs, rtol=1e-9, atol=1e-9)


@given(rates, st.floats(0, 2), times, times)
@examples
def test_moments_of_two_stretches_of_time_compose(a, sigma, s, t):
    """X_{s+t} given X_s: the mean goes through, the variances add once the first has grown by e^{2at}."""
    process, x0 = LinearSDE(a, sigma), states(3)
    halfway, v_s = process.moments(x0, s)
    mean, v_t = process.moments(halfway, t)
    expected, variance = process.moments(x0, s + t)
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(math.exp(2 * a * t) * v_s + v_t, variance, rtol=1e-9, atol=1e-9)


def test_moments_are_continuous_where_the_rate_vanishes():
    """(e^{2at} − 1)/(2a) = t + a t² + …: no digits may be lost to the difference."""
    x0, t = states(3), 1.7
    brownian = brownian_motion(0.8).moments(x0, t)
    for a in (1e-15, -1e-12, 1e-9):
        for found, expected in zip(LinearSDE(a, 0.8).moments(x0, t), brownian):
            torch.testing.assert_close(found, expected, rtol=3 * abs(a) * t + 1e-14, atol=0)


def test_moments_broadcast_over_starts_and_times():
    process, x0, ts = ornstein_uhlenbeck(0.5, 1.2), states(4, 2), torch.linspace(0, 3, 7).double()
    mean, variance = process.moments(x0, ts[:, None, None])
    assert mean.shape == variance.shape == (7, 4, 2)
    for k, t in enumerate(ts):
        for found, expected in zip((mean[k], variance[k]), process.moments(x0, float(t))):
            torch.testing.assert_close(found, expected)
    assert torch.equal(mean[0], x0) and not variance[0].any()


def test_moments_follow_the_dtype_of_the_start_and_take_whole_numbers():
    process = ornstein_uhlenbeck(0.5, 1.2)
    assert {value.dtype for value in process.moments(torch.ones(3), TIME)} == {torch.float32}
    assert {value.dtype for value in process.moments(torch.ones(3).double(), 0.3)} == {torch.float64}
    for found, expected in zip(process.moments(torch.tensor([2]), 0.3), process.moments(torch.tensor([2.0]), 0.3)):
        torch.testing.assert_close(found, expected)


@given(st.floats(0.1, 3), st.floats(0.1, 2))
@examples
def test_the_stationary_law_is_the_limit_and_stays(theta, sigma):
    process = ornstein_uhlenbeck(theta, sigma)
    law = process.stationary()
    mean, variance = process.moments(torch.tensor([5.0], dtype=torch.float64), 40 / theta)
    assert float(mean) == pytest.approx(float(law.mean), abs=1e-12)
    assert float(variance) == pytest.approx(float(law.cov), rel=1e-6)
    _, gained = process.moments(torch.zeros(1, dtype=torch.float64), 0.7)
    assert math.exp(-2 * theta * 0.7) * float(law.cov) + float(gained) == pytest.approx(float(law.cov), rel=1e-6)


# --- nonlinear processes -----------------------------------------------------------------------------------------


def test_geometric_brownian_motion_obeys_itos_formula():
    """X = f(t, W) solves dX = μ X dt + σ X dW if and only if ∂_t f + ½ ∂_w² f = μ f and ∂_w f = σ f."""
    mu, sigma = 0.3, 0.7
    t, w = torch.tensor([0.2, 1.1], dtype=torch.float64).requires_grad_(), states(2).requires_grad_()
    x = GeometricBrownianMotion(mu, sigma).solution(torch.tensor([1.5, 0.4], dtype=torch.float64), t, w)

    def derivative(value, by):
        return torch.autograd.grad(value.sum(), by, create_graph=True)[0]

    torch.testing.assert_close(derivative(x, t) + derivative(derivative(x, w), w) / 2, mu * x)
    torch.testing.assert_close(derivative(x, w), sigma * x)


def test_geometric_brownian_motion_starts_at_its_start():
    x0 = states(4).exp()
    assert torch.equal(GeometricBrownianMotion(0.3, 0.7).solution(x0, 0.0, torch.zeros(4)), x0)


TARGETS = {
    "Gaussian": Gaussian([0.5, -1.0], [[1.0, 0.4], [0.4, 0.6]]),
    "mixture": GaussianMixture(
        [[-1.0, 0.0], [1.0, 0.5], [0.0, 2.0]], torch.stack([torch.eye(2), 0.3 * torch.eye(2), torch.eye(2) / 2])
    ),
}


def leak(process, p, x, t):
    """(∂_t p) / p by the Fokker–Planck equation ∂_t p = −∇·(u p) + ½ ∇·∇(σ² p), for additive noise."""

    def one(x):
        return p.log_prob(x[None])[0].exp()

    def drift(x):
        return process.drift(x[None], t)[0]

    density, gradient = torch.func.vmap(one)(x), torch.func.vmap(torch.func.grad(one))(x)
    divergence = torch.func.vmap(lambda x: torch.func.jacrev(drift)(x).trace())(x)
    laplacian = torch.func.vmap(lambda x: torch.func.hessian(one)(x).trace())(x)
    outflow = (process.drift(x, t) * gradient).sum(1) + divergence * density
    return (laplacian * process.diffusion(x, t) ** 2 / 2 - outflow) / density


@pytest.mark.parametrize("sigma", [math.sqrt(2), 0.5, lambda t: 1 + t], ids=["√2", "0.5", "1 + t"])
@pytest.mark.parametrize("p", TARGETS.values(), ids=TARGETS)
def test_langevin_dynamics_leaves_its_target_invariant(p, sigma):
    x = 2 * states(20, 2)
    process = langevin(p.score, sigma)
    torch.testing.assert_close(leak(process, p, x, TIME), torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-9)
    wrong = SDE(lambda x, t: 2 * process.drift(x, t), process.diffusion)  # the forgotten ½
    assert leak(wrong, p, x, TIME).abs().min() > 1e-3


def test_the_ornstein_uhlenbeck_process_is_langevin_for_its_stationary_law():
    x, process = states(6, 1), ornstein_uhlenbeck(0.8, 1.3)
    same = langevin(process.stationary().score, 1.3)
    torch.testing.assert_close(same.drift(x, TIME), process.drift(x, TIME), rtol=1e-6, atol=0)  # a law in float32


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, 1.0, "u", torch.ones(2)])
def test_a_field_must_be_callable(bad):
    for build, name in [(ODE, "vector_field"), (lambda u: SDE(u, 1.0), "drift"), (langevin, "score")]:
        with pytest.raises(TypeError, match=f"{name} must be a callable.*got {type(bad).__name__}"):
            build(bad)


COEFFICIENTS = {
    "diffusion": lambda value: SDE(field, value),
    "sigma": brownian_motion,
    "sigma of langevin": lambda value: langevin(field, value),
    "sigma of GBM": lambda value: GeometricBrownianMotion(0.1, value),
    "rate": lambda value: LinearSDE(value, 1.0),
    "mu": lambda value: GeometricBrownianMotion(value, 1.0),
}


@pytest.mark.parametrize("name, build", COEFFICIENTS.items(), ids=COEFFICIENTS)
def test_a_coefficient_must_be_a_finite_number(name, build):
    for bad in (None, "large", torch.ones(2), [1.0]):
        with pytest.raises(TypeError, match=f"{name.split()[0]} must be a number"):
            build(bad)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=f"{name.split()[0]} must be finite, got {bad}"):
            build(bad)
    build(torch.tensor(0.5))
    build(0)


@pytest.mark.parametrize("name", [name for name in COEFFICIENTS if name not in ("rate", "mu")])
def test_a_coefficient_of_noise_must_not_be_negative(name):
    with pytest.raises(ValueError, match=r"must be a number ≥ 0, got -0.5"):
        COEFFICIENTS[name](-0.5)


def test_closed_forms_say_where_they_end():
    with pytest.raises(ValueError, match=r"t ≥ 0, got -1"):
        ornstein_uhlenbeck(1.0, 1.0).moments(torch.ones(1), torch.tensor([0.5, -1.0]))
    for process in (LinearSDE(lambda t: t, 1.0), LinearSDE(1.0, lambda t: t)):
        for closed_form in (process.stationary, lambda process=process: process.moments(torch.ones(1), 1.0)):
            with pytest.raises(ValueError, match="constant coefficients"):
                closed_form()
    for process in (brownian_motion(), ornstein_uhlenbeck(-1.0, 1.0), ornstein_uhlenbeck(1.0, 0.0)):
        with pytest.raises(ValueError, match="no stationary density"):
            process.stationary()
