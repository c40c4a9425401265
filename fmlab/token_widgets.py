"""Sliders for tokens: masks that lift from a sudoku, and a board that is drawn in few steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fmlab import plots
from fmlab.sentences import Sentences
from fmlab.token_datasets import checkerboard, sudoku
from fmlab.token_laws import law_in_steps
from fmlab.tokens import TokenPath
from fmlab.widgets import Dropdown, Explorer, IntSlider

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def lifting_masks(grid: int = 100, orders: int = 3) -> Explorer:
    """A 4 × 4 sudoku as its masks lift in an order drawn by chance: how uncertain each cell is, and how many of the 288
    grids still fit.

    grid: which of them. Left the cells, revealed ones framed, the others shaded by the entropy of what they may be;
    right the number of grids that fit.
    """
    from matplotlib.patches import Rectangle

    grids, path = sudoku(), TokenPath(4)
    table, z = Sentences(grids, path, dtype=torch.float64), grids[grid]
    stages = []  # order by order: revealed cells, entropies, grids that fit
    for seed in range(orders):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(seed + 1))
        revealed = (order.argsort() < torch.arange(17)[:, None]).numpy()  # (17, 16)
        x = torch.where(torch.from_numpy(revealed), z, path.mask)
        probs = table.posterior(x, 0.5)
        entropy = torch.special.entr(probs).sum(-1) / np.log(2)
        fit = (table.weights(x, 0.5) > 0).sum(1)
        stages.append((revealed, entropy.numpy(), fit.tolist()))

    def draw(left: Axes, right: Axes, revealed: int, order: str) -> str:
        shown, entropy, fit = stages[int(order) - 1]
        left.imshow(entropy[revealed].reshape(4, 4), cmap="Greys", vmin=0, vmax=3.2, extent=(0, 4, 4, 0))
        for cell in np.flatnonzero(~shown[revealed]):
            bits, place = entropy[revealed][cell], (cell % 4 + 0.5, cell // 4 + 0.5)
            left.text(*place, f"{bits:.1f}", ha="center", va="center", fontsize=10, color=plots.BLACK)
        for cell in np.flatnonzero(shown[revealed]):
            corner = (cell % 4 + 0.08, cell // 4 + 0.08)
            left.add_patch(Rectangle(corner, 0.84, 0.84, fill=False, edgecolor=plots.BLUE, lw=1.2))
        plot_sudoku(left, torch.where(torch.from_numpy(shown[revealed]), z, path.mask))
        left.set_title(f"{revealed} revealed; bits left in others")
        right.plot(range(17), fit, color=plots.BLUE, ls="-", marker="o", ms=4)
        right.plot(revealed, fit[revealed], "D", color=plots.RED, ms=9)
        right.set(yscale="log", yticks=(1, 4, 12, 72, 288), yticklabels=("1", "4", "12", "72", "288"))
        right.set(xlabel="cells revealed", title=f"grids that still fit: {fit[revealed]}")
        right.minorticks_off()
        sure = int((entropy[revealed] < 1e-9).sum()) - revealed
        fits = f"{fit[revealed]} of 288 grids fit, {sure} more {'cell is' if sure == 1 else 'cells are'} sure"
        return f"order {order}, {revealed} of 16 cells revealed: {fits}"

    return Explorer(
        draw,
        panels=2,
        revealed=IntSlider(4, 0, 16, description="cells revealed"),
        order=Dropdown(options=[str(k + 1) for k in range(orders)], description="order"),
    )


def board_in_steps() -> Explorer:
    """The exact law of a checkerboard's squares, drawn with the exact posterior in n steps of even size, all tokens of
    a step at once, as n and the noise change."""
    table, paths = checkerboard(), {"masks": TokenPath(8), "uniform": TokenPath(8, masked=False)}
    dark = np.zeros((8, 8), dtype=bool)
    dark[tuple(table.T.numpy())] = True

    def draw(ax: Axes, steps: int, noise: str) -> str:
        board = law_in_steps(paths[noise], table, steps).numpy()
        off = float(board[~dark].sum())
        ax.imshow(board, cmap="Greys", vmin=0, vmax=1 / 24, extent=(0, 8, 8, 0))
        ax.set(xticks=np.arange(8) + 0.5, xticklabels=range(8), xlabel="second token", aspect="equal")
        ax.set(yticks=np.arange(8) + 0.5, yticklabels=range(8), ylabel="first token")
        half = f" = 1/{2 * steps}" if noise == "masks" else ""
        ax.set_title(f"{off:.4f}{half} on light squares")
        return f"The board after {steps} steps from {noise}: a share {off:.4f} of the probability is on light squares"

    return Explorer(
        draw,
        steps=IntSlider(2, 1, 32, description="steps"),
        noise=Dropdown(options=list(paths), description="noise"),
    )


def plot_sudoku(ax: Axes, grid: Tensor, given: Tensor | None = None) -> Axes:
    """A 4 × 4 grid with the symbols 0 … 3 written 1 … 4, and masks left empty. grid: (16,).

    given: (16,), of bool, the cells that were given, in bold black; all others are blue.
    """
    for line in range(5):
        for ends in (((line, line), (0, 4)), ((0, 4), (line, line))):
            ax.plot(*ends, color=plots.BLACK, ls="-", lw=2 if line % 2 == 0 else 0.6)
    for cell, symbol in enumerate(grid.tolist()):
        style: dict[str, Any] = (
            {"color": plots.BLUE} if given is None or not given[cell] else {"color": plots.BLACK, "weight": "bold"}
        )
        text = str(symbol + 1) if symbol < 4 else ""
        ax.text(cell % 4 + 0.5, cell // 4 + 0.5, text, ha="center", va="center", fontsize=16, **style)
    ax.set(xlim=(-0.04, 4.04), ylim=(4.04, -0.04), xticks=(), yticks=(), aspect="equal")
    ax.spines[:].set_visible(False)
    return ax
