"""Lab 3: flow matching.

Truth comes from elsewhere than the formulas asked for: velocities are time derivatives along known paths, by automatic
differentiation; gradient descent is that of least squares; fields are affine in x, so that Euler's steps are products.
"""

import math
import re
from functools import partial
from itertools import count, repeat

import torch
from torch import Tensor

from fmlab import losses, metrics, samplers, simulators
from fmlab.checks import judges
from fmlab.checks.compare import Look, describe, difference, require
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


def lerp(t, a: Tensor, b: Tensor) -> Tensor:
    return a + t * (b - a)


def regression(answer, case):
    """A loss on one batch: what the network is asked about, then the loss, a scalar, and its gradient."""
    found = answer(*case.args)
    yield from judges.shown(case.model, case.x, case.t)
    if isinstance(found, Tensor) and found.numel() == 1:
        require(found.shape == (), f"the loss should be a scalar tensor, of shape (), found {describe(found)}")
    yield from judges.loss_of(found, case.expected, case.model.weights, case.what)


def regression_case(of: str, args: tuple, x: Tensor, t, target: Tensor) -> Case:
    """A case of `regression`. args: those after the model, which is shown x and should answer the target."""
    model = Weighted(0.3 * x.ndim, -0.4, x.dtype)
    loss = (model.value(x, t) - target).square().sum() / len(x)
    return Case(f"the loss of {of}", (model, *args), loss, model=model, x=x, t=t)


def squares(error: Tensor) -> Tensor:
    """‖error‖² of each point: (n,)."""
    return error.flatten(1).square().sum(1)


def first(t) -> Tensor:
    return torch.as_tensor(t).reshape(-1)[0]


class Batch:
    """A batch of a regression. Mistakes exchange a part of its loss: the state x, the target, or the time t."""

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


REGRESSION = {  # mistakes of every regression: how errors become one number, and what becomes of the times
    "the mean was taken over coordinates too; sum over them": lambda m: m.error().square().mean(),
    "the losses of the batch were summed, not averaged": lambda m: m.error().square().sum(),
    "there is a factor ½ too many": lambda m: m.loss() / 2,
    "the norm was not squared": lambda m: squares(m.error()).sqrt().mean(),
    "images are summed over axis 1 alone; flatten(1) makes each a row": lambda m: m.error().square().sum(1).mean(),
    "images are summed over the last axis alone; flatten(1) first": lambda m: m.error().square().sum(-1).mean(),
    "the network was given the time 1 − t": lambda m: m.loss(t=1 - m.t),
    "the first time was used for the whole batch": lambda m: m.at(first(m.t)).loss(),
    "state and time are exchanged in a call: u(x, t)": lambda m: squares(m.u(m.t, m.x)).mean(),
}

OFF_PATH = REGRESSION | {  # and of the first two: states that are not x_t
    "the schedule was asked about the time 1 − t": lambda m: m.at(1 - m.t).loss(t=m.t),
    "this is the path of CondOT; use the schedule that is given": lambda m: m.at(m.t, CondOT()).loss(),
    "the network was shown the data z instead of the state x_t": lambda m: m.loss(x=m.z),
    "α_t and β_t are exchanged: α_t is the weight of the data": lambda m: m.loss(x=m.b * m.z + m.a * m.noise),
    "the noise was subtracted from the state": lambda m: m.loss(x=m.a * m.z - m.b * m.noise),
}


# --- regressions ------------------------------------------------------------------------------------------------------


@lab.exercise(
    reread=("eq-cfm", "the conditional flow matching loss, above the exercise"),
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
    ],
    terms=lambda *args: (Batch(*args),),
    mistakes=OFF_PATH
    | {
        "the target is that of CondOT; use the schedule that is given": lambda m: m.loss(target=m.z - m.noise),
        "the target has the weights α_t and β_t where it needs their derivatives": lambda m: m.loss(target=m.x),
        "α̇_t and β̇_t are exchanged": lambda m: m.loss(target=m.db * m.z + m.da * m.noise),
        "β̇_t ε has the wrong sign; β̇_t is negative by itself": lambda m: m.loss(target=m.da * m.z - m.db * m.noise),
        "the model was compared with the data; its target is a velocity": lambda m: m.loss(target=m.z),
        "the noise is missing from the target": lambda m: m.loss(target=m.da * m.z),
        "the data are missing from the target": lambda m: m.loss(target=m.db * m.noise),
    },
)
def conditional_flow_matching_loss(schedule, t, shape, dtype=SINGLE):
    z, noise = states(1, *shape, dtype=dtype), states(2, *shape, dtype=dtype)
    x, velocity = on_path(lambda s, z, e: schedule.alpha(s) * z + schedule.beta(s) * e, t, z, noise)
    return regression_case(f"a batch of shape {shape}", (z, t, noise, schedule), x, t, velocity)


class Source:
    """A function that draws data points, which are kept. Coordinates are near −0.8 or 1.2, so they are not normal."""

    def __init__(self, shape):
        self.shape, self.drawn = shape, []

    def __call__(self, n) -> Tensor:
        sign = 2 * torch.randint(2, (int(n), *self.shape)) - 1
        self.drawn.append(0.2 + sign + 0.3 * torch.randn(int(n), *self.shape))
        return self.drawn[-1].clone()


class Asked(Field):
    """A network that keeps what it is shown and what it said. The gradient of a loss in that tells its target."""

    def __init__(self):
        super().__init__(lambda x, t: torch.sin(x) + 0.5 * t - 0.7 * x * t)
        self.said = []

    def __call__(self, x, t, *labels):
        self.said.append(super().__call__(x, t, *labels).detach().requires_grad_())
        return self.said[-1]


class Shown:
    """One call of `batch_loss`: the data that were drawn, what the network was shown, and the target of the loss."""

    def __init__(self, answer, case):
        u, source, n, schedule = case.args
        source.drawn.clear(), u.calls.clear(), u.said.clear()
        loss = answer(*case.args)
        require(source.drawn, "sample_data was never called; the data points come from it, new ones at each call")
        self.z = torch.cat(source.drawn)
        require(len(self.z) > 1, "one data point was drawn for the whole batch; draw n of them")
        require(len(self.z) == n, f"a batch has {n} points, but {len(self.z)} data points were drawn")
        require(u.calls, "the network was never called")
        self.x = torch.cat([x for x, _ in u.calls])
        require(len(self.x) == n, f"a batch has {n} points, but the network was asked about {len(self.x)} states")
        shape = tuple(self.z.shape)
        require(self.x.shape == shape, f"states should have the shape of data, {shape}, found {tuple(self.x.shape)}")
        self.t = torch.cat([t.to(x).expand(len(x)) for x, t in u.calls])
        require(bool((self.t != self.t[0]).any()), "one time was drawn for the whole batch; draw one for each point")
        require(bool(((self.t >= 0) & (self.t <= 1)).all()), "times lie between 0 and 1; torch.rand draws such numbers")
        self.a, self.b, self.da, self.db = (weight.expand_as(self.z) for weight in schedule.weights(self.t, self.z))
        self.rest = self.x - self.a * self.z
        self.noise, self.clear = self.rest / self.b.clamp(min=1e-7), self.b.flatten(1)[:, 0] > 0.1
        self._differentiate(loss, u.said)

    def _differentiate(self, loss, said: list[Tensor]) -> None:
        """Whatever its target, a loss c Σ‖e‖² of the errors e has the gradient 2 c e: both tell the factor c."""
        found = isinstance(loss, Tensor) and loss.shape == ()
        require(found, f"the loss should be a scalar tensor, of shape (), found {describe(loss)}")
        cut = "no gradient reaches the network: return the tensor itself (no .item(), no .detach(), no torch.no_grad())"
        require(loss.requires_grad, cut)
        gradients = torch.autograd.grad(loss, said, allow_unused=True)
        require(all(gradient is not None for gradient in gradients), cut)
        g, self.loss = torch.cat(gradients), loss.detach()
        require(bool(g.isfinite().all()), "the gradient of the loss should be finite numbers, found nan or inf")
        sizes, rooted = squares(g), "the norm was not squared: the gradient is equally long for small and large errors"
        require(sizes.std() > 1e-3 * sizes.mean(), rooted)
        self.factor, self.said = float(sizes.sum() / (4 * self.loss)), torch.cat(said).detach()
        self.target = self.said - g / (2 * self.factor)


def share(part: Tensor, of: Tensor) -> Tensor:
    """How much of `of` is in `part`: the least-squares factor."""
    return (part * of).sum() / of.square().sum()


def size(part: Tensor, of: Tensor) -> Tensor:
    return (part.square().sum() / of.square().sum()).sqrt()


def whole_batches(answer, case):
    """Several batches: what is drawn for each, by its statistics; what the loss is then, exactly.

    The data are known, since they are drawn here; states then tell the noise, and gradients the target of the loss.
    Where one thing is wrong, all that follows from it is not looked at.
    """
    for look in batches_of(answer, case):
        yield look
        if difference(look):
            return


def batches_of(answer, case):
    batches = [Shown(answer, case) for _ in range(case.batches)]
    for batch in batches:
        yield Look("the factor of the squared errors, times n", batch.factor * len(batch.z), 1.0, tolerance=1e-3)
    one, other = batches[:2]
    again = "two calls drew the same {}; draw inside the function, and set no seed there"
    require(not torch.equal(one.t.unique(), other.t.unique()) or len(one.t.unique()) < 9, again.format("times"))
    clear = (one.b > 0.1) & (other.b > 0.1)
    require(not torch.allclose(one.noise[clear], other.noise[clear], atol=1e-2), again.format("noise"))
    each = bool((one.noise[one.clear].std(0) > 1e-2).all())
    require(each, "one noise was drawn for the whole batch; each point needs noise of its own")

    t, z, a, b, da, db, rest, noise, target, clear = (
        torch.cat([getattr(batch, name) for batch in batches])
        for name in ("t", "z", "a", "b", "da", "db", "rest", "noise", "target", "clear")
    )
    levels, each = torch.arange(1, 10) / 10, judges.ERRORS / math.sqrt(len(t))
    below, chance = (t[:, None] < levels).float().mean(0), each * (levels * (1 - levels)).sqrt()
    yield Look("the share of times below 0.1, 0.2, … 0.9", below, levels, error=chance)

    thirds = [(3 * t).long().clamp(max=2) == k for k in range(3)]
    weights, right = (torch.stack([share(part[k], z[k]) for k in thirds]) for part in (a * z + rest, a * z))
    sizes, levels = (torch.stack([part[k].square().mean().sqrt() for k in thirds]) for part in (rest, b))
    chance = judges.ERRORS / math.sqrt(min(map(torch.sum, thirds)) * z[0].numel())
    yield Look(
        "the weight of the data in the state, or the size of the noise, in thirds of the times,",
        torch.cat([weights, sizes]),
        torch.cat([right, levels]),
        error=chance,
    )
    yield from judges.normal(noise[clear])
    rows = torch.stack([t, z.flatten(1)[:, 0], noise.flatten(1)[:, 0]])
    together = torch.corrcoef(rows)[0, 1:]
    yield Look("the correlation of times with data and with noise", together, 0 * together, error=each)

    data, moved = da * z, db * noise
    left, rest = target - data, target - moved
    parts = torch.stack([share(rest, data), size(rest, data), share(left, moved), size(left, moved)])
    chance = 0.7 * each * max(size(moved, data), size(data, moved))
    what = "the weight or the size of data or noise in the target, over what it should be,"
    yield Look(what, parts, torch.ones_like(parts), error=chance)
    for batch in batches:
        loss = squares(batch.said - (batch.da * batch.z + batch.db * batch.noise)).mean()
        yield Look("the loss of a batch, over what it should be,", float(batch.loss / loss), 1.0, tolerance=1e-3)


def drawn(change=Batch.loss, time=lambda n, z: torch.rand(n), noise=torch.randn_like):
    """A mistake of `batch_loss`: the loss that `change` makes of a batch, or a part that is drawn otherwise."""

    def batch_loss(u, sample_data, n, schedule):
        z = sample_data(n)
        return change(Batch(u, z, time(n, z), noise(z), schedule))

    return batch_loss


def roll(rows: Tensor) -> Tensor:
    return rows.roll(1, 0)


@lab.exercise(
    reread=("about-batch", "the text above the exercise"),
    passed="fresh data, times and noise at every step",
    hints=(
        "Four things make one row of a batch: a data point, a time, noise, and the state they give. Which are drawn?",
        "z = sample_data(n), a time for each point from torch.rand(n), and noise from torch.randn_like(z).",
        "State and target need the same z, t and noise; with these three, your conditional loss does the rest.",
    ),
    withhold=("losses.flow_matching_loss",),
    library=lambda u, sample_data, n, schedule: losses.flow_matching_loss(u, GaussianPath(schedule), sample_data(n)),
    judge=whole_batches,
    random=True,
    visible=[(Cosine(), (2,), 110), (Bent(), (1, 2, 3), 91), (CondOT(0.1), (3,), 101)],
    mistakes={
        "the times are whole numbers, 0 or 1": drawn(time=lambda n, z: torch.randint(2, (n,)).float()),
        "the times are not uniform: those in the middle are too frequent": drawn(
            time=lambda n, z: torch.randn(n).sigmoid()
        ),
        "the times end before 1": drawn(time=lambda n, z: 0.8 * torch.rand(n)),
        "the times depend on the data": drawn(
            time=lambda n, z: torch.rand(n).sort()[0][z.flatten(1)[:, 0].argsort().argsort()]
        ),
        "the noise comes from torch.rand, evenly between 0 and 1; use torch.randn": drawn(noise=torch.rand_like),
        "the noise is uniform, not normal": drawn(noise=lambda z: (torch.rand_like(z) - 0.5) * 12**0.5),
        "the coordinates of a point share one number": drawn(
            noise=lambda z: coefficient(torch.randn(len(z)), z).expand_as(z)
        ),
        "pairs are mixed up: the target has the noise of another point": drawn(
            lambda m: m.loss(target=m.da * m.z + m.db * roll(m.noise))
        ),
        "pairs are mixed up: the target has the data of another point": drawn(
            lambda m: m.loss(target=m.da * roll(m.z) + m.db * m.noise)
        ),
        "pairs are mixed up: the target belongs to another state": drawn(lambda m: m.loss(target=roll(m.velocity))),
        "pairs are mixed up: the state has the data of another point": drawn(
            lambda m: m.loss(x=m.a * roll(m.z) + m.b * m.noise)
        ),
        "the state belongs to the time of another point": drawn(lambda m: m.at(roll(m.t)).loss(t=m.t)),
        "the target belongs to the time of another point": drawn(lambda m: m.loss(target=m.at(roll(m.t)).velocity)),
        "the target has the weights α_t and β_t where it needs their derivatives": drawn(lambda m: m.loss(target=m.x)),
        "α̇_t and β̇_t are exchanged": drawn(lambda m: m.loss(target=m.db * m.z + m.da * m.noise)),
        "the noise has one sign in the state and the other in the target": drawn(
            lambda m: m.loss(target=m.da * m.z - m.db * m.noise)
        ),
        "the target is that of CondOT; use the schedule that is given": drawn(lambda m: m.loss(target=m.z - m.noise)),
        "the model was compared with the data; its target is a velocity": drawn(lambda m: m.loss(target=m.z)),
        "the noise is missing from the target": drawn(lambda m: m.loss(target=m.da * m.z)),
        "the data are missing from the target": drawn(lambda m: m.loss(target=m.db * m.noise)),
    }
    | {
        words: drawn(OFF_PATH[words])
        for words in OFF_PATH
        if not re.search("norm was not|first time|noise was subtracted|schedule was asked", words)
    },
)
def batch_loss(schedule, shape, n):
    return Case("the loss of a batch", (Asked(), Source(shape), n, schedule), batches=24)


class Line:
    """The regression line for data N(mean, s² I). Mistakes exchange a part: mean, cov, var or gap."""

    def __init__(self, x, t, mean, s):
        self.x, self.t, self.mean, self.s = x, coefficient(torch.as_tensor(t, dtype=x.dtype), x), mean, s
        self.e = 1 - self.t
        self.cov, self.var = self.t * s**2 - self.e, self.t**2 * s**2 + self.e**2

    def at(self, **other) -> Tensor:
        parts = {"gap": self.x - self.t * self.mean} | vars(self) | other
        return parts["mean"] + parts["cov"] / parts["var"] * parts["gap"]


@lab.exercise(
    reread=("eq-regression", "the regression line, above the exercise"),
    passed="the regression line, which is the marginal field",
    hints=(
        "For jointly Gaussian variables the conditional mean is a line. Which means, variance and covariance fix it?",
        "The means: E[z − ε] = m and E x_t = t m. In the covariance of z − ε and x_t the noise has a minus.",
        "Var(x_t) is the sum of two squared weights times the variances s² and 1. Shape t with coefficient first.",
    ),
    withhold=("marginals.MixtureMarginal.vector_field",),
    library=lambda x, t, mean, std: (
        GaussianPath().marginal(Gaussian(mean.flatten(), std**2)).vector_field(x.flatten(1), t).reshape(x.shape)
    ),
    visible=[
        (times(6), (6, 2), 0.6),
        (times(4, dtype=DOUBLE), (4, 1, 2, 3), 1.7, DOUBLE),
        (0.4, (1, 3), 2.5),
        (torch.tensor(0.85), (3, 2, 2, 3), 0.3),
        (torch.tensor([1.0, 0.2, 0.0, 0.55], dtype=DOUBLE), (4, 2), 1.3, DOUBLE),
    ],
    terms=lambda *args: (Line(*args),),
    mistakes={
        "this is the conditional field that leads to m; data spread around it": lambda m: (m.mean - m.x) / m.e,
        "this is E[z | x_t], without the noise; the field is E[z − ε | x_t]": lambda m: m.at(cov=m.t * m.s**2),
        "the variance of the data is s², not s": lambda m: m.at(cov=m.t * m.s - m.e, var=m.t**2 * m.s + m.e**2),
        "the covariance has a plus where z − ε has a minus": lambda m: m.at(cov=m.t * m.s**2 + m.e),
        "parentheses are missing in the covariance, around 1 − t": lambda m: m.at(cov=m.t * m.s**2 - 1 - m.t),
        "the weights in Var(x_t) were not squared": lambda m: m.at(var=m.t * m.s**2 + m.e),
        "the noise is missing in Var(x_t)": lambda m: m.at(var=m.t**2 * m.s**2),
        "Var(x_t) is missing: divide the covariance by it": lambda m: m.at(var=1),
        "the standard deviation of x_t was used where its variance belongs": lambda m: m.at(var=m.var**0.5),
        "E[z − ε], the mean of the target, is missing": lambda m: m.at(mean=0),
        "E x_t is t m, not m": lambda m: m.at(gap=m.x - m.mean),
        "E x_t was left out": lambda m: m.at(gap=m.x),
        "parentheses are missing: the slope multiplies all of x − t m": lambda m: m.at(gap=m.x) - m.t * m.mean,
        "the sign of the slope is reversed": lambda m: m.at(cov=-m.cov),
        "t and 1 − t are exchanged": lambda m: Line(m.x, 1 - m.t, m.mean, m.s).at(),
        "the first time was used for all states": lambda m: Line(m.x, first(m.t), m.mean, m.s).at(),
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
    reread=("eq-step", "the equation above the exercise"),
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
        "the loss was called twice, on two batches; keep its result": deeds("zero_grad backward step", again=True),
        "backward() finds no graph: detach() or no_grad() cut it off": lambda m, loss, _: loss(m).detach().backward(),
        "the weights were moved by hand; the optimiser's own step does more": lambda model, loss, own: deeds(
            "zero_grad backward step"
        )(model, loss, torch.optim.SGD(model.parameters(), own.defaults["lr"])),
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
    """Euler's steps from the states x along a field u: at the times ts, of the sizes hs. Mistakes exchange these."""

    def __init__(self, u, x, ts):
        self.u, self.x, self.ts, self.hs, self.n = u, x, ts[:-1], ts.diff(), len(ts) - 1

    def steps(self, ts=None, hs=None):
        return zip(self.ts if ts is None else ts, self.hs if hs is None else hs)

    @torch.no_grad()
    def states(self, ts=None, hs=None) -> list[Tensor]:
        states = [self.x]
        for t, h in self.steps(ts, hs):
            states.append(states[-1] + h * self.u(states[-1], t))
        return states

    def end(self, ts=None, hs=None) -> Tensor:
        return self.states(ts, hs)[-1]


def ends(answer, case):
    """The end points, one call of the field per step, and no graph: neither kept until the end nor returned."""
    u, x0, ts = case.args
    found = answer(*case.args)
    several = isinstance(found, (list, tuple)) or getattr(found, "shape", ()) == (len(ts), *x0.shape)
    require(not several, f"only the states at the last time should come back, found {describe(found)}")
    yield Look(case.what, found.detach() if isinstance(found, Tensor) else found, case.expected)
    asked = sum(len(x) for x, _ in u.calls) / len(x0)
    yield Look("the number of calls of the field per step", asked / (len(ts) - 1), 1)
    cut, graph = "put the loop under torch.no_grad()", getattr(found, "requires_grad", False)
    require(not graph, f"the samples still carry the gradient graph of every step; {cut}")
    require(not any(case.graphs), f"the graph of all steps is kept until the end, and memory with it; {cut}")


@lab.exercise(
    reread=("eq-sampling", "the equation above the exercise"),
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
        (torch.tensor([0.1, 0.2, 0.4, 0.8, 0.85, 1.0]), (5, 2)),
        (torch.tensor([0.0, 0.2, 0.5, 0.9], dtype=DOUBLE), (4, 1, 2, 3)),
        (torch.tensor([0.95, 0.6, 0.5, 0.15]), (3, 4)),
        (torch.tensor([0.3, 0.75]), (1, 3)),
    ],
    terms=lambda *args: (Way(*args),),
    mistakes={
        "the last interval is missing": lambda w: w.end(hs=w.hs[:-1]),
        "the first interval is missing": lambda w: w.end(w.ts[1:], w.hs[1:]),
        "all steps have the size of the first": lambda w: w.end(hs=repeat(w.hs[0])),
        "the times were taken as evenly spaced; use each interval's size": lambda w: w.end(hs=repeat(w.hs.mean())),
        "these are even steps from 0 to 1; use the given times": lambda w: w.end(count(0, 1 / w.n), [1 / w.n] * w.n),
        "the field was evaluated at the end of each step; Euler's method takes its start": lambda w: w.end(w.ts + w.hs),
        "the field was always evaluated at the first time": lambda w: w.end(repeat(w.ts[0])),
        "the field was given a counter instead of the time": lambda w: w.end(count()),
        "the field was evaluated at 1 − t": lambda w: w.end(1 - w.ts),
        "the times were walked backwards: start at ts[0]": lambda w: w.end((w.ts + w.hs).flip(0), -w.hs.flip(0)),
        "the steps have the wrong sign": lambda w: w.end(hs=-w.hs),
        "steps are negative where times decrease; here they are positive": lambda w: w.end(hs=w.hs.abs()),
        "the step size is missing": lambda w: w.end(hs=repeat(1)),
        "the field was always evaluated at x0 instead of the present state": lambda w: (
            w.x + sum(h * w.u(w.x, t) for t, h in zip(w.ts, w.hs)).detach()
        ),
        "state and time are exchanged in a call: u(x, t)": lambda w: w.u(w.ts[0], w.x),
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


def energy(x, y, mixed=2.0, first=-1.0, second=-1.0, mean=torch.mean, row=lambda x: x.flatten(1)):
    """The energy distance, with other weights, another mean of distances, or other rows."""

    def distance(a, b):
        return mean(torch.cdist(row(a), row(b)))

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
        "the distances were squared; that sees the means alone": partial(energy, mean=lambda d: d.square().mean()),
        "pairs of a point with itself are missing in the means": partial(energy, mean=lambda d: d[d > 0].mean()),
        "distances were summed, not averaged": partial(energy, mean=torch.sum),
        "this is the distance of the two means": lambda x, y: (x.mean(0) - y.mean(0)).norm(),
        "images were not made rows; with flatten(1) each point is one": partial(energy, row=lambda x: x),
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


CONSTANT = math.log(2 * math.pi) / 2  # of a standard normal log density


class WayBack(Way):
    """The way of the points x back in time, with negative steps, and the log density that it gives."""

    def __init__(self, u, divergence, x, ts):
        super().__init__(u, x, ts.flip(0))
        self.divergence, self.d = divergence, x[0].numel()

    def log_p0(self, x=None) -> Tensor:
        """log N(x; 0, I), by default at X_0."""
        return -squares(self.end() if x is None else x) / 2 - self.d * CONSTANT

    def gain(self, states=None, ts=None, hs=None) -> Tensor:
        """What the divergence at the states adds to the log density."""
        return sum(h * self.divergence(x, t) for x, (t, h) in zip(states or self.states(), self.steps(ts, hs)))

    def log_p(self, ts=None, hs=None) -> Tensor:
        states = self.states(ts, hs)
        return self.log_p0(states[-1]) + self.gain(states, ts, hs)


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
        "the integral of the divergence has the wrong sign": lambda w: w.log_p0() - w.gain(),
        "the integral of the divergence is missing": lambda w: w.log_p0(),
        "the step size is missing in the integral": lambda w: w.log_p0() + w.gain(hs=repeat(-1)),
        "the density p_0 was taken at x, not at X_0": lambda w: w.log_p0(w.x) + w.gain(),
        "the flow was followed forwards from x; it leads back to X_0": lambda w: (
            w.log_p0(w.end(hs=-w.hs)) + w.gain(w.states(hs=-w.hs))
        ),
        "the times were walked forwards; begin with the last": lambda w: w.log_p(w.ts.flip(0), w.hs.flip(0)),
        "steps and times do not fit together: both are to be reversed": lambda w: w.log_p(hs=w.hs.flip(0)),
        "field and divergence were evaluated at the time the step goes to": lambda w: w.log_p(w.ts + w.hs),
        "the divergence was evaluated after the move, not before": lambda w: w.log_p0() + w.gain(w.states()[1:]),
        "the earliest interval is missing": lambda w: w.log_p(hs=w.hs[:-1]),
        "the last interval is missing": lambda w: w.log_p(w.ts[1:], w.hs[1:]),
        "the normalising constant of N(0, I) is missing": lambda w: w.log_p() + w.d * CONSTANT,
        "½ log 2π must be counted once per coordinate": lambda w: w.log_p() + (w.d - 1) * CONSTANT,
        "of images d counts all coordinates, not the first axis": lambda w: w.log_p() + (w.d - w.x.shape[1]) * CONSTANT,
        "the factor ½ of ‖x‖² is missing": lambda w: w.log_p() - squares(w.end()) / 2,
        "the mean over coordinates was taken; their log densities add up": lambda w: w.log_p0() / w.d + w.gain(),
        "log p_0 is missing": lambda w: w.gain(),
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
        (torch.tensor([0.0, 0.3, 1.0]), (3, 4)),
    ],
    terms=lambda a, b, t: (*on_path(lerp, t, a, b), a, b, coefficient(torch.as_tensor(t, dtype=a.dtype), a)),
    mistakes={
        "x_0 and x_1 are exchanged: at t = 0 the state is x_0": lambda x, v, a, b, t: (t * a + (1 - t) * b, v),
        "the weight 1 − t of x_0 is missing": lambda x, v, a, b, t: (a + t * b, v),
        "x_1 was added to x_0 without its own weight": lambda x, v, a, b, t: ((1 - t) * a + b, v),
        "parentheses are missing: the weight of x_0 is 1 − t": lambda x, v, a, b, t: (1 - t * a + t * b, v),
        "the first time was used for all states": lambda x, v, a, b, t: (lerp(first(t), a, b), v),
        "the velocity points back: it leads from x_0 to x_1": lambda x, v, *_: (x, -v),
        "this is what is left of the way, x_1 − x_t, not the velocity": lambda x, v, a, b, t: (x, b - x),
        "this is the way so far, x_t − x_0, not the velocity": lambda x, v, a, b, t: (x, x - a),
        "the end point was returned; a velocity is a difference": lambda x, v, a, b, t: (x, b),
        "the velocity is divided by 1 − t, which is 0 at t = 1": lambda x, v, a, b, t: (x, v * (1 - t) / (1 - t)),
        "divided by 1 − t + 1e-8, the velocity is 0 at t = 1": lambda x, v, a, b, t: (x, v * (1 - t) / (1 - t + 1e-8)),
        "the velocity is divided by t, which is 0 at t = 0": lambda x, v, a, b, t: (x, (x - a) / t),
        "state and velocity are exchanged": lambda x, v, *_: (v, x),
        "x_0 and x_1 are exchanged in state and velocity": lambda x, v, a, b, t: (b + t * (a - b), -v),
    },
)
def linear_path(t, shape, dtype=SINGLE):
    x0, x1 = states(13, *shape, dtype=dtype), states(14, *shape, dtype=dtype)
    state, velocity = on_path(lerp, t, x0, x1)
    return Case(f"for shape {shape}", (x0, x1, t), {"the state": state, "the velocity": velocity})


def straight(change, start=lambda k: k, end=lambda k: k):
    """A mistake of `reflow`: the loss that `change` makes of a batch of starts (its noise) and ends (its data)."""
    return lambda x0, x1: lambda u, k, t: change(Batch(u, x1[end(k)], t, x0[start(k)], CondOT()))


def top(k: Tensor) -> slice:
    return slice(len(k))


OFF_LINE = {
    "the pairs are turned round: x_0 belongs to t = 0": lambda m: m.loss(x=m.a * m.noise + m.b * m.z),
    "the model was shown the end points": lambda m: m.loss(x=m.z),
    "the velocity points back: it leads from x_0 to x_1": lambda m: m.loss(target=m.noise - m.z),
    "the model was compared with the end points; its target is x_1 − x_0": lambda m: m.loss(target=m.z),
    "the target is what is left of the way, x_1 − x_t": lambda m: m.loss(target=m.z - m.x),
    "parentheses are missing: all of x_1 − x_0 is subtracted": lambda m: m.loss(target=m.z + m.noise),
}


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
    """The library's loss takes a time for each pair; this one takes one time, too."""
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
        "the starts of other pairs were used: x0[k] belongs to x1[k]": straight(Batch.loss, start=top),
        "the end points of other pairs were used: x1[k] belongs to x0[k]": straight(Batch.loss, end=top),
        "k was not used: the first pairs were taken": straight(Batch.loss, top, top),
    }
    | {words: straight(change) for words, change in (OFF_LINE | REGRESSION).items()},
)
def reflow(shape, k, t, dtype=SINGLE):
    """The first flow ends at sin 3x + w x + 1."""
    x0, k, given = states(15, *shape, dtype=dtype), torch.tensor(k), []
    weight = torch.tensor(1.5, dtype=dtype, requires_grad=True)

    def sample(x):
        given.append(x.detach().clone())
        return torch.sin(3 * x) + weight * x + 1

    x1 = torch.sin(3 * x0) + 1.5 * x0 + 1
    x, velocity = on_path(lerp, t, x0[k], x1[k])
    batch = regression_case(f"{len(k)} pairs", (k, t), x, t, velocity)
    return Case("the loss", (sample, x0), batch=batch, given=given, weight=weight)
