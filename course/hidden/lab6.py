"""Hidden tests of lab 6: images, one sample, other dtypes and labels, closed forms for Gaussians, measured orders."""

import math

import torch

from course.hidden import check
from fmlab.checks.compare import require, require_close, require_number, require_tensor
from fmlab.checks.inputs import states
from fmlab.checks.lab6 import (
    labelled,
    layers,
    loss_of_each,
    require_field,
    require_gradient,
    swish,
)
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.paths import GaussianPath

DOUBLE = torch.float64


def two_gaussians():
    """Exact fields of two labelled Gaussians, label 2 for none, and log p_t(y | x) up to a constant."""
    means, variances = torch.tensor([[-1.0, 0.5], [1.5, 0.0]], dtype=DOUBLE), (0.2, 0.4)
    laws = [Gaussian(mean, variance) for mean, variance in zip(means, variances)]
    laws.append(GaussianMixture(means, torch.tensor(variances, dtype=DOUBLE)))
    marginals = [GaussianPath().marginal(law) for law in laws]

    def field(x, t, y):
        """The field of each row's own label."""
        every = torch.stack([marginal.vector_field(x, t) for marginal in marginals])
        return every[torch.as_tensor(y).expand(len(x)), torch.arange(len(x))]

    def log_posterior(x, t, y):
        return marginals[y].log_prob(x, t) - marginals[2].log_prob(x, t)

    return field, log_posterior


@check("the formula above the exercise; w = 1 is no guidance")
def guided_vector_field(answer):
    field, log_posterior = two_gaussians()
    for y, t, w in ((0, 0.6, 0.0), (1, 0.3, 0.5), (1, 0.8, 1.0), (0, 0.5, 4.0)):
        x = states(21, 6, 2, dtype=DOUBLE).requires_grad_()
        (slope,) = torch.autograd.grad(log_posterior(x, t, y).sum(), x)
        x, kappa = x.detach(), (1 - t) / t  # the factor that turns a score into a field, for α = t and β = 1 − t
        expected = field(x, t, 2) + w * kappa * slope
        found = require_field(answer(field, y, w, 2))(x, t)
        require_close(found, expected, f"the field of two Gaussians, guided by w = {w:g},", tolerance=1e-6)
    x, t, y = states(22, 3, 1, 4, 4, dtype=DOUBLE), torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE), torch.tensor([4, 0, 2])
    expected = 2.5 * labelled(x, t, y) - 1.5 * labelled(x, t, 6)
    first, second = answer(labelled, y, 2.5, 6), answer(labelled, y, 0.5, 6)
    require_close(require_field(first)(x, t), expected, "the field made before another one, on images,")
    expected = 0.5 * (labelled(x, t, y) + labelled(x, t, 6))
    require_close(require_field(second)(x, t), expected, "the field at w = ½ on images")
    one = require_field(answer(labelled, torch.tensor([3]), 4.0, 5))(x[:1], 0.2)
    require_close(one, 4 * labelled(x[:1], 0.2, 3) - 3 * labelled(x[:1], 0.2, 5), "the field for one image")


@check("the text above the exercise: p is the share that is dropped")
def drop_labels(answer):
    uniform = torch.rand(2000, generator=torch.Generator().manual_seed(23))
    for y, p, null in (
        (torch.arange(2000) % 7, 0.25, 7),
        (torch.arange(2000, dtype=torch.int32) % 3, 0.02, 99),
        (torch.arange(2000) % 10, 0.0, 10),
        (torch.arange(2000) % 10, 1.0, 10),
    ):
        found = answer(y, p, null, uniform)
        expected = [null if number < p else label for number, label in zip(uniform.tolist(), y.tolist())]
        require_tensor(found, y, "the tensor of labels")
        require(found.tolist() == expected, f"other labels should be dropped at p = {p:g}, for null = {null}")
    found = answer(torch.tensor([4]), 0.5, 12, torch.tensor([0.25]))
    require_tensor(found, torch.tensor([4]), "the tensor of one label")
    require(found.tolist() == [12], "a single label was not dropped where its number is below p")


@check("the formula above the exercise; notes, eq. 31")
def guided_flow_matching_loss(answer):
    for seed, shape in ((24, (5, 3)), (27, (1, 3, 2, 6)), (30, (3, 1, 8, 8))):
        z, noise = states(seed, *shape, dtype=DOUBLE), states(seed + 1, *shape, dtype=DOUBLE)
        y = torch.arange(len(z)) * 2 + 1
        t = torch.linspace(0.95, 0.05, len(z), dtype=DOUBLE)
        weight = torch.tensor([1.3, -0.4], dtype=DOUBLE, requires_grad=True)

        def u(x, t, y, weight=weight):
            return weight[0] * labelled(x, t, y) + weight[1] * x

        found, expected = answer(u, z, y, t, noise), loss_of_each(u, z, y, t, noise).mean()
        require_number(found, float(expected), f"the loss for data of shape {shape}", tolerance=1e-6)
        require_gradient(found, expected, [weight], "the loss")


@check("the formula above the exercise; lab 1, exercise 3")
def sample_guided(answer):
    field, _ = two_gaussians()
    noise, y = states(33, 8, 2, dtype=DOUBLE), torch.tensor([0, 1] * 4)
    mean = torch.tensor([[-1.0, 0.5], [1.5, 0.0]], dtype=DOUBLE)[y]
    exact = mean + torch.tensor([0.2, 0.4], dtype=DOUBLE).sqrt()[y][:, None] * noise  # the flow at w = 1
    found = answer(field, y, 1.0, 2, noise, 40)
    require_close(found, exact, "the end of the exact flow to two Gaussians, one for each label,", tolerance=2e-3)
    for steps, shape, label in ((1, (1, 1, 4, 4), 3), (7, (3, 1, 2, 2), torch.tensor([0, 2, 1]))):
        x = noise = states(34, *shape, dtype=DOUBLE)
        for k in range(steps):
            t, h = k / steps, 1 / steps

            def u(x, t, label=label):
                return labelled(x, t, 5) + 3.5 * (labelled(x, t, label) - labelled(x, t, 5))

            x = x + h * u(x + h / 2 * u(x, t), t + h / 2)
        found = answer(labelled, label, 3.5, 5, noise, steps)
        require_close(found, x, f"the state of images after {steps} steps", tolerance=1e-5)


@check("the text above the exercise")
def fidelity(answer):
    for n, labels in ((1000, 10), (1, 3), (7, 2)):
        logits, y = states(35, n, labels, dtype=DOUBLE), torch.arange(n) % labels
        hits = sum(row.index(max(row)) == label for row, label in zip(logits.tolist(), y.tolist()))
        require_number(answer(logits, y), hits / n, f"the share recognised of {n}", tolerance=1e-6)
    certain = 50 * torch.eye(4)
    require_number(answer(certain, torch.arange(4)), 1.0, "the share where every label is right")
    require_number(answer(certain, torch.tensor([1, 2, 3, 0])) + 1, 1.0, "one more than the share where none is right")


@check("the text above the exercise: pairs within a class")
def diversity(answer):
    for shape in ((23, 2), (23, 1, 3, 5)):
        x, y = states(36, *shape, dtype=DOUBLE), torch.tensor([2] * 4 + [5] * 10 + [0] * 2 + [7] * 7)
        means = []
        for label in (0, 2, 5, 7):
            rows = [row for row, other in zip(x, y.tolist()) if other == label]
            pairs = [(a - b).norm() for k, a in enumerate(rows) for b in rows[:k]]
            means.append(sum(pairs) / len(pairs))
        require_number(answer(x, y), float(sum(means)) / 4, f"the diversity of points of shape {shape[1:]}")
    require_number(answer(x, torch.zeros(23).long()), float(torch.pdist(x.flatten(1)).mean()), "one class's diversity")


@check("the text above the exercise")
def nearest_neighbour_distance(answer):
    for shape, n, many in (((2,), 1, 9), ((1, 3, 5), 11, 6)):
        x, data = states(37, n, *shape, dtype=DOUBLE), states(38, many, *shape, dtype=DOUBLE) + 0.3
        data[0] = x[-1]
        expected = torch.stack([min((a - b).norm() for b in data) for a in x])
        require_close(answer(x, data), expected, f"the distances of {n} points of shape {shape}", tolerance=1e-3)


@check("the formula above the exercise")
def time_embedding(answer):
    for size, t in ((2, torch.tensor([0.3], dtype=DOUBLE)), (16, torch.linspace(0, 1, 7, dtype=DOUBLE))):
        rows = [
            [math.cos(math.pi * k * s) for k in range(1, size // 2 + 1)]
            + [math.sin(math.pi * k * s) for k in range(1, size // 2 + 1)]
            for s in t.tolist()
        ]
        require_close(
            answer(t, size), torch.tensor(rows, dtype=DOUBLE), f"the embedding of size {size}", tolerance=1e-5
        )


@check("the formula above the exercise")
def residual_block(answer):
    for n, channels, sides in ((1, 3, (2, 6)), (5, 2, (4, 4))):
        first, shift, second, kernels = layers(40, channels, size=7, dtype=DOUBLE)
        x, c = states(43, n, channels, *sides, dtype=DOUBLE), states(44, n, 7, dtype=DOUBLE).requires_grad_()
        moved = torch.einsum("nc,nchw->nchw", shift(c), torch.ones_like(x))
        expected = x + second(swish(first(swish(x)) + moved))
        found = answer(x, c, first, shift, second)
        require_close(found, expected, f"the output for images of shape {(channels, *sides)}", tolerance=1e-6)
        require_gradient(found, expected, [*kernels, c], "the output")
    x, c = states(45, 2, 3, 5, 5), states(46, 2, 3)
    found = answer(x, c, lambda h: h, lambda c: c, lambda h: 2 * h)
    require_close(found, x + 2 * swish(swish(x) + c[:, :, None, None]), "the output of a block without convolutions")
