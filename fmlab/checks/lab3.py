"""Checks of lab 3: flow matching.

Truth comes from closed forms: sines and cosines for the schedule, models with one weight, whose gradients are
elementary, the exact path of Gaussian data, linear fields, whose Euler steps are products. Every draw is passed in, so
comparisons are exact.
"""

import math

import torch

from fmlab.checks.compare import describe, fail, require, require_close, require_number, require_tensor
from fmlab.checks.inputs import states
from fmlab.checks.report import answer_or, check, hint, progress  # noqa: F401 (words of the labs)
from fmlab.checks.submission import submission  # noqa: F401 (a word of the labs)
from fmlab.distributions import Gaussian
from fmlab.paths import GaussianPath
from fmlab.schedules import CondOT, Cosine

LOG_2PI = math.log(2 * math.pi)


def spread(n: int, dtype=torch.float32) -> torch.Tensor:
    """n different times within (0, 1), in no order."""
    return (torch.arange(1, n + 1, dtype=dtype) * 0.618034) % 1


def column(t, x: torch.Tensor) -> torch.Tensor:
    """Times in the shape that multiplies x."""
    t = torch.as_tensor(t, dtype=x.dtype)
    return t.reshape(-1, *[1] * (x.ndim - 1)) if t.ndim else t


def mean_square(error: torch.Tensor) -> torch.Tensor:
    """Σ over coordinates, mean over the batch."""
    return error.square().sum() / len(error)


class Model:
    """The model u_θ(x, t) = θ x + t of one weight θ, which remembers how it was called."""

    def __init__(self, theta: float = 0.7, dtype=torch.float32):
        self.theta, self.calls = torch.tensor(theta, dtype=dtype, requires_grad=True), []

    def __call__(self, x, t):
        self.calls.append((x, t))
        return self.value(x, t)

    def value(self, x, t):
        return self.theta * x + column(t, x)

    def require_called_with(self, x, t, mistakes=None) -> None:
        """Fail unless the first call was with the state x, and the time t as it had come."""
        require(self.calls, "the model was never called")
        seen, time = self.calls[0]
        require(isinstance(seen, torch.Tensor), f"the model should be given a tensor of states, found {describe(seen)}")
        require_close(seen.detach(), x, "the state x_t given to the model", mistakes)
        time, t = torch.as_tensor(time, dtype=x.dtype), torch.as_tensor(t, dtype=x.dtype)
        if time.shape not in (t.shape, x.shape[:1]):
            fail(
                f"the model was given times of shape {tuple(time.shape)}; hand t on as it came, {tuple(t.shape)}, "
                "and shape only the coefficients"
            )
        require_close(time.expand(len(x)), t.expand(len(x)), "the time given to the model")

    def require_loss(self, found, error: torch.Tensor, mistakes=None, tolerance=1e-5) -> None:
        """Fail unless `found` is the mean square of the error, which depends on θ, and so is its gradient."""
        d = error[0].numel()
        expected, norms = mean_square(error), error.flatten(1).square().sum(1)
        require_scalar(found, "the loss")
        slips = {
            "the mean was taken over coordinates too: sum over them, and average over the batch alone": expected / d,
            "the losses of the batch were summed, not averaged": expected * len(error),
            "there is a factor ½ too many": expected / 2,
            "the norm was not squared": norms.sqrt().mean(),
            "a root was taken of the loss": expected.sqrt(),
        } | {words: mean_square(wrong) for words, wrong in (mistakes or {}).items()}
        slips = {words: float(value.detach()) for words, value in slips.items()}
        require_number(_detached(found), float(expected.detach()), "the loss", slips, tolerance)
        if not isinstance(found, torch.Tensor) or not found.requires_grad:
            fail(
                "the value is right, but no gradient reaches the model: return the tensor itself (no .item(), no "
                ".detach(), no torch.no_grad())"
            )
        gradient = torch.autograd.grad(found.sum(), self.theta, allow_unused=True)[0]
        require(gradient is not None, "the value is right, but no gradient reaches the model's weights")
        right = torch.autograd.grad(expected, self.theta)[0]
        require_close(gradient, right, "the value is right, but the gradient", tolerance=tolerance)


def require_scalar(found, what: str) -> None:
    """Fail unless `found` is one number, with a word on what is missing."""
    if isinstance(found, torch.Tensor) and found.numel() > 1:
        fail(f"{what} should be one number for the whole batch, found {describe(found)}: take the sum, then the mean")


def _detached(found):
    return found.detach() if isinstance(found, torch.Tensor) else found


def off_path(z, noise, alpha, beta) -> dict:
    """Wrong states that a model may be shown."""
    return {
        "the model was shown the data z instead of the state x_t": z,
        "the model was shown the noise instead of the state x_t": noise,
        "α_t and β_t are exchanged: α_t is the weight of the data": beta * z + alpha * noise,
        "the noise was subtracted": alpha * z - beta * noise,
        "β_t² was used; β_t itself is the weight of the noise": alpha * z + beta**2 * noise,
    }


@check(
    reread="notes, example 13, eq. 31",
    passed="a regression on velocities that anybody can draw",
    points=5,
    hints=(
        "Which two combinations of data and noise do you need: one that the model sees, and one that it should answer?",
        "The model sees x_t = α_t z + β_t ε at the time t; its answer should be the velocity α̇_t z + β̇_t ε.",
        "Shape all four weights with coefficient(…, z); square the error, sum over each point, average over points.",
    ),
    reference=("losses.flow_matching_loss",),
)
def conditional_flow_matching_loss(answer):
    z, noise, t = states(1, 6, 3), states(2, 6, 3), spread(6)
    angle = math.pi / 2 * t[:, None]
    alpha, beta = angle.sin(), angle.cos()
    alpha_dot, beta_dot = math.pi / 2 * beta, -math.pi / 2 * alpha
    x, target = alpha * z + beta * noise, alpha_dot * z + beta_dot * noise
    model = Model()
    found = answer(model, z, t, noise, Cosine())
    line = t[:, None] * z + (1 - t[:, None]) * noise
    condot = "this is the path of CondOT; use the functions of the schedule that is given"
    model.require_called_with(x, t, {condot: line} | off_path(z, noise, alpha, beta))
    u = model.value(x, t)
    mistakes = {
        "this is the target of CondOT; use the derivatives of the schedule that is given": u - (z - noise),
        "the target has the weights α_t and β_t where it needs their derivatives": u - x,
        "α̇_t and β̇_t are exchanged": u - (beta_dot * z + alpha_dot * noise),
        "the sign of β̇_t ε is reversed: β̇_t is negative by itself": u - (alpha_dot * z - beta_dot * noise),
        "the model was compared with the data; its target is a velocity": u - z,
        "the model was compared with the noise; its target is a velocity": u - noise,
        "the noise is missing from the target": u - alpha_dot * z,
        "the formula of eq. 29 takes the state x_t where you put ε": u
        - ((alpha_dot - beta_dot / beta * alpha) * z + beta_dot / beta * noise),
        "target and model were added": u + target,
    }
    model.require_loss(found, u - target, mistakes)
    moved = Model(0.2)
    require_number(
        _detached(answer(moved, z, t, noise, Cosine())),
        float(mean_square(moved.value(x, t) - target).detach()),
        "the loss of another model",
        tolerance=1e-5,
    )


@check(
    reread="notes, eq. 24, and the text above the exercise",
    passed="the loss that theorem 12 compares with",
    points=3,
    hints=(
        "What changes when the target is known exactly: the states that are drawn, or what they are compared with?",
        "The state is x_t = α_t z + β_t ε as before; the target at (x_t, t) is field(x_t, t).",
        "No derivatives of the schedule are needed: compare u(x, t) with field(x, t), squared, summed, averaged.",
    ),
    reference=("losses.marginal_flow_matching_loss",),
)
def marginal_flow_matching_loss(answer):
    z, noise, t = states(3, 6, 3), states(4, 6, 3), spread(6)
    exact = GaussianPath(Cosine()).marginal(Gaussian([0.5, -1.0, 0.2], 0.4)).vector_field
    seen = []

    def field(x, t):
        seen.append((x, t))
        return exact(x.detach(), t)

    angle = math.pi / 2 * t[:, None]
    alpha, beta = angle.sin(), angle.cos()
    x, velocity = alpha * z + beta * noise, math.pi / 2 * (beta * z - alpha * noise)
    model = Model()
    found = answer(model, z, t, noise, Cosine(), field)
    line = t[:, None] * z + (1 - t[:, None]) * noise
    condot = "this is the path of CondOT; use the functions of the schedule that is given"
    model.require_called_with(x, t, {condot: line} | off_path(z, noise, alpha, beta))
    u = model.value(x, t)
    require(
        seen or not isinstance(found, torch.Tensor),
        "the marginal field was never called; its value at x_t is the target",
    )
    mistakes = {
        "this is still the conditional loss: the target is the marginal field at x_t": u - velocity,
        "the field was evaluated at the data z instead of the state x_t": u - exact(z, t),
        "the field was evaluated at the noise instead of the state x_t": u - exact(noise, t),
        "the field was evaluated at the time 1 − t": u - exact(x, 1 - t),
        "the difference was taken between field and velocity; the model is missing": exact(x, t) - velocity,
        "field and model were added": u + exact(x, t),
    }
    model.require_loss(found, u - exact(x, t), mistakes)


@check(
    reread="the text above the exercise; notes, § 3.3",
    passed="the regression line, which is the marginal field",
    points=4,
    hints=(
        "For jointly Gaussian variables the conditional mean is a line. Which means, variance and covariance fix it?",
        "With y = z − ε and x_t = t z + (1 − t) ε: E y = m, E x_t = t m. In Cov(y, x_t) the noise has a minus.",
        "Var(x_t) is the sum of two squared weights times the variances s² and 1. Shape t with coefficient first.",
    ),
    reference=("paths.MixtureMarginal.vector_field",),
)
def optimal_vector_field(answer):
    x, t, mean, std = states(5, 6, 2), 0.4, torch.tensor([1.0, -0.5]), 0.6
    expected = GaussianPath(CondOT()).marginal(Gaussian(mean, std**2)).vector_field(x, t)
    variance = t**2 * std**2 + (1 - t) ** 2
    covariance = t * std**2 - (1 - t)
    gap = x - t * mean
    mistakes = {
        "this is the conditional field that leads to the mean; the data spread around it": (mean - x) / (1 - t),
        "this is E[z | x_t]; the field is E[z − ε | x_t]": mean + t * std**2 / variance * gap,
        "the variance of the data is s², not s": mean + (t * std - (1 - t)) / (t**2 * std + (1 - t) ** 2) * gap,
        "the covariance has a plus where z − ε has a minus": mean + (t * std**2 + 1 - t) / variance * gap,
        "the weights in Var(x_t) were not squared": mean + covariance / (t * std**2 + 1 - t) * gap,
        "Var(x_t) is missing: divide the covariance by it": mean + covariance * gap,
        "E y, the mean of the target, is missing": covariance / variance * gap,
        "E x_t is t m, not m": mean + covariance / variance * (x - mean),
        "E x_t was left out": mean + covariance / variance * x,
        "t and 1 − t are exchanged": GaussianPath(CondOT()).marginal(Gaussian(mean, std**2)).vector_field(x, 1 - t),
        "the sign of the slope is reversed": mean - covariance / variance * gap,
        "the slope was turned over: Cov/Var, not Var/Cov": mean + variance / covariance * gap,
        "the standard deviation of x_t was used where its variance belongs": mean + covariance / variance**0.5 * gap,
    }
    require_close(answer(x, t, mean, std), expected, "the field", mistakes)
    require_close(answer(x, 0.0, mean, std), mean - x, "the field at t = 0", tolerance=1e-5)
    many = spread(6)
    row_by_row = [GaussianPath(CondOT()).marginal(Gaussian(mean, std**2)).vector_field(x, many)[k] for k in range(6)]
    require_close(answer(x, many, mean, std), torch.stack(row_by_row), "the field for one time per state")


class Descent:
    """Plain gradient descent on one tensor of weights, which writes down what happens to it."""

    def __init__(self, weights: torch.Tensor, rate: float, log: list[str]):
        self.weights, self.rate, self.log = weights, rate, log

    def zero_grad(self, *args, **kwargs):
        self.log.append("zero_grad")
        self.weights.grad = None

    def step(self, *args, **kwargs):
        self.log.append("step")
        if self.weights.grad is not None:
            with torch.no_grad():
                self.weights -= self.rate * self.weights.grad


@check(
    reread="notes, algorithm 3; the text above the exercise",
    passed="one step down the gradient, and no graph kept",
    points=3,
    hints=(
        "Which three things must happen between two batches, and which of them needs gradients that are fresh?",
        "Old gradients are cleared, new ones computed from the loss, and then the optimiser moves the weights.",
        "Call loss(model) once and keep the result: the gradient needs it, and so does the number you return.",
    ),
    reference=("training.train",),
)
def train_step(answer):
    # The loss (w − 1)² + (w' + 2)² at (3, −1), where its value is 5 and its gradient (4, 2); an old gradient is left.
    weights, log, rate = torch.tensor([3.0, -1.0], requires_grad=True), [], 0.25
    weights.grad = torch.tensor([8.0, 8.0])

    def model(x, t):
        return weights * x

    def loss(model):
        log.append("loss")
        return (model(torch.ones(2), 0.0) - torch.tensor([1.0, -2.0])).square().sum()

    optimizer = Descent(weights, rate, log)
    found = answer(model, loss, optimizer)
    calls = log.count("loss")
    require(calls, "the loss was never computed: call loss(model)")
    require(calls == 1, f"loss(model) was called {calls} times; each call draws a new batch, so keep its result")
    require("step" in log, "the weights have not moved: optimizer.step() was never called")
    moved = weights.detach().clone()
    start, gradient, old = torch.tensor([3.0, -1.0]), torch.tensor([4.0, 2.0]), torch.tensor([8.0, 8.0])
    mistakes = {
        "the old gradient is still there: zero_grad() is missing, or comes too late": start - rate * (gradient + old),
        "the step was taken along the old gradient: backward() is missing, or comes too late": start - rate * old,
        "the weights have not moved: no gradient was there when step() was called": start,
        "the step was taken twice": start - 2 * rate * gradient,
    }
    require_close(moved, start - rate * gradient, "the weights after one step", mistakes)
    require_plain(found)
    mistakes = {
        "the loss after the step was returned": 1.25,
        "the gradient's size was returned": 20**0.5,
    }
    require_number(found, 5.0, "the loss returned", mistakes)
    answer(model, loss, optimizer)  # the gradient there is (2, 1)
    mistakes = {"the gradients of both steps were added up": moved - rate * torch.tensor([6.0, 3.0])}
    require_close(weights.detach(), moved - rate * torch.tensor([2.0, 1.0]), "the weights after two steps", mistakes)


def require_plain(found) -> None:
    """Fail unless `found` is a number without a graph."""
    if isinstance(found, torch.Tensor) and found.requires_grad:
        fail("the loss that came back still carries its graph; return a plain number, value.item()")
    require(found is not None, "the value of the loss should come back, found None (is there a return?)")


@check(
    reread="notes, algorithm 1",
    passed="noise goes in, samples come out, and no graph stays behind",
    points=3,
    hints=(
        "Euler's method of lab 1, along a network. Which of the states need you keep?",
        "The step from ts[k] to ts[k + 1] uses the field at ts[k], and has the size of this very interval.",
        "Put the loop under torch.no_grad(), so that no step is recorded, and return the last state.",
    ),
    reference=("samplers.sample_flow",),
)
def sample_flow(answer):
    x0, ts = states(6, 5, 2), torch.tensor([0.1, 0.2, 0.4, 0.7, 1.0])
    weight, times = torch.tensor(1.0, requires_grad=True), []

    def u(x, t):  # u_t(x) = t x
        times.append(float(t))
        return weight * t * x

    found = answer(u, x0, ts)
    if isinstance(found, (list, tuple)):
        fail(f"only the states at the last time should come back, found {describe(found)} of length {len(found)}")
    if isinstance(found, torch.Tensor) and found.shape == (len(ts), *x0.shape):
        fail("all states came back; only those at the last time are wanted")
    require(times, "the field was never called")
    require(len(times) < 2 * (len(ts) - 1), "the field was called more than once per step; Euler's method looks once")
    h, grid = ts.diff(), ts[:-1]

    def product(h, t):
        return (1 + h * t).prod() * x0

    mistakes = {
        "the last interval is missing": product(h[:-1], grid[:-1]),
        "the first interval is missing": product(h[1:], grid[1:]),
        "all steps have the size of the first": product(torch.full_like(h, 0.1), grid),
        "the times were taken as evenly spaced: use the interval between neighbours": product(h.mean(), grid),
        "the interval was divided by the number of times, not of steps": product(torch.full_like(h, 0.18), grid),
        "the field was evaluated at the end of each step; Euler's method takes its start": product(h, ts[1:]),
        "the field was given a counter instead of the time": product(h, torch.arange(4.0)),
        "time runs backwards: start at ts[0]": product(-h.flip(0), ts.flip(0)[:-1]),
        "the field was evaluated at 1 − t": product(h, 1 - grid),
        "the step size is missing": product(torch.ones_like(h), grid),
        "the field was always evaluated at x0 instead of the present state": x0 * (1 + (h * grid).sum()),
        "nothing has moved": x0,
    }
    require_close(_detached(found), product(h, grid), "the state at the last time", mistakes)
    require(
        not found.requires_grad,
        "the samples still carry the gradient graph of every step; put the loop under torch.no_grad()",
    )


@check(
    reread="the text above the exercise",
    passed="0 for equal sets, and a yardstick for samples",
    points=3,
    hints=(
        "Three means of distances: between the sets, within the first, within the second. With which weights?",
        "torch.cdist(a, b) has the distance of every row of a from every row of b; its mean is one of the three.",
        "Make each point a row first, flatten(1); then twice the mean between the sets, minus the two within them.",
    ),
    reference=("metrics.energy_distance",),
)
def energy_distance(answer):
    x, y = states(7, 4, 2), 0.5 + 2 * states(8, 3, 2)

    def mean_distance(a, b, distance=math.dist):
        return sum(distance(p, q) for p in a.tolist() for q in b.tolist()) / (len(a) * len(b))

    def energy(distance=math.dist):
        pairs = (x, y), (x, x), (y, y)
        return [mean_distance(a, b, distance) for a, b in pairs]

    xy, xx, yy = energy()
    sxy, sxx, syy = energy(lambda p, q: math.dist(p, q) ** 2)
    oxy, oxx, oyy = energy(lambda p, q: sum(abs(a - b) for a, b in zip(p, q, strict=True)))
    mistakes = {
        "the factor 2 of the mixed term is missing": xy - xx - yy,
        "the mixed term alone was returned": xy,
        "twice the mixed term alone was returned: distances within the sets are to be subtracted": 2 * xy,
        "the sign is reversed": xx + yy - 2 * xy,
        "E‖Y − Y'‖ is missing": 2 * xy - xx,
        "E‖X − X'‖ is missing": 2 * xy - yy,
        "the distances were squared; that sees nothing but the means": 2 * sxy - sxx - syy,
        "distances were added up coordinate by coordinate; the norm is Euclidean": 2 * oxy - oxx - oyy,
        "a root was taken at the end": max(2 * xy - xx - yy, 0) ** 0.5,
        "pairs of a point with itself were left out; here the mean is over all pairs": 2 * xy - xx * 4 / 3 - yy * 3 / 2,
        "the distances were summed, not averaged": 24 * xy - 16 * xx - 9 * yy,
        "the halves were added: within each set there is no factor ½": 2 * xy - xx / 2 - yy / 2,
    }
    found = answer(x, y)
    require_scalar(found, "the energy distance")
    require_number(found, 2 * xy - xx - yy, "the energy distance", mistakes, tolerance=1e-4)
    own = answer(x, x)
    require(abs(float(own)) < 1e-4, f"the distance of a set from itself should be 0, found {float(own):.4g}")


@check(
    reread="intro, ch. 2 (density along a trajectory)",
    passed="a density from nothing but a field",
    points=5,
    hints=(
        "You know the density at t = 0 and the point at t = 1. In which direction must the flow be followed?",
        "A step from t down to s moves x by −(t − s) u(x, t), and adds (t − s) div u(x, t) to the integral.",
        "At the end, log N(X_0; 0, I) sums over all coordinates, with ½ log 2π for each; subtract the integral.",
    ),
    reference=("likelihood.log_likelihood",),
)
def log_likelihood(answer):
    x, ts = states(9, 5, 3), torch.tensor([0.2, 0.6])
    h, t = 0.4, 0.6  # one step back, along u_t(x) = t x²/4, whose divergence is t Σ x_i/2

    def u(x, t):
        return t * x**2 / 4

    def divergence(x, t):
        return t * x.sum(1) / 2

    def normal(x0, d=3):
        return -x0.square().sum(1) / 2 - d / 2 * LOG_2PI

    found = answer(u, divergence, x, ts)
    if isinstance(found, (tuple, list)):
        fail(f"one number per point should come back, found {describe(found)}")
    start = x - h * u(x, t)
    integral = h * divergence(x, t)
    expected = normal(start) - integral
    if isinstance(found, torch.Tensor) and found.shape == x.shape:
        fail("one log density per point is wanted, found one per coordinate: sum over them")
    require_scalar_per_point(found, x)
    mistakes = {
        "the integral of the divergence has the wrong sign": normal(start) + integral,
        "the integral of the divergence is missing": normal(start),
        "the step size is missing in the integral": normal(start) - divergence(x, t),
        "the density p_0 was taken at x, not at X_0": normal(x) - integral,
        "no step was taken: each interval of ts is one step": normal(x),
        "the flow was followed forwards from x; it leads back to X_0": normal(x + h * u(x, t)) - integral,
        "the flow was followed forwards, from the first time on": normal(x + h * u(x, 0.2)) - h * divergence(x, 0.2),
        "field and divergence were evaluated at the time the step goes to": normal(x - h * u(x, 0.2))
        - h * divergence(x, 0.2),
        "the divergence was evaluated after the move; take it where the step starts": normal(start)
        - h * divergence(start, t),
        "the divergence was evaluated at the state and time that the step leads to": normal(start)
        - h * divergence(start, 0.2),
        "the normalising constant of N(0, I) is missing": -start.square().sum(1) / 2 - integral,
        "the normalising constant must be counted once per coordinate: d/2 log 2π": normal(start, 1) - integral,
        "the normalising constant has the wrong sign": normal(start, -3) - integral,
        "the factor ½ of ‖x‖² is missing": -start.square().sum(1) - 1.5 * LOG_2PI - integral,
        "the mean over coordinates was taken; log densities of coordinates add up": normal(start) / 3 - integral,
        "this is the density, not its logarithm": (normal(start) - integral).exp(),
        "the density and the integral were mixed: take the logarithm of p_0": normal(start).exp() - integral,
        "log p_0 is missing": -integral,
    }
    require_close(_detached(found), expected, "the log density after one step", mistakes)
    ts = torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0])
    found = answer(lambda x, t: t * x, lambda x, t: 3 * t * torch.ones(len(x)), x, ts)

    def linear(h, t):
        return normal((1 - h * t).prod() * x) - 3 * (h * t).sum()

    h = ts.diff()
    mistakes = {
        "the times were walked forwards": linear(h, ts[:-1]),
        "all steps have the same size": linear(h.mean(), ts[1:]),
        "the earliest interval is missing": linear(h[1:], ts[2:]),
        "the last interval is missing": linear(h[:-1], ts[1:-1]),
        "the steps and their times do not fit together": linear(h, ts.flip(0)[:-1]),
        "only the last step's divergence was kept; add them all up": normal((1 - h * ts[1:]).prod() * x)
        - 3 * h[0] * ts[1],
    }
    expected = normal((1 - h * ts[1:]).prod() * x) - 3 * (h * ts[1:]).sum()
    require_close(_detached(found), expected, "the log density after four steps", mistakes)


def require_scalar_per_point(found, x: torch.Tensor) -> None:
    """Fail unless `found` has one number for each point of x."""
    like = x.flatten(1)[:, 0]
    if (isinstance(found, torch.Tensor) and found.shape == ()) or isinstance(found, float):
        fail(f"one log density for each of the {len(x)} points is wanted, found a single number")
    require_tensor(found, like, "the log density")


@check(
    reread="the text above the exercise",
    passed="straight lines between any two data sets",
    points=2,
    hints=(
        "Where should the state be at t = 0, where at t = 1, and where half-way?",
        "Its weights are 1 − t and t; the velocity is the derivative with respect to t.",
        "The velocity does not depend on t. Return both as a pair, the state first.",
    ),
    reference=("paths.LinearPath.interpolate", "paths.LinearPath.velocity"),
)
def linear_path(answer):
    x0, x1, t = states(10, 5, 2), states(11, 5, 2), 0.3
    found = answer(x0, x1, t)
    pair = isinstance(found, (tuple, list)) and len(found) == 2
    require(pair, f"state and velocity should come back as a pair, found {describe(found)}")
    state, velocity = found
    mistakes = {
        "x_0 and x_1 are exchanged: at t = 0 the state is x_0": t * x0 + (1 - t) * x1,
        "state and velocity are exchanged": x1 - x0,
        "the weight 1 − t of x_0 is missing": x0 + t * x1,
        "x_1 was added to x_0 without its own weight": (1 - t) * x0 + x1,
        "this is a curve with squared weights, not a line": (1 - t**2) * x0 + t**2 * x1,
    }
    require_close(state, 0.7 * x0 + 0.3 * x1, "the state", mistakes)
    mistakes = {
        "the velocity points back: it leads from x_0 to x_1": x0 - x1,
        "this is what is left of the way, x_1 − x_t": 0.7 * (x1 - x0),
        "this is the way so far, x_t − x_0": 0.3 * (x1 - x0),
        "the end point was returned; a velocity is a difference": x1,
        "the state was returned twice": 0.7 * x0 + 0.3 * x1,
    }
    require_close(velocity, x1 - x0, "the velocity", mistakes)
    many = spread(5)
    state, velocity = answer(x0, x1, many)
    rows = [(1 - s) * a + s * b for s, a, b in zip(many.tolist(), x0, x1, strict=True)]
    require_close(state, torch.stack(rows), "the state for one time per pair")
    require_close(velocity, x1 - x0, "the velocity for one time per pair")


@check(
    reread="the text above the exercise (rectified flow)",
    passed="pairs that the flow itself has made",
    points=5,
    hints=(
        "Which of the two works is expensive and done once, and which is repeated at each training step?",
        "First make x1 from all of x0, as data without gradients; the inner function then picks the same rows of both.",
        "Inside: the state on the line from x0[k] to x1[k] at t, and the squared error against their difference.",
    ),
    reference=("losses.reflow_loss",),
)
def reflow(answer):
    x0, k, t = states(12, 8, 2), torch.tensor([5, 0, 5, 3]), spread(4)
    weight, given = torch.tensor(1.5, requires_grad=True), []

    def sample(x):  # the first flow ends at 1.5 x + 1
        given.append(x)
        return weight * x + 1

    loss = answer(sample, x0)
    if isinstance(loss, torch.Tensor):
        fail("reflow should return a function loss(u, k, t), found a tensor")
    require(callable(loss), f"reflow should return a function loss(u, k, t), found {describe(loss)}")
    require(given, "sample was not called by reflow itself; make all pairs once, before the loss is defined")
    require_close(given[0].detach(), x0, "what sample was given")
    model = Model()
    found = called(loss, model, k, t)
    require(
        len(given) == 1,
        "the loss called sample again; make the pairs once, outside of the loss (and call sample once for all of x0)",
    )
    first, last = x0[k], 1.5 * x0[k] + 1
    s = t[:, None]
    line = (1 - s) * first + s * last
    mistakes = {
        "the pairs are turned round: noise belongs to t = 0, the end point to t = 1": s * first + (1 - s) * last,
        "the noise of other pairs was used: x0[k] belongs to x1[k]": (1 - s) * x0[:4] + s * last,
        "the end points of other pairs were used: x1[k] belongs to x0[k]": (1 - s) * first + s * (1.5 * x0[:4] + 1),
        "k was not used: the first pairs were taken": (1 - s) * x0[:4] + s * (1.5 * x0[:4] + 1),
        "the model was shown the starting points": first,
        "the model was shown the end points": last,
    }
    model.require_called_with(line, t, mistakes)
    u = model.value(line, t)
    mistakes = {
        "the velocity points back: it leads from x_0 to x_1": u + (last - first),
        "the model was compared with the end points; its target is the velocity x_1 − x_0": u - last,
        "the target is what is left of the way, x_1 − x_t": u - (last - line),
        "the target was computed for other pairs": u - (0.5 * x0[:4] + 1),
    }
    model.require_loss(found, u - (last - first), mistakes)
    require(
        torch.autograd.grad(_again(loss, k, t), weight, allow_unused=True)[0] is None,
        "gradients flow back into the first flow; the pairs are data: use .detach() or torch.no_grad()",
    )


def _again(loss, k, t) -> torch.Tensor:
    """The loss of a fresh model."""
    return called(loss, Model(), k, t).sum()


def called(loss, *args):
    """loss(*args), whose exceptions become a verdict."""
    try:
        return loss(*args)
    except AssertionError:
        raise
    except Exception as error:
        fail(f"the returned loss raised {type(error).__name__} when called as loss(u, k, t):\n  {error}")
