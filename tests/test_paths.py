"""Paths: conditional fields against autograd, marginals against torch.distributions, Monte Carlo and the continuity
equation, for every schedule and every distribution with a closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as td

from fmlab.datasets import Empirical
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.marginals import Marginal
from fmlab.paths import GaussianPath, GeneralGaussianPath, LinearPath, Path
from fmlab.processes import ODE
from fmlab.schedules import VE, CondOT, Cosine, LinearVP
from fmlab.simulators import RK4, Euler, Heun, simulate
from tests.cases import KINDS, SCHEDULES, distribution, divergence, gradient, normal, points_on, rate, rng, uniform

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
every_kind = pytest.mark.parametrize("kind", KINDS)
repeat = settings(deadline=None, max_examples=4, derandomize=True)
seeds = st.integers(0, 10**6)
ADAPTED = GeneralGaussianPath(  # a mean that bends and a noise that depends on z
    lambda z, t: t * z + torch.sin(math.pi * t) * z.flip(1), lambda z, t: 1 - t + 0.3 * t * z[:, :1].abs()
)


# the conditional path


@every_schedule
@repeat
@given(seed=seeds)
def test_the_conditional_field_is_the_velocity_of_the_affine_flow(schedule, seed):
    """dψ_t/dt by automatic differentiation, at ψ_t(ε | z) = α z + β ε.    [notes, eq. 21]"""
    path, t = GaussianPath(schedule), uniform(5, 0.02, 0.98, seed)
    z, noise = normal(5, 1, 3, seed=seed), normal(5, 1, 3, seed=seed + 1)
    x, x_dot = path.interpolate(z, noise, t), rate(lambda t: path.interpolate(z, noise, t), t)
    torch.testing.assert_close(path.vector_field(x, z, t), x_dot, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(path.velocity(z, noise, t), x_dot, rtol=1e-9, atol=1e-9)
    ratio = (schedule.beta_dot(t) / schedule.beta(t))[:, None, None]
    as_printed = (schedule.alpha_dot(t)[:, None, None] - ratio * schedule.alpha(t)[:, None, None]) * z + ratio * x
    torch.testing.assert_close(path.vector_field(x, z, t), as_printed, rtol=1e-9, atol=1e-9)


@every_schedule
@repeat
@given(seed=seeds)
def test_the_conditional_density_and_score(schedule, seed):
    path, t = GaussianPath(schedule), uniform(5, 0.02, 0.98, seed)
    z, x = normal(5, 2, 2, seed=seed), normal(5, 2, 2, seed=seed + 1)
    alpha, beta = (value[:, None, None] for value in (schedule.alpha(t), schedule.beta(t)))
    expected = td.Normal(alpha * z, beta.expand_as(x)).log_prob(x).sum((1, 2))
    torch.testing.assert_close(path.log_prob(x, z, t), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(path.score(x, z, t), gradient(lambda x: path.log_prob(x, z, t), x), rtol=1e-9, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_samples_have_the_moments_of_the_conditional_path(schedule, t):
    n, z = 40_000, torch.tensor([1.0, -2.0], dtype=torch.float64)
    x = GaussianPath(schedule).sample(z.expand(n, 2), t, rng(1))
    alpha, beta = float(schedule.alpha(t)), float(schedule.beta(t))
    assert ((x.mean(0) - alpha * z).abs() <= 5 * beta / math.sqrt(n) + 1e-6).all()
    assert ((x.std(0) - beta).abs() <= 5 * beta / math.sqrt(2 * n) + 1e-6).all()


def test_variance_exploding_field():
    """−(σ'_{1−t}/σ_{1−t}) (x − z).    [intro, eq. 17]"""
    t, x, z = uniform(6, 0.05, 0.95, 1), normal(6, 2, seed=2), normal(6, 2, seed=3)
    ratio = gradient(lambda s: (3 * s).log(), 1 - t)[:, None]
    torch.testing.assert_close(GaussianPath(VE(3.0)).vector_field(x, z, t), -ratio * (x - z))


def test_variance_preserving_field():
    """α'_{1−t}/(1 − α²_{1−t}) (α_{1−t} x − z).    [intro, eq. 19]"""
    t, x, z, schedule = uniform(6, 0.05, 0.95, 1), normal(6, 2, seed=2), normal(6, 2, seed=3), LinearVP(0.1, 20.0)

    def alpha(s):
        return torch.exp(-(0.1 * s + 19.9 * s**2 / 2) / 2)

    factor = gradient(alpha, 1 - t) / (1 - alpha(1 - t) ** 2)
    expected = factor[:, None] * (alpha(1 - t)[:, None] * x - z)
    torch.testing.assert_close(GaussianPath(schedule).vector_field(x, z, t), expected)


@pytest.mark.parametrize("sigma_min", [0.0, 0.1])
def test_optimal_transport_field(sigma_min):
    """(z − (1 − σ_min) x)/(1 − (1 − σ_min) t).    [intro, eq. 21]"""
    t, x, z = uniform(6, 0.05, 0.95, 1), normal(6, 2, seed=2), normal(6, 2, seed=3)
    expected = (z - (1 - sigma_min) * x) / (1 - (1 - sigma_min) * t[:, None])
    torch.testing.assert_close(GaussianPath(CondOT(sigma_min)).vector_field(x, z, t), expected)


def test_the_velocity_is_finite_where_the_field_is_not():
    z, noise = normal(4, 2, seed=1), normal(4, 2, seed=2)
    torch.testing.assert_close(GaussianPath(CondOT()).velocity(z, noise, 1.0), z - noise)
    with pytest.raises(ValueError, match="singular at t = 1: β_t = 0"):
        GaussianPath(CondOT()).vector_field(z, z, 1.0)
    with pytest.raises(ValueError, match="singular at t = 1: β̇_t is infinite"):
        GaussianPath(LinearVP()).velocity(z, noise, torch.tensor([0.1, 0.2, 1.0, 0.3]))


# the general Gaussian path


@every_schedule
def test_the_general_path_contains_the_schedules(schedule):
    general = GeneralGaussianPath(lambda z, t: schedule.alpha(t) * z, lambda z, t: schedule.beta(t))
    path, t = GaussianPath(schedule), uniform(5, 0.05, 0.95, 1)
    x, z = normal(5, 1, 3, seed=2), normal(5, 1, 3, seed=3)
    for name in ("interpolate", "velocity"):
        torch.testing.assert_close(getattr(general, name)(z, x, t), getattr(path, name)(z, x, t))
    for name in ("vector_field", "score", "log_prob"):
        torch.testing.assert_close(getattr(general, name)(x, z, t), getattr(path, name)(x, z, t))
    assert torch.equal(general.sample(z, t, rng(4)), path.sample(z, t, rng(4)))


def test_the_general_field_satisfies_the_continuity_equation():
    """∂_t log p + div u + u · s = 0 for a bent mean and a scale that depends on z, derivatives by autograd."""
    z, t = normal(50, 2, seed=1), uniform(50, 0.05, 0.95, 2)
    x = ADAPTED.sample(z, t, rng(3))
    u, s = ADAPTED.vector_field(x, z, t), ADAPTED.score(x, z, t)
    torch.testing.assert_close(s, gradient(lambda x: ADAPTED.log_prob(x, z, t), x))
    terms = [
        gradient(lambda t: ADAPTED.log_prob(x, z, t), t),
        divergence(lambda x: ADAPTED.vector_field(x, z, t), x),
        (u * s).sum(1),
    ]
    assert (sum(terms).abs() < 1e-12 * sum(term.abs() for term in terms)).all()


def test_the_flow_of_the_general_field_is_affine():
    z, noise = normal(6, 2, seed=1), normal(6, 2, seed=2)
    ts = torch.linspace(0, 0.9, 41, dtype=torch.float64)
    x = simulate(ODE(lambda x, t: ADAPTED.vector_field(x, z, t)), ADAPTED.interpolate(z, noise, 0.0), ts, RK4())
    torch.testing.assert_close(x, ADAPTED.interpolate(z, noise, 0.9), rtol=1e-5, atol=1e-5)


def test_a_scale_that_vanishes_is_singular():
    path = GeneralGaussianPath(lambda z, t: t * z, lambda z, t: 1 - t)
    x = normal(3, 2, seed=1)
    with pytest.raises(ValueError, match="singular at t = 1"):
        path.vector_field(x, x, torch.tensor([0.5, 1.0, 0.5]))


# the marginal path


def reference(schedule, p_data, t: float):
    """p_t from torch.distributions: Σ w_k N(α m_k, α² C_k + β² I)."""
    t = torch.tensor(t, dtype=torch.float64)
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    means = p_data.z if isinstance(p_data, Empirical) else p_data.means
    covs = 0.0 if isinstance(p_data, Empirical) else p_data.covs
    weights = torch.ones(len(means)) if isinstance(p_data, Empirical) else p_data.weights
    full = (alpha**2 * covs + beta**2 * torch.eye(means.shape[1]).double()).expand(len(means), -1, -1)
    return td.MixtureSameFamily(td.Categorical(weights.double()), td.MultivariateNormal(alpha * means, full))


@every_schedule
@every_kind
@repeat
@given(seed=seeds, t=st.floats(0.01, 0.99), d=st.integers(1, 4))
def test_the_marginal_density_and_its_score(schedule, kind, seed, t, d):
    """log p_t against torch.distributions, s_t against autograd through it."""
    p_data = distribution(kind, seed, d)
    marginal, expected = GaussianPath(schedule).marginal(p_data), reference(schedule, p_data, t)
    x = points_on(schedule, p_data, torch.full((8,), t, dtype=torch.float64), seed)
    own = gradient(lambda x: marginal.log_prob(x, t), x)
    torch.testing.assert_close(marginal.log_prob(x, t), expected.log_prob(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(marginal.score(x, t), gradient(expected.log_prob, x), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(marginal.score(x, t), own, rtol=1e-8, atol=1e-8)


@every_schedule
@every_kind
@repeat
@given(seed=seeds, t=st.floats(0.05, 0.6))
def test_field_score_and_denoiser_are_posterior_averages(schedule, kind, seed, t):
    """E[φ(x, z) | x] = Σ w_i φ(x, z_i), w ∝ p_t(x | z_i): exact over a data set; else Monte Carlo with z_i ~ p_data,
    whose standard error is (Σ w_i² (φ_i − φ̄)²)^½.    [notes, thm. 9]"""
    path, p_data = GaussianPath(schedule), distribution(kind, seed)
    marginal, x = path.marginal(p_data), points_on(schedule, p_data, torch.tensor([t], dtype=torch.float64), seed)
    z = p_data.z if kind == "empirical" else p_data.sample(20_000, rng(seed + 2))
    many = x.expand(len(z), 2)
    w = path.log_prob(many, z, t).softmax(0)[:, None]
    for values, found in [
        (path.vector_field(many, z, t), marginal.vector_field(x, t)),
        (path.score(many, z, t), marginal.score(x, t)),
        (z, marginal.posterior_mean(x, t)),
    ]:
        mean = (w * values).sum(0)
        error = (w.square() * (values - mean).square()).sum(0).sqrt()
        slack = 1e-9 * (1 + mean.abs()) if kind == "empirical" else 6 * error
        assert ((found[0] - mean).abs() <= slack).all()


@every_schedule
@every_kind
@repeat
@given(seed=seeds)
def test_the_continuity_equation(schedule, kind, seed):
    """∂_t log p + div u + u · s = 0 [notes, eq. 23, over p]: the residual is below 1e-9 of its terms."""
    p_data, t = distribution(kind, seed), uniform(20, 0.02, 0.98, seed)
    marginal, x = GaussianPath(schedule).marginal(p_data), points_on(schedule, p_data, t, seed)
    terms = [
        gradient(lambda t: marginal.log_prob(x, t), t),
        divergence(lambda x: marginal.vector_field(x, t), x),
        (marginal.vector_field(x, t) * gradient(lambda x: marginal.log_prob(x, t), x)).sum(1),
    ]
    assert (sum(terms).abs() < 1e-9 * (1 + sum(term.abs() for term in terms))).all()


@every_schedule
@every_kind
def test_a_time_for_each_row_is_the_scalar_time_row_by_row(schedule, kind):
    p_data, t = distribution(kind), uniform(5, 0.1, 0.9, 1)
    marginal, x = GaussianPath(schedule).marginal(p_data), points_on(schedule, p_data, t, 2)
    for f in (marginal.log_prob, marginal.score, marginal.vector_field, marginal.posterior_mean):
        rows = torch.cat([f(x[i : i + 1], t[i]) for i in range(5)])
        torch.testing.assert_close(f(x, t), rows)
        torch.testing.assert_close(f(x, float(t[0]))[:1], rows[:1])


@every_schedule
@every_kind
def test_the_path_joins_noise_and_data(schedule, kind):
    """At t = 0 the law is N(α_0 m, …) of the schedule, at t = 1 that of the data where they have a density."""
    p_data = distribution(kind)
    marginal, x = GaussianPath(schedule).marginal(p_data), normal(10, 2, seed=1)
    start = reference(schedule, p_data, 0.0)
    torch.testing.assert_close(marginal.log_prob(x, 0.0), start.log_prob(x))
    if schedule.alpha(0.0) == 0:
        torch.testing.assert_close(marginal.log_prob(x, 0.0), td.Normal(0.0, 1.0).log_prob(x).sum(1))
    if kind != "empirical" and schedule.beta(1.0) == 0:
        torch.testing.assert_close(marginal.log_prob(x, 1.0), p_data.log_prob(x))
        torch.testing.assert_close(marginal.score(x, 1.0), p_data.score(x))
        torch.testing.assert_close(marginal.posterior_mean(x, 1.0), x)


@every_kind
def test_samples_of_the_marginal(kind):
    """E s = 0 and E[−s · x] = d under p_t alone (Stein), within six standard errors."""
    n, marginal = 40_000, GaussianPath(Cosine()).marginal(distribution(kind))
    x = marginal.sample(n, 0.6, rng(1))
    s = marginal.score(x, 0.6)
    stein = -(s * x).sum(1)
    assert x.dtype == torch.float64 and (s.mean(0).abs() < 6 * s.std(0) / math.sqrt(n)).all()
    assert abs(stein.mean() - 2) < 6 * stein.std() / math.sqrt(n)


@every_schedule
@every_kind
def test_rescaled_to_variance_preserving_every_schedule_has_the_same_law(schedule, kind):
    """x_t/√(α² + β²) has the law of the cosine schedule at the time of the same λ.    [meet, noise schedule]"""
    t, p_data = 0.37, distribution(kind)
    t = torch.tensor(t, dtype=torch.float64)
    scale = (schedule.alpha(t) ** 2 + schedule.beta(t) ** 2).sqrt()
    x = points_on(schedule, p_data, t.expand(10), 1)
    own = GaussianPath(schedule).marginal(p_data)
    preserving = GaussianPath(Cosine()).marginal(p_data)
    tau = Cosine().time_at(schedule.log_snr(t))
    torch.testing.assert_close(own.log_prob(x, t), preserving.log_prob(x / scale, tau) - 2 * scale.log())
    torch.testing.assert_close(own.score(x, t), preserving.score(x / scale, tau) / scale)
    torch.testing.assert_close(own.posterior_mean(x, t), preserving.posterior_mean(x / scale, tau))


# transport


@every_schedule
def test_the_flow_of_a_gaussian_is_affine(schedule):
    """N(m, v I): X_t = α_t m + √(v_t/v_0) (X_0 − α_0 m) with v_t = α² v + β², path by path."""
    mean, v = torch.tensor([1.0, -2.0], dtype=torch.float64), 0.25
    marginal = GaussianPath(schedule).marginal(Gaussian(mean, v))
    ts = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, spread = schedule.alpha(ts), (schedule.alpha(ts) ** 2 * v + schedule.beta(ts) ** 2).sqrt()
    x0 = alpha[0] * mean + spread[0] * normal(20, 2, seed=1)
    x1 = simulate(ODE(marginal.vector_field), x0, ts, RK4())
    expected = alpha[-1] * mean + spread[-1] / spread[0] * (x0 - alpha[0] * mean)
    torch.testing.assert_close(x1, expected, rtol=1e-5, atol=1e-5)


def test_a_flow_in_single_precision_may_round_past_the_end():
    """t + h of the last step may exceed 1 by rounding; the exact field then stands at 1."""
    marginal = GaussianPath(Cosine()).marginal(distribution("mixture"))
    for steps in (3, 7, 11, 23, 29):
        ts = torch.arange(steps + 1) / steps
        assert torch.isfinite(simulate(ODE(marginal.vector_field), torch.zeros(2, 2), ts, Heun())).all()


# thin and finite data


def circle(n: int) -> Empirical:
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return Empirical(torch.stack([angle.cos(), angle.sin()], 1))


def test_thin_data_have_a_score_that_grows_like_one_over_beta_squared():
    """Off the circle by δ the score is −δ/β² along the normal, and on it the density grows like 1/β.

    With curvature the normal part is −(δ + β²/2 …)/β²: slopes are −2 and −1 up to O(β²/δ) = 0.02. Points lie 0.0008
    apart, far below β, so the set looks continuous.
    """
    marginal = GaussianPath(VE(sigma_max=1.0)).marginal(circle(8000))
    betas, delta = torch.tensor([0.04, 0.02, 0.01], dtype=torch.float64), 0.08
    angle = torch.full((3,), 0.7, dtype=torch.float64)
    outward = torch.stack([angle.cos(), angle.sin()], 1)
    score = marginal.score((1 + delta) * outward, 1 - betas)
    normal_part = (score * outward).sum(1)
    sideways = (score - normal_part[:, None] * outward).norm(dim=1)
    assert (normal_part < 0).all() and (sideways < 1e-6 * normal_part.abs()).all()
    torch.testing.assert_close(normal_part, -delta / betas**2, rtol=0.02, atol=0)
    slopes = normal_part.abs().log().diff() / betas.log().diff()
    assert ((slopes + 2).abs() < 0.02).all()
    density_slopes = marginal.log_prob(outward, 1 - betas).diff() / betas.log().diff()
    assert ((density_slopes + 1).abs() < 0.01).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", [CondOT(), VE(1.0), Cosine()], ids=repr)
def test_next_to_the_data_the_posterior_picks_the_nearest_point(schedule, dtype):
    """At β_t about 1e-6, every output is finite and the field is the conditional one of the nearest z."""
    z, t = normal(50, 2, seed=1).to(dtype), torch.tensor(1 - 2.0**-20, dtype=dtype)
    path = GaussianPath(schedule)
    marginal, x = path.marginal(Empirical(z)), z + 0.01 * normal(50, 2, seed=2).to(dtype)
    nearest = z[(x[:, None] - z).norm(dim=2).argmin(1)]
    assert 5e-7 < float(schedule.beta(t)) < 2e-6
    assert (marginal.posterior_weights(x, t).max(1).values == 1).all()
    torch.testing.assert_close(marginal.posterior_mean(x, t), nearest)
    torch.testing.assert_close(marginal.vector_field(x, t), path.vector_field(x, nearest, t))
    for f in (marginal.log_prob, marginal.score, marginal.vector_field):
        assert torch.isfinite(f(x, t)).all() and f(x, t).dtype == dtype


@pytest.mark.parametrize("name", ["log_prob", "score", "vector_field", "posterior_mean"])
def test_data_and_points_may_differ_in_precision(name):
    """Results come in that of the points."""
    x = normal(20, 2, seed=3)
    for p_data in (Gaussian(torch.zeros(2), 0.25), Gaussian(torch.zeros(2, dtype=torch.float64), 0.25)):
        f = getattr(GaussianPath().marginal(p_data), name)
        assert f(x.float(), 0.3).dtype == torch.float32
        torch.testing.assert_close(f(x.float(), 0.3).double(), f(x, 0.3).double(), rtol=1e-5, atol=1e-5)


def test_distances_keep_their_digits_far_from_the_origin():
    """Data and states moved together by 128, exactly in single precision: the posterior stays, which ‖x‖² + ‖z‖² − 2xᵀz
    would not see."""
    z, x = ((64 * normal(40, 2, seed=k)).round().float() / 64 for k in (1, 2))
    near, far = (GaussianPath(VE(1.0)).marginal(Empirical(z + shift)) for shift in (0, 128))
    torch.testing.assert_close(far.posterior_weights(x + 128, 0.9), near.posterior_weights(x, 0.9))


@pytest.mark.parametrize("kind", ["mixture", "empirical"])
@pytest.mark.parametrize("t", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_time_for_all_is_as_a_time_for_each(kind, t, dtype):
    """Sums by natural parameters and by attention against the same sums term by term; past the limit they are those."""
    marginal = GaussianPath(Cosine()).marginal(distribution(kind, seed=3))
    x = marginal.sample(200, t, rng(0)).to(dtype)
    each = torch.full((200,), t, dtype=dtype)
    digits = 1e4 * torch.finfo(dtype).eps
    for f in (marginal.log_prob, marginal.score, marginal.vector_field, marginal.posterior_mean):
        torch.testing.assert_close(f(x, t), f(x, each), rtol=digits, atol=digits * float(f(x, each).abs().max()))


@pytest.mark.parametrize("kind", ["mixture", "empirical"])
@pytest.mark.parametrize("t", [0.3, 0.95])
def test_log_prob_is_differentiable_twice(kind, t):
    marginal = GaussianPath().marginal(distribution(kind, seed=3))
    x = marginal.sample(3, t, rng(0)).requires_grad_()
    for f in (marginal.log_prob, marginal.score, marginal.posterior_mean):
        assert torch.autograd.gradgradcheck(lambda x, f=f: f(x, t), (x,), eps=1e-7, atol=1e-3, rtol=1e-4)


def test_close_to_the_data_squares_are_not_expanded():
    marginal, beta = GaussianPath().marginal(distribution("empirical")), torch.tensor(0.01)
    assert marginal._sharp(torch.tensor(0.99), beta) and not marginal._sharp(torch.tensor(0.5), torch.tensor(0.5))


def test_points_without_noise_have_no_density():
    marginal, x = GaussianPath().marginal(circle(5)), normal(3, 2, seed=1)
    for f in (marginal.log_prob, marginal.score, marginal.vector_field, marginal.posterior_mean):
        with pytest.raises(ValueError, match="singular at t = 1: β_t = 0"):
            f(x, torch.tensor([0.2, 1.0, 0.5]))


def test_without_data_in_the_state_the_posterior_is_the_prior():
    p_data = distribution("empirical")
    marginal = GaussianPath(CondOT()).marginal(p_data)
    torch.testing.assert_close(marginal.posterior_mean(normal(3, 2, seed=1), 0.0), p_data.z.mean(0).expand(3, 2))


def test_pure_noise_beside_a_state_that_is_nearly_data():
    """A row at t = 0, where α = 0, in one batch with a row at t = 0.97: each is as it would be alone."""
    marginal = GaussianPath().marginal(Empirical(torch.tensor([[1.0, 0.2], [-1.0, 0.4], [0.3, -2.0]])))
    x, times = torch.tensor([[0.5, -0.3], [1.0, 0.1]]), (0.0, 0.97)
    for name in ("log_prob", "posterior_weights", "posterior_mean", "score", "vector_field"):
        function = getattr(marginal, name)
        alone = torch.cat([function(x[k : k + 1], t) for k, t in enumerate(times)])
        torch.testing.assert_close(function(x, torch.tensor(times)), alone)


def test_results_do_not_depend_on_the_chunks(monkeypatch):
    p_data, t = distribution("empirical"), uniform(31, 0.1, 0.9, 1)
    marginal, x = GaussianPath(CondOT()).marginal(p_data), normal(31, 2, seed=2)
    functions = (marginal.log_prob, marginal.score, marginal.vector_field, marginal.posterior_weights)
    whole = [f(x, t) for f in functions]
    monkeypatch.setattr("fmlab.marginals.CHUNK", 40)
    for f, expected in zip(functions, whole):
        torch.testing.assert_close(f(x, t), expected)


@pytest.mark.parametrize("t", [0.5, torch.linspace(0.1, 0.9, 100)])
def test_a_large_data_set_takes_little_memory(monkeypatch, t):
    """No table of n × N numbers, and none of n × N × d: at most CHUNK at a time, with a time for all or for each."""
    import fmlab.marginals

    sizes = []

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    monkeypatch.setattr("fmlab.marginals.CHUNK", 2**20)
    marginal = GaussianPath().marginal(Empirical(torch.randn(100_000, 2, generator=rng(1))))
    with Spy():
        field = marginal.vector_field(torch.randn(100, 2, generator=rng(2)), t)
    assert torch.isfinite(field).all() and max(sizes) <= fmlab.marginals.CHUNK


@every_schedule
def test_images_are_vectors_in_another_shape(schedule):
    images, x, t = normal(20, 1, 3, 4, seed=1), normal(6, 1, 3, 4, seed=2), uniform(6, 0.1, 0.9, 3)
    path = GaussianPath(schedule)
    marginal, flat = path.marginal(Empirical(images)), path.marginal(Empirical(images.flatten(1)))
    torch.testing.assert_close(marginal.log_prob(x, t), flat.log_prob(x.flatten(1), t))
    for name in ("score", "vector_field", "posterior_mean"):
        found, expected = getattr(marginal, name)(x, t), getattr(flat, name)(x.flatten(1), t)
        torch.testing.assert_close(found, expected.view_as(x))
    assert marginal.sample(7, 0.5, rng(1)).shape == (7, 1, 3, 4)


@every_kind
def test_one_step_from_noise_draws_the_mean(kind):
    """At t = 0 the noise says nothing of z, so that u_0(x) = E z − x: one step of Euler's method ends at E z."""
    p_data = distribution(kind)
    mean = p_data.z.mean(0) if kind == "empirical" else p_data.mean
    field, x0 = GaussianPath(CondOT()).marginal(p_data).vector_field, normal(6, 2, seed=1)
    ends = simulate(ODE(field), x0, [0.0, 1.0], Euler())
    torch.testing.assert_close(ends, mean.expand(6, 2), rtol=1e-12, atol=1e-12)


# the path between two data sets


def test_linear_path():
    x0, x1, t = normal(5, 1, 2, 2, seed=1), normal(5, 1, 2, 2, seed=2), uniform(5, 0, 1, 3)
    path = LinearPath()
    assert torch.equal(path.interpolate(x1, x0, 0.0), x0) and torch.equal(path.interpolate(x1, x0, 1.0), x1)
    torch.testing.assert_close(path.velocity(x1, x0, t), rate(lambda t: path.interpolate(x1, x0, t), t))
    torch.testing.assert_close(path.interpolate(x1, x0, t), GaussianPath(CondOT()).interpolate(x1, x0, t))


def test_paths_and_marginals_keep_their_protocols():
    for path in (GaussianPath(), ADAPTED, LinearPath()):
        assert isinstance(path, Path) and not isinstance(path, Marginal)
    for kind in KINDS:
        assert isinstance(GaussianPath().marginal(distribution(kind)), Marginal)


# wrong use


@pytest.mark.parametrize(
    "path", [GaussianPath(), GeneralGaussianPath(lambda z, t: t * z, lambda z, t: 1 - t), LinearPath()]
)
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda path, x: path.interpolate(x, x[:1], 0.5), "one shape"),
        (lambda path, x: path.interpolate(x, x[:, 0], 0.5), "one shape"),
        (lambda path, x: path.velocity(x[:, :1], x, 0.5), "one shape"),
        (lambda path, x: path.interpolate(x, x, torch.full((3, 1), 0.5)), r"shape \(3,\), got \(3, 1\)"),
        (lambda path, x: path.velocity(x, x, torch.full((2,), 0.5)), r"shape \(3,\), got \(2,\)"),
        (lambda path, x: path.interpolate(x, x, 1.5), r"times must be in \[0, 1\]"),
        (lambda path, x: path.velocity(x, x, -0.5), r"times must be in \[0, 1\]"),
        (lambda path, x: path.interpolate(x.long(), x, 0.5), "floating point"),
        (lambda path, x: path.velocity(x, x.long(), 0.5), "floating point"),
    ],
)
def test_bad_input_to_a_path_gets_a_clear_error(path, call, words):
    with pytest.raises(ValueError, match=words):
        call(path, normal(3, 2, seed=0))


@every_kind
@pytest.mark.parametrize("name", ["log_prob", "score", "vector_field", "posterior_mean"])
def test_bad_input_to_a_marginal_gets_a_clear_error(kind, name):
    f, x = getattr(GaussianPath().marginal(distribution(kind)), name), normal(3, 2, seed=0)
    for arguments, words in [
        ((x[:, :1], 0.5), r"shape \(n, 2"),
        ((x[0], 0.5), r"shape \(n, 2"),
        ((x, torch.full((3, 1), 0.5)), r"shape \(3,\), got \(3, 1\)"),
        ((x, torch.full((4,), 0.5)), r"shape \(3,\), got \(4,\)"),
        ((x, 2), r"times must be in \[0, 1\]"),
        ((x.long(), 0.5), "floating point"),
    ]:
        with pytest.raises(ValueError, match=words):
            f(*arguments)


def test_a_distribution_without_closed_form_is_refused():
    with pytest.raises(TypeError, match=r"no closed form for object; use .* Empirical\(z\)"):
        GaussianPath().marginal(object())
    assert GaussianPath().marginal(GaussianMixture([[0.0]], 1.0)) is not None


@pytest.mark.parametrize("t", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_marginals_have_derivatives_in_either_mode(kind, t):
    """Forward and backward, in x and in t, also where distances are differences."""
    exact, x, t = GaussianPath().marginal(distribution(kind)), normal(4, 2, seed=5), torch.tensor(t).double()
    for function in (exact.vector_field, exact.score, exact.posterior_mean, exact.log_prob):
        for of in (0, 1):
            forward, backward = (way(function, of)(x, t) for way in (torch.func.jacfwd, torch.func.jacrev))
            torch.testing.assert_close(forward, backward)
            step = 1e-6 * torch.ones_like((x, t)[of])
            ahead, back = (function(*((x + side * step, t), (x, t + side * step))[of]) for side in (1, -1))
            along = forward.flatten(ahead.ndim).sum(-1) if of == 0 else forward
            torch.testing.assert_close(along, (ahead - back) / 2e-6, rtol=1e-5, atol=1e-5 * float(along.abs().max()))


def test_posterior_means_over_many_points_in_single_precision():
    z = 0.5 * normal(300_000, 2, seed=1).float() + 3
    single, double = (GaussianPath().marginal(Empirical(points)) for points in (z, z.double()))
    for t in (0.1, 0.6, 0.95):
        x = t * z[:4] + (1 - t) * normal(4, 2, seed=2).float()
        for times in (torch.tensor(t), torch.full((4,), t)):
            exact = double.posterior_mean(x.double(), times)
            torch.testing.assert_close(single.posterior_mean(x, times).double(), exact, rtol=0, atol=2e-4)


def test_the_general_path_moves_in_inference_mode():
    path = GeneralGaussianPath(lambda z, t: t**2 * z, lambda z, t: 1.1 - t)
    z, noise = normal(5, 2, seed=1), normal(5, 2, seed=2)
    expected = path.velocity(z, noise, 0.3)
    with torch.inference_mode():
        found = path.velocity(z.clone(), noise, 0.3)
    assert torch.equal(found, expected) and float(expected.abs().max()) > 0
