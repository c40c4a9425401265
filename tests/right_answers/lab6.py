"""Right answers to lab 6 in other styles than the solution's: loops, NumPy, one joint call, other algebra."""

import math

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.nn.functional import one_hot

from fmlab import guidance, paths
from fmlab.processes import ODE
from fmlab.schedules import coefficient
from fmlab.simulators import Midpoint, simulate


def from_the_null_field(u, y, w, null):
    def field(x, t):
        free = u(x, t, null)
        return free + w * (u(x, t, y) - free)

    return field


def joint_call(u, y, w, null):
    """Both fields in one call of twice as many rows."""

    def field(x, t):
        t = torch.as_tensor(t).to(x).expand(len(x))
        labels = torch.as_tensor(y).expand(len(x))
        both = u(torch.cat([x, x]), torch.cat([t, t]), torch.cat([torch.full_like(labels, null), labels]))
        return torch.lerp(*both.chunk(2), w)

    return field


def point_by_point(u, y, w, null):
    """Each row by itself, with a time and a label of its own."""

    def field(x, t):
        t, labels = torch.as_tensor(t).to(x).expand(len(x)), torch.as_tensor(y).expand(len(x))
        rows = [slice(k, k + 1) for k in range(len(x))]
        return torch.cat([torch.lerp(u(x[k], t[k], null), u(x[k], t[k], labels[k]), w) for k in rows])

    return field


def drop_by_loop(y, p, null, uniform):
    kept = y.clone()
    for k in range(len(y)):
        if uniform[k] < p:
            kept[k] = null
    return kept


def drop_by_arithmetic(y, p, null, uniform):
    dropped = (uniform < p).to(y.dtype)
    return y * (1 - dropped) + null * dropped


def loss_by_loop(u, z, y, t, noise):
    total = 0.0
    for k in range(len(z)):
        x = t[k] * z[k] + (1 - t[k]) * noise[k]
        total = total + ((u(x[None], t[k][None], y[k][None])[0] - (z[k] - noise[k])) ** 2).sum()
    return total / len(z)


def loss_in_halves(u, z, y, t, noise):
    """The network asked about one half of the batch after the other, with its inputs by name."""
    s = t.reshape(t.shape + (1,) * (z.ndim - 1))
    x = torch.lerp(noise, z, s)
    halves = torch.arange(len(z)).chunk(2)
    output = torch.cat([u(x[rows], t[rows], y=y[rows]) for rows in halves])
    return (output - (z - noise)).reshape(len(z), -1).norm(dim=1).pow(2).mean()


def loss_by_path(u, z, y, t, noise):
    path = paths.GaussianPath()
    error = u(path.interpolate(z, noise, t), t, y) - path.velocity(z, noise, t)
    return torch.einsum("n...,n...->n", error, error).mean()


def sample_by_midpoint(u, y, w, null, noise, steps):
    """With the library's guided field and its single step."""
    field, method, x = guidance.guided_vector_field(u, y, w, null), Midpoint(), noise
    for t in torch.linspace(0, 1, steps + 1)[:-1]:
        x = method.step(field, x, t, t + 1 / steps)
    return x


def sample_on_a_grid(u, y, w, null, noise, steps):
    field = ODE(from_the_null_field(u, y, w, null))
    return simulate(field, noise, torch.linspace(0, 1, steps + 1), Midpoint())


def sample_in_a_copy(u, y, w, null, noise, steps):
    x, t, h = noise.clone(), 0.0, 1 / steps
    field = joint_call(u, y, w, null)
    for _ in range(steps):
        half = x + 0.5 * h * field(x, t)
        x += h * field(half, t + 0.5 * h)
        t += h
    return x


def diversity_by_loops(x, y):
    means = []
    for label in set(y.tolist()):
        rows = x[y == label]
        pairs = [float(torch.dist(a, b)) for k, a in enumerate(rows) for b in rows[k + 1 :]]
        means.append(sum(pairs) / len(pairs))
    return sum(means) / len(means)


def diversity_by_matrix(x, y):
    means = []
    for label in y.unique():
        rows = x[y == label].flatten(1)
        means.append(torch.cdist(rows, rows).sum() / (len(rows) * (len(rows) - 1)))
    return torch.stack(means).mean()


def diversity_by_masks(x, y):
    distances = torch.cdist(x.flatten(1), x.flatten(1))
    off = ~torch.eye(len(y), dtype=torch.bool)
    return np.mean([distances[(y == k)[:, None] & (y == k)[None] & off].mean().item() for k in y.unique()])


def nearest_by_loop(x, data):
    return torch.stack([(data - image).flatten(1).norm(dim=1).min() for image in x])


def nearest_by_search(x, data):
    search = NearestNeighbors(n_neighbors=1).fit(data.flatten(1).numpy())
    return torch.from_numpy(search.kneighbors(x.flatten(1).numpy())[0][:, 0]).to(x)


def nearest_by_square(x, data):
    x, data = x.flatten(1), data.flatten(1)
    squares = x.square().sum(1, keepdim=True) + data.square().sum(1) - 2 * x @ data.T
    return squares.clamp(min=0).sqrt().amin(1)


def embedding_by_numpy(t, size):
    angles = np.pi * np.outer(t.numpy(), np.arange(1, size // 2 + 1))
    return torch.from_numpy(np.hstack([np.cos(angles), np.sin(angles)])).to(t)


def embedding_in_place(t, size):
    """Column by column into a tensor that is already there."""
    waves = t.new_empty(len(t), size)
    for k in range(1, size // 2 + 1):
        waves[:, k - 1], waves[:, size // 2 + k - 1] = torch.cos(k * math.pi * t), torch.sin(k * math.pi * t)
    return waves


def embedding_by_powers(t, size):
    """e^{iπt} to the powers 1 … size/2."""
    powers = torch.polar(torch.ones_like(t), math.pi * t)[:, None] ** torch.arange(1, size // 2 + 1)
    return torch.cat([powers.real, powers.imag], dim=1)


def block_step_by_step(x, c, first, shift, second):
    h = first(x * torch.sigmoid(x))
    s = shift(c)
    h = h + s.reshape(*s.shape, 1, 1)
    return second(h * torch.sigmoid(h)) + x


def block_by_module(x, c, first, shift, second):
    act = nn.SiLU()
    return torch.add(second(act(first(act(x)) + shift(c)[..., None, None])), x)


def block_with_own_memory(x, c, first, shift, second):
    h = first(nn.functional.silu(x))
    h += shift(c).view(len(x), -1, 1, 1)
    h = second(nn.functional.silu(h, inplace=True))
    return h.add_(x)


def std_by_logs(s, S, w):
    return math.exp(w * math.log(s) + (1 - w) * math.log(S))


def std_by_integration(s, S, w):
    """The equation for the distance, by the midpoint rule."""
    ts = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000

    def rate(std):
        return (ts * std**2 - (1 - ts)) / (ts**2 * std**2 + (1 - ts) ** 2)

    return torch.exp((w * rate(s) + (1 - w) * rate(S)).mean())


def batch_with_the_label_first(u, x, t, y, w, null):
    labels = torch.as_tensor(y).repeat(len(x) // max(1, torch.as_tensor(y).numel()))
    times = t if torch.as_tensor(t).ndim == 0 else t.repeat(2)
    both = u(x.repeat(2, *[1] * (x.ndim - 1)), times, torch.cat([labels, labels * 0 + null]))
    return w * both[: len(x)] + (1 - w) * both[len(x) :]


def batch_side_by_side(u, x, t, y, w, null):
    """Each state beside its copy."""
    labels = torch.as_tensor(y).expand(len(x))
    times = torch.as_tensor(t).to(x).expand(len(x)).repeat_interleave(2)
    both = u(
        x.repeat_interleave(2, dim=0), times, torch.stack([torch.full_like(labels, null), labels], dim=1).flatten()
    )
    free, shown = both[::2], both[1::2]
    return free + w * (shown - free)


def classifier_by_backward(u, log_likelihood, w):
    def field(x, t):
        with torch.enable_grad():
            copy = x.detach().clone().requires_grad_(True)
            log_likelihood(copy, t).sum().backward()
        factor = coefficient((1 - torch.as_tensor(t).to(x)) / torch.as_tensor(t).to(x), x)
        return u(x, t) + w * factor * copy.grad

    return field


def classifier_row_by_row(u, log_likelihood, w):
    @torch.enable_grad()
    def push(x, t):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(log_likelihood(x, t), x)[0]

    def field(x, t):
        ts = torch.as_tensor(t).to(x).expand(len(x))
        rows = [(1 / ts[k] - 1) * push(x[k : k + 1], ts[k]) for k in range(len(x))]
        return u(x, t) + torch.cat(rows) * w

    return field


def classifier_by_ones(u, log_likelihood, w):
    """The gradient of all rows at once, weighted by ones, with the score that the field amounts to."""

    def field(x, t):
        x = x.detach()
        with torch.enable_grad():
            x.requires_grad_()
            found = log_likelihood(x, t)
            gradient = torch.autograd.grad(found, x, torch.ones_like(found))[0]
        x.requires_grad_(False)
        s = torch.as_tensor(t).to(x).reshape(-1, *[1] * (x.ndim - 1))
        return u(x, t) + w * gradient / s - w * gradient

    return field


def interval_by_branches(u, y, w, null, start, end):
    """A loop over times, and one field where one is enough."""

    def field(x, t):
        times = torch.as_tensor(t).flatten().tolist()
        scales = torch.tensor([w if start <= time < end else 1.0 for time in times]).to(x)
        scale = scales.reshape(-1, *[1] * (x.ndim - 1))
        shown = u(x, t, y)
        return shown if bool((scales == 1).all()) else u(x, t, null) * (1 - scale) + shown * scale

    return field


def interval_by_difference(u, y, w, null, start, end):
    def field(x, t):
        t_ = torch.as_tensor(t)
        inside = torch.logical_and(t_ >= start, t_ < end).to(x.dtype)
        shown = u(x, t, y)
        return shown + (w - 1) * coefficient(inside, x) * (shown - u(x, t, null))

    return field


def log_prob_by_cholesky(mean, cov, A, y, noise_var):
    factor = torch.linalg.cholesky(A @ cov @ A.T + noise_var * torch.eye(len(y), dtype=A.dtype))
    white = torch.cholesky_solve((y - mean @ A.T).T, factor)
    squares = ((y - mean @ A.T).T * white).sum(0)
    return -(squares + 2 * factor.diag().log().sum() + len(y) * math.log(2 * math.pi)) / 2


def log_prob_by_inverse(mean, cov, A, y, noise_var):
    spread = torch.einsum("id,de,je->ij", A, cov, A) + torch.diag(noise_var * torch.ones_like(y))
    miss = y - torch.einsum("kd,nd->nk", A, mean)
    return -0.5 * torch.einsum("ni,ij,nj->n", miss, spread.inverse(), miss) - 0.5 * (2 * math.pi * spread).logdet()


def log_prob_row_by_row(mean, cov, A, y, noise_var):
    law = torch.distributions.MultivariateNormal(
        torch.zeros_like(y), A @ cov @ A.T + noise_var * torch.eye(len(y)).to(A)
    )
    return torch.stack([law.log_prob(y - A @ row) for row in mean])


def inpaint_with_indices(u, known, mask, noise, steps):
    x, h = noise.clone(), 1 / steps
    for k in range(steps):
        x[:, mask] = k * h * known[mask] + (1 - k * h) * noise[:, mask]
        x += h * u(x, k * h)
    x[:, mask] = known[mask]
    return x


def inpaint_after_each_step(u, known, mask, noise, steps):
    """The known pixels at the end of a step, which is the start of the next."""
    x = noise
    for t in torch.linspace(0, 1, steps + 1)[:-1]:
        x = x + u(x, t) / steps
        x = torch.where(mask, torch.lerp(noise, known.expand_as(noise), float(t) + 1 / steps), x)
    return x


def inpaint_by_arithmetic(u, known, mask, noise, steps):
    part, x = mask.to(noise.dtype), noise
    for k in range(steps):
        x = part * (k / steps * known + (1 - k / steps) * noise) + (1 - part) * x
        x = x + u(x, k / steps) * (1 / steps)
    return part * known + (1 - part) * x


RIGHT = {
    "guided_vector_field": [from_the_null_field, joint_call, point_by_point],
    "drop_labels": [
        drop_by_loop,
        drop_by_arithmetic,
        lambda y, p, null, uniform: y.masked_fill(uniform < p, null),
        lambda y, p, null, uniform: torch.from_numpy(np.where(uniform.numpy() < p, null, y.numpy())).to(y.dtype),
    ],
    "guided_flow_matching_loss": [loss_by_loop, loss_by_path, loss_in_halves],
    "sample_guided": [sample_by_midpoint, sample_on_a_grid, torch.no_grad()(sample_in_a_copy)],
    "fidelity": [
        lambda logits, y: 1 - (logits.topk(1).indices.squeeze(1) != y).double().mean().item(),
        lambda logits, y: np.mean(logits.softmax(1).numpy().argmax(axis=1) == y.numpy()),
        lambda logits, y: sum(int(row.argmax() == k) for row, k in zip(logits, y)) / len(y),
        lambda logits, y: (one_hot(logits.argmax(1), logits.shape[1]) * one_hot(y, logits.shape[1])).sum() / len(y),
    ],
    "diversity": [diversity_by_loops, diversity_by_matrix, diversity_by_masks],
    "nearest_neighbour_distance": [nearest_by_loop, nearest_by_square, nearest_by_search],
    "time_embedding": [embedding_by_numpy, embedding_by_powers, embedding_in_place],
    "residual_block": [block_step_by_step, block_with_own_memory, block_by_module],
    "guided_std": [
        std_by_logs,
        std_by_integration,
        lambda s, S, w: S * (s / S) ** w,
        lambda s, S, w: np.power(s / S, w) * S,
    ],
    "batch_guidance": [
        batch_with_the_label_first,
        batch_side_by_side,
        lambda u, x, t, y, w, null: joint_call(u, y, w, null)(x, t),
    ],
    "classifier_guided_field": [classifier_by_backward, classifier_row_by_row, classifier_by_ones],
    "guidance_in_interval": [
        interval_by_branches,
        interval_by_difference,
        lambda u, y, w, null, start, end: (
            lambda x, t: torch.where(
                coefficient((torch.as_tensor(t) >= start) & (torch.as_tensor(t) < end), x),
                from_the_null_field(u, y, w, null)(x, t),
                u(x, t, y),
            )
        ),
    ],
    "autoguided_field": [
        lambda good, bad, w: lambda x, t: bad(x, t) + w * (good(x, t) - bad(x, t)),
        lambda good, bad, w: lambda x, t: torch.lerp(bad(x, t), good(x, t), w),
        lambda good, bad, w: guidance.guided_vector_field(lambda x, t, y: (bad, good)[y](x, t), 1, w, 0),
    ],
    "negative_field": [
        lambda u, y, avoid, w: guidance.guided_vector_field(u, y, w, avoid),
        lambda u, y, avoid, w: from_the_null_field(u, y, w, avoid),
        lambda u, y, avoid, w: lambda x, t: u(x, t, y) + (w - 1) * (u(x, t, y) - u(x, t, avoid)),
    ],
    "measurement_log_prob": [log_prob_by_cholesky, log_prob_by_inverse, log_prob_row_by_row],
    "inpaint": [inpaint_with_indices, inpaint_after_each_step, inpaint_by_arithmetic],
}
