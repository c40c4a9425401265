"""Lab 3: flow matching.

Truth comes from elsewhere than the formulas asked for: velocities are time derivatives along known paths, by automatic
differentiation; gradient descent is that of least squares; fields are affine in x, so that Euler's steps are products.
All randomness is passed in, so comparisons are exact.
"""

import math
from functools import partial

import torch
from torch import Tensor

from fmlab import losses, metrics, samplers, simulators
from fmlab.checks import judges
from fmlab.checks.compare import Look, describe, require
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Bent, Field, Powers, Weighted, states, times
from fmlab.checks.lab import Lab
from fmlab.distributions import Gaussian
from fmlab.paths import GaussianPath, LinearPath
from fmlab.schedules import VE, CondOT, Cosine, coefficient

lab = Lab("lab3")

SINGLE, DOUBLE = torch.float32, torch.float64


# --- what several exercises share -------------------------------------------------------------------------------------


def on_path(path, t, *batches: Tensor) -> tuple[Tensor, Tensor]:
    """States path(t, *batches) and their velocities, by automatic differentiation. t: a number, () or (n,)."""
    n, *shape = batches[0].shape
    t = torch.as_tensor(t).to(batches[0]).expand(n).reshape(n, *[1] * len(shape))
    t = t.expand(n, *shape).clone().requires_grad_()
    x = path(t, *batches)
    return x.detach(), torch.autograd.grad(x.sum(), t)[0]


def regression(answer, case):
    """A loss on one batch: what the network is asked about, then the loss, a scalar, and its gradient."""
    found = answer(*case.args)
    yield from judges.shown(case.model, case.x, case.t)
    if isinstance(found, Tensor) and found.numel() == 1:
        require(found.shape == (), f"the loss should be a scalar tensor, of shape (), found {describe(found)}")
    yield from judges.loss_of(found, case.expected, case.model.weights, case.what)


def regression_case(of: str, model: Weighted, args: tuple, x: Tensor, t, target: Tensor) -> Case:
    """A case of `regression`. x: the states that the model should be shown. target: what it should answer there."""
    loss = (model.value(x, t) - target).square().sum() / len(x)
    return Case(f"the loss of {of}", args, loss, model=model, x=x, t=t)


def model_for(shape: tuple, dtype: torch.dtype) -> Weighted:
    return Weighted(0.3 * len(shape), -0.4, dtype)


def squares(error: Tensor) -> Tensor:
    """‖error‖² of each point: (n,)."""
    return error.flatten(1).square().sum(1)


class Batch:
    """A batch of a regression. Mistakes are its loss with a part exchanged: the state x, the target, or the time t.

    a, b, da, db: the weights α, β, α̇, β̇.
    """

    def __init__(self, u, z, t, noise, schedule, field=None):
        self.u, self.z, self.t, self.noise, self.schedule, self.field = u, z, t, noise, schedule, field
        self.a, self.b, self.da, self.db = schedule.weights(t, z)
        self.x, self.velocity = self.a * z + self.b * noise, self.da * z + self.db * noise
        self.target = field(self.x, t) if field else self.velocity

    def error(self, x=None, target=None, t=None) -> Tensor:
        asked = self.x if x is None else x, self.t if t is None else t
        return self.u(*asked) - (self.target if target is None else target)

    def loss(self, **parts) -> Tensor:
        return squares(self.error(**parts)).mean()

    def at(self, t, schedule=None) -> "Batch":
        """The same at another time, or on another schedule."""
        return Batch(self.u, self.z, t, self.noise, schedule or self.schedule, self.field)

    def first(self) -> Tensor:
        return torch.as_tensor(self.t).reshape(-1)[0]


def shown(states: dict) -> dict:
    """Mistakes: words → the state that the network is shown, a function of the batch."""
    return {words: lambda m, f=f: m.loss(x=f(m)) for words, f in states.items()}


def aimed(targets: dict) -> dict:
    """Mistakes: words → what the network is compared with, a function of the batch."""
    return {words: lambda m, f=f: m.loss(target=f(m)) for words, f in targets.items()}


REDUCED = {  # mistakes of every regression: how errors become one number
    "the mean was taken over coordinates too: sum over them, average over the batch": lambda e: e.square().mean(),
    "the losses of the batch were summed, not averaged": lambda e: e.square().sum(),
    "there is a factor ½ too many": lambda e: squares(e).mean() / 2,
    "the norm was not squared": lambda e: squares(e).sqrt().mean(),
    "a root was taken of the loss": lambda e: squares(e).mean().sqrt(),
    "absolute values were added up, not squares": lambda e: e.abs().sum() / len(e),
    "coordinates were added up before they were squared": lambda e: e.flatten(1).sum(1).square().mean(),
    "images are summed over axis 1 alone; flatten(1) makes each a row": lambda e: e.square().sum(1).mean(),
    "images are summed over the last axis alone; flatten(1) makes each a row": lambda e: e.square().sum(-1).mean(),
}
REDUCED = {words: lambda m, f=f: f(m.error()) for words, f in REDUCED.items()}

TIMES = {  # and what becomes of the times
    "the network was given the time 1 − t": lambda m: m.loss(t=1 - m.t),
    "the first time was used for the whole batch": lambda m: m.at(m.first()).loss(),
    "state and time are exchanged in a call: u(x, t)": lambda m: squares(m.u(m.t, m.x)).mean(),
}

OFF_PATH = TIMES | {  # and of the first two: states that are not x_t
    "the schedule was asked about the time 1 − t": lambda m: m.at(1 - m.t).loss(t=m.t),
    "this is the path of CondOT; use the schedule that is given": lambda m: m.at(m.t, CondOT()).loss(),
}
OFF_PATH |= shown(
    {
        "the network was shown the data z instead of the state x_t": lambda m: m.z,
        "the network was shown the noise instead of the state x_t": lambda m: m.noise,
        "α_t and β_t are exchanged: α_t is the weight of the data": lambda m: m.b * m.z + m.a * m.noise,
        "the noise was subtracted from the state": lambda m: m.a * m.z - m.b * m.noise,
        "β_t² was used; β_t itself is the weight of the noise": lambda m: m.a * m.z + m.b**2 * m.noise,
        "√β_t was used; β_t itself is the weight of the noise": lambda m: m.a * m.z + m.b**0.5 * m.noise,
        "β_t was taken as 1 − α_t, true of CondOT alone": lambda m: m.a * m.z + (1 - m.a) * m.noise,
        "β_t² was taken as 1 − α_t²": lambda m: m.a * m.z + (1 - m.a**2) ** 0.5 * m.noise,
    }
)


# --- regressions ------------------------------------------------------------------------------------------------------


@lab.exercise(
    reread=("eq-cfm", "notes, eq. 31, above the exercise"),
    passed="a regression on velocities that anybody can draw",
    hints=(
        "Which two combinations of data and noise do you need: one that the model sees, and one that it should answer?",
        "The model sees x_t = α_t z + β_t ε at the time t; its answer should be the velocity α̇_t z + β̇_t ε.",
        "schedule.weights(t, z) has all four weights in shape; square the error, sum over a point, average over all.",
    ),
    withhold=("losses.flow_matching_loss",),
    library=lambda u, z, t, noise, schedule: losses.flow_matching_loss(
        u, GaussianPath(schedule), z, noise, lambda n, generator: torch.as_tensor(t).expand(n)
    ),
    judge=regression,
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
    | aimed(
        {
            "the target is that of CondOT; use the schedule that is given": lambda m: m.z - m.noise,
            "the target has the weights α_t and β_t where it needs their derivatives": lambda m: m.x,
            "α̇_t and β̇_t are exchanged": lambda m: m.db * m.z + m.da * m.noise,
            "the sign of β̇_t ε is reversed; β̇_t is negative by itself": lambda m: m.da * m.z - m.db * m.noise,
            "β̇_t was taken as −α̇_t, true of CondOT alone": lambda m: m.da * (m.z - m.noise),
            "the model was compared with the data; its target is a velocity": lambda m: m.z,
            "the model was compared with the noise; its target is a velocity": lambda m: m.noise,
            "the noise is missing from the target": lambda m: m.da * m.z,
            "the data are missing from the target": lambda m: m.db * m.noise,
            "the formula of lab 2 takes the state x_t where you put ε": lambda m: (
                (m.da - m.db / m.b * m.a) * m.z + m.db / m.b * m.noise
            ),
            "the target is divided by β_t, which is 0 at t = 1; α̇_t z + β̇_t ε is the same without": lambda m: (
                m.da * m.z + m.db / m.b * (m.x - m.a * m.z)
            ),
            "target and model were added": lambda m: -m.target,
        }
    )
    | REDUCED,
)
def conditional_flow_matching_loss(schedule, t, shape, dtype=SINGLE):
    z, noise, model = states(1, *shape, dtype=dtype), states(2, *shape, dtype=dtype), model_for(shape, dtype)
    x, velocity = on_path(lambda s, z, e: schedule.alpha(s) * z + schedule.beta(s) * e, t, z, noise)
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
    judge=regression,
    visible=[
        (Bent(), times(5), (5, 3)),
        (Cosine(), times(4, dtype=DOUBLE), (4, 1, 2, 3), DOUBLE),
        (CondOT(0.2), 0.65, (1, 4)),
        (VE(0.8), torch.tensor(0.3), (3, 2, 2, 3)),
        (Cosine(), torch.tensor([0.0, 0.3, 1.0]), (3, 2)),
    ],
    terms=lambda *args: (Batch(*args),),
    mistakes=OFF_PATH
    | aimed(
        {
            "this is still the conditional loss: the target is the marginal field at x_t": lambda m: m.velocity,
            "the field was evaluated at the data z instead of the state x_t": lambda m: m.field(m.z, m.t),
            "the field was evaluated at the noise instead of the state x_t": lambda m: m.field(m.noise, m.t),
            "the field was evaluated at the time 1 − t": lambda m: m.field(m.x, 1 - m.t),
            "the model was compared with the data; its target is the field": lambda m: m.z,
            "the field is missing: this is the mean square of the model": lambda m: 0 * m.x,
            "target and model were added": lambda m: -m.target,
        }
    )
    | {
        "field and velocity were compared; the model is missing": lambda m: squares(
            m.target - m.velocity + 0 * m.u(m.x, m.t)
        ).mean()
    }
    | REDUCED,
)
def marginal_flow_matching_loss(schedule, t, shape, dtype=SINGLE):
    z, noise, model = states(3, *shape, dtype=dtype), states(4, *shape, dtype=dtype), model_for(shape, dtype)
    field = Field(lambda x, t: torch.sin(2 * x) + 0.7 * t - x * t**2)
    x, _ = on_path(lambda s, z, e: schedule.alpha(s) * z + schedule.beta(s) * e, t, z, noise)
    args = model, z, t, noise, schedule, field
    return regression_case(f"a batch of shape {shape}", model, args, x, t, field.value(x, t))


class Line:
    """The regression line for Gaussian data. Mistakes are `at` with a part exchanged."""

    def __init__(self, x, t, mean, std):
        self.x, self.t, self.mean, self.s = x, coefficient(torch.as_tensor(t, dtype=x.dtype), x), mean, std
        self.noise, self.gap = 1 - self.t, x - self.t * mean
        self.cov, self.var = self.t * std**2 - self.noise, self.t**2 * std**2 + self.noise**2

    def at(self, mean=None, cov=None, var=None, gap=None) -> Tensor:
        own = self.mean, self.cov, self.var, self.gap
        mean, cov, var, gap = (b if a is None else a for a, b in zip((mean, cov, var, gap), own))
        return mean + cov / var * gap

    def for_time(self, t) -> Tensor:
        return Line(self.x, t, self.mean, self.s).at()


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
        GaussianPath().marginal(Gaussian(mean.flatten(), std**2)).vector_field(x.flatten(1), t).reshape(x.shape)
    ),
    visible=[
        (times(6), (6, 2), 0.6),
        (times(4, dtype=DOUBLE), (4, 1, 2, 3), 1.7, DOUBLE),
        (0.4, (1, 3), 2.5),
        (torch.tensor(0.85), (3, 2, 2, 3), 0.3),
        (0.0, (5, 2), 0.7),
        (torch.tensor([1.0, 0.2, 0.0, 0.55], dtype=DOUBLE), (4, 2), 1.3, DOUBLE),
    ],
    terms=lambda *args: (Line(*args),),
    mistakes={
        "this is the conditional field that leads to m; data spread around it": lambda m: (m.mean - m.x) / m.noise,
        "this is E[z | x_t], without the noise; the field is E[z − ε | x_t]": lambda m: m.at(cov=m.t * m.s**2),
        "the variance of the data is s², not s": lambda m: m.at(cov=m.t * m.s - m.noise, var=m.t**2 * m.s + m.noise**2),
        "the covariance has a plus where z − ε has a minus": lambda m: m.at(cov=m.t * m.s**2 + m.noise),
        "parentheses are missing in the covariance, around 1 − t": lambda m: m.at(cov=m.t * m.s**2 - 1 - m.t),
        "in the covariance 1 − t became t": lambda m: m.at(cov=m.t * m.s**2 - m.t),
        "the weights in Var(x_t) were not squared": lambda m: m.at(var=m.t * m.s**2 + m.noise),
        "the noise is missing in Var(x_t)": lambda m: m.at(var=m.t**2 * m.s**2),
        "this is the variance of the target, s² + 1; divide by that of x_t": lambda m: m.at(var=m.s**2 + 1),
        "Var(x_t) is missing: divide the covariance by it": lambda m: m.at(var=1),
        "the standard deviation of x_t was used where its variance belongs": lambda m: m.at(var=m.var**0.5),
        "E y, the mean of the target, is missing": lambda m: m.at(mean=0),
        "E x_t is t m, not m": lambda m: m.at(gap=m.x - m.mean),
        "E x_t was left out": lambda m: m.at(gap=m.x),
        "parentheses are missing: the slope multiplies all of x − t m": lambda m: m.at(gap=m.x) - m.t * m.mean,
        "the sign of the slope is reversed": lambda m: m.at(cov=-m.cov),
        "the slope was turned over: Cov/Var, not Var/Cov": lambda m: m.at(cov=m.var, var=m.cov),
        "t and 1 − t are exchanged": lambda m: m.for_time(1 - m.t),
        "the first time was used for all states": lambda m: m.for_time(m.t.reshape(-1)[0]),
    },
)
def optimal_vector_field(t, shape, std, dtype=SINGLE):
    """At a fixed number ξ of standard deviations from the mean, the flow moves x_t = t m + √(t² s² + (1 − t)²) ξ."""
    mean, distances = states(5, *shape[1:], dtype=dtype), states(6, *shape, dtype=dtype)
    x, velocity = on_path(lambda s, xi: s * mean + ((s * std) ** 2 + (1 - s) ** 2).sqrt() * xi, t, distances)
    return Case(f"the field for shape {shape} and s = {std:g}", (x, t, mean, std), velocity)


# --- training ---------------------------------------------------------------------------------------------------------


def deeds(order: str, again: bool = False):
    """A training step that does "zero_grad backward step" in some order. again: and computes the loss once more."""

    def step(model, loss, optimizer):
        value = loss(model)
        for deed in order.split():
            value.backward() if deed == "backward" else getattr(optimizer, deed)()
        return loss(model).item() if again else value.item()

    return step


def by_hand(model, loss, optimizer):
    value = deeds("zero_grad backward")(model, loss, optimizer)
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.data -= group["lr"] * weight.grad
    return value


def size_of_gradient(model, loss, optimizer):
    deeds("zero_grad backward step")(model, loss, optimizer)
    return float(next(model.parameters()).grad.norm())


def training(answer, case):
    """Several steps: one batch for each, the weights after it, and the number that comes back."""
    model, *_ = case.args
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
    judge=training,
    visible=[((5, 3), 0.15), ((4, 1, 2, 3), 0.04, DOUBLE)],
    mistakes={
        "zero_grad() is missing: gradients of earlier steps are still there": deeds("backward step"),
        "zero_grad() comes too late: what earlier work has left is still there": deeds("backward step zero_grad"),
        "backward() comes too late: the step was taken along an old gradient": deeds("step zero_grad backward"),
        "backward() and zero_grad() are missing: the step was taken along an old gradient": deeds("step"),
        "the weights stay: step() is missing, or no gradient was there when it was called": deeds("zero_grad step"),
        "the step was taken twice": deeds("zero_grad backward step step"),
        "the loss was computed twice; each call draws a new batch, so keep its result": deeds(
            "zero_grad backward step", again=True
        ),
        "the size of the gradient was returned": size_of_gradient,
        "backward() finds no graph: the loss was detached, or made under no_grad()": lambda model, loss, _: (
            loss(model).detach().backward()
        ),
        "the weights were moved by hand; the optimiser's own step does more": by_hand,
    },
)
def train_step(shape, rate, dtype=SINGLE):
    """Least squares: the network is A w + b with its weights w, so the gradient is 2 Aᵀ(A w + b − target)/n."""
    model, calls, decay, momentum = Weighted(0.9, -0.3, dtype), [], 0.6, 0.4
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum, weight_decay=decay)
    batches = [(states(seed, *shape, dtype=dtype), states(seed + 1, *shape, dtype=dtype)) for seed in (7, 17, 27)]
    t = times(shape[0], dtype=dtype)

    def loss(model):
        x, target = batches[len(calls) % len(batches)]
        calls.append(x)
        return (model(x, t) - target).square().sum() / len(x)

    w, speed, expected, s = model.weights.detach().clone(), 0.0, [], coefficient(t, batches[0][0])
    for x, target in batches:
        columns = torch.stack([x.flatten(), s.expand_as(x).flatten()], dim=1)
        error = columns @ w + (x * s**2 - target).flatten()
        speed = momentum * speed + 2 / len(x) * columns.T @ error + decay * w
        w = w - rate * speed
        expected.append((float(error @ error) / len(x), w))
    model.weights.grad = torch.full_like(w, 1.5)  # what earlier work has left
    return Case("the step", (model, loss, optimizer), expected, calls=calls)


# --- sampling ---------------------------------------------------------------------------------------------------------


class Way:
    """The way of the states x0 along a field u: `end` of Euler's steps, of the sizes hs, whose times are ts."""

    def __init__(self, u, x0, ts):
        self.u, self.x0, self.ts, self.hs = u, x0, ts[:-1], ts.diff()

    @torch.no_grad()
    def end(self, ts=None, hs=None) -> Tensor:
        x, steps = self.x0, zip(self.ts if ts is None else ts, self.hs if hs is None else hs)
        for t, h in steps:
            x = x + h * self.u(x, t)
        return x

    def of_size(self, h) -> Tensor:
        return self.end(hs=h.expand_as(self.hs))

    @torch.no_grad()
    def of_order_two(self, share: float) -> Tensor:
        """The end of the midpoint rule, share = ½, or of Heun's method, share = 1."""
        x = self.x0
        for t, h in zip(self.ts, self.hs):
            start = self.u(x, t)
            later = self.u(x + share * h * start, t + share * h)
            x = x + h * (later if share < 1 else (start + later) / 2)
        return x


def ends(answer, case):
    """The end points, one call of the field per step, and no graph: neither kept until the end nor returned."""
    u, x0, ts = case.args
    found = answer(*case.args)
    several = isinstance(found, (list, tuple)) or getattr(found, "shape", ()) == (len(ts), *x0.shape)
    require(not several, f"only the states at the last time should come back, found {describe(found)}")
    yield Look(case.what, found.detach() if isinstance(found, Tensor) else found, case.expected)
    asked = sum(len(x) for x, _ in u.calls) / len(x0)
    yield Look("the number of calls of the field per step", asked / (len(ts) - 1), 1)
    cut = "put the loop under torch.no_grad()"
    require(
        not getattr(found, "requires_grad", False), f"the samples still carry the gradient graph of every step; {cut}"
    )
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
    judge=ends,
    visible=[
        (torch.tensor([0.1, 0.25, 0.4, 0.7, 0.85, 1.0]), (5, 2)),
        (torch.tensor([0.0, 0.2, 0.5, 0.9], dtype=DOUBLE), (4, 1, 2, 3)),
        (torch.tensor([0.95, 0.6, 0.5, 0.15]), (3, 4)),
        (torch.tensor([0.3, 0.75]), (1, 3)),
    ],
    terms=lambda *args: (Way(*args),),
    mistakes={
        "the last interval is missing": lambda w: w.end(hs=w.hs[:-1]),
        "the first interval is missing": lambda w: w.end(w.ts[1:], w.hs[1:]),
        "all steps have the size of the first": lambda w: w.of_size(w.hs[:1]),
        "the times were taken as evenly spaced: use the interval between neighbours": lambda w: w.of_size(w.hs.mean()),
        "the grid is even, from the first time to the last; use the times between, too": lambda w: w.end(
            w.ts[0] + w.hs.mean() * torch.arange(len(w.ts)), w.hs.mean().expand_as(w.hs)
        ),
        "the interval was divided by the number of times, not of steps": lambda w: w.of_size(
            w.hs.sum() / (len(w.hs) + 1)
        ),
        "the times that are given were not used: these are even steps from 0 to 1": lambda w: w.end(
            torch.arange(len(w.ts)).to(w.ts) / len(w.ts), torch.ones_like(w.hs) / len(w.hs)
        ),
        "the field was evaluated at the end of each step; Euler's method takes its start": lambda w: w.end(w.ts + w.hs),
        "the field was evaluated in the middle of each step, not at its start": lambda w: w.end(w.ts + w.hs / 2),
        "the field was always evaluated at the first time": lambda w: w.end(w.ts[:1].expand_as(w.ts)),
        "the field was given a counter instead of the time": lambda w: w.end(torch.arange(len(w.ts)).to(w.ts)),
        "the field was evaluated at 1 − t": lambda w: w.end(1 - w.ts),
        "the times were walked backwards: start at ts[0]": lambda w: w.end((w.ts + w.hs).flip(0), -w.hs.flip(0)),
        "the steps have the wrong sign": lambda w: w.end(hs=-w.hs),
        "steps are negative where times decrease; here they are positive": lambda w: w.end(hs=w.hs.abs()),
        "the step size is missing": lambda w: w.end(hs=torch.ones_like(w.hs)),
        "the field was always evaluated at x0 instead of the present state": lambda w: (
            w.x0 + sum(h * w.u(w.x0, t) for t, h in zip(w.ts, w.hs)).detach()
        ),
        "nothing has moved": lambda w: w.x0,
        "this is Heun's method; Euler's looks once": lambda w: w.of_order_two(1.0),
        "this is the midpoint rule; Euler's method looks once, at the start": lambda w: w.of_order_two(0.5),
        "state and time are exchanged in a call: u(x, t)": lambda w: w.u(w.ts[0], w.x0),
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


def distances(a: Tensor, b: Tensor, p: float = 2.0) -> Tensor:
    return torch.cdist(a.flatten(1), b.flatten(1), p=p)


def energy(x, y, mixed=2.0, first=-1.0, second=-1.0, distance=lambda a, b: distances(a, b).mean()):
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
    judge=one_number,
    visible=[
        ((20, 2), (15, 2)),
        ((4, 1, 2, 3), (6, 1, 2, 3), DOUBLE),
        ((16, 2, 3, 2), (16, 2, 3, 2)),
        ((1, 4), (7, 4), DOUBLE),
        ((12, 3), None),
    ],
    mistakes={
        "the factor 2 of the mixed term is missing": partial(energy, mixed=1),
        "the mixed term alone was returned": partial(energy, mixed=1, first=0, second=0),
        "twice the mixed term alone was returned: subtract the two within": partial(energy, first=0, second=0),
        "the distances within the sets were added; subtract them": partial(energy, first=1, second=1),
        "the sign is reversed": lambda x, y: -energy(x, y),
        "E‖Y − Y'‖ is missing": partial(energy, second=0),
        "E‖X − X'‖ is missing": partial(energy, first=0),
        "halves were subtracted: within each set there is no factor ½": partial(energy, first=-0.5, second=-0.5),
        "the distances were squared; that sees nothing but the means": partial(
            energy, distance=lambda a, b: distances(a, b).square().mean()
        ),
        "distances were added up coordinate by coordinate; the norm is Euclidean": partial(
            energy, distance=lambda a, b: distances(a, b, p=1.0).mean()
        ),
        "a root was taken at the end": lambda x, y: energy(x, y).sqrt(),
        "pairs of a point with itself were left out; here the mean is over all pairs": lambda x, y: energy(
            x, y, first=-len(x) / (len(x) - 1), second=-len(y) / (len(y) - 1)
        ),
        "distances were summed, not averaged": partial(energy, distance=lambda a, b: distances(a, b).sum()),
        "points were compared with the same number in the other set alone; the mean is over all pairs": lambda x, y: (
            2 * squares(x[: len(y)] - y[: len(x)]).sqrt().mean()
        ),
        "this is the distance of the two means": lambda x, y: (x.mean(0) - y.mean(0)).norm(),
        "images were not made rows: flatten(1), so that a distance is one between whole points": partial(
            energy, distance=lambda a, b: torch.cdist(a, b).mean()
        ),
        "the norm runs over one axis of the images alone; flatten(1) makes each of them a row": partial(
            energy, distance=lambda a, b: (a[:, None] - b[None]).norm(dim=-1).mean()
        ),
    },
)
def energy_distance(shape, other, dtype=SINGLE):
    """Two sets of points, or twice the same one, whose distance is 0."""
    x = states(10, *shape, dtype=dtype)
    y = x.clone() if other is None else 0.5 + 2 * states(11, *other, dtype=dtype)
    a, b = x.flatten(1).tolist(), y.flatten(1).tolist()
    xy, xx, yy = (sum(math.dist(p, q) for p in c for q in d) / len(c) / len(d) for c, d in ((a, b), (a, a), (b, b)))
    what = f"the distance of {len(x)} points from {'themselves' if other is None else len(y)}"
    return Case(what, (x, y), 2 * xy - xx - yy, error=1e-5 if other is None else None)


class WayBack:
    """The way of the points x back along a field u, and the log density that it gives. Mistakes exchange a part.

    ts: the times in their order back; each step starts at one of them and has a size of hs.
    """

    def __init__(self, u, divergence, x, ts):
        self.u, self.divergence, self.x, self.ts, self.hs = u, divergence, x, ts.flip(0), ts.diff().flip(0)
        self.d = x[0].numel()

    def walked(self, ts=None, hs=None, shares=None, direction=-1, after=False, late=None):
        """X_0, and what each step adds to the integral. shares: the sizes there, if they are not hs. after: take the
        divergence after the move, at the times `late`."""
        ts, hs = self.ts if ts is None else ts, self.hs if hs is None else hs
        x, parts = self.x, []
        for t, h, share, other in zip(ts, hs, hs if shares is None else shares, ts if late is None else late):
            before, x = x, x + direction * h * self.u(x, t)
            parts.append(share * self.divergence(x if after else before, other))
        return x, parts

    def integral(self) -> Tensor:
        return sum(self.walked()[1])

    def log_p(self, sign=-1, half=0.5, constants=None, **walk) -> Tensor:
        """constants: how many ½ log 2π, by default one for each coordinate. half: the factor of ‖X_0‖²."""
        start, parts = self.walked(**walk)
        return self.normal(start, half, constants) + sign * sum(parts)

    def normal(self, x, half=0.5, constants=None) -> Tensor:
        constants = self.d if constants is None else constants
        return -half * squares(x) - constants / 2 * math.log(2 * math.pi)


@lab.exercise(
    reread=("eq-likelihood", "the last equation above the exercise"),
    passed="a density from nothing but a field",
    hints=(
        "You know the density at t = 0 and the point at t = 1. In which direction must the flow be followed?",
        "A step from t down to s moves x by −(t − s) u(x, t), and adds (t − s) div u(x, t) to the integral.",
        "At the end, log N(X_0; 0, I) sums over all coordinates, with ½ log 2π for each; subtract the integral.",
    ),
    withhold=("likelihood.log_likelihood",),
    library=lambda *args: WayBack(*args).log_p(),
    visible=[
        (torch.tensor([0.1, 0.25, 0.6, 0.95]), (5, 3), 0.0),
        (torch.tensor([0.2, 0.6], dtype=DOUBLE), (4, 1, 2, 3), 0.25),
        (torch.tensor([0.0, 0.1, 0.3, 0.45, 0.8, 1.0]), (1, 4), 0.0),
        (torch.tensor([0.3, 0.7]), (3, 2), -0.4),
    ],
    terms=lambda *args: (WayBack(*args),),
    mistakes={
        "the integral of the divergence has the wrong sign": lambda w: w.log_p(sign=1),
        "the integral of the divergence is missing": lambda w: w.log_p(sign=0),
        "the step size is missing in the integral": lambda w: w.log_p(shares=torch.ones_like(w.hs)),
        "only the last step's divergence was kept; add them all up": lambda w: w.log_p(sign=0) - w.walked()[1][-1],
        "the density p_0 was taken at x, not at X_0": lambda w: w.normal(w.x) - w.integral(),
        "the flow was followed forwards from x; it leads back to X_0": lambda w: w.log_p(direction=1),
        "the flow was followed forwards, from the first time on": lambda w: w.log_p(
            ts=w.ts.flip(0), hs=w.hs.flip(0), direction=1
        ),
        "the times were walked forwards": lambda w: w.log_p(ts=w.ts[:-1].flip(0), hs=w.hs.flip(0)),
        "steps and times do not fit together: both are to be reversed": lambda w: w.log_p(hs=w.hs.flip(0)),
        "field and divergence were evaluated at the time the step goes to": lambda w: w.log_p(ts=w.ts[1:]),
        "the divergence was evaluated after the move; take it where the step starts": lambda w: w.log_p(after=True),
        "the divergence was evaluated at the state and time that the step leads to": lambda w: w.log_p(
            after=True, late=w.ts[1:]
        ),
        "all steps have the same size": lambda w: w.log_p(hs=w.hs.mean().expand_as(w.hs)),
        "the earliest interval is missing": lambda w: w.log_p(hs=w.hs[:-1]),
        "the last interval is missing": lambda w: w.log_p(ts=w.ts[1:], hs=w.hs[1:]),
        "the normalising constant of N(0, I) is missing": lambda w: w.log_p(constants=0),
        "the normalising constant must be counted once per coordinate: d/2 log 2π": lambda w: w.log_p(constants=1),
        "of images d is the number of all coordinates, not of the first axis": lambda w: w.log_p(
            constants=w.x.shape[1]
        ),
        "the factor ½ of log 2π is missing": lambda w: w.log_p(constants=2 * w.d),
        "the normalising constant has the wrong sign": lambda w: w.log_p(constants=-w.d),
        "the factor ½ of ‖x‖² is missing": lambda w: w.log_p(half=1),
        "the mean over coordinates was taken; log densities of coordinates add up": lambda w: w.log_p(
            half=0.5 / w.d, constants=1
        ),
        "this is the density, not its logarithm": lambda w: w.log_p().exp(),
        "density and integral were mixed: take the logarithm of p_0": lambda w: w.log_p(sign=0).exp() - w.integral(),
        "log p_0 is missing": lambda w: -w.integral(),
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
    log_p0 = torch.distributions.Normal(0.0, 1.0).log_prob(start).flatten(1).sum(1)
    return Case(f"the log density of points of shape {shape[1:]}", (u, divergence, x, ts), log_p0 - integral)


# --- from any data to any data ----------------------------------------------------------------------------------------


def velocities(found: dict) -> dict:
    """Mistakes of `linear_path`: words → the velocity, beside the right state."""
    return {words: lambda a, b, t, f=f: (a + t * (b - a), f(a, b, t)) for words, f in found.items()}


def on_line(found: dict) -> dict:
    """Mistakes of `linear_path`: words → the state, beside the right velocity."""
    return {words: lambda a, b, t, f=f: (f(a, b, t), b - a) for words, f in found.items()}


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
    visible=[
        (times(5), (5, 2)),
        (times(4, dtype=DOUBLE), (4, 1, 2, 3), DOUBLE),
        (0.35, (1, 3)),
        (torch.tensor(0.8), (3, 2, 2, 3)),
        (1.0, (4, 2)),
        (torch.tensor([0.0, 0.3, 1.0]), (3, 4)),
    ],
    terms=lambda x0, x1, t: (x0, x1, coefficient(torch.as_tensor(t, dtype=x0.dtype), x0)),
    mistakes=on_line(
        {
            "x_0 and x_1 are exchanged: at t = 0 the state is x_0": lambda a, b, t: t * a + (1 - t) * b,
            "the weight 1 − t of x_0 is missing": lambda a, b, t: a + t * b,
            "x_1 was added to x_0 without its own weight": lambda a, b, t: (1 - t) * a + b,
            "parentheses are missing: the weight of x_0 is 1 − t": lambda a, b, t: 1 - t * a + t * b,
            "this is a curve with squared weights, not a line": lambda a, b, t: (1 - t**2) * a + t**2 * b,
            "the sign between the two parts of the state is wrong": lambda a, b, t: (1 - t) * a - t * b,
            "the first time was used for all states": lambda a, b, t: torch.lerp(a, b, t.reshape(-1)[0]),
        }
    )
    | velocities(
        {
            "the velocity points back: it leads from x_0 to x_1": lambda a, b, t: a - b,
            "this is what is left of the way, x_1 − x_t, not the velocity": lambda a, b, t: (1 - t) * (b - a),
            "this is the way so far, x_t − x_0, not the velocity": lambda a, b, t: t * (b - a),
            "the end point was returned; a velocity is a difference": lambda a, b, t: b,
            "the state was returned twice": lambda a, b, t: a + t * (b - a),
            "the velocity has the weights of the state": lambda a, b, t: t * b - (1 - t) * a,
            "the velocity is divided by 1 − t, which is 0 at t = 1": lambda a, b, t: (b - a) * (1 - t) / (1 - t),
            "the velocity is divided by 1 − t and a small number, and 0 at t = 1": lambda a, b, t: (
                (b - a) * (1 - t) / (1 - t + 1e-8)
            ),
            "the velocity is divided by t, which is 0 at t = 0": lambda a, b, t: (b - a) * t / t,
            "the velocity is divided by t and a small number, and 0 at t = 0": lambda a, b, t: (b - a) * t / (t + 1e-8),
        }
    )
    | {
        "state and velocity are exchanged": lambda a, b, t: (b - a, a + t * (b - a)),
        "x_0 and x_1 are exchanged in state and velocity": lambda a, b, t: (b + t * (a - b), a - b),
    },
)
def linear_path(t, shape, dtype=SINGLE):
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


OFF_LINE = shown(
    {
        "the pairs are turned round: x_0 belongs to t = 0": lambda m: m.a * m.noise + m.b * m.z,
        "the model was shown the starting points": lambda m: m.noise,
        "the model was shown the end points": lambda m: m.z,
        "the weight 1 − t of x_0 is missing": lambda m: m.noise + m.a * m.z,
    }
)
OFF_LINE |= aimed(
    {
        "the velocity points back: it leads from x_0 to x_1": lambda m: m.noise - m.z,
        "the model was compared with the end points; its target is x_1 − x_0": lambda m: m.z,
        "the model was compared with the starting points; its target is x_1 − x_0": lambda m: m.noise,
        "the target is what is left of the way, x_1 − x_t": lambda m: m.z - m.x,
        "parentheses are missing: all of x_1 − x_0 is subtracted": lambda m: m.z + m.noise,
        "the target is divided by 1 − t, which is 0 at t = 1": lambda m: (m.z - m.x) / m.b,
    }
)
OFF_LINE |= TIMES | REDUCED


def from_the_top(k: Tensor) -> Tensor:
    return torch.arange(len(k))


def pairs_made_once(answer, case):
    """What the first flow is asked, and when; the loss on some pairs; and that it leaves the first flow alone."""
    sample, x0 = case.args
    loss = answer.returned(answer(sample, x0), "what reflow returns")
    require(case.given, "sample was not called by reflow itself; make all pairs once, before the loss is defined")
    given = torch.cat(case.given)
    once = f"sample was asked for {len(given)} points to make {len(x0)} pairs; make each pair once"
    require(len(given) <= len(x0), once)
    yield Look("the set of starting points that sample is given", in_order(given), in_order(x0))
    answer(lambda x: x + 3, x0 - 1)  # another one beside it changes nothing
    yield from regression(loss, case.batch)
    again = "the loss called sample again; make the pairs once, outside of the loss"
    require(sum(map(len, case.given)) == len(given), again)
    back = torch.autograd.grad(loss(*case.batch.args).sum(), case.weight, allow_unused=True)[0]
    require(back is None, "gradients flow back into the first flow; the pairs are data: use .detach() or no_grad()")


def in_order(x: Tensor) -> Tensor:
    """The rows in an order of their own: pairs may be made in any."""
    return x[x.flatten(1)[:, 0].argsort()]


def library_reflow(sample, x0):
    """The library's loss, which takes a time for each pair, for one time, too."""
    loss = losses.reflow_loss(sample, x0)
    return lambda u, k, t: loss(u, k, torch.as_tensor(t).expand(len(k)))


@lab.exercise(
    reread=("eq-reflow", "the loss above the exercise"),
    passed="pairs that the flow itself has made",
    hints=(
        "Which of the two works is expensive and done once, and which is repeated at each training step?",
        "First make x1 from all of x0, as data without gradients; the inner function then picks the same rows of both.",
        "Inside: the state on the line from x0[k] to x1[k] at t, and the squared error against their difference.",
    ),
    withhold=("losses.reflow_loss",),
    library=library_reflow,
    judge=pairs_made_once,
    visible=[
        ((8, 3), [5, 0, 5, 3, 7], times(5)),
        ((6, 1, 2, 3), [2, 5, 1, 0], times(4, dtype=DOUBLE), DOUBLE),
        ((7, 2, 2, 3), [6, 2, 4], 0.35),
        ((5, 4), [3], torch.tensor(0.7)),
        ((6, 2), [5, 1, 3], torch.tensor([0.0, 1.0, 0.6])),
    ],
    terms=lambda sample, x0: (x0, sample(x0).detach()),
    mistakes={
        "the starts of other pairs were used: x0[k] belongs to x1[k]": straight(Batch.loss, start=from_the_top),
        "the end points of other pairs were used: x1[k] belongs to x0[k]": straight(Batch.loss, end=from_the_top),
        "k was not used: the first pairs were taken": straight(Batch.loss, from_the_top, from_the_top),
    }
    | {words: straight(change) for words, change in OFF_LINE.items()},
)
def reflow(shape, k, t, dtype=SINGLE):
    """The first flow ends at sin 3x + w x + 1."""
    x0, k, given, model = states(15, *shape, dtype=dtype), torch.tensor(k), [], model_for(shape, dtype)
    weight = torch.tensor(1.5, dtype=dtype, requires_grad=True)

    def sample(x):
        given.append(x.detach().clone())
        return torch.sin(3 * x) + weight * x + 1

    x1 = torch.sin(3 * x0) + 1.5 * x0 + 1
    x, velocity = on_path(lambda s, a, b: torch.lerp(a, b, s), t, x0[k], x1[k])
    batch = regression_case(f"{len(k)} pairs", model, (model, k, t), x, t, velocity)
    return Case("the loss", (sample, x0), batch=batch, given=given, weight=weight)
