"""Flow maps against closed forms: Gaussian data, and any mixture on a line, where order is kept."""

import pytest
import torch

from fmlab import flow_maps as maps
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.metrics import convergence_order
from fmlab.paths import GaussianPath
from fmlab.processes import ODE
from fmlab.schedules import CondOT, Cosine, LinearVP
from fmlab.simulators import RK4, simulate
from tests.cases import normal, rng, uniform

MEAN, STD = torch.tensor([1.0, -0.5], dtype=torch.float64), 0.6
X = normal(40, 2, seed=0)
S = uniform(40, 0.05, 0.5, seed=1)
T = S + uniform(40, 0.1, 0.4, seed=2)
LINE = GaussianMixture(torch.tensor([[-1.2], [0.9]], dtype=torch.float64), torch.tensor([0.06, 0.12]), [0.4, 0.6])


def exact(schedule=None):
    schedule = schedule or CondOT()
    field = GaussianPath(schedule).marginal(Gaussian(MEAN, STD**2)).vector_field
    return maps.GaussianFlowMap(MEAN, STD, schedule), field


def rms(residual: torch.Tensor) -> float:
    return float(residual.square().sum(1).mean().sqrt())


@pytest.mark.parametrize("schedule", [CondOT(), CondOT(0.1), Cosine(), LinearVP()], ids=repr)
def test_the_gaussian_map_obeys_all_three_equations(schedule):
    flow_map, u = exact(schedule)
    middle = S + 0.37 * (T - S)
    assert rms(maps.semigroup_residual(flow_map, X, S, middle, T)) < 1e-14
    assert rms(maps.lagrangian_residual(flow_map, u, X, S, T)) < 1e-10
    assert rms(maps.eulerian_residual(flow_map, u, X, S, T)) < 1e-10
    assert torch.equal(flow_map(X, 0.3, 0.3), X) or rms(flow_map(X, 0.3, 0.3) - X) < 1e-15


def test_a_map_that_is_not_the_flows_is_told_apart():
    """Each of the wrong maps a lab names has residuals far above rounding."""
    flow_map, u = exact()
    swapped = lambda x, s, t: flow_map(x, t, s)  # noqa: E731
    straight = lambda x, s, t: x + (t - s)[:, None] * u(x, s)  # noqa: E731
    for wrong in (swapped, straight):
        assert rms(maps.lagrangian_residual(wrong, u, X, S, T)) > 0.03
        assert rms(maps.eulerian_residual(wrong, u, X, S, T)) > 0.03


def test_the_map_on_a_line_is_that_of_the_flow():
    """F_t⁻¹∘F_s against RK4: fourth order, and close with 100 steps."""
    flow_map = maps.LineFlowMap(LINE)
    u = GaussianPath(CondOT()).marginal(LINE).vector_field
    x = normal(60, 1, seed=3)
    found = flow_map(x, 0.2, 0.9)
    errors, steps = [], [25, 50, 100]
    for n in steps:
        ends = simulate(ODE(u), x, torch.linspace(0.2, 0.9, n + 1, dtype=torch.float64), RK4())
        errors.append(float((ends - found).abs().max()))
    assert errors[-1] < 1e-5
    assert 3.4 < convergence_order(torch.tensor([0.7 / n for n in steps]), torch.tensor(errors)) < 5
    assert rms(maps.semigroup_residual(flow_map, x, 0.1, 0.5, 0.8)) < 1e-12
    torch.testing.assert_close(flow_map(flow_map(x, 0.2, 0.9), 0.9, 0.2), x, rtol=1e-9, atol=1e-9)
    assert float(flow_map(x, 0.0, 1.0).diff(dim=0).sign().ne(x.diff(dim=0).sign()).sum()) == 0


def test_the_exact_average_velocity_is_a_fixed_point_of_every_target():
    flow_map, u = exact()
    v = maps.average_velocity(flow_map)
    for target in (maps.semigroup_target, maps.lagrangian_target, maps.eulerian_target):
        found = target(v, u, X, S, T)
        assert rms(found - v(X, S, T)) < 1e-10, target
        assert not found.requires_grad
    assert rms(maps.map_of(v)(X, S, T) - flow_map(X, S, T)) < 1e-14


def test_a_target_of_another_velocity_has_the_stated_value():
    """v = c x t + s: derivatives by hand. Signs, tangents and factors show."""
    c, x, gap = 0.7, X, (T - S)[:, None]
    s, t = S[:, None], T[:, None]
    u = lambda x, t: torch.sin(x) + t[:, None]  # noqa: E731

    def v(x, s, t):
        return c * x * t[:, None] + s[:, None] ** 2

    euler = u(x, S) + gap * (2 * s + c * t * u(x, S))
    assert rms(maps.eulerian_target(v, u, x, S, T) - euler) < 1e-14
    moved = x + gap * v(x, S, T)
    lagrange = u(moved, T) - gap * c * x
    assert rms(maps.lagrangian_target(v, u, x, S, T) - lagrange) < 1e-14
    m = (S + T) / 2
    half = x + gap / 2 * v(x, S, m)
    assert rms(maps.semigroup_target(v, None, x, S, T) - (v(x, S, m) + v(half, m, T)) / 2) < 1e-14
    h = 0.05
    ahead = x + h * u(x, S)
    one = torch.ones_like(S)
    expected = (ahead + (1 - s - h) * v(ahead, S + h, one) - x) / (1 - s)
    assert rms(maps.consistency_target(v, u, x, S, h) - expected) < 1e-13
    assert t.shape == s.shape


def test_the_mean_flow_target_has_the_right_mean_and_the_stated_variance():
    """With z − ε for the field, the target's mean is unchanged, and on a line its variance is
    (1 + (t − s) ∂_x v)² Var(z − ε | x)."""
    m, std, s, t, n = 0.8, 0.5, 0.3, 0.75, 400_000
    flow_map = maps.GaussianFlowMap(torch.tensor([m]), std)
    v = maps.average_velocity(flow_map)
    z = m + std * torch.randn(n, 1, dtype=torch.float64, generator=rng(1))
    noise = torch.randn(n, 1, dtype=torch.float64, generator=rng(2))
    x = s * z + (1 - s) * noise
    residual = maps.eulerian_target(v, lambda x, s: z - noise, x, s, t) - v(x, torch.tensor(s), torch.tensor(t))
    spread = s**2 * std**2 + (1 - s) ** 2
    slope = (float(flow_map(torch.ones(1, 1), s, t) - flow_map(torch.zeros(1, 1), s, t)) - 1) / (t - s)
    variance = std**2 + 1 - (s * std**2 - (1 - s)) ** 2 / spread
    expected = (1 + (t - s) * slope) ** 2 * variance
    assert abs(float(residual.mean())) < 5 * (expected / n) ** 0.5
    assert abs(float(residual.var()) / expected - 1) < 5 * (2 / n) ** 0.5


def test_consistency_of_a_gaussian_teacher_is_as_good_as_its_steps():
    """f(x_s, s) − f(x̂_{s+h}, s + h) of the exact map: the local error of Euler's step, O(h²)."""
    flow_map, u = exact()
    v = maps.average_velocity(flow_map)
    errors, steps = [], [1 / 16, 1 / 32, 1 / 64]
    for h in steps:
        residual = maps.consistency_target(v, u, X, S, h) - v(X, S, torch.ones_like(S))
        errors.append(rms(residual))
    assert 1.9 < convergence_order(torch.tensor(steps), torch.tensor(errors)) < 2.1


def test_the_loss_stops_the_targets_gradient():
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    v = lambda x, s, t: weight * x  # noqa: E731
    target = 2 * weight * X
    loss = maps.target_loss(v, target, X, S, T)
    (gradient,) = torch.autograd.grad(loss, weight)
    expected = 2 * ((0.3 * X - 0.6 * X) * X).sum(1).mean()
    torch.testing.assert_close(gradient, expected)


def test_samples_of_the_exact_map_are_exact_in_any_number_of_steps():
    flow_map, _ = exact()
    v = maps.average_velocity(flow_map)
    one, three = maps.sample_map(v, X), maps.sample_map(v, X, [0.0, 0.21, 0.68, 1.0])
    torch.testing.assert_close(one, three, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one, MEAN + STD * X, rtol=1e-12, atol=1e-12)
    n = 100_000
    x0 = torch.randn(n, 2, dtype=torch.float64, generator=rng(1))
    x = maps.sample_consistency(v, x0, (0.0, 0.4, 0.8), rng(2))
    assert float((x.mean(0) - MEAN).abs().max()) < 5 * STD / n**0.5
    assert float((x.std(0) / STD - 1).abs().max()) < 5 / (2 * n) ** 0.5


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="std must be positive"):
        maps.GaussianFlowMap([0.0], 0.0)
    with pytest.raises(ValueError, match="on a line"):
        maps.LineFlowMap(GaussianMixture([[0.0, 1.0]], 0.1))
    with pytest.raises(ValueError, match=r"shape \(n, 1\)"):
        maps.LineFlowMap(LINE)(X, 0.1, 0.2)
