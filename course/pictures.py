"""The picture at the top of README.md: ten digits appear out of noise.

    python -m course pictures           docs/pictures/digits_from_noise.webp
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from course.build import ROOT
from fmlab import guidance, pretrained, processes, simulators

PATH = ROOT / "docs" / "pictures" / "digits_from_noise.webp"
STEPS, SCALE, SEED = 48, 9, 7
EACH, LAST = 60, 2500  # milliseconds that a frame is seen


def frames(steps: int = STEPS) -> list[np.ndarray]:
    """The digits 0 to 9 side by side at steps + 1 times, as bytes of grey, black on white."""
    noise = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(SEED))
    field = guidance.guided_vector_field(pretrained.digits(), torch.arange(10), w=2.0)
    with torch.no_grad():
        states = simulators.simulate(processes.ODE(field), noise, torch.linspace(0, 1, steps + 1), record=True)
    grey = (255 * (1 - states.clamp(-1, 1)) / 2).round().to(torch.uint8)
    rows = torch.nn.functional.pad(grey.squeeze(2), (1, 1, 1, 1), value=255).permute(0, 2, 1, 3).flatten(2)
    return [np.kron(row.numpy(), np.ones((SCALE, SCALE), np.uint8)) for row in rows]


def write(path: Path = PATH) -> None:
    """Write the moving picture, which stands still on the digits for a while before it begins anew."""
    first, *others = map(Image.fromarray, frames())
    path.parent.mkdir(parents=True, exist_ok=True)
    durations = [*[EACH] * len(others), LAST]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, quality=60, method=6)
