"""Autoencoders: the bound against a linear model whose likelihood is known, and reverse water-filling."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from fmlab.autoencoders import (
    VAE,
    collapsed,
    gaussian_kl,
    latent_scale,
    linear_rate,
    reparameterise,
    scaled_time,
    vae_loss,
)
from tests.cases import normal


def test_the_kl_is_torchs():
    mean, log_var = normal(5, 2, 3, seed=0), normal(5, 2, 3, seed=1)
    expected = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(gaussian_kl(mean, log_var), expected, rtol=1e-12, atol=1e-12)
    assert float(gaussian_kl(torch.zeros(1, 4), torch.zeros(1, 4))) == 0


def test_gradients_flow_through_a_sample():
    """E z² = μ² + e^ℓ, exactly where ε is +1 and −1."""
    mean, log_var = normal(6, seed=0).requires_grad_(), normal(6, seed=1).requires_grad_()
    sum((reparameterise(mean, log_var, sign * torch.ones(6)) ** 2).sum() / 2 for sign in (1, -1)).backward()
    torch.testing.assert_close(mean.grad, 2 * mean.detach())
    torch.testing.assert_close(log_var.grad, log_var.detach().exp())


def test_the_loss_is_the_bound_of_a_linear_model():
    """2 s² (−log p(x) + KL(q ‖ posterior)) up to a constant, with x = W z + s ξ; the mean over ε = ±1 is exact."""
    d, k, s2 = 5, 3, 0.4
    w, x = normal(d, k, seed=0), normal(1, d, seed=1)
    mean, log_var = normal(1, k, seed=2), normal(1, k, seed=3)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=k)), dtype=torch.float64)
    z = reparameterise(mean, log_var, signs)
    n = len(signs)
    found = vae_loss(x.expand(n, d), z @ w.T, mean.expand(n, k), log_var.expand(n, k), 2 * s2)
    cov = w @ w.T + s2 * torch.eye(d, dtype=torch.float64)
    log_p = torch.distributions.MultivariateNormal(torch.zeros(d, dtype=torch.float64), cov).log_prob(x)[0]
    precision = torch.eye(k, dtype=torch.float64) + w.T @ w / s2
    posterior = torch.distributions.MultivariateNormal(
        torch.linalg.solve(precision, w.T @ x[0] / s2), precision_matrix=precision
    )
    q = torch.distributions.MultivariateNormal(mean[0], torch.diag(log_var[0].exp()))
    expected = 2 * s2 * (-log_p + kl_divergence(q, posterior) - d / 2 * math.log(2 * math.pi * s2))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variance", [2.3, 0.3])
def test_the_best_linear_autoencoder_keeps_what_lies_above_the_water(variance):
    """One direction: encoder μ = a x, decoder x̂ = w z, exact expectations, minimised by L-BFGS."""
    beta = 0.8
    a, w, log_var = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.5, 0.7, -0.3))

    def parts():
        error = variance * (1 - w * a) ** 2 + w**2 * log_var.exp()
        return error, (a**2 * variance + log_var.exp() - 1 - log_var) / 2

    optimizer = torch.optim.LBFGS([a, w, log_var], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        error, kl = parts()
        loss = error + beta * kl
        loss.backward()
        return loss

    optimizer.step(closure)
    error, kl = (float(part.detach()) for part in parts())
    rate, distortion = linear_rate(torch.tensor([variance], dtype=torch.float64), beta)
    assert abs(error - float(distortion)) < 1e-5 and abs(kl - float(rate)) < 1e-5
    assert abs(float(w.detach()) ** 2 - max(variance - beta / 2, 0)) < 1e-4


def test_the_slope_of_the_rate_distortion_curve_is_minus_beta():
    eigenvalues, beta, h = torch.tensor([3.1, 1.7, 0.6, 0.2], dtype=torch.float64), 0.9, 1e-5
    (r_before, d_before), (r_after, d_after) = (linear_rate(eigenvalues, beta + s * h) for s in (-1, 1))
    assert abs(float((d_after - d_before) / (r_after - r_before)) + beta) < 1e-4


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_a_scale_is_a_shift_of_time(scale):
    z, noise, t = normal(4, 2, seed=0), normal(4, 2, seed=1), 0.35
    later = scaled_time(t, scale)
    factor = 1 + t * (scale - 1)
    torch.testing.assert_close(t * scale * z + (1 - t) * noise, factor * (later * z + (1 - later) * noise))
    assert abs(scaled_time(later, 1 / scale) - t) < 1e-15 and scaled_time(t, 1.0) == t


def test_latents_are_scaled_by_one_number():
    z = 3 * normal(100, 4, 2, 2, seed=0)
    assert abs(float((z / latent_scale(z)).std(correction=0)) - 1) < 1e-12


def test_the_network_squeezes_and_every_weight_learns():
    torch.manual_seed(0)
    vae, x = VAE(), torch.randn(3, 1, 16, 24).clamp(-1, 1)
    decoded, mean, log_var = vae(x, torch.randn(3, 4, 2, 3))
    assert decoded.shape == x.shape and mean.shape == log_var.shape == (3, 4, 2, 3)
    assert float(decoded.abs().max()) <= 1
    vae_loss(x, decoded, mean, log_var, 0.1).backward()
    assert all(bool(weight.grad.any()) for weight in vae.parameters())
    torch.testing.assert_close(vae.encode(x)[0], mean)
    with pytest.raises(ValueError, match="8 divides"):
        vae.encode(torch.zeros(1, 1, 12, 16))


def test_dead_latents_are_those_that_carry_no_nats():
    mean, log_var = torch.zeros(50, 3), torch.zeros(50, 3)
    mean[:, 1], log_var[:, 2] = torch.linspace(-2, 2, 50), -3.0
    assert collapsed(mean, log_var).tolist() == [True, False, False]
