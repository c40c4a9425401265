"""Right answers to lab 1 in other styles than the solution's: loops, NumPy, other algebra, another return type."""

import math

import numpy as np
import torch


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
    return torch.from_numpy(np.concatenate([np.zeros((1, n)), increments.cumsum(0)])).float()


def covariance_paths(n, ts, sigma):
    """All times at once, from the covariance min(s, t)."""
    s = ts[1:] - ts[0]
    factor = torch.linalg.cholesky(sigma**2 * torch.minimum(s[:, None], s[None]))
    return torch.cat([torch.zeros(1, n), factor @ torch.randn(len(s), n)])


def heun_by_parts(u, x, t, h):
    k1 = u(x, t)
    k2 = u(x + k1 * h, t + h)
    return 0.5 * (x + h * k1) + 0.5 * (x + h * k2)


def named_drift(score, sigma):
    def drift(x, t):
        return score(x).mul(sigma * sigma).div(2)

    return drift


def lstsq_order(hs, errors):
    design = torch.stack([hs.double().log(), torch.ones(len(hs), dtype=torch.float64)], 1)
    return torch.linalg.lstsq(design, errors.double().log()[:, None]).solution[0]


RIGHT = {
    "euler_step": [
        lambda u, x, t, h: torch.add(x, u(x, t), alpha=h),
        lambda u, x, t, h: torch.stack([row + h * du for row, du in zip(x, u(x, t), strict=True)]),
        lambda u, x, t, h: torch.from_numpy(x.numpy() + h * u(x, t).numpy()),
    ],
    "heun_step": [
        heun_by_parts,
        lambda u, x, t, h: x + h * torch.stack([u(x, t), u(x + h * u(x, t), t + h)]).mean(0),
        lambda u, x, t, h: (x + h * u(x, t)) + h / 2 * (u(x + h * u(x, t), t + h) - u(x, t)),
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
        lambda hs, errors: float(np.polyfit(np.log(hs.numpy()), np.log(errors.numpy()), 1)[0]),
        lambda hs, errors: np.polyfit(np.log2(hs.numpy()), np.log2(errors.numpy()), 1)[0],
        lstsq_order,
    ],
    "brownian_paths": [loop_paths, numpy_paths, covariance_paths],
    "ou_drift": [
        lambda x, t, theta: theta * (0 - x),
        lambda x, t, theta: torch.stack([-theta * row for row in x]),
        lambda x, t, theta: -(theta * x),
    ],
    "ou_diffusion": [
        lambda x, t, sigma: sigma * torch.ones_like(x),
        lambda x, t, sigma: torch.tensor(sigma),
        lambda x, t, sigma: torch.full((len(x), *[1] * (x.ndim - 1)), sigma),
    ],
    "ou_moments": [
        lambda x0, t, theta, sigma: (
            x0 * math.exp(-theta * t),
            sigma**2 * -math.expm1(-2 * theta * t) / (2 * theta),
        ),
        lambda x0, t, theta, sigma: [
            x0 * torch.exp(-theta * torch.as_tensor(t)),
            torch.full_like(x0, sigma**2 / (2 * theta) * (1 - math.exp(-2 * theta * t))),
        ],
        lambda x0, t, theta, sigma: (
            x0 * math.exp(-theta * t),
            torch.tensor([sigma**2 / (2 * theta) - sigma**2 / (2 * theta) * math.exp(-2 * theta * t)]),
        ),
    ],
    "euler_maruyama_step": [
        lambda f, g, x, t, h, e: x + f(x, t) * h + math.sqrt(h) * (g(x, t) * e),
        lambda f, g, x, t, h, e: torch.add(x, f(x, t), alpha=h) + e * h**0.5 * g(x, t),
        lambda f, g, x, t, h, e: torch.from_numpy((x + h * f(x, t) + np.sqrt(h) * g(x, t) * e).numpy()),
    ],
    "geometric_brownian_motion": [
        lambda x0, t, w, mu, sigma: (
            x0 * torch.exp(mu * t) * torch.exp(sigma * w - sigma**2 * t / 2)
            if isinstance(t, torch.Tensor)
            else x0 * math.exp(mu * t) * torch.exp(sigma * w - sigma**2 * t / 2)
        ),
        lambda x0, t, w, mu, sigma: x0 * math.e ** ((mu - 0.5 * sigma * sigma) * t + sigma * w),
        lambda x0, t, w, mu, sigma: torch.exp((mu - sigma**2 / 2) * t + sigma * w).mul(x0),
    ],
    "strong_error": [
        lambda x, y: float(torch.mean(torch.abs(y - x))),
        lambda x, y: np.abs(x.numpy() - y.numpy()).mean(),
        lambda x, y: torch.nn.functional.l1_loss(x, y),
    ],
    "weak_error": [
        lambda x, y: abs(float((x - y).mean())),
        lambda x, y: np.abs(x.numpy().mean() - y.numpy().mean()),
        lambda x, y: torch.linalg.vector_norm((x - y).mean()),
    ],
    "langevin_drift": [
        named_drift,
        lambda score, sigma: lambda x, t=0.0: score(x) * (sigma**2 / 2),
        lambda score, sigma: lambda x, t: sigma * (0.5 * sigma * score(x)),
    ],
}
