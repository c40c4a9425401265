"""Checks of lab 1: simulating ordinary and stochastic differential equations.

Truth comes from closed forms: constant, linear and time-only fields, the moments of Brownian motion, of the
Ornstein–Uhlenbeck process and of geometric Brownian motion, the scores of Gaussians. Random answers are judged by
their moments, at five standard errors and more.
"""

import math

import torch

from fmlab.checks.compare import describe, fail, require, require_close, require_number, require_tensor
from fmlab.checks.inputs import states
from fmlab.checks.report import answer_or, check, hint, progress  # noqa: F401 (words of the labs)
from fmlab.checks.submission import submission  # noqa: F401 (a word of the labs)
from fmlab.distributions import Gaussian


@check(
    reread="notes, § 2.1, eq. 4 (Euler's method)",
    passed="one step along the field, of first order",
    points=2,
    hints=(
        "Velocity is displacement per time. Which velocity do you know at the start of the step?",
        "The displacement in a time h is about h times the velocity at (x, t).",
        "Call the field once, at x and t; add h times the result to x in a new tensor, and return that.",
    ),
    reference=("simulators.Euler.step", "simulators.simulate"),
)
def euler_step(answer):
    x, t, h = states(1, 5, 2), 0.3, 0.1
    u = t * x  # the value at (x, t) of the field u_t(x) = t x
    mistakes = {
        "the step size h is missing": x + u,
        "the step goes against the field": x - h * u,
        "only the increment is returned, without the state x itself": h * u,
        "the field was evaluated at t + h instead of t": x + h * (t + h) * x,
        "√h was used where Euler's method has h": x + h**0.5 * u,
        "the step was multiplied by t": x + t * u,
        "the field itself is returned": u,
    }
    require_close(answer(lambda x, t: t * x, x, t, h), (1 + h * t) * x, "the state after one step", mistakes)


@check(
    reread="notes, § 2.1 (Heun's method)",
    passed="the average of two slopes, of second order",
    points=3,
    hints=(
        "Euler trusts the slope at the start. Where could a second look at the field help?",
        "Make Euler's step first, as a guess only; evaluate the field there, at the time t + h.",
        "Average the two slopes, and take one step of size h from x (not from the guess) with the average.",
    ),
    reference=("simulators.Heun.step", "simulators.simulate"),
)
def heun_step(answer):
    x, t, h = states(2, 5, 2), 0.3, 0.2
    now, guess = t * x, (1 + h * t) * x  # for the field u_t(x) = t x
    ahead = (t + h) * guess
    mistakes = {
        "this is still Euler's step: the second slope is missing": guess,
        "the two slopes were added, but not averaged": x + h * (now + ahead),
        "the second slope alone was used": x + h * ahead,
        "the second slope was evaluated at x instead of at the guess X'": x + h / 2 * (now + (t + h) * x),
        "the second slope was evaluated at t instead of t + h": x + h / 2 * (now + t * guess),
        "this is the midpoint rule": x + h * (t + h / 2) * (1 + h / 2 * t) * x,
        "the second step started from the guess X' instead of x": guess + h / 2 * (now + ahead),
    }
    expected = (1 + h / 2 * (t + (t + h) * (1 + h * t))) * x
    require_close(answer(lambda x, t: t * x, x, t, h), expected, "the state after one step", mistakes)


@check(
    reread="notes, algorithm 1",
    passed="every state from the first time to the last, on any time grid",
    points=3,
    hints=(
        "A trajectory is the start and then one state after each step. How many steps lie between len(ts) times?",
        "Step k goes from ts[k] to ts[k + 1], so its size is the difference of the two; sizes may differ.",
        "Begin a list with x0, append step(last state, ts[k], ts[k + 1] − ts[k]) for each k, and torch.stack the list.",
    ),
    reference=("simulators.simulate",),
)
def simulate(answer):
    x0, ts = states(3, 3, 2), torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0])
    calls = []

    def step(x, t, h):
        calls.append((float(t), float(h)))
        return x + h

    found = answer(step, x0, ts)
    if len(calls) == len(x0):
        fail(f"{len(x0)} steps were taken, one for each particle; the loop should run over the times")
    if isinstance(found, (list, tuple)):
        fail("all states should be in one tensor of shape (len(ts), n, d), found a list; torch.stack joins them")
    require(isinstance(found, torch.Tensor), f"the states should be a tensor, found {describe(found)}")
    if found.shape == x0.shape:
        fail("only one state came back; all len(ts) of them are wanted, the first and the last included")
    require(
        len(found) != len(ts) - 1 or found.shape[1:] != x0.shape,
        f"there should be {len(ts)} states, one for each time; found {len(ts) - 1}: is x0 itself among them?",
    )
    require(len(calls) == len(ts) - 1, f"{len(ts)} times need {len(ts) - 1} steps, found {len(calls)}")
    times, sizes = torch.tensor(calls).T
    mistakes = {
        "the step was given the time it goes to instead of the time it starts from": ts[1:],
        "the step was given a counter instead of a time": torch.arange(4.0),
    }
    require_close(times, ts[:-1], "the sequence of times t given to step", mistakes, tolerance=1e-5)
    mistakes = {
        "all steps have the size of the first": torch.full((4,), 0.1),
        "the step sizes were taken as if times were evenly spaced": torch.full((4,), 0.25),
    }
    require_close(sizes, ts.diff(), "the sequence of step sizes h given to step", mistakes, tolerance=1e-5)
    require_close(found, x0 + ts[:, None, None], "the states, for a step that moves each by h,")


@check(
    reread="notes, example 4, eq. 3 (linear vector fields)",
    passed="the exact flow, a yardstick for simulators",
    points=1,
    hints=(
        "Which function is its own derivative, up to a factor −θ?",
        "x_0 decays exponentially, by the factor e^{−θt}.",
        "t may be a number: make it a tensor with torch.as_tensor before you use torch.exp.",
    ),
    reference=("processes.LinearSDE.moments",),
)
def linear_flow(answer):
    x0, t, theta = states(4, 5, 2), 0.7, 1.5
    decay = math.exp(-theta * t)
    mistakes = {
        "the flow grows: the sign of θ is missing": x0 / decay,
        "this is one Euler step, not the exact flow": x0 * (1 - theta * t),
        "θ is missing": x0 * math.exp(-t),
        "t is missing": x0 * math.exp(-theta),
        "the initial state x_0 is missing": torch.full_like(x0, decay),
        "this is the vector field, not its flow": -theta * x0,
    }
    require_close(answer(x0, t, theta), decay * x0, "the flow", mistakes)


@check(
    reread="the text above the exercise: orders are slopes",
    passed="the slope on logarithmic axes",
    points=3,
    hints=(
        "If error = C h^p, how does log error depend on log h?",
        "The slope of the least-squares line is the covariance of log h and log error over the variance of log h.",
        "Subtract their means from both logarithms; divide the sum of products by the sum of squares of log h.",
    ),
    reference=("metrics.convergence_order",),
)
def convergence_order(answer):
    hs = torch.tensor([0.2, 0.1, 0.05, 0.025])
    require_number(
        answer(hs, 3.0 * hs**2),
        2.0,
        "the order of the errors 3 h²",
        {
            "the axes are exchanged: log h was fitted as a function of log error": 0.5,
            "the sign is reversed": -2.0,
            "the line was fitted to h and the error themselves, not to their logarithms": 0.694565,
            "the intercept was returned instead of the slope": math.log(3.0),
        },
    )
    noisy = torch.tensor([8.0, 2.0, 2.0, 1.0]) * 1e-3  # slope by least squares, with an intercept: 0.9 exactly
    mistakes = {
        "only the first and the last error were used; fit a line through all of them": 1.0,
        "the line was forced through the origin; log error = log C + p log h has an intercept": 2.171647,
    }
    require_number(answer(hs, noisy), 0.9, "the least-squares order of scattered errors", mistakes, tolerance=2e-4)


@check(
    reread="notes, § 2.2, eq. 5 (Brownian motion)",
    passed="independent Gaussian increments of variance σ²Δt",
    points=4,
    hints=(
        "Brownian motion is the running sum of independent increments. What variance does one over Δt have?",
        "Its variance is σ²Δt, so its standard deviation is σ√Δt, with a Δt of its own for each interval.",
        "Draw (len(ts) − 1, n) normals, scale each row, sum with cumsum(0), and put a row of zeros in front.",
    ),
    reference=("simulators.simulate",),
)
def brownian_paths(answer):
    n, sigma, ts = 20_000, 1.5, torch.tensor([0.0, 0.1, 0.4, 0.5, 1.0])
    paths = answer(n, ts, sigma)
    brownian_moments(paths, n, ts, sigma)


def brownian_moments(paths, n: int, ts: torch.Tensor, sigma: float) -> None:
    """Fail unless the paths have the moments of σW at the times ts, within 5 to 7 standard errors."""
    require(isinstance(paths, torch.Tensor), f"the paths should be a tensor, found {describe(paths)}")
    if paths.shape == (n, len(ts)) != (len(ts), n):
        fail(f"the paths should have shape (len(ts), n) = {(len(ts), n)}, found {tuple(paths.shape)}: time comes first")
    require(
        paths.shape != (len(ts) - 1, n),
        f"there should be {len(ts)} states of each path, found {len(ts) - 1}: W_0 = 0 is one of them",
    )
    require_tensor(paths, torch.empty(len(ts), n), "the tensor of paths")
    require(bool((paths[0] == 0).all()), "each path should start at 0")
    spread = paths.diff(dim=0).std(1)
    require(bool((paths.std(1)[1:] > 1e-6).all()), "all paths are the same; each needs noise of its own")
    dt, standard_error = ts.diff(), math.sqrt(0.5 / n)
    _require_spread(spread / (sigma * dt.sqrt()), 7 * standard_error, sigma, dt, paths)
    increments = paths.diff(dim=0) / (sigma * dt.sqrt())[:, None]
    require(bool((increments.mean(1).abs() < 6 / math.sqrt(n)).all()), "the increments should have mean 0")
    kurtosis = increments.pow(4).mean()
    require(
        abs(kurtosis - 3) < 7 * math.sqrt(96 / increments.numel()),
        f"the increments are not Gaussian: their fourth moment is {kurtosis:.2f}, not 3; is noise multiplied in twice?",
    )
    correlation = (increments @ increments.T / n).fill_diagonal_(0).abs().max()
    require(correlation < 7 / math.sqrt(n), "increments over disjoint intervals should be independent: draw new noise")


def _require_spread(ratio, tolerance: float, sigma: float, dt, paths) -> None:
    """Fail unless the standard deviations of the increments are σ√Δt; ratio: found over expected."""
    if (ratio - 1).abs().max() < tolerance:
        return
    patterns = {
        "h was used where √h is needed": dt.sqrt(),
        "σ is missing": torch.full_like(dt, 1 / sigma),
        "σ was used as a variance; it multiplies the noise": torch.full_like(dt, sigma**-0.5),
        "σ² was used as a standard deviation": torch.full_like(dt, sigma),
        "the step size is missing: every increment has the same spread": 1 / dt.sqrt(),
        "all steps have the size of the first": (dt[0] / dt).sqrt(),
        "the steps were taken as if times were evenly spaced": (dt.mean() / dt).sqrt(),
    }
    named = [words for words, pattern in patterns.items() if (ratio - pattern).abs().max() < 2 * tolerance]
    independent = torch.allclose(paths[1:].std(1), sigma * dt.sqrt(), rtol=2 * tolerance)
    if independent and len(dt) > 1:
        named = ["the increments were not summed: a path is their running total"]
    reason = f"it looks as if {named[0]}" if named else "the increments over Δt should have standard deviation σ√Δt"
    expected, found = sigma * dt.sqrt(), sigma * dt.sqrt() * ratio
    fail(f"the spread of the increments is not right; {reason}.\n  expected {_row(expected)}\n  found    {_row(found)}")


def _row(values) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())


@check(
    reread="notes, example 6, eq. 8 (Ornstein–Uhlenbeck process)",
    passed="a pull towards 0",
    points=1,
    hints=(
        "The process is pulled back to 0, the harder the farther it is. Which sign does that ask for?",
        "The drift is linear in x, with the rate θ; it does not depend on t.",
        "The force at x points to 0 and has the size θ |x|.",
    ),
    reference=("processes.ornstein_uhlenbeck",),
)
def ou_drift(answer):
    x, t, theta = states(6, 5, 2), 0.4, 0.8
    mistakes = {
        "the drift pushes away from 0: the sign is missing": theta * x,
        "θ is missing": -x,
        "the drift depends on t; θ alone sets the pull": -theta * t * x,
        "this is the flow, not the drift": math.exp(-theta * t) * x,
    }
    require_close(answer(x, t, theta), -theta * x, "the drift", mistakes)


@check(
    reread="notes, example 6, eq. 8 (Ornstein–Uhlenbeck process)",
    passed="noise of the same strength everywhere",
    points=1,
    hints=(
        "Does the strength of the noise depend on where the state is?",
        "The diffusion coefficient multiplies dW itself, not its variance.",
        "It is the same number at every x and t.",
    ),
    reference=("processes.ornstein_uhlenbeck",),
)
def ou_diffusion(answer):
    x, t, sigma = states(7, 5, 2), 0.4, 0.8
    found = answer(x, t, sigma)
    if isinstance(found, (int, float)):
        found = torch.tensor(float(found))
    require(isinstance(found, torch.Tensor), f"the coefficient should be a number or a tensor, found {describe(found)}")
    require(
        found.shape in {(), (1,), (1, 1), (5, 1), x.shape},
        f"the coefficient should be a number, or a tensor that fits the states, found shape {tuple(found.shape)}",
    )
    found = found.to(x).expand_as(x)
    require(
        found.std() < 1e-6 or torch.allclose(found / x, (found / x)[0, 0].expand_as(x)),
        "the coefficient is random; the noise itself is added by the simulator, once",
    )
    mistakes = {
        "σ was squared; it multiplies the noise, so it is a standard deviation": torch.full_like(x, sigma**2),
        "√t was multiplied in; the simulator does that with √h": torch.full_like(x, sigma * t**0.5),
        "a root was taken of σ": torch.full_like(x, sigma**0.5),
        "the noise was made proportional to the state": sigma * x,
    }
    require_close(found, torch.full_like(x, sigma), "the diffusion coefficient", mistakes)


@check(
    reread="notes, example 6 (Ornstein–Uhlenbeck process)",
    passed="the exact law at every time",
    points=3,
    hints=(
        "The mean follows the drift alone. The variance starts at 0 and tends to σ²/(2θ).",
        "The mean is that of a linear flow, x_0 e^{−θt}; the variance approaches its limit at twice the rate.",
        "With the decay a = e^{−θt}, the missing part of the variance is the share a².",
    ),
    reference=("processes.LinearSDE.moments",),
)
def ou_moments(answer):
    x0, t, theta, sigma = torch.tensor([2.0, -1.0, 0.5]), 0.7, 0.6, 1.2
    decay = math.exp(-theta * t)
    stationary = sigma**2 / (2 * theta)
    found = answer(x0, t, theta, sigma)
    pair = isinstance(found, (tuple, list)) and len(found) == 2
    require(pair, f"mean and variance should come back, found {describe(found)}")
    mean, variance = found
    mistakes = {
        "the mean grows: the sign of θ is missing": x0 / decay,
        "the mean has the rate 2θ of the variance": x0 * decay**2,
        "mean and variance are exchanged": torch.full_like(x0, stationary * (1 - decay**2)),
    }
    require_close(mean, decay * x0, "the mean", mistakes)
    require_number(
        variance.flatten()[0] if isinstance(variance, torch.Tensor) and variance.shape == x0.shape else variance,
        stationary * (1 - decay**2),
        "the variance",
        {
            "the standard deviation was returned": math.sqrt(stationary * (1 - decay**2)),
            "the decay should be e^{−2θt}, not e^{−θt}": stationary * (1 - decay),
            "the stationary variance was returned, whatever t is": stationary,
            "the factor 1/(2θ) is wrong: it should be 2θ, not θ": 2 * stationary * (1 - decay**2),
            "σ was not squared": stationary / sigma * (1 - decay**2),
            "this is Brownian motion, without the pull of θ": sigma**2 * t,
        },
    )


@check(
    reread="notes, § 2.2, eq. 9 (Euler–Maruyama)",
    passed="Euler's step plus √h σ ε",
    points=3,
    hints=(
        "It is Euler's step and a random increment. How large is the increment of W over h?",
        "An increment of W over h is √h times a standard normal number, which is given to you as noise.",
        "Add three terms: the state, h times the drift, and √h times the diffusion times the noise.",
    ),
    reference=("simulators.EulerMaruyama.step", "simulators.simulate"),
)
def euler_maruyama_step(answer):
    x, t, h, noise = states(8, 5, 2), 0.5, 0.04, states(9, 5, 2)
    u, sigma = -2 * x, 0.5 + 0.1 * x**2
    mistakes = {
        "h was used where the noise needs √h": x + h * u + h * sigma * noise,
        "√h is missing in front of the noise": x + h * u + sigma * noise,
        "the diffusion coefficient is missing": x + h * u + h**0.5 * noise,
        "the noise is missing": x + h * u,
        "the drift has √h instead of h": x + h**0.5 * (u + sigma * noise),
        "the drift is missing": x + h**0.5 * sigma * noise,
        "σ was squared": x + h * u + h**0.5 * sigma**2 * noise,
        "only the increment is returned, without the state x itself": h * u + h**0.5 * sigma * noise,
        "σ was evaluated at the state after the drift; Itô's rule takes it before": (
            x + h * u + h**0.5 * (0.5 + 0.1 * (x + h * u) ** 2) * noise
        ),
    }
    found = answer(lambda x, t: -2 * x, lambda x, t: 0.5 + 0.1 * x**2, x, t, h, noise)
    expected = x + h * u + h**0.5 * sigma * noise
    if isinstance(found, torch.Tensor) and found.shape == x.shape:
        again = answer(lambda x, t: -2 * x, lambda x, t: 0.5 + 0.1 * x**2, x, t, h, noise)
        require(torch.equal(found, again), "the same noise gave two different steps; use the noise that is given")
    require_close(found, expected, "the state after one step", mistakes)


@check(
    reread="the text above the exercise: Itô's correction",
    passed="an exact solution with multiplicative noise",
    points=2,
    hints=(
        "The logarithm of the state is Brownian motion with a drift.",
        "log X_t = log x_0 + (μ − σ²/2) t + σ W_t, where W_t is given to you as w.",
        "Take the exponential of both sides; only x_0 stays outside.",
    ),
    reference=("processes.GeometricBrownianMotion.solution",),
)
def geometric_brownian_motion(answer):
    x0, t, w, mu, sigma = states(10, 6).abs(), 0.8, states(11, 6), 0.3, 0.9
    mistakes = {
        "Itô's correction −σ²/2 is missing": x0 * torch.exp(mu * t + sigma * w),
        "Itô's correction has the wrong sign": x0 * torch.exp((mu + sigma**2 / 2) * t + sigma * w),
        "Itô's correction is σ²/2, not σ²": x0 * torch.exp((mu - sigma**2) * t + sigma * w),
        "√t was multiplied in; W_t already has variance t": x0
        * torch.exp((mu - sigma**2 / 2) * t + sigma * t**0.5 * w),
        "the exponential is missing": x0 * (1 + (mu - sigma**2 / 2) * t + sigma * w),
        "the initial state x_0 is missing": torch.exp((mu - sigma**2 / 2) * t + sigma * w),
        "x_0 was added; it multiplies": x0 + torch.exp((mu - sigma**2 / 2) * t + sigma * w),
    }
    expected = x0 * torch.exp((mu - sigma**2 / 2) * t + sigma * w)
    require_close(answer(x0, t, w, mu, sigma), expected, "the solution", mistakes)


@check(
    reread="the text above the exercise: errors path by path",
    passed="how far each path is from its own solution",
    points=2,
    hints=(
        "It asks how far a path is from its own exact path.",
        "Take the distance of each pair first.",
        "Then take the mean over all pairs.",
    ),
    reference=("metrics.strong_error",),
)
def strong_error(answer):
    x, y = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 1.0, 7.0])
    require_number(
        answer(x, y),
        5 / 3,
        "the strong error",
        {
            "this is the weak error: the absolute value belongs inside the mean": 1.0,
            "the absolute value is missing": -1.0,
            "the errors were summed, not averaged": 5.0,
            "squares were used; the strong error here is the mean of |X − Y|": 11 / 3,
            "the root of the mean square was used; the strong error here is the mean of |X − Y|": math.sqrt(11 / 3),
            "the largest error was used instead of the mean": 3.0,
        },
        tolerance=1e-5,
    )


@check(
    reread="the text above the exercise: means first",
    passed="how far the mean is from the mean of the solution",
    points=2,
    hints=(
        "It asks only whether the averages agree.",
        "Take the mean of each set first.",
        "Then take the distance between the two numbers; a distance is never negative.",
    ),
    reference=("metrics.weak_error",),
)
def weak_error(answer):
    x, y = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 1.0, 7.0])
    require_number(
        answer(x, y),
        1.0,
        "the weak error",
        {
            "this is the strong error: take the mean first, then the absolute value": 5 / 3,
            "the absolute value is missing": -1.0,
            "the values were summed, not averaged": 3.0,
            "the difference was squared": 11 / 3,
            "the medians were compared instead of the means": 0.0,
        },
        tolerance=1e-5,
    )
    mistakes = {"the absolute value is missing": -1.0}
    require_number(answer(y, x), 1.0, "the weak error with both sets exchanged", mistakes)


@check(
    reread="summary, § 3.3 (Langevin dynamics)",
    passed="a drift that leaves the distribution invariant",
    points=3,
    hints=(
        "The drift climbs towards likely states: which vector says where that is?",
        "The factor is tied to the noise: half of σ squared.",
        "Return a function of (x, t), a lambda or an inner def, that multiplies score(x) by ½σ².",
    ),
    reference=("processes.langevin",),
)
def langevin_drift(answer):
    x, t, sigma = states(12, 6, 2), 0.5, 1.6
    score = Gaussian([1.0, -1.0], [[1.0, 0.5], [0.5, 2.0]]).score
    drift = answer(score, sigma)
    if isinstance(drift, torch.Tensor):
        fail("langevin_drift should return a function of (x, t), found a tensor")
    require(callable(drift), f"langevin_drift should return a function of (x, t), found {describe(drift)}")
    try:
        found = drift(x, t)
    except Exception as error:
        fail(f"the returned drift raised {type(error).__name__} when called as drift(x, t):\n  {error}")
    s = score(x)
    mistakes = {
        "the factor ½ is missing": sigma**2 * s,
        "σ was not squared": sigma / 2 * s,
        "σ is missing": s / 2,
        "the sign is reversed: the drift climbs towards likelier states": -(sigma**2) / 2 * s,
        "the score was returned as it is": s,
        "the factor is σ²/2, not 2/σ²": 2 / sigma**2 * s,
        "√2 σ was used; that belongs to another time scale": math.sqrt(2) * sigma * s,
    }
    require_close(found, sigma**2 / 2 * s, "the drift", mistakes)
