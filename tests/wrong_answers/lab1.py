"""Wrong answers to lab 1, each a misconception students really have.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import numpy as np
import torch


def inplace_euler(u, x, t, h):
    x += h * u(x, t)
    return x


def heun_from_guess(u, x, t, h):
    guess = x + h * u(x, t)
    return guess + h / 2 * (u(x, t) + u(guess, t + h))


def simulate_over_batch(step, x0, ts):
    states = [x0]
    for k in range(len(x0)):
        states.append(step(states[-1], ts[min(k, len(ts) - 2)], ts[1] - ts[0]))
    return torch.stack(states)


def simulate_with(start=True, size=None, time=None, last_only=False, as_list=False, off_by=0):
    def simulate(step, x0, ts):
        states = [x0]
        for k in range(len(ts) - 1 - off_by):
            h = ts[k + 1] - ts[k] if size is None else size(ts)
            states.append(step(states[-1], ts[k] if time is None else time(ts, k), h))
        states = states if start else states[1:]
        if last_only:
            return states[-1]
        return states if as_list else torch.stack(states)

    return simulate


def paths_with(scale, summed=True, first=True, noise=None):
    """brownian_paths with increments scale(h, sigma) · ε."""

    def brownian_paths(n, ts, sigma):
        h = ts.diff()[:, None]
        increments = scale(h, sigma) * (torch.randn(len(h), n) if noise is None else noise(len(h), n))
        paths = increments.cumsum(0) if summed else increments
        return torch.cat([torch.zeros(1, n), paths]) if first else paths

    return brownian_paths


def visible_only(u, x, t, h):
    return (1 + h * t) * x


def late_binding():
    memory = {}

    def langevin_drift(score, sigma):
        memory.update(score=score, sigma=sigma)
        return lambda x, t: 0.5 * memory["sigma"] ** 2 * memory["score"](x)

    return langevin_drift


def right_sigma(h, sigma):
    return sigma * h.sqrt()


def em_with(f):
    """euler_maruyama_step as a formula f of state, drift, σ, h and noise."""
    return lambda drift, diffusion, x, t, h, noise: f(x, drift(x, t), diffusion(x, t), h, noise)


def ou_with(mean, variance):
    return lambda x0, t, theta, sigma: (
        mean(x0, torch.exp(-theta * torch.as_tensor(t))),
        variance(torch.as_tensor(t), theta, sigma),
    )


def decayed(x0, decay):
    return decay * x0


def ou_variance(t, theta, sigma):
    return sigma**2 * (1 - torch.exp(-2 * theta * t)) / (2 * theta)


WRONG = {
    "euler_step": {
        "h missing": (lambda u, x, t, h: x + u(x, t), "step size h is missing"),
        "sign": (lambda u, x, t, h: x - h * u(x, t), "against the field"),
        "increment only": (lambda u, x, t, h: h * u(x, t), "only the increment"),
        "field at t + h": (lambda u, x, t, h: x + h * u(x, t + h), "t + h instead of t"),
        "root of h": (lambda u, x, t, h: x + math.sqrt(abs(h)) * u(x, t), "√h"),
        "time for step": (lambda u, x, t, h: x + t * u(x, t), "multiplied by t"),
        "in place": (inplace_euler, "changed a tensor"),
        "no return": (lambda u, x, t, h: None, "None"),
        "hard-coded case": (visible_only, ""),
        "arguments exchanged": (lambda u, x, t, h: x + h * u(t, x), ""),
        "a mean over the batch": (lambda u, x, t, h: (x + h * u(x, t)).mean(0), "shape"),
        "float64 whatever comes in": (lambda u, x, t, h: (x + h * u(x, t)).double(), "dtype"),
    },
    "heun_step": {
        "Euler": (lambda u, x, t, h: x + h * u(x, t), "Euler's step"),
        "sum of slopes": (lambda u, x, t, h: x + h * (u(x, t) + u(x + h * u(x, t), t + h)), "not averaged"),
        "second slope only": (lambda u, x, t, h: x + h * u(x + h * u(x, t), t + h), "second slope alone"),
        "both slopes at x": (lambda u, x, t, h: x + h / 2 * (u(x, t) + u(x, t + h)), "instead of at the guess"),
        "same time": (lambda u, x, t, h: x + h / 2 * (u(x, t) + u(x + h * u(x, t), t)), "instead of t + h"),
        "midpoint": (lambda u, x, t, h: x + h * u(x + h / 2 * u(x, t), t + h / 2), "midpoint"),
        "from the guess": (heun_from_guess, "started from the guess"),
        "unfinished": (lambda u, x, t, h: x + h / 2 * (u(x, t) + None), "raised TypeError"),
    },
    "simulate": {
        "loop over the batch": (simulate_over_batch, "loop should run over the times"),
        "start left out": (simulate_with(start=False), "is x0 itself among them"),
        "size of the first step": (simulate_with(size=lambda ts: ts[1] - ts[0]), "size of the first"),
        "even spacing": (simulate_with(size=lambda ts: (ts[-1] - ts[0]) / (len(ts) - 1)), "evenly spaced"),
        "next time": (simulate_with(time=lambda ts, k: ts[k + 1]), "time it goes to"),
        "counter for time": (simulate_with(time=lambda ts, k: float(k)), "a counter"),
        "last state only": (simulate_with(last_only=True), "only one state"),
        "a list": (simulate_with(as_list=True), "torch.stack"),
        "one step short": (simulate_with(off_by=1), ""),
    },
    "linear_flow": {
        "grows": (lambda x0, t, theta: x0 * math.exp(theta * t), "sign of θ"),
        "one Euler step": (lambda x0, t, theta: x0 * (1 - theta * t), "one Euler step"),
        "θ missing": (lambda x0, t, theta: x0 * math.exp(-t), "θ is missing"),
        "t missing": (lambda x0, t, theta: x0 * math.exp(-theta), "t is missing"),
        "start missing": (lambda x0, t, theta: torch.full_like(x0, math.exp(-theta * t)), "x_0 is missing"),
        "the field": (lambda x0, t, theta: -theta * x0, "vector field, not its flow"),
        "start added": (lambda x0, t, theta: x0 + math.exp(-theta * t), ""),
    },
    "convergence_order": {
        "axes exchanged": (lambda hs, e: np.polyfit(e.log(), hs.log(), 1)[0], "axes are exchanged"),
        "sign": (lambda hs, e: -np.polyfit(hs.log(), e.log(), 1)[0], "sign is reversed"),
        "no logarithms": (lambda hs, e: np.polyfit(hs, e, 1)[0], "not to their logarithms"),
        "intercept": (lambda hs, e: np.polyfit(hs.log(), e.log(), 1)[1], "intercept was returned"),
        "two points": (lambda hs, e: (e[0] / e[-1]).log() / (hs[0] / hs[-1]).log(), "first and the last"),
        "through the origin": (lambda hs, e: (hs.log() * e.log()).sum() / hs.log().square().sum(), ""),
        "always 2": (lambda hs, e: 2.0, ""),
        "a tensor of ratios": (lambda hs, e: e.log() / hs.log(), "one number"),
    },
    "brownian_paths": {
        "h for √h": (paths_with(lambda h, s: s * h), "h was used where √h"),
        "σ missing": (paths_with(lambda h, s: h.sqrt()), "σ is missing"),
        "σ as a variance": (paths_with(lambda h, s: s**0.5 * h.sqrt()), "σ was used as a variance"),
        "σ squared": (paths_with(lambda h, s: s**2 * h.sqrt()), "σ² was used"),
        "no step size": (paths_with(lambda h, s: s + 0 * h), "step size is missing"),
        "not summed": (paths_with(right_sigma, summed=False), "not summed"),
        "start left out": (paths_with(right_sigma, first=False), "W_0 = 0"),
        "same noise for all": (
            paths_with(right_sigma, noise=lambda k, n: torch.randn(k, 1).expand(k, n)),
            "all paths are the same",
        ),
        "one normal per path": (
            paths_with(right_sigma, noise=lambda k, n: torch.randn(1, n).expand(k, n)),
            "independent",
        ),
        "uniform noise": (
            paths_with(right_sigma, noise=lambda k, n: (torch.rand(k, n) - 0.5) * 12**0.5),
            "not Gaussian",
        ),
        "noise twice": (
            paths_with(right_sigma, noise=lambda k, n: torch.randn(k, n) * torch.randn(k, n)),
            "multiplied in twice",
        ),
        "paths first": (lambda n, ts, sigma: torch.randn(n, len(ts)), "time comes first"),
        "first step for all": (paths_with(lambda h, s: s * h[:1].sqrt() + 0 * h), "size of the first"),
        "seeded inside": (
            lambda n, ts, sigma: paths_with(
                right_sigma, noise=lambda k, n: torch.randn(k, n, generator=torch.Generator().manual_seed(1))
            )(n, ts, sigma),
            "",
        ),
    },
    "ou_drift": {
        "sign": (lambda x, t, theta: theta * x, "sign is missing"),
        "θ missing": (lambda x, t, theta: -x, "θ is missing"),
        "times t": (lambda x, t, theta: -theta * t * x, "depends on t"),
        "the flow": (lambda x, t, theta: x * math.exp(-theta * t), "flow, not the drift"),
        "constant pull": (lambda x, t, theta: torch.full_like(x, -theta), ""),
        "pull to 1": (lambda x, t, theta: theta * (1 - x), ""),
        "a number": (lambda x, t, theta: -theta, "found the number"),
    },
    "ou_diffusion": {
        "noise inside": (lambda x, t, sigma: sigma * torch.randn_like(x), "random"),
        "σ squared": (lambda x, t, sigma: sigma**2, "σ was squared"),
        "root of t": (lambda x, t, sigma: sigma * t**0.5, "√t"),
        "root of σ": (lambda x, t, sigma: sigma**0.5, "root was taken"),
        "times x": (lambda x, t, sigma: sigma * x, "proportional to the state"),
        "one": (lambda x, t, sigma: 1.0, ""),
        "a matrix": (lambda x, t, sigma: sigma * torch.eye(2), "shape"),
    },
    "ou_moments": {
        "mean grows": (ou_with(lambda x0, d: x0 / d, ou_variance), "mean grows"),
        "mean at 2θ": (ou_with(lambda x0, d: x0 * d**2, ou_variance), "rate 2θ"),
        "standard deviation": (ou_with(decayed, lambda *a: ou_variance(*a) ** 0.5), "standard deviation"),
        "variance at θ": (
            ou_with(decayed, lambda t, th, s: s**2 * (1 - torch.exp(-th * t)) / (2 * th)),
            "not e^{−θt}",
        ),
        "stationary": (ou_with(decayed, lambda t, th, s: s**2 / (2 * th)), "whatever t is"),
        "θ for 2θ": (ou_with(decayed, lambda *a: 2 * ou_variance(*a)), "should be 2θ"),
        "σ for σ²": (ou_with(decayed, lambda t, th, s: ou_variance(t, th, s) / s), "σ was not squared"),
        "no pull": (ou_with(decayed, lambda t, th, s: s**2 * t), "Brownian motion"),
        "exchanged": (lambda x0, t, th, s: (ou_variance(torch.as_tensor(t), th, s) + 0 * x0, x0), "exchanged"),
        "mean alone": (lambda x0, t, th, s: x0 * math.exp(-th * t), "mean and variance should come back"),
    },
    "euler_maruyama_step": {
        "h for √h": (em_with(lambda x, u, s, h, e: x + h * u + h * s * e), "needs √h"),
        "√h missing": (em_with(lambda x, u, s, h, e: x + h * u + s * e), "√h is missing"),
        "σ missing": (em_with(lambda x, u, s, h, e: x + h * u + h**0.5 * e), "coefficient is missing"),
        "noise missing": (em_with(lambda x, u, s, h, e: x + h * u), "noise is missing"),
        "√h for the drift": (em_with(lambda x, u, s, h, e: x + h**0.5 * (u + s * e)), "drift has √h"),
        "drift missing": (em_with(lambda x, u, s, h, e: x + h**0.5 * s * e), "drift is missing"),
        "σ squared": (em_with(lambda x, u, s, h, e: x + h * u + h**0.5 * s**2 * e), "σ was squared"),
        "increment only": (em_with(lambda x, u, s, h, e: h * u + h**0.5 * s * e), "only the increment"),
        "new noise": (em_with(lambda x, u, s, h, e: x + h * u + h**0.5 * s * torch.randn_like(x)), "two different"),
        "σ after the drift": (
            lambda f, g, x, t, h, e: x + h * f(x, t) + h**0.5 * g(x + h * f(x, t), t) * e,
            "Itô",
        ),
    },
    "geometric_brownian_motion": {
        "no correction": (lambda x0, t, w, m, s: x0 * torch.exp(m * t + s * w), "correction −σ²/2 is missing"),
        "correction's sign": (lambda x0, t, w, m, s: x0 * torch.exp((m + s**2 / 2) * t + s * w), "wrong sign"),
        "whole σ²": (lambda x0, t, w, m, s: x0 * torch.exp((m - s**2) * t + s * w), "σ²/2, not σ²"),
        "root of t": (lambda x0, t, w, m, s: x0 * torch.exp((m - s**2 / 2) * t + s * t**0.5 * w), "√t"),
        "no exponential": (lambda x0, t, w, m, s: x0 * (1 + (m - s**2 / 2) * t + s * w), "exponential is missing"),
        "start missing": (lambda x0, t, w, m, s: torch.exp((m - s**2 / 2) * t + s * w), "x_0 is missing"),
        "start added": (lambda x0, t, w, m, s: x0 + torch.exp((m - s**2 / 2) * t + s * w), "multiplies"),
    },
    "strong_error": {
        "weak": (lambda x, y: (x.mean() - y.mean()).abs(), "this is the weak error"),
        "no absolute value": (lambda x, y: (x - y).mean(), "absolute value"),
        "sum": (lambda x, y: (x - y).abs().sum(), "summed"),
        "mean square": (lambda x, y: (x - y).square().mean(), "squares"),
        "root mean square": (lambda x, y: (x - y).square().mean().sqrt(), "root of the mean square"),
        "largest": (lambda x, y: (x - y).abs().max(), "largest"),
        "one per path": (lambda x, y: (x - y).abs(), "one number"),
    },
    "weak_error": {
        "strong": (lambda x, y: (x - y).abs().mean(), "this is the strong error"),
        "no absolute value": (lambda x, y: x.mean() - y.mean(), "absolute value"),
        "sum": (lambda x, y: (x.sum() - y.sum()).abs(), "summed"),
        "mean square": (lambda x, y: (x - y).square().mean(), "squared"),
        "medians": (lambda x, y: (x.median() - y.median()).abs(), "medians"),
        "no absolute value, other order": (lambda x, y: y.mean() - x.mean(), "absolute value"),
    },
    "langevin_drift": {
        "½ missing": (lambda score, s: lambda x, t: s**2 * score(x), "½ is missing"),
        "σ not squared": (lambda score, s: lambda x, t: s / 2 * score(x), "σ was not squared"),
        "σ missing": (lambda score, s: lambda x, t: score(x) / 2, "σ is missing"),
        "sign": (lambda score, s: lambda x, t: -(s**2) / 2 * score(x), "sign is reversed"),
        "the score itself": (lambda score, s: lambda x, t: score(x), "score was returned"),
        "not a function": (lambda score, s: s**2 / 2, "should return a function"),
        "x alone": (lambda score, s: lambda x: s**2 / 2 * score(x), "drift(x, t)"),
        "shared memory": (late_binding(), ""),
    },
}
