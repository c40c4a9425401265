"""Sentences to learn from, small enough that all of them are known: a board, grids of sudoku, sums, names of colours.

Each is a table of tokens, (N, D), whole numbers 0 … K − 1, for `sentences.Sentences` and `tokens.TokenPath`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from fmlab import extras

SIGNS = "  +  =   "  # of a sum: the places of its digits are blank
HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "grey")
PLACES = 14  # of a colour's name
LETTERS = "·abcdefghijklmnopqrstuvwxyz "  # the first one fills a name up
EDGES = (15, 45, 70, 165, 200, 260, 290, 345)  # degrees at which hues change, from red on and back to it
GREY = 0.15  # saturation below which a colour has no hue


def checkerboard() -> Tensor:
    """The 32 dark squares of an 8 × 8 board with dark cells of 2 × 2 squares, as pairs of row and column: (32, 2)."""
    return torch.tensor([(a, b) for a in range(8) for b in range(8) if (a // 2 + b // 2) % 2 == 0])


def sudoku() -> Tensor:
    """All 288 grids of 4 × 4 with the symbols 0 … 3 once in each row, column and box of 2 × 2: (288, 16)."""
    rows = list(itertools.permutations(range(4)))
    grids: list[list[int]] = [[]]
    for _ in range(4):
        grids = [[*grid, *row] for grid in grids for row in rows]
        grids = [grid for grid, fits in zip(grids, _fit(torch.tensor(grids)).tolist()) if fits]
    return torch.tensor(grids)


def is_sudoku(x: Tensor) -> Tensor:
    """Which grids have each symbol once in each row, column and box. x: (n, 16). Returns (n,), of bool."""
    return _fit(x) & ((x >= 0) & (x < 4)).all(1)


def _fit(x: Tensor) -> Tensor:
    """Whether no symbol is twice in a row, column or box of the first rows of a grid. x: (n, 4 rows)."""
    cells = torch.arange(x.shape[1])
    row, column = cells // 4, cells % 4
    groups = torch.stack([row, column, 2 * (row // 2) + column // 2]).to(x.device)
    together = (groups[:, :, None] == groups[:, None, :]).any(0) & ~torch.eye(len(cells), dtype=torch.bool).to(x.device)
    return ~((x[:, :, None] == x[:, None, :]) & together).flatten(1).any(1)


def sums() -> Tensor:
    """All 10 000 sums "aa+bb=ccc" of two numbers from 00 to 99, as their seven digits: (10 000, 7)."""
    a, b = torch.cartesian_prod(torch.arange(100), torch.arange(100)).T
    c = a + b
    return torch.stack([a // 10, a % 10, b // 10, b % 10, c // 100, c // 10 % 10, c % 10], dim=1)


def is_sum(x: Tensor) -> Tensor:
    """Which rows of seven digits are right sums. x: (n, 7). Returns (n,), of bool."""
    a, b, c = 10 * x[:, 0] + x[:, 1], 10 * x[:, 2] + x[:, 3], 100 * x[:, 4] + 10 * x[:, 5] + x[:, 6]
    return (a + b == c) & ((x >= 0) & (x < 10)).all(1)


def halves(table: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A table in two halves, drawn by chance: one to learn from, one held out."""
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed)).to(table.device)
    half = len(table) // 2
    return table[order[:half]], table[order[half:]]


def sum_of(text: str) -> Tensor:
    """The tokens of a sum as it is written, "3_+_7=092", where _ is the mask, 10: (1, 7)."""
    return torch.tensor([[10 if symbol == "_" else int(symbol) for symbol in text if symbol not in "+="]])


def written_sum(x: Sequence[int] | Tensor) -> str:
    """Seven digits as a sum; the mask, 10, is written _."""
    digits = "".join("0123456789_"[int(digit)] for digit in x)
    return f"{digits[:2]}+{digits[2:4]}={digits[4:]}"


class ColourNames:
    """Names of colours from the xkcd survey, with their hues: those that matplotlib knows, of at most 14 letters.

    z: (N, 14), the letters of `LETTERS`, of which the first fills a name up. y: (N,), hues 0 … 8 of `HUES`, made from
    the colours. colours: (N, 3), red, green and blue in [0, 1]. train: the nine tenths to learn from, or the tenth held
    out. seed: what decides who is held out.
    """

    def __init__(self, train: bool = True, seed: int = 0):
        with extras.needed("the data set of colours"):
            from matplotlib.colors import XKCD_COLORS, to_rgb

        names = sorted(name.removeprefix("xkcd:") for name in XKCD_COLORS)
        names = [name for name in names if len(name) <= PLACES and set(name) <= set(LETTERS[1:])]
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
        held_out = len(names) // 10
        self.names = [names[k] for k in (order[held_out:] if train else order[:held_out])]
        self.colours = torch.tensor([to_rgb(f"xkcd:{name}") for name in self.names])
        self.z = torch.cat([letters(name) for name in self.names])
        self.y = torch.tensor([hue(colour) for colour in self.colours.tolist()])


def letters(name: str) -> Tensor:
    """A name as tokens, filled up to 14; _ is the mask. (1, 14)."""
    known = LETTERS + "_"
    return torch.tensor([[known.index(letter) for letter in name.ljust(PLACES, LETTERS[0])]])


def name_of(x: Sequence[int] | Tensor) -> str:
    """Tokens as a name, without what fills it up at the end; the mask is written _."""
    return "".join((LETTERS + "_")[int(letter)] for letter in x).rstrip(LETTERS[0])


def hue(rgb: Sequence[float]) -> int:
    """The hue of a colour, 0 … 8 of `HUES`: its angle on the colour wheel in nine parts; grey where it has none.

    rgb: red, green and blue in [0, 1].
    """
    import colorsys

    angle, saturation, value = colorsys.rgb_to_hsv(*rgb)
    if saturation < GREY or value < GREY:
        return HUES.index("grey")
    return sum(360 * angle >= edge for edge in EDGES) % 8
