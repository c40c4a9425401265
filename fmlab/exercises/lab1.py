"""Lab 1: simulating ordinary and stochastic differential equations.

Truth comes from closed forms: the exact flow of a linear field, errors that follow a power of h by construction, the
moments of Brownian motion, of the Ornstein–Uhlenbeck process and of geometric Brownian motion, sums in plain Python,
and autograd for scores. Brownian paths are judged by their moments, at six standard errors and more.
"""

import math

import numpy as np
import torch
from torch import Tensor

from fmlab import metrics, processes, simulators
from fmlab.checks import judges
from fmlab.checks.compare import Look, close, fail, require
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Field, states, times
from fmlab.checks.lab import Lab
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.schedules import coefficient

lab = Lab("lab1")

F32, F64 = torch.float32, torch.float64


def swirl(x, t):
    """A velocity that mixes coordinates, and is not the same in x as in t."""
    return torch.cos(3 * t) * (x.flip(-1) if x.ndim > 1 else x) + t - 0.3 * x**2


def at(t) -> str:
    """When something is asked, in words."""
    return f"at {len(t)} times" if getattr(t, "ndim", 0) else f"at t = {float(t):g}"


# --- flows ------------------------------------------------------------------------------------------------------------


def along_the_field(answer, case):
    """`value`, of an answer that asks the field it is given."""
    found = answer(*case.args)
    require(case.args[0].calls, "the field was never asked; the velocity at x and t is u(x, t)")
    yield from judges.parts(found, case)


STEPS = [
    ((5, 3), 0.3, 0.17, F32),
    ((4, 1, 2, 3), times(4, dtype=F64), torch.tensor(0.08, dtype=F64), F64),
    ((1, 3), torch.tensor(-0.6), -0.21, F32),
    ((6,), 0.7, torch.tensor(0.32), F32),
]


@lab.exercise(
    reread=("eq-flow", "the equation of the flow and the lines below it"),
    passed="one step along the field, of first order",
    hints=(
        "Velocity is displacement per time. Which velocity do you know at the start of the step?",
        "The displacement in a time h is about h times the velocity at (x, t).",
        "Call the field once, at x and t; add h times the result to x in a new tensor, and return that.",
    ),
    withhold=("simulators.Euler.step", "simulators.simulate"),
    library=lambda u, x, t, h: simulators.Euler().step(u, x, t, t + h),
    judge=along_the_field,
    visible=STEPS,
    mistakes={
        "the step size h is missing": lambda u, x, t, h: x + u(x, t),
        "the step goes against the field": lambda u, x, t, h: x - h * u(x, t),
        "only the increment is returned, without the state x itself": lambda u, x, t, h: h * u(x, t),
        "the field was evaluated at t + h instead of t": lambda u, x, t, h: x + h * u(x, t + h),
        "√h was used where Euler's method has h": lambda u, x, t, h: x + abs(h) ** 0.5 * u(x, t),
        "the step was multiplied by t": lambda u, x, t, h: x + coefficient(t, x) * u(x, t),
        "the velocity was divided by h; it is multiplied": lambda u, x, t, h: x + u(x, t) / h,
        "h was added to x; it multiplies the velocity": lambda u, x, t, h: (x + h) * u(x, t),
        "the velocity was added to x before h multiplied: parentheses": lambda u, x, t, h: h * (x + u(x, t)),
        "the field itself is returned": lambda u, x, t, h: u(x, t),
        "x and t are exchanged: the velocity is u(x, t)": lambda u, x, t, h: x + h * u(t, x),
    },
)
def euler_step(shape, t, h, dtype):
    u, x = Field(swirl), states(1, *shape, dtype=dtype)
    return Case(f"the state of shape {shape} after one step", (u, x, t, h), x + h * u.value(x, t))


def slopes(u, x, t, h):
    """What Heun's step is made of, with the velocity a now, the guess g, and the velocity b there."""
    a = u(x, t)
    return u, x, t, h, a, x + h * a, u(x + h * a, t + h)


def averaged(then):
    """Heun's step with another second velocity."""
    return lambda u, x, t, h, *_: x + h / 2 * (u(x, t) + then(u, x, t, h))


@lab.exercise(
    reread=("about-heun-step", "the text of the exercise"),
    passed="the average of two velocities, of second order",
    hints=(
        "Euler uses the velocity at the start. Where would a second evaluation of the field help?",
        "Make Euler's step first, as a guess only; evaluate the field there, at the time t + h.",
        "Average the two velocities, and take one step of size h from x (not from the guess) with the average.",
    ),
    withhold=("simulators.Heun.step", "simulators.simulate"),
    library=lambda u, x, t, h: simulators.Heun().step(u, x, t, t + h),
    judge=along_the_field,
    visible=STEPS,
    terms=slopes,
    mistakes={
        "this is still Euler's step: the second velocity is missing": lambda u, x, t, h, a, g, b: g,
        "the two velocities were added, but not averaged": lambda u, x, t, h, a, g, b: x + h * (a + b),
        "the second velocity alone was used": lambda u, x, t, h, a, g, b: x + h * b,
        "the second velocity was evaluated at x instead of at the guess X'": averaged(lambda u, x, t, h: u(x, t + h)),
        "the second velocity was evaluated at t instead of t + h": averaged(lambda u, x, t, h: u(x + h * u(x, t), t)),
        "the guess has no step size: it is x + h u(x, t)": averaged(lambda u, x, t, h: u(x + u(x, t), t + h)),
        "the guess is half a step; it is a whole one": averaged(lambda u, x, t, h: u(x + h / 2 * u(x, t), t + h)),
        "the guess is x + h u(x, t), not h u(x, t) alone": averaged(lambda u, x, t, h: u(h * u(x, t), t + h)),
        "this is the midpoint rule": lambda u, x, t, h, a, *_: x + h * u(x + h / 2 * a, t + h / 2),
        "the second step started from the guess X' instead of x": lambda u, x, t, h, a, g, b: g + h / 2 * (a + b),
        "h/2 multiplies the first velocity only: parentheses": lambda u, x, t, h, a, g, b: x + h / 2 * a + b,
        "the second velocity alone was halved: parentheses": lambda u, x, t, h, a, g, b: x + h * (a + b / 2),
        "the velocities were averaged, but not multiplied by h": lambda u, x, t, h, a, g, b: x + (a + b) / 2,
        "only the increment is returned, without the state x itself": lambda u, x, t, h, a, g, b: h / 2 * (a + b),
        "x and t are exchanged: the velocity is u(x, t)": lambda u, x, t, h, *_: u(t, x),
    },
)
def heun_step(shape, t, h, dtype):
    """Halfway between x and two of Euler's steps: that is Heun's."""
    u, x = Field(swirl), states(2, *shape, dtype=dtype)
    once = x + h * u.value(x, t)
    twice = once + h * u.value(once, t + h)
    return Case(f"the state of shape {shape} after one step", (u, x, t, h), (x + twice) / 2)


class ExactStep:
    """step(x, t, h) of the exact flow x_0 exp(t² − t_0²); it keeps the times and the sizes it is given."""

    def __init__(self):
        self.times, self.sizes = [], []

    def __call__(self, x, t, h):
        t, h = (torch.as_tensor(value, dtype=F64) for value in (t, h))
        if t.shape not in ((), x.shape[:1]) or h.ndim:
            shapes = f"{tuple(t.shape)}, {tuple(h.shape)}"
            raise ValueError(f"step(x, t, h) takes t and h as numbers, got the shapes {shapes}")
        self.times.append(t.mean())
        self.sizes.append(h)
        return x * coefficient(torch.exp((t + h) ** 2 - t**2), x).to(x)


def trajectory(answer, case):
    """One step per interval, each with its time and size, and all states."""
    step, _, ts = case.args
    found = answer(*case.args)
    yield from judges.counted(step.times, len(ts) - 1, "the number of steps")
    if len(step.times) == len(ts) - 1:
        yield Look("the sequence of times t that step is given", torch.stack(step.times), ts[:-1].double())
        yield Look("the sequence of sizes h that step is given", torch.stack(step.sizes), ts.diff().double())
    yield Look("the tensor of all states", found, case.expected)


def walk(time=lambda ts, k: ts[k], size=lambda ts, k: ts[k + 1] - ts[k], steps=lambda x0, ts: len(ts) - 1, fresh=False):
    """`simulate` with other times, sizes or numbers of steps, or each step from the start."""

    def simulate(step, x0, ts):
        path = [x0]
        for k in range(steps(x0, ts)):
            path.append(step(x0 if fresh else path[-1], time(ts, k), size(ts, k)))
        return torch.stack(path)

    return simulate


def joined(join):
    """`simulate` that makes another thing of its states."""
    return lambda step, x0, ts: join(list(walk()(step, x0, ts)))


class Given(simulators.Method):
    """A step(x, t, h) as a method of the library."""

    def step(self, model, x, t, s, noise=None):
        return model(x, t, s - t)


@lab.exercise(
    reread=("about-simulate", "the text of the exercise"),
    passed="every state from the first time to the last, on any time grid",
    hints=(
        "A trajectory is the start and then one state after each step. How many steps lie between len(ts) times?",
        "Step k goes from ts[k] to ts[k + 1], so its size is the difference of the two; sizes may differ.",
        "Begin a list with x0, append step(last state, ts[k], ts[k + 1] − ts[k]) for each k, and torch.stack the list.",
    ),
    withhold=("simulators.simulate",),
    library=lambda step, x0, ts: simulators.simulate(step, x0, ts, Given(), record=True),
    judge=trajectory,
    visible=[
        ((3, 2), [0.3, 0.4, 0.6, 0.9, 1.05, 1.1, 1.3], F32),
        ((4, 1, 2, 3), [-0.7, -0.2, 0.1, 0.4], F64),
        ((1, 3), [0.2, 0.7], F32),
    ],
    mistakes={
        "the step was given the time it goes to instead of the time it starts from": walk(time=lambda ts, k: ts[k + 1]),
        "the step was given a counter instead of a time": walk(time=lambda ts, k: float(k)),
        "the times come from a clock that starts at 0, not from ts": walk(time=lambda ts, k: ts[k] - ts[0]),
        "all steps have the size of the first": walk(size=lambda ts, k: ts[1] - ts[0]),
        "the sizes were taken as if the times were evenly spaced": walk(size=lambda ts, k: ts.diff().mean()),
        "the step was given the next time where it takes the step size": walk(size=lambda ts, k: ts[k + 1]),
        "ts is not used: times go from 0 to 1": walk(lambda ts, k: k / (len(ts) - 1), lambda ts, k: 1 / (len(ts) - 1)),
        "t and h are exchanged in step(x, t, h)": walk(lambda ts, k: ts[k + 1] - ts[k], lambda ts, k: ts[k]),
        "each step starts from x0 again instead of from the last state": walk(fresh=True),
        "the loop runs over the particles; it should run over the times": walk(steps=lambda x0, ts: len(x0)),
        "the last step is missing": walk(steps=lambda x0, ts: len(ts) - 2),
        "x0 itself is missing; it is the first of the states": joined(lambda path: torch.stack(path[1:])),
        "the last state alone is returned; all of them are wanted": joined(lambda path: path[-1]),
        "the states are in a list; torch.stack makes one tensor of them": joined(lambda path: path),
        "the states were joined by torch.cat; torch.stack gives time an axis of its own": joined(torch.cat),
        "time is the second axis; it comes first": joined(lambda path: torch.stack(path, 1)),
    },
)
def simulate(shape, ts, dtype):
    x0, ts = states(3, *shape, dtype=dtype), torch.tensor(ts, dtype=dtype)
    growth = [math.exp(t**2 - float(ts[0]) ** 2) for t in ts.tolist()]
    return Case("the trajectory", (ExactStep(), x0, ts), torch.stack([factor * x0 for factor in growth]))


def in_its_precision(answer, case):
    """`value`, in double precision where x0 and t came in it."""
    found, (x0, t, _) = answer(*case.args), case.args
    yield Look(case.what, found, case.expected)
    if isinstance(t, Tensor) and t.dtype == x0.dtype == F64:
        single = "the flow is right to 7 digits only, though x0 and t are in float64; is t made a float32 on the way?"
        require(close(found, case.expected, 1e-10), single)


@lab.exercise(
    reread=("eq-linear", "the linear field above the exercise"),
    passed="the exact flow, with which simulators are compared",
    hints=(
        "Which function is its own derivative, up to a factor −θ?",
        "x_0 decays exponentially, by the factor e^{−θt}.",
        "t may be a number: make it a tensor with torch.as_tensor before you use torch.exp.",
    ),
    withhold=("processes.LinearSDE.moments",),
    library=lambda x0, t, theta: processes.LinearSDE(-theta, 0).moments(x0, t)[0],
    judge=in_its_precision,
    visible=[
        ((5, 2), 0.7, 1.3, F32),
        ((3, 1), torch.tensor(0.45), 4.2, F32),
        ((2, 3), torch.tensor(0.7, dtype=F64), 1.5, F64),
        ((1, 3), 1.3, -0.6, F64),
        ((4, 1, 2, 3), 0.0, 0.8, F32),
    ],
    mistakes={
        "the flow grows: the sign of θ is missing": lambda x0, t, theta: x0 * math.exp(theta * t),
        "this is one Euler step, not the exact flow": lambda x0, t, theta: x0 * (1 - theta * t),
        "θ is missing": lambda x0, t, theta: x0 * math.exp(-t),
        "t is missing": lambda x0, t, theta: x0 * math.exp(-theta),
        "the initial state x_0 is missing": lambda x0, t, theta: torch.full_like(x0, math.exp(-theta * t)),
        "x_0 was added; it multiplies": lambda x0, t, theta: x0 + math.exp(-theta * t),
        "x_0 stands in the exponent; it multiplies": lambda x0, t, theta: torch.exp(-theta * t * x0),
        "t stands outside of the exponential: parentheses": lambda x0, t, theta: x0 * math.exp(-theta) * t,
        "t was divided by θ; the rate multiplies it": lambda x0, t, theta: x0 * math.exp(-t / theta),
        "this is what has decayed, not what is left": lambda x0, t, theta: x0 * (1 - math.exp(-theta * t)),
        "this is the vector field, not its flow": lambda x0, t, theta: -theta * x0,
        "this is the velocity along the flow, not the state": lambda x0, t, theta: -theta * x0 * math.exp(-theta * t),
    },
)
def linear_flow(shape, t, theta, dtype):
    """Where t is in double precision θ has few digits, so that it may be made any tensor."""
    x0 = states(4, *shape, dtype=dtype)
    return Case(f"the flow for θ = {theta:g} {at(t)}", (x0, t, theta), math.exp(-theta * float(t)) * x0)


# --- orders -----------------------------------------------------------------------------------------------------------


def logs(hs, errors):
    """log h and log error without their means and with them, and both as they are."""
    a, b = hs.log(), errors.log()
    return a - a.mean(), b - b.mean(), a, b, hs, errors


def through(i, j):
    """The slope through two of the points."""
    return lambda c, d, a, b, *_: (b[i] - b[j]) / (a[i] - a[j])


@lab.exercise(
    reread=("eq-order", "the straight line of log error over log h"),
    passed="the slope on logarithmic axes",
    hints=(
        "If error = C h^q, how does log error depend on log h?",
        "The slope of the least-squares line is the covariance of log h and log error over the variance of log h.",
        "Subtract their means from both logarithms; divide the sum of products by the sum of squares of log h.",
    ),
    withhold=("metrics.convergence_order",),
    library=metrics.convergence_order,
    visible=[
        (1.7, [0.4, 0.15, 0.1, 0.03, 0.007], 0.3, 0.0, F32),
        (0.6, [0.012, 0.02, 0.07, 0.3], 20.0, 0.4, F64),
        (3.4, [0.3, 0.2, 0.11, 0.05, 0.02, 0.013, 0.01], 5.0, 0.7, F32),
    ],
    terms=logs,
    mistakes={
        "the axes are exchanged: log h was fitted over log error": lambda c, d, *_: c @ d / (d @ d),
        "the sign is reversed": lambda c, d, *_: -(c @ d) / (c @ c),
        "the line was fitted to h and error, not to their logarithms": lambda c, d, a, b, h, e: np.polyfit(h, e, 1)[0],
        "no logarithm of h was taken": lambda c, d, a, b, h, e: np.polyfit(h, b, 1)[0],
        "no logarithm of the errors was taken": lambda c, d, a, b, h, e: np.polyfit(a, e, 1)[0],
        "the intercept was returned instead of the slope": lambda c, d, a, b, *_: np.polyfit(a, b, 1)[1],
        "slope and intercept came back together; the slope is the order": lambda c, d, a, b, *_: np.polyfit(a, b, 1),
        "only the first and the last error were used; fit a line through all of them": through(0, -1),
        "the slopes between neighbours were averaged": lambda c, d, a, b, *_: (b.diff() / a.diff()).mean(),
        "the line was forced through the origin; it has an intercept, log C": lambda c, d, a, b, *_: a @ b / (a @ a),
        "the quotients of the logarithms were averaged; fit a line": lambda c, d, a, b, *_: (b / a).mean(),
        "the mean of log h was not subtracted in the denominator": lambda c, d, a, *_: c @ d / (a @ a),
        "this is the covariance; divide by the variance of log h": lambda c, d, *_: (c * d).mean(),
        "mean() divides by m, var() by m − 1; divide both by the same": lambda c, d, *_: (c * d).mean() / c.var(),
        "the denominator has std() where the variance belongs": lambda c, d, *_: (c * d).mean() / c.std(correction=0),
    },
)
def convergence_order(order, hs, constant, scatter, dtype):
    """Errors C h^q times some whose logarithms are orthogonal to 1 and log h: their line has the slope q."""
    hs = torch.tensor(hs, dtype=F64)
    line, _ = torch.linalg.qr(torch.stack([torch.ones_like(hs), hs.log()], 1))
    noise = states(5, len(hs), dtype=F64)
    errors = constant * hs**order * torch.exp(scatter * (noise - line @ (line.T @ noise)))
    around = "scattered around " if scatter else ""
    what = f"the order of {len(hs)} errors {around}{constant:g} h^{order:g}"
    return Case(what, (hs.to(dtype), errors.to(dtype)), order)


# --- noise ------------------------------------------------------------------------------------------------------------


def brownian(answer, case):
    """Trajectories from 0 with independent normal increments of variance σ²Δt, new ones at each call."""
    n, ts, sigma = case.args
    paths = answer(*case.args)
    if isinstance(paths, Tensor) and paths.shape == (n, len(ts)):
        fail(
            f"the trajectories should have shape (len(ts), n) = {(len(ts), n)}, found {(n, len(ts))}: time comes first"
        )
    if isinstance(paths, Tensor) and paths.shape == (len(ts) - 1, n):
        fail(f"there should be {len(ts)} states of each trajectory, found {len(ts) - 1}: the 0 at ts[0] is one of them")
    judges.drawn(paths, (len(ts), n), "the tensor of trajectories")
    paths, dt = paths.detach().double(), ts.diff().double()
    require(not paths[0].any(), "each trajectory should be 0 at ts[0], the first of the times, whatever that is")
    require(bool((paths.std(1)[1:] > 1e-6).all()), "all trajectories are the same; each needs noise of its own")
    scale, each = sigma * dt.sqrt(), judges.ERRORS / math.sqrt(n)
    increments = paths.diff(dim=0)
    yield Look("the mean of the increments", increments.mean(1), 0 * scale, error=each * scale)
    yield Look("the standard deviation of the increments", increments.std(1), scale, error=each * scale)
    normals = increments / scale[:, None]
    size, error = math.sqrt(2 / math.pi), judges.ERRORS * math.sqrt((1 - 2 / math.pi) / normals.numel())
    yield Look("the mean size of increments over σ√Δt", float(normals.abs().mean()), size, error=error)
    between = (normals @ normals.T / n).fill_diagonal_(0)
    yield Look("the correlation of increments over two intervals", between, torch.zeros_like(between), error=each)
    neighbours, error = float((normals[:, 1:] * normals[:, :-1]).mean()), each / math.sqrt(len(dt))
    yield Look("the correlation between neighbouring trajectories", neighbours, 0.0, error=error)
    yield from judges.fresh(answer, case)


def paths_of(scale, noise=torch.randn, summed=True):
    """`brownian_paths` with increments scale(Δt, ts, σ) · noise."""

    def brownian_paths(n, ts, sigma):
        increments = scale(ts.diff()[:, None], ts[:, None], sigma) * noise(len(ts) - 1, n)
        return torch.cat([torch.zeros(1, n), increments.cumsum(0) if summed else increments])

    return brownian_paths


def root(dt, ts, sigma):
    return sigma * dt.sqrt()


@lab.exercise(
    reread=("eq-brownian", "the increments of Brownian motion and the lines below them"),
    passed="independent Gaussian increments of variance σ²Δt",
    hints=(
        "Brownian motion is the running sum of independent increments. What variance does one over Δt have?",
        "Its variance is σ²Δt, so its standard deviation is σ√Δt, with a Δt of its own for each interval.",
        "Draw (len(ts) − 1, n) normals, scale each row, sum with cumsum(0), and put a row of zeros in front.",
    ),
    withhold=("simulators.simulate",),
    library=lambda n, ts, sigma: simulators.simulate(processes.brownian_motion(sigma), torch.zeros(n), ts, record=True),
    judge=brownian,
    random=True,
    visible=[
        (16_000, [0.6, 1.0, 1.7, 2.2, 4.1, 5.4], 1.5, F32),
        (12_000, [0.0, 0.4, 1.0, 1.7], 0.6, F64),
        (12_000, [2.3, 3.5], 0.8, F32),
    ],
    mistakes={
        "h was used where √h is needed": paths_of(lambda dt, ts, s: s * dt),
        "h**1/2 is h/2; the root is h**0.5 or h**(1/2)": paths_of(lambda dt, ts, s: s * dt / 2),
        "σ is missing": paths_of(lambda dt, ts, s: dt.sqrt()),
        "σ was used as a variance; it multiplies the noise": paths_of(lambda dt, ts, s: (s * dt).sqrt()),
        "σ² was used as a standard deviation": paths_of(lambda dt, ts, s: s**2 * dt.sqrt()),
        "the variance σ²h was used as a standard deviation": paths_of(lambda dt, ts, s: s**2 * dt),
        "the step size is missing: every increment has the same spread": paths_of(lambda dt, ts, s: s),
        "all steps have the size of the first": paths_of(lambda dt, ts, s: s * dt[0].sqrt()),
        "the steps were taken as if the times were evenly spaced": paths_of(lambda dt, ts, s: s * dt.mean().sqrt()),
        "the times were taken for the steps, their differences": paths_of(lambda dt, ts, s: s * ts[1:].sqrt()),
        "the increments were not summed: a trajectory is their running total": paths_of(root, summed=False),
        "each time has its own √t ε; sum increments": paths_of(lambda dt, ts, s: s * dt.cumsum(0).sqrt(), summed=False),
        "the noise comes from torch.rand, evenly between 0 and 1; use torch.randn": paths_of(root, torch.rand),
        "the noise is uniform, not normal": paths_of(root, lambda k, n: (torch.rand(k, n) - 0.5) * 12**0.5),
        "each trajectory has one number for all intervals": paths_of(root, lambda k, n: torch.randn(1, n).expand(k, n)),
    },
)
def brownian_paths(n, ts, sigma, dtype):
    return Case(f"the trajectories at {len(ts)} times", (n, torch.tensor(ts, dtype=dtype), sigma))


# --- the Ornstein–Uhlenbeck process -----------------------------------------------------------------------------------


@lab.exercise(
    reread=("eq-sde", "the SDE and the lines below it"),
    passed="a pull towards 0",
    hints=(
        "Without noise the SDE is the ODE of the flow that decays at the rate θ. Which field has this flow?",
        "The drift is linear in x, with the rate θ; it does not depend on t.",
        "The drift at x points to 0 and has the size θ |x|.",
    ),
    withhold=("processes.ornstein_uhlenbeck",),
    library=lambda x, t, theta: processes.ornstein_uhlenbeck(theta, 0.0).drift(x, t),
    visible=[
        ((5, 2), torch.tensor(0.4), 0.8, F32),
        ((4, 1, 2, 3), times(4, dtype=F64), 2.7, F64),
        ((1, 3), 1.7, 0.3, F32),
    ],
    mistakes={
        "the drift pushes away from 0: the sign is missing": lambda x, t, theta: theta * x,
        "θ is missing": lambda x, t, theta: -x,
        "the drift depends on t; θ alone sets the pull": lambda x, t, theta: -theta * coefficient(t, x) * x,
        "this is the flow, not the drift": lambda x, t, theta: math.e ** (-theta * coefficient(t, x)) * x,
        "this is the state after a step of size 1, not the drift": lambda x, t, theta: x - theta * x,
        "the pull is equally strong everywhere; it grows with |x|": lambda x, t, theta: torch.full_like(x, -theta),
        "x is missing: a number came back": lambda x, t, theta: -theta,
        "the state is pulled to 1; it is pulled to 0": lambda x, t, theta: theta * (1 - x),
        "the sign of x is lost: the pull has the size θ |x|, but points to 0": lambda x, t, theta: -theta * x.abs(),
        "x was divided by θ; the rate multiplies it": lambda x, t, theta: -x / theta,
    },
)
def ou_drift(shape, t, theta, dtype):
    x = states(6, *shape, dtype=dtype)
    return Case(f"the drift for θ = {theta:g} {at(t)}", (x, t, theta), -theta * x)


def mean_and_variance(answer, case):
    """Both by name; the variance is a number, or a tensor like x0 with that number everywhere."""
    found, x0 = answer(*case.args), case.args[0]
    expected = dict(case.expected)
    if isinstance(found, (tuple, list)) and len(found) == 2:
        mean, variance = found
        if isinstance(variance, Tensor) and variance.shape == x0.shape:
            found = mean, variance.double()
            expected["the variance"] = torch.full_like(x0, expected["the variance"], dtype=F64)
    yield from judges.parts(found, Case(case.what, case.args, expected))


def law(x0, t, th, s):
    """Mean and variance, what they are made of, and the decay a."""
    a = math.exp(-th * t)
    return a * x0, s**2 * (1 - a**2) / (2 * th), x0, float(t), th, s, a


@lab.exercise(
    reread=("eq-variance", "the equation for the variance"),
    passed="the exact mean and variance at every time",
    hints=(
        "The mean follows the drift alone. The variance starts at 0 and tends to σ²/(2θ).",
        "The mean is that of a linear flow, x_0 e^{−θt}; the variance approaches its limit at twice the rate.",
        "With the decay a = e^{−θt}, the missing part of the variance is the share a².",
    ),
    withhold=("processes.LinearSDE.moments",),
    library=lambda x0, t, theta, sigma: processes.ornstein_uhlenbeck(theta, sigma).moments(x0, t),
    judge=mean_and_variance,
    visible=[
        ((3, 2), 0.7, 0.2, 1.2, F32),
        ((2, 3), torch.tensor(1.4, dtype=F64), 2.3, 0.7, F64),
        ((1, 3), 0.0, 0.8, 1.7, F32),
        ((4, 1, 2, 3), torch.tensor(30.0), 1.3, 0.4, F32),
        ((1, 1), torch.tensor(0.3), 0.4, 0.0, F32),
    ],
    terms=law,
    mistakes={
        "the mean grows: the sign of θ is missing": lambda m, v, x0, t, th, s, a: (x0 / a, v),
        "the mean does not decay": lambda m, v, x0, *_: (x0, v),
        "x_0 is missing in the mean": lambda m, v, x0, t, th, s, a: (torch.full_like(x0, a), v),
        "mean and variance are exchanged": lambda m, v, *_: (torch.full_like(m, v), m),
        "the standard deviation was returned": lambda m, v, *_: (m, v**0.5),
        "the decay should be e^{−2θt}, not e^{−θt}": lambda m, v, x0, t, th, s, a: (m, s**2 * (1 - a) / (2 * th)),
        "the stationary variance was returned, whatever t is": lambda m, v, x0, t, th, s, a: (m, s**2 / (2 * th)),
        "the factor 1/(2θ) is wrong: it should be 2θ, not θ": lambda m, v, *_: (m, 2 * v),
        "θ stands above the line: / 2 * θ divides by 2 alone": lambda m, v, x0, t, th, *_: (m, v * th**2),
        "the variance was not divided by 2θ": lambda m, v, x0, t, th, *_: (m, v * 2 * th),
        "σ was not squared": lambda m, v, x0, t, th, s, a: (m, s * (1 - a**2) / (2 * th)),
        "σ is missing in the variance": lambda m, v, x0, t, th, s, a: (m, (1 - a**2) / (2 * th)),
        "t is missing in the variance": lambda m, v, x0, t, th, s, a: (m, s**2 * (1 - math.exp(-2 * th)) / (2 * th)),
        "this is Brownian motion, without the pull of θ": lambda m, v, x0, t, th, s, a: (m, s**2 * t),
        "the variance shrinks to 0: 1 − is missing": lambda m, v, x0, t, th, s, a: (m, s**2 * a**2 / (2 * th)),
        "2θ divides the decay alone: parentheses": lambda m, v, x0, t, th, s, a: (m, s**2 * (1 - a**2 / (2 * th))),
        "σ²/(2θ) multiplies the 1 alone: parentheses": lambda m, v, x0, t, th, s, a: (m, s**2 / (2 * th) - a**2),
    },
)
def ou_moments(shape, t, theta, sigma, dtype):
    """The variance as σ² times a sum of the decay over all times before t."""
    x0, elapsed = states(8, *shape, dtype=dtype), float(t)
    variance = -(sigma**2) * math.expm1(-2 * theta * elapsed) / (2 * theta)
    known = {"the mean": x0 * math.exp(-theta * elapsed), "the variance": variance}
    return Case(f"for θ = {theta:g}, σ = {sigma:g} {at(t)}", (x0, t, theta, sigma), known)


# --- simulating an SDE ------------------------------------------------------------------------------------------------


def terms_of_em(f, g, x, t, h, e):
    """State, drift u, σ, h and noise, and what they come from."""
    return x, f(x, t), g(x, t), h, e, f, g, t


@lab.exercise(
    reread=("about-euler-maruyama-step", "the text above the exercise"),
    passed="Euler's step plus √h σ ε",
    hints=(
        "It is Euler's step and a random increment. How large is the increment of W over h?",
        "An increment of W over h is √h times a standard normal number, which is given to you as noise.",
        "Add three terms: the state, h times the drift, and √h times the diffusion times the noise.",
    ),
    withhold=("simulators.EulerMaruyama.step", "simulators.simulate"),
    library=lambda drift, diffusion, x, t, h, noise: simulators.EulerMaruyama().step(
        processes.SDE(drift, diffusion), x, t, t + h, noise
    ),
    judge=judges.repeatable,
    visible=[
        ((5, 2), 0.4, 0.09, None, F32),
        ((4, 1, 2, 3), times(4, dtype=F64), torch.tensor(0.17, dtype=F64), None, F64),
        ((3, 1), torch.tensor(0.7), 0.3, 1.4, F32),
        ((6,), 0.2, 0.05, 0.0, F32),
        ((1, 3), 0.6, 0.14, 0.7, F64),
    ],
    terms=terms_of_em,
    mistakes={
        "h was used where the noise needs √h": lambda x, u, s, h, e, *_: x + h * u + h * s * e,
        "h**1/2 is h/2; the root is h**0.5 or h**(1/2)": lambda x, u, s, h, e, *_: x + h * u + h / 2 * s * e,
        "√h is missing in front of the noise": lambda x, u, s, h, e, *_: x + h * u + s * e,
        "the diffusion coefficient is missing": lambda x, u, s, h, e, *_: x + h * u + h**0.5 * e,
        "the noise is missing": lambda x, u, s, h, *_: x + h * u,
        "the drift has √h instead of h": lambda x, u, s, h, e, *_: x + h**0.5 * (u + s * e),
        "the drift has no h": lambda x, u, s, h, e, *_: x + u + h**0.5 * s * e,
        "the drift has the wrong sign": lambda x, u, s, h, e, *_: x - h * u + h**0.5 * s * e,
        "the noise was subtracted": lambda x, u, s, h, e, *_: x + h * u - h**0.5 * s * e,
        "σ was squared": lambda x, u, s, h, e, *_: x + h * u + h**0.5 * s**2 * e,
        "the variance hσ² was used as a standard deviation": lambda x, u, s, h, e, *_: x + h * u + h * s**2 * e,
        "the increment is returned, without the state x itself": lambda x, u, s, h, e, *_: h * u + h**0.5 * s * e,
        "drift and diffusion are exchanged": lambda x, u, s, h, e, *_: x + h * s + h**0.5 * u * e,
        "σ was evaluated after the drift": lambda x, u, s, h, e, f, g, t: x + h * u + h**0.5 * g(x + h * u, t) * e,
        "t + h was used instead of t": lambda x, u, s, h, e, f, g, t: x + h * f(x, t + h) + h**0.5 * g(x, t + h) * e,
        "the drift was evaluated at t + h": lambda x, u, s, h, e, f, g, t: x + h * f(x, t + h) + h**0.5 * s * e,
        "σ was evaluated at t + h instead of t": lambda x, u, s, h, e, f, g, t: x + h * u + h**0.5 * g(x, t + h) * e,
        "x and t are exchanged; both take (x, t)": lambda x, u, s, h, e, f, g, t: x + h * f(t, x) + h**0.5 * s * e,
    },
)
def euler_maruyama_step(shape, t, h, sigma, dtype):
    """sigma: a number as the coefficient; None for one that depends on state and time."""
    x, noise = states(9, *shape, dtype=dtype), states(10, *shape, dtype=dtype)
    drift, diffusion = Field(swirl), Field(lambda x, t: 0.5 + t**2 + 0.2 * x**2)
    known = diffusion.value(x, t) if sigma is None else sigma
    args = drift, diffusion if sigma is None else lambda x, t: sigma, x, t, h, noise
    expected = torch.addcmul(x, noise, torch.as_tensor(known).to(x) * h**0.5) + h * drift.value(x, t)
    return Case(f"the state of shape {shape} after one step", args, expected)


# --- errors of an SDE -------------------------------------------------------------------------------------------------


def grown(exponent):
    """x_0 times the exponential of something else."""
    return lambda x0, t, w, mu, sigma: x0 * torch.exp(exponent(t, w, mu, sigma))


@lab.exercise(
    reread=("eq-gbm", "the equation and Itô's correction, above the exercise"),
    passed="an exact solution with multiplicative noise",
    hints=(
        "The logarithm of the state is Brownian motion with a drift.",
        "log X_t = log x_0 + (μ − σ²/2) t + σ W_t, where W_t is given to you as w.",
        "Take the exponential of both sides; only x_0 stays outside.",
    ),
    withhold=("processes.GeometricBrownianMotion.solution",),
    library=lambda x0, t, w, mu, sigma: processes.GeometricBrownianMotion(mu, sigma).solution(x0, t, w),
    visible=[
        (6, 0.8, 0.3, 0.9, F32),
        (5, times(5, 0.3, 2.7, dtype=F64), -0.7, 0.6, F64),
        (1, torch.tensor(1.6), 0.4, 1.3, F32),
        (3, 2.2, 0.8, 0.0, F32),
    ],
    mistakes={
        "Itô's correction −σ²/2 is missing": grown(lambda t, w, m, s: m * t + s * w),
        "Itô's correction has the wrong sign": grown(lambda t, w, m, s: (m + s**2 / 2) * t + s * w),
        "Itô's correction is σ²/2, not σ²": grown(lambda t, w, m, s: (m - s**2) * t + s * w),
        "Itô's correction is σ²/2, not σ/2": grown(lambda t, w, m, s: (m - s / 2) * t + s * w),
        "the whole of μ − σ² was halved: parentheses": grown(lambda t, w, m, s: (m - s**2) / 2 * t + s * w),
        "Itô's correction was not multiplied by t: parentheses": grown(lambda t, w, m, s: m * t - s**2 / 2 + s * w),
        "μ was not multiplied by t: parentheses": grown(lambda t, w, m, s: m - s**2 / 2 * t + s * w),
        "t is missing": grown(lambda t, w, m, s: m - s**2 / 2 + s * w),
        "σ is missing in front of w": grown(lambda t, w, m, s: (m - s**2 / 2) * t + w),
        "w is missing": grown(lambda t, w, m, s: (m - s**2 / 2) * t + 0 * w),
        "w and t are exchanged": grown(lambda t, w, m, s: (m - s**2 / 2) * w + s * t),
        "√t was multiplied in; w contains it": grown(lambda t, w, m, s: (m - s**2 / 2) * t + s * t**0.5 * w),
        "the exponential is missing": lambda x0, t, w, m, s: x0 * (1 + (m - s**2 / 2) * t + s * w),
        "this is the logarithm of the solution": lambda x0, t, w, m, s: x0.log() + (m - s**2 / 2) * t + s * w,
        "the initial state x_0 is missing": lambda x0, t, w, m, s: torch.exp((m - s**2 / 2) * t + s * w),
    },
)
def geometric_brownian_motion(n, t, mu, sigma, dtype):
    """The mean x_0 e^{μt} times the exponential martingale."""
    x0, w = 0.2 + states(11, n, dtype=dtype).abs(), states(12, n, dtype=dtype)
    mean = x0 * torch.exp(mu * torch.as_tensor(t)).to(x0)
    return Case(f"the solution {at(t)}", (x0, t, w, mu, sigma), mean * torch.exp(sigma * w - sigma**2 * t / 2))


def both(error, other=None):
    """`strong_and_weak_error` with another strong error, and another weak one, if it has one."""
    return lambda x, y: (error(x, y), (other or metrics.weak_error)(x, y))


def strong_and(error):
    """`strong_and_weak_error` with another weak error."""
    return both(metrics.strong_error, error)


@lab.exercise(
    reread=("eq-strong-and-weak", "the equations of both errors"),
    passed="how far trajectories are from theirs, and how far the means are apart",
    hints=(
        "The strong error asks how far each trajectory is from its own exact one, the weak error whether means agree.",
        "Strong: take the distance of each pair first, then the mean. Weak: take the mean of each set first.",
        "A distance is an absolute value. Return both errors, the strong one first.",
    ),
    withhold=("metrics.strong_error", "metrics.weak_error"),
    library=lambda x, y: (metrics.strong_error(x, y), metrics.weak_error(x, y)),
    visible=[(7, -0.6, F32), (45, 1.7, F64), (1, 0.8, F32)],
    mistakes={
        "strong and weak error are exchanged": lambda x, y: ((x.mean() - y.mean()).abs(), (x - y).abs().mean()),
        "both are the strong error; for the weak one take the means first": strong_and(metrics.strong_error),
        "both are the weak error; for the strong one take distances first": both(metrics.weak_error),
        "the absolute value is missing in both": both(lambda x, y: (x - y).mean(), lambda x, y: (x - y).mean()),
        "the absolute value is missing in the strong error": both(lambda x, y: (x - y).mean()),
        "the absolute value is missing in the weak error": strong_and(lambda x, y: (x - y).mean()),
        "the strong error compares the sizes |X| and |Y|; take the size of X − Y": both(
            lambda x, y: (x.abs() - y.abs()).abs().mean()
        ),
        "the weak error compares the means of |X| and |Y|, not of X and Y": strong_and(
            lambda x, y: (x.abs().mean() - y.abs().mean()).abs()
        ),
        "the means lost their signs before they were subtracted": strong_and(
            lambda x, y: (x.mean().abs() - y.mean().abs()).abs()
        ),
        "the values were summed, not averaged": both(
            lambda x, y: (x - y).abs().sum(), lambda x, y: (x - y).sum().abs()
        ),
        "no mean was taken in the strong error: this is one error for each trajectory": both(
            lambda x, y: (x - y).abs()
        ),
        "squares were averaged in the strong error; it is the mean of |X − Y|": both(
            lambda x, y: (x - y).square().mean()
        ),
        "the strong error is the root of the mean square, not the mean of |X − Y|": both(
            lambda x, y: (x - y).square().mean() ** 0.5
        ),
        "the strong error is the length of the vector X − Y, the root of a sum": both(lambda x, y: (x - y).norm()),
        "the median error was used instead of the mean": both(lambda x, y: (x - y).abs().median()),
        "the largest error was used instead of the mean": both(lambda x, y: (x - y).abs().max()),
        "the weak error was squared": strong_and(lambda x, y: (x - y).mean().square()),
        "squares were averaged in the weak error; take the means first": strong_and(
            lambda x, y: (x - y).square().mean()
        ),
        "the medians were compared instead of the means": strong_and(lambda x, y: (x.median() - y.median()).abs()),
    },
)
def strong_and_weak_error(n, shift, dtype):
    """Samples of both signs, of the means shift and 0, or nearly; sums in plain Python."""
    x, y = shift + states(13, n, dtype=dtype), states(14, n, dtype=dtype)
    strong = math.fsum(abs(a - b) for a, b in zip(x.tolist(), y.tolist())) / n
    weak = abs(math.fsum(x.tolist()) - math.fsum(y.tolist())) / n
    return Case(f"of {n} trajectories", (x, y), {"the strong error": strong, "the weak error": weak})


# --- Langevin dynamics ------------------------------------------------------------------------------------------------


def drift(factor):
    """`langevin_drift` with another factor in front of the score."""
    return lambda score, sigma: lambda x, t: factor(sigma) * score(x)


@lab.exercise(
    reread=("eq-langevin", "the equation of Langevin dynamics, above the exercise"),
    passed="a drift under which the density does not change",
    hints=(
        "The drift moves states to where the density is larger. Which vector points there?",
        "The factor is tied to the noise: half of σ squared.",
        "Return a function of (x, t), a lambda or an inner def, that multiplies score(x) by ½σ².",
    ),
    withhold=("processes.langevin",),
    library=lambda score, sigma: processes.langevin(score, sigma).drift,
    judge=judges.function,
    visible=[
        (Gaussian([1.0, -1.0], [[1.0, 0.5], [0.5, 2.0]]), 6, [0.7, torch.tensor(0.4)], 1.6, F32),
        (GaussianMixture([[1.0, 0.0, 2.0], [-1.0, 2.0, 0.3]], [0.5, 1.5]), 4, [times(4, dtype=F64)], 0.3, F64),
        (GaussianMixture([[-0.4], [1.3]], [0.2, 0.7], [0.3, 0.7]), 1, [1.3], 2.7, F32),
    ],
    mistakes={
        "the factor ½ is missing": drift(lambda s: s**2),
        "σ was not squared": drift(lambda s: s / 2),
        "σ stands in place of ½σ²": drift(lambda s: s),
        "σ is missing": drift(lambda s: 0.5),
        "the ½ was squared, too": drift(lambda s: (s / 2) ** 2),
        "the sign is reversed: the drift should point to where the density is larger": drift(lambda s: -(s**2) / 2),
        "the score was returned as it is": drift(lambda s: 1.0),
        "the factor is σ²/2, not 2/σ²": drift(lambda s: 2 / s**2),
        "the drift was multiplied by t": lambda score, s: lambda x, t: s**2 / 2 * coefficient(t, x) * score(x),
        "the score is missing: this is ½σ² x": lambda score, s: lambda x, t: s**2 / 2 * x,
        "the function takes (t, x); it should take (x, t)": lambda score, s: lambda t, x: s**2 / 2 * score(x),
        "the score was asked about (x, t); it takes x alone": lambda score, s: lambda x, t: s**2 / 2 * score(x, t),
        "the function score itself was multiplied; multiply score(x)": lambda score, s: s**2 / 2 * score,
        "the factor was added; it multiplies the score": lambda score, s: lambda x, t: s**2 / 2 + score(x),
    },
)
def langevin_drift(p, n, ts, sigma, dtype):
    """The score by autograd of the density."""
    x = states(15, n, len(p.mean), dtype=dtype)
    y = x.clone().requires_grad_()
    score = torch.autograd.grad(p.log_prob(y).sum(), y)[0]
    calls = [(f"the drift {at(t)}", (x, t), sigma**2 / 2 * score) for t in ts]
    return Case("the drift", (p.score, sigma), calls=calls, others=(lambda x: 0 * x, 7.3))
