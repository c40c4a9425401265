"""Guidance against closed forms on two Gaussians, and on real digits judged by an independent classifier."""

import math

import pytest
import torch
from sklearn.svm import SVC

from fmlab.distributions import Digits, Gaussian, GaussianMixture
from fmlab.guidance import drop_labels, guided_vector_field
from fmlab.losses import guided_flow_matching_loss
from fmlab.models import MLP
from fmlab.paths import GaussianPath
from fmlab.processes import ODE
from fmlab.schedules import CondOT, Cosine
from fmlab.simulators import Midpoint, simulate
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
