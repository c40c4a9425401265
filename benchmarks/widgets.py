"""What a student waits for while a slider moves: one redraw of each explorer."""

import io
from collections.abc import Callable

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.measure import Rows, at_most, targets
from fmlab import guidance_widgets, latent_widgets, map_widgets, token_widgets
from fmlab import widgets as explorers
from fmlab.datasets import Moons, Word
from fmlab.distributions import GaussianMixture
from fmlab.models import MLP, TwoTimeMLP

CLASSES = [GaussianMixture([[-1.5, y], [0.5, y]], 0.12) for y in (1.0, 0.0, -1.0)]
EXPLORERS = {
    "step_size": explorers.step_size,
    "ornstein_uhlenbeck_paths": explorers.ornstein_uhlenbeck_paths,
    "path_through_time": explorers.path_through_time,
    "sde_extension_noise": explorers.sde_extension_noise,
    "diffusion_sigma": explorers.diffusion_sigma,
    "noise_schedules": explorers.noise_schedules,
    "sampler_churn": explorers.sampler_churn,
    "guidance_scale": lambda: explorers.guidance_scale(CLASSES),
    "noise_to_data": lambda: explorers.noise_to_data(Word("flow").sample(4000)),
    "water_level": lambda: latent_widgets.water_level(torch.logspace(2, -3, 1024)),
    "drawn_images": lambda: guidance_widgets.drawn_images({"MLP": {w: torch.rand(10, 1, 8, 8) for w in (0.0, 1.0)}}),
    "lifting_masks": token_widgets.lifting_masks,
    "board_in_steps": token_widgets.board_in_steps,
    "chord_on_a_line": lambda: map_widgets.chord_on_a_line(GaussianMixture([[-1.2], [0.9]], [0.06, 0.12])),
    "few_calls": lambda: map_widgets.few_calls(MLP(2, width=80), {"student": TwoTimeMLP(2)}, Moons().sample(3000)),
}


@targets(*(at_most(name, 2, "empty axes") for name in EXPLORERS))
def widgets(quick: bool) -> Rows:
    """A redraw of each explorer, with all its steps, in units of one of empty axes; 0.1 s are felt as at once"""
    return {"empty axes": empty_axes()} | {name: at_its_heaviest(make()) for name, make in EXPLORERS.items()}


def empty_axes() -> Callable[[], None]:
    """What matplotlib does, without more ado, for a new picture of an explorer's size."""
    with rc_context(explorers.STYLE):
        figure = Figure(figsize=(7, 3.6), dpi=90)
        ax = figure.subplots()

    def redraw() -> None:
        with rc_context(explorers.STYLE):
            ax.clear()
            figure.savefig(io.BytesIO(), format="png")

    return redraw


def at_its_heaviest(explorer: explorers.Explorer) -> Callable[[], None]:
    """Its redraw, as a slider calls it, with all that counts steps at the largest value."""
    for slider in explorer.children[:-1]:
        if slider.description in ("steps", "calls"):
            slider.value = slider.max
    return explorer._redraw
