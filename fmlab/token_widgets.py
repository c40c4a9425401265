"""Sliders for tokens: masks that lift from a sudoku, and a board that is drawn in few steps."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from matplotlib.axes import Axes

from fmlab import plots
from fmlab.sentences import Sentences
from fmlab.token_datasets import checkerboard, sudoku
from fmlab.tokens import TokenPath
from fmlab.widgets import Dropdown, Explorer, IntSlider


def lifting_masks(grid: int = 100, orders: int = 3) -> Explorer:
    """A 4 × 4 sudoku as its masks lift in an order drawn by chance: how uncertain each cell is, and how many of the 288
    grids still fit.

    grid: which of them. Left the cells, shaded by the entropy of what they may be; right the number of grids that fit.
    """
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
        for cell in range(16):
            bits, place = entropy[revealed][cell], (cell % 4 + 0.5, cell // 4 + 0.5)
            text = str(int(z[cell]) + 1) if shown[revealed][cell] else f"{bits:.1f}"
            size, color = (17, plots.BLUE) if shown[revealed][cell] else (10, plots.BLACK)
            left.text(*place, text, ha="center", va="center", fontsize=size, color=color)
        for line in range(5):
            for ends in (((line, line), (0, 4)), ((0, 4), (line, line))):
                left.plot(*ends, color=plots.BLACK, ls="-", lw=2 if line % 2 == 0 else 0.6)
        left.set(xticks=(), yticks=(), title=f"{revealed} revealed; bits left in others")
        right.plot(range(17), fit, color=plots.BLUE, ls="-", marker="o", ms=4)
        right.plot(revealed, fit[revealed], "D", color=plots.RED, ms=9)
        right.set(yscale="log", yticks=(1, 4, 12, 72, 288), yticklabels=("1", "4", "12", "72", "288"))
        right.set(xlabel="cells revealed", title=f"grids that still fit: {fit[revealed]}")
        right.minorticks_off()
        sure = int((entropy[revealed] < 1e-9).sum()) - revealed
        return f"order {order}, {revealed} of 16 cells revealed: {fit[revealed]} of 288 grids fit, {sure} more cells are sure"

    return Explorer(
        draw,
        panels=2,
        revealed=IntSlider(4, 0, 16, description="cells revealed"),
        order=Dropdown(options=[str(k + 1) for k in range(orders)], description="order"),
    )


def board_in_steps() -> Explorer:
    """The exact law of a checkerboard's squares, drawn with the exact posterior in n steps of even size, all tokens of
    a step at once, as n and the noise change."""
    samplers = {"masks": BoardLaw(True), "uniform": BoardLaw(False)}
    dark = np.zeros((8, 8), dtype=bool)
    dark[tuple(checkerboard().T.numpy())] = True

    def draw(ax: Axes, steps: int, noise: str) -> str:
        board = samplers[noise].after(steps)
        off = float(board[~dark].sum())
        ax.imshow(board, cmap="Greys", vmin=0, vmax=1 / 24, extent=(0, 8, 8, 0))
        ax.set(xticks=range(9), yticks=range(9), xlabel="second token", ylabel="first token", aspect="equal")
        half = f" = 1/{2 * steps}" if noise == "masks" else ""
        ax.set_title(f"{steps} steps from {noise}: {off:.4f}{half} off the board")
        return f"The board after {steps} steps from {noise}: a share {off:.4f} of the probability is on light squares"

    return Explorer(
        draw,
        steps=IntSlider(2, 1, 32, description="steps"),
        noise=Dropdown(options=list(samplers), description="noise"),
    )


class BoardLaw:
    """The law of the checkerboard's sampler over all its states: 81 with masks, 64 with uniform noise.

    The schedule is κ_t = t. Every step draws both tokens on their own from the exact posterior.
    """

    def __init__(self, masked: bool):
        self.path = TokenPath(8, masked)
        self.table = Sentences(checkerboard(), self.path, dtype=torch.float64)
        self.states = torch.tensor(list(itertools.product(range(self.path.symbols), repeat=2)))
        self.stay = torch.nn.functional.one_hot(self.states, self.path.symbols).double()

    def after(self, steps: int) -> np.ndarray:
        """Probabilities of the 8 × 8 squares after n even steps from t = 0 to 1."""
        noise = self.path._noise_probs(self.states)
        law = torch.outer(noise, noise).flatten()
        for k in range(steps):
            t, turned = torch.tensor(k / steps, dtype=torch.float64), 1 / (steps - k)
            clean = self.path.clean(self.table.posterior(self.states, t), self.states)
            each = (1 - turned) * self.stay + turned * clean
            law = torch.einsum("s,sa,sb->ab", law, each[:, 0], each[:, 1]).flatten()
        return law.reshape(self.path.symbols, -1)[:8, :8].numpy()
