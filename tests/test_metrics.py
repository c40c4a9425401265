"""Distances against SciPy, closed forms and their own null; errors against arithmetic."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial import cKDTree
from sklearn.metrics import accuracy_score

from fmlab.metrics import (
    convergence_order,
    diversity,
    energy_distance,
    fidelity,
    nearest_neighbour_distance,
    sliced_wasserstein,
    strong_error,
    weak_error,
)


def normal(n, d, seed, shift=0.0):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + shift


def test_energy_distance_is_scipys_squared_in_one_dimension():
    x, y = normal(700, 1, 0), 1.5 * normal(500, 1, 1, 0.3)
    expected = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert float(energy_distance(x, y)) == pytest.approx(expected, rel=1e-9)


def test_energy_distance_of_shifted_gaussians_has_its_closed_form():
    """In one dimension D(δ) = 2 E|√2 ε + δ| − 2 E|√2 ε|, with E|√2 ε + δ| = √2 (2φ(c) + c (2Φ(c) − 1)), c = δ/√2."""
    n, shift = 5_000, 1.0
    c = shift / math.sqrt(2)
    folded = math.sqrt(2) * (2 * stats.norm.pdf(c) + c * (2 * stats.norm.cdf(c) - 1))
    expected = 2 * folded - 2 * math.sqrt(2) * 2 * stats.norm.pdf(0)
    found = float(energy_distance(normal(n, 1, 2), normal(n, 1, 3, shift)))
    assert abs(found - expected) < 6 * 2 * shift / math.sqrt(
        n
    )  # |difference of means| moves D by at most twice as much


def test_energy_distance_tells_distributions_apart_and_equal_ones_not():
    null = torch.stack([energy_distance(normal(500, 3, 10 + k), normal(500, 3, 40 + k)) for k in range(20)])
    assert energy_distance(normal(500, 3, 1), normal(500, 3, 2)) < 2 * null.max()
    assert energy_distance(normal(500, 3, 1), normal(500, 3, 2, 0.3)) > 3 * null.max()
    assert energy_distance(normal(500, 3, 1), 1.5 * normal(500, 3, 2)) > 3 * null.max()


def test_energy_distance_does_not_depend_on_the_chunks(monkeypatch):
    x, y = normal(300, 2, 0), normal(200, 2, 1)
    whole = energy_distance(x, y)
    monkeypatch.setattr("fmlab.metrics.CHUNK", 7)
    torch.testing.assert_close(energy_distance(x, y), whole)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_energy_distance_keeps_its_digits_in_single_precision(offset):
    """Against the definition, in double precision, of the same points: far below the 2 E‖X − Y‖/n of two equal laws."""
    x, y = (normal(600, 3, seed).float() + offset for seed in (0, 1))
    each = [(a.double()[:, None] - b.double()).norm(dim=2).mean() for a, b in ((x, y), (x, x), (y, y))]
    assert abs(float(energy_distance(x, y)) - float(2 * each[0] - each[1] - each[2])) < 2e-6
    assert float(energy_distance(x, x)) == pytest.approx(0, abs=1e-6)


def test_sliced_wasserstein_is_wasserstein_on_a_line():
    x, y = normal(400, 1, 0), 2 * normal(400, 1, 1, 0.5)
    expected = (x[:, 0].sort().values - y[:, 0].sort().values).square().mean().sqrt()
    torch.testing.assert_close(sliced_wasserstein(x, y), expected)


def test_sliced_wasserstein_of_a_shift_is_the_shift_over_root_d():
    x = normal(500, 4, 0)
    shift = torch.tensor([3.0, 0.0, 0.0, 4.0], dtype=torch.float64)
    found = sliced_wasserstein(x, x + shift, 20_000, generator=torch.Generator().manual_seed(0))
    assert float(found) == pytest.approx(5 / 2, rel=0.02)  # E (vᵀδ)² = ‖δ‖²/d; 20 000 directions: standard error 0.4 %


def test_sliced_wasserstein_takes_sets_of_different_sizes():
    x = normal(300, 2, 0)
    twice = torch.cat([x, x])
    assert float(sliced_wasserstein(x, twice)) == pytest.approx(0, abs=1e-12)
    assert float(sliced_wasserstein(x, twice + 1)) > 0.3


def test_distances_accept_images_and_follow_the_dtype():
    x = torch.randn(20, 1, 4, 4)
    for distance in (energy_distance, sliced_wasserstein):
        assert distance(x, x.flip(0)).dtype == torch.float32
        assert float(distance(x, x.flip(0))) == pytest.approx(0, abs=1e-5)


def test_errors_of_a_simulation():
    x, y = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 4.0], [0.0, 1.0]])
    assert float(strong_error(x, y)) == pytest.approx(2.5)
    assert float(weak_error(x, y)) == pytest.approx(2.5)
    assert float(strong_error(x[:, 0], x[:, 0].flip(0))) == 3 and float(weak_error(x[:, 0], x[:, 0].flip(0))) == 0


@pytest.mark.parametrize("order", [0.5, 1.0, 4.0])
def test_convergence_order_is_the_slope(order):
    hs = 0.5 ** torch.arange(2.0, 9.0, dtype=torch.float64)
    noise = torch.exp(0.1 * torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert float(convergence_order(hs, 3 * hs**order)) == pytest.approx(order)
    expected = stats.linregress(hs.log(), (3 * hs**order * noise).log()).slope
    assert float(convergence_order(hs, 3 * hs**order * noise)) == pytest.approx(expected)


def test_fidelity_is_the_accuracy_of_scikit_learn():
    logits, y = normal(300, 5, 6), torch.arange(300) % 5
    found = fidelity(logits + torch.nn.functional.one_hot(y, 5), y)
    assert float(found) == accuracy_score(y, (logits + torch.nn.functional.one_hot(y, 5)).argmax(1))
    assert 0.3 < found < 0.9


def test_diversity_of_a_gaussian_has_its_closed_form():
    """Two independent points of N(m, s² I) in the plane are at the mean distance √π s, whatever m."""
    y = torch.tensor([0] * 500 + [3] * 2000)
    x = torch.where(y[:, None] == 0, 1.0, 3.0) * normal(2500, 2, 7) + 10 * y[:, None]
    assert float(diversity(x, y)) == pytest.approx(math.sqrt(math.pi) * 2, rel=0.05)
    assert float(diversity(x.reshape(-1, 1, 2, 1), y)) == pytest.approx(float(diversity(x, y)))


def test_nearest_neighbours_are_those_of_a_tree():
    x, data = normal(300, 3, 8), normal(1000, 3, 9)
    distances, _ = cKDTree(data).query(x)
    np.testing.assert_allclose(nearest_neighbour_distance(x.reshape(300, 1, 3), data.reshape(1000, 1, 3)), distances)
    assert (nearest_neighbour_distance(data.float() + 100, data.float() + 100) == 0).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: fidelity(torch.zeros(3, 2), torch.zeros(4).long()),
        lambda: diversity(torch.zeros(3, 2), torch.tensor([0, 0, 1])),
        lambda: nearest_neighbour_distance(torch.zeros(3, 2), torch.zeros(3, 1)),
        lambda: energy_distance(torch.zeros(3, 2), torch.zeros(3, 1)),
        lambda: sliced_wasserstein(torch.zeros(0, 2), torch.zeros(3, 2)),
        lambda: strong_error(torch.zeros(3, 2), torch.zeros(3)),
        lambda: weak_error(torch.zeros(3), torch.zeros(4)),
        lambda: convergence_order(torch.tensor([0.1]), torch.tensor([0.1])),
    ],
)
def test_bad_input_gets_a_clear_error(call):
    with pytest.raises(ValueError, match="got"):
        call()


@pytest.mark.parametrize("n, m", [(5, 7), (4, 6), (1, 9), (3, 3), (40, 41)])
def test_sliced_wasserstein_is_exact_for_any_sizes(n, m):
    """Each point as often as to make both sets as large as n m is the same distribution."""
    x, y = normal(n, 3, seed=1), normal(m, 3, seed=2, shift=0.3)
    exact = sliced_wasserstein(x.repeat(m, 1), y.repeat(n, 1), generator=torch.Generator().manual_seed(0))
    found = sliced_wasserstein(x, y, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, exact)


def test_sliced_wasserstein_tells_shares_apart():
    x, y = torch.tensor([0.0, 0, 1, 1, 1])[:, None], torch.tensor([0.0, 0, 0, 1, 1, 1, 1])[:, None]
    assert float(sliced_wasserstein(x, y)) == pytest.approx((3 / 5 - 4 / 7) ** 0.5, rel=1e-5)


def test_distances_of_a_set_from_itself_have_the_gradient_0():
    for distance in (sliced_wasserstein, energy_distance):
        x = normal(6, 2, seed=1).requires_grad_()
        distance(x, x.detach().clone()).backward()
        assert x.grad.isfinite().all() and x.grad.abs().max() < 1e-7


@pytest.mark.parametrize("apart", [0.0, 1e2, 1e4, 1e6])
def test_energy_distance_of_clusters_far_from_each_other(apart):
    """Both sets have the same shares in two clusters: what differs is within them."""
    side = torch.tensor([0.0, apart, 0.0, 0.0]).repeat(200)[:, None]
    x, y = (side + normal(800, 2, seed=seed, shift=shift) for seed, shift in ((1, 0.0), (2, 0.5)))
    exact = energy_distance(x.float().double(), y.float().double())
    assert float(energy_distance(x.float(), y.float())) == pytest.approx(float(exact), rel=max(1e-3, 1e-7 * apart))


@pytest.mark.parametrize("distance", [energy_distance, sliced_wasserstein], ids=lambda f: f.__name__)
def test_distances_have_second_derivatives(distance):
    def fixed(x, y):
        return (
            distance(x, y, generator=torch.Generator().manual_seed(0))
            if distance is not energy_distance
            else (distance(x, y))
        )

    x, y = normal(5, 2, seed=1).requires_grad_(), normal(4, 2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(fixed, (x, y)) and torch.autograd.gradgradcheck(fixed, (x, y))
    modes = (partial(torch.func.jacfwd, randomness="same"), torch.func.jacrev)
    forward, backward = (mode(mode(fixed))(x.detach(), y.detach()) for mode in modes)
    torch.testing.assert_close(forward, backward)
