"""Wrong answers to lab 6 beside the mistakes on its cards: of another kind, or short of what the docstring promises.

exercise → name → (answer, words that the verdict must contain).
"""

import math

import torch
from torch.nn.functional import silu

from fmlab.schedules import coefficient


def guided(u, y, w, null):
    return lambda x, t: (1 - w) * u(x, t, null) + w * u(x, t, y)


def guided_by(change):
    """The guided field of a changed network."""
    return lambda u, y, w, null: guided(change(u), y, w, null)


last = {}


def forgetful(*args):
    """A field that reads label and scale when it is asked, from where the last call has put them."""
    last["args"] = args
    return lambda x, t: guided(*last["args"])(x, t)


def shaped_time(u):
    return lambda x, t, y: u(x, coefficient(t, x), y)


def loss_with(
    model=lambda u: u,
    noise=lambda e: e,
    velocity=lambda z, e, x, s: z - e,
    total=lambda error: error.square().flatten(1).sum(1).mean(),
):
    """guided_flow_matching_loss with another network, noise, target or norm."""

    def guided_flow_matching_loss(u, z, y, t, e):
        s, e = coefficient(t, z), noise(e)
        x = s * z + (1 - s) * e
        return total(model(u)(x, t, y) - velocity(z, e, x, s))

    return guided_flow_matching_loss


def loss_half_detached(*args):
    right = loss_with()(*args)
    return (right + right.detach()) / 2


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


def drop(y, p, null, uniform):
    return torch.where(uniform < p, null, y)


def drop_in_place(y, p, null, uniform):
    y[uniform < p] = null
    return y


def by_class(x, y, of_class, combine=lambda values: torch.stack(values).mean()):
    """A number for each class, combined."""
    return combine([of_class(x[y == label]) for label in y.unique()])


def hits(logits, y):
    return (logits.argmax(1) == y).float()


def distance(x, data):
    return torch.cdist(x.flatten(1), data.flatten(1))


def waves(t, size):
    angles = math.pi * t[:, None] * torch.arange(1, size // 2 + 1)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def block(x, c, first, shift, second, act=silu):
    return x + second(silu(first(act(x)) + shift(c)[:, :, None, None]))


WRONG = {
    "guided_vector_field": {
        "two fields": (lambda u, *_: (u, u), "should be a function, found a tuple of 2"),
        "of the label, too": (lambda *args: lambda x, t, y: guided(*args)(x, t), "raised TypeError"),
        "labels mixed": (lambda u, y, w, null: lambda x, t: u(x, t, null + w * (y - null)), "labels are whole numbers"),
        "labels as floats": (guided_by(lambda u: lambda x, t, y: u(x, t, y * 1.0)), "labels are whole numbers"),
        "t shaped": (guided_by(shaped_time), "hand t on as it came"),
        "t as a number": (guided_by(lambda u: lambda x, t, y: u(x, float(t), y)), "raised"),
        "y as a tensor": (lambda u, y, w, null: guided(u, y.long(), w, null), "'int' object has no attribute 'long'"),
        "flattened": (guided_by(lambda u: lambda x, t, y: u(x.flatten(1), t, y).view_as(x)), ""),
        "single precision": (guided_by(lambda u: lambda *args: u(*args).float()), "have the dtype torch.float64"),
        "the last label and scale": (forgetful, ""),
    },
    "drop_labels": {
        "in place": (drop_in_place, "changed a tensor"),
        "new numbers": (lambda y, p, null, _: drop(y, p, null, torch.rand(len(y))), "random numbers of its own"),
        "a seed": (lambda *args: (torch.manual_seed(0), drop(*args))[1], "sets a seed"),
        "taken out": (lambda y, p, null, uniform: y[uniform >= p], "taken out"),
        "the mask": (lambda y, p, null, uniform: uniform < p, "which labels to drop"),
        "float labels": (lambda y, *args: drop(y.float(), *args), "dtype"),
        "long labels": (lambda *args: drop(*args).long(), "dtype torch.int"),
    },
    "guided_flow_matching_loss": {
        "one per image": (loss_with(total=lambda e: e.square().flatten(1).sum(1)), "one number"),
        "images alone": (loss_with(total=lambda e: e.square().sum((1, 2, 3)).mean()), "raised IndexError"),
        "labels as a column": (loss_with(lambda u: lambda x, t, y: u(x, t, y[:, None])), "labels are whole numbers"),
        "t shaped for the network, too": (loss_with(shaped_time), "hand t on as it came"),
        "network detached": (loss_with(lambda u: lambda *args: u(*args).detach()), "no gradient reaches"),
        "half detached": (loss_half_detached, "the gradient of the loss"),
        "a float": (lambda *args: float(loss_with()(*args).detach()), "no gradient reaches"),
        "new noise": (loss_with(noise=torch.randn_like), "random numbers of its own"),
        "velocity 0 at t = 1": (loss_with(velocity=lambda z, e, x, s: (z - x) / (1 - s + 1e-8)), ""),
        "no velocity at t = 0": (loss_with(velocity=lambda z, e, x, s: (x - e) / s), "nan"),
    },
    "sample_guided": {
        "all states": (samples(torch.stack), "all states came back"),
        "new noise": (samples(start=torch.randn_like), "random numbers of its own"),
        "times in a column": (samples(field=timed_by_rows), "hand t on as it came"),
        "pixels cut off": (samples(lambda states: states[-1].clamp(-1, 1)), ""),
    },
    "fidelity": {
        "one per image": (hits, "one number"),
        "truth values averaged": (lambda logits, y: (logits.argmax(1) == y).mean(), "raised RuntimeError"),
        "ten labels": (lambda logits, y: hits(logits.view(-1, 10), y).mean(), "raised RuntimeError"),
    },
    "diversity": {
        "one per class": (lambda x, y: by_class(x, y, lambda z: distance(z, z).mean(), torch.stack), "one number"),
        "not flattened": (lambda x, y: by_class(x, y, lambda z: torch.pdist(z).mean()), "raised"),
        "images of one channel": (lambda x, y: by_class(x[:, 0], y, lambda z: torch.pdist(z.flatten(1)).mean()), ""),
    },
    "time_embedding": {
        "times last": (lambda t, size: waves(t, size).T, "times come first"),
        "twice as many": (lambda t, size: waves(t, 2 * size), "twice as many"),
        "size 6 alone": (lambda t, size: waves(t, 6), "shape"),
        "cosines and sines apart": (lambda t, size: waves(t, size).chunk(2, dim=1), "should be a tensor"),
    },
    "residual_block": {
        "first detached": (lambda x, c, f, *rest: block(x, c, lambda h: f(h).detach(), *rest), "no gradient reaches"),
        "embedding detached": (lambda x, c, *layers: block(x, c.detach(), *layers), "no gradient reaches"),
        "straight way detached": (lambda x, *args: block(x, *args) - x + x.detach(), "the gradient of"),
        "square images alone": (lambda x, *args: block(x, *args).view(*x.shape[:3], x.shape[2]), "raised RuntimeError"),
    },
    "nearest_neighbour_distance": {
        "mean": (lambda x, data: distance(x, data).amin(1).mean(), "was a mean taken"),
        "a number": (lambda x, data: float(distance(x, data).min()), "was a mean taken"),
        "which": (lambda x, data: distance(x, data).argmin(1), "which image is nearest"),
        "for the data": (lambda x, data: distance(x, data).amin(0), "for each of the data"),
        "not flattened": (lambda x, data: torch.cdist(x, data).amin(1), "raised RuntimeError"),
        "rows of pixels": (lambda x, data: (x[:, None] - data).norm(dim=-1).amin(1), "should have shape"),
        "a tuple": (lambda x, data: distance(x, data).min(1), "both came back"),
    },
}
