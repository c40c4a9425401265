"""Right answers to lab 3 in other styles than the solution's: loops, NumPy, einsum, conversions, other algebra."""

import math

import numpy as np
import torch
from torch.nn.functional import mse_loss

from fmlab import likelihood
from fmlab.ddpm import gaussian_log_prob
from fmlab.distributions import Gaussian
from fmlab.processes import ODE
from fmlab.simulators import Euler, simulate


def shaped(value, x):
    """A coefficient in the shape of the states, repeated in every coordinate."""
    value = torch.as_tensor(value, dtype=x.dtype)
    return value.expand(len(x)).reshape(len(x), *[1] * (x.ndim - 1)).expand_as(x)


def squares(error):
    return error.flatten(1).square().sum(1)


def loss_with_einsum(u, z, t, noise, schedule):
    a, b, da, db = (shaped(f(t), z) for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    error = (da * z + db * noise - u(a * z + b * noise, t)).reshape(len(z), -1)
    return torch.einsum("ni,ni->", error, error) / len(z)


def loss_point_by_point(u, z, t, noise, schedule):
    """The network is asked about one point at a time."""
    total, times = 0.0, torch.as_tensor(t).expand(len(z))
    for k, s in enumerate(times):
        x = schedule.alpha(s) * z[k] + schedule.beta(s) * noise[k]
        target = schedule.alpha_dot(s) * z[k] + schedule.beta_dot(s) * noise[k]
        total = total + (u(x[None], times[k : k + 1])[0] - target).square().sum()
    return total / len(z)


def loss_with_a_time_for_each(u, z, t, noise, schedule):
    t = torch.as_tensor(t, dtype=z.dtype).expand(len(z))
    a, b, da, db = schedule.weights(t, z)
    return ((u(a * z + b * noise, t) - da * z - db * noise) ** 2).sum() / len(z)


def loss_with_vmap(u, z, t, noise, schedule):
    def row(t, z, e):
        return schedule.alpha(t) * z + schedule.beta(t) * e, schedule.alpha_dot(t) * z + schedule.beta_dot(t) * e

    x, target = torch.vmap(row)(torch.as_tensor(t, dtype=z.dtype).expand(len(z)), z, noise)
    return (u(x, t) - target).square().flatten(1).sum(-1).mean()


def loss_by_the_clock(u, z, t, noise, schedule):
    """The target as the velocity of the state, by automatic differentiation."""
    s = shaped(t, z).clone()
    path = lambda s: schedule.alpha(s) * z + schedule.beta(s) * noise  # noqa: E731
    x, velocity = torch.autograd.functional.jvp(path, s, torch.ones_like(s))
    return torch.stack([(p - v).square().sum() for p, v in zip(u(x, t), velocity, strict=True)]).mean()


def loss_with_mse(u, z, t, noise, schedule):
    a, b, da, db = (shaped(f(t), z) for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    return mse_loss(u(a * z + b * noise, t), da * z + db * noise, reduction="sum") / z.shape[0]


def loss_from_eq_29(u, z, t, noise, schedule):
    """The target as a function of state and data, where there is noise; else from the noise."""
    a, b, da, db = (shaped(f(t), z) for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    x = a * z + b * noise
    target = torch.where(b > 1e-3, (da - db / b * a) * z + db / b * x, da * z + db * noise)
    return (u(x, t) - target).square().flatten(1).sum(dim=1).mean(dim=0)


def marginal_with_mse(u, z, t, noise, schedule, field):
    x = shaped(schedule.alpha(t), z) * z + shaped(schedule.beta(t), z) * noise
    return mse_loss(u(x, t), field(x, t), reduction="sum") / len(z)


def marginal_expanded(u, z, t, noise, schedule, field):
    x = (shaped(schedule.alpha(t), z) * z).addcmul(shaped(schedule.beta(t), z), noise)
    with torch.no_grad():
        target = field(x, t).flatten(1)
    prediction = u(x, t).flatten(1)
    return (prediction**2 - 2 * prediction * target + target**2).sum() / len(x)


def marginal_with_norm(u, z, t, noise, schedule, field):
    x = shaped(schedule.alpha(t), z) * z + shaped(schedule.beta(t), z) * noise
    return torch.linalg.vector_norm((field(x, t) - u(x, t)).flatten(1), dim=1).pow(2).mean()


def marginal_point_by_point(u, z, t, noise, schedule, field):
    times, total = torch.as_tensor(t).expand(len(z)), []
    for k, s in enumerate(times):
        x = (schedule.alpha(s) * z[k] + schedule.beta(s) * noise[k])[None]
        total.append((u(x, s) - field(x, s)).square().sum())
    return sum(total) / len(total)


def optimum_with_a_guard(x, t, mean, std):
    t = shaped(t, x)
    return mean + (t * std**2 - (1 - t)) / ((t * std) ** 2 + (1 - t) ** 2 + 1e-8) * (x - t * mean)


def optimum_row_by_row(x, t, mean, std):
    rows = []
    for row, s in zip(x, torch.as_tensor(t).expand(len(x)).tolist(), strict=True):
        rows.append(mean + (s * std**2 - 1 + s) / (s**2 * std**2 + (1 - s) ** 2) * (row - s * mean))
    return torch.stack(rows)


def optimum_from_scale(x, t, mean, std):
    """At a fixed number of standard deviations from the mean, x_t = t m + size ξ."""
    t = shaped(t, x)
    variance = (t * std) ** 2 + (1 - t) ** 2
    return mean + (t * std**2 + t - 1) * (x - mean * t) / variance


def optimum_from_posterior(x, t, mean, std):
    t = shaped(t, x)
    gain = t * std**2 / (t**2 * std**2 + (1 - t) ** 2)
    data = mean + gain * (x - t * mean)
    noise = (1 - t) / (t**2 * std**2 + (1 - t) ** 2) * (x - t * mean)
    return data - noise


def optimum_from_flow(x, t, mean, std):
    """The flow scales deviations from t m by the standard deviation, so the field is its logarithmic derivative."""
    t = shaped(t, x).clone().requires_grad_()
    with torch.enable_grad():
        log_scale = ((t * std) ** 2 + (1 - t) ** 2).log() / 2
        (rate,) = torch.autograd.grad(log_scale.sum(), t)
    return mean + rate * (x - t.detach() * mean)


def step_with_float(model, loss, optimizer):
    optimizer.zero_grad(set_to_none=True)
    value = loss(model)
    value.backward()
    optimizer.step()
    return float(value)


def step_with_detach(model, loss, optimizer):
    optimizer.zero_grad()
    (value := loss(model)).backward()
    before = value.detach().clone()
    optimizer.step()
    return before


def step_with_numpy(model, loss, optimizer):
    value = loss(model)
    optimizer.zero_grad()
    torch.autograd.backward(value)
    optimizer.step()
    return value.detach().numpy()


def step_in_ordinary_pytorch(model, loss, optimizer):
    model.train()
    optimizer.zero_grad()
    value = loss(model)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1e6)
    assert all(group["lr"] > 0 for group in optimizer.param_groups)
    optimizer.step()
    optimizer.zero_grad()
    return value.item()


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
    return value.item()


@torch.no_grad()
def sample_by_index(u, x0, ts):
    x = x0.clone()
    for k in range(len(ts) - 1):
        x = torch.add(x, u(x, ts[k]), alpha=float(ts[k + 1] - ts[k]))
    return x


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
    points = []
    for x in x0.split(1):
        for t, s in zip(ts.tolist(), ts.tolist()[1:], strict=False):
            x = x + (s - t) * u(x, t)
        points.append(x)
    return torch.cat(points)


@torch.no_grad()
def sample_with_simulate(u, x0, ts):
    return simulate(ODE(u), x0, ts, Euler())


@torch.no_grad()
def sample_recursive(u, x0, ts):
    return x0 if len(ts) == 1 else sample_recursive(u, x0 + (ts[1] - ts[0]) * u(x0, ts[0]), ts[1:])


def energy_by_broadcasting(x, y):
    x, y = x.flatten(1), y.flatten(1)
    mean = lambda a, b: (a[:, None] - b[None]).norm(dim=2).mean()  # noqa: E731
    return mean(x, y) + mean(y, x) - mean(x, x) - mean(y, y)


def energy_with_numpy(x, y):
    x, y = x.flatten(1).numpy(), y.flatten(1).numpy()
    mean = lambda a, b: np.sqrt(((a[:, None] - b) ** 2).sum(-1)).mean()  # noqa: E731
    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def energy_by_loops(x, y):
    total = 0.0
    for a, b, weight in ((x, y, 2), (x, x, -1), (y, y, -1)):
        total += weight * sum(float((p - q).norm()) for p in a for q in b) / (len(a) * len(b))
    return total


def energy_by_expansion(x, y):
    """‖x − y‖² = ‖x‖² + ‖y‖² − 2 x·y."""
    x, y = x.flatten(1), y.flatten(1)

    def mean(a, b):
        squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        return squared.clamp(min=0).sqrt().mean()

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def energy_with_pdist(x, y):
    x, y = x.flatten(1), y.flatten(1)
    within = lambda a: 2 * torch.pdist(a).sum() / len(a) ** 2  # noqa: E731
    return (2 * torch.cdist(x, y).sum() / (len(x) * len(y)) - within(x) - within(y)).item()


def likelihood_by_index(u, divergence, x, ts):
    lost = torch.zeros(len(x), dtype=x.dtype)
    for k in range(len(ts) - 1, 0, -1):
        h = ts[k] - ts[k - 1]
        lost, x = lost + h * divergence(x, ts[k]), x - h * u(x, ts[k])
    d = x[0].numel()
    return -0.5 * x.flatten(1).square().sum(1) - d / 2 * math.log(2 * math.pi) - lost


def likelihood_with_negative_steps(u, divergence, x, ts):
    back, log_p = ts.flip(0), 0.0
    for t, h in zip(back[:-1], back.diff(), strict=True):
        log_p = log_p + float(h) * divergence(x, float(t))
        x = x + float(h) * u(x, float(t))
    flat = x.flatten(1)
    d = flat.shape[1]
    standard = torch.distributions.MultivariateNormal(torch.zeros(d).to(flat), torch.eye(d).to(flat))
    return log_p + standard.log_prob(flat)


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
    return gaussian_log_prob(x, torch.zeros_like(x), 1.0) - lost


def likelihood_with_its_own_divergence(u, divergence, x, ts):
    ends = [x]
    for k in range(len(ts) - 1, 0, -1):
        ends.append(ends[-1] - (ts[k] - ts[k - 1]) * u(ends[-1], ts[k]))
    late = zip(ends[:-1], ts.flip(0)[:-1], ts.diff().flip(0), strict=True)
    integral = torch.stack([h * likelihood.divergence(u, x, t) for x, t, h in late]).sum(0)
    return torch.distributions.Normal(0, 1).log_prob(ends[-1]).flatten(1).sum(1) - integral


def line_from_start(x0, x1, t):
    velocity = x1 - x0
    return x0 + shaped(t, x0) * velocity, velocity


def line_by_rows(x0, x1, t):
    times = torch.as_tensor(t).expand(len(x0)).tolist()
    return [torch.stack([a + s * (b - a) for s, a, b in zip(times, x0, x1, strict=True)]), x1 - x0]


def line_by_the_clock(x0, x1, t):
    s = shaped(t, x0).clone()
    return torch.autograd.functional.jvp(lambda s: x0 + s * (x1 - x0), s, torch.ones_like(s))


def reflow_in_parts(sample, x0):
    """The pairs are made in minibatches."""
    x1 = torch.cat([sample(part).detach() for part in x0.split(3)])

    def loss(u, k, t):
        start, end = x0[k], x1[k]
        s = shaped(t, start)
        return squares(u((1 - s) * start + s * end, t) + start - end).mean()

    return loss


@torch.no_grad()
def reflow_in_any_order(sample, x0):
    x1 = torch.empty_like(x0)
    for k in torch.arange(len(x0)).flip(0).split(2):
        x1[k] = sample(x0[k])
    return torch.enable_grad()(reflow_no_grad(lambda x: x1, x0))


def reflow_point_by_point(sample, x0):
    x1 = torch.stack([sample(x[None])[0].detach() for x in x0])

    def loss(u, k, t):
        total = 0.0
        for i, s in zip(k.tolist(), torch.as_tensor(t).expand(len(k)), strict=True):
            error = u(torch.lerp(x0[i], x1[i], s.to(x0))[None], s)[0] - (x1[i] - x0[i])
            total = total + error.pow(2).sum()
        return total / len(k)

    return loss


def reflow_no_grad(sample, x0):
    with torch.no_grad():
        x1 = sample(x0)
    velocity = x1 - x0

    def loss(u, k, t):
        v = velocity[k]
        x = x0[k] + shaped(t, v) * v
        return mse_loss(u(x, t), v, reduction="sum") / len(k)

    return loss


def reflow_lambda(sample, x0):
    pairs = torch.stack([x0, sample(x0).detach()])

    def error(u, pair, t):
        return u(torch.lerp(pair[0], pair[1], shaped(t, pair[0])), t) - pair.diff(dim=0)[0]

    return lambda u, k, t: error(u, pairs[:, k], t).pow(2).flatten(1).sum(1).mean()


class Reflow:
    """A loss that is an object with a call."""

    def __init__(self, sample, x0):
        self.x0, self.x1 = x0, sample(x0).clone().detach()

    def __call__(self, u, k, t):
        x, velocity = line_from_start(self.x0[k], self.x1[k], t)
        error = u(x, t) - velocity
        return torch.einsum("ni,ni->n", error.flatten(1), error.flatten(1)).mean()


RIGHT = {
    "conditional_flow_matching_loss": [
        loss_with_einsum,
        loss_point_by_point,
        loss_with_a_time_for_each,
        loss_with_vmap,
        loss_by_the_clock,
        loss_with_mse,
        loss_from_eq_29,
    ],
    "marginal_flow_matching_loss": [marginal_with_mse, marginal_expanded, marginal_with_norm, marginal_point_by_point],
    "optimal_vector_field": [
        optimum_from_scale,
        optimum_from_posterior,
        optimum_from_flow,
        optimum_with_a_guard,
        optimum_row_by_row,
    ],
    "train_step": [
        step_with_float,
        step_with_detach,
        step_with_numpy,
        step_in_ordinary_pytorch,
        step_with_a_closure,
        step_with_gradients_set,
    ],
    "sample_flow": [
        sample_by_index,
        sample_detached,
        sample_with_a_time_for_each,
        sample_point_by_point,
        sample_with_simulate,
        sample_recursive,
    ],
    "energy_distance": [
        energy_by_broadcasting,
        energy_with_numpy,
        energy_by_loops,
        energy_by_expansion,
        energy_with_pdist,
    ],
    "log_likelihood": [
        likelihood_by_index,
        likelihood_with_negative_steps,
        likelihood_recursive,
        likelihood_with_a_time_for_each,
        likelihood_with_its_own_divergence,
    ],
    "linear_path": [
        line_from_start,
        line_by_rows,
        line_by_the_clock,
        lambda x0, x1, t: (torch.lerp(x0, x1, shaped(t, x0)), torch.sub(x1, x0)),
    ],
    "reflow": [reflow_no_grad, reflow_lambda, Reflow, reflow_in_parts, reflow_in_any_order, reflow_point_by_point],
}
