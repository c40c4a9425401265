"""Schedules: derivatives against autograd, integrals against SciPy, ends against the notes, inverses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from fmlab.processes import ornstein_uhlenbeck
from fmlab.schedules import (
    VE,
    CondOT,
    Cosine,
    DiffusionSchedule,
    LinearVP,
    Schedule,
    diffusion_coefficients,
    to_variance_preserving,
)
from fmlab.values import time
from tests.cases import SCHEDULES, gradient

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
repeat = settings(deadline=None, max_examples=10, derandomize=True)
inner_times = st.floats(0.001, 0.999).map(lambda t: torch.tensor([t], dtype=torch.float64))


@every_schedule
@repeat
@given(t=inner_times)
def test_derivatives_are_those_of_autograd(schedule, t):
    for f, f_dot in [
        (schedule.alpha, schedule.alpha_dot),
        (schedule.beta, schedule.beta_dot),
        (lambda t: schedule.beta(t) ** 2 / 2, schedule.beta_beta_dot),
        (schedule.log_snr, schedule.log_snr_dot),
    ]:
        torch.testing.assert_close(f_dot(t), gradient(f, t), rtol=1e-10, atol=1e-12)


@every_schedule
@repeat
@given(t=inner_times)
def test_time_at_inverts_the_log_snr(schedule, t):
    """An error of λ of a few ε |log α| moves t by that over λ̇."""
    bound = 1e-14 + 1e-14 / schedule.log_snr_dot(t)
    assert (schedule.time_at(schedule.log_snr(t)) - t).abs() < bound
    assert (Schedule._time_at(schedule, schedule.log_snr(t)) - t).abs() < bound


@every_schedule
def test_log_snr_increases_and_has_its_definition(schedule):
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    assert (schedule.log_snr(t).diff() > 0).all() and (schedule.log_snr_dot(t) > 0).all()
    torch.testing.assert_close(schedule.log_snr(t).exp(), (schedule.alpha(t) / schedule.beta(t)) ** 2)


@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=repr)
def test_exact_schedules_meet_the_boundary_conditions(schedule):
    start, end = (torch.tensor(t, dtype=torch.float64) for t in (0.0, 1.0))
    assert schedule.alpha(start) == schedule.beta(end) == 0
    assert schedule.alpha(end) == schedule.beta(start) == 1
    assert schedule.log_snr(start) == -math.inf and schedule.log_snr(end) == math.inf
    assert schedule.time_at(-math.inf) == 0 and schedule.time_at(math.inf) == 1


def test_the_other_schedules_meet_them_as_closely_as_they_say():
    assert float(CondOT(sigma_min=0.1).beta(1.0)) == pytest.approx(0.1)
    assert float(LinearVP().alpha(0.0)) == pytest.approx(0.0066, abs=5e-5)
    assert LinearVP().beta(1.0) == 0 and LinearVP().alpha(1.0) == 1
    assert VE(7.0).beta(0.0) == 7 and VE(7.0).beta(1.0) == 0 and VE(7.0).alpha(0.0) == 1


@pytest.mark.parametrize("schedule", [Cosine(), LinearVP(), LinearVP(2.0, 2.0)], ids=repr)
def test_variance_preserving_schedules_preserve_the_variance(schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.beta(t) ** 2, torch.ones_like(t))
    assert (schedule.time_at(schedule.log_snr(t)) - t).abs().max() < 1e-12


def test_linear_vp_is_the_exponential_of_the_integrated_rate():
    schedule = LinearVP(0.3, 12.0)
    for t in (0.1, 0.5, 0.9):
        rate, _ = quad(lambda s: float(schedule.noise_rate(s)), 0, 1 - t)
        assert float(schedule.alpha(torch.tensor(t, dtype=torch.float64))) == pytest.approx(math.exp(-rate / 2))


def test_beta_is_accurate_next_to_the_data():
    """In single precision at 1 − t = 2⁻²⁰, against double precision at the same time."""
    t = torch.tensor(1 - 2.0**-20)
    for schedule in SCHEDULES:
        torch.testing.assert_close(schedule.beta(t).double(), schedule.beta(t.double()), rtol=1e-6, atol=0)


# the diffusion of a schedule


@every_schedule
@repeat
@given(t=inner_times)
def test_diffusion_coefficients_are_those_of_meet(schedule, t):
    """f = ∂_s log α and g² = 2 α β ∂_s (β/α) in the time s = 1 − t of the diffusion, derivatives by autograd."""
    f, g = diffusion_coefficients(schedule, t)
    s = 1 - t
    torch.testing.assert_close(f, gradient(lambda s: schedule.alpha(1 - s).log(), s), rtol=1e-9, atol=1e-12)
    slope = gradient(lambda s: schedule.beta(1 - s) / schedule.alpha(1 - s), s)
    torch.testing.assert_close(g**2, 2 * schedule.alpha(t) * schedule.beta(t) * slope, rtol=1e-9, atol=1e-12)


def test_the_diffusions_of_vp_and_ve_are_the_textbook_ones():
    """VP: f = −½ b(s), g = √b(s).    [intro, 4.2]  VE: f = 0, g² = dσ²/ds = 2 σ_max² s."""
    s = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    vp = LinearVP()
    f, g = diffusion_coefficients(vp, 1 - s)
    torch.testing.assert_close(f, -vp.noise_rate(s) / 2)
    torch.testing.assert_close(g, vp.noise_rate(s).sqrt())
    f, g = diffusion_coefficients(VE(3.0), 1 - s)
    assert (f == 0).all()
    torch.testing.assert_close(g**2, 18 * s)


@pytest.mark.parametrize("schedule", [CondOT(), Cosine(), LinearVP(), VE(3.0)], ids=repr)
def test_a_schedule_comes_back_from_its_diffusion(schedule):
    """To 1e-9 for t ≥ 0.2: where α_0 = 0 the rates have a pole at t = 0, which costs the quadrature its digits."""
    t = torch.linspace(0.2, 1, 9, dtype=torch.float64)
    back = DiffusionSchedule(
        lambda s: diffusion_coefficients(schedule, 1 - s)[0], lambda s: diffusion_coefficients(schedule, 1 - s)[1]
    )
    for name in ("alpha", "beta", "alpha_dot", "beta_beta_dot"):
        torch.testing.assert_close(getattr(back, name)(t), getattr(schedule, name)(t), rtol=1e-9, atol=1e-9)
    inner = t[:-1]
    torch.testing.assert_close(back.beta_dot(inner), schedule.beta_dot(inner), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(back.time_at(schedule.log_snr(inner[3])), inner[3], rtol=1e-8, atol=1e-8)


def test_the_schedule_of_an_ornstein_uhlenbeck_process_has_its_moments():
    """And MEET's S_t, which leaves out the factor A_t², does not."""
    theta, sigma, s = 1.3, 0.7, torch.tensor(0.8, dtype=torch.float64)
    schedule = DiffusionSchedule(lambda s: torch.full_like(s, -theta), lambda s: torch.full_like(s, sigma))
    mean, variance = ornstein_uhlenbeck(theta, sigma).moments(torch.ones(1, dtype=torch.float64), s)
    torch.testing.assert_close(schedule.alpha(1 - s)[None], mean)
    torch.testing.assert_close(schedule.beta(1 - s)[None] ** 2, variance)
    without_factor = (schedule.beta(1 - s) / schedule.alpha(1 - s)) ** 2
    assert without_factor > 5 * variance


@repeat
@given(t=inner_times)
def test_a_schedule_from_a_diffusion_has_the_derivatives_of_autograd(t):
    schedule = DiffusionSchedule(lambda s: -1 - s, lambda s: 1 + torch.sin(s))
    torch.testing.assert_close(schedule.alpha_dot(t), gradient(schedule.alpha, t), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        schedule.beta_beta_dot(t), gradient(lambda t: schedule.beta(t) ** 2 / 2, t), rtol=1e-9, atol=1e-9
    )


# wrong use


@every_schedule
@pytest.mark.parametrize("t", [-0.01, 1.01, 2, math.nan, [0.5, -1.0]])
def test_times_outside_the_unit_interval_are_refused(schedule, t):
    t = torch.tensor(t)
    for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot, schedule.log_snr):
        with pytest.raises(ValueError, match=r"times must be in \[0, 1\], got"):
            f(t)


@every_schedule
def test_shape_and_dtype_follow_the_times(schedule):
    for t in (torch.tensor(0.5, dtype=torch.float64), torch.full((3,), 0.5), torch.full((2, 3), 0.5)):
        like = torch.as_tensor(t)
        for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot, schedule.log_snr):
            assert f(t).shape == like.shape and f(t).dtype == like.dtype


@every_schedule
@pytest.mark.parametrize("t", [0.3, 1 / 3, 1])
def test_a_number_keeps_its_digits_and_takes_the_dtype_of_the_state(schedule, t):
    exact = torch.tensor(t, dtype=torch.float64)
    for f in (schedule.alpha, schedule.beta, schedule.alpha_dot):
        assert f(t) == f(exact) and (f(t) * torch.ones(2)).dtype == torch.float32


def test_rounding_may_overstep_the_ends():
    above = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    assert time(above) == 1 and time(-1e-8) == 0
    assert CondOT().beta(above) == 0


def test_a_log_snr_out_of_reach_is_refused():
    for schedule, log_snr in [(VE(3.0), -5.0), (LinearVP(), -20.0), (CondOT(sigma_min=0.1), 5.0)]:
        with pytest.raises(ValueError, match="log-SNRs from"):
            schedule.time_at(log_snr)
        for t in (0.0, 1.0):
            end = schedule.log_snr(torch.tensor(t, dtype=torch.float64))
            assert float(schedule.time_at(end)) == pytest.approx(t, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CondOT(sigma_min=1.0), "sigma_min"),
        (lambda: CondOT(sigma_min=-0.1), "sigma_min"),
        (lambda: LinearVP(0.0, 1.0), "beta_min"),
        (lambda: LinearVP(3.0, 1.0), "beta_max"),
        (lambda: VE(0.0), "sigma_max"),
        (lambda: diffusion_coefficients(CondOT(), 0.0), "singular at t = 0: α_t = 0"),
        (lambda: diffusion_coefficients(Cosine(), torch.tensor([0.5, 0.0])), "singular at t = 0"),
    ],
)
def test_bad_settings_get_a_clear_error(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_rescaled_states_are_those_of_the_cosine_schedule(schedule):
    """The state of a schedule made of one z and one ε becomes that of the cosine schedule at the same λ."""
    z, noise = torch.randn(2, 5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (torch.tensor(0.4).double(), torch.linspace(0.2, 0.8, 5).double()):
        alpha, beta = (weight(t).reshape(-1, 1, 1, 1) for weight in (schedule.alpha, schedule.beta))
        tau = Cosine().time_at(schedule.log_snr(t))
        expected = Cosine().alpha(tau).reshape(-1, 1, 1, 1) * z + Cosine().beta(tau).reshape(-1, 1, 1, 1) * noise
        torch.testing.assert_close(to_variance_preserving(alpha * z + beta * noise, t, schedule), expected)
