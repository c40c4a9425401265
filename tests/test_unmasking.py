"""Sampling tokens against laws that are vectors, and steps that are matrices."""

import math

import pytest
import torch
from scipy import stats

from fmlab.simulators import simulate
from fmlab.tokens import CosineKappa, PowerKappa, TokenPath
from fmlab.unmasking import Unmasking, sample_tokens
from tests.cases import rng
from tests.test_tokens import BOARD, exact, law, states, sudoku


def one_step(path: TokenPath, t: float, s: float) -> torch.Tensor:
    """The matrix of a step from t to s, token by token: (S, S)."""
    every = states(path)
    turned = float((path.schedule.kappa(s) - path.schedule.kappa(t)) / (1 - path.schedule.kappa(t)))
    clean = path.clean(exact(path).posterior(every, torch.tensor(t).double()), every)
    stay = torch.nn.functional.one_hot(every, path.symbols).double()
    each = (1 - turned) * stay + turned * clean  # (S, D, symbols)
    return torch.stack([each[:, 0, y[0]] * each[:, 1, y[1]] for y in every.tolist()], dim=1)


def share(path: TokenPath, x: torch.Tensor) -> torch.Tensor:
    """How many of some sentences are which state."""
    number = (x * torch.tensor([path.symbols, 1])).sum(1)
    return torch.bincount(number, minlength=path.symbols**2).double()


def agree(counts: torch.Tensor, probs: torch.Tensor) -> None:
    """Counts are those of draws from a law, by the χ² test."""
    assert float(counts[probs < 1e-14].sum()) == 0
    counts, probs = counts[probs >= 1e-14], probs[probs >= 1e-14]
    assert stats.chisquare(counts.numpy(), (probs / probs.sum() * counts.sum()).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("schedule", [PowerKappa(1.5), CosineKappa()], ids=["power", "cosine"])
def test_a_step_turns_each_token_with_the_exact_hazard(masked, schedule):
    path, n, t, s = TokenPath(8, masked, schedule), 200_000, 0.3, 0.55
    z = BOARD[torch.randint(len(BOARD), (n,), generator=rng(1))]
    x = path.sample(z, t, rng(2))
    stepped = Unmasking(path).advance(exact(path).posterior, x, t, s, rng(3))
    agree(share(path, stepped), law(path, t) @ one_step(path, t, s))


def off_board(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0] // 2 + x[:, 1] // 2) % 2 != 0


@pytest.mark.parametrize("n_steps", [1, 2, 8, 64])
def test_a_board_sampled_in_n_steps_is_off_by_one_in_2n(n_steps):
    """Two tokens that are drawn in the same step, which happens once in n, are right half of the time."""
    path, probs = TokenPath(8), torch.zeros(81, dtype=torch.float64)
    probs[-1] = 1.0  # all masks
    for k in range(n_steps):
        probs = probs @ one_step(path, k / n_steps, (k + 1) / n_steps)
    distance = float((probs - law(path, 1.0)).abs().sum()) / 2
    assert abs(distance - 1 / (2 * n_steps)) < 1e-10

    n = 40_000
    x = sample_tokens(exact(path).posterior, path, torch.full((n, 2), path.mask), n_steps, generator=rng(n_steps))
    error = math.sqrt(distance * (1 - distance) / n)
    assert abs(float(off_board(x).double().mean()) - distance) < 5 * error
    agree(share(path, x), probs)


@pytest.mark.parametrize("masked", [True, False])
def test_churn_leaves_the_law_alone(masked):
    """Over a short step, up to (c h)²; a corrector that did not give back what it takes would be off by c h."""
    path, n, t, s, churn = TokenPath(8, masked), 400_000, 0.4, 0.404, 6.0
    z = BOARD[torch.randint(len(BOARD), (n,), generator=rng(4))]
    x = path.sample(z, t, rng(5))
    stepped = Unmasking(path, churn).advance(exact(path).posterior, x, t, s, rng(6))
    found, wanted, small = share(path, stepped) / n, law(path, s), (churn * (s - t)) ** 2
    assert bool(((found - wanted).abs() < 5 * (wanted / n).sqrt() + small * wanted.max()).all())
    assert float((stepped != x).double().mean()) > 1.5 * churn * (s - t) * t  # it does move
    if masked:
        error = math.sqrt(s * (1 - s) / n)
        assert abs(float((stepped == path.mask).double().mean()) - (1 - s)) < 5 * error + small / 2


def test_churn_mends_what_parallel_draws_broke():
    """Sudoku in few steps: with more of them right grids become more, and with churn as well."""
    path = TokenPath(4)
    grids = {tuple(grid) for grid in sudoku().tolist()}

    def right(steps, churn):
        x0 = torch.full((400, 16), path.mask)
        model = exact(path, sudoku()).posterior
        x = sample_tokens(model, path, x0, steps, churn=churn, generator=rng(8))
        return sum(tuple(grid) in grids for grid in x.tolist()) / 400

    few, many, churned = right(8, 0.0), right(64, 0.0), right(64, 10.0)
    assert few < 0.5 < many < churned


@pytest.mark.parametrize("schedule", [PowerKappa(2.0), PowerKappa(0.5), CosineKappa()])
@pytest.mark.parametrize("churn", [0.0, 3.0])
def test_no_mask_is_left(schedule, churn):
    path = TokenPath(8, schedule=schedule)
    for ts in (4, [0.0, 0.3, 0.9999999], torch.linspace(0.2, 1, 5)):
        x = sample_tokens(
            exact(path).posterior, path, torch.full((500, 2), path.mask), ts, churn=churn, generator=rng(9)
        )
        assert int(x.max()) < path.mask


def test_tokens_that_are_given_stay_and_the_rest_fits_them():
    path = TokenPath(4)
    given = torch.full((50, 16), path.mask)
    given[:, :6] = sudoku()[7, :6]
    x = sample_tokens(exact(path, sudoku()).posterior, path, given, 200, generator=rng(10))
    assert torch.equal(x[:, :6], given[:, :6])
    fits = {tuple(grid) for grid in sudoku().tolist() if grid[:6] == given[0, :6].tolist()}
    assert sum(tuple(grid) in fits for grid in x.tolist()) > 40


def test_samples_follow_their_generator_and_states_are_recorded():
    path = TokenPath(8)
    x0 = torch.full((20, 2), path.mask)
    first = sample_tokens(exact(path).posterior, path, x0, 6, record=True, generator=rng(11))
    assert first.shape == (7, 20, 2) and torch.equal(first[0], x0)
    again = simulate(exact(path).posterior, x0, torch.linspace(0, 1, 7), Unmasking(path), True, rng(11))
    assert torch.equal(first, again)
    assert bool((first.diff(dim=0) <= 0)[first[:-1] == path.mask].all())  # what is a mask stays one, or turns


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda p, m: sample_tokens(m, p, torch.zeros(3, 2)), ValueError, "whole numbers of shape"),
        (lambda p, m: sample_tokens(m, p, torch.zeros(3, dtype=torch.long)), ValueError, "whole numbers of shape"),
        (lambda p, m: sample_tokens(0.3, p, torch.full((3, 2), 8)), TypeError, "callable of"),
        (
            lambda p, m: sample_tokens(lambda x, t: m(x, t)[:, :1], p, torch.full((3, 2), 8)),
            ValueError,
            "must return prob",
        ),
        (lambda p, m: Unmasking(p, churn=-1.0), ValueError, "churn must be"),
        (lambda p, m: sample_tokens(m, p, torch.full((3, 2), 8), 0), ValueError, "at least one step"),
        (lambda p, m: sample_tokens(m, p, torch.full((3, 2), 8), [1.0, 0.2]), ValueError, "increasing"),
    ],
)
def test_bad_input_is_refused_in_words(call, kind, words):
    path = TokenPath(8)
    with pytest.raises(kind, match=words):
        call(path, exact(path).posterior)
