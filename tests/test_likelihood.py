"""Log densities against closed forms, Jacobian determinants and each other."""

import math

import pytest
import torch

from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.likelihood import continuity_residual, divergence, draw_probes, fokker_planck_residual, log_likelihood
from fmlab.metrics import convergence_order
from fmlab.paths import GaussianPath
from fmlab.processes import ODE, sde_extension
from fmlab.schedules import VE, CondOT, Cosine, LinearVP
from fmlab.simulators import RK4, Euler, simulate
from tests.cases import distribution, normal, rng
from tests.cases import divergence as divergence_of_the_tests

MATRIX = torch.tensor([[-0.5, 1.0], [-2.0, 0.3]]).double()


def linear(x, t):
    return x @ MATRIX.T


def curly(x, t):
    """A field without symmetry in any number of dimensions."""
    flat = x.flatten(1)
    rolled = torch.roll(flat, 1, 1)
    return (torch.sin(flat * rolled) + t * rolled**2 * 0.2 - 0.3 * flat).reshape(x.shape)


class AtTime:
    """p_t of a marginal path at one t, as a distribution with log_prob."""

    def __init__(self, marginal, t):
        self.log_prob = lambda x: marginal.log_prob(x, t)


# --- divergence --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 5])
def test_divergence_is_the_trace_of_the_jacobian(d):
    x = normal(6, d, seed=0)
    jacobian = torch.autograd.functional.jacobian(lambda x: curly(x, 0.7), x)  # (n, d, n, d)
    expected = torch.stack([jacobian[i, :, i].trace() for i in range(6)])
    torch.testing.assert_close(divergence(curly, x, 0.7), expected)


def curly_at_each(x, t):
    return curly(x, t[:, None])


def test_divergence_takes_one_time_per_row():
    x, t = normal(4, 3, seed=0), torch.tensor([0.1, 0.5, 0.9, 1.0]).double()
    rows = [divergence(curly, x[i : i + 1], float(t[i])) for i in range(4)]
    torch.testing.assert_close(divergence(curly_at_each, x, t), torch.cat(rows))


def test_divergence_of_the_linear_field_and_of_constants():
    x = normal(5, 2, seed=0)
    torch.testing.assert_close(divergence(linear, x, 0.0), MATRIX.trace().expand(5))
    assert torch.equal(divergence(lambda x, t: torch.ones_like(x), x, 0.0), torch.zeros(5).double())
    assert torch.equal(divergence(lambda x, t: x * 0 + t, x, 0.3), torch.zeros(5).double())


def test_divergence_of_images_is_that_of_their_flat_form():
    x = normal(3, 12, seed=0)
    images = divergence(curly, x.reshape(3, 1, 3, 4), 0.4)
    torch.testing.assert_close(images, divergence(curly, x, 0.4))


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_divergence_of_an_exact_field(kind):
    marginal = GaussianPath(CondOT()).marginal(distribution(kind, d=3))
    x = normal(10, 3, seed=1)
    expected = divergence_of_the_tests(lambda x: marginal.vector_field(x, 0.6), x)
    torch.testing.assert_close(divergence(marginal.vector_field, x, 0.6), expected)


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased_within_its_standard_error(noise):
    x, m = normal(4, 6, seed=0), 20_000
    many = [divergence(curly, x, 0.7, probes=v[None]) for v in draw_probes(200, x, noise, rng(1))]
    at_once = draw_probes(m, x, noise, rng(2))
    jacobian = torch.autograd.functional.jacobian(lambda x: curly(x, 0.7), x)
    for i in range(4):
        samples = ((at_once[:, i] @ jacobian[i, :, i]) * at_once[:, i]).sum(1)  # the spread of one probe
        error = samples.std() / math.sqrt(200)
        exact = jacobian[i, :, i].trace()
        assert abs(torch.stack(many)[:, i].mean() - exact) < 4 * error
        assert error > 0


def test_many_probes_are_averaged():
    x = normal(4, 6, seed=0)
    v = draw_probes(7, x, "gaussian", rng(1))
    each = torch.stack([divergence(curly, x, 0.7, probes=probe[None]) for probe in v])
    torch.testing.assert_close(divergence(curly, x, 0.7, probes=v), each.mean(0))


def test_rademacher_is_exact_on_a_diagonal_jacobian():
    x = normal(4, 6, seed=0)
    v = draw_probes(1, x, generator=rng(0))
    assert set(v.flatten().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(divergence(lambda x, t: x**3, x, 0.0, v), divergence(lambda x, t: x**3, x, 0.0))


# --- the density of a flow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [CondOT(), Cosine(), LinearVP(), VE(sigma_max=5.0)], ids=repr)
@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_the_marginal_field_gives_the_marginal_density(schedule, kind):
    """From p_s to p_t along the exact field; the midpoint rule leaves an error of order (1/n)²."""
    p_data = distribution(kind)
    marginal = GaussianPath(schedule).marginal(p_data)
    x = p_data.sample(40, rng(0))
    coarse, fine = (log_likelihood(x, marginal.vector_field, AtTime(marginal, 0.0), steps=n) for n in (30, 60))
    assert float((fine - p_data.log_prob(x)).abs().max()) < 2 * float((fine - coarse).abs().max()) < 0.2


def test_it_converges_with_the_order_of_the_method():
    mixture = GaussianMixture(torch.tensor([[1.0, 0.0], [-1.0, 0.5]]).double(), torch.tensor([0.2, 0.3]).double())
    marginal = GaussianPath(Cosine()).marginal(mixture)
    x = mixture.sample(30, rng(0))
    for method, ns, order in ((Euler(), (60, 120), 1), (None, (25, 50), 2), (RK4(), (12, 24), 4)):
        errors = [
            float((log_likelihood(x, marginal.vector_field, steps=n, method=method) - mixture.log_prob(x)).abs().mean())
            for n in ns
        ]
        assert float(convergence_order([1 / n for n in ns], errors)) == pytest.approx(order, abs=0.35)


def test_it_stops_at_any_time():
    mixture = distribution("mixture")
    marginal = GaussianPath(Cosine()).marginal(mixture)
    x = marginal.sample(30, 0.7, rng(0))
    found = log_likelihood(x, marginal.vector_field, t_end=0.7, steps=25, method=RK4())
    torch.testing.assert_close(found, marginal.log_prob(x, 0.7), rtol=1e-4, atol=1e-4)


def test_a_linear_field_is_exact():
    """ψ_1 = e^A, so p_1 = N(e^A m, e^A C e^Aᵀ)."""
    p_init = Gaussian(torch.tensor([0.5, -1.0]).double(), torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double())
    flow = torch.linalg.matrix_exp(MATRIX)
    p_end = Gaussian(flow @ p_init.mean, flow @ p_init.cov @ flow.T)
    x = normal(20, 2, seed=0)
    found = log_likelihood(x, linear, p_init, steps=100, method=RK4())
    torch.testing.assert_close(found, p_end.log_prob(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("d", [2, 4])
def test_the_push_forward_divides_by_the_jacobian_determinant(d):
    """p_1(ψ(a)) |det ∂ψ/∂a| = p_0(a), with the determinant from autograd through the simulated flow."""
    a, ts = normal(5, d, seed=0), torch.linspace(0, 1, 101)

    def flow(a):
        return simulate(ODE(curly), a, ts, RK4())

    jacobian = torch.autograd.functional.jacobian(flow, a)
    log_det = torch.stack([jacobian[i, :, i].det().abs().log() for i in range(len(a))])
    base = Gaussian(torch.zeros(d).double(), 1.0).log_prob(a)
    torch.testing.assert_close(log_likelihood(flow(a), curly, method=RK4()), base - log_det, rtol=1e-7, atol=1e-7)


def test_a_density_integrates_to_one():
    net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    for k, values in enumerate(net.parameters()):
        torch.nn.init.normal_(values, std=0.5, generator=rng(k))
    grid = torch.linspace(-15, 15, 1201).double()
    log_p = log_likelihood(grid[:, None], lambda x, t: net(torch.cat([x, t.expand(len(x), 1)], 1)), steps=40)
    assert float(torch.trapezoid(log_p.exp(), grid)) == pytest.approx(1, abs=1e-3)
    assert not log_p.requires_grad


def test_hutchinson_likelihood_is_unbiased():
    """Averaged over 400 copies of a point it is the exact value, within four of its standard errors."""
    x, copies = normal(3, 4, seed=0), 400
    exact = log_likelihood(x, curly, steps=10)
    for noise in ("rademacher", "gaussian"):
        found = log_likelihood(x.repeat(copies, 1), curly, steps=10, probes=1, noise=noise, generator=rng(1))
        found = found.reshape(copies, 3)
        assert ((found.mean(0) - exact).abs() < 4 * found.std(0) / math.sqrt(copies)).all()
        assert (found.std(0) > 0.01).all()
    spread = log_likelihood(x.repeat(copies, 1), curly, steps=10, probes=16, generator=rng(2)).reshape(copies, 3).std(0)
    one = log_likelihood(x.repeat(copies, 1), curly, steps=10, probes=1, generator=rng(3)).reshape(copies, 3).std(0)
    torch.testing.assert_close(spread, one / 4, rtol=0.3, atol=0)  # 16 probes, a quarter; each std to 5 %


def test_seeded_probes_repeat():
    x = normal(3, 4, seed=0)
    first, second = (log_likelihood(x, curly, steps=5, probes=2, generator=rng(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_images_and_dtypes():
    x = normal(3, 4, seed=0)
    torch.testing.assert_close(
        log_likelihood(x.reshape(3, 1, 2, 2), curly, steps=10), log_likelihood(x, curly, steps=10)
    )
    assert log_likelihood(x.float(), curly, steps=10).dtype == torch.float32


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: log_likelihood(x, linear, t_end=0.0), "t_end"),
        (lambda x: log_likelihood(x, linear, t_end=1.5), "t_end"),
        (lambda x: log_likelihood(x, linear, probes=0), "at least one probe"),
        (lambda x: log_likelihood(x, linear, probes=1, noise="uniform"), "rademacher"),
        (lambda x: log_likelihood(x, lambda x, t: x[:, :1]), "shape"),
        (lambda x: divergence(lambda x, t: x.sum(1), x, 0.0), "shape"),
        (lambda x: divergence(linear, x, 0.0, torch.ones(4, 2)), "probes must have shape"),
        (lambda x: divergence(linear, x.long(), 0.0), "floating point"),
    ],
)
def test_wrong_use_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(4, 2, seed=0))


# --- the equations of the density --------------------------------------------------------------------------------


def test_residuals_of_a_field_that_does_not_fit_are_closed_form():
    """p = N(t m, I) and u = t x on images: ∂_t p = −p m·s, div(p u) = p t (d + x·s), Δp = p (‖s‖² − d)."""
    m, x, t = normal(1, 2, 2, seed=1), normal(5, 1, 2, 2, seed=2), torch.linspace(0.1, 0.9, 5).double()

    def density(x, t):
        away = (x - t.reshape(-1, 1, 1, 1) * m).flatten(1)
        return torch.exp(-away.square().sum(1) / 2) / (2 * math.pi) ** 2

    def score(x, t):
        return t.reshape(-1, 1, 1, 1) * m - x

    def grow(x, t):
        return t.reshape(-1, 1, 1, 1) * x

    p, s = density(x, t), score(x, t).flatten(1)
    expected = -p * (s @ m.flatten()) + p * t * (4 + (x.flatten(1) * s).sum(1))
    torch.testing.assert_close(continuity_residual(density, grow, x, t), expected)
    expected = expected - 0.7**2 / 2 * p * (s.square().sum(1) - 4)
    torch.testing.assert_close(fokker_planck_residual(density, score, grow, 0.7, x, t), expected)


@pytest.mark.parametrize("kind", ["gaussian", "mixture", "empirical"])
@pytest.mark.parametrize("t", [0.4, torch.tensor(0.7), torch.linspace(0.2, 0.8, 6).double()])
def test_exact_fields_leave_no_residual(kind, t):
    marginal, x = GaussianPath(Cosine()).marginal(distribution(kind)), normal(6, 2, seed=3)
    drift = sde_extension(marginal.vector_field, marginal.score, 1.2).drift

    def density(x, t):
        return marginal.log_prob(x, t).exp()

    with torch.no_grad():
        flow = continuity_residual(density, marginal.vector_field, x, t)
        noisy = fokker_planck_residual(density, marginal.score, drift, 1.2, x, t)
    assert flow.shape == noisy.shape == (6,) and not flow.requires_grad
    assert max(flow.abs().max(), noisy.abs().max()) < 1e-9
    assert continuity_residual(density, drift, x, t).abs().max() > 1e-3


def test_points_without_a_dimension_are_told_what_to_do():
    for call in (log_likelihood, lambda x, u: divergence(u, x, 0.3)):
        with pytest.raises(ValueError, match=r"x\[:, None\]"):
            call(torch.zeros(2), linear)


def test_a_detached_field_of_one_row_is_found():
    for x in (torch.ones(1, 2), torch.ones(3, 2)):
        with pytest.raises(ValueError, match="not differentiably"):
            divergence(lambda x, t: -x.detach(), x, 0.3)
        assert torch.equal(divergence(lambda x, t: torch.ones_like(x), x, 0.3), torch.zeros(len(x)))


def test_within_torch_func_likelihoods_are_refused():
    for transform in (torch.func.jacrev, torch.func.jacfwd, torch.func.vmap):
        with pytest.raises(ValueError, match=r"torch\.func"):
            transform(lambda x: log_likelihood(x, linear, steps=2))(torch.ones(3, 2, 2).double())
