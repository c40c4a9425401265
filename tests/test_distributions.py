"""Densities, scores and samples against torch.distributions, autograd, quadrature and moments."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.natural import floored
from tests.cases import normal, rng


def random_mixture(k: int, d: int, seed: int, scale: float = 1.0, dtype=torch.float64) -> GaussianMixture:
    generator = torch.Generator().manual_seed(seed)
    means = 2 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    factor = torch.randn(k, d, d, generator=generator, dtype=torch.float64)
    covs = scale**2 * (factor @ factor.mT + 0.1 * torch.eye(d, dtype=torch.float64))
    weights = torch.rand(k, generator=generator, dtype=torch.float64) + 0.1
    return GaussianMixture(means.to(dtype), covs.to(dtype), weights.to(dtype))


def torch_mixture(p: GaussianMixture):
    """The same mixture from torch.distributions."""
    components = torch.distributions.MultivariateNormal(p.means, p.covs)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(p.weights), components)


@settings(deadline=None, max_examples=50)
@given(k=st.integers(1, 6), d=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_log_prob_and_score_agree_with_torch_and_autograd(k, d, seed):
    p = random_mixture(k, d, seed)
    x = (3 * torch.randn(20, d, dtype=torch.float64)).requires_grad_()
    log_prob = torch_mixture(p).log_prob(x)
    (score,) = torch.autograd.grad(log_prob.sum(), x)
    torch.testing.assert_close(p.log_prob(x), log_prob, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(p.score(x), score, rtol=1e-8, atol=1e-8)


def test_density_integrates_to_one():
    p = random_mixture(3, 2, seed=1, scale=0.5)
    side = torch.linspace(-15, 15, 1501, dtype=torch.float64)
    density = p.log_prob(torch.cartesian_prod(side, side)).exp()
    assert abs(float(density.sum()) * (30 / 1500) ** 2 - 1) < 1e-6


@pytest.mark.parametrize("k", [1, 4])
def test_samples_have_the_moments_of_the_mixture(k):
    n, p = 200_000, random_mixture(k, 2, seed=2)
    x = p.sample(n, generator=torch.Generator().manual_seed(0))
    centred = x - p.mean
    assert x.dtype == torch.float64
    assert ((x.mean(0) - p.mean).abs() < 6 * (p.cov.diagonal() / n).sqrt()).all()
    products = centred[:, :, None] * centred[:, None, :]
    assert ((products.mean(0) - p.cov).abs() < 6 * products.std(0) / math.sqrt(n)).all()


def test_samples_follow_the_density():
    """The mean score is 0 and E[−s · (x − m)] = d, both only under p itself."""
    n, p = 200_000, random_mixture(3, 2, seed=3)
    x = p.sample(n, generator=torch.Generator().manual_seed(0))
    s = p.score(x)
    stein = -(s * (x - p.mean)).sum(1)
    assert (s.mean(0).abs() < 6 * s.std(0) / math.sqrt(n)).all()
    assert abs(stein.mean() - 2) < 6 * stein.std() / math.sqrt(n)


def test_narrow_components_keep_their_digits_in_single_precision():
    means = 4 * torch.randn(8, 2, generator=torch.Generator().manual_seed(4))
    p = GaussianMixture(means, 0.02**2)
    x = p.sample(5000, generator=torch.Generator().manual_seed(5))
    exact = GaussianMixture(means.double(), float(torch.tensor(0.02**2))).log_prob(x.double())
    assert (p.log_prob(x) - exact).abs().max() < 2e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("k", "d"), [(2, 1), (3, 2), (8, 2), (40, 3)])
def test_the_natural_form_is_the_whitened_one(k, d, dtype, monkeypatch):
    """Far from the origin too, and in blocks of any size. Expanding a square costs the precision that was let go."""
    monkeypatch.setattr("fmlab.natural.LOST", 1e4)
    p = random_mixture(k, d, seed=9, dtype=dtype)
    p = GaussianMixture(p.means + 50, p.covs, p.weights)
    x = p.sample(300, generator=torch.Generator().manual_seed(0))
    log_prob, score = p.log_prob(x), p.score(x)
    monkeypatch.setattr("fmlab.natural.BLOCK", 7 * k)
    lost = torch.finfo(dtype).eps * 2000
    torch.testing.assert_close(p.log_prob(x), log_prob, rtol=lost, atol=lost)
    torch.testing.assert_close(p.score(x), score, rtol=10 * lost, atol=10 * lost)
    assert p._natural is not None
    p._natural = None
    torch.testing.assert_close(log_prob, p.log_prob(x), rtol=lost, atol=lost)
    torch.testing.assert_close(score, p.score(x), rtol=10 * lost, atol=10 * lost)


@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.2, 0.1, 0.05, 0.02])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_log_prob_is_exact_to_four_digits_in_single_precision(sigma, shift):
    means = 2 * torch.randn(8, 2, generator=torch.Generator().manual_seed(4)) + shift
    p = GaussianMixture(means, sigma**2)
    x = p.sample(5000, generator=torch.Generator().manual_seed(5))
    exact = GaussianMixture(means.double(), float(torch.tensor(sigma**2))).log_prob(x.double())
    assert (p.log_prob(x) - exact).abs().max() < 1e-4 * (1 + shift / sigma / 100)


def test_far_away_points_have_finite_log_prob_and_score():
    p = random_mixture(3, 2, seed=6, dtype=torch.float32)
    x = torch.tensor([[1e4, -1e4]])
    assert torch.isfinite(p.log_prob(x)).all() and torch.isfinite(p.score(x)).all()


def test_dtype_follows_the_input():
    p = Gaussian([0.0, 1.0], 2.0)
    assert p.sample(3).dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        x = torch.ones(3, 2, dtype=dtype)
        assert p.log_prob(x).dtype == p.score(x).dtype == dtype


@pytest.mark.parametrize("scale", [1.0, 0.01])  # in natural form, and whitened
def test_log_prob_and_score_are_differentiable_twice(scale):
    p = random_mixture(3, 2, seed=7, scale=scale)
    assert (p._natural is None) == (scale < 1)
    x = p.sample(4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for f in (p.score, p.log_prob):
        assert torch.autograd.gradcheck(f, (x,), eps=1e-8, atol=1e-3, rtol=1e-3)
        assert torch.autograd.gradgradcheck(f, (x,), eps=1e-8, atol=1e-2, rtol=1e-3)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: p.log_prob(x[None])[0]))
    torch.testing.assert_close(jacobian(x.detach()), p.score(x).detach())


def test_covariances_may_be_given_as_variances():
    means = [[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]]
    x = torch.randn(5, 2)
    full = GaussianMixture(means, torch.stack([v * torch.eye(2) for v in (0.5, 1.0, 2.0)]))
    torch.testing.assert_close(GaussianMixture(means, [0.5, 1.0, 2.0]).log_prob(x), full.log_prob(x))
    torch.testing.assert_close(GaussianMixture(means, 2.0).covs, 2 * torch.eye(2).expand(3, 2, 2))


def test_generator_makes_samples_reproducible():
    p = random_mixture(3, 2, seed=8)
    first, second = (p.sample(10, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, p.sample(10, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianMixture([0.0, 1.0], 1.0), "means must have shape"),
        (lambda: GaussianMixture([[0.0, 1.0]], torch.eye(3)[None]), "covs must be"),
        (lambda: GaussianMixture([[0.0], [1.0]], 1.0, [1.0]), "weights must be 2"),
        (lambda: GaussianMixture([[0.0], [1.0]], 1.0, [1.0, -1.0]), "positive"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (lambda: Gaussian([0.0, 0.0], -1.0), "positive definite"),
        (lambda: Gaussian([[0.0, 0.0]], 1.0), "mean must have shape"),
        (lambda: Gaussian([0.0, 0.0], [1.0, 2.0]), "torch.diag"),
        (lambda: Gaussian([0.0, 0.0], 1.0).log_prob(torch.zeros(3)), r"x must have shape \(n, 2\)"),
        (lambda: Gaussian([0.0, 0.0], 1.0).score(torch.zeros(3, 1)), r"x must have shape \(n, 2\)"),
        (lambda: Gaussian([0.0], 1.0).score(torch.zeros(3, 1, dtype=torch.long)), "floating point"),
    ],
)
def test_bad_input_gets_a_clear_error(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("natural", [True, False])
def test_no_weight_of_a_component_is_a_subnormal_number(natural):
    """Processors may take a hundred times as long with them: a time that the law of the points must not decide."""
    angle = torch.arange(8) * math.pi / 4
    mixture = GaussianMixture(3 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.2)
    x, tiny = mixture.sample(4000, generator=rng(0)), torch.finfo(torch.float32).tiny
    raw = torch.distributions.MultivariateNormal(mixture.means, mixture.covs).log_prob(x[:, None])
    assert ((raw.softmax(1) > 0) & (raw.softmax(1) < tiny)).any(), "there would be some"
    if natural:
        weights = mixture._natural._blockwise(lambda z, logits: logits.softmax(0).mT, x)
    else:
        weights = mixture._log_joint(mixture._whitened(x)).softmax(0).mT
    assert (weights >= tiny).all()
    torch.testing.assert_close(weights, raw.softmax(1), rtol=1e-3, atol=1e-6)


def test_a_floor_changes_no_sum_and_no_gradient():
    logits = torch.tensor([[0.0, -3.0, 5.0], [-79.0, -90.0, -1e4], [-200.0, -3.0, 4.0]]).double().requires_grad_()
    for reduce in (lambda x: x.logsumexp(0), lambda x: (x.softmax(0) * torch.arange(3.0)[:, None]).sum(0)):
        one, two = reduce(logits), reduce(floored(logits))
        torch.testing.assert_close(one, two, rtol=1e-15, atol=1e-25)
        for expected, found in zip(*(torch.autograd.grad(value.sum(), logits) for value in (one, two))):
            torch.testing.assert_close(found, expected, rtol=1e-15, atol=1e-25)


def test_what_is_no_tensor_is_refused_in_words():
    mixture = GaussianMixture([[0.3, 1.0]], 0.5)
    for function in (mixture.score, mixture.log_prob):
        with pytest.raises(TypeError, match=r"x must be a tensor of shape \(n, 2\), got float"):
            function(0.4)


@pytest.mark.parametrize("k, d, spread", [(1, 1, 0.5), (1, 3, 0.5), (2, 3, 0.5), (5, 2, 0.5), (5, 2, 1e4)])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_densities_far_from_0_keep_their_digits(k, d, spread, offset):
    """Means as single precision has them, or in between; states in single precision."""
    for between in (0.0, 0.013):
        means = (offset + spread * normal(k, d, seed=1)).float().double() + between
        mixture = GaussianMixture(means, 1.0)
        x = (mixture.sample(200, torch.Generator().manual_seed(0))).float()
        torch.testing.assert_close(mixture.log_prob(x).double(), mixture.log_prob(x.double()), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mixture.score(x).double(), mixture.score(x.double()), rtol=1e-4, atol=1e-4)


def test_a_mixture_keeps_copies():
    means, covs, weights = normal(3, 2, seed=1), 0.5 * torch.eye(2).double().repeat(3, 1, 1), torch.ones(3).double()
    mixture, x = GaussianMixture(means, covs, weights), normal(5, 2, seed=2)
    before = mixture.score(x), mixture.sample(5, torch.Generator().manual_seed(0)), mixture.mean, mixture.cov
    for tensor in (means, covs, weights, mixture.means, mixture.covs, mixture.weights):
        tensor.mul_(7)
    after = mixture.score(x), mixture.sample(5, torch.Generator().manual_seed(0)), mixture.mean, mixture.cov
    assert all(map(torch.equal, before, after))


def test_samples_need_no_factor_each(monkeypatch):
    mixture = GaussianMixture(normal(4, 3, seed=1), torch.rand(4).double() + 0.1)
    whole = mixture.sample(1000, torch.Generator().manual_seed(0))
    monkeypatch.setattr("fmlab.distributions.CHUNK", 20)
    assert torch.equal(mixture.sample(1000, torch.Generator().manual_seed(0)), whole)


@pytest.mark.parametrize("k, variance", [(1, 0.5), (3, 0.5), (3, 1e-8)])
def test_no_samples_and_no_points(k, variance):
    mixture = GaussianMixture(normal(k, 2, seed=1), variance)
    none = mixture.sample(0)
    assert none.shape == (0, 2) and mixture.log_prob(none).shape == (0,) and mixture.score(none).shape == (0, 2)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GaussianMixture([[math.inf], [0.0]], 1.0), "means must be finite"),
        (lambda: GaussianMixture(torch.zeros(2, 1).half(), 1.0), "half precision"),
        (lambda: GaussianMixture([[0.0]], 1.0).sample(-1), "must be ≥ 0"),
    ],
)
def test_means_and_numbers_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
