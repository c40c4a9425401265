"""Right answers to lab 2 in other styles than the solution's: loops, einsum, NumPy, autograd, other algebra."""

import math

import numpy as np
import torch
from torch import distributions as td

from fmlab.likelihood import divergence as exact_divergence
from fmlab.paths import GaussianPath
from fmlab.schedules import coefficient


def schedule_by_autograd(t, family):
    """α and β written down, their derivatives by autograd."""
    formulas = {
        "condot": (lambda t: 1.0 * t, lambda t: 1 - t),
        "cosine": (lambda t: (math.pi / 2 * t).sin(), lambda t: (math.pi / 2 * (1 - t)).sin()),
        "vp": (
            lambda t: torch.exp(-0.05 * (1 - t) - 4.975 * (1 - t).square()),
            lambda t: (1 - torch.exp(-0.1 * (1 - t) - 9.95 * (1 - t).square())).sqrt(),
        ),
    }
    values = []
    for f in formulas[family]:
        s = t.clone().requires_grad_()
        values.append((f(s).detach(), torch.autograd.grad(f(s).sum(), s)[0]))
    (alpha, alpha_dot), (beta, beta_dot) = values
    return alpha, beta, alpha_dot, beta_dot


def schedule_by_forward_mode(t, family):
    """Values and derivatives of the angle's sine and cosine, or of α alone: β² = 1 − α² has 2 β β̇ = −2 α α̇."""
    if family == "condot":
        return [t, 1 - t, torch.full_like(t, 1.0), torch.full_like(t, -1.0)]
    formula = {
        "cosine": lambda t: torch.sin(math.pi / 2 * t),
        "vp": lambda t: torch.exp(-0.05 * (1 - t) - 4.975 * (1 - t) ** 2),
    }[family]
    alpha, alpha_dot = torch.func.jvp(formula, (t,), (torch.ones_like(t),))
    beta = (1 - alpha**2).sqrt()
    return [alpha, beta, alpha_dot, -alpha * alpha_dot / beta]


def schedule_in_numpy(t, family):
    s = t.numpy().astype(np.float64)
    if family == "condot":
        values = s, 1 - s, np.ones_like(s), -np.ones_like(s)
    elif family == "cosine":
        angle = np.pi / 2 * s
        values = np.sin(angle), np.cos(angle), np.pi / 2 * np.cos(angle), -np.pi / 2 * np.sin(angle)
    else:
        rate, variance = 20 - 19.9 * s, -np.expm1(-(0.1 * (1 - s) + 9.95 * (1 - s) ** 2))
        alpha = np.sqrt(1 - variance)
        values = alpha, np.sqrt(variance), rate * alpha / 2, -rate * alpha**2 / 2 / np.sqrt(variance)
    return tuple(torch.as_tensor(np.asarray(value)).to(t) for value in values)


def times_of(t, x):
    """A time for each row."""
    return torch.as_tensor(t, dtype=x.dtype).expand(len(x))


def sample_row_by_row(z, noise, t, schedule):
    rows = zip(z, noise, times_of(t, z))
    return torch.stack([schedule.alpha(s) * a + schedule.beta(s) * e for a, e, s in rows])


def sample_by_einsum(z, noise, t, schedule):
    t = times_of(t, z)
    return torch.einsum("n,n...->n...", schedule.alpha(t), z) + torch.einsum("n,n...->n...", schedule.beta(t), noise)


def marginal_one_by_one(sample_data, n, t, schedule):
    z = torch.cat([sample_data(1) for _ in range(n)])
    return sample_by_einsum(z, torch.randn(z.shape), t, schedule)


def marginal_by_numpy(sample_data, n, t, schedule):
    z = sample_data(n)
    noise = torch.from_numpy(np.random.default_rng().normal(size=z.shape)).to(z)
    return sample_by_einsum(z, noise, t, schedule)


def marginal_in_double(sample_data, n, t, schedule):
    """NumPy's noise is in double precision, and nothing asks for less."""
    z = sample_data(n)
    alpha, beta, *_ = schedule.weights(t, z)
    return alpha * z + beta * torch.from_numpy(np.random.default_rng().normal(size=tuple(z.shape)))


def marginal_by_normal(sample_data, n, t, schedule):
    z = sample_data(n)
    return torch.normal(coefficient(schedule.alpha(t), z) * z, coefficient(schedule.beta(t), z).expand(z.shape))


def field_by_noise(x, z, t, schedule):
    alpha, beta, alpha_dot, beta_dot = (
        coefficient(f(t), x) for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot)
    )
    noise = (x - alpha * z) / beta
    return alpha_dot * z + beta_dot * noise


def field_row_by_row(x, z, t, schedule):
    rows = []
    for a, b, s in zip(x, z, times_of(t, x)):
        ratio = schedule.beta_dot(s) / schedule.beta(s)
        rows.append((schedule.alpha_dot(s) - ratio * schedule.alpha(s)) * b + ratio * a)
    return torch.stack(rows)


def field_from_score(x, z, t, schedule):
    """−β β̇ s + α̇ z."""
    score = -(x - coefficient(schedule.alpha(t), x) * z) / coefficient(schedule.beta(t), x) ** 2
    return -coefficient(schedule.beta(t) * schedule.beta_dot(t), x) * score + coefficient(schedule.alpha_dot(t), x) * z


def field_with_a_guard(x, z, t, schedule):
    t = torch.as_tensor(t, dtype=x.dtype)
    alpha, beta, alpha_dot, beta_dot = schedule.weights(t, x)
    return beta_dot * (x - alpha * z) / (beta + 1e-8) + alpha_dot * z


def field_in_numpy(x, z, t, schedule):
    values = [value.numpy().astype(np.float64) for value in schedule.weights(times_of(t, x), x)]
    a, b, da, db = values
    return torch.from_numpy(da * z.numpy() + db / b * (x.numpy() - a * z.numpy())).to(x)


def field_by_vmap(x, z, t, schedule):
    def of_row(x, z, t):
        return (schedule.alpha_dot(t) - schedule.beta_dot(t) / schedule.beta(t) * schedule.alpha(t)) * z + (
            schedule.beta_dot(t) / schedule.beta(t) * x
        )

    return torch.vmap(of_row)(x, z, times_of(t, x))


def general_by_noise(x, mean, scale, mean_dot, scale_dot):
    noise = (x - mean) / scale
    return mean_dot + scale_dot * noise


def general_in_numpy(x, mean, scale, mean_dot, scale_dot):
    x, mean, scale, mean_dot, scale_dot = (value.numpy() for value in (x, mean, scale, mean_dot, scale_dot))
    return torch.from_numpy(scale_dot * x / scale - scale_dot / scale * mean + mean_dot)


def weights_by_loops(x, data, t, schedule):
    table = torch.empty(len(x), len(data), dtype=x.dtype)
    for k, s in enumerate(times_of(t, x)):
        for i, z in enumerate(data):
            table[k, i] = -((x[k] - schedule.alpha(s) * z) ** 2).sum() / (2 * schedule.beta(s) ** 2)
    table = (table - table.max(dim=1, keepdim=True).values).exp()
    return table / table.sum(dim=1, keepdim=True)


def weights_by_log_prob(x, data, t, schedule):
    path = GaussianPath(schedule)
    logs = torch.stack([path.log_prob(x, z.expand_as(x), times_of(t, x)) for z in data], dim=1)
    return (logs - logs.logsumexp(1, keepdim=True)).exp()


def weights_by_cdist(x, data, t, schedule):
    """A batch of one row and its own centres for each state."""
    x = x.flatten(1)[:, None]
    centres = coefficient(schedule.alpha(t), x) * data.flatten(1).expand(len(x), *data.flatten(1).shape)
    distance = torch.cdist(x, centres.to(x))[:, 0]
    return torch.softmax(-((distance / coefficient(schedule.beta(t), distance)) ** 2) / 2, -1)


def weights_with_a_guard(x, data, t, schedule):
    squares = (x.unsqueeze(1) - coefficient(schedule.alpha(t), x[:, None]) * data[None]).pow(2).flatten(2).sum(-1)
    return (-0.5 * squares / (coefficient(schedule.beta(t), squares) ** 2 + 1e-8)).softmax(dim=-1)


def weights_from_log_snr(x, data, t, schedule):
    """The exponents without what all data points have in common: α/β² x·z − ½ (α/β)² ‖z‖²."""
    t = times_of(t, x)
    alpha, beta = schedule.alpha(t)[:, None].double(), schedule.beta(t)[:, None].double()
    x, z = x.flatten(1).double(), data.flatten(1).double()
    return (alpha / beta**2 * (x @ z.T) - (alpha / beta) ** 2 / 2 * z.square().sum(1)).softmax(1).to(data)


def average_of_all_pairs(x, data, t, weights, field):
    n, count = weights.shape
    left = x[:, None].expand(n, count, *x.shape[1:]).flatten(0, 1)
    right = data[None].expand(n, count, *x.shape[1:]).flatten(0, 1)
    t = torch.as_tensor(t)
    velocities = field(left, right, t.repeat_interleave(count) if t.ndim else t).unflatten(0, (n, count))
    return torch.einsum("nk,nk...->n...", weights, velocities)


def average_by_matrix(x, data, t, weights, field):
    table = torch.stack([field(x, z[None].expand(x.shape), t) for z in data], 1).flatten(2)
    return torch.bmm(weights[:, None], table)[:, 0].reshape(x.shape)


def average_with_one_time_per_point(x, data, t, weights, field):
    t = times_of(t, x)
    return sum(coefficient(weights[:, i], x) * field(x, data[i : i + 1].expand(x.shape), t) for i in range(len(data)))


def average_state_by_state(x, data, t, weights, field):
    rows = []
    for k, s in enumerate(times_of(t, x)):
        velocities = field(x[k].expand_as(data), data, s)
        rows.append((velocities.flatten(1).T @ weights[k]).reshape(x[k].shape))
    return torch.stack(rows)


def divergence_of_jacobian(u, x, t):
    full = torch.autograd.functional.jacobian(lambda x: u(x, t).sum(0), x)  # (d, n, d)
    return torch.einsum("ini->n", full)


def divergence_forward(u, x, t):
    total = torch.zeros(len(x), dtype=x.dtype)
    for i in range(x.shape[1]):
        e = torch.zeros_like(x)
        e[:, i] = 1
        total += torch.autograd.functional.jvp(lambda x: u(x, t), x, e)[1][:, i]
    return total


def divergence_by_vmap(u, x, t):
    matrix = torch.func.jacrev(lambda row, s: u(row[None], s)[0])
    return torch.vmap(lambda row, s: matrix(row, s).trace())(x, times_of(t, x))


def divergence_row_by_row(u, x, t):
    values = []
    for row, s in zip(x, times_of(t, x)):
        matrix = torch.autograd.functional.jacobian(lambda y, s=s: u(y[None], s[None])[0], row)
        values.append(matrix.trace())
    return torch.stack(values)


def divergence_of_own_tensor(u, x, t):
    """Turns on recording for the tensor it was given."""
    x.requires_grad_()
    values = u(x, t)
    return sum(torch.autograd.grad(values[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1]))


def residual_by_product_rule(density, u, x, t):
    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()
    p = density(x, t)
    change, gradient = torch.autograd.grad(p.sum(), (t, x))
    return change + (u(x, t) * gradient).sum(1) + p.detach() * exact_divergence(u, x, t)


def residual_by_hand(density, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    p = density(x, t)
    flux = p[:, None] * u(x, t)
    total = torch.autograd.grad(p.sum(), t, retain_graph=True)[0]
    for i in range(x.shape[1]):
        total = total + torch.autograd.grad(flux[:, i].sum(), x, retain_graph=True)[0][:, i]
    return total


def residual_row_by_row(density, u, x, t):
    rows = []
    for k in range(len(x)):
        y, s = x[k : k + 1].clone().requires_grad_(), t[k].clone().requires_grad_()
        (change,) = torch.autograd.grad(density(y, s).sum(), s)
        flux = torch.autograd.functional.jacobian(lambda y, s=s.detach(): density(y, s) * u(y, s)[0], y)  # (d, 1, d)
        rows.append(change + flux[:, 0].trace())
    return torch.stack(rows)


def residual_by_logarithm(density, u, x, t):
    """p (∂_t log p + div u + u · ∇ log p)."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    change, score = torch.autograd.grad(density(x, t).log().sum(), (t, x))
    rest = exact_divergence(u, x, t) + (u(x, t) * score).sum(1)
    return (density(x, t) * (change + rest)).detach()


def score_by_autograd(x, z, t, schedule):
    y = x.clone().requires_grad_()
    normal = td.Normal(coefficient(schedule.alpha(t), x) * z, coefficient(schedule.beta(t), x).expand_as(x))
    return torch.autograd.grad(normal.log_prob(y).sum(), y)[0]


def score_by_noise(x, z, t, schedule):
    alpha, beta = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
    noise = (x - alpha * z) / beta
    return -noise / beta


def score_with_a_guard(x, z, t, schedule):
    alpha, beta, *_ = schedule.weights(t, x)
    return (alpha * z - x).div(beta.square() + 1e-8)


def score_from_log_snr(x, z, t, schedule):
    """1/β² = e^λ/α², with the λ of the schedule; where α is 0, as it stands."""
    t = times_of(t, x)
    alpha, precision = schedule.alpha(t), (schedule.log_snr(t) - 2 * schedule.alpha(t).log()).exp()
    precision = torch.where(alpha > 0, precision, 1 / schedule.beta(t) ** 2)
    return coefficient(precision, x) * (coefficient(alpha, x) * z - x)


def score_row_by_row(x, z, t, schedule):
    rows = zip(x, z, times_of(t, x))
    return torch.stack([(schedule.alpha(s) * b - a) / schedule.beta(s).square() for a, b, s in rows])


def average_of_scores(x, data, t, weights, schedule):
    scores = [score_by_noise(x, z.expand_as(x), t, schedule) for z in data]
    return sum(coefficient(weights[:, i], x) * s for i, s in enumerate(scores))


def scores_by_einsum(x, data, t, weights, schedule):
    alpha, beta = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
    return (alpha * torch.einsum("nk,k...->n...", weights, data) - x) / beta.square()


def score_of_log_density(x, data, t, weights, schedule):
    """By autograd of log Σ_i p_t(x | z_i): needs no weights."""
    y, path = x.clone().requires_grad_(), GaussianPath(schedule)
    logs = torch.stack([path.log_prob(y, z.expand_as(x), times_of(t, x)) for z in data])
    return torch.autograd.grad(logs.logsumexp(0).sum(), y)[0]


def normal_row_by_row(score, x, t):
    s = score(x, t)
    return torch.stack([torch.dot(a, b) / b.norm() for a, b in zip(s, x)])


def normal_with_one_time_per_point(score, x, t):
    normal = torch.nn.functional.normalize(x, dim=-1, eps=1e-8)
    return (score(x, torch.as_tensor(t, dtype=x.dtype).expand(len(x))) * normal).sum(-1)


class Drift(torch.nn.Module):
    def __init__(self, u, score, sigma):
        super().__init__()
        self.u, self.score, self.sigma = u, score, sigma

    def forward(self, x, t):
        t = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
        return self.u(x, t) + coefficient(self.sigma(t) ** 2 / 2, x) * self.score(x, t)


def drift_with_noise_rate(u, score, sigma):
    def drift(x, t):
        level = coefficient(torch.as_tensor(sigma(t)), x)
        return u(x, t) + 0.5 * level * level * score(x, t)

    return drift


def drift_row_by_row(u, score, sigma):
    def drift(x, t):
        levels = torch.as_tensor(sigma(t)).expand(len(x))
        rows = zip(u(x, t), score(x, t), levels)
        return torch.stack([v + s * (g**2 / 2) for v, s, g in rows])

    return drift


def planck_by_two_derivatives(density, score, drift, sigma, x, t):
    """Δp by differentiating the density twice."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    p = density(x, t)
    change, gradient = torch.autograd.grad(p.sum(), (t, x), create_graph=True)
    flux, total = p[:, None] * drift(x, t), change
    for i in range(x.shape[1]):
        total = total + torch.autograd.grad(flux[:, i].sum(), x, retain_graph=True)[0][:, i]
        total = total - sigma**2 / 2 * torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0][:, i]
    return total.detach()


def planck_as_continuity(density, score, drift, sigma, x, t):
    return residual_by_hand(density, lambda x, t: drift(x, t) - 0.5 * sigma * sigma * score(x, t), x, t)


def planck_term_by_term(density, score, drift, sigma, x, t):
    """p (∂_t log p + div b + b · s − ½σ² (div s + ‖s‖²))."""
    t = t.detach().requires_grad_()
    (change,) = torch.autograd.grad(density(x, t).log().sum(), t)
    s = score(x, t)
    spread = exact_divergence(score, x, t) + (s * s).sum(1)
    terms = change + exact_divergence(drift, x, t) + (drift(x, t) * s).sum(1) - sigma**2 / 2 * spread
    return (density(x, t) * terms).detach()


def planck_in_double(density, score, drift, sigma, x, t):
    x64, t64 = x.double(), t.double()
    return planck_by_two_derivatives(density, score, drift, torch.tensor(sigma), x64, t64).to(x)


RIGHT = {
    "alpha_beta": [schedule_by_autograd, schedule_by_forward_mode, schedule_in_numpy],
    "sample_conditional_path": [
        sample_row_by_row,
        sample_by_einsum,
        lambda z, noise, t, s: torch.addcmul(coefficient(s.beta(t), z) * noise, coefficient(s.alpha(t), z), z),
    ],
    "sample_marginal_path": [marginal_one_by_one, marginal_by_numpy, marginal_in_double, marginal_by_normal],
    "conditional_vector_field": [
        field_by_noise,
        field_row_by_row,
        field_from_score,
        field_with_a_guard,
        field_in_numpy,
        field_by_vmap,
    ],
    "general_vector_field": [
        general_by_noise,
        general_in_numpy,
        lambda x, m, s, dm, ds: torch.addcmul(dm, (x - m), (ds / s).expand_as(x)),
    ],
    "posterior_weights": [
        weights_by_loops,
        weights_by_log_prob,
        weights_by_cdist,
        weights_with_a_guard,
        weights_from_log_snr,
    ],
    "marginal_vector_field": [
        average_of_all_pairs,
        average_by_matrix,
        average_state_by_state,
        average_with_one_time_per_point,
    ],
    "divergence": [
        divergence_of_jacobian,
        divergence_forward,
        divergence_row_by_row,
        divergence_by_vmap,
        divergence_of_own_tensor,
        lambda u, x, t: divergence_of_jacobian(u, x, times_of(t, x)),
    ],
    "continuity_residual": [residual_by_product_rule, residual_by_hand, residual_row_by_row, residual_by_logarithm],
    "conditional_score": [score_by_autograd, score_by_noise, score_row_by_row, score_with_a_guard, score_from_log_snr],
    "marginal_score": [average_of_scores, scores_by_einsum, score_of_log_density],
    "score_along_normal": [
        normal_row_by_row,
        normal_with_one_time_per_point,
        lambda score, x, t: torch.einsum("ni,ni->n", score(x, t), torch.nn.functional.normalize(x, dim=1)),
        lambda score, x, t: torch.from_numpy(
            (score(x, t).numpy() * x.numpy()).sum(1) / np.linalg.norm(x.numpy(), axis=1)
        ),
    ],
    "sde_extension_drift": [
        drift_with_noise_rate,
        drift_row_by_row,
        Drift,
        lambda u, score, sigma: (
            lambda x, t: torch.lerp(
                u(x, t), u(x, t) + score(x, t), (coefficient(sigma(t), x) ** 2 / 2).to(x).expand_as(x)
            )
        ),
    ],
    "fokker_planck_residual": [planck_by_two_derivatives, planck_as_continuity, planck_term_by_term, planck_in_double],
}
