"""Wrong answers to lab 7 beside the mistakes on its cards: of another kind, or short of what the docstring promises.

exercise → name → (answer, words that the verdict must contain).
"""

import math

import torch
from torch.nn import functional
from torch.nn.functional import layer_norm

from fmlab import transformers


def kl(mean, log_var):
    return (mean.square() + log_var.exp() - 1 - log_var).flatten(1).sum(1) / 2


def exponentials(q, k, v):
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).exp()
    return weights / weights.sum(-1, keepdim=True) @ v


def block_with(norm=lambda x: layer_norm(x, x.shape[-1:]), six=lambda m: m[:, None].chunk(6, -1)):
    def adaln_zero_block(x, c, modulation, attend, mlp):
        b1, a1, g1, b2, a2, g2 = six(modulation(c))
        h = x + g1 * attend(norm(x) * (1 + a1) + b1)
        return h + g2 * mlp(norm(h) * (1 + a2) + b2)

    return adaln_zero_block


def attended(x, qkv, out, heads):
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv(x).chunk(3, -1))
    return out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def places(rows, columns, size):
    rates = 10_000 ** (-torch.arange(0, size, 4) / size)
    r, c = (part[:, None] * rates for part in torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T)
    return torch.cat([r.sin(), r.cos(), c.sin(), c.cos()], dim=1)


last = {}


def forgetful(*args):
    """A field that reads labels and scales when it is asked, from where the last call has put them."""
    last["args"] = args

    def field(x, t):
        u, y, s, w, v, no_y, no_s = last["args"]
        free, shown = u(x, t, no_y, no_s), u(x, t, y, no_s)
        return free + w * (shown - free) + v * (u(x, t, y, s) - shown)

    return field


WRONG = {
    "reparameterise": {
        "noise of its own": (lambda m, ell, e: m + (ell / 2).exp() * torch.randn_like(m), "random"),
        "the standard deviation is detached": (lambda m, ell, e: m + (ell / 2).exp().detach() * e, "no gradient"),
        "no gradient": (lambda m, ell, e: (m + (ell / 2).exp() * e).detach(), "no gradient"),
        "single precision": (lambda m, ell, e: (m + (ell / 2).exp() * e).float(), "float64"),
        "a guard in the root": (lambda m, ell, e: m + (ell.exp() + 1e-2).sqrt() * e, "nearly right"),
    },
    "gaussian_kl": {
        "a sum over everything": (lambda m, ell: kl(m, ell).sum(), "one number"),
        "a mean over everything": (lambda m, ell: kl(m, ell).mean(), "one number"),
        "no gradient": (lambda m, ell: kl(m.detach(), ell.detach()), "no gradient"),
        "the mean is detached": (lambda m, ell: kl(m.detach(), ell), "no gradient"),
        "images of three axes alone": (
            lambda m, ell: ((m.square() + ell.exp() - 1 - ell) / 2).sum((1, 2, 3)),
            "Dimension out of range",
        ),
    },
    "vae_loss": {
        "one number for each image": (
            lambda x, d, m, ell, b: (x - d).square().flatten(1).sum(1) + b * kl(m, ell),
            "one number for the whole batch",
        ),
        "a number without a gradient": (
            lambda x, d, m, ell, b: float(((x - d).square().flatten(1).sum(1) + b * kl(m, ell)).mean().detach()),
            "no gradient",
        ),
        "the KL is detached": (
            lambda x, d, m, ell, b: ((x - d).square().flatten(1).sum(1)).mean() + b * kl(m, ell).mean().detach(),
            "no gradient",
        ),
    },
    "linear_rate": {
        "one number": (lambda lam, b: lam.clamp(max=b / 2).sum(), "2 values"),
        "the nats alone": (lambda lam, b: (2 * lam / b).clamp(min=1).log().sum() / 2, "2 values"),
    },
    "scaled_time": {
        "a tensor for a number": (
            lambda t, s: torch.as_tensor(t) * s / (1 + torch.as_tensor(t) * (s - 1)) + 0.01,
            "nearly right",
        ),
        "infinite at t = 1": (lambda t, s: (t / (1 - t) * s) / (1 + t / (1 - t) * s), "nan or inf"),
        "clamped": (lambda t, s: min(t * s / (1 + t * (s - 1)), 0.5) if isinstance(t, float) else t * 0, ""),
    },
    "patchify": {
        "square pictures alone": (
            lambda x, p: (
                x.reshape(len(x), x.shape[1], x.shape[2] // p, p, x.shape[2] // p, p)
                .permute(0, 2, 4, 1, 3, 5)
                .flatten(3)
                .flatten(1, 2)
            ),
            "raised RuntimeError",
        ),
        "one channel alone": (lambda x, p: functional.unfold(x[:, :1], p, stride=p).mT, "shape"),
        "patches of 2 alone": (
            lambda x, p: (
                x.reshape(len(x), x.shape[1], x.shape[2] // 2, 2, x.shape[3] // 2, 2)
                .permute(0, 2, 4, 1, 3, 5)
                .flatten(3)
                .flatten(1, 2)
            ),
            "raised RuntimeError",
        ),
    },
    "unpatchify": {
        "square pictures alone": (
            lambda tokens, p, shape: (
                tokens.reshape(len(tokens), shape[1] // p, shape[1] // p, shape[0], p, p)
                .permute(0, 3, 1, 4, 2, 5)
                .reshape(len(tokens), *shape)
            ),
            "raised RuntimeError",
        ),
        "only one image comes back": (lambda tokens, p, shape: torch.zeros(shape), "shape"),
    },
    "attention": {
        "e^x / sum overflows": (exponentials, "nan or inf"),
        "detached weights": (
            lambda q, k, v: (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1).detach() @ v,
            "no gradient",
        ),
        "torch's own without the root": (
            lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0),
            "√d",
        ),
        "a large product is cut off": (
            lambda q, k, v: (q @ k.mT / math.sqrt(q.shape[-1])).clamp(-10, 10).softmax(-1) @ v,
            "",
        ),
    },
    "self_attention": {
        "no layer for the queries": (
            lambda x, qkv, out, heads: attended(x, lambda x: x.repeat(1, 1, 3), out, heads),
            "",
        ),
        "no gradient to qkv": (
            lambda x, qkv, out, heads: out(
                transformers.attention(
                    *(p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in qkv(x).detach().chunk(3, -1))
                )
                .transpose(1, 2)
                .flatten(2)
            ),
            "no gradient",
        ),
    },
    "position_embedding": {
        "square grids alone": (lambda rows, columns, size: places(rows, rows, size), "should have shape"),
        "eight numbers are written in": (lambda rows, columns, size: places(rows, columns, 8), "should have shape"),
        "whole numbers": (lambda rows, columns, size: places(rows, columns, size).long(), "the dtype"),
    },
    "adaln_zero_block": {
        "vectors along the tokens": (block_with(six=lambda m: m[None].chunk(6, -1)), "spread along the images"),
        "the gates are detached": (
            block_with(six=lambda m: [p.detach() for p in m[:, None].chunk(6, -1)]),
            "gradient",
        ),
    },
    "doubly_guided_vector_field": {
        "not a function": (lambda u, y, s, w, v, no_y, no_s: torch.zeros(3), "a function should be returned"),
        "reads the labels when it is asked": (forgetful, ""),
    },
}
