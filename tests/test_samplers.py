"""Samplers against exact flows, against each other, and against fresh samples of the data by a calibrated test."""

import math

import pytest
import torch

from fmlab.conversions import OUTPUTS, convert
from fmlab.datasets import Empirical
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.metrics import convergence_order, energy_distance, path_curvature
from fmlab.paths import GaussianPath
from fmlab.processes import sde_extension
from fmlab.samplers import DDIM, DDPM, ddim, ddpm, renoise, sample_diffusion, sample_flow, time_grid
from fmlab.schedules import VE, CondOT, Cosine, LinearVP
from fmlab.simulators import RK4, Euler, EulerMaruyama, Heun, Midpoint
from tests.cases import normal, rng

SCHEDULES = [CondOT(), CondOT(sigma_min=0.1), Cosine(), LinearVP(), VE(sigma_max=10.0)]
MIXTURE = GaussianMixture(torch.tensor([[2.0, 0.0], [-1.0, 0.5]]).double(), torch.tensor([0.1, 0.3]).double())


def marginal(schedule, p_data=MIXTURE):
    return GaussianPath(schedule).marginal(p_data)


def start(schedule, n, seed=0):
    return schedule.beta(0) * normal(n, 2, seed=seed)


def network(schedule, output):
    """The exact output of the mixture's path."""
    exact = marginal(schedule)
    return lambda x, t: convert(exact.vector_field(x, t), x, t, schedule, source="vector_field", target=output)


# --- the flow ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=repr)
def test_flow_of_a_gaussian_is_its_closed_form(schedule):
    """x_t = α_t m + √(α_t² v + β_t²) x_0 for data N(m, v I): at t = 1, m + √v x_0."""
    x0, m, v = normal(20, 2, seed=0), torch.tensor([1.0, -2.0]).double(), 0.3
    x1 = sample_flow(marginal(schedule, Gaussian(m, v)).vector_field, x0, 100, RK4())
    torch.testing.assert_close(x1, m + math.sqrt(v) * x0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=repr)
def test_flow_converges_with_order_two_by_default(schedule):
    x0, field = normal(50, 2, seed=1), marginal(schedule).vector_field
    exact = sample_flow(field, x0, 300, RK4())
    ns = [40, 80, 160]
    errors = [float((sample_flow(field, x0, n) - exact).norm(dim=1).mean()) for n in ns]
    assert float(convergence_order([1 / n for n in ns], errors)) == pytest.approx(2, abs=0.15)


def test_flow_runs_backwards_to_its_noise():
    x0 = normal(50, 2, seed=1)
    field = marginal(CondOT()).vector_field
    x1 = sample_flow(field, x0, 200)
    back = sample_flow(field, x1, torch.linspace(1, 0, 201))
    assert float((back - x0).abs().max()) < 20 / 200**2  # order 2 both ways; 20 bounds the constant with room


def test_flow_takes_times_methods_and_records():
    x0, field = normal(4, 2, seed=2), marginal(CondOT()).vector_field
    ts = [0.0, 0.2, 0.5, 0.9]
    states = sample_flow(field, x0, ts, Euler(), record=True)
    assert states.shape == (4, 4, 2) and torch.equal(states[0], x0)
    torch.testing.assert_close(states[1], x0 + 0.2 * field(x0, 0.0))
    assert torch.equal(sample_flow(field, x0, ts, Euler()), states[-1])
    assert torch.equal(sample_flow(field, x0, 10), sample_flow(field, x0, time_grid(10), Midpoint()))
    assert sample_flow(field, x0, 10, record=[0, 10]).shape == (2, 4, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rounding_carries_a_field_beyond_the_ends(dtype):
    seen = []

    def field(x, t):
        seen.append(float(t))
        return 0 * x

    x0 = torch.zeros(1, 1, dtype=dtype)
    for steps in range(1, 30, 2):
        sample_flow(field, x0, steps, Heun())
        sample_flow(field, x0, time_grid(steps).flip(0), Heun())
    assert 0 <= min(seen) and max(seen) <= 1
    seen.clear()
    sample_flow(field, x0, 30)
    assert max(seen) < 1  # midpoint never looks at t = 1, where fields of finite data are singular


def test_samplers_track_no_gradients():
    net = torch.nn.Linear(2, 2).double()
    x0 = normal(3, 2, seed=0)
    for sampled in (
        sample_flow(lambda x, t: net(x), x0, 3),
        sample_diffusion(lambda x, t: net(x), lambda x, t: net(x), x0, 1.0, 3),
        ddim(lambda x, t: net(x), x0, LinearVP(), 3),
        ddpm(lambda x, t: net(x), x0, LinearVP(), 3),
    ):
        assert not sampled.requires_grad


def test_samplers_take_images():
    x0 = torch.randn(3, 1, 4, 4, generator=rng(0))
    model = lambda x, t: torch.tanh(x)  # noqa: E731
    for sampled in (
        sample_flow(model, x0, 4),
        sample_diffusion(model, None, x0, 0.5, 4, schedule=CondOT()),
        ddim(model, x0, CondOT(), 4, output="data"),
        ddpm(model, x0, CondOT(), 4, output="v", generator=rng(1)),
    ):
        assert sampled.shape == x0.shape and sampled.dtype == torch.float32


# --- the diffusion -----------------------------------------------------------------------------------------------


def null_distances(n, pairs=20):
    """Energy distances between two fresh samples of the data: what a perfect sampler gives."""
    return torch.stack(
        [energy_distance(MIXTURE.sample(n, rng(100 + k)), MIXTURE.sample(n, rng(200 + k))) for k in range(pairs)]
    )


NULL = null_distances(2000)


def distance_to_data(x):
    return float(energy_distance(x, MIXTURE.sample(len(x), rng(7))))


@pytest.mark.parametrize("schedule", [CondOT(), Cosine(), LinearVP()], ids=repr)
@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0, 2.0, "2 beta"])
def test_every_sigma_has_the_data_at_its_end(schedule, sigma):
    """Within what 20 pairs of fresh samples show: a right sampler fails for 1 in 21 seeds, and not for these."""
    sigma = sigma if isinstance(sigma, float) else lambda t: 2 * schedule.beta(t)
    exact = marginal(schedule)
    x = sample_diffusion(exact.vector_field, exact.score, start(schedule, 2000), sigma, 150, generator=rng(1))
    assert distance_to_data(x) < NULL.max()


def test_that_test_sees_a_wrong_sign():
    exact = marginal(CondOT())
    x = sample_diffusion(
        exact.vector_field, lambda x, t: -exact.score(x, t), start(CondOT(), 2000), 1.0, 150, generator=rng(1)
    )
    assert distance_to_data(x) > 3 * NULL.max()


def test_diffusion_without_noise_is_eulers_flow():
    exact, x0 = marginal(CondOT()), normal(30, 2, seed=0)
    for sigma in (0, 0.0, lambda t: 0.0 * t):
        assert torch.equal(
            sample_diffusion(exact.vector_field, exact.score, x0, sigma, 20),
            sample_flow(exact.vector_field, x0, 20, Euler()),
        )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_one_field_and_its_schedule_are_enough(schedule):
    exact, x0 = marginal(schedule), start(schedule, 30)
    sigma = lambda t: 0.5 + t  # noqa: E731
    with_score = sample_diffusion(exact.vector_field, exact.score, x0, sigma, 40, generator=rng(1))
    converted = sample_diffusion(exact.vector_field, None, x0, sigma, 40, schedule=schedule, generator=rng(1))
    torch.testing.assert_close(converted, with_score, rtol=1e-7, atol=1e-7)


def test_last_step_to_one_leaves_out_noise_and_score():
    exact, x0 = marginal(CondOT()), normal(30, 2, seed=0)
    states = sample_diffusion(exact.vector_field, exact.score, x0, 2.0, 10, record=True, generator=rng(1))
    expected = states[-2] + 0.1 * exact.vector_field(states[-2], 0.9)
    torch.testing.assert_close(states[-1], expected)
    torch.testing.assert_close(states[-1], exact.posterior_mean(states[-2], 0.9))  # on CondOT the guess ẑ itself
    assert torch.equal(sample_diffusion(exact.vector_field, exact.score, x0, 2.0, 10, generator=rng(1)), states[-1])


def test_diffusion_that_stops_early_has_the_law_of_that_time():
    exact, t = marginal(CondOT()), 0.6
    x = sample_diffusion(
        exact.vector_field, exact.score, start(CondOT(), 2000), 1.5, torch.linspace(0, t, 121), generator=rng(1)
    )
    null = [
        float(energy_distance(exact.sample(2000, t, rng(k)), exact.sample(2000, t, rng(k + 50)))) for k in range(20)
    ]
    assert float(energy_distance(x, exact.sample(2000, t, rng(7)))) < max(null)


def test_sigma_trades_simulation_error_for_model_error():
    """A field with an error c e_1 moves the flow's mean by c; a large σ lets the score pull it back, at the price of
    needing more steps."""
    exact, x0, c = marginal(CondOT(), Gaussian(torch.zeros(2).double(), 0.5)), normal(5000, 2, seed=0), 0.5

    def wrong(x, t):
        return exact.vector_field(x, t) + c * torch.eye(2, dtype=torch.float64)[0]

    shift, spread = {}, {}
    for sigma in (0.0, 3.0):
        x = sample_diffusion(wrong, exact.score, x0, sigma, 200, generator=rng(1))
        shift[sigma] = float(x.mean(0)[0])
        x = sample_diffusion(exact.vector_field, exact.score, x0, sigma, 12, generator=rng(1))
        spread[sigma] = abs(float(x.var()) - 0.5)
    assert shift[0.0] > 0.35 and abs(shift[3.0]) < shift[0.0] / 3
    assert spread[3.0] > 3 * spread[0.0]


def test_thin_data_need_a_sigma_that_fades_or_an_exponential_step():
    """Near t = 1 Euler–Maruyama needs h σ_t² < 4 β_t²; with β_t = 2h at the last step it fails for σ² > 16 h."""
    points = Empirical(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double())
    exact, x0 = marginal(CondOT(), points), normal(500, 2, seed=0)

    def off_the_data(x):
        return float(torch.cdist(x, points.z).amin(1).max())

    h = 1 / 100
    ts = torch.linspace(0, 1 - h, 100)
    constant = sample_diffusion(exact.vector_field, exact.score, x0, 2.0, ts, generator=rng(1))
    fading = sample_diffusion(exact.vector_field, exact.score, x0, lambda t: 2 * (1 - t), ts, generator=rng(1))
    churned = ddpm(exact.posterior_mean, x0, CondOT(), ts, output="data", churn=10.0, generator=rng(1))
    typical = h * math.sqrt(2 * math.log(500))  # the largest of 500 draws of N(0, β²) in the plane, and β = h there
    assert off_the_data(fading) < 2 * typical and off_the_data(churned) < 2 * typical
    assert off_the_data(constant) > 10 * typical


# --- DDIM and DDPM -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("schedule", [CondOT(), CondOT(sigma_min=0.1), VE(sigma_max=10.0)], ids=repr)
def test_ddim_is_euler_where_alpha_and_beta_are_linear(schedule, output):
    """α_s = α_t + h α̇_t and β_s = β_t + h β̇_t make α_s ẑ + β_s ε̂ = x + h (α̇ ẑ + β̇ ε̂) = x + h u, to rounding."""
    x0, ts = start(schedule, 100), torch.linspace(0.02 if output in ("noise", "score") else 0, 1, 31)
    euler = sample_flow(marginal(schedule).vector_field, x0, ts, Euler(), record=True)
    states = ddim(network(schedule, output), x0, schedule, ts, output=output, record=True)
    rounding = 1e-16 / 0.02**2 * 31 * 10  # noise and score at t = 0.02 lose digits of the data twice
    torch.testing.assert_close(states, euler, rtol=rounding, atol=rounding)


def test_ddim_is_not_euler_on_a_curved_schedule():
    x0 = start(Cosine(), 100)
    euler = sample_flow(marginal(Cosine()).vector_field, x0, 30, Euler())
    assert float((ddim(network(Cosine(), "v"), x0, Cosine(), 30, output="v") - euler).abs().max()) > 1e-2


@pytest.mark.parametrize("schedule", [Cosine(), LinearVP()], ids=repr)
def test_ddim_solves_the_flow_with_order_one(schedule):
    x0 = start(schedule, 50)
    exact = sample_flow(marginal(schedule).vector_field, x0, 400, RK4())
    hs, errors = [1 / n for n in (30, 60, 120)], []
    for h in hs:
        x = ddim(network(schedule, "data"), x0, schedule, round(1 / h), output="data")
        errors.append(float((x - exact).norm(dim=1).mean()))
    assert float(convergence_order(hs, errors)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("churn", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_ddpm_step_is_a_longer_ddim_step_and_renoising(schedule, churn):
    """λ → λ + Δλ by DDPM is λ → λ + (1 + c) Δλ by DDIM, then back by noise; c = 1 for DDPM proper."""
    model = network(schedule, "data")
    t, s = torch.tensor(0.4).double(), torch.tensor(0.45).double()
    x, noise = marginal(schedule).sample(100, float(t), rng(0)), normal(100, 2, seed=1)
    start_snr, end_snr = schedule.log_snr(t), schedule.log_snr(s)
    r = schedule.time_at(end_snr + churn * (end_snr - start_snr))
    far = DDIM(schedule, "data").step(model, x, t, r)
    expected = renoise(far, r, s, schedule, noise)
    found = DDPM(schedule, "data", churn).step(model, x, t, s, noise)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_renoising_turns_one_conditional_law_into_the_other(schedule):
    """N(α_t z, β_t²) to N(α_s z, β_s²), in one go or by way of a time between."""
    t, s, zero, one = 0.8, 0.3, torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    assert float(renoise(schedule.alpha(t) * one, t, s, schedule, zero)) == pytest.approx(float(schedule.alpha(s)))
    kept, added = renoise(schedule.beta(t) * one, t, s, schedule, zero), renoise(zero, t, s, schedule, one)
    assert float(kept**2 + added**2) == pytest.approx(float(schedule.beta(s) ** 2))
    by_way = renoise(renoise(zero, t, 0.5, schedule, one), 0.5, s, schedule, zero)
    last = renoise(zero, 0.5, s, schedule, one)
    assert float(by_way**2 + last**2) == pytest.approx(float(added**2))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_without_churn_ddpm_is_ddim(schedule):
    x0, model = start(schedule, 20), network(schedule, "data")
    by_ddim = ddim(model, x0, schedule, 15, output="data", record=True)
    torch.testing.assert_close(ddpm(model, x0, schedule, 15, output="data", churn=0.0, record=True), by_ddim)


@pytest.mark.parametrize("churn", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=repr)
def test_ddpm_has_the_data_at_its_end_for_every_churn(schedule, churn):
    x = ddpm(
        network(schedule, "vector_field"), start(schedule, 2000), schedule, 80,
        output="vector_field", churn=churn, generator=rng(1),
    )  # fmt: skip
    assert distance_to_data(x) < NULL.max()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_small_ddpm_steps_are_euler_maruyama_with_sigma_from_the_churn(schedule):
    """σ_t² = c β_t² λ̇_t: one step apart by O(h²) without its noise, and by O(h^{3/2}) in what multiplies the noise."""
    exact, t, churn = marginal(schedule), torch.tensor(0.5).double(), 1.7
    x, zero, one = exact.sample(50, 0.5, rng(0)), torch.zeros(50, 2).double(), torch.ones(50, 2).double()

    def sigma(t):
        return torch.sqrt(churn * schedule.beta(t) ** 2 * schedule.log_snr_dot(t))

    extension, model = sde_extension(exact.vector_field, exact.score, sigma), exact.posterior_mean
    hs, drift_gaps, noise_gaps = [2.0**-k for k in (8, 9, 10, 11)], [], []
    for h in hs:
        gaps = [
            DDPM(schedule, "data", churn).step(model, x, t, t + h, noise)
            - EulerMaruyama().step(extension, x, t, t + h, noise)
            for noise in (zero, one)
        ]
        drift_gaps.append(float(gaps[0].abs().max()))
        noise_gaps.append(float((gaps[1] - gaps[0]).abs().max()))
    assert float(convergence_order(hs, drift_gaps)) == pytest.approx(2, abs=0.1)
    assert float(convergence_order(hs, noise_gaps)) == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("output", ["data", "v", "vector_field"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_one_step_over_the_whole_range_gives_the_guess(schedule, output):
    """λ = −∞ at t = 0 and ∞ at t = 1 where α_0 = 0 and β_1 = 0: the only step ends at ẑ, but for noise of scale β_1."""
    x0, model = start(schedule, 10), network(schedule, output)
    guess = marginal(schedule).posterior_mean(x0, 0.0)
    left = 6 * float(schedule.beta(1))
    for churn in (0.0, 1.0, math.inf):
        x = ddpm(model, x0, schedule, 1, output=output, churn=churn, generator=rng(1))
        torch.testing.assert_close(x, guess, rtol=1e-9, atol=1e-9 + left)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_last_step_ends_at_one_itself(dtype):
    """So nothing of the noise is left, for any number of steps and however its grid is rounded."""
    x0 = torch.randn(5, 2, dtype=dtype, generator=rng(0))
    for steps in (1, 3, 7, 10, 19, 23, 30, 47):
        for schedule in (CondOT(), Cosine(), LinearVP()):
            x = ddpm(lambda x, t: torch.ones_like(x), x0, schedule, steps, output="data", generator=rng(1))
            assert torch.equal(x, torch.ones_like(x)), (schedule, steps)


@pytest.mark.parametrize("output", ["noise", "score"])
@pytest.mark.parametrize("sampler", [ddim, ddpm])
def test_noise_and_score_need_data_in_the_state(sampler, output):
    x0 = normal(10, 2, seed=0)
    for schedule in (CondOT(), Cosine()):
        with pytest.raises(ValueError, match="t = 0"):
            sampler(lambda x, t: x, x0, schedule, 10, output=output)
        x = sampler(network(schedule, output), x0, schedule, torch.linspace(1e-3, 1, 40), output=output)
        assert x.isfinite().all()
    assert sampler(network(LinearVP(), output), x0, LinearVP(), 40, output=output).isfinite().all()


# --- are the paths straight? -------------------------------------------------------------------------------------


def test_path_curvature_of_lines_and_circles():
    angle = torch.linspace(0, math.pi, 1001).double()
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)[:, None]
    assert float(path_curvature(circle)) == pytest.approx(math.pi / 2 - 1, rel=1e-5)
    line = angle[:, None, None] ** 2 * normal(7, 3, seed=0)
    assert float(path_curvature(line)) == pytest.approx(0, abs=1e-12)


def conditional_curvature(schedule):
    """Of the paths α_t z + β_t ε, one per pair."""
    z, noise, ts = MIXTURE.sample(500, rng(1)), normal(500, 2, seed=2), torch.linspace(0, 1, 201).double()
    return float(path_curvature(torch.stack([GaussianPath(schedule).interpolate(z, noise, t) for t in ts])))


def marginal_curvature(schedule):
    return float(path_curvature(sample_flow(marginal(schedule).vector_field, start(schedule, 500), 200, record=True)))


def test_paths_are_straight_for_one_data_point_and_not_for_a_distribution():
    """Conditional paths of CondOT are straight, and its marginal trajectories the least straight of all here."""
    assert conditional_curvature(CondOT()) == pytest.approx(0, abs=1e-12)
    assert conditional_curvature(VE(20.0)) == pytest.approx(0, abs=1e-12)
    assert conditional_curvature(Cosine()) > 0.1 and conditional_curvature(LinearVP()) > 0.1
    curvature = {schedule: marginal_curvature(schedule) for schedule in (CondOT(), Cosine(), LinearVP(), VE(20.0))}
    condot, cosine, vp, ve = curvature.values()
    assert condot > 2 * cosine > 0.2 and condot > 2 * vp > 0.2
    assert 0 < ve < 0.02


def test_marginal_trajectories_of_one_data_point_are_straight():
    field = marginal(CondOT(), Empirical(torch.ones(1, 2).double())).vector_field
    assert float(path_curvature(sample_flow(field, normal(50, 2, seed=0), 50, record=True))) == pytest.approx(
        0, abs=1e-9
    )


def test_another_schedule_only_rescales_trajectories():
    """Where λ agrees, states of two schedules agree up to the factor α/α': straightness is not the model's."""
    x0, times = normal(20, 2, seed=0), torch.linspace(0.2, 0.9, 100).double()
    ours = sample_flow(marginal(CondOT()).vector_field, CondOT().beta(0.2) * x0, times, RK4())
    their_times = Cosine().time_at(CondOT().log_snr(times))
    scale = Cosine().alpha(their_times) / CondOT().alpha(times)
    theirs = sample_flow(marginal(Cosine()).vector_field, scale[0] * CondOT().beta(0.2) * x0, their_times, RK4())
    torch.testing.assert_close(theirs, scale[-1] * ours, rtol=1e-7, atol=1e-7)


# --- wrong use ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: sample_flow(lambda x, t: x, x, 0), "at least one step"),
        (lambda x: sample_flow(lambda x, t: x, x, [0.0, 1.5]), r"in \[0, 1\]"),
        (lambda x: sample_flow(lambda x, t: x, x, [0.5]), "two times"),
        (lambda x: sample_flow(lambda x, t: x, x, [0.0, 0.5, 0.5]), "strictly increasing"),
        (lambda x: sample_flow(lambda x, t: x[:1], x, 3), "shape"),
        (lambda x: sample_flow(lambda x, t: x, x.long(), 3), "floating-point"),
        (lambda x: sample_diffusion(lambda x, t: x, None, x, 1.0), "either the score"),
        (lambda x: sample_diffusion(lambda x, t: x, lambda x, t: x, x, 1.0, schedule=CondOT()), "either the score"),
        (lambda x: sample_diffusion(lambda x, t: x, lambda x, t: x, x, -1.0), "sigma must be ≥ 0"),
        (lambda x: ddim(lambda x, t: x, x, LinearVP(), 3, output="eps"), "unknown output"),
        (lambda x: ddim(lambda x, t: x.sum(1), x, LinearVP(), 3), "shape"),
        (lambda x: ddpm(lambda x, t: x, x, LinearVP(), 3, churn=-1.0), "churn must be ≥ 0"),
        (lambda x: ddpm(lambda x, t: x, x, LinearVP(), [1.0, 0.5]), "strictly increasing"),
        (lambda x: renoise(x, 0.2, 0.5, CondOT(), x), "towards noise"),
        (lambda x: path_curvature(x), "T, n"),
        (lambda x: path_curvature(torch.zeros(3, 2, 2)), "no trajectory moves"),
    ],
)
def test_wrong_use_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(4, 2))


def test_time_grid_is_exact():
    assert torch.equal(time_grid(4), torch.tensor([0, 0.25, 0.5, 0.75, 1]).double())
    assert time_grid(7)[-1] == 1 and time_grid([0.1, 0.3]).dtype == torch.float64


def test_samplers_track_no_gradients_and_say_so():
    x0 = torch.ones(3, 2).double()
    for sample in (
        lambda x: sample_flow(torch.mul, x, 3),
        lambda x: ddim(torch.mul, x, LinearVP(), 3),
        lambda x: ddpm(torch.mul, x, LinearVP(), 3, generator=torch.Generator().manual_seed(0)),
    ):
        assert not sample(x0.clone().requires_grad_()).requires_grad
        for transform in (torch.func.jacrev, torch.func.jacfwd):
            with pytest.raises(ValueError, match="tracks no gradients"):
                transform(sample)(x0)
    with pytest.raises(ValueError, match="gradients do not flow through the times"):
        sample_flow(torch.mul, x0, torch.linspace(0, 1, 3).requires_grad_())
