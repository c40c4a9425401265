"""Tokens on state spaces small enough to write down: every law is a vector, every chain a matrix."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from fmlab.jumps import draw, simulate_chain, transition_matrix
from fmlab.sentences import Sentences, any_order_log_likelihood, guided_probs, masked_cross_entropy
from fmlab.tokens import CosineKappa, PowerKappa, TokenPath, uniform_like
from tests.cases import rng

KAPPAS = [PowerKappa(), PowerKappa(1.5), CosineKappa()]
BOARD = torch.tensor([(a, b) for a in range(8) for b in range(8) if (a // 2 + b // 2) % 2 == 0])
T = 0.3


def states(path: TokenPath, tokens: int = 2) -> torch.Tensor:
    """All sentences, (S, D)."""
    return torch.tensor(list(itertools.product(range(path.symbols), repeat=tokens)))


def law(path: TokenPath, t, table=BOARD) -> torch.Tensor:
    """p_t of all states, averaged over the table."""
    every = states(path, table.shape[1])
    return sum(path.prob(every, z.expand_as(every), t) for z in table) / len(table)


def generator(path: TokenPath, rates: torch.Tensor, tokens: int = 2) -> torch.Tensor:
    """The matrix Q(x, y) of rates (S, D, symbols) that change one token at a time."""
    every = states(path, tokens)
    number = {tuple(x): k for k, x in enumerate(every.tolist())}
    q = torch.zeros(len(every), len(every), dtype=torch.float64)
    for k, x in enumerate(every.tolist()):
        for i, y in itertools.product(range(tokens), range(path.symbols)):
            q[k, number[(*x[:i], y, *x[i + 1 :])]] += rates[k, i, y]
    return q


def exact(path: TokenPath, table=BOARD) -> Sentences:
    return Sentences(table, path, dtype=torch.float64)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("schedule", KAPPAS)
def test_marginal_rates_obey_kolmogorovs_equation(masked, schedule):
    """d/dt p_t by autograd against p_t Q_t; conditional rates likewise, for one sentence."""
    path = TokenPath(8, masked, schedule)
    every, t = states(path), torch.tensor(T, dtype=torch.float64)
    change = torch.autograd.functional.jvp(lambda t: law(path, t), t, torch.ones_like(t))[1]
    rates = path.marginal_rate(exact(path).posterior(every, t), every, t)
    assert float((law(path, t) @ generator(path, rates) - change).abs().max()) < 1e-13
    assert float(rates.sum(-1).abs().max()) < 1e-12

    one = BOARD[5:6]
    change = torch.autograd.functional.jvp(lambda t: law(path, t, one), t, torch.ones_like(t))[1]
    rates = path.conditional_rate(every, one.expand_as(every), t)
    assert float((law(path, t, one) @ generator(path, rates) - change).abs().max()) < 1e-13


@pytest.mark.parametrize("masked", [True, False])
def test_the_marginal_rate_is_the_posterior_average_of_conditional_ones(masked):
    path = TokenPath(8, masked, PowerKappa(1.5))
    every = states(path)
    possible = law(path, T) > 0
    joint = torch.stack([path.prob(every, z.expand_as(every), T) for z in BOARD], 1)[possible]
    weights = joint / joint.sum(1, keepdim=True)
    conditional = torch.stack([path.conditional_rate(every, z.expand_as(every), T) for z in BOARD], 1)[possible]
    averaged = (weights[..., None, None] * conditional).sum(1)
    rates = path.marginal_rate(exact(path).posterior(every, T), every, T)[possible]
    assert float((averaged - rates).abs().max()) < 1e-12


@pytest.mark.parametrize("masked", [True, False])
def test_the_corrector_leaves_the_law_alone(masked):
    """Not only in sum: flows between any two states balance."""
    path = TokenPath(8, masked, PowerKappa(1.5))
    every, p = states(path), law(path, T)
    q = generator(path, path.corrector_rate(exact(path).posterior(every, T), every, T))
    assert float((p @ q).abs().max()) < 1e-12
    flow = p[:, None] * q
    assert float((flow - flow.T).abs().max()) < 1e-12


def theirs_or_skip(module):
    return pytest.importorskip(f"flow_matching.{module}", reason="no peer to compare with: pip install flow_matching")


def test_rates_agree_with_flow_matchings():
    library = theirs_or_skip("path")
    scheduler = theirs_or_skip("path.scheduler")
    theirs = library.MixtureDiscreteProbPath(scheduler=scheduler.PolynomialConvexScheduler(n=1.5))
    path = TokenPath(5, masked=False, schedule=PowerKappa(1.5))
    x = torch.randint(5, (7, 3), generator=rng(0))
    logits = torch.randn(7, 3, 5, generator=rng(1), dtype=torch.float64)
    velocity = theirs.posterior_to_velocity(logits, x, torch.full((7,), T, dtype=torch.float64))
    torch.testing.assert_close(path.marginal_rate(logits.softmax(-1), x, T), velocity, rtol=1e-12, atol=1e-12)


def test_the_masked_loss_agrees_with_flow_matchings():
    library = theirs_or_skip("path")
    scheduler = theirs_or_skip("path.scheduler")
    loss = theirs_or_skip("loss")
    theirs = library.MixtureDiscreteProbPath(scheduler=scheduler.PolynomialConvexScheduler(n=1.5))
    path, z = TokenPath(4, schedule=PowerKappa(1.5)), torch.randint(4, (9, 3), generator=rng(2))
    t, u = 0.1 + 0.8 * torch.rand(9, dtype=torch.float64, generator=rng(3)), uniform_like(z, rng(4))
    logits = torch.randn(9, 3, 4, generator=rng(5), dtype=torch.float64)
    x = path.corrupt(z, torch.full_like(z, path.mask), t, u)
    padded = torch.cat([logits, torch.full((9, 3, 1), -1e9, dtype=torch.float64)], -1)
    kl = loss.MixturePathGeneralizedKL(path=theirs, reduction="none")(padded, z, x, t)
    wanted = (kl * (x == path.mask)).sum(1).mean()
    ours = masked_cross_entropy(lambda x, t: logits, path, z, t, u)
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


def beta_bound(path: TokenPath, model, z: torch.Tensor) -> float:
    """The bound for one sentence exactly: all masks, whose number has Beta weights, ∫ κ̇/(1−κ) (1−κ)^m κ^{D−m} dt."""
    d, total = len(z), 0.0
    for masked in itertools.product([False, True], repeat=d):
        m = sum(masked)
        if m:
            weight = math.gamma(m) * math.gamma(d - m + 1) / math.gamma(d + 1)
            x = torch.where(torch.tensor(masked), path.mask, z)[None]
            log_probs = model(x, torch.tensor(0.5, dtype=torch.float64))[0].double().log()
            total -= weight * float(log_probs.gather(1, z[:, None])[torch.tensor(masked)].sum())
    return total


def test_the_bound_is_the_likelihood_for_the_exact_denoiser():
    path = TokenPath(8)
    for z in BOARD:
        assert abs(beta_bound(path, exact(path).posterior, z) - math.log(32)) < 1e-12


def test_the_loss_estimates_the_bound():
    """Over drawn times, within five standard errors; with a denoiser that knows nothing, 2 log 8 exactly on average."""
    path, n = TokenPath(8), 40_000
    z = BOARD[torch.randint(32, (n,), generator=rng(6))]
    t, u = torch.rand(n, dtype=torch.float64, generator=rng(7)), uniform_like(z, rng(8))

    def each(model):
        return torch.stack(
            [masked_cross_entropy(model, path, *rows) for rows in zip(z.split(1), t.split(1), u.split(1))]
        )

    flat = masked_cross_entropy(lambda x, t: torch.zeros(*x.shape, 8), path, z, t, u)
    spread = each(lambda x, t: torch.zeros(*x.shape, 8))[:2000].std() / math.sqrt(n)
    assert abs(float(flat) - 2 * math.log(8)) < 6 * float(spread)


def sudoku() -> torch.Tensor:
    """All 288 grids of 4 × 4, (288, 16)."""
    rows = list(itertools.permutations(range(4)))
    grids = []

    def extend(grid):
        if len(grid) == 4:
            grids.append([symbol for row in grid for symbol in row])
            return
        for row in rows:
            k = len(grid)
            columns = all(row[j] != above[j] for above in grid for j in range(4))
            boxes = k % 2 == 0 or all(set(row[j : j + 2]).isdisjoint(grid[k - 1][j : j + 2]) for j in (0, 2))
            if columns and boxes:
                extend([*grid, row])

    extend([])
    return torch.tensor(grids)


def test_any_order_gives_the_likelihood_of_a_grid():
    grids, path = sudoku(), TokenPath(4)
    assert len(grids) == 288
    model = Sentences(grids, path, dtype=torch.float64).posterior
    for seed in range(3):
        found = any_order_log_likelihood(model, path, grids, torch.randperm(16, generator=rng(seed)))
        assert float((found + math.log(288)).abs().max()) < 1e-12


def test_the_posterior_is_bayes_rule_and_with_masks_forgets_the_time():
    for masked in (True, False):
        path = TokenPath(8, masked, PowerKappa(1.5))
        x = path.sample(BOARD[torch.randint(32, (50,), generator=rng(1))], T, rng(2))
        joint = torch.stack([path.prob(x, z.expand_as(x), T) for z in BOARD], 1)
        weights = joint / joint.sum(1, keepdim=True)
        bayes = torch.stack([(weights[:, :, None] * (BOARD == y)).sum(1) for y in range(8)], -1)
        torch.testing.assert_close(exact(path).posterior(x, T), bayes, rtol=1e-12, atol=1e-12)
        later = exact(path).posterior(x, 0.8)
        assert torch.allclose(later, bayes) == masked


def test_the_posterior_of_an_impossible_state_is_defined():
    """0 and 2 in the first row clash with every board of this table; most matches count, and nothing is nan."""
    table, path = torch.tensor([[0, 1, 1], [2, 3, 3]]), TokenPath(4)
    x = torch.tensor([[0, 3, 4], [0, 3, 3]])
    found = Sentences(table, path, dtype=torch.float64).posterior(x, 0.5)
    torch.testing.assert_close(found[0, 2], torch.tensor([0, 0.5, 0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(found[1, 0], torch.tensor([0, 0, 1.0, 0], dtype=torch.float64))


def test_the_posterior_is_the_same_in_chunks():
    path = TokenPath(8, masked=False)
    x = path.sample(BOARD[torch.randint(32, (30,), generator=rng(1))], 0.4, rng(2))
    t = torch.rand(30, dtype=torch.float64, generator=rng(3))
    whole, parts = Sentences(BOARD, path, 100), Sentences(BOARD, path, 7)
    torch.testing.assert_close(whole.posterior(x, t), parts.posterior(x, t))
    torch.testing.assert_close(whole.posterior(x, 0.4), parts.posterior(x, 0.4))


def test_a_chain_is_simulated_exactly():
    q = torch.tensor([[-3, 2, 1], [1, -1.5, 0.5], [0.2, 0.3, -0.5]], dtype=torch.float64)
    exact_row = transition_matrix(q, 1.0)[0]
    torch.testing.assert_close(
        exact_row, torch.tensor([0.1912, 0.3836, 0.4251], dtype=torch.float64), atol=5e-5, rtol=0
    )
    torch.testing.assert_close(transition_matrix(q, 0.7) @ transition_matrix(q, 0.3), transition_matrix(q, 1.0))
    n = 20_000
    ends = simulate_chain(q, torch.zeros(n, dtype=torch.int64), 1.0, rng(0))
    found = torch.bincount(ends, minlength=3) / n
    assert float(((found - exact_row).abs() / (exact_row * (1 - exact_row) / n).sqrt()).max()) < 4.5
    stuck = torch.tensor([[-1.0, 1.0], [0.0, 0.0]])
    assert bool((simulate_chain(stuck, torch.ones(5, dtype=torch.int64), 9.0, rng(1)) == 1).all())
    for wrong in (q.T, -q, q[:2]):
        with pytest.raises(ValueError, match=r"rates must be|must sum to 0"):
            simulate_chain(wrong, torch.zeros(3, dtype=torch.int64), 1.0)


def test_a_chain_makes_no_jump_that_it_has_no_rate_for():
    """From 0 up by 1 at the rate 1, and never on from 15: a Poisson number, up to there."""
    n, t, top = 50_000, 12.0, 15
    q = torch.diag(torch.ones(top), 1) - torch.eye(top + 1)
    q[top] = 0
    counts = torch.bincount(simulate_chain(q, torch.zeros(n, dtype=torch.int64), t, rng(0)), minlength=top + 1)
    below = stats.poisson(t).pmf(range(top))
    assert stats.chisquare(counts.numpy(), n * np.append(below, 1 - below.sum())).pvalue > 1e-4


def test_symbols_are_drawn_by_the_inverse_of_their_distribution():
    probs = torch.tensor([0.2, 0.0, 0.5, 0.3])
    for u, symbol in ((0.0, 0), (0.19, 0), (0.21, 2), (0.69, 2), (0.71, 3), (1 - 1e-12, 3)):
        assert int(draw(probs, torch.tensor(u, dtype=torch.float64))) == symbol
        assert int(draw(10 * probs, torch.tensor(u, dtype=torch.float64))) == symbol
    with pytest.raises(ValueError, match="nothing can be drawn"):
        draw(torch.zeros(2, 3), torch.zeros(2, dtype=torch.float64))
    assert uniform_like(torch.zeros(3)).dtype == torch.float64


def test_guidance_multiplies_rates_by_the_ratio_of_posteriors():
    """For masks R(x → x' | y) = R(x → x') p_t(y | x')/p_t(y | x), which is the conditional denoiser at w = 1."""
    conditional, free = torch.rand(4, 3, 5, generator=rng(0)), torch.rand(4, 3, 5, generator=rng(1))
    conditional, free = (p.double() / p.double().sum(-1, keepdim=True) for p in (conditional, free))
    torch.testing.assert_close(guided_probs(conditional, free, 1.0), conditional)
    torch.testing.assert_close(guided_probs(conditional, free, 0.0), free)
    strong = conditional**2 / free
    torch.testing.assert_close(guided_probs(conditional, free, 2.0), strong / strong.sum(-1, keepdim=True))
    never = torch.tensor([0.0, 0.4, 0.6], dtype=torch.float64)
    torch.testing.assert_close(guided_probs(never, never, 2.0), never)


def test_corruption_keeps_each_token_by_its_own_number():
    path = TokenPath(5, schedule=PowerKappa(1.5))
    z, u = torch.randint(5, (3, 4), generator=rng(0)), uniform_like(torch.zeros(3, 4), rng(1))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    x = path.corrupt(z, path.noise_like(z), t, u)
    assert torch.equal(x == path.mask, u >= t[:, None] ** 1.5)
    assert torch.equal(x[x != path.mask], z[x != path.mask])
    assert torch.equal(path.sample(z, 1.0), z) and bool((path.sample(z, 0.0) == path.mask).all())
    with pytest.raises(ValueError, match="at κ_t = 1"):
        path.hazard(1.0, x)
    with pytest.raises(ValueError, match="there is no mask"):
        _ = TokenPath(5, masked=False).mask
