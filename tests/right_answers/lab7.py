"""Right answers to lab 7 in other styles than the solution's: loops, einsum, torch's own functions, other algebra."""

import math

import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from fmlab import autoencoders, transformers


def sample_by_loop(mean, log_var, noise):
    rows = [m + torch.exp(ell * 0.5) * e for m, ell, e in zip(mean, log_var, noise)]
    return torch.stack(rows)


def kl_by_loop(mean, log_var):
    rows = []
    for m, ell in zip(mean, log_var):
        rows.append(0.5 * ((m**2).sum() + ell.exp().sum() - m.numel() - ell.sum()))
    return torch.stack(rows)


def kl_of_distributions(mean, log_var):
    each = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean)))
    return each.reshape(len(mean), -1).sum(dim=1)


def vae_by_loop(x, decoded, mean, log_var, beta):
    total = 0.0
    for a, b, m, ell in zip(x, decoded, mean, log_var):
        total = total + ((a - b) ** 2).sum() + beta * 0.5 * (m**2 + ell.exp() - 1 - ell).sum()
    return total / len(x)


def rate_by_loop(eigenvalues, beta):
    level, nats, error = beta / 2, 0.0, 0.0
    for value in eigenvalues.tolist():
        if value > level:
            nats, error = nats + 0.5 * math.log(value / level), error + level
        else:
            error += value
    return nats, error


def rate_by_mask(eigenvalues, beta):
    alive = eigenvalues > beta / 2
    nats = 0.5 * torch.log(2 * eigenvalues[alive] / beta).sum()
    return nats, eigenvalues[~alive].sum() + alive.sum() * beta / 2


def patches_by_loop(x, size):
    h, w = x.shape[2:]
    tokens = [x[:, :, r : r + size, c : c + size].flatten(1) for r in range(0, h, size) for c in range(0, w, size)]
    return torch.stack(tokens, dim=1)


def patches_by_windows(x, size):
    windows = x.unfold(2, size, size).unfold(3, size, size)  # (n, C, H/p, W/p, p, p)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def glue_by_loop(tokens, size, shape):
    c, h, w = shape
    x = tokens.new_zeros(len(tokens), c, h, w)
    for k in range(tokens.shape[1]):
        r, s = divmod(k, w // size)
        patch = tokens[:, k].reshape(-1, c, size, size)
        x[:, :, r * size : (r + 1) * size, s * size : (s + 1) * size] = patch
    return x


def glue_by_rows(tokens, size, shape):
    c, h, w = shape
    patches = tokens.reshape(len(tokens), h // size, w // size, c, size, size)
    rows = [torch.cat(list(row.unbind(1)), dim=-1) for row in patches.unbind(1)]
    return torch.cat(rows, dim=-2)


def attend_by_einsum(q, k, v):
    scores = torch.einsum("...md,...nd->...mn", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("...mn,...ne->...me", torch.softmax(scores, dim=-1), v)


def attend_by_hand(q, k, v):
    scores = (q / math.sqrt(k.shape[-1])) @ k.transpose(-1, -2)
    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
    return weights @ v


def heads_by_loop(x, qkv, out, heads):
    q, k, v = qkv(x).chunk(3, dim=2)
    size = x.shape[2] // heads
    parts = []
    for h in range(heads):
        mine = slice(h * size, (h + 1) * size)
        parts.append(transformers.attention(q[..., mine], k[..., mine], v[..., mine]))
    return out(torch.cat(parts, dim=-1))


def heads_by_view(x, qkv, out, heads):
    n, tokens, size = x.shape
    q, k, v = qkv(x).view(n, tokens, 3, heads, size // heads).permute(2, 0, 3, 1, 4)
    each = functional.scaled_dot_product_attention(q, k, v)
    return out(each.permute(0, 2, 1, 3).reshape(n, tokens, size))


def heads_by_einsum(x, qkv, out, heads):
    n, tokens, size = x.shape
    q, k, v = (part.reshape(n, tokens, heads, -1) for part in qkv(x).split(size, dim=-1))
    weights = (torch.einsum("nihd,njhd->nhij", q, k) / math.sqrt(size // heads)).softmax(-1)
    return out(torch.einsum("nhij,njhd->nihd", weights, v).reshape(n, tokens, size))


def places_by_loop(rows, columns, size):
    frequencies = [10_000.0 ** (-4 * k / size) for k in range(size // 4)]
    table = []
    for r in range(rows):
        for c in range(columns):
            table.append(
                [math.sin(r * w) for w in frequencies]
                + [math.cos(r * w) for w in frequencies]
                + [math.sin(c * w) for w in frequencies]
                + [math.cos(c * w) for w in frequencies]
            )
    return torch.tensor(table)


def places_by_grid(rows, columns, size):
    rates = torch.exp(-math.log(10_000) * torch.linspace(0, 1, size // 4 + 1)[:-1])
    r, c = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    angles = torch.stack([r.flatten(), c.flatten()])[..., None] * rates
    return torch.cat([angles[0].sin(), angles[0].cos(), angles[1].sin(), angles[1].cos()], dim=1)


def places_by_halves(rows, columns, size):
    def line(n):
        angles = torch.outer(torch.arange(n), 10_000 ** -(torch.arange(0, size, 4) / size))
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    of_rows = line(rows).repeat_interleave(columns, dim=0)
    return torch.hstack([of_rows, line(columns).repeat(rows, 1)])


def block_by_split(x, c, modulation, attend, mlp):
    b1, a1, g1, b2, a2, g2 = modulation(c).unsqueeze(1).split(x.shape[-1], dim=2)
    x = x + g1 * attend(transformers.layer_norm(x, x.shape[-1:]) * (1 + a1) + b1)
    return x + g2 * mlp(transformers.layer_norm(x, x.shape[-1:]) * (1 + a2) + b2)


def block_by_image(x, c, modulation, attend, mlp):
    six = modulation(c).reshape(len(x), 6, 1, -1)

    def norm(x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)

    for layer, k in (attend, 0), (mlp, 3):
        x = torch.addcmul(x, six[:, k + 2], layer(torch.addcmul(six[:, k], norm(x), 1 + six[:, k + 1])))
    return x


def block_by_functions(x, c, modulation, attend, mlp):
    six = modulation(c)
    size = x.shape[2]
    b1, a1, g1, b2, a2, g2 = (six[:, None, k * size : (k + 1) * size] for k in range(6))
    inner = functional.layer_norm(x, (size,))
    h = x + attend(inner + inner * a1 + b1) * g1
    inner = functional.layer_norm(h, (size,))
    return h + mlp(inner + inner * a2 + b2) * g2


def two_by_weights(u, y, s, w, v, no_y, no_s):
    def field(x, t):
        return (1 - w) * u(x, t, no_y, no_s) + (w - v) * u(x, t, y, no_s) + v * u(x, t, y, s)

    return field


def two_by_lerp(u, y, s, w, v, no_y, no_s):
    def field(x, t):
        letter = u(x, t, y, no_s)
        return torch.lerp(u(x, t, no_y, no_s), letter, w) + v * (u(x, t, y, s) - letter)

    return field


def two_in_one_call(u, y, s, w, v, no_y, no_s):
    def field(x, t):
        n = len(x)
        t = torch.as_tensor(t).to(x).expand(n)
        y_, s_ = torch.as_tensor(y).expand(n), torch.as_tensor(s).expand(n)
        none_y, none_s = torch.full_like(y_, no_y), torch.full_like(s_, no_s)
        three = u(
            x.repeat(3, *[1] * (x.ndim - 1)), t.repeat(3), torch.cat([none_y, y_, y_]), torch.cat([none_s, none_s, s_])
        )
        free, letter, both = three.chunk(3)
        return free + w * (letter - free) + v * (both - letter)

    return field


RIGHT = {
    "reparameterise": [
        sample_by_loop,
        lambda m, ell, e: torch.addcmul(m, ell.exp().sqrt(), e),
        lambda m, ell, e: m + e * torch.exp(0.5 * ell),
    ],
    "gaussian_kl": [
        kl_by_loop,
        kl_of_distributions,
        lambda m, ell: -0.5 * (1 + ell - m**2 - ell.exp()).flatten(1).sum(1),
    ],
    "vae_loss": [
        vae_by_loop,
        lambda x, d, m, ell, b: (
            functional.mse_loss(d, x, reduction="sum") / len(x) + b * autoencoders.gaussian_kl(m, ell).mean()
        ),
        lambda x, d, m, ell, b: (
            (x - d).pow(2).sum(tuple(range(1, x.ndim))) - b / 2 * (1 + ell - m**2 - ell.exp()).flatten(1).sum(1)
        ).mean(),
    ],
    "linear_rate": [
        rate_by_loop,
        rate_by_mask,
        lambda lam, b: (
            torch.where(lam > b / 2, (2 * lam / b).log() / 2, 0.0).sum(),
            torch.minimum(lam, torch.tensor(b / 2, dtype=lam.dtype)).sum(),
        ),
    ],
    "scaled_time": [
        lambda t, s: t * s / (t * s + 1 - t),
        lambda t, s: 1 - (1 - t) / (1 + t * (s - 1)),
        lambda t, s: t / (t + (1 - t) / s),
    ],
    "patchify": [patches_by_loop, patches_by_windows, lambda x, p: functional.unfold(x, p, stride=p).transpose(1, 2)],
    "unpatchify": [
        glue_by_loop,
        glue_by_rows,
        lambda tokens, p, shape: functional.fold(tokens.transpose(1, 2), shape[1:], p, stride=p),
    ],
    "attention": [attend_by_einsum, attend_by_hand, functional.scaled_dot_product_attention],
    "self_attention": [heads_by_loop, heads_by_view, heads_by_einsum],
    "position_embedding": [places_by_loop, places_by_grid, places_by_halves],
    "adaln_zero_block": [block_by_split, block_by_image, block_by_functions],
    "doubly_guided_vector_field": [two_by_weights, two_by_lerp, two_in_one_call],
}
