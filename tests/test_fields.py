"""One contract for fields: u(x, t) takes t as a number, a 0-dimensional tensor or (n,), and says so of other shapes."""

import pytest
import torch

from fmlab import conversions, guidance, models, paths, processes
from fmlab.checks.inputs import Bent, Field, Powers, Weighted
from fmlab.datasets import Empirical
from fmlab.distributions import GaussianMixture
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, Schedule, coefficient
from tests.cases import normal

MIXTURE = GaussianMixture([[1.0, 0.3], [-0.7, 1.1]], 0.3)
EXACT = paths.GaussianPath(Cosine()).marginal(MIXTURE)
DATA = paths.GaussianPath(Cosine()).marginal(Empirical(normal(7, 2, seed=1)))


def networks():
    torch.manual_seed(0)
    return {
        "MLP": models.MLP(2).double(),
        "guided MLP": guidance.guided_vector_field(models.MLP(2, labels=3).double(), torch.tensor([0, 2, 1]), 1.7),
        "test network": Weighted(dtype=torch.float64),
        "test field": Field(lambda x, t: torch.sin(x) * t + x),
    }


FIELDS = {
    "mixture, field": EXACT.vector_field,
    "mixture, score": EXACT.score,
    "data set, field": DATA.vector_field,
    "data set, score": DATA.score,
    "converted": lambda x, t: conversions.score_from_vector_field(EXACT.vector_field(x, t), x, t, Cosine()),
    "extension, drift": processes.sde_extension(EXACT.vector_field, EXACT.score, 0.7).drift,
    **networks(),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_takes_a_number_one_time_and_a_time_for_each_row(name):
    field, x, t = FIELDS[name], normal(3, 2, seed=2), 0.35
    with torch.no_grad():
        expected = field(x, torch.tensor(t, dtype=x.dtype))
        for time in (t, torch.tensor([t] * 3, dtype=x.dtype), torch.tensor(t, dtype=x.dtype)):
            torch.testing.assert_close(field(x, time), expected, rtol=1e-7, atol=1e-9)
        rows = torch.tensor([0.2, 0.35, 0.81], dtype=x.dtype)
        torch.testing.assert_close(field(x, rows)[1], expected[1], rtol=1e-7, atol=1e-9)
        with pytest.raises((ValueError, RuntimeError), match="shape"):
            field(x, rows[:, None])


@pytest.mark.parametrize("schedule", [Bent(), Powers(), CondOT(), CondOT(0.1), Cosine(), LinearVP(), VE(3.0)], ids=repr)
def test_every_public_method_of_a_schedule_works_on_those_that_checks_hand_in(schedule):
    """On a number, on one time and on a time for each row; derivatives by autograd."""
    t = torch.tensor([0.2, 0.55, 0.83], dtype=torch.float64)
    x, snr = normal(3, 1, 2, 2, seed=3), schedule.log_snr(t)
    torch.testing.assert_close(schedule.time_at(snr), t, rtol=1e-7, atol=1e-7)
    for f, rate in [
        (schedule.alpha, schedule.alpha_dot),
        (schedule.beta, schedule.beta_dot),
        (schedule.log_snr, schedule.log_snr_dot),
        (lambda s: schedule.beta(s) ** 2 / 2, schedule.beta_beta_dot),
    ]:
        exact = torch.autograd.functional.jvp(f, t, torch.ones_like(t))[1]
        torch.testing.assert_close(rate(t), exact, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(rate(0.55), exact[1], rtol=1e-9, atol=1e-9)
    weights = schedule.weights(t, x)
    assert [weight.shape for weight in weights] == [(3, 1, 1, 1)] * 4
    torch.testing.assert_close(weights[1].flatten(), schedule.beta(t))
    assert all(weight.ndim == 0 for weight in schedule.weights(0.55, x))
    assert isinstance(schedule, Schedule)


def test_a_coefficient_may_be_a_number():
    x = normal(4, 3, seed=4)
    assert coefficient(0.4, x) == 0.4
    assert coefficient(torch.ones(4), x).shape == (4, 1)
    assert coefficient(torch.tensor(0.4), x).ndim == 0


def test_times_go_through_vmap_and_forward_mode():
    """Per-sample derivatives in t: the range of a time cannot be looked at there, and is not."""
    t = torch.tensor([0.2, 0.6, 0.9], dtype=torch.float64)
    for schedule in (Cosine(), LinearVP(), Bent()):
        torch.testing.assert_close(torch.func.vmap(schedule.alpha)(t), schedule.alpha(t))
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(schedule.beta))(t), schedule.beta_dot(t))
