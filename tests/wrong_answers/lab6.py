"""Wrong answers to lab 6, each a misconception students really have.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import numpy as np
import torch
from torch.nn.functional import sigmoid, silu


def mixed(f):
    """guided_vector_field as a formula f of the field with the label, the one without, and w."""
    return lambda u, y, w, null: lambda x, t: f(u(x, t, y), u(x, t, null), w)


def shared_memory():
    memory = {}

    def guided_vector_field(u, y, w, null):
        memory.update(y=y, w=w, null=null)
        return lambda x, t: (1 - memory["w"]) * u(x, t, memory["null"]) + memory["w"] * u(x, t, memory["y"])

    return guided_vector_field


def one_label_for_all(u, y, w, null):
    y = y if isinstance(y, int) else int(y[0])
    return lambda x, t: (1 - w) * u(x, t, null) + w * u(x, t, y)


def drop_in_place(y, p, null, uniform):
    y[uniform < p] = null
    return y


def drop_new_noise(y, p, null, uniform):
    return torch.where(torch.rand(len(y)) < p, null, y)


def drop_first_ones(y, p, null, uniform):
    """A fixed share, whatever the numbers."""
    return torch.cat([torch.full((max(1, round(p * len(y))),), null), y[max(1, round(p * len(y))) :]])


def loss_with(x=None, target=None, reduce=None, label=None, time=None):
    """guided_flow_matching_loss with parts replaced; each gets what it needs by position."""

    def guided_flow_matching_loss(u, z, y, t, noise):
        s = t.reshape(-1, *[1] * (z.ndim - 1))
        state = s * z + (1 - s) * noise if x is None else x(z, noise, s, t)
        aim = z - noise if target is None else target(z, noise, s)
        error = u(state, t if time is None else time(t, s), y if label is None else label(y)) - aim
        return error.square().flatten(1).sum(1).mean() if reduce is None else reduce(error)

    return guided_flow_matching_loss


def loss_detached(u, z, y, t, noise):
    return loss_with()(lambda x, t, y: u(x, t, y).detach(), z, y, t, noise)


def loss_no_grad(u, z, y, t, noise):
    with torch.no_grad():
        return loss_with()(u, z, y, t, noise)


def loss_drops_labels(u, z, y, t, noise):
    return loss_with(label=lambda y: torch.full_like(y, 10))(u, z, y, t, noise)


def loss_new_times(u, z, y, t, noise):
    return loss_with()(u, z, y, torch.rand(len(z)), noise)


def loss_new_noise(u, z, y, t, noise):
    return loss_with()(u, z, y, t, torch.randn_like(z))


def images_only(u, z, y, t, noise):
    s = t[:, None, None, None]
    return (u(s * z + (1 - s) * noise, t, y) - z + noise).square().sum((1, 2, 3)).mean()


def midpoint_with(
    weights=lambda w: (1 - w, w), start=None, first=0.0, middle=0.5, fewer=0, keep=False, step=None, back=0
):
    """sample_guided with parts replaced."""

    def sample_guided(u, y, w, null, noise, steps):
        free, shown = weights(w)

        def field(x, t):
            return free * u(x, t, null) + shown * u(x, t, y)

        h, x = 1 / steps, noise if start is None else start(noise)
        states = [x]
        for k in range(steps - fewer):
            t = (k + first) * h if not back else 1 - k * h
            if step is None:
                x = x + (1 - 2 * back) * h * field(
                    x + (1 - 2 * back) * h / 2 * field(x, t), t + (1 - 2 * back) * middle * h
                )
            else:
                x = step(field, x, t, h)
            states.append(x)
        return torch.stack(states) if keep else x

    return sample_guided


def euler(field, x, t, h):
    return x + h * field(x, t)


def heun(field, x, t, h):
    return x + h / 2 * (field(x, t) + field(x + h * field(x, t), t + h))


def counted(field, x, t, h):
    k = round(t / h)
    return x + h * field(x + h / 2 * field(x, k), k + 0.5)


def sample_in_place(u, y, w, null, noise, steps):
    for k in range(steps):
        t, h = k / steps, 1 / steps
        half = noise + h / 2 * ((1 - w) * u(noise, t, null) + w * u(noise, t, y))
        noise += h * ((1 - w) * u(half, t + h / 2, null) + w * u(half, t + h / 2, y))
    return noise


def guidance_once_a_step(u, y, w, null, noise, steps):
    """The second look without guidance."""
    x, h = noise, 1 / steps
    for k in range(steps):
        t = k * h
        half = x + h / 2 * ((1 - w) * u(x, t, null) + w * u(x, t, y))
        x = x + h * u(half, t + h / 2, y)
    return x


def by_class(x, y, of_class, combine=lambda values: torch.stack(values).mean()):
    """A number for each class, combined."""
    return combine([of_class(x[y == label].flatten(1)) for label in y.unique()])


def pooled_pairs(x, y):
    distances = torch.cdist(x.flatten(1), x.flatten(1))
    same = (y[:, None] == y[None]) & ~torch.eye(len(y), dtype=torch.bool)
    return distances[same].mean()


def across_classes(x, y):
    return torch.pdist(x.flatten(1)).mean()


def numbered_classes(x, y):
    means = [
        torch.pdist(x[y == k].flatten(1)).mean() if (y == k).any() else torch.zeros(()) for k in range(y.max() + 1)
    ]
    return torch.stack(means).mean()


def gaps(x, data):
    return x.flatten(1)[:, None] - data.flatten(1)[None]


def waves(frequencies, *functions):
    """time_embedding with the frequencies of (k, size) and the functions of an angle."""

    def time_embedding(t, size):
        angles = t[:, None] * frequencies(torch.arange(1, size // 2 + 1).to(t), size)
        return torch.cat([function(angles) for function in functions], dim=1)

    return time_embedding


def interleaved(t, size):
    angles = math.pi * t[:, None] * torch.arange(1, size // 2 + 1)
    return torch.stack([angles.cos(), angles.sin()], dim=2).flatten(1)


def block(f):
    """residual_block as a formula f of x, the shift as (n, channels, 1, 1), first and second."""
    return lambda x, c, first, shift, second: f(x, shift(c)[:, :, None, None], first, second)


def spread(index):
    return lambda x, c, first, shift, second: x + second(silu(first(silu(x)) + shift(c)[index]))


def block_in_place(x, c, first, shift, second):
    return x + second(silu(first(torch.nn.functional.silu(x, inplace=True)) + shift(c)[:, :, None, None]))


PI = math.pi

WRONG = {
    "guided_vector_field": {
        "other convention": (mixed(lambda shown, free, w: (1 + w) * shown - w * free), "w is counted from 0"),
        "weights exchanged": (mixed(lambda shown, free, w: w * free + (1 - w) * shown), "exchanged"),
        "weight of ∅ missing": (mixed(lambda shown, free, w: free + w * shown), "lost its weight 1 − w"),
        "sign of 1 − w": (mixed(lambda shown, free, w: (w - 1) * free + w * shown), "wrong sign"),
        "no guidance": (mixed(lambda shown, free, w: shown), "w is not used"),
        "no label": (mixed(lambda shown, free, w: free), "the label is not used"),
        "difference alone": (mixed(lambda shown, free, w: w * (shown - free)), "only the difference"),
        "w cut off at 1": (mixed(lambda shown, free, w: free + min(w, 1) * (shown - free)), "w is not used"),
        "null is label 0": (
            lambda u, y, w, null: lambda x, t: (1 - w) * u(x, t, 0) + w * u(x, t, y),
            "label 0 was taken",
        ),
        "averaged": (mixed(lambda shown, free, w: (free + w * shown) / (1 + w)), "averaged"),
        "not a function": (lambda u, y, w, null: torch.zeros(5, 2), "function of (x, t)"),
        "x alone": (lambda u, y, w, null: lambda x: u(x, 0.0, y), "field(x, t)"),
        "one label for all": (one_label_for_all, ""),
        "shared memory": (shared_memory(), "made before another one"),
        "time 0": (
            lambda u, y, w, null: lambda x, t: (1 - w) * u(x, 0.0, null) + w * u(x, 0.0, y),
            "whatever the time",
        ),
    },
    "drop_labels": {
        "keeps 10 %": (lambda y, p, null, uniform: torch.where(uniform > p, null, y), "keeps a share p"),
        "in place": (drop_in_place, "changed a tensor"),
        "new numbers": (drop_new_noise, "two different results"),
        "0 for null": (lambda y, p, null, uniform: torch.where(uniform < p, 0, y), "became 0"),
        "−1 for null": (lambda y, p, null, uniform: torch.where(uniform < p, -1, y), "became −1"),
        "taken out": (lambda y, p, null, uniform: y[uniform >= p], "taken out"),
        "the mask": (lambda y, p, null, uniform: uniform < p, "which labels to drop"),
        "all or none": (
            lambda y, p, null, uniform: torch.full_like(y, null) if uniform[0] < p else y,
            "one number decided",
        ),
        "nothing dropped": (lambda y, p, null, uniform: y, "nothing was dropped"),
        "float labels": (lambda y, p, null, uniform: torch.where(uniform < p, float(null), y.float()), "dtype"),
        "a list": (
            lambda y, p, null, uniform: [null if r < p else int(k) for r, k in zip(uniform, y)],
            "should be a tensor",
        ),
        "the first ones": (drop_first_ones, "first labels were dropped"),
        "null is 10": (lambda y, p, null, uniform: torch.where(uniform < p, 10, y), "null = 7"),
    },
    "guided_flow_matching_loss": {
        "mean over pixels": (loss_with(reduce=lambda e: e.square().mean()), "averaged over the pixels"),
        "sum over the batch": (loss_with(reduce=lambda e: e.square().sum()), "summed, not averaged"),
        "½": (loss_with(reduce=lambda e: e.square().flatten(1).sum(1).mean() / 2), "factor ½"),
        "norm": (loss_with(reduce=lambda e: e.flatten(1).norm(dim=1).mean()), "not squared"),
        "absolute values": (loss_with(reduce=lambda e: e.abs().flatten(1).sum(1).mean()), "absolute values"),
        "one per image": (loss_with(reduce=lambda e: e.square().flatten(1).sum(1)), "one number"),
        "target backwards": (loss_with(target=lambda z, e, s: e - z), "way back to noise"),
        "target z": (loss_with(target=lambda z, e, s: z), "target is z"),
        "target ε": (loss_with(target=lambda z, e, s: e), "target is ε"),
        "time reversed": (loss_with(x=lambda z, e, s, t: (1 - s) * z + s * e), "t and 1 − t"),
        "clean data in": (loss_with(x=lambda z, e, s, t: z), "clean data"),
        "noise in": (loss_with(x=lambda z, e, s, t: e), "pure noise"),
        "t along columns": (loss_with(x=lambda z, e, s, t: t * z + (1 - t) * e), "along the columns"),
        "labels not passed on": (loss_drops_labels, "given the labels y"),
        "labels as floats": (loss_with(label=lambda y: y.float()), "given the labels y"),
        "no label": (
            lambda u, z, y, t, noise: loss_with()(lambda x, t, y: u(x, t), z, y, t, noise),
            "raised TypeError",
        ),
        "detached": (loss_detached, "lost its gradient"),
        "no_grad": (loss_no_grad, "lost its gradient"),
        "a float": (lambda *args: float(loss_with()(*args).detach()), "lost its gradient"),
        "new noise": (loss_new_noise, "two different losses"),
        "new times": (loss_new_times, "two different losses"),
        "images only": (images_only, "data of shape (5, 3)"),
    },
    "sample_guided": {
        "Euler": (midpoint_with(step=euler), "Euler's steps"),
        "Heun": (midpoint_with(step=heun), "Heun's steps"),
        "second look at t": (midpoint_with(middle=0.0), "instead of t + h/2"),
        "second look at t + h": (midpoint_with(middle=1.0), "the time t + h"),
        "starts at h": (midpoint_with(first=1.0), "starts at t = h"),
        "counts": (midpoint_with(step=counted), "counted 0, 1, 2"),
        "one step short": (midpoint_with(fewer=1), "one step too few"),
        "no guidance": (midpoint_with(weights=lambda w: (0, 1)), "w is not used"),
        "no label": (midpoint_with(weights=lambda w: (1, 0)), "label is not used"),
        "other convention": (midpoint_with(weights=lambda w: (-w, 1 + w)), "w is counted from 0"),
        "weights exchanged": (midpoint_with(weights=lambda w: (w, 1 - w)), "exchanged"),
        "from 0": (midpoint_with(start=torch.zeros_like), "not start from the given noise"),
        "new noise": (midpoint_with(start=torch.randn_like), "two different results"),
        "backwards": (midpoint_with(back=1), "backwards"),
        "all states": (midpoint_with(keep=True), "all states came back"),
        "in place": (sample_in_place, "changed a tensor"),
        "second look unguided": (guidance_once_a_step, "second look is not guided"),
        "always four steps": (
            lambda u, y, w, null, noise, steps: midpoint_with()(u, y, w, null, noise, 4),
            "",
        ),
    },
    "fidelity": {
        "errors": (lambda logits, y: (logits.argmax(1) != y).float().mean(), "share of errors"),
        "a count": (lambda logits, y: (logits.argmax(1) == y).sum(), "were counted"),
        "per cent": (lambda logits, y: 100 * (logits.argmax(1) == y).float().mean(), "percentage"),
        "mean probability": (
            lambda logits, y: logits.softmax(1)[range(len(y)), y].mean(),
            "probabilities were averaged",
        ),
        "confidence": (lambda logits, y: logits.softmax(1).amax(1).mean(), "whatever the label"),
        "mean logit": (lambda logits, y: logits[range(len(y)), y].mean(), "mean of the label's logits"),
        "argmin": (lambda logits, y: (logits.argmin(1) == y).float().mean(), "smallest logit"),
        "over the images": (lambda logits, y: (logits.argmax(0) == y).float().mean(), "raised RuntimeError"),
        "one per image": (lambda logits, y: (logits.argmax(1) == y).float(), "one number"),
        "always 0.6": (lambda logits, y: 0.6, ""),
    },
    "diversity": {
        "with itself": (
            lambda x, y: by_class(x, y, lambda z: torch.cdist(z, z).mean()),
            "paired with themselves",
        ),
        "pooled": (pooled_pairs, "thrown together"),
        "across classes": (across_classes, "different classes"),
        "no labels": (lambda x, y: torch.cdist(x.flatten(1), x.flatten(1)).mean(), "labels were not used"),
        "squared": (lambda x, y: by_class(x, y, lambda z: torch.pdist(z).square().mean()), "squared"),
        "sum over classes": (
            lambda x, y: by_class(x, y, lambda z: torch.pdist(z).mean(), sum),
            "summed over the classes",
        ),
        "pairs counted half": (
            lambda x, y: by_class(x, y, lambda z: torch.pdist(z).sum() / (len(z) * (len(z) - 1))),
            "counted half",
        ),
        "from the mean": (lambda x, y: by_class(x, y, lambda z: (z - z.mean(0)).norm(dim=1).mean()), "from the mean"),
        "standard deviation": (lambda x, y: by_class(x, y, lambda z: z.std(0).mean()), "standard deviation"),
        "city block": (lambda x, y: by_class(x, y, lambda z: torch.pdist(z, p=1).mean()), "were summed"),
        "numbered": (numbered_classes, "also those that do not occur"),
        "one per class": (lambda x, y: by_class(x, y, lambda z: torch.pdist(z).mean(), torch.stack), "one number"),
    },
    "nearest_neighbour_distance": {
        "mean": (lambda x, data: gaps(x, data).norm(dim=2).amin(1).mean(), "was a mean taken"),
        "which": (lambda x, data: gaps(x, data).norm(dim=2).argmin(1), "which image is nearest"),
        "for the data": (lambda x, data: gaps(x, data).norm(dim=2).amin(0), "for each of the data"),
        "farthest": (lambda x, data: gaps(x, data).norm(dim=2).amax(1), "farthest"),
        "average": (lambda x, data: gaps(x, data).norm(dim=2).mean(1), "mean distance"),
        "squared": (lambda x, data: gaps(x, data).square().sum(2).amin(1), "squared"),
        "city block": (lambda x, data: gaps(x, data).abs().sum(2).amin(1), "absolute values"),
        "mean over pixels": (lambda x, data: gaps(x, data).square().mean(2).sqrt().amin(1), "over the pixels"),
        "row by row": (lambda x, data: (x - data[: len(x)]).flatten(1).norm(dim=1), "row by row"),
        "second nearest": (lambda x, data: gaps(x, data).norm(dim=2).sort(1).values[:, 1], "second nearest"),
        "to the mean": (lambda x, data: (x - data.mean(0)).flatten(1).norm(dim=1), "mean of the data"),
        "not flattened": (lambda x, data: torch.cdist(x, data).amin(1), "raised RuntimeError"),
        "a tuple": (lambda x, data: gaps(x, data).norm(dim=2).min(1), "both came back"),
    },
    "time_embedding": {
        "sines first": (waves(lambda k, size: PI * k, torch.sin, torch.cos), "sines come first"),
        "k from 0": (waves(lambda k, size: PI * (k - 1), torch.cos, torch.sin), "k runs from 0"),
        "π missing": (waves(lambda k, size: k, torch.cos, torch.sin), "π is missing"),
        "2π": (waves(lambda k, size: 2 * PI * k, torch.cos, torch.sin), "2πk"),
        "interleaved": (interleaved, "alternate"),
        "transformer": (waves(lambda k, size: 1e4 ** (-2 * (k - 1) / size), torch.cos, torch.sin), "text transformer"),
        "transformer, sines first": (
            waves(lambda k, size: 1e4 ** (-2 * (k - 1) / size), torch.sin, torch.cos),
            "text transformer",
        ),
        "doubling": (waves(lambda k, size: PI * 2 ** (k - 1), torch.cos, torch.sin), "double"),
        "sines alone": (waves(lambda k, size: PI * k, torch.sin, torch.sin), "all waves are sines"),
        "times last": (
            lambda t, size: waves(lambda k, size: PI * k, torch.cos, torch.sin)(t, size).T,
            "times come first",
        ),
        "twice as many": (
            lambda t, size: waves(lambda k, size: PI * k, torch.cos, torch.sin)(t, 2 * size),
            "twice as many",
        ),
        "numpy": (lambda t, size: np.cos(PI * np.outer(t, np.arange(1, size + 1))), "should be a tensor"),
        "size 6 only": (lambda t, size: waves(lambda k, size: PI * k, torch.cos, torch.sin)(t, 6), "shape"),
    },
    "residual_block": {
        "no skip": (block(lambda x, s, f, g: g(silu(f(silu(x)) + s))), "not added at the end"),
        "no embedding": (block(lambda x, s, f, g: x + g(silu(f(silu(x))))), "embedding is not used"),
        "first silu missing": (block(lambda x, s, f, g: x + g(silu(f(x) + s))), "first silu"),
        "second silu missing": (block(lambda x, s, f, g: x + g(f(silu(x)) + s)), "second silu"),
        "no silu": (block(lambda x, s, f, g: x + g(f(x) + s)), "both silu"),
        "relu": (block(lambda x, s, f, g: x + g((f(x.relu()) + s).relu())), "relu was used"),
        "sigmoid": (block(lambda x, s, f, g: x + g(sigmoid(f(sigmoid(x)) + s))), "sigmoid was used"),
        "silu after": (block(lambda x, s, f, g: x + silu(g(silu(f(x) + s)))), "before each"),
        "shift at the end": (block(lambda x, s, f, g: x + g(silu(f(silu(x)))) + s), "after the second convolution"),
        "shift at the start": (block(lambda x, s, f, g: x + g(silu(f(silu(x) + s)))), "before the first convolution"),
        "shift after silu": (block(lambda x, s, f, g: x + g(silu(f(silu(x))) + s)), "after the silu"),
        "shift multiplies": (block(lambda x, s, f, g: x + g(silu(f(silu(x)) * s))), "multiplies"),
        "not broadcast": (spread(...), "wrong axes"),
        "along columns": (spread((slice(None), None, None)), "along the columns"),
        "along rows": (spread((slice(None), None, slice(None), None)), "along the rows"),
        "transposed": (
            lambda x, c, f, shift, g: x + g(silu(f(silu(x)) + shift(c).T[:, :, None, None])),
            "other images",
        ),
        "silu of x added": (block(lambda x, s, f, g: silu(x) + g(silu(f(silu(x)) + s))), "silu(x) was added"),
        "exchanged": (block(lambda x, s, f, g: x + f(silu(g(silu(x)) + s))), "exchanged"),
        "in place": (block_in_place, "changed a tensor"),
        "detached": (block(lambda x, s, f, g: x + g(silu(f(silu(x)) + s)).detach()), "lost its gradient"),
        "first detached": (block(lambda x, s, f, g: x + g(silu(f(silu(x)).detach() + s))), "lost its gradient"),
    },
}
