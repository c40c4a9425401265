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


def std(s, S, w):
    return s**w * S ** (1 - w)


def both(u, x, t, y, w, null):
    t, y = torch.as_tensor(t).to(x).expand(len(x)), torch.as_tensor(y).expand(len(x))
    return u(torch.cat([x, x]), torch.cat([t, t]), torch.cat([torch.full_like(y, null), y]))


def batched(u, x, t, y, w, null):
    free, shown = both(u, x, t, y, w, null).chunk(2)
    return (1 - w) * free + w * shown


def in_three_calls(u, x, t, y, w, null):
    return u(x, t, null) + w * (u(x, t, y) - u(x, t, null))


def row_by_row(u, x, t, y, w, null):
    t, y = torch.as_tensor(t).to(x).expand(len(x)), torch.as_tensor(y).expand(len(x))
    return torch.cat([batched(u, x[k : k + 1], t[k], int(y[k]), w, null) for k in range(len(x))])


def pushed(
    copy=lambda x: x.detach().requires_grad_(),
    mode=torch.enable_grad,
    total=lambda values: values.sum(),
    factor=lambda t, x: coefficient((1 - t) / t, x),
):
    """classifier_guided_field with another copy, without gradients, of another total, or with another factor."""

    def classifier_guided_field(u, log_likelihood, w):
        def field(x, t):
            with mode():
                given = copy(x)
                (gradient,) = torch.autograd.grad(total(log_likelihood(given, t)), given)
            return u(x, t) + w * factor(t, x) * gradient

        return field

    return classifier_guided_field


def within(u, y, w, null, start, end, shape=coefficient):
    def field(x, t):
        t_ = torch.as_tensor(t)
        scale = shape(torch.where((start <= t_) & (t_ < end), w, 1.0).to(x), x)
        return (1 - scale) * u(x, t, null) + scale * u(x, t, y)

    return field


def for_one_time(u, y, w, null, start, end):
    return lambda x, t: guided(u, y, w if start <= t < end else 1, null)(x, t)


def log_prob(mean, cov, A, y, noise_var):
    covariance = noise_var * torch.eye(len(y)).to(A) + A @ cov @ A.T
    return torch.distributions.MultivariateNormal(mean @ A.T, covariance).log_prob(y)


def filled(u, known, mask, noise, steps, new=None, states=lambda states: states[-1]):
    """inpaint with new noise in each step, or that returns something else."""
    path = [noise]
    for k in range(steps):
        t = k / steps
        x = torch.where(mask, t * known + (1 - t) * (new or (lambda e: e))(noise), path[-1])
        path.append(x + u(x, t) / steps)
    path[-1] = torch.where(mask, known, path[-1])
    return states(path)


def filled_in_place(u, known, mask, noise, steps):
    for _ in range(steps):
        noise += filled(u, known, mask, noise, steps) / steps
    return noise


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
    "guided_std": {
        "of N(0, 1) alone": (lambda s, S, w: 1.0, ""),
        "a list": (lambda s, S, w: [std(s, S, w)], "should be one number"),
        "mean, too": (lambda s, S, w: (0.8, std(s, S, w)), "should be one number"),
        "at time 0.5": (lambda s, S, w: math.hypot(s, 1) ** w * math.hypot(S, 1) ** (1 - w) / 2, ""),
    },
    "batch_guidance": {
        "both halves": (both, "rows came back, those of both fields"),
        "three calls": (in_three_calls, "the number of calls of the network"),
        "row by row": (row_by_row, "the number of calls of the network"),
        "a function": (lambda u, x, t, y, w, null: lambda x, t: batched(u, x, t, y, w, null), "should be a tensor"),
        "labels per row alone": (
            lambda u, x, t, y, w, null: batched(u, x, t, y[: len(x)], w, null),
            "raised TypeError",
        ),
        "times per row alone": (
            lambda u, x, t, y, w, null: batched(u, x, torch.cat([t, t])[: len(x)], y, w, null),
            "raised",
        ),
        "n times": (
            lambda u, x, t, y, w, null: batched(lambda a, b, c: u(a, b[: len(x)], c), x, t, y, w, null),
            "raised",
        ),
        "no null label": (
            lambda u, x, t, y, w, null: batched(lambda a, b, c: u(a, b, c * (c != null)), x, t, y, w, null),
            "",
        ),
    },
    "classifier_guided_field": {
        "no gradients": (pushed(mode=torch.no_grad), "raised RuntimeError"),
        "as gradients are": (pushed(mode=torch.inference_mode), "raised RuntimeError"),
        "not a copy that is differentiated": (pushed(copy=lambda x: x.detach()), "raised RuntimeError"),
        "no copy": (pushed(copy=lambda x: x.requires_grad_()), "requires a gradient now"),
        "the first row alone": (pushed(total=lambda values: values[0]), ""),
        "t along the last axis": (pushed(factor=lambda t, x: (1 - t) / t), ""),
        "points alone": (pushed(factor=lambda t, x: ((1 - t) / t)[:, None]), "raised TypeError"),
        "a tensor": (lambda u, log_likelihood, w: torch.zeros(3), "a function should be returned"),
        "the gradient of a density": (pushed(total=lambda values: values.exp().sum()), ""),
    },
    "guidance_in_interval": {
        "for one time alone": (for_one_time, "raised RuntimeError"),
        "scale along the last axis": (lambda *args: within(*args, shape=lambda scale, x: scale), ""),
        "points alone": (lambda *args: within(*args, shape=lambda scale, x: scale[:, None]), "raised RuntimeError"),
        "a tensor": (lambda u, y, w, null, start, end: torch.zeros(3), "a function should be returned"),
    },
    "autoguided_field": {
        "two fields": (lambda good, bad, w: (good, bad), "should be a function, found a tuple of 2"),
        "a label, too": (lambda good, bad, w: lambda x, t, y: w * good(x, t) + (1 - w) * bad(x, t), "raised TypeError"),
        "t shaped": (
            lambda good, bad, w: lambda x, t: w * good(x, coefficient(t, x)) + (1 - w) * bad(x, t),
            "hand t on as it came",
        ),
        "x and t exchanged": (lambda good, bad, w: lambda x, t: w * good(t, x) + (1 - w) * bad(t, x), ""),
    },
    "negative_field": {
        "two fields": (lambda u, y, avoid, w: (u, u), "should be a function, found a tuple of 2"),
        "labels mixed": (
            lambda u, y, avoid, w: lambda x, t: u(x, t, avoid + w * (y - avoid)),
            "labels are whole numbers",
        ),
        "t shaped": (lambda u, y, avoid, w: guided(shaped_time(u), y, w, avoid), "hand t on as it came"),
    },
    "measurement_log_prob": {
        "one number": (lambda *args: log_prob(*args).sum(), "should have shape"),
        "the density": (lambda *args: log_prob(*args).exp(), ""),
        "detached": (lambda mean, *args: log_prob(mean.detach(), *args), "no gradient reaches"),
        "one row alone": (lambda mean, *args: log_prob(mean[0], *args), "should have shape"),
    },
    "inpaint": {
        "new noise": (lambda *args: filled(*args, new=torch.randn_like), "random numbers of its own"),
        "all states": (lambda *args: filled(*args, states=torch.stack), "should have shape"),
        "in place": (filled_in_place, "changed a tensor"),
        "images of one channel": (
            lambda u, known, mask, noise, steps: filled(u, known, mask, noise[:, :1], steps),
            "",
        ),
    },
}
