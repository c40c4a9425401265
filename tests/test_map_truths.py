"""What lab 8 asks for, tried on Gaussian data: right answers leave rounding, and every wrong one what can be seen."""

import pytest
import torch

from fmlab import flow_maps
from fmlab.checks import lab as labs
from fmlab.distributions import Gaussian
from fmlab.exercises.lab8 import FLAT
from fmlab.paths import GaussianPath
from tests.labs import solutions, source

CARDS = labs.load("lab8").exercises
ANSWERS = solutions(source("lab8"))
MEAN, STD, N = torch.tensor([1.0, -0.5], dtype=torch.float64), 0.6, 500
FLOW_MAP = flow_maps.GaussianFlowMap(MEAN, STD)
FIELD = GaussianPath().marginal(Gaussian(MEAN, STD**2)).vector_field
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, 2, dtype=torch.float64, generator=GENERATOR)
S, T = torch.rand(2, N, dtype=torch.float64, generator=GENERATOR).sort(dim=0).values
V = flow_maps.average_velocity(FLOW_MAP)

ASKED = {  # exercise → its arguments, and what is right
    "gaussian_flow_map": ((X, S, T, MEAN, STD), FLOW_MAP(X, S, T)),
    "lagrangian_residual": ((FLOW_MAP, FIELD, X, S, T), 0 * X),
    "eulerian_residual": ((FLOW_MAP, FIELD, X, S, T), 0 * X),
    "semigroup_target": ((V, X, S, T), V(X, S, T)),
    "eulerian_target": ((V, FIELD, X, S, T), V(X, S, T)),
    "lagrangian_target": ((V, FIELD, X, S, T), V(X, S, T)),
}
UNSEEN = {  # by exact maps, which obey their equations backwards too, and chain: a residual of 0 has no sign
    FLAT,  # and by points
    "the sign is reversed",
    "the residual was squared",
    "the sign is reversed: rate minus field",
    "s and t are exchanged",
    "this is v of the whole step; make two half steps",
}


def rms(error: torch.Tensor) -> float:
    return float(error.square().sum(1).mean().sqrt())


@pytest.mark.parametrize("name", ASKED)
def test_a_right_answer_leaves_rounding(name):
    args, right = ASKED[name]
    assert rms(ANSWERS[name](*args) - right) < 1e-10


@pytest.mark.parametrize("name", ASKED)
def test_every_mistake_can_be_seen(name):
    args, right = ASKED[name]
    for words, mistake in CARDS[name].mistakes.items():
        if words in UNSEEN or "coefficient(t, x) gives" in words:
            continue
        given = CARDS[name].terms(*args) if CARDS[name].terms else args
        assert rms(mistake(*given) - right) > 0.03, words


def test_the_sign_of_mean_flow_is_plus_in_this_direction_of_time_and_minus_in_the_papers():
    """The paper's time is r = 1 − t, its velocity −u, its average velocity anchored at the later end: one and the same
    identity in both."""
    velocity = FIELD(X, S)
    zeros, ones = torch.zeros_like(T), torch.ones_like(S)
    change = torch.func.jvp(V, (X, S, T), (velocity, ones, zeros))[1]
    assert rms(velocity + (T - S)[:, None] * change - V(X, S, T)) < 1e-10

    def papers(x, r, end):  # average over [r, end], in time from data to noise, at a state of the time `end`
        return -V(x, 1 - end, 1 - r)

    r, end, own = 1 - T, 1 - S, -velocity
    change = torch.func.jvp(papers, (X, r, end), (own, zeros, ones))[1]
    assert rms(own - (end - r)[:, None] * change - papers(X, r, end)) < 1e-10


def test_a_missing_stop_shows_in_the_gradient_alone():
    """At an average velocity off the truth: values agree to the last digit, gradients do not."""
    z, noise = MEAN + STD * X, X.flip(0)
    weight = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    v = lambda x, s, t: weight * V(x, s, t)  # noqa: E731
    loss = ANSWERS["mean_flow_loss"](v, z, noise, S, T)
    wrong = CARDS["mean_flow_loss"].mistakes["the gradient runs through the target too; .detach() it"]
    leaky = wrong(v, z, noise, S, T)
    assert loss.item() == pytest.approx(leaky.item(), rel=1e-12)
    (right,), (other,) = (torch.autograd.grad(value, weight) for value in (loss, leaky))
    assert abs(float(right - other)) > 0.05 * abs(float(right))
