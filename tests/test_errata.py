"""One test per entry of labs/errata.md: the printed formula is wrong, the corrected one right, in numbers."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from fmlab.conversions import convert
from fmlab.datasets import Empirical
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.paths import GaussianPath
from fmlab.processes import SDE, ornstein_uhlenbeck
from fmlab.samplers import sample_flow
from fmlab.schedules import CondOT, Cosine, LinearVP
from fmlab.simulators import Euler, simulate
from tests.cases import gradient, normal, rng

ERRATA = (Path(__file__).parents[1] / "labs/errata.md").read_text()
MIXTURE = GaussianMixture(torch.tensor([[2.0, 0.0], [-1.0, 0.5]]).double(), torch.tensor([0.1, 0.3]).double())


def test_every_entry_has_its_test_and_every_test_its_entry():
    numbers = [int(number) for number in re.findall(r"^## (\d+)\.", ERRATA, re.M)]
    named = re.findall(r"^Test: `(\w+)`$", ERRATA, re.M)
    here = [name for name in globals() if re.match(r"test_\d+_", name)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert named == here
    assert [int(name.split("_")[1]) for name in named] == numbers


def close(found, expected, rel=1e-6):
    return float(found) == pytest.approx(float(expected), rel=rel)


@pytest.mark.parametrize("alpha, sigma", [(0.8, 0.6), (0.3, 0.7), (0.6, 0.8)])
def test_1_v_prediction_factor(alpha, sigma):
    x, noise, guess = normal(3, 50, 2, seed=0)
    z, snr = alpha * x + sigma * noise, 2 * np.log(alpha / sigma)
    v, v_guess = alpha * noise - sigma * x, alpha * (z - alpha * guess) / sigma - sigma * guess
    factor = (v_guess - v).square().sum() / (guess - x).square().sum()
    assert close(factor, sigma**2 * (np.exp(snr) + 1) ** 2)
    assert not close(factor, sigma**2 * (np.exp(-snr) + 1) ** 2, rel=0.1)


def test_2_noise_scale_of_the_forward_sde():
    """For dX = −X dt + dW, whose variance is that of an Ornstein–Uhlenbeck process."""
    t, f, g = 0.8, -1.0, 1.0
    truth = ornstein_uhlenbeck(1.0, 1.0).moments(torch.zeros(1).double(), t)[1]
    integral = quad(lambda s: g**2 * np.exp(-2 * f * s), 0, t)[0]
    a = np.exp(f * t)
    assert close(a**2 * integral, truth)
    for printed_scale in (integral, integral**0.5):
        assert not close(printed_scale**2, truth, rel=0.1)


def test_3_tweedie_denominator():
    marginal, t, x = GaussianPath(Cosine()).marginal(MIXTURE), 0.8, normal(20, 2, seed=0)
    a, s = Cosine().alpha(t).double(), Cosine().beta(t).double()
    score = gradient(lambda x: marginal.log_prob(x, t), x)
    average = a * marginal.posterior_mean(x, t) - x  # linear in X_0, so the average of X_0 will do
    torch.testing.assert_close(average / s**2, score, rtol=1e-5, atol=1e-5)
    assert float((average / s - score).norm() / score.norm()) > 0.5


def test_4_square_root_of_g():
    """The VP diffusion has g = √b for its noise rate b, in the diffusion's own time r = 1 − t."""
    schedule, r = LinearVP(), torch.tensor(0.3).double().requires_grad_()
    alpha, sigma = schedule.alpha(1 - r), schedule.beta(1 - r)
    slope = torch.autograd.grad(sigma / alpha, r, retain_graph=True)[0]
    product, g = (2 * alpha * sigma * slope).detach(), schedule.noise_rate(0.3).sqrt()
    assert close(product**0.5, g) and not close(product, g, rel=0.1)
    epsilon = 0.7 * g
    assert close(epsilon / product**0.5, 0.7) and not close(epsilon / product, 0.7, rel=0.1)


def test_5_flow_matching_walks_to_the_data():
    x, noise = normal(2, 50, 2, seed=0)
    t, h = 0.5, 0.1
    z = t * x + (1 - t) * noise
    printed, right = z - (x - noise) * h, z + (x - noise) * h
    torch.testing.assert_close(right, (t + h) * x + (1 - t - h) * noise)
    assert ((printed - x).norm(dim=1) > (z - x).norm(dim=1)).all()
    assert ((right - x).norm(dim=1) < (z - x).norm(dim=1)).all()


def test_6_the_field_depends_on_time():
    """Euler's method for data N(2, ¼), from the mean of the noise: with the time it ends at the mean of the data."""
    field = GaussianPath(CondOT()).marginal(Gaussian(torch.tensor([2.0]).double(), 0.25)).vector_field
    x0 = torch.zeros(1, 1).double()
    assert close(sample_flow(field, x0, 100, Euler()), 2.0, rel=0.01)
    assert not close(sample_flow(lambda x, t: field(x, 0.0), x0, 100, Euler()), 2.0, rel=0.1)


def test_7_the_price_of_noise_is_eta_squared():
    """Data N(0, 1) stay N(0, 1) under a VP diffusion, in both directions; the printed drift makes them N(0, η)."""
    schedule, eta, n = LinearVP(), 2.0, 20_000

    def variance(factor):
        def drift(y, t):
            rate = schedule.noise_rate(1 - t)  # f = −b/2, g² = b, ∇ log p = −y
            return rate / 2 * y - factor * rate / 2 * y

        backward = SDE(drift, lambda y, t: eta * schedule.noise_rate(1 - t).sqrt())
        ts = torch.linspace(0, 0.5, 401)
        return simulate(backward, normal(n, 1, seed=0), ts, generator=rng(1)).var()

    error = 4 * (2 / n) ** 0.5 + 0.03  # four standard errors, and h b (1 + η²)/4 or so of the method
    assert abs(float(variance(1 + eta**2)) - 1) < error
    assert abs(float(variance(1 + eta)) - eta) < 2 * error  # far from 1


def test_8_the_score_averages_gradients():
    z, t, point = normal(5, 1, seed=0), 0.6, torch.tensor([[0.4]]).double()
    path, points = GaussianPath(CondOT()), Empirical(z)
    marginal = path.marginal(points)
    weights = marginal.posterior_weights(point, t)[0]
    score = gradient(lambda x: marginal.log_prob(x, t), point)
    at_each = point.expand(5, 1)
    gradients = gradient(lambda x: path.log_prob(x, z, t), at_each)[:, 0]
    assert close(weights @ gradients, score)
    assert not close(weights @ path.log_prob(at_each, z, t), score, rel=0.1)


def losses():
    """A model that is off by 1 in x̂, on CondOT for s from 0.1 to 0.6 in MEET's time, weighted by w(λ) = 1/(1 + e^λ)."""

    def snr(s):
        return CondOT().log_snr(torch.tensor(1 - s).double())

    def snr_dot(s):
        return -float(CondOT().log_snr_dot(torch.tensor(1 - s).double()))

    def weight(snr):
        return 1 / (1 + np.exp(snr))

    def over_time(sign):
        return quad(lambda s: weight(float(snr(s))) * sign * snr_dot(s), 0.1, 0.6)[0]

    def over_snr(factor):
        return quad(lambda value: weight(value) * factor(value), float(snr(0.6)), float(snr(0.1)))[0]

    return over_time, over_snr


def noise_mse(snr):
    """E‖ε̂ − ε‖² for ‖x̂ − x‖² = 1, by converting both on CondOT."""
    t = CondOT().time_at(torch.tensor(snr).double())
    x, zero, one = torch.zeros(1, 1).double(), torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    noises = [convert(data, x, t, CondOT(), source="data", target="noise") for data in (zero, one)]
    return float((noises[1] - noises[0]) ** 2)


def test_9_the_loss_is_positive():
    over_time, over_snr = losses()
    assert over_time(+1) < 0 < over_time(-1)
    assert close(over_time(-1), over_snr(lambda snr: 1.0))


def test_10_the_integral_over_the_log_snr():
    over_time, over_snr = losses()
    assert close(over_snr(lambda snr: np.exp(-snr) * noise_mse(snr)), over_time(-1), rel=1e-5)
    assert not close(over_snr(noise_mse), over_time(-1), rel=0.1)


def test_11_the_field_moves_with_the_point():
    field = GaussianPath(CondOT()).marginal(Gaussian(torch.tensor([2.0]).double(), 0.25)).vector_field
    x0 = normal(2000, 1, seed=0)
    moving, fixed = sample_flow(field, x0, 100), sample_flow(lambda x, t: field(x0, t), x0, 100)
    assert close(moving.std(), x0.std() / 2, rel=0.01)
    assert not close(fixed.std(), x0.std() / 2, rel=0.1)
