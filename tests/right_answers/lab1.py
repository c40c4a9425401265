"""Right answers to lab 1 in other styles than the solution's: loops, NumPy, other algebra, another return type."""

import math

import numpy as np
import torch


def a_time_for_each(u, x, t, h):
    return x + h * u(x, torch.as_tensor(t, dtype=x.dtype).expand(len(x)))


def simulate_preallocated(step, x0, ts):
    states = torch.empty(len(ts), *x0.shape, dtype=x0.dtype)
    states[0] = x0
    for k in range(len(ts) - 1):
        states[k + 1] = step(states[k], float(ts[k]), float(ts[k + 1] - ts[k]))
    return states


def simulate_recursive(step, x0, ts):
    if len(ts) == 1:
        return x0[None]
    return torch.cat([x0[None], simulate_recursive(step, step(x0, ts[0], ts[1] - ts[0]), ts[1:])])


def loop_paths(n, ts, sigma):
    paths = [torch.zeros(n)]
    for s, t in zip(ts[:-1], ts[1:], strict=True):
        paths.append(paths[-1] + sigma * torch.normal(0.0, float(t - s) ** 0.5, (n,)))
    return torch.stack(paths)


def numpy_paths(n, ts, sigma):
    increments = np.random.default_rng().normal(size=(len(ts) - 1, n)) * np.sqrt(np.diff(ts.numpy()))[:, None] * sigma
    return torch.from_numpy(np.concatenate([np.zeros((1, n)), increments.cumsum(0)]))


def covariance_paths(n, ts, sigma):
    """All times at once, from the covariance min(s, t)."""
    s = ts[1:] - ts[0]
    factor = torch.linalg.cholesky(sigma**2 * torch.minimum(s[:, None], s[None]))
    return torch.cat([torch.zeros(1, n), factor @ torch.randn(len(s), n).to(factor)])


def lstsq_order(hs, errors):
    design = torch.stack([hs.double().log(), torch.ones(len(hs), dtype=torch.float64)], 1)
    return torch.linalg.lstsq(design, errors.double().log()[:, None]).solution[0]


RIGHT = {
    "euler_step": [
        lambda u, x, t, h: torch.add(x, u(x, t), alpha=h),
        lambda u, x, t, h: torch.from_numpy(x.numpy() + float(h) * u(x, t).numpy()),
        a_time_for_each,
    ],
    "heun_step": [
        lambda u, x, t, h: x + h * torch.stack([u(x, t), u(x + h * u(x, t), t + h)]).mean(0),
        lambda u, x, t, h: (x + h * u(x, t)) + h / 2 * (u(x + h * u(x, t), t + h) - u(x, t)),
        lambda u, x, t, h: (x + a_time_for_each(u, a_time_for_each(u, x, t, h), torch.as_tensor(t) + h, h)) / 2,
    ],
    "simulate": [
        simulate_preallocated,
        simulate_recursive,
        lambda step, x0, ts: simulate_preallocated(lambda x, t, h: step(x, torch.tensor(t), torch.tensor(h)), x0, ts),
    ],
    "linear_flow": [
        lambda x0, t, theta: x0 * math.exp(-theta * t),
        lambda x0, t, theta: x0 / np.exp(theta * float(t)),
        lambda x0, t, theta: x0 * torch.exp(torch.tensor(-theta * float(t), dtype=x0.dtype)),
    ],
    "convergence_order": [
        lambda hs, errors: np.array(np.polyfit(hs.log(), errors.log(), 1)[0]),
        lambda hs, errors: torch.cov(torch.stack([hs.log(), errors.log()]))[0, 1] / hs.log().var(),
        lstsq_order,
    ],
    "brownian_paths": [loop_paths, numpy_paths, covariance_paths],
    "ou_drift": [
        lambda x, t, theta: theta * (0 - x),
        lambda x, t, theta: torch.stack([-theta * row for row in x]),
        lambda x, t, theta: -(theta * x),
    ],
    "ou_moments": [
        lambda x0, t, theta, sigma: (x0 * math.exp(-theta * t), sigma**2 / theta / 2 * -math.expm1(-2 * theta * t)),
        lambda x, t, a, s: [x / math.exp(a * t), torch.full_like(x, s**2 / 2 / a * (1 - math.exp(-2 * a * t)))],
        lambda x, t, a, s: (x * math.exp(-a * t), torch.tensor([s**2 / (2 * a) * (1 - math.exp(-2 * a * t))])),
    ],
    "euler_maruyama_step": [
        lambda f, g, x, t, h, e: torch.add(x, f(x, t), alpha=h) + e * h**0.5 * g(x, t),
        lambda f, g, x, t, h, e: x + h * f(x, t) + torch.sqrt(torch.tensor(h)) * g(x, t) * e,
        lambda f, g, x, t, h, e: x + h * f(x, t) + (h * torch.as_tensor(g(x, t)) ** 2) ** 0.5 * e,
    ],
    "geometric_brownian_motion": [
        lambda x0, t, w, mu, sigma: x0 * torch.exp(mu * torch.as_tensor(t)) * torch.exp(sigma * w - sigma**2 * t / 2),
        lambda x0, t, w, mu, sigma: x0 * math.e ** ((mu - 0.5 * sigma * sigma) * t + sigma * w),
        lambda x0, t, w, mu, sigma: torch.exp(x0.log() + (mu - sigma**2 / 2) * t + sigma * w),
    ],
    "strong_and_weak_error": [
        lambda x, y: [np.abs(x.numpy() - y.numpy()).mean(), np.abs(x.numpy().mean() - y.numpy().mean())],
        lambda x, y: (torch.nn.functional.l1_loss(x, y), torch.linalg.vector_norm((x - y).mean())),
        lambda x, y: ((x - y).abs().mean(0, keepdim=True), max(x.mean() - y.mean(), y.mean() - x.mean())),
    ],
    "langevin_drift": [
        lambda score, sigma: lambda x, t=0.0: score(x) * (sigma**2 / 2),
        lambda score, sigma: lambda x, t: sigma * (0.5 * sigma * score(x)),
        lambda score, sigma: lambda x, t: torch.tensor(sigma) ** 2 / 2 * torch.cat([score(row[None]) for row in x]),
    ],
}
