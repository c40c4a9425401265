"""Theorem 12 and its score twin, minimisers in closed form, weightings over λ: Monte Carlo within standard error."""

import math

import pytest
import torch

from fmlab.distributions import Gaussian
from fmlab.losses import (
    ddpm_loss,
    drop_labels,
    effective_weight,
    flow_matching_loss,
    guided_flow_matching_loss,
    loss_over_log_snr,
    marginal_flow_matching_loss,
    marginal_score_matching_loss,
    reflow_loss,
    score_matching_loss,
    uniform,
)
from fmlab.paths import GaussianPath, LinearPath
from fmlab.schedules import CondOT, Cosine, LinearVP, Schedule
from tests.cases import SCHEDULES, distribution, normal, rng

PATHS = [GaussianPath(CondOT()), GaussianPath(Cosine())]
CLIPPED = uniform(0.05, 0.95)
PAIRS = {
    "flow": (flow_matching_loss, marginal_flow_matching_loss, {}),
    "score": (score_matching_loss, marginal_score_matching_loss, {"times": CLIPPED}),
    "weighted score": (
        score_matching_loss,
        marginal_score_matching_loss,
        {"weight": lambda t: 1 - t, "times": CLIPPED},
    ),
}


def zero(x, t):
    return torch.zeros_like(x)


def linear(theta):
    """The model θ (x, t, 1): three coefficients for each coordinate."""

    def model(x, t):
        t = torch.as_tensor(t).to(x).expand(len(x))[:, None]
        return torch.cat([x, t, torch.ones_like(t)], dim=1) @ theta.T

    return model


def at(t: float):
    return lambda n, generator: torch.full((n,), t, dtype=torch.float64)


def batches(loss, model, path, p_data, *args, count=60, n=1000, **kwargs):
    """Values of a loss on independent batches, the same ones in each call: (count,)."""
    values = []
    for seed in range(count):
        generator = rng(seed)
        values.append(loss(model, path, p_data.sample(n, generator), *args, generator=generator, **kwargs))
    return torch.stack(values)


def is_zero_on_average(values, errors=5.0):
    """|mean| within 5 standard errors (a false alarm in 10⁶)."""
    return (values.mean(0).abs() <= errors * values.std(0) / math.sqrt(len(values))).all()


# Theorem 12, and the same for scores


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.schedule))
@pytest.mark.parametrize("pair", PAIRS)
def test_marginal_and_conditional_losses_differ_by_the_stated_constant_for_every_model(pair, path):
    conditional, marginal, options = PAIRS[pair]
    p = distribution("mixture")

    def difference(model):
        return batches(marginal, model, path, p, p, **options) - batches(conditional, model, path, p, **options)

    constant = difference(zero)  # E‖marginal target‖² − E‖conditional target‖², as the theorem states
    assert constant.mean() < -constant.std()  # many standard errors below 0
    for seed in range(3):
        assert is_zero_on_average(difference(linear(normal(2, 4, seed=seed))) - constant)


@pytest.mark.parametrize("s", [0.5, 1.0, 2.0])
def test_the_constant_of_a_gaussian_is_an_integral(s):
    """With N(0, s² I) data, L_FM − L_CFM = −∫ tr Cov(u_t(x|z) | x) dt = −d ∫ s²/(t²s² + (1−t)²) dt = −d π s/2."""
    p = Gaussian(torch.zeros(3, dtype=torch.float64), s**2)
    path = GaussianPath()
    found = batches(marginal_flow_matching_loss, zero, path, p, p) - batches(flow_matching_loss, zero, path, p)
    assert is_zero_on_average(found + 3 * math.pi * s / 2)


@pytest.mark.parametrize("pair", PAIRS)
def test_gradients_of_both_losses_agree(pair):
    conditional, marginal, options = PAIRS[pair]
    p, theta = distribution("mixture"), normal(2, 4, seed=3).requires_grad_()

    def gradients(loss, *args):
        values = batches(loss, linear(theta), PATHS[0], p, *args, **options)
        return torch.stack([torch.autograd.grad(value, theta, retain_graph=True)[0] for value in values])

    ours = gradients(conditional)
    assert is_zero_on_average(ours - gradients(marginal, p))
    assert not is_zero_on_average(ours)


@pytest.mark.parametrize("schedule", [CondOT(), Cosine(), LinearVP()], ids=str)
@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("loss", [flow_matching_loss, score_matching_loss, ddpm_loss], ids=lambda f: f.__name__)
def test_the_best_affine_model_of_a_gaussian_is_its_marginal_field(loss, t, schedule):
    """At a fixed time the loss is a quadratic in θ, so one Newton step finds its minimum; the exact field is affine."""
    n, path, p = 20_000, GaussianPath(schedule), distribution("gaussian", seed=4)
    z = p.sample(n, rng(0))

    def objective(theta):
        return loss(lambda x, t: x @ theta[:, :2].T + theta[:, 2], path, z, times=at(t), generator=rng(1))

    start = torch.zeros(2, 3, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(objective, start).flatten()
    curvature = torch.autograd.functional.hessian(objective, start).reshape(6, 6)
    theta = -torch.linalg.solve(curvature, slope).reshape(2, 3)

    coefficients = (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot)
    alpha, beta, alpha_dot, beta_dot = (float(f(torch.tensor(t, dtype=torch.float64))) for f in coefficients)
    eye = torch.eye(2, dtype=torch.float64)
    precision = torch.linalg.inv(alpha**2 * p.cov + beta**2 * eye)
    x = normal(50, 2, seed=5) + alpha * p.mean
    centred = (x - alpha * p.mean) @ precision
    exact = {
        flow_matching_loss: alpha_dot * p.mean + centred @ (alpha * alpha_dot * p.cov + beta * beta_dot * eye),
        score_matching_loss: -centred,
        ddpm_loss: beta * centred,
    }[loss]
    # Least squares on n points misses the value at x by √(residual variance · (1 + Mahalanobis distance²) / n).
    spread = (objective(theta) * (1 + (centred * (x - alpha * p.mean)).sum(1)) / n).sqrt()
    assert ((x @ theta[:, :2].T + theta[:, 2] - exact).norm(dim=1) < 6 * spread).all()


# The forms of one loss


def test_score_matching_weighted_with_beta_squared_is_noise_prediction():
    for schedule in SCHEDULES:
        path, z, noise = GaussianPath(schedule), normal(500, 2, seed=0), linear(normal(2, 4, seed=1))
        beta = schedule.beta
        score = lambda x, t: -noise(x, t) / beta(t)[:, None]  # noqa: B023, E731
        weighted = score_matching_loss(score, path, z, weight=lambda t: beta(t) ** 2, times=CLIPPED, generator=rng(2))  # noqa: B023
        torch.testing.assert_close(weighted, ddpm_loss(noise, path, z, times=CLIPPED, generator=rng(2)))


def test_losses_sum_over_coordinates_and_average_over_the_batch():
    path, z = GaussianPath(), torch.zeros(200_000, 1, 2, 3, dtype=torch.float64)
    for loss, expected, error in [(flow_matching_loss, 6, 12), (ddpm_loss, 6, 12)]:  # E‖ε‖² = d, variance 2d
        assert float(loss(zero, path, z, generator=rng(0))) == pytest.approx(
            expected, abs=5 * math.sqrt(error / len(z))
        )


def test_the_target_is_the_velocity_of_the_pair_to_the_last_digit_near_the_data():
    """Regressing on (z − x)/(1 − t) instead would lose 3.6 % here in float32."""
    z = torch.randn(1000, 2, generator=rng(0))
    late = lambda n, generator: torch.full((n,), 1 - 1e-6)  # noqa: E731
    x0 = torch.randn(1000, 2, generator=rng(1))
    assert float(flow_matching_loss(lambda x, t: z - x0, GaussianPath(), z, x0, late)) == 0


def test_linear_path_joins_two_data_sets():
    x0, x1 = normal(400, 2, seed=0), 2 + normal(400, 2, seed=1)
    seen = {}

    def model(x, t):
        seen.update(x=x, t=t)
        return torch.ones_like(x)

    loss = flow_matching_loss(model, LinearPath(), x1, x0, generator=rng(0))
    torch.testing.assert_close(seen["x"], torch.lerp(x0, x1, seen["t"][:, None]))
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(torch.ones_like(x1), x1 - x0, reduction="sum") / 400)


def test_reflow_regresses_on_the_straight_lines_of_a_flows_own_pairs():
    x0, k, t, calls = normal(50, 3, seed=0), torch.tensor([7, 7, 31]), torch.tensor([0.1, 0.8, 0.5]).double(), []

    def sample(x):
        calls.append(len(x))
        return 2 * x + 1

    loss = reflow_loss(sample, x0)
    torch.testing.assert_close(loss(zero, k, t), (x0[k] + 1).square().sum(1).mean())
    straight = lambda x, t: (x + 1) / (1 + t[:, None])  # noqa: E731  x = x_0 + t (x_0 + 1), solved for the velocity
    assert float(loss(straight, k, t)) < 1e-28
    assert calls == [50]


def test_times_are_drawn_as_told():
    seen = []
    model = lambda x, t: (seen.append(t), x)[1]  # noqa: E731
    z = normal(20_000, 1, seed=0)
    flow_matching_loss(model, GaussianPath(), z, generator=rng(0))
    flow_matching_loss(model, GaussianPath(), z, times=uniform(0.2, 0.6), generator=rng(0))
    for t, low, high in [(seen[0], 0, 1), (seen[1], 0.2, 0.6)]:
        assert low <= t.min() and t.max() < high
        levels = ((t - low) / (high - low)).sort().values
        grid = (torch.arange(len(t)) + 0.5) / len(t)
        assert float((levels - grid).abs().max()) < 2.0 / math.sqrt(len(t))  # Kolmogorov: exceeded once in 1500


class SquareRoot(Schedule):
    """α = t, β = √(1 − t)."""

    def alpha(self, t):
        return torch.as_tensor(t)

    def beta(self, t):
        return torch.sqrt(1 - torch.as_tensor(t))

    def alpha_dot(self, t):
        return torch.ones_like(torch.as_tensor(t))

    def beta_dot(self, t):
        return -0.5 / self.beta(t)


def test_targets_of_the_square_root_schedule_have_no_second_moment():
    """At time t they are d/(4(1−t)) and d/(1−t): the integral over t diverges like log 1/(1 − t). CondOT's is d."""
    z, d = torch.zeros(20_000, 2, dtype=torch.float64), 2
    for gap in (1e-2, 1e-4, 1e-6):
        options = {"times": at(1 - gap), "generator": rng(0)}
        tolerance = {"rel": 5 * math.sqrt(2 / d / len(z))}
        flow = float(flow_matching_loss(zero, GaussianPath(SquareRoot()), z, **options))
        score = float(score_matching_loss(zero, GaussianPath(SquareRoot()), z, **options))
        assert flow == pytest.approx(d / (4 * gap), **tolerance) and score == pytest.approx(d / gap, **tolerance)
        assert float(flow_matching_loss(zero, GaussianPath(), z, **options)) == pytest.approx(d, **tolerance)


# Over log-SNR


def grid(low, high, n=20_001):
    return torch.linspace(low, high, n, dtype=torch.float64)


def test_the_loss_over_log_snr_does_not_depend_on_the_schedule():
    """One denoiser ε̂(x/√(α² + β²), λ), seen through the scale of each schedule."""
    z, weights = normal(1000, 2, seed=0), [torch.ones_like, lambda log_snr: torch.sigmoid(1 - log_snr)]
    for weight in weights:
        values = []
        for schedule in SCHEDULES:

            def model(x, t, schedule=schedule):
                scale = (schedule.alpha(t) ** 2 + schedule.beta(t) ** 2).sqrt()[:, None]
                return torch.tanh(x / scale * schedule.log_snr(t)[:, None])

            values.append(loss_over_log_snr(model, GaussianPath(schedule), z, weight, -2.0, 4.0, generator=rng(1)))
        torch.testing.assert_close(torch.stack(values), values[0].expand(len(values)), rtol=1e-9, atol=0)
    assert len(SCHEDULES) > 3


@pytest.mark.parametrize("s", [0.5, 2.0])
def test_the_loss_over_log_snr_of_a_gaussian_is_an_integral(s):
    """With N(0, s²) data the best denoiser leaves Var(ε | x) = e^λ s²/(e^λ s² + 1) at every λ."""
    p, low, high = Gaussian(torch.zeros(1, dtype=torch.float64), s**2), -3.0, 4.0
    weight = lambda log_snr: torch.exp(-log_snr / 2)  # noqa: E731
    log_snr = grid(low, high)
    expected = torch.trapezoid(weight(log_snr) * torch.sigmoid(log_snr + 2 * math.log(s)), log_snr)
    for schedule in (CondOT(), Cosine()):
        path = GaussianPath(schedule)
        noise = lambda x, t: -schedule.beta(t)[:, None] * path.marginal(p).score(x, t)  # noqa: B023, E731
        values = batches(loss_over_log_snr, noise, path, p, weight, low, high)
        assert is_zero_on_average(values - expected)


@pytest.mark.parametrize("output", ["data", "noise", "v", "vector_field"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_plain_loss_over_time_is_the_effectively_weighted_loss_over_log_snr(schedule, output):
    """Best model of N(0, s²) data: its error at t is Var(a z + b ε | x) = s² (a β − b α)²/(α² s² + β²)."""
    s, t = 1.7, grid(0.1, 0.9)
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    a, b = {
        "data": (1, 0),
        "noise": (0, 1),
        "v": (-beta, alpha),
        "vector_field": (schedule.alpha_dot(t), schedule.beta_dot(t)),
    }[output]
    over_time = torch.trapezoid(s**2 * (a * beta - b * alpha) ** 2 / (alpha**2 * s**2 + beta**2), t)
    log_snr = grid(float(schedule.log_snr(t[0])), float(schedule.log_snr(t[-1])))
    weight = effective_weight(output, log_snr, schedule)
    over_log_snr = torch.trapezoid(weight * torch.sigmoid(log_snr + 2 * math.log(s)), log_snr)
    torch.testing.assert_close(over_log_snr, over_time, rtol=1e-6, atol=0)


def test_flow_matching_weighs_like_velocity_prediction_with_the_cosine_schedule():
    log_snr = grid(-8, 8, 101)
    flow, velocity = (
        effective_weight("vector_field", log_snr, CondOT()),
        effective_weight("v", log_snr, Cosine()),
    )
    torch.testing.assert_close(flow, torch.exp(-log_snr / 2) / 2)
    torch.testing.assert_close(flow / velocity, torch.full_like(log_snr, math.pi / 2))
    other = effective_weight("noise", log_snr, Cosine())
    assert (flow / other).max() > 2 * (flow / other).min()  # nothing of the kind holds for noise prediction


# Labels


def test_ten_per_cent_of_the_labels_are_dropped():
    y = torch.arange(100_000) % 10
    dropped = drop_labels(y, 0.1, 10, rng(0))
    rate = float((dropped == 10).float().mean())
    assert rate == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / len(y)))
    assert (dropped == y)[dropped != 10].all() and y.max() == 9
    assert (drop_labels(y, 0.0, 10) == y).all() and (drop_labels(y, 1.0, 10) == 10).all()
    assert dropped.dtype == y.dtype
    per_class = torch.bincount(y[dropped == 10], minlength=10) / 10_000  # no class is favoured
    assert ((per_class - 0.1).abs() < 5 * math.sqrt(0.09 / 10_000)).all()


def test_the_guided_loss_trains_with_and_without_the_label():
    z, y = normal(5000, 2, seed=0), torch.arange(5000) % 3
    seen = []

    def model(x, t, y):
        seen.append(y)
        return x * y[:, None]

    guided_flow_matching_loss(model, GaussianPath(), z, y, null=3, generator=rng(0))
    assert float((seen[0] == 3).float().mean()) == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / 5000))
    for drop, labels in [(0.0, y), (1.0, torch.full_like(y, 3))]:
        generator = rng(1)
        guided = guided_flow_matching_loss(model, GaussianPath(), z, y, drop, null=3, generator=generator)
        generator = rng(1)
        torch.rand(len(y), generator=generator)  # what the dropping draws
        plain = flow_matching_loss(lambda x, t: x * labels[:, None], GaussianPath(), z, generator=generator)  # noqa: B023
        torch.testing.assert_close(guided, plain)


# Wrong use


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: flow_matching_loss(zero, GaussianPath(), z.long()), "z must be floating point"),
        (lambda z: flow_matching_loss(zero, GaussianPath(), z[:, 0]), r"shape \(n, \*shape\)"),
        (lambda z: flow_matching_loss(zero, GaussianPath(), z.numpy()), "got ndarray"),
        (lambda z: flow_matching_loss(zero, GaussianPath(), z, z[:5]), "one shape"),
        (
            lambda z: flow_matching_loss(lambda x, t: x[:, :1], GaussianPath(), z),
            r"the shape of x, \(8, 2\), got \(8, 1\)",
        ),
        (lambda z: ddpm_loss(lambda x, t: x[:, 0], GaussianPath(), z), r"got \(8,\)"),
        (
            lambda z: score_matching_loss(zero, GaussianPath(), z, times=lambda n, g: torch.rand(n, 1)),
            "draw one for each",
        ),
        (lambda z: score_matching_loss(zero, GaussianPath(), z, times=lambda n, g: 2 * torch.ones(n)), r"in \[0, 1\]"),
        (lambda z: score_matching_loss(zero, GaussianPath(), z, weight=lambda t: t[:, None]), "weight must return one"),
        (lambda z: uniform(0.5, 0.2), "low < high"),
        (lambda z: guided_flow_matching_loss(zero, GaussianPath(), z, torch.zeros(8), null=3), "whole numbers"),
        (
            lambda z: guided_flow_matching_loss(zero, GaussianPath(), z, torch.zeros(7).long(), null=3),
            "one label for each",
        ),
        (lambda z: drop_labels(torch.zeros(3).long(), 1.5, 3), "probability"),
        (lambda z: drop_labels([1, 2], 0.5, 3), "got list"),
    ],
)
def test_wrong_use_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(8, 2))


@pytest.mark.parametrize("loss", [flow_matching_loss, score_matching_loss, ddpm_loss], ids=lambda f: f.__name__)
def test_noise_does_not_follow_the_layout_in_memory(loss):
    z, draw = torch.randn(4, 3, 2, 2), uniform(0, 0.9)
    values = [
        loss(
            lambda x, t: torch.zeros_like(x), GaussianPath(), z, times=draw, generator=torch.Generator().manual_seed(0)
        )
        for z in (z, z.to(memory_format=torch.channels_last))
    ]
    torch.testing.assert_close(values[0], values[1])


def test_labels_of_few_bits_make_room_for_the_null_label():
    y = torch.zeros(100, dtype=torch.uint8)
    for null, dtype in ((7, torch.uint8), (300, torch.int64), (-1, torch.int64)):
        dropped = drop_labels(y, 0.5, null)
        assert dropped.dtype == dtype and set(dropped.tolist()) == {0, null}


@pytest.mark.parametrize("z", [torch.zeros(3, 2).half(), torch.zeros(0, 2), torch.zeros(3, 2).long()], ids=str)
def test_what_no_loss_can_be_taken_of(z):
    for loss in (flow_matching_loss, score_matching_loss, ddpm_loss):
        with pytest.raises(ValueError, match="z "):
            loss(lambda x, t: x, GaussianPath(), z)
