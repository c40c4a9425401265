"""Laws over all states: against closed forms, matrix exponentials, and the loss that they are the mean of."""

import itertools
import math

import pytest
import torch

from fmlab import token_laws
from fmlab.sentences import Sentences, masked_cross_entropy
from fmlab.token_datasets import checkerboard, sudoku
from fmlab.tokens import CosineKappa, PowerKappa, TokenPath, uniform_like
from tests.cases import rng

BOARD, DOUBLE = checkerboard(), torch.float64
SMALL = torch.tensor([[0, 1, 1], [2, 0, 1], [1, 1, 0], [2, 2, 2]])


def test_states_are_all_states_in_the_order_of_their_numbers():
    path = TokenPath(3)
    assert token_laws.states(path, 3).tolist() == [list(x) for x in itertools.product(range(4), repeat=3)]


@pytest.mark.parametrize("masked", [True, False])
def test_the_law_is_that_of_samples_and_its_rates_make_it(masked):
    """Pushed through 400 matrix exponentials from t = 0.1 to 0.6, whose midpoints make an error of second order."""
    path = TokenPath(3, masked, PowerKappa(1.5))
    exact, every = Sentences(SMALL, path, dtype=DOUBLE), token_laws.states(path, 3)
    p, h = token_laws.law(path, 0.1, SMALL), 0.5 / 400
    assert abs(float(p.sum()) - 1) < 1e-12
    for k in range(400):
        t = 0.1 + (k + 0.5) * h
        rates = path.marginal_rate(exact.posterior(every, t), every, t)
        assert float(rates.sum(-1).abs().max()) < 1e-12
        p = p @ torch.linalg.matrix_exp(h * token_laws.whole_matrix(path, rates))
    assert float((p - token_laws.law(path, 0.6, SMALL)).abs().max()) < 1e-6
    assert token_laws.kolmogorov_residual(path, rates, SMALL, t) < 1e-12
    assert token_laws.kolmogorov_residual(path, 1.1 * rates, SMALL, t) > 1e-3


@pytest.mark.parametrize("schedule", [PowerKappa(), PowerKappa(2), CosineKappa()])
def test_a_board_in_steps_is_off_by_half_the_chance_of_a_common_step(schedule):
    """½ Σ (Δκ)², which is 1/(2n) for κ = t."""
    data = torch.zeros(8, 8, dtype=DOUBLE)
    data[tuple(BOARD.T)] = 1 / 32
    for n in (1, 2, 5, 16):
        found = token_laws.law_in_steps(TokenPath(8, schedule=schedule), BOARD, n)
        assert abs(float(found.sum()) - 1) < 1e-12
        wanted = float((schedule.kappa(torch.linspace(0, 1, n + 1, dtype=DOUBLE)).diff() ** 2).sum()) / 2
        assert abs(float((found - data).abs().sum()) / 2 - wanted) < 1e-10


def test_one_step_draws_the_product_of_marginals():
    found = token_laws.law_in_steps(TokenPath(3), SMALL, 1)
    parts = [torch.bincount(SMALL[:, i], minlength=3).double() / 4 for i in range(3)]
    torch.testing.assert_close(found, torch.einsum("a,b,c->abc", *parts))


def test_the_bound_of_the_exact_posterior_is_the_entropy():
    for table, size in ((BOARD, 8), (SMALL, 3), (sudoku(), 4)):
        exact = Sentences(table, TokenPath(size), dtype=DOUBLE)
        found = token_laws.exact_bound(lambda x, exact=exact: exact.posterior(x, 0.5), table[1], size)
        assert abs(found - math.log(len(table))) < 1e-9
        estimate = token_laws.estimated_bound(lambda x, exact=exact: exact.posterior(x, 0.5), table[:100], size, 40)
        assert abs(estimate - math.log(len(table))) < 0.1


def test_the_estimates_of_a_denoiser_that_is_not_exact_agree_with_its_loss():
    """All sentences of the table, 400 rounds against 40 000 draws, within five standard errors of the loss."""
    logits = torch.randn(5, 3, 3, generator=rng(0), dtype=DOUBLE)

    def model(x, t=None):
        return logits[(x == 3).sum(1)] + 0.4 * (x.sum(1) % 5).double()[:, None, None] * logits[4]

    n = 40_000
    z = SMALL[torch.arange(n) % 4]
    t, u = torch.rand(n, generator=rng(1), dtype=DOUBLE), uniform_like(z, rng(2))
    each = [masked_cross_entropy(model, TokenPath(3), *rows) for rows in zip(z.split(400), t.split(400), u.split(400))]
    losses = torch.stack(each)
    exactly = sum(token_laws.exact_bound(lambda x: model(x).softmax(-1), one, 3) for one in SMALL) / 4
    estimate = token_laws.estimated_bound(lambda x: model(x).softmax(-1), SMALL, 3, 400)
    assert abs(float(losses.mean()) - exactly) < 5 * float(losses.std()) / len(losses) ** 0.5
    assert abs(estimate - exactly) < 0.1


def test_with_uniform_noise_the_bound_is_loose():
    """The same for each square, and above the entropy; 4.658 by Gauss quadrature elsewhere."""
    found = [token_laws.uniform_bound(BOARD, 8, BOARD[k]) for k in (0, 13)]
    assert abs(found[0] - found[1]) < 1e-9 and abs(found[0] - 4.658330) < 2e-3 and found[0] > math.log(32)
