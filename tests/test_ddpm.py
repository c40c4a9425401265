"""The DDPM chain against composed kernels, Bayes' rule, joint Gaussians and the continuous diffusion."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from fmlab.conversions import convert
from fmlab.ddpm import Chain, betas_of, gaussian_kl, vp_betas
from fmlab.distributions import Gaussian, GaussianMixture, log_normal
from fmlab.metrics import convergence_order, energy_distance
from fmlab.paths import GaussianPath
from fmlab.samplers import ddpm
from fmlab.schedules import CondOT, Cosine, LinearVP
from tests.cases import normal, rng

CHAIN = Chain([0.05, 0.1, 0.3, 0.2, 0.6])
VARIANCES = ["beta", "posterior"]


def test_the_kernels_compose_to_the_marginal():
    """Mean and variance of x_k, composed step by step from `step`, are those that `noised` states."""
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    mean, variance = one, zero
    for k in range(1, CHAIN.n_steps + 1):
        mean = CHAIN.step(mean, k, zero)
        variance = CHAIN.step(variance.sqrt(), k, zero) ** 2 + CHAIN.step(zero, k, one) ** 2
        torch.testing.assert_close(CHAIN.noised(one, k, zero), mean)
        torch.testing.assert_close(CHAIN.noised(zero, k, one) ** 2, variance)
    assert torch.equal(CHAIN.noised(one, 0, one), one)


def test_a_step_is_its_kernel():
    torch.testing.assert_close(CHAIN.step(torch.ones(1, 1), 3, torch.zeros(1, 1)) ** 2, torch.full((1, 1), 0.7))
    torch.testing.assert_close(CHAIN.step(torch.zeros(1, 1), 3, torch.ones(1, 1)) ** 2, torch.full((1, 1), 0.3))


@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_posterior_is_bayes_rule(k):
    """log q(x_{k−1} | x_k, x_0) = log q(x_k | x_{k−1}) + log q(x_{k−1} | x_0) − log q(x_k | x_0), at any points."""
    x0, before, now = normal(3, 50, 1, seed=0)
    beta, bars = CHAIN.betas[k], CHAIN.alpha_bars
    bayes = (
        Normal((1 - beta).sqrt() * before, beta.sqrt()).log_prob(now)
        + Normal(bars[k - 1].sqrt() * x0, (1 - bars[k - 1]).sqrt()).log_prob(before)
        - Normal(bars[k].sqrt() * x0, (1 - bars[k]).sqrt()).log_prob(now)
    )
    found = log_normal(before, CHAIN.posterior_mean(now, x0, k), CHAIN.posterior_variance(k) ** 0.5)
    torch.testing.assert_close(found, bayes[:, 0])


def test_the_first_posterior_is_the_data():
    x0, x1 = normal(2, 5, 3, seed=0)
    torch.testing.assert_close(CHAIN.posterior_mean(x1, x0, 1), x0)
    assert CHAIN.posterior_variance(1) == 0


def test_the_models_mean_is_the_posteriors_at_the_predicted_data():
    x, noise = normal(2, 20, 3, seed=0)
    for k in range(1, 6):
        guess = CHAIN.predicted_data(x, noise, k)
        torch.testing.assert_close(CHAIN.noised(guess, k, noise), x)
        torch.testing.assert_close(CHAIN.model_mean(x, noise, k), CHAIN.posterior_mean(x, guess, k))


def test_gaussian_kl_is_torchs():
    means, others = normal(2, 10, 3, seed=0)
    expected = kl_divergence(Normal(means, math.sqrt(0.3)), Normal(others, math.sqrt(0.8))).sum(1)
    torch.testing.assert_close(gaussian_kl(means, 0.3, others, 0.8), expected)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("k", [2, 4, 5])
def test_each_kl_is_a_weighted_noise_mse_and_a_constant(k, variance):
    x0, noise, predicted = normal(3, 20, 3, seed=0)
    found = CHAIN.step_kl(CHAIN.noised(x0, k, noise), x0, predicted, k, variance)
    at_truth = CHAIN.step_kl(CHAIN.noised(x0, k, noise), x0, noise, k, variance)
    ratio = CHAIN.posterior_variance(k) / CHAIN.model_variance(k, variance)
    torch.testing.assert_close(at_truth, torch.full((20,), 3 / 2 * (ratio - 1 - math.log(ratio))).double())
    weight = CHAIN.betas[k] ** 2 / (2 * CHAIN.model_variance(k, variance) * CHAIN.alphas[k] * (1 - CHAIN.alpha_bars[k]))
    torch.testing.assert_close(found - at_truth, weight * (noise - predicted).square().sum(1))
    assert CHAIN.noise_mse_weight(k, variance) == pytest.approx(float(weight))


# --- the chain and the continuous diffusion ----------------------------------------------------------------------


def test_the_chain_converges_to_the_vp_diffusion():
    """√ᾱ_k → α and √(1 − ᾱ_k) → β at t = 1 − k/K, with order 1 in 1/K."""
    schedule, ks, errors = LinearVP(), [100, 200, 400, 800], []
    for n in ks:
        t = 1 - torch.arange(1, n + 1).double() / n
        bars = Chain(vp_betas(schedule, n)).alpha_bars[1:]
        gap = (bars.sqrt() - schedule.alpha(t)).abs() + ((1 - bars).sqrt() - schedule.beta(t)).abs()
        errors.append(float(gap.max()))
    assert float(convergence_order([1 / n for n in ks], errors)) == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.02


def test_one_step_of_the_chain_is_euler_maruyama_up_to_second_order():
    schedule, ns = LinearVP(), [100, 200, 400]
    x, noise = normal(2, 10, 2, seed=0)
    drift_gaps = []
    for n in ns:
        chain, rate = Chain(vp_betas(schedule, n)), schedule.noise_rate(0.5)
        euler_maruyama = x - rate / 2 * x / n + torch.sqrt(rate / n) * noise
        drift_gaps.append(float((chain.step(x, n // 2, noise) - euler_maruyama).abs().max()))
    assert float(convergence_order([1 / n for n in ns], drift_gaps)) == pytest.approx(2, abs=0.1)


def test_the_usual_betas():
    betas = vp_betas(LinearVP(), 1000)
    torch.testing.assert_close(betas[[0, -1]], torch.tensor([1.2e-4, 0.02]).double(), rtol=1e-2, atol=0)


def test_betas_of_a_schedule_have_its_marginals():
    schedule = LinearVP()
    chain = Chain(betas_of(schedule, 50))
    for k in (0, 1, 25, 50):
        torch.testing.assert_close(chain.alpha_bars[k], schedule.alpha(chain.time(k)) ** 2)


def test_ancestral_sampling_is_the_ddpm_sampler():
    """Two derivations of one step: the chain's posterior, and DDIM to λ + 2Δλ with renoising."""
    schedule, x = LinearVP(), normal(100, 2, seed=0)
    marginal = GaussianPath(schedule).marginal(
        GaussianMixture(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]).double(), torch.tensor([0.1, 0.2]).double())
    )

    def model(x, t):
        return convert(marginal.score(x, t), x, t, schedule, source="score", target="noise")

    chain = Chain(betas_of(schedule, 40))
    by_chain = chain.ancestral_sample(model, x, record=True, generator=rng(1))
    by_sampler = ddpm(model, x, schedule, 40, record=True, generator=rng(1))
    assert by_chain.shape == (41, 100, 2)
    torch.testing.assert_close(by_chain, by_sampler, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("variance", VARIANCES)
def test_ancestral_samples_have_the_datas_law(variance):
    schedule = LinearVP()
    p_data = GaussianMixture(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]).double(), torch.tensor([0.1, 0.2]).double())
    marginal = GaussianPath(schedule).marginal(p_data)

    def model(x, t):
        return -schedule.beta(t) * marginal.score(x, t)

    chain = Chain(betas_of(schedule, 150))
    x = chain.ancestral_sample(model, normal(1500, 2, seed=0), variance, generator=rng(1))
    null = [float(energy_distance(p_data.sample(1500, rng(k)), p_data.sample(1500, rng(k + 50)))) for k in range(20)]
    assert float(energy_distance(x, p_data.sample(1500, rng(7)))) < max(null)


# --- the bound, for data N(m, v) and the exact denoiser ----------------------------------------------------------

MEAN, VAR = 0.7, 0.4
NODES, WEIGHTS = (torch.as_tensor(values) for values in np.polynomial.hermite_e.hermegauss(5))
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # E f(ε) = Σ w f(node), exact for polynomials up to degree 9


def exact_noise(chain, k):
    """ε̂(x_k) = E[ε | x_k] for data N(m, v): with V = ᾱ v + 1 − ᾱ, √(1 − ᾱ)/V (x_k − √ᾱ m)."""
    bar = float(chain.alpha_bars[k])
    return lambda x: math.sqrt(1 - bar) / (bar * VAR + 1 - bar) * (x - math.sqrt(bar) * MEAN)


def exact_model(chain):
    return lambda x, t: exact_noise(chain, round((1 - float(t)) * chain.n_steps))(x)


def closed_form_elbo(chain, x0, variance):
    """The bound at x_0, with E_q by quadrature that is exact for the quadratic terms."""
    x0 = torch.full((len(NODES), 1), x0).double()
    total = 0.0
    for k in range(1, chain.n_steps + 1):
        x = chain.noised(x0, k, NODES[:, None])
        noise = exact_noise(chain, k)(x)
        if k == 1:
            term = log_normal(x0, chain.model_mean(x, noise, 1), chain.model_variance(1, variance) ** 0.5)
        else:
            term = -chain.step_kl(x, x0, noise, k, variance)
        total += float(WEIGHTS @ term)
    end = chain.alpha_bars[-1].sqrt() * x0[:1]
    return total - float(gaussian_kl(end, 1 - chain.alpha_bars[-1], 0 * end, 1.0))


def joint_of_model(chain, variance):
    """Mean and covariance of (x_0, …, x_K) under p: an affine chain from x_K ~ N(0, 1) down."""
    n = chain.n_steps
    weights, mean = torch.zeros(n + 1, n + 1).double(), torch.zeros(n + 1).double()  # x = mean + weights @ noises
    weights[n, n] = 1
    for k in range(n, 0, -1):
        zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
        shift = chain.model_mean(zero, exact_noise(chain, k)(zero), k)
        slope = chain.model_mean(one, exact_noise(chain, k)(one), k) - shift
        mean[k - 1] = slope * mean[k] + shift
        weights[k - 1] = slope * weights[k]
        weights[k - 1, k - 1] += math.sqrt(chain.model_variance(k, variance))
    return mean, weights @ weights.T


def kl(mean, cov, other_mean, other_cov):
    """KL between two Gaussians in K dimensions, by linear algebra."""
    p, q = (torch.distributions.MultivariateNormal(m, c) for m, c in ((mean, cov), (other_mean, other_cov)))
    return float(kl_divergence(p, q))


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("x0", [-0.5, 1.3])
def test_the_bound_misses_log_p_by_the_kl_between_the_reverse_processes(variance, x0):
    """log p(x_0) − bound = KL(q(x_1 … x_K | x_0) ‖ p(x_1 … x_K | x_0)), all three computed apart."""
    chain = Chain(vp_betas(LinearVP(), 25))
    n, bars = chain.n_steps, chain.alpha_bars
    mean, cov = joint_of_model(chain, variance)
    log_p = float(Normal(mean[0], cov[0, 0].sqrt()).log_prob(torch.tensor(x0)))
    gain = cov[1:, 0] / cov[0, 0]
    model = mean[1:] + gain * (x0 - mean[0]), cov[1:, 1:] - torch.outer(gain, cov[0, 1:])

    # q(x_1 … x_K | x_0): cov(x_j, x_k) = √(ᾱ_k/ᾱ_j) (1 − ᾱ_j) for j ≤ k
    j = torch.minimum(*torch.meshgrid(torch.arange(1, n + 1), torch.arange(1, n + 1), indexing="ij"))
    k = torch.maximum(*torch.meshgrid(torch.arange(1, n + 1), torch.arange(1, n + 1), indexing="ij"))
    forward = bars[1:].sqrt() * x0, (bars[k] / bars[j]).sqrt() * (1 - bars[j])

    gap = log_p - closed_form_elbo(chain, x0, variance)
    assert gap > 0
    assert gap == pytest.approx(kl(*forward, *model), rel=1e-6)


def mean_gaps(variance, ns):
    """E log p_data(x_0) − E bound(x_0) for data x_0 ~ N(m, v); the first is −½ log(2πe v)."""
    gaps = []
    for n in ns:
        chain = Chain(vp_betas(LinearVP(), n))
        at = [closed_form_elbo(chain, MEAN + math.sqrt(VAR) * float(node), variance) for node in NODES]
        gaps.append(-0.5 * math.log(2 * math.pi * math.e * VAR) - float(WEIGHTS @ torch.tensor(at).double()))
    return gaps


def test_the_bound_tends_to_the_log_likelihood():
    """With more steps the bound rises to the log-likelihood of the data, with order 1 in 1/K."""
    ns = [50, 100, 200]
    gaps = mean_gaps("beta", ns)
    assert all(gap > 0 for gap in gaps)
    assert float(convergence_order([1 / n for n in ns], gaps)) == pytest.approx(1, abs=0.15)


def test_the_posterior_variance_keeps_the_bound_away_from_it():
    """Near the data β̃_k/β_k = (k − 1)/k or so however small the steps, while the true variance is β_k."""
    first, second = mean_gaps("posterior", [100, 200])
    assert second > 0.1 and abs(second - first) < 0.05 * first


@pytest.mark.parametrize("variance", VARIANCES)
def test_elbo_terms_estimate_the_closed_form(variance):
    chain, x0, copies = CHAIN, 1.3, 20_000  # five steps only, so that the prior term counts
    terms = chain.elbo_terms(torch.full((copies, 1), x0).double(), exact_model(chain), variance, generator=rng(0))
    assert terms.step_kls.shape == (4, copies) and terms.elbo.shape == (copies,)
    error = float(terms.elbo.std()) / math.sqrt(copies)
    assert abs(float(terms.elbo.mean()) - closed_form_elbo(chain, x0, variance)) < 4 * error
    end = chain.alpha_bars[-1]
    prior = kl_divergence(Normal(end.sqrt() * x0, (1 - end).sqrt()), Normal(0.0, 1.0))
    torch.testing.assert_close(terms.prior_kl[0], prior)


def test_another_model_has_a_smaller_bound():
    chain, x0 = Chain(vp_betas(LinearVP(), 25)), Gaussian(torch.tensor([MEAN]).double(), VAR).sample(4000, rng(1))
    exact = exact_model(chain)
    bounds = [
        float(chain.elbo_terms(x0, model, generator=rng(0)).elbo.mean())
        for model in (exact, lambda x, t: exact(x, t) + 0.1, lambda x, t: 0.8 * exact(x, t))
    ]
    assert bounds[0] > max(bounds[1:])


def test_images_and_dtypes():
    chain, x0 = Chain([0.1, 0.2, 0.3]), torch.randn(2, 1, 4, 4, generator=rng(0))
    x = chain.ancestral_sample(lambda x, t: 0.1 * x, x0, generator=rng(1))
    assert x.shape == x0.shape and x.dtype == torch.float32
    assert chain.elbo_terms(x0, lambda x, t: 0.1 * x).elbo.shape == (2,)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Chain([0.1, 1.0]), "between 0 and 1, got values from 0.1 to 1"),
        (lambda: Chain([]), "between 0 and 1"),
        (lambda: CHAIN.step(torch.zeros(1, 1), 0, torch.zeros(1, 1)), "k must be from 1 to 5, got 0"),
        (lambda: CHAIN.noised(torch.zeros(1, 1), 6, torch.zeros(1, 1)), "k must be from 0 to 5"),
        (lambda: CHAIN.step_kl(*torch.zeros(3, 1, 1), 1), "k must be from 2"),
        (lambda: CHAIN.model_variance(2, "learned"), "beta"),
        (lambda: vp_betas(LinearVP(), 10), "between 0 and 1"),
        (lambda: betas_of(CondOT(), 10), "preserve the variance"),
        (lambda: betas_of(Cosine(), 10), "between 0 and 1"),
    ],
)
def test_wrong_use_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_each_point_may_have_its_own_step():
    chain, x, noise, k = Chain([0.1, 0.2, 0.3]), torch.randn(4, 2, 2), torch.randn(4, 2, 2), torch.tensor([0, 3, 1, 2])
    each = torch.cat([chain.noised(x[i : i + 1], int(k[i]), noise[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(chain.noised(x, k, noise), each)
    for wrong in (k[:3], k + 1, k.float()):
        with pytest.raises(ValueError, match="whole numbers from 0 to 3"):
            chain.noised(x, wrong, noise)
    with pytest.raises(TypeError, match="one for all points"):
        chain.posterior_mean(x, noise, k)
