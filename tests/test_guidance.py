"""Guidance against closed forms on two Gaussians, and on real digits judged by an independent classifier."""

import math

import pytest
import torch
from sklearn.svm import SVC

from fmlab.datasets import Digits
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.guidance import doubly_guided_vector_field, drop_labels, guided_vector_field
from fmlab.losses import guided_flow_matching_loss
from fmlab.models import MLP
from fmlab.paths import GaussianPath
from fmlab.processes import ODE
from fmlab.schedules import CondOT, Cosine
from fmlab.simulators import RK4, Midpoint, simulate
from fmlab.training import train
from tests.cases import gradient, normal, rng

NULL = 2
MEANS = torch.tensor([[-1.0, 0.5], [1.5, 0.0]], dtype=torch.float64)
VARIANCES = torch.tensor([0.2, 0.4], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)


def exact_fields(schedule):
    """Exact u_t(x | y) of two labelled Gaussians, and of both together: a model with labels 0, 1 and NULL."""
    path = GaussianPath(schedule)
    marginals = [path.marginal(Gaussian(m, v)) for m, v in zip(MEANS, VARIANCES)]
    marginals.append(path.marginal(GaussianMixture(MEANS, VARIANCES, WEIGHTS)))
    return marginals, lambda x, t, y: marginals[y].vector_field(x, t)


@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=str)
@pytest.mark.parametrize("y", [0, 1])
def test_guidance_adds_the_gradient_of_the_classifier(schedule, y):
    """ũ = u + w κ ∇ log p_t(y | x), with κ = β² α̇/α − β̇β the factor that turns a score into a field."""
    marginals, model = exact_fields(schedule)
    x, t = normal(40, 2, seed=0), torch.tensor(0.6, dtype=torch.float64)

    def log_posterior(x):
        return marginals[y].log_prob(x, t) + WEIGHTS[y].log() - marginals[NULL].log_prob(x, t)

    alpha, beta = schedule.alpha(t), schedule.beta(t)
    kappa = beta**2 * schedule.alpha_dot(t) / alpha - schedule.beta_dot(t) * beta
    for w in (0.0, 0.5, 1.0, 3.0):
        guided = guided_vector_field(model, y, w, null=NULL)(x, t)
        expected = marginals[NULL].vector_field(x, t) + w * kappa * gradient(log_posterior, x)
        torch.testing.assert_close(guided, expected)


def test_guidance_of_one_and_nought():
    marginals, model = exact_fields(CondOT())
    x = normal(40, 2, seed=1)
    for y in (0, 1):
        torch.testing.assert_close(guided_vector_field(model, y, 1, NULL)(x, 0.4), marginals[y].vector_field(x, 0.4))
        torch.testing.assert_close(guided_vector_field(model, y, 0, NULL)(x, 0.4), marginals[NULL].vector_field(x, 0.4))


def test_samples_of_the_guided_field_at_one_are_the_class():
    _, model = exact_fields(CondOT())
    x0, ts = normal(4000, 2, seed=2), torch.linspace(0, 1, 41)
    for y in (0, 1):
        x = simulate(ODE(guided_vector_field(model, y, 1.0, NULL)), x0, ts, Midpoint())
        error = 5 * math.sqrt(float(VARIANCES[y]) / len(x))
        assert ((x.mean(0) - MEANS[y]).abs() < error).all()
        assert float(x.var(0).mean() / VARIANCES[y]) == pytest.approx(1, abs=0.1)


def test_guidance_of_gaussians_samples_a_law_in_closed_form():
    """The spread s^w S^{1−w} for a class N(m, s²) among all, N(M, S²), which is not that of p(x | y)^w p(x)^{1−w}. Of
    an interval only what both flows do within it counts. A worse model of the same class moves no mean."""
    s, big, a, b, w, schedule = 0.5, 1.2, 0.3, 0.7, 2.0, CondOT()

    def model(mean):
        laws = [Gaussian(torch.tensor([m], dtype=torch.float64), std**2) for m, std in ((0.8, s), (mean, big))]
        fields = [GaussianPath(schedule).marginal(law).vector_field for law in laws]
        return lambda x, t, y: fields[y](x, t)

    def ends(mean, scales):
        """Where −1 and 1 end, of flows with a scale of guidance for each part of [0, 1]."""
        x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
        for (start, end), scale in scales.items():
            ts = torch.linspace(start, end, 101, dtype=torch.float64)
            x = simulate(ODE(guided_vector_field(model(mean), 0, scale, null=1)), x, ts, RK4())
        return x

    def spread(std, t):
        return math.hypot(float(schedule.alpha(t)) * std, float(schedule.beta(t)))

    found = ends(-0.3, {(0, 1): w})
    product = (w / s**2 + (1 - w) / big**2) ** -0.5
    assert float(found.diff(dim=0)) / 2 == pytest.approx(s**w * big ** (1 - w), rel=1e-7)
    assert s**w * big ** (1 - w) < 0.7 * product
    assert float(found.mean()) > 0.85
    within = float(ends(-0.3, {(0, a): 1.0, (a, b): w, (b, 1): 1.0}).diff(dim=0)) / 2
    ratio = spread(s, b) / spread(s, a) * spread(big, a) / spread(big, b)
    assert within == pytest.approx(s * ratio ** (w - 1), rel=1e-7)
    assert float(ends(0.8, {(0, 1): w}).mean()) == pytest.approx(0.8, abs=1e-9)


def test_labels_may_differ_from_point_to_point_and_the_model_knows_its_null_label():
    torch.manual_seed(0)
    model, x, y = MLP(2, labels=3), torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])
    field = guided_vector_field(model, y, 2.5)
    torch.testing.assert_close(field(x, 0.3), 2.5 * model(x, 0.3, y) - 1.5 * model(x, 0.3))


def test_a_model_without_labels_cannot_be_guided():
    with pytest.raises(ValueError, match="needs a model with labels"):
        guided_vector_field(MLP(2), 0, 2.0)


def test_label_dropping_is_at_hand_here_too():
    assert int((drop_labels(torch.zeros(1000).long(), 0.1, 7, rng(0)) == 7).sum()) < 200


@pytest.mark.slow
def test_a_network_draws_the_digit_asked_for():
    """An independent classifier recognises 95 % of unguided and 98 % of guided samples, or more, but for chance."""
    torch.manual_seed(0)
    digits, held_out, path = Digits(), Digits(train=False), GaussianPath()
    classifier = SVC(gamma=0.02, C=10).fit(digits.z.flatten(1).numpy(), digits.y.numpy())
    assert classifier.score(held_out.z.flatten(1).numpy(), held_out.y.numpy()) > 0.98

    def loss(model):
        return guided_flow_matching_loss(model, path, *digits.sample_labelled(256))

    model = train(MLP(64, width=256, depth=3, labels=10), loss, steps=1500, lr=3e-3)
    y = torch.arange(1000) % 10
    for w, share in [(1.0, 0.95), (2.0, 0.98)]:
        with torch.no_grad():
            field = ODE(guided_vector_field(model, y, w))
            x = simulate(field, torch.randn(1000, 1, 8, 8), torch.linspace(0, 1, 21), Midpoint())
        recognised = (classifier.predict(x.flatten(1).numpy()) == y.numpy()).mean()
        assert recognised >= share - 2 * math.sqrt(share * (1 - share) / 1000), (w, recognised)


def test_a_function_says_which_label_is_none():
    with pytest.raises(ValueError, match="null="):
        guided_vector_field(lambda x, t, y: x * y, 1, 2.0)
    assert guided_vector_field(lambda x, t, y: x * y, 1, 2.0, null=0)(torch.ones(1), 0.3) == 2


SPREADS = {(2, 2): 1.3, (0, 2): 0.7, (0, 1): 0.25}  # of all data, of those with a label, and of those with both


def of_two_labels(x, t, y, s):
    """The exact field of centred Gaussians in a plane."""
    return GaussianPath().marginal(Gaussian(torch.zeros(2).double(), SPREADS[y, s] ** 2)).vector_field(x, t)


def test_two_scales_of_one_are_the_field_of_both_labels():
    x, t = normal(30, 2, seed=0), torch.tensor(0.6, dtype=torch.float64)
    for (w, v), labels in {(1, 1): (0, 1), (1, 0): (0, 2), (0, 0): (2, 2)}.items():
        found = doubly_guided_vector_field(of_two_labels, 0, 1, w, v, 2, 2)(x, t)
        torch.testing.assert_close(found, of_two_labels(x, t, *labels))


@pytest.mark.parametrize("w, v", [(1.7, 0.6), (0.4, 1.3), (2.2, 2.2)])
def test_two_scales_multiply_powers_of_spreads(w, v):
    """Fields of centred Gaussians are d log σ_t/dt · x: those that are added up multiply their spreads at t = 1."""
    x0 = normal(50, 2, seed=1)
    field = doubly_guided_vector_field(of_two_labels, 0, 1, w, v, 2, 2)
    ends = simulate(ODE(field), x0, torch.linspace(0, 1, 101, dtype=torch.float64), RK4())
    wide, narrow, narrower = SPREADS.values()
    torch.testing.assert_close(ends, x0 * wide ** (1 - w) * narrow ** (w - v) * narrower**v, rtol=1e-5, atol=1e-8)
