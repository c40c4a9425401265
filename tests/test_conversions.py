"""Conversions: against z and ε known beforehand, against exact marginals, and against the formulas of the sources."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmlab.conversions import (
    OUTPUTS,
    convert,
    data_from_vector_field,
    noise_from_score,
    noise_from_vector_field,
    score_from_noise,
    score_from_vector_field,
    vector_field_from_score,
    x_mse_weight,
)
from fmlab.paths import GaussianPath
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, Schedule
from tests.cases import KINDS, SCHEDULES, distribution, gradient, normal, points_on, rate, uniform

PAIRS = list(itertools.permutations(OUTPUTS, 2))
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


def column(value, x):
    return value.reshape(-1, *[1] * (x.ndim - 1))


def known_outputs(schedule, t, z, noise):
    """x and the five outputs for data and noise known beforehand; u is dx/dt by autograd."""

    def state(t):
        return column(schedule.alpha(t), z) * z + column(schedule.beta(t), z) * noise

    alpha, beta = column(schedule.alpha(t), z), column(schedule.beta(t), z)
    outputs = {"data": z, "noise": noise, "v": alpha * noise - beta * z, "score": -noise / beta}
    return state(t), outputs | {"vector_field": rate(state, t)}


@every_schedule
@settings(deadline=None, max_examples=5, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_all_twenty_conversions_find_the_known_output_and_come_back(schedule, seed):
    """Conditioning: the factor between two outputs is at most 1/(t (1 − t))² or so, hence 1e-9 on t in [0.02, 0.98]."""
    t = uniform(6, 0.02, 0.98, seed)
    x, outputs = known_outputs(schedule, t, normal(6, 2, 3, seed=seed), normal(6, 2, 3, seed=seed + 1))
    for source, target in PAIRS:
        found = convert(outputs[source], x, t, schedule, source=source, target=target)
        torch.testing.assert_close(found, outputs[target], rtol=1e-9, atol=1e-9)
        back = convert(found, x, t, schedule, source=target, target=source)
        torch.testing.assert_close(back, outputs[source], rtol=1e-9, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("kind", KINDS)
def test_the_outputs_of_an_exact_marginal_convert_into_each_other(schedule, kind):
    """The score here is the gradient of the exact log density, so both directions of C6 are held against autograd."""
    p_data, t = distribution(kind), uniform(20, 0.05, 0.95, 1)
    marginal, x = GaussianPath(schedule).marginal(p_data), points_on(schedule, p_data, t, 2)
    exact = {
        "vector_field": marginal.vector_field(x, t),
        "score": gradient(lambda x: marginal.log_prob(x, t), x),
        "data": marginal.posterior_mean(x, t),
    }
    for source, target in itertools.permutations(exact, 2):
        found = convert(exact[source], x, t, schedule, source=source, target=target)
        torch.testing.assert_close(found, exact[target], rtol=1e-8, atol=1e-8)


@every_schedule
def test_the_formulas_of_the_sources(schedule):
    t = torch.tensor(0.4, dtype=torch.float64)
    x, outputs = known_outputs(schedule, t, normal(5, 2, seed=1), normal(5, 2, seed=2))
    z, noise, u, s = (outputs[name] for name in ("data", "noise", "vector_field", "score"))
    a, b, a_dot, b_dot = schedule.alpha(t), schedule.beta(t), schedule.alpha_dot(t), schedule.beta_dot(t)
    slides_u = (b**2 * a_dot / a - b * b_dot) * s + a_dot / a * x
    slides_s = (a * u - a_dot * x) / (b**2 * a_dot - a * b_dot * b)
    meet_u = a_dot / a * x - b * (b_dot - a_dot / a * b) * s  # MEET's v, whose dots are taken in 1 − t, is −u
    torch.testing.assert_close(vector_field_from_score(s, x, t, schedule), slides_u)
    torch.testing.assert_close(vector_field_from_score(s, x, t, schedule), meet_u)
    torch.testing.assert_close(score_from_vector_field(u, x, t, schedule), slides_s)
    torch.testing.assert_close(noise_from_score(s, x, t, schedule), noise)
    torch.testing.assert_close(score_from_noise(noise, x, t, schedule), s)
    torch.testing.assert_close(data_from_vector_field(u, x, t, schedule), z)
    torch.testing.assert_close(noise_from_vector_field(u, x, t, schedule), noise)
    for source in OUTPUTS:  # MEET's estimate of the noise, ε̂ = (x − α ẑ)/σ
        data = convert(outputs[source], x, t, schedule, source=source, target="data")
        torch.testing.assert_close((x - a * data) / b, noise)


def test_cond_ot_in_one_line():
    x, u, t = normal(4, 2, seed=1), normal(4, 2, seed=2), 0.3
    torch.testing.assert_close(data_from_vector_field(u, x, t, CondOT()), x + 0.7 * u)
    torch.testing.assert_close(noise_from_vector_field(u, x, t, CondOT()), x - 0.3 * u)


@every_schedule
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_time_for_each_row_is_the_scalar_time_row_by_row(schedule, pair):
    source, target = pair
    value, x, t = normal(3, 1, 2, 2, seed=1), normal(3, 1, 2, 2, seed=2), uniform(3, 0.1, 0.9, 3)
    whole = convert(value, x, t, schedule, source=source, target=target)
    rows = [convert(value[i : i + 1], x[i : i + 1], t[i], schedule, source=source, target=target) for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(rows))


@pytest.mark.parametrize("other", ["data", "vector_field"])
def test_v_has_an_older_name(other):
    x, v, t = normal(6, 2, seed=1), normal(6, 2, seed=2), uniform(6, 0.1, 0.9, 3)
    old, new = (convert(v, x, t, Cosine(), source=name, target=other) for name in ("velocity", "v"))
    torch.testing.assert_close(old, new)
    torch.testing.assert_close(convert(new, x, t, Cosine(), source=other, target="velocity"), v)
    torch.testing.assert_close(x_mse_weight("velocity", t, CondOT()), x_mse_weight("v", t, CondOT()))


# the loss of one output as a weighted loss of another


@every_schedule
@pytest.mark.parametrize("output", OUTPUTS)
def test_the_mse_of_an_output_is_the_weighted_mse_of_the_data(schedule, output):
    t, z, z_hat = uniform(9, 0.05, 0.95, 1), normal(9, 3, seed=2), normal(9, 3, seed=3)
    x, outputs = known_outputs(schedule, t, z, normal(9, 3, seed=4))
    error = convert(z_hat, x, t, schedule, source="data", target=output) - outputs[output]
    measured = error.square().sum(1) / (z_hat - z).square().sum(1)
    torch.testing.assert_close(x_mse_weight(output, t, schedule), measured)


@every_schedule
def test_the_weights_of_meet_with_its_v_prediction_corrected(schedule):
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    snr, beta = schedule.log_snr(t).exp(), schedule.beta(t)
    torch.testing.assert_close(x_mse_weight("data", t, schedule), torch.ones_like(t))
    torch.testing.assert_close(x_mse_weight("noise", t, schedule), snr)
    torch.testing.assert_close(x_mse_weight("v", t, schedule), beta**2 * (snr + 1) ** 2)
    printed = beta**2 * (1 / snr + 1) ** 2  # with e^{−λ}: right only where λ = 0
    off = (printed / x_mse_weight("v", t, schedule)).log().abs()
    torch.testing.assert_close(off, 2 * schedule.log_snr(t).abs())


def test_the_weight_of_the_flow_matching_field():
    t = torch.linspace(0, 0.95, 20, dtype=torch.float64)
    expected = (1 + (CondOT().log_snr(t) / 2).exp()) ** 2
    torch.testing.assert_close(x_mse_weight("vector_field", t, CondOT()), expected)
    torch.testing.assert_close(expected, 1 / (1 - t) ** 2)


# the ends of time


@pytest.mark.parametrize(
    ("source", "target", "schedule", "t"),
    [
        *[("noise", target, CondOT(), 0.0) for target in ("data", "v", "vector_field")],
        *[("score", target, Cosine(), 0.0) for target in ("data", "v", "vector_field")],
        *[("data", target, VE(), 1.0) for target in ("noise", "v", "vector_field", "score")],
        *[(source, "score", CondOT(), 1.0) for source in ("noise", "v", "vector_field")],
        ("score", "vector_field", LinearVP(), 1.0),
    ],
)
def test_a_singular_conversion_names_its_time(source, target, schedule, t):
    x = normal(3, 2, seed=1)
    message = f"singular at t = {t:g}: {source} does not determine {target}"
    for time in (t, torch.tensor([0.5, t, 0.5])):
        with pytest.raises(ValueError, match=message):
            convert(x, x, time, schedule, source=source, target=target)


@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=repr)
@pytest.mark.parametrize("t", [0.0, 1.0])
@pytest.mark.parametrize("source", ["vector_field", "v"])
def test_field_and_velocity_determine_data_and_noise_at_both_ends(schedule, t, source):
    z, noise, t = normal(4, 2, seed=1), normal(4, 2, seed=2), torch.tensor(t, dtype=torch.float64)
    x, outputs = known_outputs(schedule, t, z, noise)
    for target in ("data", "noise"):
        found = convert(outputs[source], x, t, schedule, source=source, target=target)
        torch.testing.assert_close(found, outputs[target])


class Parabola(Schedule):
    """α_t = t², β_t = 1 − t²: an exact schedule that leaves the noise slowly, α̇_0 = 0."""

    def alpha(self, t):
        return t**2

    def beta(self, t):
        return 1 - t**2

    def alpha_dot(self, t):
        return 2 * t

    def beta_dot(self, t):
        return -2 * t


def test_where_the_noise_is_left_slowly_the_field_says_nothing_at_the_start():
    """The denominator β² α̇ − α β̇ β of the slides, said to be nonzero on [0, 1), is 0 at t = 0 if α̇_0 = 0."""
    x = normal(3, 2, seed=1)
    for target in ("score", "data", "noise"):
        with pytest.raises(ValueError, match=f"singular at t = 0: vector_field does not determine {target}"):
            convert(x, x, 0.0, Parabola(), source="vector_field", target=target)
    t = torch.tensor(0.3, dtype=torch.float64)
    found, outputs = known_outputs(Parabola(), t, x, normal(3, 2, seed=2))
    torch.testing.assert_close(score_from_vector_field(outputs["vector_field"], found, t, Parabola()), outputs["score"])
    torch.testing.assert_close(Parabola().time_at(Parabola().log_snr(t)), t)


def test_a_finite_score_at_the_data_means_no_noise():
    x, score = normal(4, 2, seed=1), normal(4, 2, seed=2)
    assert (noise_from_score(score, x, 1.0, CondOT()) == 0).all()
    torch.testing.assert_close(convert(score, x, 1.0, CondOT(), source="score", target="data"), x)


# wrong use


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: convert(x, x, 0.5, CondOT(), source="u", target="data"), "unknown output 'u'"),
        (lambda x: convert(x, x, 0.5, CondOT(), source="data", target="eps"), "unknown output 'eps'"),
        (lambda x: x_mse_weight("eps", 0.5, CondOT()), "unknown output 'eps'"),
        (lambda x: convert(x[:, :1], x, 0.5, CondOT(), source="data", target="noise"), "one shape"),
        (lambda x: convert(x[0], x, 0.5, CondOT(), source="data", target="noise"), "one shape"),
        (lambda x: score_from_noise(x, x, torch.full((3, 1), 0.5), CondOT()), r"shape \(3,\), got \(3, 1\)"),
        (lambda x: score_from_noise(x, x, torch.full((2,), 0.5), CondOT()), r"shape \(3,\), got \(2,\)"),
        (lambda x: score_from_noise(x, x, torch.full((1,), 0.5), CondOT()), r"shape \(3,\), got \(1,\)"),
        (lambda x: score_from_noise(x, x, 1.5, CondOT()), r"times must be in \[0, 1\]"),
        (lambda x: convert(x, x, -0.5, CondOT(), source="data", target="data"), r"times must be in \[0, 1\]"),
        (lambda x: noise_from_score(x.long(), x.long(), 0.5, CondOT()), "floating point"),
        (lambda x: x_mse_weight("noise", [0.5, 1.0], CondOT()), "singular at t = 1"),
    ],
)
def test_bad_input_gets_a_clear_error(call, words):
    with pytest.raises(ValueError, match=words):
        call(normal(3, 2, seed=0))
