"""Transformers: an image as a sentence of patches, whose tokens talk by attention.

    attention     softmax(q kᵀ/√d) v                                                   [Vaswani et al. 2017, eq. 1]
    positions     sin and cos of the row, then of the column; their products depend on differences alone
    block         x + g₁ Attn(LN(x) (1 + a₁) + b₁), then the same with a small MLP     [Peebles & Xie 2023, adaLN-zero]

Shift b, scale a and gate g are linear in the embedding c of time and label, with weights that start at 0: every block
starts as the identity, and only the gates learn at first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from fmlab.models import Network
from fmlab.values import require_tensor


def patchify(x: Tensor, size: int) -> Tensor:
    """Images (n, C, H, W) cut into patches, row by row: (n, HW/p², C p²), in each the channels first.

    Equals `torch.nn.functional.unfold(x, p, stride=p).mT`. Raises ValueError where patches do not fit.
    """
    require_tensor(x, "x")
    if x.ndim != 4 or x.shape[2] % size or x.shape[3] % size:
        raise ValueError(f"x must be images (n, C, H, W) with sides that {size} divides, got {tuple(x.shape)}")
    n, channels, height, width = x.shape
    cut = x.reshape(n, channels, height // size, size, width // size, size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(n, height * width // size**2, channels * size**2)


def unpatchify(tokens: Tensor, size: int, shape: tuple[int, int, int]) -> Tensor:
    """The inverse of `patchify`: tokens (n, HW/p², C p²) as images (n, *shape), shape = (C, H, W)."""
    channels, height, width = shape
    grid = tokens.reshape(len(tokens), height // size, width // size, channels, size, size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), channels, height, width)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ/√d) v: for each query an average of the values.    [Vaswani et al. 2017, eq. 1]

    q: (…, m, d); k: (…, n, d); v: (…, n, e). Returns (…, m, e). Equals torch's
    `scaled_dot_product_attention`, which has no forward-mode derivative.
    """
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def position_embedding(rows: int, columns: int, size: int, dtype=torch.float32) -> Tensor:
    """sin and cos of the row, then of the column, for each place of a grid: (rows · columns, size), size % 4 = 0."""
    if size % 4:
        raise ValueError(f"the size must be a multiple of 4, got {size}")
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(torch.float64)
    rates = 10_000 ** -(torch.arange(size // 4, dtype=torch.float64) / (size // 4))
    angles = places[..., None] * rates  # (places, 2, size/4)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1).to(dtype)


def self_attention(x: Tensor, qkv: Callable, out: Callable, heads: int) -> Tensor:
    """Every token asks all tokens: queries, keys and values of h heads, attention, and one linear map of the result.

    x: (n, tokens, size). qkv, out: layers (…, size) ↦ (…, 3 size) and (…, size) ↦ (…, size); a head is size/h
    neighbouring numbers of queries, keys and values. Equals torch's `nn.MultiheadAttention`.    [Vaswani et al. 2017]
    """
    q, k, v = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2)  # (n, heads, tokens, size/heads)
        for part in qkv(x).chunk(3, dim=-1)
    )
    return out(attention(q, k, v).transpose(1, 2).flatten(2))


class SelfAttention(nn.Module):
    """`self_attention` with layers of its own. x: (n, tokens, size). heads must divide size."""

    def __init__(self, size: int, heads: int):
        super().__init__()
        if size % heads:
            raise ValueError(f"{heads} heads must divide the size {size}")
        self.heads = heads
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self_attention(x, self.qkv, self.out, self.heads)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x) (1 + scale) + shift: tokens of mean 0 and variance 1, moved as c says."""
    return layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def adaln_zero_block(x: Tensor, c: Tensor, modulation: Callable, attend: Callable, mlp: Callable) -> Tensor:
    """h = x + g₁ A(LN(x) (1 + a₁) + b₁), then h + g₂ M(LN(h) (1 + a₂) + b₂).    [Peebles & Xie 2023, adaLN-zero]

    x: (n, tokens, size). modulation: c ↦ (n, 6 size), the six vectors b₁, a₁, g₁, b₂, a₂, g₂ of each image side by
    side. attend, mlp: layers A and M, from and to (n, tokens, size).
    """
    shift, scale, gate, shift_2, scale_2, gate_2 = modulation(c)[:, None].chunk(6, dim=-1)
    x = x + gate * attend(modulate(x, shift, scale))
    return x + gate_2 * mlp(modulate(x, shift_2, scale_2))


class Block(nn.Module):
    """A transformer block whose norms are modulated by c, and that starts as the identity.    [Peebles & Xie 2023]

    x: (n, tokens, size); c: (n, size).
    """

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.attention = SelfAttention(size, heads)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))
        self.modulation = nn.Linear(size, 6 * size)
        nn.init.zeros_(self.modulation.weight), nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return adaln_zero_block(x, silu(c), self.modulation, self.attention, self.mlp)


class DiT(Network):
    """Diffusion transformer: patches as tokens, blocks that are told time and label, patches back.

    shape: (C, H, W) of an image. patch: side of a patch. width: numbers of a token, a multiple of 4. depth, heads: of
    the blocks. labels: number of classes, if any. positions: whether tokens know where they are.
    The output starts at 0, as do the blocks' gates.    [Peebles & Xie 2023]
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        patch: int = 2,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        labels: int | None = None,
        features: int = 16,
        positions: bool = True,
    ):
        super().__init__(width, labels, features)
        self.shape, self.patch = tuple(shape), patch
        numbers = shape[0] * patch**2
        self.first, self.last = nn.Linear(numbers, width), nn.Linear(width, numbers)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        for layer in (self.last, self.modulation):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        places = position_embedding(shape[1] // patch, shape[2] // patch, width)
        self.register_buffer("places", places if positions else torch.zeros_like(places))

    def field(self, x, c):
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x must have shape (n, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        h = self.first(patchify(x, self.patch)) + self.places
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(silu(c))[:, None].chunk(2, dim=-1)
        return unpatchify(self.last(modulate(h, shift, scale)), self.patch, self.shape)
