"""Wrong answers to lab 1, beside the mistakes on its cards.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import numpy as np
import torch


def in_place(u, x, t, h):
    x += h * u(x, t)
    return x


def simulate_with(time=None, steps=None, join=torch.stack):
    """simulate with times, numbers of steps or results of another kind."""

    def simulate(step, x0, ts):
        path = [x0]
        for k in range(len(ts) - 1 if steps is None else steps(ts)):
            path.append(step(path[-1], ts[k] if time is None else time(ts, k), ts[k + 1] - ts[k]))
        return join(path)

    return simulate


def own_clock(step, x0, ts):
    path, t = [x0], 0.0
    for h in ts.diff():
        path.append(step(path[-1], t, h))
        t = t + h
    return torch.stack(path)


def over_the_batch(step, x0, ts):
    path = [x0]
    for k in range(len(x0)):
        path.append(step(path[-1], ts[k], ts[k + 1] - ts[k]))
    return torch.stack(path)


def paths_with(noise=torch.randn, first=torch.zeros, h=torch.diff, axis=0):
    def brownian_paths(n, ts, sigma):
        steps = h(ts)[:, None]
        return torch.cat([first(1, n), (sigma * steps.sqrt() * noise(len(steps), n)).cumsum(axis)])

    return brownian_paths


def own_noise(k, n):
    return torch.randn(k, n, generator=torch.Generator().manual_seed(1))


def from_the_origin(n, ts, sigma):
    """Intervals that begin at 0: right for grids that do."""
    steps = ts.diff(prepend=torch.zeros(1).to(ts))[:, None]
    return (sigma * steps.sqrt() * torch.randn(len(steps), n)).cumsum(0)


def moments(variance, join=tuple):
    return lambda x0, t, theta, sigma: join(
        [x0 * math.exp(-theta * t), variance(x0, sigma**2 * (1 - math.exp(-2 * theta * t)) / (2 * theta))]
    )


def em_with(noise):
    """euler_maruyama_step with another noise."""

    def euler_maruyama_step(drift, diffusion, x, t, h, given):
        return x + h * drift(x, t) + h**0.5 * diffusion(x, t) * noise(given)

    return euler_maruyama_step


def late_binding():
    memory = {}

    def langevin_drift(score, sigma):
        memory.update(score=score, sigma=sigma)
        return lambda x, t: 0.5 * memory["sigma"] ** 2 * memory["score"](x)

    return langevin_drift


def noisy_drift(score, sigma):
    return lambda x, t: 0.5 * sigma**2 * score(x) + sigma * torch.randn_like(x)


WRONG = {
    "euler_step": {
        "in place": (in_place, "changed a tensor"),
        "fitted to a field t x": (lambda u, x, t, h: x * (1 + h * t), "never asked"),
        "a mean over the batch": (lambda u, x, t, h: (x + h * u(x, t)).mean(0), "should have shape"),
        "points in the plane alone": (
            lambda u, x, t, h: torch.stack([x[:, k] + h * u(x, t)[:, k] for k in range(2)], 1),
            "should have shape",
        ),
        "a column of times": (
            lambda u, x, t, h: x + h * u(x, torch.as_tensor(t).reshape(-1, 1)),
            "takes t as a number or in the shape",
        ),
        "one time alone": (lambda u, x, t, h: x + h * u(x, float(t)), "converted to"),
        "forward alone": (lambda u, x, t, h: x + abs(h) * u(x, t), "against the field"),
        "a NumPy array": (lambda u, x, t, h: (x + h * u(x, t)).numpy(), "found a NumPy array"),
    },
    "heun_step": {
        "unfinished": (lambda u, x, t, h: x + h / 2 * (u(x, t) + None), "raised TypeError"),
        "fitted to a field t x": (
            lambda u, x, t, h: (1 + h / 2 * (t + (t + h) * (1 + h * t))) * x,
            "never asked",
        ),
    },
    "simulate": {
        "a clock from 0.0": (own_clock, "starts at 0"),
        "over the batch": (over_the_batch, "should run over the times"),
        "one step too many": (simulate_with(steps=len), "IndexError"),
        "times with an axis": (simulate_with(time=lambda ts, k: ts[k : k + 1]), "takes t and h as numbers"),
        "a tuple": (simulate_with(join=tuple), "found a tuple"),
    },
    "linear_flow": {
        "through single precision": (
            lambda x0, t, theta: torch.exp(torch.tensor(-theta * float(t), dtype=torch.float32)) * x0,
            "float32 on the way",
        ),
        "t in single precision": (
            lambda x0, t, theta: torch.exp(-theta * torch.as_tensor(t, dtype=torch.float32)) * x0,
            "float32 on the way",
        ),
        "for tensors alone": (lambda x0, t, theta: torch.exp(-theta * t) * x0, "raised TypeError"),
        "many small steps": (lambda x0, t, theta: x0 * (1 - theta * float(t) / 1000) ** 1000, "nearly right"),
        "a number": (lambda x0, t, theta: math.exp(-theta * t), "found the number"),
    },
    "convergence_order": {
        "one for each": (lambda hs, e: e.log() / hs.log(), "one number"),
        "an array with one number": (lambda hs, e: np.polyfit(hs.log(), e.log(), 1)[:1], "found a NumPy array"),
        "always 2": (lambda hs, e: 2.0, ""),
    },
    "brownian_paths": {
        "start left out": (lambda n, ts, sigma: paths_with()(n, ts, sigma)[1:], "0 at ts[0] is one of them"),
        "paths first": (lambda n, ts, sigma: paths_with()(n, ts, sigma).T, "time comes first"),
        "intervals from 0": (from_the_origin, "should be 0 at ts[0]"),
        "from 1": (paths_with(first=torch.ones), "should be 0 at ts[0]"),
        "the same noise for all": (
            paths_with(lambda k, n: torch.randn(k, 1).expand(k, n)),
            "each needs noise of its own",
        ),
        "twins": (
            paths_with(lambda k, n: torch.randn(k, n // 2).repeat_interleave(2, dim=1)),
            "neighbouring trajectories",
        ),
        "a generator of its own": (paths_with(own_noise), "is a seed set inside"),
        "summed over the paths": (paths_with(axis=1), "of the increments is not right"),
    },
    "ou_drift": {
        "times that meet states": (lambda x, t, theta: -theta * x + 0 * t, "Two tensors do not fit together"),
        "one time alone": (lambda x, t, theta: -theta * x + 0 * float(t), "converted to"),
    },
    "ou_moments": {
        "the mean alone": (lambda x0, t, theta, sigma: x0 * math.exp(-theta * t), "the variance should come back"),
        "one tensor of both": (moments(torch.full_like, torch.stack), "the variance should come back"),
        "three values": (lambda x0, t, theta, sigma: (x0, x0, x0), "2 values in this order"),
        "one variance for each row": (moments(lambda x0, v: torch.full((len(x0),), v)), "one number"),
        "for tensors alone": (lambda x0, t, theta, sigma: (torch.exp(-theta * t) * x0, 1.0), "raised TypeError"),
    },
    "euler_maruyama_step": {
        "new noise": (em_with(torch.randn_like), "draws random numbers of its own"),
        "new noise from NumPy": (
            em_with(lambda noise: torch.from_numpy(np.random.default_rng().normal(size=noise.shape)).to(noise)),
            "two different results",
        ),
    },
    "geometric_brownian_motion": {
        "one time alone": (
            lambda x0, t, w, mu, sigma: x0 * math.exp((mu - sigma**2 / 2) * t) * torch.exp(sigma * w),
            "raised",
        ),
        "for tensors alone": (
            lambda x0, t, w, mu, sigma: x0 * torch.exp(mu * t) * torch.exp(sigma * w - sigma**2 / 2 * t),
            "raised TypeError",
        ),
    },
    "strong_and_weak_error": {
        "always 1": (lambda x, y: (1.0, 1.0), ""),
        "the strong error alone": (lambda x, y: (x - y).abs().mean(), "2 values in this order"),
        "a dictionary": (lambda x, y: {"strong": 1.0, "weak": 1.0}, "2 values in this order"),
        "both means": (lambda x, y: ((x - y).abs().mean(), (x.mean(), y.mean())), "one number"),
    },
    "langevin_drift": {
        "a tensor at once": (lambda score, sigma: sigma**2 / 2 * torch.zeros(3), "to be called later"),
        "x alone": (lambda score, sigma: lambda x: sigma**2 / 2 * score(x), "takes 1 positional argument"),
        "noise inside": (noisy_drift, "draws random numbers of its own"),
        "shared memory": (late_binding(), "the drift"),
    },
}
