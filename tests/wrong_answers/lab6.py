"""Wrong answers to lab 6 beside the mistakes on its cards: of another kind, or short of what the docstring promises.

exercise → name → (answer, words that the verdict must contain).
"""

import math

import numpy as np
import torch
from torch.nn.functional import silu

from fmlab.schedules import coefficient


def guided(u, y, w, null):
    return lambda x, t: (1 - w) * u(x, t, null) + w * u(x, t, y)


def loss_with(
    model=lambda u: u,
    state=lambda z, e, s: s * z + (1 - s) * e,
    velocity=lambda z, e, x, s: z - e,
    total=lambda error: error.square().flatten(1).sum(1).mean(),
):
    """guided_flow_matching_loss with another network, state, target or norm."""

    def guided_flow_matching_loss(u, z, y, t, noise):
        s = coefficient(t, z)
        x = state(z, noise, s)
        return total(model(u)(x, t, y) - velocity(z, noise, x, s))

    return guided_flow_matching_loss


def loss_no_grad(u, z, y, t, noise):
    with torch.no_grad():
        return loss_with()(u, z, y, t, noise)


def loss_half_detached(u, z, y, t, noise):
    right = loss_with()(u, z, y, t, noise)
    return (right + right.detach()) / 2


def loss_in_place(u, z, y, t, noise):
    s = coefficient(t, z)
    return (u(s * z + (1 - s) * noise, t, y) - z.sub_(noise)).square().flatten(1).sum(1).mean()


def shaped_time(u):
    return lambda x, t, y: u(x, coefficient(t, x), y)


def samples(states=lambda states: states[-1], field=guided, start=lambda noise: noise, moved=lambda x, step: x + step):
    """sample_guided that returns something else, with another field, or from another start."""

    def sample_guided(u, y, w, null, noise, steps):
        v, h, path = field(u, y, w, null), 1 / steps, [start(noise)]
        for k in range(steps):
            x = path[-1]
            path.append(moved(x, h * v(x + h / 2 * v(x, k * h), (k + 0.5) * h)))
        return states(path)

    return sample_guided


def timed_by_rows(u, y, w, null):
    return lambda x, t: guided(u, y, w, null)(x, torch.full((len(x), 1), float(t)))


def seeded(answer):
    def with_a_seed(*args):
        torch.manual_seed(0)
        return answer(*args)

    return with_a_seed


def drop(y, p, null, uniform):
    return torch.where(uniform < p, null, y)


def drop_in_place(y, p, null, uniform):
    y[uniform < p] = null
    return y


def by_class(x, y, of_class, combine=lambda values: torch.stack(values).mean()):
    """A number for each class, combined."""
    return combine([of_class(x[y == label]) for label in y.unique()])


def recognised(logits, y):
    return logits.argmax(1) == y


def distance(x, data):
    return torch.cdist(x.flatten(1), data.flatten(1))


def waves(t, size):
    angles = math.pi * t[:, None] * torch.arange(1, size // 2 + 1)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def block(x, c, first, shift, second):
    return x + second(silu(first(silu(x)) + shift(c)[:, :, None, None]))


def block_no_grad(x, c, first, shift, second):
    with torch.no_grad():
        return block(x, c, first, shift, second)


def block_in_place(x, c, first, shift, second):
    return x + second(silu(first(silu(x, inplace=True)) + shift(c)[:, :, None, None]))


def block_adds_to_x(x, c, first, shift, second):
    x += second(silu(first(silu(x)) + shift(c)[:, :, None, None]))
    return x


WRONG = {
    "guided_vector_field": {
        "not a function": (lambda u, y, w, null: torch.zeros(5, 2), "a function should be returned"),
        "two fields": (
            lambda u, y, w, null: (lambda x, t: u(x, t, null), lambda x, t: u(x, t, y)),
            "should be a function, found a tuple of 2",
        ),
        "of x alone": (lambda u, y, w, null: lambda x: u(x, 0.0, y), "raised TypeError"),
        "of the label, too": (lambda u, y, w, null: lambda x, t, y: guided(u, y, w, null)(x, t), "raised TypeError"),
        "labels mixed": (
            lambda u, y, w, null: lambda x, t: u(x, t, (1 - w) * null + w * y),
            "labels are whole numbers",
        ),
        "labels as floats": (
            lambda u, y, w, null: guided(u, torch.as_tensor(y).float(), w, null),
            "labels are whole numbers",
        ),
        "t shaped": (lambda u, y, w, null: guided(shaped_time(u), y, w, null), "hand t on as it came"),
        "t as a number": (
            lambda u, y, w, null: lambda x, t: guided(u, y, w, null)(x, float(t)),
            "raised",
        ),
        "y as a tensor": (
            lambda u, y, w, null: guided(u, y.long(), w, null),
            "raised AttributeError: 'int' object has no attribute 'long'",
        ),
        "no null label": (
            lambda u, y, w, null: lambda x, t: (1 - w) * u(x, t) + w * u(x, t, y),
            "raised TypeError",
        ),
        "flattened": (
            lambda u, y, w, null: lambda x, t: guided(u, y, w, null)(x.flatten(1), t).view_as(x),
            "",
        ),
        "single precision": (
            lambda u, y, w, null: lambda x, t: guided(u, y, w, null)(x, t).float(),
            "should have the dtype torch.float64",
        ),
        "numpy": (
            lambda u, y, w, null: lambda x, t: guided(u, y, w, null)(x, t).detach().numpy(),
            "should be a tensor",
        ),
        "a seed": (seeded(guided), "sets a seed"),
    },
    "drop_labels": {
        "in place": (drop_in_place, "changed a tensor"),
        "new numbers": (lambda y, p, null, uniform: drop(y, p, null, torch.rand(len(y))), "random numbers of its own"),
        "a seed": (seeded(drop), "sets a seed"),
        "taken out": (lambda y, p, null, uniform: y[uniform >= p], "taken out"),
        "the mask": (lambda y, p, null, uniform: uniform < p, "which labels to drop"),
        "float labels": (lambda y, p, null, uniform: torch.where(uniform < p, float(null), y.float()), "dtype"),
        "long labels": (lambda y, p, null, uniform: drop(y, p, null, uniform).long(), "dtype torch.int"),
        "a column": (lambda y, p, null, uniform: drop(y, p, null, uniform)[:, None], "should have shape"),
        "a list": (lambda y, p, null, uniform: drop(y, p, null, uniform).tolist(), "should be a tensor"),
        "numpy": (lambda y, p, null, uniform: drop(y, p, null, uniform).numpy(), "should be a tensor"),
        "labels and mask": (lambda y, p, null, uniform: (drop(y, p, null, uniform), uniform < p), "should be a tensor"),
    },
    "guided_flow_matching_loss": {
        "one per image": (loss_with(total=lambda e: e.square().flatten(1).sum(1)), "one number"),
        "images alone": (loss_with(total=lambda e: e.square().sum((1, 2, 3)).mean()), "raised IndexError"),
        "labels as floats": (
            loss_with(model=lambda u: lambda x, t, y: u(x, t, y.float())),
            "labels are whole numbers",
        ),
        "labels as a column": (
            loss_with(model=lambda u: lambda x, t, y: u(x, t, y[:, None])),
            "labels are whole numbers, one for all states or in the shape (n,)",
        ),
        "no label": (loss_with(model=lambda u: lambda x, t, y: u(x, t)), "raised TypeError"),
        "t shaped for the network, too": (loss_with(model=shaped_time), "hand t on as it came"),
        "detached": (loss_with(model=lambda u: lambda x, t, y: u(x, t, y).detach()), "no gradient reaches"),
        "half detached": (loss_half_detached, "the gradient of the loss"),
        "no_grad": (loss_no_grad, "no gradient reaches"),
        "a float": (lambda *args: float(loss_with()(*args).detach()), "no gradient reaches"),
        "new noise": (
            lambda u, z, y, t, noise: loss_with()(u, z, y, t, torch.randn_like(z)),
            "random numbers of its own",
        ),
        "new times": (
            lambda u, z, y, t, noise: loss_with()(u, z, y, torch.rand(len(z)), noise),
            "random numbers of its own",
        ),
        "a seed": (seeded(loss_with()), "sets a seed"),
        "in place": (loss_in_place, "changed a tensor"),
        "velocity 0 at t = 1": (loss_with(velocity=lambda z, e, x, s: (z - x) / (1 - s + 1e-8)), ""),
        "no velocity at t = 0": (loss_with(velocity=lambda z, e, x, s: (x - e) / s), "nan"),
    },
    "sample_guided": {
        "all states": (samples(torch.stack), "all states came back"),
        "a list": (samples(list), "all states came back"),
        "state and time": (samples(lambda states: (states[-1], 1.0)), "all states came back"),
        "in place": (samples(moved=torch.Tensor.add_), "changed a tensor"),
        "new noise": (samples(start=torch.randn_like), "random numbers of its own"),
        "a seed": (seeded(samples()), "sets a seed"),
        "single precision": (samples(start=torch.Tensor.float), "should have the dtype torch.float64"),
        "times in a column": (samples(field=timed_by_rows), "hand t on as it came"),
        "numpy": (samples(lambda states: states[-1].detach().numpy()), "should be a tensor"),
        "pixels cut off": (samples(lambda states: states[-1].clamp(-1, 1)), ""),
        "a tensor of labels alone": (
            lambda u, y, w, null, noise, steps: samples()(u, y.long(), w, null, noise, steps),
            "raised AttributeError: 'int' object has no attribute 'long'",
        ),
    },
    "fidelity": {
        "one per image": (lambda logits, y: recognised(logits, y).float(), "one number"),
        "truth values averaged": (lambda logits, y: recognised(logits, y).mean(), "raised RuntimeError"),
        "a text": (lambda logits, y: f"{recognised(logits, y).float().mean():.1%}", "one number"),
        "share and count": (lambda logits, y: (recognised(logits, y).float().mean(), len(y)), "one number"),
        "nothing": (lambda logits, y: None, "is there a return?"),
        "a seed": (seeded(lambda logits, y: recognised(logits, y).float().mean()), "sets a seed"),
        "ten labels": (
            lambda logits, y: (logits.view(-1, 10).argmax(1) == y).float().mean(),
            "raised RuntimeError",
        ),
    },
    "diversity": {
        "one per class": (
            lambda x, y: by_class(x, y, lambda z: torch.pdist(z.flatten(1)).mean(), torch.stack),
            "one number",
        ),
        "not flattened": (lambda x, y: by_class(x, y, lambda z: torch.pdist(z).mean()), "raised"),
        "all distances": (
            lambda x, y: by_class(x, y, lambda z: torch.pdist(z.flatten(1)), torch.cat),
            "one number",
        ),
        "a list": (
            lambda x, y: by_class(x, y, lambda z: torch.pdist(z.flatten(1)).mean(), list),
            "one number",
        ),
        "a seed": (seeded(lambda x, y: by_class(x, y, lambda z: torch.pdist(z.flatten(1)).mean())), "sets a seed"),
        "images of one channel": (
            lambda x, y: by_class(x[:, 0], y, lambda z: torch.pdist(z.flatten(1)).mean()),
            "",
        ),
    },
    "time_embedding": {
        "times last": (lambda t, size: waves(t, size).T, "times come first"),
        "twice as many": (lambda t, size: waves(t, 2 * size), "twice as many"),
        "numpy": (lambda t, size: waves(t, size).numpy(), "should be a tensor"),
        "a list": (lambda t, size: waves(t, size).tolist(), "should be a tensor"),
        "size 6 alone": (lambda t, size: waves(t, 6), "shape"),
        "cosines and sines apart": (lambda t, size: waves(t, size).chunk(2, dim=1), "should be a tensor"),
        "one more axis": (lambda t, size: waves(t, size).unflatten(1, (2, -1)), "shape"),
        "single precision": (lambda t, size: waves(t, size).float(), "should have the dtype torch.float64"),
        "a seed": (seeded(waves), "sets a seed"),
    },
    "residual_block": {
        "in place": (block_in_place, "changed a tensor"),
        "added to x": (block_adds_to_x, "changed a tensor"),
        "detached": (lambda *args: block(*args).detach(), "no gradient reaches"),
        "no_grad": (block_no_grad, "no gradient reaches"),
        "first detached": (
            lambda x, c, f, shift, g: block(x, c, lambda h: f(h).detach(), shift, g),
            "no gradient reaches",
        ),
        "embedding detached": (lambda x, c, f, shift, g: block(x, c.detach(), f, shift, g), "no gradient reaches"),
        "straight way detached": (
            lambda x, c, f, shift, g: block(x, c, f, shift, g) - x + x.detach(),
            "the gradient of",
        ),
        "square images alone": (
            lambda x, c, f, shift, g: block(x, c, f, lambda c: shift(c), g).view(*x.shape[:2], *[x.shape[2]] * 2),
            "raised RuntimeError",
        ),
        "single precision": (
            lambda x, c, f, shift, g: block(x, c, f, shift, g).float(),
            "should have the dtype torch.float64",
        ),
        "output and embedding": (lambda x, c, f, shift, g: (block(x, c, f, shift, g), shift(c)), "should be a tensor"),
        "a seed": (seeded(block), "sets a seed"),
    },
    "nearest_neighbour_distance": {
        "mean": (lambda x, data: distance(x, data).amin(1).mean(), "was a mean taken"),
        "a number": (lambda x, data: float(distance(x, data).min()), "was a mean taken"),
        "which": (lambda x, data: distance(x, data).argmin(1), "which image is nearest"),
        "for the data": (lambda x, data: distance(x, data).amin(0), "for each of the data"),
        "not flattened": (lambda x, data: torch.cdist(x, data).amin(1), "raised RuntimeError"),
        "rows of pixels": (lambda x, data: (x[:, None] - data).norm(dim=-1).amin(1), "should have shape"),
        "a tuple": (lambda x, data: distance(x, data).min(1), "both came back"),
        "numpy": (lambda x, data: np.asarray(distance(x, data).amin(1)), "should be a tensor"),
        "a list": (lambda x, data: distance(x, data).amin(1).tolist(), "should be a tensor"),
        "the whole table": (distance, "should have shape"),
        "single precision": (
            lambda x, data: distance(x, data).amin(1).float(),
            "should have the dtype torch.float64",
        ),
        "a seed": (seeded(lambda x, data: distance(x, data).amin(1)), "sets a seed"),
    },
}
