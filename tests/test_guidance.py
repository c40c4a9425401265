"""Guidance against closed forms on two Gaussians, and on real digits judged by an independent classifier."""

import math

import pytest
import torch
from sklearn.svm import SVC

from fmlab.datasets import Digits
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.guidance import (
    autoguided_field,
    batch_guidance,
    classifier_guided_field,
    doubly_guided_vector_field,
    drop_labels,
    guidance_in_interval,
    guided_std,
    guided_vector_field,
    inpaint,
    measurement_log_prob,
    negative_field,
)
from fmlab.losses import guided_flow_matching_loss
from fmlab.models import MLP
from fmlab.paths import GaussianPath
from fmlab.processes import ODE
from fmlab.schedules import CondOT, Cosine
from fmlab.simulators import RK4, Euler, Midpoint, simulate
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


# --- laws in closed form ----------------------------------------------------------------------------------------------

ROUNDING = 1e-9  # of a time, which keeps a grid on one side of a jump


def gaussian(mean: float, std: float, schedule=None):
    """The exact field of a Gaussian path on the line."""
    return GaussianPath(schedule).marginal(Gaussian(torch.tensor([mean], dtype=torch.float64), std**2)).vector_field


def law(field, *grid: float) -> tuple[float, float]:
    """Mean and standard deviation at t = 1 of an affine flow, which goes by parts between the times of a grid."""
    x, grid = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), grid or (0.0, 1.0)
    for start, end in zip(grid, grid[1:]):
        x = simulate(ODE(field), x, torch.linspace(start, end, 101, dtype=torch.float64), RK4())
    return float(x.mean()), float(x.diff(dim=0)) / 2


def with_and_without(x, t, y):
    """N(1, 0.5²) for label 0 among all data, N(0, 1.3²), which is label 1; and label 2, N(−1, 0.5²)."""
    return gaussian(*((1.0, 0.5), (0.0, 1.3), (-1.0, 0.5))[y])(x, t)


@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=str)
@pytest.mark.parametrize("s, big, w", [(0.5, 1.3, 2.0), (0.7, 0.4, 1.6), (1.2, 0.9, 0.3)])
def test_the_spread_of_a_guided_flow(s, big, w, schedule):
    good, bad = gaussian(0.4, s, schedule), gaussian(-0.3, big, schedule)
    found = law(lambda x, t: w * good(x, t) + (1 - w) * bad(x, t))[1]
    assert found == pytest.approx(guided_std(s, big, w), rel=1e-6)


def test_the_numbers_of_lab_6():
    """At w = 2: 1.258 ± 0.192 beside 1.080 ± 0.367 of the tilted law."""
    mean, std = law(guided_vector_field(with_and_without, 0, 2.0, null=1))
    assert (round(mean, 3), round(std, 3)) == (1.258, 0.192)
    precision = 2 / 0.5**2 - 1 / 1.3**2
    assert (round(2 / 0.5**2 / precision, 3), round(precision**-0.5, 3)) == (1.080, 0.367)


@pytest.mark.parametrize("start, end, w", [(0.3, 0.7, 2.0), (0.0, 0.4, 1.7), (0.45, 0.9, 3.0)])
def test_in_an_interval_only_what_both_flows_do_within_counts(start, end, w):
    field = guidance_in_interval(with_and_without, 0, w, start, end, null=1)
    before = (0.0, start - ROUNDING) if start else ()
    _, found = law(field, *before, start, end - ROUNDING, end, 1.0)

    def grown(std):
        return math.hypot(end * std, 1 - end) / math.hypot(start * std, 1 - start)

    assert found == pytest.approx(0.5 * (grown(0.5) / grown(1.3)) ** (w - 1), rel=1e-6)


def test_outside_of_the_interval_the_model_is_called_once():
    calls = []

    def model(x, t, y):
        calls.append(y)
        return x * y

    field, x, t = (
        guidance_in_interval(model, 1, 2.5, 0.25, 0.75, null=0),
        torch.ones(3, 2),
        torch.tensor([0.2, 0.25, 0.75]),
    )
    assert field(x, 0.1).equal(x) and calls == [1]
    assert field(x, t).equal(torch.tensor([[1.0], [2.5], [1.0]]).expand(3, 2)) and calls == [1, 1, 0]


def test_autoguidance_by_a_wider_model_of_the_same_mean_leaves_the_mean_alone():
    mean, std = law(autoguided_field(gaussian(1.0, 0.5), gaussian(1.0, 1.3), 2.0))
    assert mean == pytest.approx(1, abs=1e-6) and std == pytest.approx(guided_std(0.5, 1.3, 2.0), rel=1e-6)


def test_a_negative_label_of_the_same_spread_moves_the_mean_alone():
    mean, std = law(negative_field(with_and_without, 0, 2, 2.5))
    assert mean == pytest.approx(1 + 1.5 * 2, abs=1e-6) and std == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("t", [0.3, torch.tensor(0.3), torch.tensor([0.3, 0.9, 0.1, 0.4, 0.5])], ids=str)
@pytest.mark.parametrize("y", [1, torch.tensor([0, 1, 2, 0, 1])], ids=str)
def test_one_batch_of_both_is_guidance_in_one_call(t, y):
    torch.manual_seed(0)
    model, x = MLP(2, labels=3), torch.randn(5, 2)
    calls = []
    model.register_forward_hook(lambda module, given, found: calls.append(len(given[0])))
    found = batch_guidance(model, x, t, y, 2.5)
    assert calls == [10]
    torch.testing.assert_close(found, guided_vector_field(model, y, 2.5)(x, t))


@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=str)
def test_a_classifier_of_scale_one_makes_the_field_of_the_label(schedule):
    marginals, _ = exact_fields(schedule)
    everything, t = marginals[NULL], torch.tensor([0.2, 0.6, 0.95, 0.4], dtype=torch.float64)
    x = normal(4, 2, seed=3)
    for label in marginals[0], marginals[1]:
        field = classifier_guided_field(
            everything.vector_field, lambda x, t, p=label: p.log_prob(x, t) - everything.log_prob(x, t), 1.0, schedule
        )
        with torch.no_grad():
            torch.testing.assert_close(field(x, t), label.vector_field(x, t))
            torch.testing.assert_close(field(x, 0.3), label.vector_field(x, 0.3))
    with pytest.raises(ValueError, match="α_t = 0"):
        field(x, 0.0)


def measured(posterior_cov, start: float = 1e-7):
    """The flow of N(0, 1.3²), of which 1 was measured with the error 0.4."""
    prior = gaussian(0.0, 1.3)

    def log_likelihood(x, t):
        cov = torch.as_tensor(posterior_cov(t), dtype=torch.float64).reshape(1, 1)
        one = torch.ones(1, 1, dtype=torch.float64)
        return measurement_log_prob(x + (1 - t) * prior(x, t), cov, one, one[0], 0.4**2)

    return law(classifier_guided_field(prior, log_likelihood), start, 1.0)


def test_a_measurement_with_the_right_covariance_ends_at_the_posterior():
    mean, std = measured(lambda t: (1 - t) ** 2 / (t**2 + (1 - t) ** 2 / 1.3**2))
    precision = 1 / 1.3**2 + 1 / 0.4**2
    assert mean == pytest.approx(1 / 0.4**2 / precision, abs=1e-6)
    assert std == pytest.approx(precision**-0.5, abs=1e-6)


def test_without_the_covariance_it_ends_far_too_narrow():
    """Diffusion posterior sampling: ḋ/d = v̇/2v − (1 − t) t S⁴/(v² r²) for v = t² S² + (1 − t)²."""
    s, r = 1.3, 0.4
    std = measured(lambda t: 0.0)[1]
    ts = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    v = ts**2 * s**2 + (1 - ts) ** 2
    push = (1 - ts) * ts * s**4 / v**2 / r**2
    expected = s * math.exp(-float(torch.trapezoid(push, ts)))
    assert std == pytest.approx(expected, rel=1e-5)
    assert std == pytest.approx(0.0066, abs=5e-5)


def test_the_density_of_a_measurement_is_torchs():
    mean, factor, a = normal(5, 3, seed=4), normal(5, 3, 3, seed=5), normal(2, 3, seed=6)
    y, cov = normal(2, seed=7), factor @ factor.mT
    for given in cov, cov[0]:
        spread = 0.3 * torch.eye(2, dtype=torch.float64) + a @ given @ a.T
        expected = torch.distributions.MultivariateNormal(mean @ a.T, spread).log_prob(y)
        torch.testing.assert_close(measurement_log_prob(mean, given, a, y, 0.3), expected)


def test_inpainting_moves_known_pixels_along_straight_lines():
    """It is Euler's method for a field that is changed at known pixels."""
    known, mask, noise = (
        normal(1, 3, 2, seed=8),
        torch.rand(1, 3, 2, generator=rng(9)) < 0.5,
        normal(4, 1, 3, 2, seed=10),
    )

    def field(x, t):
        return torch.sin(x + t) - x.roll(1, -1)

    def changed(x, t):
        seen = torch.where(mask, t * known + (1 - t) * noise, x)
        return torch.where(mask, known - noise, field(seen, t))

    expected = simulate(ODE(changed), noise, torch.linspace(0, 1, 8, dtype=torch.float64), Euler())
    found = inpaint(field, known, mask, noise, 7)
    torch.testing.assert_close(found, expected)
    assert found[:, mask].equal(known[mask].expand(4, -1))


def test_inpainting_is_exact_for_independent_pixels_and_not_for_others():
    """Where pixels do not depend on each other, there is nothing to be told; where they are equal, the unknown one
    should end at the known one, and ends short of it."""
    noise, mask, known = (
        normal(2000, 2, seed=11),
        torch.tensor([True, False]),
        torch.tensor([1.0, 7.0], dtype=torch.float64),
    )

    def ends(cov):
        marginal = GaussianPath().marginal(Gaussian(torch.zeros(2, dtype=torch.float64), torch.tensor(cov).double()))
        return inpaint(marginal.vector_field, known, mask, noise, 200)[:, 1]

    assert float(ends([[1.0, 0.0], [0.0, 1.0]]).std()) == pytest.approx(float(noise[:, 1].std()), rel=0.01)
    alike = ends([[1.0, 0.999], [0.999, 1.0]])
    assert float((alike - 1).square().mean()) > 20 * (1 - 0.999**2)
