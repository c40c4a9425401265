"""Sliders of lab 7: water over the eigenvalues, a walk between two letters, and the guidance scale of drawn letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fmlab import plots
from fmlab.autoencoders import linear_rate
from fmlab.values import require_floating
from fmlab.widgets import Explorer, FloatLogSlider, FloatSlider, IntSlider

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def water_level(eigenvalues: Tensor) -> Explorer:
    """Directions of data by their variance, and those that the best linear autoencoder keeps, as β moves.

    eigenvalues: (k,), of a covariance.
    """
    require_floating(eigenvalues, "eigenvalues")
    falling = eigenvalues.detach().double().sort(descending=True).values.clamp(min=1e-12)
    numbers = torch.arange(1, len(falling) + 1)

    def draw(ax: Axes, beta: float) -> str:
        level, (nats, error) = beta / 2, linear_rate(falling, beta)
        alive = int((falling > level).sum())
        ax.plot(numbers, falling, color=plots.BLACK, ls="-", lw=1.5)
        ax.fill_between(numbers[:alive], level, falling[:alive], color=plots.BLUE, alpha=0.5)
        ax.axhline(level, color=plots.ORANGE, ls="--", lw=1.5)
        ax.set(xscale="log", yscale="log", ylim=(1e-2, 3 * float(falling[0])), xlim=(1, len(falling)))
        ax.set(xlabel="number of the direction", ylabel="variance (line) and water level (dashes)")
        cost = f"{float(nats):.0f} nats, error {float(error):.0f}"
        ax.set_title(f"β = {beta:.3g}: {alive} live, {cost}")
        return f"β = {beta:.3g}: {alive} of {len(falling)} directions live, {cost}"

    return Explorer(draw, beta=FloatLogSlider(value=1.0, base=10, min=-2, max=2.4, step=0.1, description="price β"))


def between_letters(decode: Callable[[Tensor], Tensor], encode: Callable[[Tensor], Tensor], a: Tensor, b: Tensor):
    """Halfway from images a to images b: latents mixed and decoded above, pixels mixed below, as the share of b moves.

    decode, encode: from and to latents. a, b: (n, 1, height, width).
    """
    with torch.no_grad():
        of_a, of_b = encode(a), encode(b)

    def draw(ax: Axes, share: float) -> str:
        with torch.no_grad():
            images = torch.cat([decode(torch.lerp(of_a, of_b, share)), torch.lerp(a, b, share)])
        plots.plot_images(images, ax, columns=len(a))
        ax.set_title(f"{share:.0%} of the second letter: latents mixed above, pixels mixed below")
        return f"{len(a)} pairs of letters, {share:.0%} of the second: mixed in latents above, in pixels below"

    return Explorer(draw, share=FloatSlider(value=0.5, min=0, max=1, step=0.05, description="share"))


def drawn_letters(draw_letters: Callable[[Tensor, float], Tensor], shape: tuple[int, ...], letters: int = 10):
    """Letters drawn from one noise as the guidance scale and the noise change.

    draw_letters: (noise, w) ↦ images of the letters 0, 1, …, in turn; noise: (2 · letters, *shape).
    """

    def draw(ax: Axes, w: float, seed: int) -> str:
        noise = torch.randn(2 * letters, *shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            plots.plot_images(draw_letters(noise, w), ax, columns=letters)
        ax.set_title(f"w = {w:g}, noise {seed}")
        return f"two drawings of each of {letters} letters with guidance scale {w:g}, from noise number {seed}"

    return Explorer(
        draw,
        w=FloatSlider(value=1.0, min=0, max=5, step=0.25, description="guidance scale w"),
        seed=IntSlider(1, 1, 30, description="noise"),
    )
