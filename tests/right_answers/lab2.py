"""Right answers to lab 2 in other styles than the solution's: loops, einsum, NumPy, autograd, other algebra."""

import math

import numpy as np
import torch
from torch import distributions as td
from torch.autograd.functional import jvp

from fmlab.likelihood import divergence as exact_divergence
from fmlab.paths import GaussianPath
from fmlab.schedules import coefficient


def times_of(t, x):
    """A time for each row."""
    return torch.as_tensor(t, dtype=x.dtype).expand(len(x))


def alpha_of(t, family):
    return 1.0 * t if family == "condot" else (math.pi / 2 * t).sin()


def beta_of(t, family):
    return 1 - t if family == "condot" else (math.pi / 2 * t).cos()


def schedule_by_autograd(t, family):
    s = t.clone().requires_grad_()
    values = [f(s, family) for f in (alpha_of, beta_of)]
    rates = [torch.autograd.grad(value.sum(), s, retain_graph=True)[0] for value in values]
    return tuple(value.detach() for value in values + rates)


def schedule_by_forward_mode(t, family):
    one = torch.ones_like(t)
    pairs = [torch.func.jvp(lambda t, f=f: f(t, family), (t,), (one,)) for f in (alpha_of, beta_of)]
    return [value for part in zip(*pairs) for value in part]


def schedule_in_numpy(t, family):
    s = t.numpy().astype(np.float64)
    angle = np.pi / 2 * s
    values = {
        "condot": (s, 1 - s, np.ones_like(s), -np.ones_like(s)),
        "cosine": (np.sin(angle), np.cos(angle), np.pi / 2 * np.cos(angle), -np.pi / 2 * np.sin(angle)),
    }
    return tuple(torch.as_tensor(np.asarray(value)).to(t) for value in values[family])


def sample_by_einsum(z, noise, t, schedule):
    t = times_of(t, z)
    return torch.einsum("n,n...->n...", schedule.alpha(t), z) + torch.einsum("n,n...->n...", schedule.beta(t), noise)


def marginal_one_by_one(sample_data, n, t, schedule):
    z = torch.cat([sample_data(1) for _ in range(n)])
    return sample_by_einsum(z, torch.randn(z.shape), t, schedule)


def marginal_in_double(sample_data, n, t, schedule):
    """NumPy's noise is in double precision, and nothing asks for less."""
    alpha, beta, *_ = schedule.weights(t, z := sample_data(n))
    return alpha * z + beta * torch.from_numpy(np.random.default_rng().normal(size=tuple(z.shape)))


def marginal_by_normal(sample_data, n, t, schedule):
    alpha, beta, *_ = schedule.weights(t, z := sample_data(n))
    return torch.normal(alpha * z, beta.expand(z.shape))


def field_from_score(x, z, t, schedule):
    _, beta, alpha_dot, beta_dot = schedule.weights(t, x)
    return alpha_dot * z - beta * beta_dot * score_by_noise(x, z, t, schedule)


def field_in_numpy(x, z, t, schedule):
    a, b, da, db = (value.numpy().astype(np.float64) for value in schedule.weights(times_of(t, x), x))
    return torch.from_numpy(da * z.numpy() + db / b * (x.numpy() - a * z.numpy())).to(x)


def field_by_vmap(x, z, t, schedule):
    def of_row(x, z, t):
        rate = schedule.beta_dot(t) / schedule.beta(t)
        return (schedule.alpha_dot(t) - rate * schedule.alpha(t)) * z + rate * x

    return torch.vmap(of_row)(x, z, times_of(t, x))


def two_points_by_softmax(x, t, m):
    """Both exponents, without what cancels."""
    half = m * t * x / (1 - t) ** 2
    right, left = torch.stack([half, -half]).softmax(0)
    return (right * (m - x) + left * (-m - x)) / (1 - t)


def two_points_by_log_prob(x, t, m):
    t = times_of(t, x)
    logs = torch.stack([td.Normal(t * z, 1 - t).log_prob(x) for z in (m, -m)])
    return torch.einsum("zn,zn->n", (logs - logs.logsumexp(0)).exp(), torch.stack([m - x, -m - x])) / (1 - t)


def two_points_in_numpy(x, t, m):
    x64, t64 = x.numpy().astype(np.float64), np.asarray(t, dtype=np.float64)
    mean = m * np.tanh(m * t64 * x64 / (1 - t64) ** 2)
    return torch.from_numpy((mean - x64) / (1 - t64)).to(x)


def weights_by_loops(x, data, t, schedule):
    rows = zip(x, schedule.alpha(times_of(t, x)), schedule.beta(times_of(t, x)))
    table = torch.stack([torch.stack([-((row - a * z) ** 2).sum() / (2 * b**2) for z in data]) for row, a, b in rows])
    table = (table - table.max(dim=1, keepdim=True).values).exp()
    return table / table.sum(dim=1, keepdim=True)


def weights_by_log_prob(x, data, t, schedule):
    path = GaussianPath(schedule)
    logs = torch.stack([path.log_prob(x, z.expand_as(x), times_of(t, x)) for z in data], dim=1)
    return (logs - logs.logsumexp(1, keepdim=True)).exp()


def weights_by_products(x, data, t, schedule):
    """The exponents without what all data points have in common: α/β² x·z − ½ (α/β)² ‖z‖²."""
    alpha, beta, *_ = schedule.weights(times_of(t, x).double(), x.flatten(1))
    x, z = x.flatten(1).double(), data.flatten(1).double()
    return (alpha / beta**2 * (x @ z.T) - (alpha / beta) ** 2 / 2 * z.square().sum(1)).softmax(1).to(data)


def average_of_all_pairs(x, data, t, weights, field):
    n, count = weights.shape
    left, right = (v.expand(n, count, *x.shape[1:]).flatten(0, 1) for v in (x[:, None], data[None]))
    t = torch.as_tensor(t)
    velocities = field(left, right, t.repeat_interleave(count) if t.ndim else t).unflatten(0, (n, count))
    return torch.einsum("nk,nk...->n...", weights, velocities)


def average_by_matrix(x, data, t, weights, field):
    table = torch.stack([field(x, z[None].expand(x.shape), t) for z in data], 1).flatten(2)
    return torch.bmm(weights[:, None], table)[:, 0].reshape(x.shape)


def average_state_by_state(x, data, t, weights, field):
    rows = zip(x, weights, times_of(t, x))
    return torch.stack([torch.einsum("k,k...", w, field(row.expand_as(data), data, s)) for row, w, s in rows])


def divergence_forward(u, x, t):
    units = [row.expand_as(x) for row in torch.eye(x.shape[1], dtype=x.dtype)]
    return sum((jvp(lambda x: u(x, t), x, e)[1] * e).sum(1) for e in units)


def divergence_by_vmap(u, x, t):
    matrix = torch.func.jacrev(lambda row, s: u(row[None], s)[0])
    return torch.vmap(lambda row, s: matrix(row, s).trace())(x, times_of(t, x))


def divergence_of_own_tensor(u, x, t):
    """Turns on recording for the tensor it was given."""
    values = u(x.requires_grad_(), t)
    return sum(torch.autograd.grad(values[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1]))


def residual_by_product_rule(density, u, x, t):
    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()
    p = density(x, t)
    change, gradient = torch.autograd.grad(p.sum(), (t, x))
    return change + (u(x, t) * gradient).sum(1) + p.detach() * exact_divergence(u, x, t)


def residual_by_hand(density, u, x, t):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    flux = density(x, t)[:, None] * u(x, t)
    total = torch.autograd.grad(density(x, t).sum(), t)[0]
    return total + sum(torch.autograd.grad(flux[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))


def residual_by_logarithm(density, u, x, t):
    """p (∂_t log p + div u + u · ∇ log p)."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    change, score = torch.autograd.grad(density(x, t).log().sum(), (t, x))
    return (density(x, t) * (change + exact_divergence(u, x, t) + (u(x, t) * score).sum(1))).detach()


def score_by_autograd(x, z, t, schedule):
    y, (alpha, beta, *_) = x.clone().requires_grad_(), schedule.weights(t, x)
    return torch.autograd.grad(td.Normal(alpha * z, beta.expand_as(x)).log_prob(y).sum(), y)[0]


def score_by_noise(x, z, t, schedule):
    alpha, beta, *_ = schedule.weights(t, x)
    return -((x - alpha * z) / beta) / beta


def score_from_log_snr(x, z, t, schedule):
    """1/β² = e^λ/α², with the λ of the schedule; where α is 0, as it stands."""
    alpha, beta, *_ = schedule.weights(t, x)
    precision = coefficient((schedule.log_snr(t) - 2 * schedule.alpha(t).log()).exp(), x)
    return torch.where(alpha > 0, precision, 1 / beta**2).to(x) * (alpha * z - x)


class Drift(torch.nn.Module):
    def __init__(self, u, score, sigma):
        super().__init__()
        self.u, self.score, self.sigma = u, score, sigma

    def forward(self, x, t):
        t = times_of(t, x)
        return self.u(x, t) + coefficient(self.sigma(t) ** 2 / 2, x) * self.score(x, t)


def planck_by_two_derivatives(density, score, drift, sigma, x, t):
    """Δp by differentiating ∇p, and ∇p by differentiating the density."""
    gradient = torch.func.grad(lambda x, t: density(x, t).sum())
    return residual_by_hand(density, drift, x, t) - sigma**2 / 2 * exact_divergence(gradient, x, t)


def planck_term_by_term(density, score, drift, sigma, x, t):
    """½σ² Δp = ½σ² p (div s + ‖s‖²)."""
    spread = exact_divergence(score, x, t) + score(x, t).square().sum(1)
    return residual_by_logarithm(density, drift, x, t) - sigma**2 / 2 * density(x, t) * spread


RIGHT = {
    "alpha_beta": [schedule_by_autograd, schedule_by_forward_mode, schedule_in_numpy],
    "sample_marginal_path": [marginal_one_by_one, marginal_in_double, marginal_by_normal],
    "conditional_vector_field": [field_from_score, field_in_numpy, field_by_vmap],
    "general_vector_field": [
        lambda x, m, s, dm, ds: torch.from_numpy((ds * x / s).numpy() - (ds / s * m).numpy()) + dm,
        lambda x, m, s, dm, ds: dm + ds * ((x - m) / s),
        lambda x, m, s, dm, ds: torch.addcmul(dm, (x - m), (ds / s).expand_as(x)),
    ],
    "two_point_field": [
        two_points_by_softmax,
        two_points_by_log_prob,
        two_points_in_numpy,
        lambda x, t, m: (m * (2 * torch.sigmoid(2 * m * t * x / (1 - t) ** 2) - 1) - x) / (1 - t),
    ],
    "posterior_weights": [weights_by_loops, weights_by_log_prob, weights_by_products],
    "marginal_vector_field": [average_of_all_pairs, average_by_matrix, average_state_by_state],
    "divergence": [divergence_forward, divergence_by_vmap, divergence_of_own_tensor],
    "continuity_residual": [residual_by_product_rule, residual_by_hand, residual_by_logarithm],
    "conditional_score": [score_by_autograd, score_by_noise, score_from_log_snr],
    "sde_extension_drift": [
        Drift,
        lambda u, s, g: lambda x, t: u(x, t) + s(x, t) * coefficient(torch.as_tensor(g(t)).square() / 2, x),
        lambda u, s, g: lambda x, t: torch.vmap(lambda v, s, g: v + g * g / 2 * s)(u(x, t), s(x, t), g(times_of(t, x))),
    ],
    "fokker_planck_residual": [
        lambda p, s, b, g, x, t: residual_by_hand(p, lambda x, t: b(x, t) - 0.5 * g * g * s(x, t), x, t),
        planck_by_two_derivatives,
        planck_term_by_term,
    ],
}
