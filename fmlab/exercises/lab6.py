"""Lab 6: guidance, networks with labels, and measures of what they draw.

Truth comes from elsewhere than the formulas asked for: the test network is affine in its label, so a guided field is
its own at a label beyond; losses are added up image by image; samples are those of the library's tested simulators;
measures are counted pair by pair.
"""

import math
from functools import cache
from itertools import accumulate
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from fmlab import guidance, losses, metrics, models, paths, samplers
from fmlab.checks import judges
from fmlab.checks.compare import Look, describe, fail, require
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Field, states, times
from fmlab.checks.lab import Lab
from fmlab.distributions import Gaussian
from fmlab.processes import ODE
from fmlab.schedules import coefficient
from fmlab.simulators import RK4, Euler, Midpoint, simulate

lab = Lab("lab6")

DOUBLE = torch.float64


class Labelled(nn.Module):
    """A network u(x, t, y) with two weights, affine in y, in which neighbouring pixels meet.

    As the library's networks it takes t as a number, of shape () or (n,), and labels, whole numbers, one or (n,).
    """

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.7, -0.2], dtype=dtype))
        self.field = Field(
            lambda x, t, y: torch.sin(x.roll(1, -1) + self.weights[0] * t) + self.weights[1] * y * (x - t)
        )

    def forward(self, x, t, y):
        y = torch.as_tensor(y)
        if y.is_floating_point() or y.ndim > 1:
            raise ValueError(f"labels are whole numbers, one for all states or in the shape (n,), got {describe(y)}")
        return self.field(x, t, y)

    def guided(self, x, t, y, w, null) -> Tensor:
        """The guided field: on the way from the null label to y, and beyond."""
        return self.field.value(x, t, null + w * (torch.as_tensor(y, dtype=DOUBLE) - null)).detach()


# --- guided fields ----------------------------------------------------------------------------------------------------


def mixed(weights=lambda w: (1 - w, w), null=lambda null: null, label=lambda y: y, time=lambda t: t):
    """A guided field with other weights of the field without and with the label, with other labels or times."""

    def guided_vector_field(u, y, w, empty):
        free, shown = weights(w)
        return lambda x, t: free * u(x, time(t), null(empty)) + shown * u(x, time(t), label(y))

    return guided_vector_field


@lab.exercise(
    reread=("eq-guided", "the guided field, above the exercise; w = 1 is unguided"),
    passed="the field without label, plus w times what the label changes",
    hints=(
        "What does the result have to be at w = 0, and what at w = 1?",
        "It is a weighted sum of two calls of u, one with the label and one with null; the weights add up to 1.",
        "Define a function of (x, t) inside yours that calls u twice, and return that function.",
    ),
    withhold=("guidance.guided_vector_field",),
    library=guidance.guided_vector_field,
    judge=judges.function,
    visible=[
        ((5, 2), 0.3, torch.tensor([0, 1, 2, 1, 0]), 2.5, 4),
        ((4, 1, 2, 3), times(4), 3, -0.7, 6),
        ((3, 1, 3, 2), torch.tensor(1.0, dtype=DOUBLE), torch.tensor([4, 0, 2]), 0.35, 5, DOUBLE),
        ((1, 3), 0.0, 2, 1.6, 8),
    ],
    mistakes={
        "w is counted from 0, with weights −w and 1 + w; w = 1 is the field of y": mixed(lambda w: (-w, 1 + w)),
        "the weights w and 1 − w are exchanged": mixed(lambda w: (w, 1 - w)),
        "the field without label lost its weight 1 − w": mixed(lambda w: (1, w)),
        "the weight of the field without label has the wrong sign": mixed(lambda w: (w - 1, w)),
        "the weight of the field with the label has the wrong sign": mixed(lambda w: (1 - w, -w)),
        "w is not used: this is the field of the label alone": mixed(lambda w: (0, 1)),
        "the label is not used: this is the field without label": mixed(lambda w: (1, 0)),
        "w was cut off at 1; beyond 1 it exaggerates": mixed(lambda w: (1 - min(w, 1), min(w, 1))),
        "only the difference of the two fields is returned": mixed(lambda w: (-w, w)),
        "parentheses are missing around 1 − w": lambda *args: lambda x, t: 1 + mixed(lambda w: (-w, w))(*args)(x, t),
        "label 0 was taken for the null label": mixed(null=lambda null: 0),
        "the null label is off by one: it is null, not null + 1": mixed(null=lambda null: null + 1),
        "the null label is off by one: it is null, not null − 1": mixed(null=lambda null: null - 1),
        "all points were given the label of the first": mixed(label=lambda y: int(torch.as_tensor(y).flatten()[0])),
        "the fields were asked at the time 1 − t": mixed(time=lambda t: 1 - t),
        "all points were given the time of the first": mixed(time=lambda t: torch.as_tensor(t).flatten()[0]),
        "x and t are exchanged: the state comes first": lambda *args: lambda x, t: mixed()(*args)(t, x),
    },
)
def guided_vector_field(shape, t, y, w, null, dtype=torch.float32):
    u, x = Labelled(dtype), states(1, *shape, dtype=dtype)
    asked = (f"the guided field at w = {w:g} for shape {shape}", (x, t), u.guided(x, t, y, w, null))
    return Case(asked[0], (u, y, w, null), calls=[asked], others=(u, y + 1, w - 1, null + 2))


# --- the loss ---------------------------------------------------------------------------------------------------------


def replaced(answer, case):
    """Labels come back, as many and of the kind that were given."""
    found = answer(*case.args)
    if isinstance(found, Tensor) and found.dtype == torch.bool:
        fail("what came back says which labels to drop; the labels themselves are wanted, some of them replaced")
    if isinstance(found, Tensor) and found.ndim == 1 and len(found) < len(case.args[0]):
        fail("dropped labels were taken out; they should be replaced, so that each image keeps a label")
    yield Look(case.what, found, case.expected)


def dropped(where=lambda r, q: r < q, then=lambda y, null: null):
    """Other labels are dropped, of numbers r and the share q, or something else is put in their place."""
    return lambda y, q, null, uniform: torch.where(where(uniform, q), then(y, null), y)


@lab.exercise(
    reread=("eq-drop", "the replacement, above the exercise: a label whose number is below q is dropped"),
    passed="each label is dropped with probability q",
    hints=(
        "Each label has a random number of its own. For which of the uniform numbers is the label dropped?",
        "A uniform number is below q with probability q.",
        "torch.where(condition, value where true, value where false) makes a new tensor and leaves y as it is.",
    ),
    withhold=("losses.drop_labels",),
    library=dropped(),
    judge=replaced,
    visible=[
        (12, 0.3, 7),
        (30, 0.65, 12, torch.int32, DOUBLE),
        (20, 0.07, 23),
        (1, 0.9, 5),
        (6, 0.0, 11),
        (5, 1.0, 9),
        (9, 0.375, 4, torch.int64, torch.float32, True),
    ],
    mistakes={
        "a label whose number is q itself was dropped; only those below q are": dropped(lambda r, q: r <= q),
        "it keeps a share q of the labels, those below q, and drops the others": dropped(lambda r, q: r >= q),
        "it keeps a share q of the labels: 1 − q stands where q should": dropped(lambda r, q: r < 1 - q),
        "labels with numbers above 1 − q were dropped, not those below q": dropped(lambda r, q: r >= 1 - q),
        "0.1 is written in where q should be used": dropped(lambda r, q: r < 0.1),
        "one number decided for all labels; each has its own": dropped(lambda r, q: r[0] < q),
        "nothing was dropped": dropped(lambda r, q: r < 0),
        "everything was dropped": dropped(lambda r, q: r >= 0),
        "q n labels were dropped, those with the smallest numbers; it is chance how many are below q": dropped(
            lambda r, q: r.argsort().argsort() < round(q * len(r))
        ),
        "dropped labels became 0, which is a digit; the null label says `no label`": dropped(then=lambda y, null: 0),
        "dropped labels became −1 instead of the null label": dropped(then=lambda y, null: -1),
        "dropped labels were given another label, not the null label": dropped(then=lambda y, null: y[0]),
        "the null label was added to a dropped label; it takes its place": dropped(then=lambda y, null: y + null),
        "10 is written in where null should be used": dropped(then=lambda y, null: 10),
        "the null label is off by one: it is null, not null + 1": dropped(then=lambda y, null: null + 1),
        "the null label is off by one: it is null, not null − 1": dropped(then=lambda y, null: null - 1),
    },
)
def drop_labels(n, q, null, kind=torch.int64, dtype=torch.float32, equal=False):
    """equal: whether one of the numbers is q."""
    y = (torch.arange(n) * 3 + 2).remainder(7).to(kind)
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(n + 1), dtype=dtype)
    uniform[0] = q if equal else uniform[0]
    kept = [null if number < q else label for number, label in zip(uniform.tolist(), y.tolist())]
    return Case(f"the tensor of labels for q = {q:g}", (y, q, null, uniform), torch.tensor(kept, dtype=kind))


def squares(error: Tensor) -> Tensor:
    return error.square().flatten(1).sum(1).mean()


def misread(
    x=lambda z, e, s: s * z + (1 - s) * e,
    target=lambda z, e: z - e,
    total=squares,
    ask=lambda u, x, t, y: u(x, t, y),
    shape=coefficient,
):
    """The loss with another state, target or norm, with the network asked otherwise, or times in another shape."""

    def guided_flow_matching_loss(u, z, y, t, noise):
        s = shape(t, z)
        return total(ask(u, x(z, noise, s), t, y) - target(z, noise))

    return guided_flow_matching_loss


@lab.exercise(
    reread=("eq-loss", "the loss, above the exercise"),
    passed="flow matching, with the label as an input",
    hints=(
        "It is the flow matching loss of lab 3, for a network that takes one argument more.",
        "Shape t as (n, 1, …, 1) to make x_t; hand the network t as it came, and the labels.",
        "Subtract the velocity z − ε from u(x_t, t, y), square, sum over all but the first axis, and take the mean.",
    ),
    withhold=("losses.guided_flow_matching_loss", "losses.flow_matching_loss"),
    library=lambda u, z, y, t, noise: losses.flow_matching_loss(
        lambda x, s: u(x, s, y), paths.GaussianPath(), z, x0=noise, times=lambda n, generator: t
    ),
    judge=judges.loss,
    visible=[
        ((5, 3), times(5), torch.tensor([4, 0, 1, 1, 3])),
        ((4, 1, 3, 4), times(4), torch.tensor([2, 0, 1, 5])),
        ((3, 2, 2, 3), torch.tensor([1.0, 0.35, 0.0], dtype=DOUBLE), torch.tensor([3, 6, 2]), DOUBLE),
        ((1, 4), times(1), torch.tensor([2])),
    ],
    mistakes={
        "the squares were averaged over the pixels; sum them": misread(total=lambda e: e.square().mean()),
        "axis 1 alone was summed; flatten(1) first": misread(total=lambda e: e.square().sum(1).mean()),
        "the last axis alone was summed; flatten(1) first": misread(total=lambda e: e.square().sum(-1).mean()),
        "the losses of the batch were summed, not averaged": misread(total=lambda e: e.square().sum()),
        "there is a factor ½": misread(total=lambda e: squares(e) / 2),
        "the norm was not squared": misread(total=lambda e: e.flatten(1).norm(dim=1).mean()),
        "absolute values were summed instead of squares": misread(total=lambda e: e.abs().flatten(1).sum(1).mean()),
        "the target is ε − z, the way back to noise": misread(target=lambda z, e: e - z),
        "the target is z; flow matching learns the velocity": misread(target=lambda z, e: z),
        "the target is ε; flow matching learns the velocity": misread(target=lambda z, e: e),
        "nothing was subtracted from the output of the network": misread(target=lambda z, e: 0),
        "the target is z + ε: are there parentheses missing around z − ε?": misread(target=lambda z, e: z + e),
        "t and 1 − t are exchanged in x_t": misread(x=lambda z, e, s: (1 - s) * z + s * e),
        "the noise does not fade in x_t: its weight is 1 − t": misread(x=lambda z, e, s: s * z + e),
        "the network was shown the clean data z instead of x_t": misread(x=lambda z, e, s: z),
        "t was spread along the last axis of z; it needs the shape (n, 1, …, 1)": misread(shape=lambda t, z: t),
        "t was shaped for points alone; coefficient(t, z) fits any z": misread(shape=lambda t, z: t[:, None]),
        "t was shaped for images alone; coefficient(t, z) fits any z": misread(shape=lambda t, z: t.view(-1, 1, 1, 1)),
        "x_t of all images was made with the first time": misread(shape=lambda t, z: t[0]),
        "the network was given the first time for all images": misread(ask=lambda u, x, t, y: u(x, t[0], y)),
        "the network was given 1 − t": misread(ask=lambda u, x, t, y: u(x, 1 - t, y)),
        "the labels did not reach the network: 10 was written in": misread(ask=lambda u, x, t, y: u(x, t, 10)),
        "the network was given the first label for all images": misread(ask=lambda u, x, t, y: u(x, t, int(y[0]))),
        "x_t and t are exchanged: the network takes the state first": misread(ask=lambda u, x, t, y: u(t, x, y)),
    },
)
def guided_flow_matching_loss(shape, t, y, dtype=torch.float32):
    u, z, noise = Labelled(dtype), states(2, *shape, dtype=dtype), states(3, *shape, dtype=dtype)
    each = [
        (u(s * data + (1 - s) * e, s, label) - (data - e)).square().sum()
        for data, e, s, label in zip(z.split(1), noise.split(1), t, y)
    ]
    return Case(f"the loss for shape {shape}", (u, z, y, t, noise), sum(each) / len(each), weights=u.weights)


# --- samples ----------------------------------------------------------------------------------------------------------


def evaluations(ahead=0.5, later=0.5, moves=1.0):
    """A step with two evaluations of the field, the second ahead and later by these parts of a step."""
    return lambda u, x, t, h: x + moves * h * u(x + ahead * h * u(x, t), t + later * h)


def walk(step=evaluations(), field=mixed(), times=lambda n: [k / n for k in range(n)], count=lambda n: n):
    """Sampling by another step, with another field, or with steps at other times. count: 1/h, of `steps`."""

    def sample_guided(u, y, w, null, noise, steps):
        guided, x = field(u, y, w, null), noise
        for t in times(count(steps)):
            x = step(guided, x, t, 1 / count(steps))
        return x

    return sample_guided


def last_state(answer, case):
    """The samples at t = 1, and not all states on the way."""
    found = answer(*case.args)
    *_, noise, steps = case.args
    if isinstance(found, (list, tuple)) or (isinstance(found, Tensor) and found.shape == (steps + 1, *noise.shape)):
        fail("all states came back; only the last one, at t = 1, is wanted")
    yield Look(case.what, found, case.expected)


@lab.exercise(
    reread=("eq-midpoint", "the midpoint rule, above the exercise"),
    passed="noise becomes images of the label asked for",
    hints=(
        "It is a simulation as in lab 1, with the guided field as the vector field and noise as the start.",
        "Step k starts at t = k h with h = 1/steps. One evaluation of the field leads half a step ahead, one moves.",
        "In a loop: half = x + h/2 · field(x, t), then x becomes x + h · field(half, t + h/2), in a new tensor.",
    ),
    withhold=("samplers.sample_flow",),
    library=lambda u, y, w, null, noise, steps: samplers.sample_flow(
        guidance.guided_vector_field(u, y, w, null), noise, steps
    ),
    judge=last_state,
    visible=[
        ((6, 2), torch.tensor([0, 1, 2, 2, 1, 0]), 2.5, 3, 7),
        ((3, 1, 2, 3), 4, 1.6, 2, 10, DOUBLE),
        ((1, 3), 1, -0.7, 5, 3),
        ((2, 1, 3, 2), 2, 0.35, 1, 1),
    ],
    mistakes={
        "these are Euler's steps; the midpoint rule evaluates the field twice, the second time half a step ahead": walk(
            evaluations(ahead=0.0, later=0.0)
        ),
        "these are Heun's steps; the midpoint rule uses the slope in the middle alone": walk(
            lambda u, x, t, h: x + h / 2 * (u(x, t) + u(x + h * u(x, t), t + h))
        ),
        "the second evaluation is at the time t instead of t + h/2": walk(evaluations(later=0.0)),
        "the second evaluation is at the time t + h instead of t + h/2": walk(evaluations(later=1.0)),
        "the second evaluation is at x; it should be at x̄, half a step ahead": walk(evaluations(ahead=0.0)),
        "x̄ is a whole step ahead; the second evaluation is half a step ahead": walk(evaluations(ahead=1.0)),
        "x is moved by half a step; the second evaluation moves it by h": walk(evaluations(moves=0.5)),
        "the steps have the wrong sign": walk(evaluations(ahead=-0.5, moves=-1.0)),
        "the step was made from x̄; it starts from x": walk(
            lambda u, x, t, h: evaluations()(u, x, t, h) + h / 2 * u(x, t)
        ),
        "the first step starts at t = h instead of 0": walk(times=lambda n: [(k + 1) / n for k in range(n)]),
        "the steps were counted 0, 1, 2, … where the field needs times": walk(times=range),
        "all steps start at t = 0": walk(times=lambda n: n * [0.0]),
        "there is one step too few": walk(times=lambda n: [k / n for k in range(n - 1)]),
        "there is one step too many": walk(times=lambda n: [k / n for k in range(n + 1)]),
        "there is one step too few, and all are too long": walk(count=lambda n: n - 1),
        "there is one step too many, and all are too short": walk(count=lambda n: n + 1),
        "10 steps are written in; steps is not used": walk(count=lambda n: 10),
        "a loop as long as t < 1 makes a step too many where the sum of the h falls short of 1 by a rounding": walk(
            times=lambda n: [t for t in accumulate([0.0, *n * [1 / n]]) if t < 1]
        ),
        "w is counted from 0, with weights −w and 1 + w": walk(field=mixed(lambda w: (-w, 1 + w))),
        "w is not used": walk(field=mixed(lambda w: (0, 1))),
        "the label is not used": walk(field=mixed(lambda w: (1, 0))),
        "the weights w and 1 − w are exchanged": walk(field=mixed(lambda w: (w, 1 - w))),
        "label 0 was taken for the null label": walk(field=mixed(null=lambda null: 0)),
        "the flow was run from t = 1 to 0": walk(
            evaluations(-0.5, -0.5, -1.0), times=lambda n: [1 - k / n for k in range(n)]
        ),
    },
)
def sample_guided(shape, y, w, null, steps, dtype=torch.float32):
    u, noise = Labelled(dtype), states(4, *shape, dtype=dtype)
    field, ts = ODE(lambda x, t: u.guided(x, t, y, w, null)), torch.linspace(0, 1, steps + 1, dtype=dtype)
    end = simulate(field, noise, ts, Midpoint())
    return Case(f"the state after steps = {steps}, at w = {w:g}", (u, y, w, null, noise, steps), end)


# --- measures ---------------------------------------------------------------------------------------------------------


def share(chosen=lambda logits: logits.argmax(1), of=torch.mean):
    """A fidelity by another choice of labels, or with the hits put together in another way."""
    return lambda logits, y: of((chosen(logits) == y).float())


@lab.exercise(
    reread=("eq-fidelity", "the share, above the exercise"),
    passed="the share of images that are recognised",
    hints=(
        "Which label does the classifier choose for an image, given its logits?",
        "Compare the position of the largest logit of each row with y.",
        "The mean of a comparison, made a float, is the share where it is true.",
    ),
    withhold=("metrics.fidelity",),
    library=metrics.fidelity,
    visible=[(11, 4, 0.8), (57, 10, 1.3, DOUBLE), (5, 3, 9.0), (6, 2, -9.0), (1, 6, 9.0)],
    mistakes={
        "this is the share of errors": share(of=lambda hits: 1 - hits.mean()),
        "the images recognised were counted; divide by their number": share(of=torch.sum),
        "this is a percentage; a share is between 0 and 1": share(of=lambda hits: 100 * hits.mean()),
        "the smallest logit was taken instead of the largest": share(lambda logits: logits.argmin(1)),
        "there is a softmax over the images (axis 0); each row is an image": share(lambda a: a.softmax(0).argmax(1)),
        "the largest logit was sought along the images (axis 0), not along the labels": share(lambda a: a.argmax(0)),
        "labels were counted from 1; the first is 0": share(lambda logits: logits.argmax(1) + 1),
        "probabilities were averaged; count the hits": lambda logits, y: logits.softmax(1)[range(len(y)), y].mean(),
        "the largest probabilities were averaged; count the hits": lambda logits, y: logits.softmax(1).amax(1).mean(),
        "the share was taken for each label, and then their mean": lambda logits, y: fmean(
            float((logits[y == k].argmax(1) == k).float().mean()) for k in y.unique()
        ),
    },
)
def fidelity(n, labels, lift, dtype=torch.float32):
    """lift: how much larger the label's logit is than the others, on average."""
    y = states(32, n).mul(labels).abs().long() % labels
    logits = states(31, n, labels, dtype=dtype)
    logits[range(n), y] += lift
    hits = [row.index(max(row)) == label for row, label in zip(logits.tolist(), y.tolist())]
    return Case(f"the share recognised of {n}, {labels} labels", (logits, y), sum(hits) / n)


def distances(images: Tensor) -> Tensor:
    """Of all pairs of different images of a class, each pair once."""
    return torch.pdist(images.flatten(1))


def within(of_class=lambda z: distances(z).mean(), over=lambda each: torch.stack(each).mean(), labels=torch.unique):
    """A diversity with another number for each class, put together in another way, or for other labels."""
    return lambda x, y: over([of_class(x[y == label]) for label in labels(y)])


@lab.exercise(
    reread=("eq-diversity", "the mean of means, above the exercise: pairs within a class"),
    passed="how much samples of one class differ",
    hints=(
        "Take one class first: which pairs are there, and how many?",
        "torch.pdist gives the distances of all pairs of different rows, each pair once.",
        "For each label in y.unique(), flatten its images and take the mean of pdist; then average these means.",
    ),
    withhold=("metrics.diversity",),
    library=metrics.diversity,
    visible=[
        ((9, 1, 3, 2), [2, 5, 5, 2, 5, 8, 8, 2, 5]),
        ((13, 2), [1, 11, 4, 4, 1, 4, 11, 4, 1, 4, 4, 11, 11], DOUBLE),
        ((5, 2, 2, 3), [3, 3, 3, 3, 3]),
    ],
    mistakes={
        "images were paired with themselves, at distance 0": within(lambda z: torch.cdist(*2 * [z.flatten(1)]).mean()),
        "all pairs were thrown together; average each class first": within(distances, lambda d: torch.cat(d).mean()),
        "pairs from different classes were counted too": lambda x, y: distances(x).mean(),
        "squared distances were averaged": within(lambda z: distances(z).square().mean()),
        "this is the root of a mean square; average distances": within(lambda z: distances(z).square().mean().sqrt()),
        "the distances were summed, not averaged": within(lambda z: distances(z).sum()),
        "the means were summed over the classes, not averaged": within(over=sum),
        "each distance was halved or each pair counted half": within(lambda z: distances(z).mean() / 2),
        "this is the distance from the mean of a class": within(
            lambda z: (z - z.mean(0)).flatten(1).norm(dim=1).mean()
        ),
        "this is a standard deviation, not a distance": within(lambda z: z.flatten(1).std(0).mean()),
        "absolute values were summed; take the Euclidean norm": within(lambda z: torch.pdist(z.flatten(1), 1).mean()),
        "squares were averaged over the pixels; sum them": within(lambda z: distances(z).mean() / z[0].numel() ** 0.5),
        "rows of pixels were compared, within one image; flatten(1) first": within(lambda z: torch.cdist(z, z).mean()),
        "all rows of pixels were compared; flatten(1) first": within(lambda z: torch.pdist(z.flatten(0, -2)).mean()),
        "rows of pixels were compared, of two images or one; flatten(1) first": within(
            lambda z: (z[:, None] - z).norm(dim=-1).mean()
        ),
        "classes that do not occur were counted, whose mean is nan": within(labels=lambda y: range(10)),
        "classes were numbered 0 … 9; larger labels are left out": within(labels=lambda y: y[y < 10].unique()),
        "a class counts for each run of its labels; y.unique() has it once": within(labels=torch.unique_consecutive),
        "this is the first class alone; average over the classes": within(over=lambda each: each[0]),
    },
)
def diversity(shape, labels, dtype=torch.float32):
    x, y = states(36, *shape, dtype=dtype) + 0.5, torch.tensor(labels)
    x = x * (1 + coefficient(y, x) / 5)  # so that classes differ
    means = []
    for label in set(labels):
        rows = [row for row, other in zip(x, labels) if other == label]
        means.append(fmean(float((a - b).norm()) for k, a in enumerate(rows) for b in rows[:k]))
    return Case(f"the mean distance within a class for shape {shape}", (x, y), fmean(means))


# --- the U-Net --------------------------------------------------------------------------------------------------------


def waves(frequencies=lambda k, size: math.pi * k, functions=(torch.cos, torch.sin)):
    """The embedding with other frequencies, of (k, size), or other functions of the angles."""

    def time_embedding(t, size):
        angles = t[:, None] * frequencies(torch.arange(1, size // 2 + 1).to(t), size)
        return torch.cat([function(angles) for function in functions], dim=1)

    return time_embedding


def embedded(answer, case):
    """As many numbers as asked for, in a row for each time."""
    found = answer(*case.args)
    (n, size), shape = case.expected.shape, getattr(found, "shape", ())
    if tuple(shape) == (size, n) != (n, size):
        fail(f"the embedding should have shape (n, size) = {(n, size)}, found {(size, n)}: times come first")
    if tuple(shape) == (n, 2 * size):
        fail("there are twice as many waves as asked for: size/2 cosines and size/2 sines make size numbers")
    yield Look(case.what, found, case.expected)


@lab.exercise(
    reread=("eq-waves", "the waves e(t), above the exercise"),
    passed="one number becomes slow and fast waves",
    hints=(
        "Make a table of angles first, a row for each time and a column for each k.",
        "torch.arange(1, size // 2 + 1) holds the k; t[:, None] makes a column of the times.",
        "Take cosine and sine of the table, and join the two along the second axis.",
    ),
    withhold=("models.time_embedding",),
    library=models.time_embedding,
    judge=embedded,
    visible=[(torch.tensor([0.0, 0.13, 0.35, 0.81, 1.0]), 6), (times(3, dtype=DOUBLE), 10), (torch.tensor([0.27]), 2)],
    mistakes={
        "sines come first; cosines should": waves(functions=(torch.sin, torch.cos)),
        "k runs from 0; the first wave should be k = 1": waves(lambda k, size: math.pi * (k - 1)),
        "π is missing": waves(lambda k, size: k),
        "the frequencies are 2πk instead of πk": waves(lambda k, size: 2 * math.pi * k),
        "all waves have the frequency π: k is missing": waves(lambda k, size: math.pi * k**0),
        "the frequencies are those of a text transformer, not πk": waves(lambda k, size: 1e4 ** (-2 * (k - 1) / size)),
        "frequencies double from wave to wave; they should be πk": waves(lambda k, size: math.pi * 2 ** (k - 1)),
        "all waves are sines": waves(functions=(torch.sin, torch.sin)),
        "all waves are cosines": waves(functions=(torch.cos, torch.cos)),
        "the sines have the wrong sign": waves(lambda k, size: -math.pi * k),
        "cosines and sines alternate; all cosines should come before all sines": lambda t, size: (
            waves()(t, size).unflatten(1, (2, -1)).mT.flatten(1)
        ),
        "16 is written in; size is not used": lambda t, size: waves()(t, 16),
        "t is a row; t[:, None] makes the column of a table": lambda t, size: t * torch.arange(1, size // 2 + 1),
    },
)
def time_embedding(t, size):
    rows = [[f(math.pi * k * s) for f in (math.cos, math.sin) for k in range(1, size // 2 + 1)] for s in t.tolist()]
    return Case(f"the embedding of size {size}", (t, size), torch.tensor(rows, dtype=t.dtype))


def layers(channels: int, size: int, normed: bool, dtype: torch.dtype) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Two convolutions and a linear layer as in the lab's U-Net, with weights that are always the same."""
    made = [nn.Sequential(), nn.Sequential(), nn.utils.skip_init(nn.Linear, size, channels)]
    for convolution in made[:2]:
        if normed:
            convolution.append(nn.utils.skip_init(nn.GroupNorm, 2, channels))
        convolution.append(nn.utils.skip_init(nn.Conv2d, channels, channels, 3, padding=1))
    for k, weight in enumerate(parameter for layer in made for parameter in layer.parameters()):
        weight.data = 0.4 * states(60 + k, *weight.shape, dtype=dtype)
    return tuple(made)


def block(formula=lambda x, s, f, g: x + g(silu(f(silu(x)) + s)), spread=lambda s: s[:, :, None, None]):
    """A block as a formula of x, the shift for each image and channel, first and second."""
    return lambda x, c, first, shift, second: formula(x, spread(shift(c)), first, second)


@lab.exercise(
    reread=("eq-block", "the block, above the exercise"),
    passed="the input, plus a correction that depends on time and label",
    hints=(
        "Follow the formula from the inside out. Where does the embedding come in?",
        "shift(c) is one number for each image and channel; the features have height and width as well.",
        "Index the shift with [:, :, None, None] before you add it, and do not forget to add x at the end.",
    ),
    library=block(),
    judge=judges.learning,
    # first as many images as channels, rows and columns, so that what is spread along a wrong axis fits
    visible=[((4, 4, 4, 4), 3, False), ((3, 4, 2, 5), 6, True), ((1, 2, 3, 2), 5, True, DOUBLE)],
    mistakes={
        "the input x is not added at the end": block(lambda x, s, f, g: g(silu(f(silu(x)) + s))),
        "the embedding is not used": block(lambda x, s, f, g: x + g(silu(f(silu(x))))),
        "the first silu is missing": block(lambda x, s, f, g: x + g(silu(f(x) + s))),
        "the second silu is missing": block(lambda x, s, f, g: x + g(f(silu(x)) + s)),
        "both silu are missing": block(lambda x, s, f, g: x + g(f(x) + s)),
        "relu was used instead of silu": block(lambda x, s, f, g: x + g((f(x.relu()) + s).relu())),
        "silu should come before the convolutions, not after": block(lambda x, s, f, g: x + silu(g(silu(f(x) + s)))),
        "the shift was added after the second convolution": block(lambda x, s, f, g: x + g(silu(f(silu(x)))) + s),
        "the shift was added before the first convolution": block(lambda x, s, f, g: x + g(silu(f(silu(x) + s)))),
        "the shift was added after the silu; it belongs inside": block(lambda x, s, f, g: x + g(silu(f(silu(x))) + s)),
        "the shift multiplies; it should be added": block(lambda x, s, f, g: x + g(silu(f(silu(x)) * s))),
        "the shift was subtracted": block(lambda x, s, f, g: x + g(silu(f(silu(x)) - s))),
        "the embedding went through silu before the shift": lambda x, c, *layers: block()(x, silu(c), *layers),
        "the shift was spread along the wrong axes: one number for each image and channel": block(spread=lambda s: s),
        "the shift of other images was added; each has its own": block(spread=lambda s: s.T[:, :, None, None]),
        "silu(x) was added at the end instead of x": block(lambda x, s, f, g: silu(x) + g(silu(f(silu(x)) + s))),
        "the two convolutions are exchanged": block(lambda x, s, f, g: x + f(silu(g(silu(x)) + s))),
    },
)
def residual_block(shape, size, normed, dtype=torch.float32):
    first, second, shift = layers(shape[1], size, normed, dtype)
    given = states(43, *shape, dtype=dtype), states(44, shape[0], size, dtype=dtype)
    x, c = (value.requires_grad_() * 1 for value in given)  # as they come from layers before
    h = first(x / (1 + torch.exp(-x))) + torch.einsum("nc,nchw->nchw", shift(c), torch.ones_like(x))
    expected = x + second(h / (1 + torch.exp(-h)))
    weights = [x, c, *(weight for layer in (first, second, shift) for weight in layer.parameters())]
    return Case(f"the output for shape {shape}", (x, c, first, shift, second), expected, weights=weights)


# --- memory -----------------------------------------------------------------------------------------------------------


def one_each(answer, case):
    """A distance for each image of x, and nothing else."""
    found, (x, data) = answer(*case.args), case.args
    if len(x) > 1 and (isinstance(found, (int, float)) or (isinstance(found, Tensor) and found.numel() == 1)):
        fail("each image should get a distance of its own, (n,); found one number: was a mean taken?")
    if isinstance(found, tuple) and len(found) == 2:
        fail("both came back, the distances and which images are nearest; only the distances are wanted")
    if isinstance(found, Tensor) and not found.is_floating_point():
        fail("what came back says which image is nearest; the distance to it is wanted")
    if isinstance(found, Tensor) and found.shape == data.shape[:1] != x.shape[:1]:
        fail("a distance for each of the data came back; one for each image of x is wanted")
    yield Look(case.what, found, case.expected)


def measured(measure):
    """Another measure of the differences of all images of x from all of the data, (n, N, pixels)."""
    return lambda x, data: measure(x.flatten(1)[:, None] - data.flatten(1))


@lab.exercise(
    reread=("eq-nearest", "the distance d(x), above the exercise"),
    passed="how far each image is from the nearest training image",
    hints=(
        "Imagine a table with the distance of every image of x from every image of the data. What is wanted of a row?",
        "torch.cdist makes that table from two sets of flattened images.",
        "Flatten both with flatten(1), take torch.cdist, and the minimum along the axis of the data.",
    ),
    withhold=("metrics.nearest_neighbour_distance",),
    library=metrics.nearest_neighbour_distance,
    judge=one_each,
    visible=[((1, 3, 2), 4, 6), ((2, 2, 3), 7, 5, DOUBLE), ((2,), 3, 8), ((3,), 1, 4)],
    mistakes={
        "this is the distance to the farthest image": measured(lambda d: d.norm(dim=2).amax(1)),
        "this is the mean distance to all images": measured(lambda d: d.norm(dim=2).mean(1)),
        "this is the distance to the second nearest image": measured(lambda d: d.norm(dim=2).sort(1).values[:, 1]),
        "the distances are squared": measured(lambda d: d.square().sum(2).amin(1)),
        "absolute values were summed; take the Euclidean norm": measured(lambda d: d.abs().sum(2).amin(1)),
        "the squares were averaged over the pixels; sum them": measured(lambda d: d.square().mean(2).sqrt().amin(1)),
        "the nearest was sought for each pixel by itself": measured(lambda d: d.abs().amin(1).norm(dim=1)),
        "images were compared row by row with the data": lambda x, data: (x - data[: len(x)]).flatten(1).norm(dim=1),
        "this is the distance to the mean of the data": lambda x, data: (x - data.mean(0)).flatten(1).norm(dim=1),
        "this is the distance to the first of the data": lambda x, data: (x - data[0]).flatten(1).norm(dim=1),
        "these are lengths of the images themselves": lambda x, data: x.flatten(1).norm(dim=1),
    },
)
def nearest_neighbour_distance(shape, n, many, dtype=torch.float32):
    x, data = states(37, n, *shape, dtype=dtype), states(38, many, *shape, dtype=dtype) + 0.3
    if dtype is DOUBLE:  # where distances by ‖x‖² + ‖z‖² − 2xᵀz, too, are near enough to 0
        x[1] = data[2]  # a copy
    nearest = [min(float((a - b).norm()) for b in data) for a in x]
    expected = torch.tensor(nearest, dtype=dtype)
    return Case(f"the distance to the nearest of {many} for shape {shape}", (x, data), expected)


# --- the law that guidance samples, and both calls in one -------------------------------------------------------------


@cache
def simulated_std(s: float, S: float, w: float) -> float:
    """Half the distance at which −1 and 1 end, by the exact fields of N(0.8, s²) and N(−0.3, S²)."""
    laws = [Gaussian(torch.tensor([mean], dtype=DOUBLE), std**2) for mean, std in ((0.8, s), (-0.3, S))]
    label, free = (paths.GaussianPath().marginal(law).vector_field for law in laws)
    ends = torch.tensor([[-1.0], [1.0]], dtype=DOUBLE)
    ends = simulate(
        ODE(lambda x, t: w * label(x, t) + (1 - w) * free(x, t)), ends, torch.linspace(0, 1, 51, dtype=DOUBLE), RK4()
    )
    return float(ends[1] - ends[0]) / 2


@lab.exercise(
    reread=("eq-guided-spread", "how the distance of two trajectories grows, above the exercise"),
    passed="a law whose spread is a product of powers",
    hints=(
        "The left side is the derivative of log d. Which functions have the two quotients on the right as derivatives?",
        "Integrate from 0 to 1: log(d_1/d_0) = w (log σ_1 − log σ_0) + (1 − w) (the same for ∅). What are σ_0 and σ_1?",
        "σ_0 = 1 and σ_1 = s, and for all numbers 1 and S. Take the exponential of w log s + (1 − w) log S.",
    ),
    withhold=("guidance.guided_std",),
    library=guidance.guided_std,
    visible=[(0.6, 1.4, 1.7), (0.8, 0.35, 0.4), (0.45, 1.2, 3.0), (1.3, 0.9, -0.6)],
    mistakes={
        "this is the spread of the tilted law p(x | y)^w p(x)^(1 − w); the flow of the guided field ends elsewhere": (
            lambda s, S, w: abs(w / s**2 + (1 - w) / S**2) ** -0.5
        ),
        "this is the variance; its root is wanted": lambda s, S, w: (s**w * S ** (1 - w)) ** 2,
        "s and S are exchanged": lambda s, S, w: S**w * s ** (1 - w),
        "this is log d₁; take its exponential": lambda s, S, w: w * math.log(s) + (1 - w) * math.log(S),
        "the spreads were mixed as the fields are; it is their logarithms that are": lambda s, S, w: (
            w * s + (1 - w) * S
        ),
        "the variances were mixed as the fields are": lambda s, S, w: abs(w * s**2 + (1 - w) * S**2) ** 0.5,
        "S has the exponent w − 1; it should be 1 − w": lambda s, S, w: s**w * S ** (w - 1),
        "S lost its exponent 1 − w": lambda s, S, w: s**w * S,
        "S does not occur": lambda s, S, w: s**w,
        "w is counted from 0, with exponents 1 + w and −w": lambda s, S, w: s ** (1 + w) * S**-w,
        "w is not used: this is the spread for w = 1": lambda s, S, w: s,
        "the exponents stand for factors: w s (1 − w) S": lambda s, S, w: w * s * (1 - w) * S,
    },
)
def guided_std(s, S, w):
    return Case(f"the standard deviation for s = {s:g}, S = {S:g}, w = {w:g}", (s, S, w), simulated_std(s, S, w))


def joined(
    put=lambda free, shown, w: (1 - w) * free + w * shown,
    labels=lambda y, null: torch.cat([torch.full_like(y, null), y]),
    times=lambda t: t.repeat(2),
    states=lambda x: torch.cat([x, x]),
    cut=lambda both: both.chunk(2),
):
    """One call of twice as many rows, with other labels, times or states, cut or mixed otherwise."""

    def batch_guidance(u, x, t, y, w, null):
        t, y = torch.as_tensor(t).to(x).expand(len(x)), torch.as_tensor(y).expand(len(x))
        return put(*cut(u(states(x), times(t), labels(y, null))), w)

    return batch_guidance


def in_one_call(answer, case):
    """The guided velocity, for which the network was called once."""
    u = case.args[0]
    found = answer(*case.args)
    n = len(case.args[1])
    if isinstance(found, Tensor) and found.shape[:1] == (2 * n,):
        fail(
            f"{2 * n} rows came back, those of both fields; they should be mixed to one velocity for each of {n} states"
        )
    yield Look(case.what, found, case.expected)
    yield from judges.counted(u.field.calls, 1, "the number of calls of the network")


@lab.exercise(
    reread=("eq-one-batch", "both calls as one, above the exercise"),
    passed="two fields by one call",
    hints=(
        "Which rows does the network see? First all states with the null label, then the same states with theirs.",
        "torch.as_tensor(y).expand(len(x)) makes one label one for each row; a time of shape () may stay as it is.",
        "Cut what comes back by .chunk(2), and mix the halves with the weights 1 − w and w.",
    ),
    withhold=("guidance.batch_guidance",),
    library=guidance.batch_guidance,
    judge=in_one_call,
    visible=[
        ((5, 2), 0.3, torch.tensor([0, 1, 2, 1, 3]), 2.5, 4),
        ((4, 1, 2, 3), times(4), 3, -0.7, 6),
        ((3, 1, 3, 2), torch.tensor(0.8, dtype=DOUBLE), torch.tensor([4, 0, 2]), 0.35, 5, DOUBLE),
        ((2, 3), times(2), torch.tensor([2, 5]), 1.6, 8),
        ((1, 3), times(1), torch.tensor([2]), 1.3, 7),
    ],
    mistakes={
        "the network was called twice; give it both halves in one batch": lambda u, x, t, y, w, null: (
            (1 - w) * u(x, t, null) + w * u(x, t, y)
        ),
        "the halves are exchanged: the label's has the weight w": joined(
            lambda free, shown, w: (1 - w) * shown + w * free
        ),
        "w is counted from 0, with weights −w and 1 + w": joined(lambda free, shown, w: (1 + w) * shown - w * free),
        "only the difference of the halves is returned": joined(lambda free, shown, w: w * (shown - free)),
        "the half without label lost its weight 1 − w": joined(lambda free, shown, w: free + w * shown),
        "the half with the label is not used": joined(lambda free, shown, w: free),
        "this is the field of the label alone; do both halves have the label, or is one not used?": joined(
            labels=lambda y, null: torch.cat([y, y])
        ),
        "label 0 was taken for the null label": joined(labels=lambda y, null: torch.cat([0 * y, y])),
        "all points were given the label of the first": joined(
            labels=lambda y, null: torch.cat([torch.full_like(y, null), y[:1].expand(len(y))])
        ),
        "all points were given the time of the first": joined(times=lambda t: t[:1].expand(2 * len(t))),
        "the times are in another order than the states: repeat_interleave puts each beside its copy": joined(
            times=lambda t: t.repeat_interleave(2)
        ),
        "the states stand beside their copies, labels and times do not": joined(
            states=lambda x: x.repeat_interleave(2, 0)
        ),
        "every other row was taken for a half; the halves stand one after the other": joined(
            cut=lambda both: (both[::2], both[1::2])
        ),
    },
)
def batch_guidance(shape, t, y, w, null, dtype=torch.float32):
    u, x = Labelled(dtype), states(5, *shape, dtype=dtype)
    what = f"the guided velocity at w = {w:g} for shape {shape}"
    return Case(what, (u, x, t, y, w, null), u.guided(x, t, y, w, null))


# --- other ways to guide ----------------------------------------------------------------------------------------------


@torch.enable_grad()  # in the grader's process as in the student's
def likelihood(x, t):
    """A log-likelihood in which neighbouring pixels meet: t Σ x_i x_{i+1} + Σ sin x_i, for t of any shape."""
    t = coefficient(torch.as_tensor(t).to(x), x)
    return (t * x * x.roll(1, -1) + torch.sin(x)).flatten(1).sum(1)


def slope(x, t):
    """Its gradient, worked out by hand."""
    t = coefficient(torch.as_tensor(t).to(x), x)
    return t * (x.roll(1, -1) + x.roll(-1, -1)) + torch.cos(x)


def drift() -> Field:
    return Field(lambda x, t: torch.sin(x.roll(1, -1) - 2 * t) + x * t**2)


def pushed(
    kappa=lambda t: (1 - t) / t,
    put=lambda u, push, w: u + w * push,
    ask=lambda grad, x, t: grad(x, t),
    time=lambda t: t,
):
    """A field with another push: kappa times the gradient of what is asked, put together with u and w."""

    def classifier_guided_field(u, log_likelihood, w):
        def gradient(x, t):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                return torch.autograd.grad(log_likelihood(x, t).sum(), x)[0]

        def field(x, t):
            each = coefficient(time(torch.as_tensor(t).to(x)), x)
            return put(u(x, t), kappa(each) * ask(gradient, x, t), w)

        return field

    return classifier_guided_field


def function_while_sampling(answer, case):
    """As `judges.function`, where gradients are switched off first, as samplers do."""
    with torch.no_grad():
        yield from judges.function(answer, case)
    said = "the state that was given requires a gradient now; ask for one in a copy, x.detach().requires_grad_()"
    require(not any(args[0].requires_grad for _, args, _ in case.calls), said)


@lab.exercise(
    reread=("eq-classifier", "the field with a push, above the exercise"),
    passed="a push towards what the classifier takes for y",
    hints=(
        "The gradient of the sum over the rows holds, in each row, the gradient of that row's own log-likelihood.",
        "x.detach().requires_grad_() makes a copy that is differentiated; do it under `with torch.enable_grad():`.",
        "It is torch.autograd.grad(log_likelihood(x, t).sum(), x)[0], times w and coefficient((1 - t) / t, x).",
    ),
    withhold=("guidance.classifier_guided_field",),
    library=guidance.classifier_guided_field,
    judge=function_while_sampling,
    visible=[
        ((5, 3), 0.3, 1.7),
        ((4, 1, 2, 3), times(4), -0.6),
        ((3, 1, 3, 2), torch.tensor(0.85, dtype=DOUBLE), 2.4, DOUBLE),
        ((1, 4), times(1, 0.02, 0.2), 0.35),
    ],
    mistakes={
        "the factor (1 − t)/t is missing": pushed(lambda t: t**0),
        "the factor is upside down: it is (1 − t)/t": pushed(lambda t: t / (1 - t)),
        "the factor is 1 − t; it should be divided by t": pushed(lambda t: 1 - t),
        "the factor is 1/t; it should be (1 − t)/t": pushed(lambda t: 1 / t),
        "the factor is (1 − t)²/t²": pushed(lambda t: (1 - t) ** 2 / t**2),
        "the push has the wrong sign": pushed(put=lambda u, push, w: u - w * push),
        "w is not used": pushed(put=lambda u, push, w: u + push),
        "w is counted from 0: the push has the weight 1 + w": pushed(put=lambda u, push, w: u + (1 + w) * push),
        "the field u got a weight 1 − w; here it has none": pushed(put=lambda u, push, w: (1 - w) * u + w * push),
        "the field u is missing": pushed(put=lambda u, push, w: w * push),
        "the push is missing": pushed(put=lambda u, push, w: u),
        "w multiplies the field, too": pushed(put=lambda u, push, w: w * (u + push)),
        "the gradient is that of a mean over the rows; take the sum": pushed(
            ask=lambda grad, x, t: grad(x, t) / len(x)
        ),
        "the classifier was asked at 1 − t": pushed(ask=lambda grad, x, t: grad(x, 1 - t)),
        "all points were given the factor of the first": pushed(time=lambda t: t.flatten()[0]),
        "all points were given the time of the first": pushed(
            ask=lambda grad, x, t: grad(x, torch.as_tensor(t).flatten()[0])
        ),
    },
)
def classifier_guided_field(shape, t, w, dtype=torch.float32):
    u, x = drift(), states(6, *shape, dtype=dtype)
    time = torch.as_tensor(t).to(x)
    expected = u.value(x, t) + coefficient(w * (1 / time - 1), x) * slope(x, t)
    asked = (f"the field at w = {w:g} for shape {shape}", (x, t), expected)
    others = (u, lambda x, t: -likelihood(x, t), w + 1)
    return Case(asked[0], (u, likelihood, w), calls=[asked], others=others)


def within(
    inside=lambda t, a, b: (a <= t) & (t < b),
    weights=lambda w: (1 - w, w),
    outside=1.0,
    scale=lambda scale: scale,
):
    """Guidance at other times, with other weights, or another scale at other times."""

    def guidance_in_interval(u, y, w, null, start, end):
        def field(x, t):
            chosen = inside(torch.as_tensor(t).to(x), start, end)
            free, shown = weights(coefficient(scale(torch.where(chosen, w, outside).to(x)), x))
            return free * u(x, t, null) + shown * u(x, t, y)

        return field

    return guidance_in_interval


@lab.exercise(
    reread=("eq-interval", "the scale at each time, above the exercise"),
    passed="guided for a while",
    hints=(
        "Only the scale changes. What is the guided field at the scale 1?",
        "A time may be a number or a tensor: torch.as_tensor(t) has comparisons and torch.where for both.",
        "The scale is torch.where((start <= t) & (t < end), w, 1.0); coefficient(scale, x) gives it the shape of x.",
    ),
    withhold=("guidance.guidance_in_interval",),
    library=lambda u, y, w, null, start, end: guidance.guidance_in_interval(u, y, w, start, end, null),
    judge=judges.function,
    visible=[
        ((6, 2), torch.tensor([0.1, 0.25, 0.4, 0.62, 0.75, 0.9]), torch.tensor([0, 1, 2, 1, 0, 3]), 2.5, 4, 0.25, 0.75),
        ((4, 1, 2, 3), torch.tensor([0.3, 0.55, 0.8, 0.95]), 3, 3.5, 6, 0.375, 0.875),
        ((3, 1, 3, 2), torch.tensor(0.7, dtype=DOUBLE), torch.tensor([4, 0, 2]), 1.75, 5, 0.625, 0.8125, DOUBLE),
        ((1, 3), 0.3, 2, -0.75, 8, 0.125, 0.25),
        ((2, 3), 0.0, 1, 1.625, 3, 0.0, 0.5),
    ],
    mistakes={
        "this is guided at all times": within(lambda t, a, b: t < 2),
        "this is guided at no time": within(lambda t, a, b: t > 2),
        "inside and outside are exchanged": within(lambda t, a, b: (t < a) | (t >= b)),
        "it is guided until the end, and not from the start on": within(lambda t, a, b: t < b),
        "it is guided from the start on, and does not stop at the end": within(lambda t, a, b: a <= t),
        "at t = start it should be guided already": within(lambda t, a, b: (a < t) & (t < b)),
        "at t = end it should be guided no more": within(lambda t, a, b: (a <= t) & (t <= b)),
        "outside of the interval the scale is 0: that ignores the label": within(outside=0.0),
        "the weights w and 1 − w are exchanged": within(weights=lambda w: (w, 1 - w)),
        "w is counted from 0, with weights −w and 1 + w": within(weights=lambda w: (-w, 1 + w), outside=0.0),
        "the field without label lost its weight 1 − w": within(weights=lambda w: (1, w)),
        "the time of the first point decided for all": within(
            lambda t, a, b: ((a <= t) & (t < b)).flatten()[0].expand(t.shape)
        ),
        "the interval was taken for one of noise, 1 − t": within(lambda t, a, b: (a <= 1 - t) & (1 - t < b)),
    },
)
def guidance_in_interval(shape, t, y, w, null, start, end, dtype=torch.float32):
    u, x = Labelled(dtype), states(7, *shape, dtype=dtype)
    scales = [w if start <= time < end else 1.0 for time in torch.as_tensor(t).flatten().tolist()]
    scale = torch.tensor(scales if len(scales) > 1 else scales[0], dtype=DOUBLE)
    asked = (f"the field for shape {shape}, guided from {start:g} to {end:g}", (x, t), u.guided(x, t, y, scale, null))
    return Case(asked[0], (u, y, w, null, start, end), calls=[asked], others=(u, y + 1, w - 1, null + 2, 0.0, 1.0))


def worse(weights=lambda w: (w, 1 - w), ask=lambda good, bad: (good, bad), time=lambda t: t):
    """Two fields with other weights, one in place of the other, or at other times."""

    def autoguided_field(good, bad, w):
        (a, b), (first, second) = weights(w), ask(good, bad)
        return lambda x, t: a * first(x, time(t)) + b * second(x, time(t))

    return autoguided_field


@lab.exercise(
    reread=("eq-auto", "the field of autoguidance, above the exercise"),
    passed="away from a worse model of the same label",
    hints=(
        "What should the field be at w = 1, and at w = 0?",
        "It is a function of (x, t) that calls both fields with the same x and t; the weights add up to 1.",
        "w times the good field and 1 − w times the bad one.",
    ),
    withhold=("guidance.autoguided_field",),
    library=guidance.autoguided_field,
    judge=judges.function,
    visible=[
        ((5, 2), 0.3, 2.5),
        ((4, 1, 2, 3), times(4), -0.7),
        ((3, 1, 3, 2), torch.tensor(0.85, dtype=DOUBLE), 1.6, DOUBLE),
    ],
    mistakes={
        "good and bad are exchanged: this leads towards the bad model": worse(lambda w: (1 - w, w)),
        "w is counted from 0, with weights 1 + w and −w": worse(lambda w: (1 + w, -w)),
        "the bad field lost its weight 1 − w": worse(lambda w: (w, 1)),
        "the bad field has the weight w − 1; it should be 1 − w": worse(lambda w: (w, w - 1)),
        "only the difference of the two fields is returned": worse(lambda w: (w, -w)),
        "the bad field is not used": worse(lambda w: (1, 0)),
        "the good field is not used": worse(ask=lambda good, bad: (bad, bad)),
        "the fields were asked at the time 1 − t": worse(time=lambda t: 1 - t),
        "all points were given the time of the first": worse(time=lambda t: torch.as_tensor(t).flatten()[0]),
    },
)
def autoguided_field(shape, t, w, dtype=torch.float32):
    good, bad, x = drift(), Field(lambda x, t: torch.cos(x.roll(1, -1)) - 3 * t * x), states(8, *shape, dtype=dtype)
    expected = torch.lerp(bad.value(x, t), good.value(x, t), w)
    asked = (f"the field at w = {w:g} for shape {shape}", (x, t), expected)
    return Case(asked[0], (good, bad, w), calls=[asked], others=(bad, good, w + 1))


def avoiding(weights=lambda w: (w, 1 - w), labels=lambda y, avoid: (y, avoid), time=lambda t: t):
    """Two labels with other weights, one in place of the other, or at other times."""

    def negative_field(u, y, avoid, w):
        (a, b), (first, second) = weights(w), labels(y, avoid)
        return lambda x, t: a * u(x, time(t), first) + b * u(x, time(t), second)

    return negative_field


@lab.exercise(
    reread=("eq-negative", "the field with a negative label, above the exercise"),
    passed="towards one label, away from another",
    hints=(
        "It is the guided field, with another label in the place of the null label.",
        "At w = 1 the label to avoid does not matter; beyond 1 its weight is negative.",
        "Return a function of (x, t): w times u(x, t, y), and 1 − w times u(x, t, avoid).",
    ),
    withhold=("guidance.negative_field",),
    library=guidance.negative_field,
    judge=judges.function,
    visible=[
        ((5, 2), 0.3, torch.tensor([0, 1, 2, 1, 0]), 4, 2.5),
        ((4, 1, 2, 3), times(4), 3, torch.tensor([1, 0, 2, 5]), 1.6),
        (
            (3, 1, 3, 2),
            torch.tensor(0.85, dtype=DOUBLE),
            torch.tensor([4, 0, 2]),
            torch.tensor([1, 3, 6]),
            0.35,
            DOUBLE,
        ),
    ],
    mistakes={
        "the labels are exchanged: this leads towards the one to avoid": avoiding(lambda w: (1 - w, w)),
        "w is counted from 0, with weights 1 + w and −w": avoiding(lambda w: (1 + w, -w)),
        "the label to avoid lost its weight 1 − w": avoiding(lambda w: (w, 1)),
        "the label to avoid has the weight w − 1; it should be 1 − w": avoiding(lambda w: (w, w - 1)),
        "only the difference of the two fields is returned": avoiding(lambda w: (w, -w)),
        "the label to avoid is not used": avoiding(lambda w: (1, 0)),
        "label 0 was avoided, not the one that was given": avoiding(labels=lambda y, avoid: (y, 0)),
        "all points were given the labels of the first": avoiding(
            labels=lambda *both: [int(torch.as_tensor(each).flatten()[0]) for each in both]
        ),
        "the fields were asked at the time 1 − t": avoiding(time=lambda t: 1 - t),
        "all points were given the time of the first": avoiding(time=lambda t: torch.as_tensor(t).flatten()[0]),
    },
)
def negative_field(shape, t, y, avoid, w, dtype=torch.float32):
    u, x = Labelled(dtype), states(9, *shape, dtype=dtype)
    expected = u.field.value(x, t, avoid + w * (torch.as_tensor(y, dtype=DOUBLE) - avoid)).detach()
    asked = (f"the field at w = {w:g} for shape {shape}", (x, t), expected)
    return Case(asked[0], (u, y, avoid, w), calls=[asked], others=(u, y + 1, avoid + 2, w - 1))


# --- guided by a measurement ------------------------------------------------------------------------------------------


def gaussian_log_prob(
    spread=lambda cov, A, r2: A @ cov @ A.T + r2 * torch.eye(len(A)).to(A),
    miss=lambda mean, A, y: y - mean @ A.T,
    square=lambda miss, spread: (miss * torch.linalg.solve(spread, miss.T).T).sum(1),
    scale=lambda spread: spread.logdet() + len(spread) * math.log(2 * math.pi),
    half=0.5,
):
    """A Gaussian log-density with another covariance, mean, square or constant."""

    def measurement_log_prob(mean, cov, A, y, noise_var):
        s = spread(cov, A, noise_var)
        return -half * (square(miss(mean, A, y), s) + scale(s))

    return measurement_log_prob


@lab.exercise(
    reread=("eq-measured", "the density of the measurement, above the exercise"),
    passed="how likely the measurement is, in view of what is not known yet",
    hints=(
        "What are the mean and the covariance of A z + noise, if z has the mean ẑ and the covariance C?",
        "The means are mean @ A.T, a row for each state; the covariance is A @ cov @ A.T + noise_var · I, one for all.",
        "torch.distributions.MultivariateNormal(means, covariance).log_prob(y) gives a number for each row.",
    ),
    withhold=("guidance.measurement_log_prob",),
    library=guidance.measurement_log_prob,
    judge=judges.learning,
    visible=[(5, 3, 2, 0.3), (4, 2, 2, 1.7, DOUBLE), (1, 4, 3, 0.6), (3, 1, 1, 0.16, DOUBLE)],
    mistakes={
        "A C Aᵀ is missing: that takes ẑ for the truth": gaussian_log_prob(
            lambda cov, A, r2: r2 * torch.eye(len(A)).to(A)
        ),
        "the noise of the measurement is missing": gaussian_log_prob(lambda cov, A, r2: A @ cov @ A.T),
        "the variance of the noise was squared": gaussian_log_prob(
            lambda cov, A, r2: A @ cov @ A.T + r2**2 * torch.eye(len(A)).to(A)
        ),
        "the root of the noise's variance was taken": gaussian_log_prob(
            lambda cov, A, r2: A @ cov @ A.T + r2**0.5 * torch.eye(len(A)).to(A)
        ),
        "C stands alone; seen through A it is A C Aᵀ": gaussian_log_prob(
            lambda cov, A, r2: cov[: len(A), : len(A)] + r2 * torch.eye(len(A)).to(A)
        ),
        "C is missing: this is A Aᵀ": gaussian_log_prob(lambda cov, A, r2: A @ A.T + r2 * torch.eye(len(A)).to(A)),
        "the noise was added to all entries; it belongs on the diagonal": gaussian_log_prob(
            lambda cov, A, r2: A @ cov @ A.T + r2
        ),
        "A is missing in the mean": gaussian_log_prob(miss=lambda mean, A, y: y - mean[:, : len(y)]),
        "the mean was added to y; they are subtracted": gaussian_log_prob(miss=lambda mean, A, y: y + mean @ A.T),
        "the factor ½ is missing": gaussian_log_prob(half=1.0),
        "the sign is reversed": gaussian_log_prob(half=-0.5),
        "the constant is missing, with log det and log 2π": gaussian_log_prob(scale=lambda s: 0.0),
        "log 2π is missing": gaussian_log_prob(scale=torch.logdet),
        "the determinant is missing": gaussian_log_prob(scale=lambda s: len(s) * math.log(2 * math.pi)),
        "the covariance multiplies; its inverse should": gaussian_log_prob(square=lambda m, s: (m * (m @ s)).sum(1)),
        "the covariance was taken for its root": gaussian_log_prob(
            lambda cov, A, r2: (
                (A @ cov @ A.T + r2 * torch.eye(len(A)).to(A)) @ (A @ cov @ A.T + r2 * torch.eye(len(A)).to(A))
            )
        ),
        "only the diagonal of the covariance was used": gaussian_log_prob(
            lambda cov, A, r2: (A @ cov @ A.T + r2 * torch.eye(len(A)).to(A)).diag().diag()
        ),
    },
)
def measurement_log_prob(n, d, k, noise_var, dtype=torch.float32):
    mean, A, y = (
        states(10, n, d, dtype=dtype).requires_grad_() * 1,
        states(11, k, d, dtype=dtype),
        states(12, k, dtype=dtype),
    )
    root = states(13, d, d, dtype=dtype)
    cov = root @ root.T / d + 0.2 * torch.eye(d).to(root)
    # the inverse and the determinant of the joint covariance, in its own basis
    values, axes = torch.linalg.eigh((A @ cov @ A.T + noise_var * torch.eye(k).to(A)).double())
    along = (y.double() - mean.double() @ A.double().T) @ axes
    expected = (-along.square() / values - (2 * math.pi * values).log()).sum(1) / 2
    return Case(
        f"the log-density for k = {k} of d = {d}", (mean, cov, A, y, noise_var), expected.to(dtype), weights=mean
    )


def filled(
    shown=lambda known, noise, t: t * known + (1 - t) * noise,
    where=lambda mask: mask,
    last=True,
    when=lambda k, n: k / n,
    often=lambda k: True,
    field=lambda u, x, seen, t: u(seen, t),
    size=lambda n: 1 / n,
):
    """Inpainting with other pixels shown, elsewhere, at other times, or not in the end."""

    def inpaint(u, known, mask, noise, steps):
        x = noise
        for k in range(steps):
            t = k / steps
            seen = torch.where(where(mask), shown(known, noise, when(k, steps)), x) if often(k) else x
            x = seen + size(steps) * field(u, x, seen, t)
        return torch.where(where(mask), known, x) if last else x

    return inpaint


@lab.exercise(
    reread=("eq-inpaint", "the two parts of a step, above the exercise"),
    passed="known pixels stay, and the others are moved by what they see",
    hints=(
        "Each step has two parts: put the known pixels in at the noise level of t, then move all of x along the field.",
        "torch.where(mask, t · known + (1 − t) · noise, x) replaces known pixels alone.",
        "After the loop, the known pixels are put in once more, without noise.",
    ),
    withhold=("guidance.inpaint",),
    library=guidance.inpaint,
    visible=[((4, 1, 3, 2), 5), ((3, 5), 7, DOUBLE), ((1, 2, 2, 3), 3), ((2, 4), 1)],
    mistakes={
        "the known pixels were put in at the end alone": filled(often=lambda k: False),
        "the known pixels were put in without noise": filled(lambda known, noise, t: known),
        "t and 1 − t are exchanged": filled(lambda known, noise, t: (1 - t) * known + t * noise),
        "the noise does not fade: its weight is 1 − t": filled(lambda known, noise, t: t * known + noise),
        "the known pixels lack their noise": filled(lambda known, noise, t: t * known),
        "the mask is read the wrong way round; it is true where a pixel is known": filled(where=lambda mask: ~mask),
        "after the last step the known pixels were not put in": filled(last=False),
        "the known pixels have the noise of the end of the step": filled(when=lambda k, n: (k + 1) / n),
        "the field was asked before the known pixels were put in": filled(field=lambda u, x, seen, t: u(x, t)),
        "all steps ask the field at t = 0": filled(field=lambda u, x, seen, t: u(seen, 0.0)),
        "a step has the length 1/(steps + 1); it should be 1/steps": filled(size=lambda n: 1 / (n + 1)),
        "a step has the wrong sign": filled(size=lambda n: -1 / n),
    },
)
def inpaint(shape, steps, dtype=torch.float32):
    u, noise = drift(), states(14, *shape, dtype=dtype)
    mask = states(15, *shape[1:]) < 0.3
    known = torch.where(mask, states(16, *shape[1:], dtype=dtype), 7.0)  # what is not known may be anything

    def changed(x, t):
        """The field, but for known pixels, which go straight."""
        moved = u.value(torch.where(mask, torch.lerp(noise, known.expand_as(noise), float(t)), x), t)
        return torch.where(mask, known - noise, moved)

    expected = simulate(ODE(changed), noise, torch.linspace(0, 1, steps + 1, dtype=DOUBLE), Euler())
    return Case(f"the images after steps = {steps} for shape {shape}", (u, known, mask, noise, steps), expected)
