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


def times_of(t, n):
    """A time for each row, as numbers."""
    return torch.as_tensor(t).expand(n) if torch.as_tensor(t).ndim == 0 else t


def sample_row_by_row(z, noise, t, schedule):
    rows = zip(z, noise, times_of(t, len(z)))
    return torch.stack([schedule.alpha(s) * a + schedule.beta(s) * e for a, e, s in rows])


def sample_by_einsum(z, noise, t, schedule):
    t = times_of(t, len(z))
    return torch.einsum("n,n...->n...", schedule.alpha(t), z) + torch.einsum("n,n...->n...", schedule.beta(t), noise)


def marginal_one_by_one(sample_data, n, t, schedule):
    z = torch.cat([sample_data(1) for _ in range(n)])
    return sample_by_einsum(z, torch.randn(z.shape), t, schedule)


def marginal_by_numpy(sample_data, n, t, schedule):
    z = sample_data(n)
    noise = torch.from_numpy(np.random.default_rng().normal(size=z.shape)).to(z)
    return sample_by_einsum(z, noise, t, schedule)


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
    for a, b, s in zip(x, z, times_of(t, len(x))):
        ratio = schedule.beta_dot(s) / schedule.beta(s)
        rows.append((schedule.alpha_dot(s) - ratio * schedule.alpha(s)) * b + ratio * a)
    return torch.stack(rows)


def field_from_score(x, z, t, schedule):
    """−β β̇ s + α̇ z."""
    score = -(x - coefficient(schedule.alpha(t), x) * z) / coefficient(schedule.beta(t), x) ** 2
    return -coefficient(schedule.beta(t) * schedule.beta_dot(t), x) * score + coefficient(schedule.alpha_dot(t), x) * z


def general_by_noise(x, mean, scale, mean_dot, scale_dot):
    noise = (x - mean) / scale
    return mean_dot + scale_dot * noise


def general_in_numpy(x, mean, scale, mean_dot, scale_dot):
    x, mean, scale, mean_dot, scale_dot = (value.numpy() for value in (x, mean, scale, mean_dot, scale_dot))
    return torch.from_numpy(scale_dot * x / scale - scale_dot / scale * mean + mean_dot)


def weights_by_loops(x, data, t, schedule):
    table = torch.empty(len(x), len(data), dtype=x.dtype)
    for k, s in enumerate(times_of(t, len(x))):
        for i, z in enumerate(data):
            table[k, i] = -((x[k] - schedule.alpha(s) * z) ** 2).sum() / (2 * schedule.beta(s) ** 2)
    table = (table - table.max(dim=1, keepdim=True).values).exp()
    return table / table.sum(dim=1, keepdim=True)


def weights_by_log_prob(x, data, t, schedule):
    path, n = GaussianPath(schedule), len(x)
    logs = torch.stack([path.log_prob(x, z.expand_as(x), times_of(t, n)) for z in data], dim=1)
    return (logs - logs.logsumexp(1, keepdim=True)).exp()


def weights_by_cdist(x, data, t, schedule):
    scaled = x.flatten(1) / coefficient(schedule.alpha(t), x.flatten(1))
    distance = torch.cdist(scaled, data.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    ratio = coefficient(schedule.alpha(t) / schedule.beta(t), distance)
    return torch.softmax(-((ratio * distance) ** 2) / 2, -1)


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


def average_state_by_state(x, data, t, weights, field):
    rows = []
    for k, s in enumerate(times_of(t, len(x))):
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


def divergence_row_by_row(u, x, t):
    values = []
    for row, s in zip(x, times_of(t, len(x))):
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


def score_row_by_row(x, z, t, schedule):
    rows = zip(x, z, times_of(t, len(x)))
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
    logs = torch.stack([path.log_prob(y, z.expand_as(x), times_of(t, len(x))) for z in data])
    return torch.autograd.grad(logs.logsumexp(0).sum(), y)[0]


def normal_row_by_row(score, x, t):
    s = score(x, t)
    return torch.stack([torch.dot(a, b) / b.norm() for a, b in zip(s, x)])


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


RIGHT = {
    "alpha_beta": [schedule_by_autograd, schedule_by_forward_mode, schedule_in_numpy],
    "sample_conditional_path": [
        sample_row_by_row,
        sample_by_einsum,
        lambda z, noise, t, s: torch.addcmul(coefficient(s.beta(t), z) * noise, coefficient(s.alpha(t), z), z),
    ],
    "sample_marginal_path": [marginal_one_by_one, marginal_by_numpy, marginal_by_normal],
    "conditional_vector_field": [field_by_noise, field_row_by_row, field_from_score],
    "general_vector_field": [
        general_by_noise,
        general_in_numpy,
        lambda x, m, s, dm, ds: torch.addcmul(dm, (x - m), (ds / s).expand_as(x)),
    ],
    "posterior_weights": [weights_by_loops, weights_by_log_prob, weights_by_cdist],
    "marginal_vector_field": [average_of_all_pairs, average_by_matrix, average_state_by_state],
    "divergence": [divergence_of_jacobian, divergence_forward, divergence_row_by_row, divergence_of_own_tensor],
    "continuity_residual": [residual_by_product_rule, residual_by_hand, residual_by_logarithm],
    "conditional_score": [score_by_autograd, score_by_noise, score_row_by_row],
    "marginal_score": [average_of_scores, scores_by_einsum, score_of_log_density],
    "score_along_normal": [
        normal_row_by_row,
        lambda score, x, t: torch.einsum("ni,ni->n", score(x, t), torch.nn.functional.normalize(x, dim=1)),
        lambda score, x, t: torch.from_numpy(
            (score(x, t).numpy() * x.numpy()).sum(1) / np.linalg.norm(x.numpy(), axis=1)
        ),
    ],
    "sde_extension_drift": [
        drift_with_noise_rate,
        drift_row_by_row,
        lambda u, score, sigma: (
            lambda x, t: torch.lerp(u(x, t), u(x, t) + score(x, t), (coefficient(sigma(t), x) ** 2 / 2).expand_as(x))
        ),
    ],
    "fokker_planck_residual": [planck_by_two_derivatives, planck_as_continuity, planck_term_by_term],
}
