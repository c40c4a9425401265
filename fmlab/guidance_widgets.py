"""The slider of lab 6: drawn images as the guidance scale changes, all of them drawn before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fmlab import plots
from fmlab.widgets import Dropdown, Explorer, IntSlider, SelectionSlider

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def drawn_images(
    models: Mapping[str, Mapping[float, Tensor]], names: str = "0123456789", smooth: int = 8, start: float = 1.0
) -> Explorer:
    """One image of each label, as the guidance scale, the noise and the model change.

    models: name → scale w → images (n, 1, height, width) of the labels 0, 1, …, in turn. In row k, whatever the model
    and the scale, image k · labels + y was drawn from one noise. names: a letter for each label.
    smooth: as in `plots.plot_images`. start: the scale shown first.

    Nothing is computed when a slider moves, so that a redraw takes less than a tenth of a second.
    """
    if not models or not all(models.values()):
        raise ValueError("there are no images to show")
    first, *_ = models
    scales = [*models[first]]
    if any([*of] != scales for of in models.values()):
        raise ValueError("all models need images at the same scales, in the same order")
    rows = {name: {w: _rows(images, len(names)) for w, images in of.items()} for name, of in models.items()}
    count = min(len(images) for of in rows.values() for images in of.values())
    if not count:
        raise ValueError(f"each scale needs an image of each label, {len(names)} at least")
    columns = -(-len(names) // 2)

    def draw(ax: Axes, w: float, noise: int, model: str = first) -> str:
        plots.plot_images(rows[model][w][noise - 1], ax, columns=columns, smooth=smooth)
        ax.set_title(f"{model}, w = {w:g}, noise {noise}")
        asked = f"{len(names)} images with the labels {names[0]} to {names[-1]}"
        return f"{model}: {asked}, guidance scale {w:g}, noise number {noise}"

    sliders = {
        "w": SelectionSlider(
            options=[(f"{w:g}", w) for w in scales],
            value=start if start in scales else scales[0],
            description="guidance scale w",
        ),
        "noise": IntSlider(1, 1, count, description="noise"),
    }
    if len(models) > 1:
        sliders["model"] = Dropdown(options=[*models], description="network")
    return Explorer(draw, **sliders)


def _rows(images: Tensor, labels: int) -> Tensor:
    """(n, 1, height, width) → (n // labels, labels, 1, height, width), on the CPU; what fills no row is left out."""
    images = torch.as_tensor(images).detach().cpu().clone()
    return images[: len(images) // labels * labels].unflatten(0, (len(images) // labels, labels))
