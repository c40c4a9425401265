"""Families of SDEs with one path's marginals: the Fokker–Planck equation pointwise and in weak form, and samples judged
by a two-sample test whose false-fail rate is its level."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import hessian

from fmlab.metrics import energy_distance, energy_test
from fmlab.paths import GaussianPath
from fmlab.processes import ODE, SDE, at, forward_sde, probability_flow, reverse_sde, sde_extension
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, diffusion_coefficients
from fmlab.simulators import Heun, simulate
from tests.cases import KINDS, SCHEDULES, distribution, divergence, gradient, normal, points_on, rng, uniform

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
every_kind = pytest.mark.parametrize("kind", KINDS)
repeat = settings(deadline=None, max_examples=4, derandomize=True)
SIGMAS = [0.0, 0.5, 1.0, 2.0]
N, LEVEL = 400, 1e-3  # a right simulation fails a test with this probability, once for the seeds fixed here


def exact(schedule, kind="mixture"):
    return GaussianPath(schedule).marginal(distribution(kind, seed=3))


def grid(start: float, end: float, steps: int):
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)


def p_value(process, marginal, ts, seed=0, method=None):
    """p-value of the end points of a process, started from the path, against fresh samples of the path."""
    start = marginal.sample(N, float(ts[0]), rng(seed))
    end = simulate(process, start, ts, method, generator=rng(seed + 1))
    return energy_test(end.float(), marginal.sample(N, float(ts[-1]), rng(seed + 2)).float(), generator=rng(seed + 3))


# the judge


def test_the_energy_test_is_calibrated():
    """Under the null P(p ≤ a) = a: of 400 tests 20 ± 4.4 have p ≤ 0.05 and 200 ± 10 have p ≤ 0.5; four sigma each."""
    p = torch.tensor(
        [energy_test(normal(20, 2, seed=2 * k), normal(30, 2, seed=2 * k + 1), 99, rng(k)) for k in range(400)]
    )
    assert 2 <= int((p <= 0.05).sum()) <= 38
    assert 160 <= int((p <= 0.5).sum()) <= 240
    assert p.min() >= 0.01


@pytest.mark.parametrize(
    "change", [lambda y: y + 0.5, lambda y: 1.6 * y, lambda y: y * y.sign() * normal(300, 2, seed=9).sign()[:, :1]]
)
def test_the_energy_test_sees_a_shift_a_scale_and_a_dependence(change):
    p = energy_test(normal(300, 2, seed=1), change(normal(300, 2, seed=2)), generator=rng(3))
    assert p == 1 / 1000


def test_the_energy_test_ranks_the_energy_distance_itself():
    x, y = normal(8, 1, 2, seed=1), normal(6, 1, 2, seed=2) + 0.5
    pooled, splits = torch.cat([x, y]), rng(3)
    seen = energy_distance(x, y)
    order = torch.rand(50, 14, generator=splits).argsort(1)
    others = torch.stack([energy_distance(pooled[row[:8]], pooled[row[8:]]) for row in order])
    expected = (1 + int((others >= seen * (1 - 1e-6)).sum())) / 51
    assert energy_test(x, y, permutations=50, generator=rng(3)) == expected


def test_the_energy_test_refuses_points_of_different_shapes():
    with pytest.raises(ValueError, match="one shape"):
        energy_test(torch.zeros(3, 2), torch.zeros(3, 1))


# Fokker–Planck, pointwise


def fokker_planck(marginal, process, x, t):
    """Terms of ∂_t log p + div b + b · s − ½ σ² (Δ log p + ‖s‖²) = 0, which is notes, eq. 50, divided by p."""
    s = gradient(lambda x: marginal.log_prob(x, t), x)
    b, sigma = process.drift(x, t), process.diffusion(x, t)
    laplacian = divergence(lambda x: marginal.score(x, t), x) + s.square().sum(1)
    return [
        gradient(lambda t: marginal.log_prob(x, t), t),
        divergence(lambda x: process.drift(x, t), x),
        (b * s).sum(1),
        -0.5 * torch.as_tensor(sigma, dtype=x.dtype).squeeze(-1) ** 2 * laplacian,
    ]


def relative_residual(terms):
    return (sum(terms).abs() / (1 + sum(term.abs() for term in terms))).max()


@every_schedule
@every_kind
@repeat
@given(seed=st.integers(0, 10**6), sigma=st.floats(0, 3))
def test_the_extension_satisfies_the_fokker_planck_equation(schedule, kind, seed, sigma):
    """At random (x, t), for constant and time-dependent σ: residual below 1e-9 of the terms."""
    p_data, t = distribution(kind, seed), uniform(10, 0.02, 0.98, seed)
    marginal, x = GaussianPath(schedule).marginal(p_data), points_on(schedule, p_data, t, seed)
    for level in (sigma, lambda t: sigma * schedule.beta(t)[:, None]):
        process = sde_extension(marginal.vector_field, marginal.score, level)
        assert relative_residual(fokker_planck(marginal, process, x, t)) < 1e-9


def test_a_wrong_drift_leaves_a_residual():
    schedule, t = Cosine(), uniform(10, 0.2, 0.8, 1)
    marginal, x = exact(schedule), points_on(schedule, distribution("mixture", seed=3), t, 2)
    for factor in (0.0, 1.0, -0.5):
        process = SDE(lambda x, t, c=factor: marginal.vector_field(x, t) + c * marginal.score(x, t), 1.0)
        assert relative_residual(fokker_planck(marginal, process, x, t)) > 0.05


def test_the_laplacian_is_the_second_derivative_of_the_density():
    """Δp/p = Δ log p + ‖s‖² against two derivatives of exp(log p) itself."""
    marginal, x = exact(CondOT()), normal(4, 2, seed=1)
    s = marginal.score(x, 0.4)
    expected = torch.stack([hessian(lambda x: marginal.log_prob(x[None], 0.4).exp().sum(), row).trace() for row in x])
    expected = expected / marginal.log_prob(x, 0.4).exp()
    found = divergence(lambda x: marginal.score(x, 0.4), x) + s.square().sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# Fokker–Planck, in weak form


@every_schedule
@every_kind
@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_the_weak_form_with_test_functions(schedule, kind, sigma):
    """d/dt ∫ f p_t = ∫ (∇f · b + ½ σ² Δf) p_t [notes, eq. 57] for bumps f = exp(−‖x − c‖²/2).

    The trapezoidal rule on a fine grid is exact to rounding for functions this smooth that vanish at its edge.
    """
    t = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    marginal = GaussianPath(schedule).marginal(distribution(kind, seed=5))
    side = torch.linspace(-9, 9, 161, dtype=torch.float64)
    x, cell = torch.cartesian_prod(side, side), float(side[1] - side[0]) ** 2
    process = sde_extension(marginal.vector_field, marginal.score, sigma)
    density, drift = marginal.log_prob(x, t).exp(), process.drift(x, t.detach())
    for centre in normal(3, 2, seed=6):
        away = x - centre
        f = torch.exp(-away.square().sum(1) / 2)
        laplacian = (away.square().sum(1) - 2) * f
        change = -(away * drift).sum(1) * f + sigma**2 / 2 * laplacian
        (left,) = torch.autograd.grad((f * density).sum() * cell, t, retain_graph=True)
        right = (change * density.detach()).sum() * cell
        assert abs(left - right) < 1e-8


# samples of the SDE extension


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_extension_has_the_marginals_of_the_path_for_constant_noise(sigma):
    """Up to t = 0.9: a step h is stable where h σ²/(2 v) < 2 for the least variance v of p_t: h = 0.006, v > 0.1."""
    marginal = exact(CondOT())
    process = sde_extension(marginal.vector_field, marginal.score, sigma)
    assert p_value(process, marginal, grid(0, 0.9, 150)) > LEVEL


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_extension_has_the_marginals_of_the_path_for_noise_like_beta(sigma, kind):
    """σ_t = σ β_t keeps σ_t² s_t bounded, so that a data set without a density is reached too, up to t = 0.99."""
    marginal = exact(CondOT(), kind)
    process = sde_extension(marginal.vector_field, marginal.score, lambda t: sigma * (1 - t))
    assert p_value(process, marginal, grid(0, 0.99, 120)) > LEVEL


@every_schedule
def test_the_extension_has_the_marginals_of_every_schedule(schedule):
    marginal = exact(schedule)
    process = sde_extension(marginal.vector_field, marginal.score, schedule.beta)
    assert p_value(process, marginal, grid(0, 0.95, 200)) > LEVEL


def test_a_wrong_extension_is_rejected():
    """σ² s for ½ σ² s, no score, and the sign turned: the test has the power to see each."""
    marginal, sigma = exact(CondOT()), 1.5
    for factor in (sigma**2, 0.0, -(sigma**2) / 2):
        drift = lambda x, t, c=factor: marginal.vector_field(x, t) + c * marginal.score(x, t)  # noqa: E731
        assert p_value(SDE(drift, sigma), marginal, grid(0, 0.7, 140)) == 1 / 1000


def test_the_extension_without_noise_is_the_ode():
    """And it never asks for the score, which may not exist."""

    def no_score(x, t):
        raise AssertionError

    process = sde_extension(exact(CondOT()).vector_field, no_score, 0.0)
    assert isinstance(process, ODE)
    assert process.drift(torch.zeros(1, 2), torch.tensor(0.5)).shape == (1, 2)


@every_schedule
@every_kind
def test_the_ode_of_the_marginal_field_moves_noise_along_the_path(schedule, kind):
    marginal = exact(schedule, kind)
    assert p_value(ODE(marginal.vector_field), marginal, grid(0, 0.95, 50), method=Heun()) > LEVEL


# the diffusion of a schedule: forward, backward, and its flow


@every_schedule
@every_kind
def test_the_forward_sde_turns_data_into_the_path(schedule, kind):
    """From p_1 at s = 0, X_s ~ p_{1−s}; the noise of `CondOT(sigma_min)` at t = 1 is part of where it starts."""
    marginal = exact(schedule, kind)
    x0 = GaussianPath(schedule).sample(marginal.p_data.sample(N, rng(1)), 1.0, rng(2))
    x = simulate(forward_sde(schedule), x0, grid(0, 0.8, 150), generator=rng(3))
    assert energy_test(x.float(), marginal.sample(N, 0.2, rng(4)).float(), generator=rng(5)) > LEVEL


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_reverse_sde_and_the_probability_flow_end_at_the_data(schedule, eta):
    marginal = exact(schedule)
    process = reverse_sde(schedule, marginal.score, eta) if eta else probability_flow(schedule, marginal.score)
    assert p_value(process, marginal, grid(0.1, 1.0, 250)) > LEVEL


def test_a_wrong_reverse_sde_is_rejected():
    """The ½ forgotten in the flow; the score doubled or its sign turned in the SDE."""
    schedule = LinearVP()
    marginal = exact(schedule)
    for eta, factor in [(0.0, 2.0), (1.0, 2.0), (1.0, -1.0)]:
        process = reverse_sde(schedule, lambda x, t, c=factor: c * marginal.score(x, t), eta)
        assert p_value(process, marginal, grid(0.1, 0.6, 125)) == 1 / 1000


@every_schedule
@every_kind
def test_the_probability_flow_is_the_marginal_field(schedule, kind):
    t = uniform(20, 0.05, 0.95, 1)
    marginal, x = exact(schedule, kind), points_on(schedule, distribution(kind, seed=3), t, 2)
    for i in range(20):
        field = probability_flow(schedule, marginal.score).drift(x[i : i + 1], t[i])
        torch.testing.assert_close(field, marginal.vector_field(x[i : i + 1], t[i]), rtol=1e-9, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 2.0])
def test_flow_matching_and_diffusion_define_one_generative_sde(schedule, eta):
    """(α, β, ε) and (f, g, η) with ε = η g have one drift and one noise; MEET's (1 + η) for (1 + η²) does not."""
    marginal, x = exact(schedule), normal(10, 2, seed=1)
    for t in grid(0.1, 0.9, 8):
        f, g = diffusion_coefficients(schedule, t)
        process = reverse_sde(schedule, marginal.score, eta)
        extension = sde_extension(marginal.vector_field, marginal.score, eta * g)
        torch.testing.assert_close(process.drift(x, t), extension.drift(x, t), rtol=1e-9, atol=1e-9)
        assert process.diffusion(x, t) == extension.diffusion(x, t) == eta * g
        printed = -f * x + (1 + eta) * g**2 / 2 * marginal.score(x, t)
        assert torch.allclose(printed, process.drift(x, t)) == (eta in (0.0, 1.0))


def test_the_forward_sde_of_vp_is_an_ornstein_uhlenbeck_process_with_a_changing_clock():
    s, schedule = torch.tensor(0.3, dtype=torch.float64), LinearVP()
    process = forward_sde(schedule)
    torch.testing.assert_close(process.rate(s), -schedule.noise_rate(s) / 2)
    torch.testing.assert_close(at(process.sigma, s), schedule.noise_rate(s).sqrt())


# wrong use


def test_bad_input_gets_a_clear_error():
    marginal = exact(CondOT())
    with pytest.raises(ValueError, match="sigma must be a number ≥ 0"):
        sde_extension(marginal.vector_field, marginal.score, -1.0)
    with pytest.raises(ValueError, match="eta must be a number ≥ 0"):
        reverse_sde(CondOT(), marginal.score, -1.0)
    with pytest.raises(TypeError, match="score must be a callable"):
        sde_extension(marginal.vector_field, 1.0, 1.0)
    with pytest.raises(TypeError, match="score must be a callable"):
        probability_flow(CondOT(), None)
    with pytest.raises(ValueError, match="singular at t = 0: α_t = 0"):
        simulate(probability_flow(CondOT(), marginal.score), normal(3, 2, seed=1), grid(0, 1, 10))
    with pytest.raises(ValueError, match="singular at t = 0: α_t = 0"):
        forward_sde(Cosine()).rate(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"times must be in \[0, 1\]"):
        simulate(forward_sde(VE()), normal(3, 2, seed=1), grid(0.5, 1.5, 10))
