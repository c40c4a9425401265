"""Checks of lab 6: guidance, networks with labels, and measures of what they draw.

Everything here is deterministic: random numbers are handed in. Truth comes from a field that is a known function of
state, time and label, from arithmetic on a few images, and from the library's tested simulators.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fmlab.checks.compare import describe, fail, require, require_close, require_number, require_tensor
from fmlab.checks.inputs import states
from fmlab.checks.report import answer_or, check, hint, progress  # noqa: F401 (words of the labs)
from fmlab.checks.submission import submission  # noqa: F401 (a word of the labs)
from fmlab.processes import ODE
from fmlab.schedules import coefficient
from fmlab.simulators import Euler, Heun, Midpoint, simulate


def labelled(x: Tensor, t, y) -> Tensor:
    """A field u(x, t, y) that tells labels apart: (1 + y) sin(x + t) + y t². Labels are one for all, or one each."""
    y, t = (coefficient(torch.as_tensor(value).to(x), x) for value in (y, t))
    return (1 + y) * torch.sin(x + t) + y * t**2


def require_field(found) -> Callable:
    """Fail unless `found` is a function; it must be called as field(x, t)."""
    if isinstance(found, Tensor):
        fail("guided_vector_field should return a function of (x, t), found a tensor")
    require(callable(found), f"guided_vector_field should return a function of (x, t), found {describe(found)}")

    def field(x, t):
        try:
            return found(x, t)
        except Exception as error:
            fail(f"the returned field raised {type(error).__name__} when called as field(x, t):\n  {error}")

    return field


@check(
    reread="the formula above the exercise; w = 1 is no guidance",
    passed="from ∅ through y, and beyond",
    points=5,
    hints=(
        "What does the result have to be at w = 0, and what at w = 1?",
        "It is a weighted sum of two calls of u, one with the label and one with null; the weights add up to 1.",
        "Define a function of (x, t) inside yours that calls u twice, and return that function.",
    ),
    reference=("guidance.guided_vector_field",),
)
def guided_vector_field(answer):
    x, t, y, w, null = states(1, 5, 2), 0.3, torch.tensor([0, 1, 2, 1, 0]), 3.0, 4
    found = require_field(answer(labelled, y, w, null))(x, t)
    shown, free = labelled(x, t, y), labelled(x, t, null)
    mistakes = {
        "w is counted from 0, with weights −w and 1 + w; here w = 1 is the field of the label": (1 + w) * shown
        - w * free,
        "the weights w and 1 − w are exchanged": w * free + (1 - w) * shown,
        "the field without label lost its weight 1 − w": free + w * shown,
        "the weight of the field without label has the wrong sign": (w - 1) * free + w * shown,
        "w is not used: this is the field of the label alone": shown,
        "the label is not used: this is the field without label": free,
        "only the difference of the two fields is returned": w * (shown - free),
        "the difference of the two fields was added to the field of the label": shown + w * (shown - free),
        "label 0 was taken for the null label": (1 - w) * labelled(x, t, 0) + w * shown,
        "the fields were asked at time 0, whatever the time": (1 - w) * labelled(x, 0.0, null)
        + w * labelled(x, 0.0, y),
        "the two fields were averaged": (free + w * shown) / (1 + w),
    }
    require_close(found, (1 - w) * free + w * shown, "the guided field at w = 3", mistakes)


@check(
    reread="the text above the exercise: p is the share that is dropped",
    passed="a few labels forgotten, most kept",
    points=3,
    hints=(
        "Each label has a random number of its own. For which share of uniform numbers should the label be forgotten?",
        "A uniform number is below p with probability p.",
        "torch.where(condition, value where true, value where false) makes a new tensor and leaves y as it is.",
    ),
    reference=("losses.drop_labels",),
)
def drop_labels(answer):
    y, p, null = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6]), 0.1, 10
    uniform = torch.tensor([0.05, 0.5, 0.95, 0.02, 0.3, 0.7, 0.09, 0.99])
    found = answer(y, p, null, uniform)
    if isinstance(found, Tensor) and found.dtype == torch.bool:
        fail("what came back says which labels to drop; the labels themselves are wanted, some of them replaced")
    if isinstance(found, Tensor) and found.ndim == 1 and len(found) == 5:
        fail("dropped labels were taken out; they should be replaced, so that each image keeps a label")
    expected = torch.tensor([10, 1, 4, 10, 5, 9, 10, 6])
    require_tensor(found, expected, "the tensor of labels")
    many, numbers = torch.zeros(500, dtype=torch.int64), torch.linspace(0, 1, 500)
    same = torch.equal(answer(many, 0.5, null, numbers), answer(many, 0.5, null, numbers))
    require(same, "the same numbers gave two different results; use the `uniform` that is given, and draw no others")
    replaced = uniform < p
    mistakes = {
        "it keeps a share p of the labels and drops the others": torch.where(replaced, y, null),
        "dropped labels became 0, which is a digit; the null label says `no label`": torch.where(replaced, 0, y),
        "dropped labels became −1 instead of the null label": torch.where(replaced, -1, y),
        "one number decided for all labels; each has its own": torch.full_like(y, null),
        "nothing was dropped": y,
        "the first labels were dropped, whatever their numbers": torch.cat([torch.tensor([null]), y[1:]]),
        "dropped labels were given another label, not the null label": torch.where(replaced, y[0], y),
    }
    numbers = {words: wrong.double() for words, wrong in mistakes.items()}
    require_close(found.double(), expected.double(), "the tensor of labels", numbers)


def loss_of_each(u, z: Tensor, y: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """‖u(x_t, t | y) − (z − ε)‖² of each image, (n,), one image after the other."""
    rows = []
    for k in range(len(z)):
        x = t[k] * z[k : k + 1] + (1 - t[k]) * noise[k : k + 1]
        rows.append((u(x, t[k : k + 1], y[k : k + 1]) - z[k] + noise[k]).square().sum())
    return torch.stack(rows)


def require_gradient(found, expected: Tensor, weights: list[Tensor], what: str) -> None:
    """Fail unless `found` depends on the weights of a network as `expected` does."""
    lost = "has lost its gradient, and the network could not learn from it"
    way = "is there a detach, an item, a float, NumPy or torch.no_grad on the way?"
    require(isinstance(found, Tensor) and found.requires_grad, f"{what} {lost}; {way}")
    gradients = torch.autograd.grad(found.square().sum(), weights, allow_unused=True)
    require(all(gradient is not None for gradient in gradients), f"{what} {lost} in part; {way}")
    for gradient, truth in zip(gradients, torch.autograd.grad(expected.square().sum(), weights)):
        require_close(gradient, truth, f"the gradient of {what}", tolerance=1e-3)


@check(
    reread="the formula above the exercise; notes, eq. 31",
    passed="flow matching, with the label as an input",
    points=5,
    hints=(
        "It is the flow matching loss of lab 3, for a network that takes one argument more.",
        "Shape t as (n, 1, …, 1) to make x_t; hand the network t as it came, and the labels.",
        "Subtract the velocity z − ε from u(x_t, t, y), square, sum over all but the first axis, and take the mean.",
    ),
    reference=("losses.guided_flow_matching_loss", "losses.flow_matching_loss"),
)
def guided_flow_matching_loss(answer):
    z, noise, y = states(2, 4, 1, 4, 4), states(3, 4, 1, 4, 4), torch.tensor([2, 0, 1, 5])
    t, weight, labels = torch.tensor([0.1, 0.4, 0.7, 0.9]), torch.tensor(0.7, requires_grad=True), []

    def u(x, t, y):
        labels.append(y)
        return weight * labelled(x, t, y)

    found = answer(u, z, y, t, noise)
    require(labels, "the network u was never called")
    given = torch.cat([torch.as_tensor(label).flatten() for label in labels])  # of one call, or of one for each image
    require(
        not given.is_floating_point() and torch.equal(given.to(y), y),
        f"the network should be given the labels y as they are, found {describe(labels[-1])}",
    )
    each, s = loss_of_each(u, z, y, t, noise), t[:, None, None, None]

    def mistaken(x=None, target=None, shape=None):
        """The loss with another input, target or time."""
        x = s * z + (1 - s) * noise if x is None else x
        output = u(x, t if shape is None else shape, y)
        return float((output - (z - noise if target is None else target)).square().flatten(1).sum(1).mean())

    spread = t * z + (1 - t) * noise
    mistakes = {
        "the squares were averaged over the pixels; sum them, and average over the batch": float(each.mean()) / 16,
        "the losses of the batch were summed, not averaged": float(each.sum()),
        "there is a factor ½": float(each.mean()) / 2,
        "the target is ε − z, the way back to noise": mistaken(target=noise - z),
        "the target is z; flow matching learns the velocity": mistaken(target=z),
        "the target is ε; flow matching learns the velocity": mistaken(target=noise),
        "t and 1 − t are exchanged in x_t": mistaken(x=(1 - s) * z + s * noise),
        "the network was shown the clean data z instead of x_t": mistaken(x=z),
        "the network was shown pure noise instead of x_t": mistaken(x=noise),
        "t was spread along the columns of the images; it needs the shape (n, 1, 1, 1)": mistaken(x=spread),
        "the norm was not squared": float(each.sqrt().mean()),
        "all images were given the first time": mistaken(x=t[0] * z + (1 - t[0]) * noise, shape=t[0]),
        "absolute values were summed instead of squares": float(
            (u(s * z + (1 - s) * noise, t, y) - z + noise).abs().flatten(1).sum(1).mean()
        ),
    }
    if isinstance(found, Tensor) and found.numel() == 1:
        same = torch.equal(found, answer(u, z, y, t, noise))
        require(
            same, "the same noise and times gave two different losses; use those that are given, and draw no others"
        )
    require_number(found, float(each.mean()), "the loss", mistakes)
    require_gradient(found, each.mean(), [weight], "the loss")


@check(
    reread="the formula above the exercise; lab 1, exercise 3",
    passed="from noise to the label asked for",
    points=5,
    hints=(
        "It is a simulation as in lab 1, with the guided field as the vector field and noise as the start.",
        "With h = 1/steps, step k starts at t = k h; one look at the field leads half a step ahead, another moves.",
        "In a loop: half = x + h/2 · field(x, t), then x becomes x + h · field(half, t + h/2), in a new tensor.",
    ),
    reference=("samplers.sample_flow",),
)
def sample_guided(answer):
    noise, y, w, null, steps = states(4, 6, 2), torch.tensor([0, 1, 2, 2, 1, 0]), 2.0, 3, 4
    found = answer(labelled, y, w, null, noise, steps)

    def field(w):
        return lambda x, t: (1 - w) * labelled(x, t, null) + w * labelled(x, t, y)

    def walk(method=None, w=w, x0=noise, low=0.0, high=1.0, steps=steps, field=field):
        ts = torch.linspace(low, high, steps + 1)
        return simulate(ODE(field(w)), x0, ts, method or Midpoint())

    def by_hand(early=0.0, middle=0.5, scale=1.0, second=w):
        """Midpoint steps with the times of the two looks moved, or the second look guided otherwise."""
        x, h = noise, 1 / steps
        for k in range(steps):
            t = scale * (k * h + early * h)
            x = x + h * field(second)(x + h / 2 * field(w)(x, t), t + scale * middle * h)
        return x

    if isinstance(found, (list, tuple)) or (isinstance(found, Tensor) and found.shape == (steps + 1, *noise.shape)):
        fail("all states came back; only the last one, at t = 1, is wanted")
    mistakes = {
        "these are Euler's steps; the midpoint rule looks a second time, half a step ahead": walk(Euler()),
        "these are Heun's steps; the midpoint rule uses the slope in the middle alone": walk(Heun()),
        "the second look is at the time t instead of t + h/2": by_hand(middle=0.0),
        "the second look is at the time t + h instead of t + h/2": by_hand(middle=1.0),
        "the first step starts at t = h instead of 0": by_hand(early=1.0),
        "the steps were counted 0, 1, 2, … where the field needs times": by_hand(scale=float(steps)),
        "there is one step too few": walk(steps=steps - 1, high=1 - 1 / steps),
        "there is one step too few, and all are too long": walk(steps=steps - 1),
        "the second look is not guided": by_hand(second=1.0),
        "w is not used": walk(w=1.0),
        "the label is not used": walk(w=0.0),
        "w is counted from 0, with weights −w and 1 + w": walk(w=1 + w),
        "the weights w and 1 − w are exchanged": walk(w=1 - w),
        "the flow was run backwards, from t = 1 to 0": walk(low=1.0, high=0.0),
        "the samples did not start from the given noise, but from 0": walk(x0=torch.zeros_like(noise)),
        "nothing moved": noise,
    }
    require_tensor(found, noise, "the tensor of samples")
    again = answer(labelled, y, w, null, noise, steps)
    require(torch.equal(found, again), "the same noise gave two different results; start from the noise that is given")
    require_close(found, walk(), "the state after four steps", mistakes, tolerance=1e-4)


@check(
    reread="the text above the exercise",
    passed="the share of images that are recognised",
    points=3,
    hints=(
        "Which label does the classifier choose for an image, given its logits?",
        "Compare the position of the largest logit of each row with y.",
        "The mean of a comparison, made a float, is the share where it is true.",
    ),
    reference=("metrics.fidelity",),
)
def fidelity(answer):
    logits = torch.tensor([[2.0, 0.5, 1.0], [0.0, 0.3, -1.0], [4.0, 3.0, 5.0], [0.1, 0.0, 0.2], [-1.0, -3.0, -2.0]])
    y = torch.tensor([0, 1, 0, 2, 1])
    probabilities = logits.softmax(1)
    require_number(
        answer(logits, y),
        0.6,
        "the share recognised",
        {
            "this is the share of errors": 0.4,
            "the images recognised were counted; divide by their number": 3.0,
            "this is a percentage; a share is between 0 and 1": 60.0,
            "probabilities were averaged; count how often the largest logit is the label's": float(
                probabilities[range(5), y].mean()
            ),
            "the largest probabilities were averaged, whatever the label": float(probabilities.amax(1).mean()),
            "the mean of the label's logits was returned": float(logits[range(5), y].mean()),
            "the smallest logit was taken instead of the largest": 0.2,
        },
        tolerance=1e-5,
    )


@check(
    reread="the text above the exercise: pairs within a class",
    passed="how much samples of one class differ",
    points=4,
    hints=(
        "Take one class first: which pairs are there, and how many?",
        "torch.pdist gives the distances of all pairs of different rows, each pair once.",
        "For each label in y.unique(), flatten its images and take the mean of pdist; then average these means.",
    ),
    reference=("metrics.diversity",),
)
def diversity(answer):
    y = torch.tensor([0, 1, 1, 0, 1, 4, 4])
    x = torch.tensor([0.0, 10.0, 12.0, 4.0, 16.0, 20.0, 29.0])[:, None, None, None] * torch.tensor([[[0.6, 0.8]]])
    gaps = (x[:, None] - x[None]).flatten(2).norm(dim=2)  # the classes hold pairs at 4; at 2, 4 and 6; and at 9
    centred = [x[y == label].flatten(1) - x[y == label].flatten(1).mean(0) for label in (0, 1, 4)]
    require_number(
        answer(x, y),
        17 / 3,
        "the mean distance within a class",
        {
            "images were paired with themselves, at distance 0": (4 / 2 + 4 * 2 / 3 + 9 / 2) / 3,
            "all pairs were thrown together; average within each class first, then over the classes": 5.0,
            "pairs from different classes were counted too": float(gaps.sum() / 42),
            "the labels were not used, and images were paired with themselves": float(gaps.mean()),
            "squared distances were averaged": (16 + (4 + 16 + 36) / 3 + 81) / 3,
            "the distances were summed over the classes, not averaged": 17.0,
            "each distance was halved or each pair counted half": 17 / 6,
            "this is the distance from the mean of the class, not between two images": float(
                torch.stack([rest.norm(dim=1).mean() for rest in centred]).mean()
            ),
            "this is a standard deviation, not a distance": float(
                torch.stack([r.std(0).mean() for r in centred]).mean()
            ),
            "absolute values of the pixels' differences were summed; take the Euclidean norm": 17 / 3 * 1.4,
            "absolute values of the pixels' differences were averaged; take the Euclidean norm": 17 / 3 * 0.7,
            "the classes were numbered 0 … y.max(), also those that do not occur": 17 / 5,
        },
    )


@check(
    reread="the text above the exercise",
    passed="how far each image is from what was learned",
    points=4,
    hints=(
        "Imagine a table with the distance of every image of x from every image of the data. What is wanted of a row?",
        "torch.cdist makes that table from two sets of flattened images.",
        "Flatten both with flatten(1), take torch.cdist, and the minimum along the axis of the data.",
    ),
    reference=("metrics.nearest_neighbour_distance",),
)
def nearest_neighbour_distance(answer):
    data = states(5, 6, 1, 2, 2)
    x = torch.cat([states(6, 3, 1, 2, 2), data[2:3]])  # the last is a copy
    gaps = torch.stack([torch.stack([(a - b).norm() for b in data]) for a in x])
    absolute = torch.stack([torch.stack([(a - b).abs().sum() for b in data]) for a in x])
    found = answer(x, data)
    if isinstance(found, (int, float)) or (isinstance(found, Tensor) and found.numel() == 1):
        fail("each image should get a distance of its own, (n,); found one number: was a mean taken?")
    if isinstance(found, tuple) and len(found) == 2:
        fail("both came back, the distances and which images are nearest; only the distances are wanted")
    if isinstance(found, Tensor) and found.dtype == torch.int64:
        fail("what came back says which image is nearest; the distance to it is wanted")
    if isinstance(found, Tensor) and found.shape == data.shape[:1]:
        fail("a distance for each of the data came back; one for each image of x is wanted")
    nearest = gaps.amin(1)
    mistakes = {
        "this is the distance to the farthest image": gaps.amax(1),
        "this is the mean distance to all images": gaps.mean(1),
        "the distances are squared": nearest**2,
        "absolute values of the differences were summed; take the Euclidean norm": absolute.amin(1),
        "the squares were averaged over the pixels; sum them": nearest / 2,
        "images were compared row by row with the data": gaps.diagonal(),
        "this is the distance to the second nearest image": gaps.sort(1).values[:, 1],
        "this is the distance to the mean of the data": (x - data.mean(0)).flatten(1).norm(dim=1),
    }
    require_close(found, nearest, "the distance to the nearest image", mistakes, tolerance=1e-3)


@check(
    reread="the formula above the exercise",
    passed="one number spread over a few smooth waves",
    points=4,
    hints=(
        "Make a table of angles first, a row for each time and a column for each k.",
        "torch.arange(1, size // 2 + 1) holds the k; t[:, None] makes a column of the times.",
        "Take cosine and sine of the table, and join the two along the second axis.",
    ),
    reference=("models.time_embedding",),
)
def time_embedding(answer):
    t, size = torch.tensor([0.0, 0.1, 0.35, 0.8, 1.0]), 6
    found = answer(t, size)
    k = torch.arange(1, size // 2 + 1)

    def waves(angles, *functions):
        return torch.cat([function(angles) for function in functions], dim=1)

    angles = math.pi * t[:, None] * k
    slow = t[:, None] / 10_000 ** (torch.arange(3) / 3)
    if isinstance(found, Tensor) and found.shape == (size, len(t)):
        fail(f"the embedding should have shape (n, size) = {(len(t), size)}, found {(size, len(t))}: times come first")
    if isinstance(found, Tensor) and found.shape == (len(t), 2 * size):
        fail("there are twice as many waves as asked for: size/2 cosines and size/2 sines make size numbers")
    mistakes = {
        "sines come first; cosines should": waves(angles, torch.sin, torch.cos),
        "k runs from 0; the first wave should be k = 1": waves(angles - math.pi * t[:, None], torch.cos, torch.sin),
        "π is missing": waves(angles / math.pi, torch.cos, torch.sin),
        "the frequencies are 2πk instead of πk": waves(2 * angles, torch.cos, torch.sin),
        "sines and cosines alternate; all cosines should come before all sines": torch.stack(
            [angles.cos(), angles.sin()], dim=2
        ).flatten(1),
        "the frequencies are those of a text transformer, not πk": waves(slow, torch.cos, torch.sin),
        "the frequencies are those of a text transformer, not πk, and sines come first": waves(
            slow, torch.sin, torch.cos
        ),
        "frequencies double from wave to wave; they should be πk": waves(
            math.pi * t[:, None] * 2 ** (k - 1), torch.cos, torch.sin
        ),
        "all waves are sines": waves(angles, torch.sin, torch.sin),
        "all waves are cosines": waves(angles, torch.cos, torch.cos),
    }
    require_close(found, waves(angles, torch.cos, torch.sin), "the embedding", mistakes, tolerance=1e-4)


def layers(seed: int, channels: int, size: int, dtype=torch.float32):
    """Two convolutions and a linear layer with weights of their own, as functions; and the weights of the first two."""
    kernels = [0.3 * states(seed + k, channels, channels, 3, 3, dtype=dtype) for k in (0, 1)]
    matrix = states(seed + 2, size, channels, dtype=dtype)
    kernels = [kernel.requires_grad_() for kernel in kernels]
    first, second = (lambda x, kernel=kernel: conv2d(x, kernel, padding=1) for kernel in kernels)
    return first, lambda c: c @ matrix, second, kernels


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


@check(
    reread="the formula above the exercise",
    passed="the image, and a correction that knows time and label",
    points=5,
    hints=(
        "Follow the formula from the inside out. Where does the embedding come in?",
        "shift(c) is one number for each image and channel; the features have height and width as well.",
        "Index the shift with [:, :, None, None] before you add it, and do not forget to add x at the end.",
    ),
)
def residual_block(answer):
    first, shift, second, kernels = layers(7, channels=4, size=3)
    x, c = states(10, 4, 4, 4, 4), states(11, 4, 3)  # as many images as channels and columns
    found = answer(x, c, first, shift, second)
    inner, moved = first(swish(x)), shift(c)[:, :, None, None]
    correction = second(swish(inner + moved))
    mistakes = {
        "the input x is not added at the end": correction,
        "the embedding is not used": x + second(swish(inner)),
        "the first silu is missing": x + second(swish(first(x) + moved)),
        "the second silu is missing": x + second(inner + moved),
        "both silu are missing": x + second(first(x) + moved),
        "relu was used instead of silu": x + second(torch.relu(first(torch.relu(x)) + moved)),
        "sigmoid was used instead of silu": x + second(torch.sigmoid(first(torch.sigmoid(x)) + moved)),
        "silu comes after the convolutions; it should come before each": x + swish(second(swish(first(x) + moved))),
        "the shift was added after the second convolution": x + second(swish(inner)) + moved,
        "the shift was added before the first convolution": x + second(swish(first(swish(x) + moved))),
        "the shift was added after the silu; it belongs inside": x + second(swish(inner) + moved),
        "the shift multiplies; it should be added": x + second(swish(inner * moved)),
        "the shift was spread along the wrong axes: one number for each image and channel": x
        + second(swish(inner + shift(c))),
        "the shift was spread along the columns: one number for each image and channel": x
        + second(swish(inner + shift(c)[:, None, None, :])),
        "the shift was spread along the rows: one number for each image and channel": x
        + second(swish(inner + shift(c)[:, None, :, None])),
        "the shift of other images was added; each image has its own": x + second(swish(inner + moved.transpose(0, 1))),
        "silu(x) was added at the end instead of x": swish(x) + correction,
        "the correction was subtracted": x - correction,
        "the two convolutions are exchanged": x + first(swish(second(swish(x)) + moved)),
    }
    require_close(found, x + correction, "the output", mistakes, tolerance=1e-4)
    require_gradient(found, x + correction, kernels, "the output")
