"""Lab 3: flow matching.

Truth comes from elsewhere than the formulas asked for: velocities are time derivatives along known paths, by automatic
differentiation; gradient descent is that of least squares; fields are affine in x, so that Euler's steps are products.
All randomness is passed in, so comparisons are exact.
"""

import math
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from fmlab import losses, metrics, samplers, simulators
from fmlab.checks import judges
from fmlab.checks.compare import Look, close, describe, fail, require
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Bent, Field, Powers, Weighted, states, times
from fmlab.checks.lab import Lab
from fmlab.distributions import Gaussian
from fmlab.paths import GaussianPath, LinearPath
from fmlab.schedules import VE, CondOT, Cosine, coefficient

lab = Lab("lab3")

DOUBLE = torch.float64


# --- what several exercises share -------------------------------------------------------------------------------------


def on_path(path, t, *batches: Tensor) -> tuple[Tensor, Tensor]:
    """States path(t, *rows), row by row, and their velocities, by automatic differentiation. t: a number, () or (n,)."""
    ts = torch.as_tensor(t).to(batches[0]).expand(len(batches[0]))
    moving = [(lambda s, rows=rows: path(s, *rows), s) for s, *rows in zip(ts, *batches)]
    pairs = [torch.autograd.functional.jvp(along, s, torch.ones_like(s)) for along, s in moving]
    return tuple(map(torch.stack, zip(*pairs)))


def unseeded(judge):
    """A judge of answers that must not set the seed of all random numbers: training would see one batch again and
    again."""

    def judging(answer, case):
        torch.manual_seed(20260301)
        yield from judge(answer, case)
        same = torch.initial_seed() == 20260301
        require(same, "it sets the seed of all random numbers, so that every batch drawn after it is the same one")

    return judging


def regression(answer, case):
    """A loss on one batch: what the network is asked about, the same in two calls, then the loss and its gradient."""
    model = case.model
    answer(*case.args)
    before = model.calls[:]
    found = answer(*case.args)
    for which, what in (1, "times"), (0, "noise"):
        pairs = zip(before, model.calls[len(before) :])
        same = all(one[which].shape == two[which].shape and close(one[which], two[which]) for one, two in pairs)
        require(
            same, f"it draws {what} of its own: two calls with the same arguments showed the network different ones"
        )
    yield from judges.shown(model, case.x, case.t)
    if isinstance(found, Tensor) and found.numel() == 1:
        require(found.shape == (), f"the loss should be a scalar tensor, of shape (), found {describe(found)}")
    yield from judges.loss_of(found, case.expected, model.weights, case.what)


def regression_case(of: str, model: Weighted, args: tuple, x: Tensor, t, target: Tensor, **more) -> Case:
    """A case of `regression`. x: the states that the model should be shown. target: what it should answer there."""
    loss = (model.value(x, t) - target).square().sum() / len(x)
    return Case(f"the loss of {of}", args, loss, model=model, x=x, t=t, **more)


def squares(error: Tensor) -> Tensor:
    """‖error‖² of each point: (n,)."""
    return error.flatten(1).square().sum(1)


def first(t) -> Tensor:
    """The first of the times, for a mistake that uses it for all."""
    return torch.as_tensor(t).reshape(-1)[0]


class Batch:
    """A batch of a regression. Mistakes are its loss with a part exchanged: the state x, the target, or the time t."""

    def __init__(self, u, z, t, noise, schedule, field=None):
        self.u, self.z, self.t, self.noise, self.schedule, self.field = u, z, t, noise, schedule, field
        self.a, self.b, self.da, self.db = schedule.weights(t, z)
        self.x, self.velocity = self.a * z + self.b * noise, self.da * z + self.db * noise
        self.target = field(self.x, t) if field else self.velocity

    def error(self, x=None, target=None, t=None) -> Tensor:
        x = self.x if x is None else x
        return self.u(x, self.t if t is None else t) - (self.target if target is None else target)

    def loss(self, **parts) -> Tensor:
        return squares(self.error(**parts)).mean()

    def at(self, t) -> "Batch":
        """The same at another time."""
        return Batch(self.u, self.z, t, self.noise, self.schedule, self.field)

    def on(self, schedule) -> "Batch":
        """The same on another schedule."""
        return Batch(self.u, self.z, self.t, self.noise, schedule, self.field)


REDUCED = {  # mistakes of every regression: how squares become one number
    "the mean was taken over coordinates too: sum over them, and average over the batch alone": lambda e: (
        e.square().mean()
    ),
    "the losses of the batch were summed, not averaged": lambda e: e.square().sum(),
    "there is a factor ½ too many": lambda e: squares(e).mean() / 2,
    "the norm was not squared": lambda e: squares(e).sqrt().mean(),
    "a root was taken of the loss": lambda e: squares(e).mean().sqrt(),
    "absolute values were added up, not squares": lambda e: e.abs().sum() / len(e),
    "coordinates were added up before they were squared": lambda e: e.flatten(1).sum(1).square().mean(),
    "the sum runs over axis 1 alone, which of images is not all: flatten(1) makes each a row": lambda e: (
        e.square().sum(1).mean()
    ),
    "the sum runs over the last axis alone, which of images is not all: flatten(1) makes each a row": lambda e: (
        e.square().sum(-1).mean()
    ),
}
REDUCED = {words: lambda m, f=f: f(m.error()) for words, f in REDUCED.items()}

OFF_PATH = {  # mistakes of the first two regressions: states that the network should not be shown
    "the network was shown the data z instead of the state x_t": lambda m: m.loss(x=m.z),
    "the network was shown the noise instead of the state x_t": lambda m: m.loss(x=m.noise),
    "α_t and β_t are exchanged: α_t is the weight of the data": lambda m: m.loss(x=m.b * m.z + m.a * m.noise),
    "the noise was subtracted from the state": lambda m: m.loss(x=m.a * m.z - m.b * m.noise),
    "β_t² was used; β_t itself is the weight of the noise": lambda m: m.loss(x=m.a * m.z + m.b**2 * m.noise),
    "√β_t was used; β_t itself is the weight of the noise": lambda m: m.loss(x=m.a * m.z + m.b**0.5 * m.noise),
    "β_t was taken as 1 − α_t, which is true of CondOT alone": lambda m: m.loss(x=m.a * m.z + (1 - m.a) * m.noise),
    "β_t² was taken as 1 − α_t², which is true of few schedules": lambda m: m.loss(
        x=m.a * m.z + (1 - m.a**2) ** 0.5 * m.noise
    ),
    "this is the path of CondOT; use the functions of the schedule that is given": lambda m: m.on(CondOT()).loss(),
    "the network was given the time 1 − t": lambda m: m.loss(t=1 - m.t),
    "the schedule was asked about the time 1 − t": lambda m: m.at(1 - m.t).loss(t=m.t),
    "the first time was used for the whole batch": lambda m: m.at(first(m.t)).loss(),
    "state and time are exchanged in the call of the network: u(x, t)": lambda m: squares(m.u(m.t, m.x)).mean(),
}


# --- the exercises ----------------------------------------------------------------------------------------------------


@lab.exercise(
    reread=("eq-cfm", "notes, eq. 31, above the exercise"),
    passed="a regression on velocities that anybody can draw",
    hints=(
        "Which two combinations of data and noise do you need: one that the model sees, and one that it should answer?",
        "The model sees x_t = α_t z + β_t ε at the time t; its answer should be the velocity α̇_t z + β̇_t ε.",
        "Shape all four weights with coefficient(…, z); square the error, sum over each point, average over points.",
    ),
    withhold=("losses.flow_matching_loss",),
    library=lambda u, z, t, noise, schedule: losses.flow_matching_loss(
        u, GaussianPath(schedule), z, noise, lambda n, generator: torch.as_tensor(t).expand(n)
    ),
    judge=unseeded(regression),
    visible=[
        (Cosine(), times(5), (5, 3)),
        (Bent(), times(4, dtype=DOUBLE), (4, 1, 2, 3), DOUBLE),
        (VE(1.7), 0.35, (1, 4)),
        (CondOT(0.1), torch.tensor(0.8), (3, 2, 2, 3)),
        (Powers(), torch.tensor([0.0, 0.3, 1.0]), (3, 2)),
        (Cosine(), 1.0, (4, 2)),
    ],
    terms=lambda *args: (Batch(*args),),
    mistakes=OFF_PATH
    | {
        "the target is that of CondOT; use the derivatives of the schedule that is given": lambda m: m.loss(
            target=m.z - m.noise
        ),
        "the target has the weights α_t and β_t where it needs their derivatives": lambda m: m.loss(target=m.x),
        "α̇_t and β̇_t are exchanged": lambda m: m.loss(target=m.db * m.z + m.da * m.noise),
        "the sign of β̇_t ε is reversed: β̇_t is negative by itself, and the target needs parentheses": lambda m: m.loss(
            target=m.da * m.z - m.db * m.noise
        ),
        "β̇_t was taken as −α̇_t, which is true of CondOT alone": lambda m: m.loss(target=m.da * (m.z - m.noise)),
        "the model was compared with the data; its target is a velocity": lambda m: m.loss(target=m.z),
        "the model was compared with the noise; its target is a velocity": lambda m: m.loss(target=m.noise),
        "the noise is missing from the target": lambda m: m.loss(target=m.da * m.z),
        "the data are missing from the target": lambda m: m.loss(target=m.db * m.noise),
        "the formula of lab 2 takes the state x_t where you put ε": lambda m: m.loss(
            target=(m.da - m.db / m.b * m.a) * m.z + m.db / m.b * m.noise
        ),
        "the target is divided by β_t, which is 0 at t = 1; α̇_t z + β̇_t ε is the same without": lambda m: m.loss(
            target=m.da * m.z + m.db / m.b * (m.x - m.a * m.z)
        ),
        "target and model were added": lambda m: m.loss(target=-m.target),
    }
    | REDUCED,
)
def conditional_flow_matching_loss(schedule, t, shape, dtype=torch.float32):
    z, noise = states(1, *shape, dtype=dtype), states(2, *shape, dtype=dtype)
    x, velocity = on_path(lambda s, z, e: schedule.alpha(s) * z + schedule.beta(s) * e, t, z, noise)
    model = Weighted(0.3 * len(shape), -0.4, dtype)
    return regression_case(f"a batch of shape {shape}", model, (model, z, t, noise, schedule), x, t, velocity)


@lab.exercise(
    reread=("eq-fm", "notes, eq. 24"),
    passed="the loss that theorem 12 compares with",
    hints=(
        "What changes when the target is known exactly: the states that are drawn, or what they are compared with?",
        "The state is x_t = α_t z + β_t ε as before; the target at (x_t, t) is field(x_t, t).",
        "No derivatives of the schedule are needed: compare u(x, t) with field(x, t), squared, summed, averaged.",
    ),
    withhold=("losses.marginal_flow_matching_loss",),
    library=lambda *args: Batch(*args).loss(),
    judge=unseeded(regression),
    visible=[
        (Bent(), times(5), (5, 3)),
        (Cosine(), times(4, dtype=DOUBLE), (4, 1, 2, 3), DOUBLE),
        (CondOT(0.2), 0.65, (1, 4)),
        (VE(0.8), torch.tensor(0.3), (3, 2, 2, 3)),
        (Cosine(), torch.tensor([0.0, 0.3, 1.0]), (3, 2)),
    ],
    terms=lambda *args: (Batch(*args),),
    mistakes=OFF_PATH
    | {
        "this is still the conditional loss: the target is the marginal field at x_t": lambda m: m.loss(
            target=m.velocity
        ),
        "the field was evaluated at the data z instead of the state x_t": lambda m: m.loss(target=m.field(m.z, m.t)),
        "the field was evaluated at the noise instead of the state x_t": lambda m: m.loss(target=m.field(m.noise, m.t)),
        "the field was evaluated at the time 1 − t": lambda m: m.loss(target=m.field(m.x, 1 - m.t)),
        "the difference was taken between field and velocity; the model is missing": lambda m: squares(
            m.target - m.velocity + 0 * m.u(m.x, m.t)
        ).mean(),
        "the model was compared with the data; its target is the field": lambda m: m.loss(target=m.z),
        "the field is missing: this is the mean square of the model": lambda m: m.loss(target=0 * m.x),
        "target and model were added": lambda m: m.loss(target=-m.target),
        "state and time are exchanged in the call of the field: field(x, t)": lambda m: m.loss(
            target=m.field(m.t, m.x)
        ),
    }
    | REDUCED,
)
def marginal_flow_matching_loss(schedule, t, shape, dtype=torch.float32):
    z, noise = states(3, *shape, dtype=dtype), states(4, *shape, dtype=dtype)
    field = Field(lambda x, t: torch.sin(2 * x) + 0.7 * t - x * t**2)
    x, _ = on_path(lambda s, z, e: schedule.alpha(s) * z + schedule.beta(s) * e, t, z, noise)
    args = (model := Weighted(0.3 * len(shape), -0.4, dtype)), z, t, noise, schedule, field
    return regression_case(f"a batch of shape {shape}", model, args, x, t, field.value(x, t))


def line(m, cov=None, var=None, gap=None, mean=None):
    """The regression line of `optimal_vector_field`, with a part exchanged."""
    cov, var, gap, mean = (own if part is None else part for part, own in zip((cov, var, gap, mean), m.parts))
    return mean + cov / var * gap


def parts_of_line(x, t, mean, std):
    t = coefficient(torch.as_tensor(t, dtype=x.dtype), x)
    cov, var, gap = t * std**2 - (1 - t), t**2 * std**2 + (1 - t) ** 2, x - t * mean
    return (SimpleNamespace(x=x, t=t, mean=mean, s=std, cov=cov, var=var, gap=gap, parts=(cov, var, gap, mean)),)


@lab.exercise(
    reread=("eq-regression", "the regression line, above the exercise"),
    passed="the regression line, which is the marginal field",
    hints=(
        "For jointly Gaussian variables the conditional mean is a line. Which means, variance and covariance fix it?",
        "With y = z − ε and x_t = t z + (1 − t) ε: E y = m, E x_t = t m. In Cov(y, x_t) the noise has a minus.",
        "Var(x_t) is the sum of two squared weights times the variances s² and 1. Shape t with coefficient first.",
    ),
    withhold=("paths.MixtureMarginal.vector_field",),
    library=lambda x, t, mean, std: (
        GaussianPath(CondOT()).marginal(Gaussian(mean.flatten(), std**2)).vector_field(x.flatten(1), t).reshape(x.shape)
    ),
    visible=[
        (times(6), (6, 2), 0.6),
        (times(4, dtype=DOUBLE), (4, 1, 2, 3), 1.7, DOUBLE),
        (0.4, (1, 3), 2.5),
        (torch.tensor(0.85), (3, 2, 2, 3), 0.3),
        (0.0, (5, 2), 0.7),
        (torch.tensor([1.0, 0.2, 0.0, 0.55], dtype=DOUBLE), (4, 2), 1.3, DOUBLE),
    ],
    terms=parts_of_line,
    mistakes={
        "this is the conditional field that leads to the mean; the data spread around it": lambda m: (
            (m.mean - m.x) / (1 - m.t)
        ),
        "this is E[z | x_t], without the noise; the field is E[z − ε | x_t]": lambda m: line(m, cov=m.t * m.s**2),
        "the variance of the data is s², not s": lambda m: line(
            m, cov=m.t * m.s - (1 - m.t), var=m.t**2 * m.s + (1 - m.t) ** 2
        ),
        "the covariance has a plus where z − ε has a minus": lambda m: line(m, cov=m.t * m.s**2 + (1 - m.t)),
        "parentheses are missing in the covariance: the noise has the weight 1 − t": lambda m: line(
            m, cov=m.t * m.s**2 - 1 - m.t
        ),
        "1 − t became t: the noise has the weight 1 − t in the covariance": lambda m: line(m, cov=m.t * m.s**2 - m.t),
        "the weights in Var(x_t) were not squared": lambda m: line(m, var=m.t * m.s**2 + (1 - m.t)),
        "the noise is missing in Var(x_t)": lambda m: line(m, var=m.t**2 * m.s**2),
        "this is the variance of the target, s² + 1; divide by that of x_t": lambda m: line(m, var=m.s**2 + 1),
        "Var(x_t) is missing: divide the covariance by it": lambda m: line(m, var=1),
        "the standard deviation of x_t was used where its variance belongs": lambda m: line(m, var=m.var**0.5),
        "E y, the mean of the target, is missing": lambda m: line(m, mean=0),
        "E x_t is t m, not m": lambda m: line(m, gap=m.x - m.mean),
        "E x_t was left out": lambda m: line(m, gap=m.x),
        "parentheses are missing: the slope multiplies all of x − t m": lambda m: line(m, gap=m.x) - m.t * m.mean,
        "the sign of the slope is reversed": lambda m: line(m, cov=-m.cov),
        "the slope was turned over: Cov/Var, not Var/Cov": lambda m: line(m, cov=m.var, var=m.cov),
        "t and 1 − t are exchanged": lambda m: line(*parts_of_line(m.x, 1 - m.t, m.mean, m.s)),
        "the first time was used for all states": lambda m: line(*parts_of_line(m.x, first(m.t), m.mean, m.s)),
    },
)
def optimal_vector_field(t, shape, std, dtype=torch.float32):
    """At a fixed number ξ of standard deviations from the mean, the flow moves x_t = t m + √(t² s² + (1 − t)²) ξ."""
    mean, distances = states(5, *shape[1:], dtype=dtype), states(6, *shape, dtype=dtype)
    x, velocity = on_path(lambda s, xi: s * mean + ((s * std) ** 2 + (1 - s) ** 2).sqrt() * xi, t, distances)
    return Case(f"the field for shape {shape} and s = {std:g}", (x, t, mean, std), velocity)


def deeds(order: str):
    """A training step that does these things with the loss, "zero_grad backward step", one after the other."""

    def step(model, loss, optimizer):
        value = loss(model)
        for deed in order.split():
            value.backward() if deed == "backward" else getattr(optimizer, deed)()
        return value.item()

    return step


def by_hand(model, loss, optimizer):
    value = loss(model)
    optimizer.zero_grad()
    value.backward()
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.data -= group["lr"] * weight.grad
    return value.item()


def computed_again(model, loss, optimizer):
    deeds("zero_grad backward step")(model, loss, optimizer)
    return loss(model).item()


def size_of_gradient(model, loss, optimizer):
    deeds("zero_grad backward step")(model, loss, optimizer)
    return float(next(model.parameters()).grad.norm())


def detached(model, loss, optimizer):
    loss(model).detach().backward()


def training(answer, case):
    """Several steps: one batch for each, the weights after it, and the number that comes back."""
    model, loss, optimizer = case.args
    for number, (value, weights) in enumerate(case.expected, start=1):
        before = len(case.calls)
        found = answer(*case.args)
        yield Look("the number of calls of loss(model) in one step", len(case.calls) - before, 1)
        yield Look(f"the vector of weights after step {number}", model.weights.detach().clone(), weights)
        graph = isinstance(found, Tensor) and found.requires_grad
        require(not graph, "the loss that came back still carries its graph; return a plain number, value.item()")
        yield Look(f"the loss returned by step {number}", found, value)


@lab.exercise(
    reread=("eq-step", "notes, algorithm 3, above the exercise"),
    passed="one step down the gradient, and no graph kept",
    hints=(
        "Which three things must happen between two batches, and which of them needs gradients that are fresh?",
        "Old gradients are cleared, new ones computed from the loss, and then the optimiser moves the weights.",
        "Call loss(model) once and keep the result: the gradient needs it, and so does the number you return.",
    ),
    withhold=("training.train",),
    library=deeds("zero_grad backward step"),
    judge=unseeded(training),
    visible=[((5, 3), 0.15), ((4, 1, 2, 3), 0.04, DOUBLE)],
    mistakes={
        "zero_grad() is missing: gradients of earlier steps are still there": deeds("backward step"),
        "zero_grad() comes too late: the gradient left by earlier work is still there": deeds(
            "backward step zero_grad"
        ),
        "backward() comes too late: the step was taken along an old gradient": deeds("step zero_grad backward"),
        "backward() and zero_grad() are missing: the step was taken along the old gradient": deeds("step"),
        "the weights have not moved: step() is missing, or no gradient was there when it was called": deeds(
            "zero_grad step"
        ),
        "the step was taken twice": deeds("zero_grad backward step step"),
        "the loss was computed again for the number that is returned; each call draws a new batch, so keep its result": (
            computed_again
        ),
        "the size of the gradient was returned": size_of_gradient,
        "the loss was detached before backward(), which needs its graph": detached,
        "the weights were moved by hand; the optimiser's own step does more": by_hand,
    },
)
def train_step(shape, rate, dtype=torch.float32):
    """Least squares: the network is A w + b with its weights w, so gradient descent follows A^T(A w + b − target)."""
    model, calls = Weighted(0.9, -0.3, dtype), []
    optimizer = torch.optim.SGD(model.parameters(), rate, weight_decay=0.6)
    batches = [[states(seed + k, *shape, dtype=dtype) for k in (0, 1)] for seed in (7, 17, 27)]
    t = times(len(batches[0][0]), dtype=dtype)

    def loss(model):
        x, target = batches[len(calls) % len(batches)]
        calls.append(x)
        return (model(x, t) - target).square().sum() / len(x)

    w, expected, s = model.weights.detach().clone(), [], coefficient(t, batches[0][0])
    for x, target in batches:
        columns = torch.stack([x.flatten(), s.expand_as(x).flatten()], dim=1)
        error = columns @ w + (x * s**2 - target).flatten()
        w = w - rate * (2 / len(x) * columns.T @ error + 0.6 * w)
        expected.append((float(error @ error) / len(x), w))
    model.weights.grad = torch.full_like(w, 1.5)  # what earlier work has left
    return Case("the step", (model, loss, optimizer), expected, calls=calls)


@torch.no_grad()
def euler(u, x, ts, hs):
    """The end of steps of the sizes hs along u, whose times are ts."""
    for t, h in zip(ts, hs):
        x = x + h * u(x, t)
    return x


@torch.no_grad()
def second_order(u, x, ts, hs, share):
    """The midpoint rule, share = ½, or Heun's method, share = 1."""
    for t, h in zip(ts, hs):
        first = u(x, t)
        second = u(x + share * h * first, t + share * h)
        x = x + h * (second if share < 1 else (first + second) / 2)
    return x


def ends(answer, case):
    """The end points, one call of the field per step, and no graph: neither kept until the end nor returned."""
    u, x0, ts = case.args
    found = answer(*case.args)
    if isinstance(found, (list, tuple)):
        fail(f"only the states at the last time should come back, found {describe(found)}")
    if isinstance(found, Tensor) and found.shape == (len(ts), *x0.shape):
        fail("all states came back; only those at the last time are wanted")
    yield Look(case.what, found.detach() if isinstance(found, Tensor) else found, case.expected)
    asked = sum(len(x) for x, _ in u.calls) / len(x0)
    yield Look("the number of calls of the field per step", asked / (len(ts) - 1), 1)
    cut = "put the loop under torch.no_grad()"
    require(not found.requires_grad, f"the samples still carry the gradient graph of every step; {cut}")
    require(not any(case.graphs), f"the graph of all steps is kept until the end, and memory with it; {cut}")


@lab.exercise(
    reread=("eq-sampling", "notes, algorithm 1, above the exercise"),
    passed="noise goes in, samples come out, and no graph stays behind",
    hints=(
        "Euler's method of lab 1, along a network. Which of the states need you keep?",
        "The step from ts[k] to ts[k + 1] uses the field at ts[k], and has the size of this very interval.",
        "Put the loop under torch.no_grad(), so that no step is recorded, and return the last state.",
    ),
    withhold=("samplers.sample_flow",),
    library=lambda u, x0, ts: samplers.sample_flow(u, x0, ts, simulators.Euler()),
    judge=unseeded(ends),
    visible=[
        (torch.tensor([0.1, 0.25, 0.4, 0.7, 0.85, 1.0]), (5, 2)),
        (torch.tensor([0.0, 0.2, 0.5, 0.9], dtype=DOUBLE), (4, 1, 2, 3)),
        (torch.tensor([0.95, 0.6, 0.5, 0.15]), (3, 4)),
        (torch.tensor([0.3, 0.75]), (1, 3)),
    ],
    terms=lambda u, x0, ts: (u, x0, ts[:-1], ts.diff()),
    mistakes={
        "the last interval is missing": lambda u, x, ts, hs: euler(u, x, ts[:-1], hs[:-1]),
        "the first interval is missing": lambda u, x, ts, hs: euler(u, x, ts[1:], hs[1:]),
        "all steps have the size of the first": lambda u, x, ts, hs: euler(u, x, ts, hs[:1].expand_as(hs)),
        "the times were taken as evenly spaced: use the interval between neighbours": lambda u, x, ts, hs: euler(
            u, x, ts, hs.mean().expand_as(hs)
        ),
        "the interval was divided by the number of times, not of steps": lambda u, x, ts, hs: euler(
            u, x, ts, (hs.sum() / (len(hs) + 1)).expand_as(hs)
        ),
        "the times that are given were not used: these are even steps from 0 to 1": lambda u, x, ts, hs: euler(
            u, x, torch.arange(len(hs)).to(ts) / len(hs), torch.ones_like(hs) / len(hs)
        ),
        "the field was evaluated at the end of each step; Euler's method takes its start": lambda u, x, ts, hs: euler(
            u, x, ts + hs, hs
        ),
        "the field was always evaluated at the first time": lambda u, x, ts, hs: euler(u, x, ts[:1].expand_as(ts), hs),
        "the field was given a counter instead of the time": lambda u, x, ts, hs: euler(
            u, x, torch.arange(len(ts)).to(ts), hs
        ),
        "the field was evaluated at 1 − t": lambda u, x, ts, hs: euler(u, x, 1 - ts, hs),
        "the order of the times was turned round: start at ts[0]": lambda u, x, ts, hs: euler(
            u, x, (ts + hs).flip(0), -hs.flip(0)
        ),
        "the steps have the wrong sign": lambda u, x, ts, hs: euler(u, x, ts, -hs),
        "steps are negative where the times decrease; here they are positive": lambda u, x, ts, hs: euler(
            u, x, ts, hs.abs()
        ),
        "the step size is missing": lambda u, x, ts, hs: euler(u, x, ts, torch.ones_like(hs)),
        "the field was always evaluated at x0 instead of the present state": lambda u, x, ts, hs: (
            x + sum(h * u(x, t) for t, h in zip(ts, hs)).detach()
        ),
        "nothing has moved": lambda u, x, ts, hs: x,
        "this is Heun's method; Euler's looks once": partial(second_order, share=1.0),
        "this is the midpoint rule; Euler's method looks once, at the start of the step": partial(
            second_order, share=0.5
        ),
        "state and time are exchanged in the call of the field: u(x, t)": lambda u, x, ts, hs: u(ts[0], x),
    },
)
def sample_flow(ts, shape):
    """Along u = w (t x + t² − 0.6) Euler's step is x ↦ growth x + shift, so many of them are products and sums."""
    x0, weight, graphs = states(9, *shape, dtype=ts.dtype), torch.tensor(1.3, dtype=ts.dtype, requires_grad=True), []

    def formula(x, t):
        graphs.append(x.requires_grad)
        return weight * (t * x + t**2 - 0.6)

    h, t = ts.diff(), ts[:-1]
    growth, shift = 1 + 1.3 * h * t, 1.3 * h * (t**2 - 0.6)
    later = torch.cat([growth.flip(0).cumprod(0).flip(0)[1:], torch.ones(1, dtype=ts.dtype)])
    expected = growth.prod() * x0 + (shift * later).sum()
    return Case(f"the state at the last of {len(ts)} times", (Field(formula), x0, ts), expected, graphs=graphs)


def mean_distance(a: Tensor, b: Tensor, p: float = 2.0) -> Tensor:
    return torch.cdist(a.flatten(1), b.flatten(1), p=p).mean()


def energy(x, y, mixed=2, first=-1, second=-1, distance=mean_distance):
    """The energy distance, with other weights or another mean distance of two sets."""
    return mixed * distance(x, y) + first * distance(x, x) + second * distance(y, y)


def one_number(answer, case):
    yield Look(case.what, answer(*case.args), case.expected, error=case.error)


@lab.exercise(
    reread=("eq-energy", "the energy distance, above the exercise"),
    passed="0 for equal sets, and a yardstick for samples",
    hints=(
        "Three means of distances: between the sets, within the first, within the second. With which weights?",
        "torch.cdist(a, b) has the distance of every row of a from every row of b; its mean is one of the three.",
        "Make each point a row first, flatten(1); then twice the mean between the sets, minus the two within them.",
    ),
    withhold=("metrics.energy_distance",),
    library=metrics.energy_distance,
    judge=unseeded(one_number),
    visible=[
        ((5, 2), (3, 2)),
        ((4, 1, 2, 3), (6, 1, 2, 3), DOUBLE),
        ((3, 2, 3, 2), (3, 2, 3, 2)),
        ((1, 4), (7, 4)),
        ((6, 3), None),
    ],
    mistakes={
        "the factor 2 of the mixed term is missing": lambda x, y: energy(x, y, mixed=1),
        "the mixed term alone was returned": lambda x, y: mean_distance(x, y),
        "twice the mixed term alone was returned: distances within the sets are to be subtracted": lambda x, y: energy(
            x, y, first=0, second=0
        ),
        "the distances within the sets were added; they are to be subtracted": lambda x, y: energy(
            x, y, first=1, second=1
        ),
        "the sign is reversed": lambda x, y: -energy(x, y),
        "E‖Y − Y'‖ is missing": lambda x, y: energy(x, y, second=0),
        "E‖X − X'‖ is missing": lambda x, y: energy(x, y, first=0),
        "the halves were subtracted: within each set there is no factor ½": lambda x, y: energy(
            x, y, first=-0.5, second=-0.5
        ),
        "the distances were squared; that sees nothing but the means": lambda x, y: energy(
            x, y, distance=lambda a, b: torch.cdist(a.flatten(1), b.flatten(1)).square().mean()
        ),
        "distances were added up coordinate by coordinate; the norm is Euclidean": lambda x, y: energy(
            x, y, distance=partial(mean_distance, p=1.0)
        ),
        "a root was taken at the end": lambda x, y: energy(x, y).sqrt(),
        "pairs of a point with itself were left out; here the mean is over all pairs": lambda x, y: energy(
            x, y, first=-len(x) / (len(x) - 1), second=-len(y) / (len(y) - 1)
        ),
        "the distances were summed, not averaged": lambda x, y: energy(
            x, y, distance=lambda a, b: torch.cdist(a.flatten(1), b.flatten(1)).sum()
        ),
        "points were compared with the same number in the other set alone; the mean is over all pairs": lambda x, y: (
            2 * squares(x[: len(y)] - y[: len(x)]).sqrt().mean()
        ),
        "this is the distance of the two means": lambda x, y: (x.mean(0) - y.mean(0)).norm(),
        "images were not made rows: flatten(1), so that a distance is one between whole points": lambda x, y: energy(
            x, y, distance=lambda a, b: torch.cdist(a, b).mean()
        ),
        "the norm runs over one axis of the images alone; flatten(1) makes each of them a row": lambda x, y: energy(
            x, y, distance=lambda a, b: (a[:, None] - b[None]).norm(dim=-1).mean()
        ),
    },
)
def energy_distance(shape, other, dtype=torch.float32):
    """Two sets of points, or twice the same one, whose distance is 0."""
    x = states(10, *shape, dtype=dtype)
    y = x.clone() if other is None else 0.5 + 2 * states(11, *other, dtype=dtype)
    a, b = x.flatten(1).tolist(), y.flatten(1).tolist()
    xy, xx, yy = (sum(math.dist(p, q) for p in c for q in d) / len(c) / len(d) for c, d in ((a, b), (a, a), (b, b)))
    what = f"the distance of {len(x)} points from {'themselves' if other is None else len(y)}"
    return Case(what, (x, y), 2 * xy - xx - yy, error=1e-5 if other is None else None)


def walk(u, divergence, x, ts, hs, direction=-1, weights=None, after=False, late=None):
    """X_0 and the integral of the divergence, by steps back of the sizes hs, whose times are ts.

    weights: instead of hs in the integral. after: take the divergence after the move, at the times `late`.
    """
    integral = torch.zeros(len(x), dtype=x.dtype)
    for t, h, weight, other in zip(ts, hs, hs if weights is None else weights, ts if late is None else late):
        before, x = x, x + direction * h * u(x, t)
        integral = integral + weight * divergence(x if after else before, other)
    return x, integral


def normal(x: Tensor, half: float = 0.5, constants: int | None = None) -> Tensor:
    """log N(x; 0, I), with another factor of ‖x‖², or another number of constants ½ log 2π than coordinates."""
    constants = x[0].numel() if constants is None else constants
    return -half * squares(x) - constants / 2 * math.log(2 * math.pi)


def log_p(start: Tensor, integral: Tensor, sign: float = -1, **other) -> Tensor:
    return normal(start, **other) + sign * integral


def last_alone(go, x, ts, hs):
    """X_0, and of the integral the last step's share."""
    middle, _ = go(x, ts[:-2], hs[:-1])
    return go(x, ts[:-1], hs)[0], go(middle, ts[-2:-1], hs[-1:])[1]


@lab.exercise(
    reread=("eq-likelihood", "the last equation above the exercise"),
    passed="a density from nothing but a field",
    hints=(
        "You know the density at t = 0 and the point at t = 1. In which direction must the flow be followed?",
        "A step from t down to s moves x by −(t − s) u(x, t), and adds (t − s) div u(x, t) to the integral.",
        "At the end, log N(X_0; 0, I) sums over all coordinates, with ½ log 2π for each; subtract the integral.",
    ),
    withhold=("likelihood.log_likelihood",),
    library=lambda u, divergence, x, ts: log_p(*walk(u, divergence, x, ts.flip(0), ts.diff().flip(0))),
    judge=unseeded(judges.value),
    visible=[
        (torch.tensor([0.1, 0.25, 0.6, 0.95]), (5, 3), 0.0),
        (torch.tensor([0.2, 0.6], dtype=DOUBLE), (4, 1, 2, 3), 0.25),
        (torch.tensor([0.0, 0.1, 0.3, 0.45, 0.8, 1.0]), (1, 4), 0.0),
        (torch.tensor([0.3, 0.7]), (3, 2), -0.4),
    ],
    terms=lambda u, divergence, x, ts: (partial(walk, u, divergence), x, ts.flip(0), ts.diff().flip(0)),
    mistakes={
        "the integral of the divergence has the wrong sign": lambda go, x, ts, hs: log_p(*go(x, ts, hs), sign=1),
        "the integral of the divergence is missing": lambda go, x, ts, hs: log_p(*go(x, ts, hs), sign=0),
        "the step size is missing in the integral": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs, weights=torch.ones_like(hs))
        ),
        "only the last step's divergence was kept; add them all up": lambda *walk: log_p(*last_alone(*walk)),
        "the density p_0 was taken at x, not at X_0": lambda go, x, ts, hs: log_p(x, go(x, ts, hs)[1]),
        "the flow was followed forwards from x; it leads back to X_0": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs, direction=1)
        ),
        "the flow was followed forwards, from the first time on": lambda go, x, ts, hs: log_p(
            *go(x, ts.flip(0), hs.flip(0), direction=1)
        ),
        "the times were walked forwards": lambda go, x, ts, hs: log_p(*go(x, ts[:-1].flip(0), hs.flip(0))),
        "the steps and their times do not fit together: both are to be reversed": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs.flip(0))
        ),
        "field and divergence were evaluated at the time the step goes to": lambda go, x, ts, hs: log_p(
            *go(x, ts[1:], hs)
        ),
        "the divergence was evaluated after the move; take it where the step starts": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs, after=True)
        ),
        "the divergence was evaluated at the state and time that the step leads to": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs, after=True, late=ts[1:])
        ),
        "all steps have the same size": lambda go, x, ts, hs: log_p(*go(x, ts, hs.mean().expand_as(hs))),
        "the earliest interval is missing": lambda go, x, ts, hs: log_p(*go(x, ts, hs[:-1])),
        "the last interval is missing": lambda go, x, ts, hs: log_p(*go(x, ts[1:], hs[1:])),
        "the normalising constant of N(0, I) is missing": lambda go, x, ts, hs: log_p(*go(x, ts, hs), constants=0),
        "the normalising constant must be counted once per coordinate: d/2 log 2π": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs), constants=1
        ),
        "of images d is the number of all coordinates, not of the first axis": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs), constants=x.shape[1]
        ),
        "the factor ½ of log 2π is missing": lambda go, x, ts, hs: log_p(*go(x, ts, hs), constants=2 * x[0].numel()),
        "the normalising constant has the wrong sign": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs), constants=-x[0].numel()
        ),
        "the factor ½ of ‖x‖² is missing": lambda go, x, ts, hs: log_p(*go(x, ts, hs), half=1),
        "the mean over coordinates was taken; log densities of coordinates add up": lambda go, x, ts, hs: log_p(
            *go(x, ts, hs), half=0.5 / x[0].numel(), constants=1
        ),
        "this is the density, not its logarithm": lambda go, x, ts, hs: log_p(*go(x, ts, hs)).exp(),
        "the density and the integral were mixed: take the logarithm of p_0": lambda go, x, ts, hs: (
            normal(go(x, ts, hs)[0]).exp() - go(x, ts, hs)[1]
        ),
        "log p_0 is missing": lambda go, x, ts, hs: -go(x, ts, hs)[1],
    },
)
def log_likelihood(ts, shape, curved):
    """A step back along u = t x + 0.6 − t² + c t x² is x ↦ decay x − shift where c = 0; else there is one step only."""
    x, d = states(12, *shape, dtype=ts.dtype), math.prod(shape[1:])
    u = Field(lambda x, t: t * x + 0.6 - t**2 + curved * t * x**2)
    divergence = Field(lambda x, t: (t + 2 * curved * t * x).flatten(1).sum(1))
    h, t = ts.diff(), ts[1:]
    decay, shift = 1 - h * t, h * (0.6 - t**2)
    earlier = torch.cat([torch.ones(1, dtype=ts.dtype), decay.cumprod(0)[:-1]])
    start = decay.prod() * x - (shift * earlier).sum() - curved * h[-1] * t[-1] * x**2
    integral = d * (h * t).sum() + 2 * curved * h[-1] * t[-1] * x.flatten(1).sum(1)
    ratio = torch.distributions.Normal(0.0, 1.0).log_prob(start).flatten(1).sum(1)
    return Case(f"the log density of points of shape {shape[1:]}", (u, divergence, x, ts), ratio - integral)


@lab.exercise(
    reread=("about-linear-path", "the text above the exercise"),
    passed="straight lines between any two data sets",
    hints=(
        "Where should the state be at t = 0, where at t = 1, and where half-way?",
        "Its weights are 1 − t and t; the velocity is the derivative with respect to t.",
        "The velocity does not depend on t. Return both as a pair, the state first.",
    ),
    withhold=("paths.LinearPath.interpolate", "paths.LinearPath.velocity"),
    library=lambda x0, x1, t: (LinearPath().interpolate(x1, x0, t), LinearPath().velocity(x1, x0, t)),
    judge=unseeded(judges.value),
    visible=[
        (times(5), (5, 2)),
        (times(4, dtype=DOUBLE), (4, 1, 2, 3), DOUBLE),
        (0.35, (1, 3)),
        (torch.tensor(0.8), (3, 2, 2, 3)),
        (1.0, (4, 2)),
        (torch.tensor([0.0, 0.3, 1.0]), (3, 4)),
    ],
    terms=lambda x0, x1, t: (x0, x1, coefficient(torch.as_tensor(t, dtype=x0.dtype), x0)),
    mistakes={
        "x_0 and x_1 are exchanged: at t = 0 the state is x_0": lambda a, b, t: (t * a + (1 - t) * b, b - a),
        "both ends are exchanged, and the velocity with them: the way leads from x_0 to x_1": lambda a, b, t: (
            t * a + (1 - t) * b,
            a - b,
        ),
        "state and velocity are exchanged": lambda a, b, t: (b - a, a + t * (b - a)),
        "the weight 1 − t of x_0 is missing": lambda a, b, t: (a + t * b, b - a),
        "x_1 was added to x_0 without its own weight": lambda a, b, t: ((1 - t) * a + b, b - a),
        "parentheses are missing: the weight of x_0 is 1 − t": lambda a, b, t: (1 - t * a + t * b, b - a),
        "this is a curve with squared weights, not a line": lambda a, b, t: ((1 - t**2) * a + t**2 * b, b - a),
        "the sign between the two parts of the state is wrong": lambda a, b, t: ((1 - t) * a - t * b, b - a),
        "the first time was used for all states": lambda a, b, t: (a + first(t) * (b - a), b - a),
        "the velocity points back: it leads from x_0 to x_1": lambda a, b, t: (a + t * (b - a), a - b),
        "this is what is left of the way, x_1 − x_t, not the velocity": lambda a, b, t: (
            a + t * (b - a),
            (1 - t) * (b - a),
        ),
        "this is the way so far, x_t − x_0, not the velocity": lambda a, b, t: (a + t * (b - a), t * (b - a)),
        "the end point was returned; a velocity is a difference": lambda a, b, t: (a + t * (b - a), b),
        "the state was returned twice": lambda a, b, t: (a + t * (b - a), a + t * (b - a)),
        "the velocity has the weights of the state": lambda a, b, t: (a + t * (b - a), t * b - (1 - t) * a),
        "the velocity was divided by 1 − t, which is 0 at t = 1; it is x_1 − x_0 at all times": lambda a, b, t: (
            a + t * (b - a),
            (b - (a + t * (b - a))) / (1 - t),
        ),
        "a small number beside 1 − t makes the velocity 0 at t = 1; it is x_1 − x_0 at all times": lambda a, b, t: (
            (1 - t) * a + t * b,
            (b - ((1 - t) * a + t * b)) / (1 - t + 1e-8),
        ),
        "the velocity was divided by t, which is 0 at t = 0; it is x_1 − x_0 at all times": lambda a, b, t: (
            a + t * (b - a),
            ((1 - t) * a + t * b - a) / t,
        ),
    },
)
def linear_path(t, shape, dtype=torch.float32):
    x0, x1 = states(13, *shape, dtype=dtype), states(14, *shape, dtype=dtype)
    state, velocity = on_path(lambda s, a, b: torch.lerp(a, b, s), t, x0, x1)
    return Case(f"for shape {shape}", (x0, x1, t), {"the state": state, "the velocity": velocity})


def straight(change, start=None, end=None):
    """A mistake of `reflow`: the loss that `change` makes of a `Batch`, in which data are the ends and noise the starts
    of the pairs. start, end: of which pairs they are, instead of k."""

    def mistake(x0, x1):
        def loss(u, k, t):
            one, other = (k if of is None else of(k) for of in (start, end))
            return change(Batch(u, x1[other], t, x0[one], CondOT()))

        return loss

    return mistake


def from_the_top(k: Tensor) -> Tensor:
    return torch.arange(len(k))


def pairs_made_once(answer, case):
    """What the first flow is asked, and when; the loss on some pairs; and that it leaves the first flow alone."""
    sample, x0 = case.args
    loss = answer.returned(answer(sample, x0), "what reflow returns")
    require(case.given, "sample was not called by reflow itself; make all pairs once, before the loss is defined")
    given = torch.cat(case.given)
    most = f"sample was asked for {len(given)} points to make {len(x0)} pairs; make each pair once"
    require(len(given) <= len(x0), most)
    yield Look("the set of starting points that sample is given", _sorted(given), _sorted(x0))
    answer(lambda x: x + 3, x0 - 1)  # another one beside it changes nothing
    yield from regression(loss, case.batch)
    again = "the loss called sample again; make the pairs once, outside of the loss"
    require(sum(map(len, case.given)) == len(given), again)
    back = torch.autograd.grad(loss(*case.batch.args).sum(), case.weight, allow_unused=True)[0]
    require(back is None, "gradients flow back into the first flow; the pairs are data: use .detach() or no_grad()")


def with_any_time(sample, x0):
    """The library's answer, which takes a time for each pair, for one time, too."""
    loss = losses.reflow_loss(sample, x0)
    return lambda u, k, t: loss(u, k, torch.as_tensor(t).expand(len(k)))


def _sorted(x: Tensor) -> Tensor:
    """The rows in an order of their own: pairs may be made in any."""
    return x[x.flatten(1)[:, 0].argsort()]


@lab.exercise(
    reread=("eq-reflow", "the loss above the exercise"),
    passed="pairs that the flow itself has made",
    hints=(
        "Which of the two works is expensive and done once, and which is repeated at each training step?",
        "First make x1 from all of x0, as data without gradients; the inner function then picks the same rows of both.",
        "Inside: the state on the line from x0[k] to x1[k] at t, and the squared error against their difference.",
    ),
    withhold=("losses.reflow_loss",),
    library=with_any_time,
    judge=unseeded(pairs_made_once),
    visible=[
        ((8, 3), [5, 0, 5, 3, 7], times(5)),
        ((6, 1, 2, 3), [2, 5, 1, 0], times(4, dtype=DOUBLE), DOUBLE),
        ((7, 2, 2, 3), [6, 2, 4], 0.35),
        ((5, 4), [3], torch.tensor(0.7)),
        ((6, 2), [5, 1, 3], torch.tensor([0.0, 1.0, 0.6])),
    ],
    terms=lambda sample, x0: (x0, sample(x0).detach()),
    mistakes={
        "the pairs are turned round: noise belongs to t = 0, the end point to t = 1": straight(
            lambda m: m.loss(x=m.a * m.noise + m.b * m.z)
        ),
        "the noise of other pairs was used: x0[k] belongs to x1[k]": straight(Batch.loss, start=from_the_top),
        "the end points of other pairs were used: x1[k] belongs to x0[k]": straight(Batch.loss, end=from_the_top),
        "k was not used: the first pairs were taken": straight(Batch.loss, from_the_top, from_the_top),
        "the target was computed for other pairs": lambda x0, x1: straight(
            lambda m: m.loss(target=(x1 - x0)[: len(m.z)])
        )(x0, x1),
        "the model was shown the starting points": straight(lambda m: m.loss(x=m.noise)),
        "the model was shown the end points": straight(lambda m: m.loss(x=m.z)),
        "the weight 1 − t of x_0 is missing": straight(lambda m: m.loss(x=m.noise + m.a * m.z)),
        "the model was given the time 1 − t": straight(lambda m: m.loss(t=1 - m.t)),
        "the first time was used for all pairs": straight(lambda m: m.at(first(m.t)).loss()),
        "state and time are exchanged in the call of the model: u(x, t)": straight(
            lambda m: squares(m.u(m.t, m.x)).mean()
        ),
        "the velocity points back: it leads from x_0 to x_1": straight(lambda m: m.loss(target=m.noise - m.z)),
        "the model was compared with the end points; its target is the velocity x_1 − x_0": straight(
            lambda m: m.loss(target=m.z)
        ),
        "the model was compared with the starting points; its target is the velocity x_1 − x_0": straight(
            lambda m: m.loss(target=m.noise)
        ),
        "the target is what is left of the way, x_1 − x_t": straight(lambda m: m.loss(target=m.z - m.x)),
        "parentheses are missing: the whole velocity x_1 − x_0 is subtracted": straight(
            lambda m: m.loss(target=m.z + m.noise)
        ),
        "the target was divided by 1 − t, which is 0 at t = 1; it is x_1 − x_0 at all times": straight(
            lambda m: m.loss(target=(m.z - m.x) / m.b)
        ),
    }
    | {words: straight(change) for words, change in REDUCED.items()},
)
def reflow(shape, k, t, dtype=torch.float32):
    """The first flow ends at sin 3x + w x + 1."""
    x0, k, given = states(15, *shape, dtype=dtype), torch.tensor(k), []
    weight = torch.tensor(1.5, dtype=dtype, requires_grad=True)

    def sample(x):
        given.append(x.detach().clone())
        return torch.sin(3 * x) + weight * x + 1

    ends = torch.sin(3 * x0) + 1.5 * x0 + 1
    x, velocity = on_path(lambda s, a, b: torch.lerp(a, b, s), t, x0[k], ends[k])
    model = Weighted(0.3 * len(shape), -0.4, dtype)
    batch = regression_case(f"{len(k)} pairs", model, (model, k, t), x, t, velocity)
    return Case("the loss", (sample, x0), batch=batch, given=given, weight=weight)
