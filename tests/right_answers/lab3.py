"""Right answers to lab 3 in other styles than the solution's: loops, NumPy, einsum, conversions, other algebra."""

import math

import numpy as np
import torch
from torch.autograd.functional import jvp
from torch.nn.functional import mse_loss

from fmlab.distributions import Gaussian
from fmlab.paths import GaussianPath
from fmlab.processes import ODE
from fmlab.simulators import Euler, simulate


def shaped(value, x):
    """A coefficient in the shape of the states, repeated in every coordinate."""
    value = torch.as_tensor(value, dtype=x.dtype)
    return value.expand(len(x)).reshape(len(x), *[1] * (x.ndim - 1)).expand_as(x)


def loss_point_by_point(u, z, t, noise, schedule, field=None):
    """The network is asked about one point at a time. field: of the marginal loss."""
    total, times = 0.0, torch.as_tensor(t).expand(len(z))
    for k, s in enumerate(times):
        x = (schedule.alpha(s) * z[k] + schedule.beta(s) * noise[k])[None]
        target = field(x, s) if field else schedule.alpha_dot(s) * z[k] + schedule.beta_dot(s) * noise[k]
        total = total + (u(x, times[k : k + 1]) - target).square().sum()
    return total / len(z)


def loss_with_vmap(u, z, t, noise, schedule, field=None):
    def row(t, z, e):
        return schedule.alpha(t) * z + schedule.beta(t) * e, schedule.alpha_dot(t) * z + schedule.beta_dot(t) * e

    x, target = torch.vmap(row)(torch.as_tensor(t, dtype=z.dtype).expand(len(z)), z, noise)
    error = u(x, t) - (field(x, t).detach() if field else target)
    return torch.linalg.vector_norm(error.flatten(1), dim=1).pow(2).mean()


def loss_by_the_clock(u, z, t, noise, schedule, field=None):
    """The target as the velocity of the state, by automatic differentiation."""
    s = shaped(t, z).clone()
    x, velocity = jvp(lambda s: schedule.alpha(s) * z + schedule.beta(s) * noise, s, torch.ones_like(s))
    return mse_loss(u(x, t), field(x, t) if field else velocity, reduction="sum") / z.shape[0]


def batch_point_by_point(u, sample_data, n, schedule):
    """A loop over points, each with draws of its own; the network is asked about seven at a time."""
    z = torch.stack([sample_data(1)[0] for _ in range(n)])
    t, noise = torch.stack([torch.rand(()) for _ in z]), torch.stack([torch.randn(row.shape) for row in z])
    a, b, da, db = schedule.weights(t, z)
    x, velocity, total = a * z + b * noise, da * z + db * noise, 0.0
    for few in torch.arange(n).split(7):
        total = total + (u(x[few], t[few]) - velocity[few]).square().sum()
    return total / n


def batch_with_even_times(u, sample_data, n, schedule):
    """One shift moves times that are even: fewer gaps, and each time is uniform all the same."""
    z = sample_data(n)
    t = ((torch.arange(n) + torch.rand(1)) / n % 1)[torch.randperm(n)]
    return loss_by_the_clock(u, z, t, torch.from_numpy(np.random.default_rng().normal(size=z.shape)).to(z), schedule)


def batch_in_parts(u, sample_data, n, schedule):
    """Half after half, by the path of the library."""
    path, total = GaussianPath(schedule), 0.0
    for k in (n // 2, n - n // 2):
        z, t = sample_data(k), torch.rand(k).clamp(1e-3, 1 - 1e-3)
        noise = torch.randn_like(z)
        total = total + (u(path.interpolate(z, noise, t), t) - path.velocity(z, noise, t)).square().sum()
    return total.div(n)


def optimum_row_by_row(x, t, mean, std):
    rows = []
    for row, s in zip(x, torch.as_tensor(t).expand(len(x)).tolist(), strict=True):
        rows.append(mean + (s * std**2 - 1 + s) / (s**2 * std**2 + (1 - s) ** 2) * (row - s * mean))
    return torch.stack(rows)


def optimum_from_posterior(x, t, mean, std):
    t = shaped(t, x)
    gap = (x - t * mean) / (t**2 * std**2 + (1 - t) ** 2)
    return mean + t * std**2 * gap - (1 - t) * gap


def optimum_from_flow(x, t, mean, std):
    """The flow scales deviations from t m by the standard deviation, so the field is its logarithmic derivative."""
    t = shaped(t, x).clone()
    _, rate = jvp(lambda t: ((t * std) ** 2 + (1 - t) ** 2).log() / 2, t, torch.ones_like(t))
    return mean + rate * (x - t * mean)


def step_in_ordinary_pytorch(model, loss, optimizer):
    model.train()
    optimizer.zero_grad(set_to_none=True)
    value = loss(model)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1e6)
    assert all(group["lr"] > 0 for group in optimizer.param_groups)
    optimizer.step()
    optimizer.zero_grad()
    return value.detach().numpy()


def step_with_a_closure(model, loss, optimizer):
    def closure():
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        return value

    return optimizer.step(closure).item()


def step_with_gradients_set(model, loss, optimizer):
    value = loss(model)
    for weight, gradient in zip(model.parameters(), torch.autograd.grad(value, list(model.parameters())), strict=True):
        weight.grad = gradient
    optimizer.step()
    return value.detach().clone()


def sample_detached(u, x0, ts):
    x = x0
    for t, h in zip(ts, ts.diff(), strict=False):
        x = (x + h * u(x, float(t))).detach()
    return x


@torch.inference_mode()
def sample_with_a_time_for_each(u, x0, ts):
    x = x0
    for t, s in zip(ts, ts[1:], strict=False):
        x = x + (s - t) * u(x, t.expand(len(x)))
    return x


@torch.no_grad()
def sample_point_by_point(u, x0, ts):
    return torch.cat([simulate(ODE(u), x, ts, Euler()) for x in x0.split(1)])


def energy_with_numpy(x, y):
    x, y = x.flatten(1).numpy(), y.flatten(1).numpy()
    mean = lambda a, b: np.sqrt(((a[:, None] - b) ** 2).sum(-1)).mean()  # noqa: E731
    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def energy_by_loops(x, y):
    total = 0.0
    for a, b, weight in ((x, y, 2), (x, x, -1), (y, y, -1)):
        total += weight * sum(float((p - q).norm()) for p in a for q in b) / (len(a) * len(b))
    return total


def energy_with_pdist(x, y):
    x, y = x.flatten(1), y.flatten(1)
    within = [2 * torch.pdist(a).sum() / len(a) ** 2 for a in (x, y)]
    return (2 * torch.cdist(x, y).sum() / (len(x) * len(y)) - sum(within)).item()


def likelihood_with_negative_steps(u, divergence, x, ts):
    back, log_p = ts.flip(0), 0.0
    for t, h in zip(back[:-1], back.diff(), strict=True):
        log_p = log_p + float(h) * divergence(x, float(t))
        x = x + float(h) * u(x, float(t))
    return log_p - 0.5 * x.flatten(1).square().sum(1) - x[0].numel() / 2 * math.log(2 * math.pi)


def likelihood_recursive(u, divergence, x, ts):
    if len(ts) == 1:
        return Gaussian(torch.zeros(x[0].numel(), dtype=x.dtype), 1.0).log_prob(x.flatten(1))
    h = ts[-1] - ts[-2]
    before = likelihood_recursive(u, divergence, x - h * u(x, ts[-1]), ts[:-1])
    return before - h * divergence(x, ts[-1])


def likelihood_with_a_time_for_each(u, divergence, x, ts):
    lost = 0.0
    for t, h in zip(ts[1:].flip(0), ts.diff().flip(0), strict=True):
        t = t.expand(len(x))
        lost, x = lost + h * divergence(x, t), x - h * u(x, t)
    return torch.distributions.Normal(0, 1).log_prob(x.flatten(1)).sum(1) - lost


def line_by_rows(x0, x1, t):
    times = torch.as_tensor(t).expand(len(x0)).tolist()
    return [torch.stack([a + s * (b - a) for s, a, b in zip(times, x0, x1, strict=True)]), x1 - x0]


def line_by_the_clock(x0, x1, t):
    s = shaped(t, x0).clone()
    return jvp(lambda s: x0 + s * (x1 - x0), s, torch.ones_like(s))


def reflow_in_parts(sample, x0):
    """The pairs are made in minibatches."""
    x1 = torch.cat([sample(part).detach() for part in x0.split(3)])

    def loss(u, k, t):
        start, end = x0[k], x1[k]
        s = shaped(t, start)
        return (u((1 - s) * start + s * end, t) + start - end).flatten(1).square().sum(1).mean()

    return loss


def reflow_point_by_point(sample, x0):
    x1 = torch.stack([sample(x[None])[0].detach() for x in x0.flip(0)]).flip(0)

    def loss(u, k, t):
        total = 0.0
        for i, s in zip(k.tolist(), torch.as_tensor(t).expand(len(k)), strict=True):
            error = u(torch.lerp(x0[i], x1[i], s.to(x0))[None], s)[0] - (x1[i] - x0[i])
            total = total + error.pow(2).sum()
        return total / len(k)

    return loss


class Reflow:
    """A loss that is an object with a call."""

    def __init__(self, sample, x0):
        with torch.no_grad():
            self.x0, self.v = x0, sample(x0) - x0

    def __call__(self, u, k, t):
        error = (u(self.x0[k] + shaped(t, self.v[k]) * self.v[k], t) - self.v[k]).flatten(1)
        return torch.einsum("ni,ni->", error, error) / len(k)


LOSSES = [loss_point_by_point, loss_with_vmap, loss_by_the_clock]
RIGHT = {
    "conditional_flow_matching_loss": LOSSES,
    "batch_loss": [
        batch_point_by_point,
        batch_with_even_times,
        batch_in_parts,
        lambda u, sample_data, n, schedule: loss_with_vmap(
            u, z := sample_data(n), torch.rand(n), torch.randn(z.shape), schedule
        ),
    ],
    "optimal_vector_field": [optimum_row_by_row, optimum_from_posterior, optimum_from_flow],
    "train_step": [step_in_ordinary_pytorch, step_with_a_closure, step_with_gradients_set],
    "sample_flow": [sample_detached, sample_with_a_time_for_each, sample_point_by_point],
    "energy_distance": [energy_with_numpy, energy_by_loops, energy_with_pdist],
    "log_likelihood": [likelihood_with_negative_steps, likelihood_recursive, likelihood_with_a_time_for_each],
    "linear_path": [
        line_by_rows,
        line_by_the_clock,
        lambda x0, x1, t: (torch.lerp(x0, x1, shaped(t, x0)), torch.sub(x1, x0)),
    ],
    "reflow": [reflow_in_parts, reflow_point_by_point, Reflow],
}
