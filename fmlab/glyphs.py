"""Glyphs: letters in the fonts that matplotlib brings along, slanted, turned and stretched at random. No download.

Each letter of each font is kept once, as a table of distances to its outline. A batch is one `grid_sample` of that
table with random affine maps; the image is a ramp of the distance, an edge one pixel wide at every size, and a heavier
stroke is one added number.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from fmlab import extras

FAMILIES = {
    "sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    "serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    "mono": ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    "times": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    "roman": ("cmr10", "cmb10"),
    "grotesque": ("cmss10",),
    "typewriter": ("cmtt10",),
}
FONTS = [font for fonts in FAMILIES.values() for font in fonts]
FINE, TABLE = 256, 64  # pixels a side where a letter is drawn, and where its distances are kept


class Glyphs:
    """Letters of 32 × 32 pixels in [−1, 1], of 20 fonts, new ones at each draw.

    letters: which. size: pixels a side. Each image has a letter y: 0 … len(letters) − 1, and a font style, the number
    of one of the seven FAMILIES.
    """

    def __init__(self, letters: str = "ABCDEFGHIJ", size: int = 32):
        if not letters.isalpha() or not letters.isascii():
            raise ValueError(f"letters must be of the Latin alphabet, got {letters!r}")
        self.letters, self.size = letters, size
        self.styles = torch.tensor([k for k, fonts in enumerate(FAMILIES.values()) for _ in fonts])

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n images, (n, 1, size, size)."""
        return self.sample_labelled(n, generator)[0]

    def sample_labelled(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """n images (n, 1, size, size), their letters y: (n,) and their font styles: (n,)."""
        y = torch.randint(len(self.letters), (n,), generator=generator)
        font = torch.randint(len(FONTS), (n,), generator=generator)
        return self.draw(y, font, generator), y, self.styles[font]

    def draw(self, y: Tensor, font: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images of these letters in these fonts, (n, 1, size, size). y, font: (n,), whole numbers."""
        turn, shear, wide, high, right, down, stroke = torch.rand(7, len(y), generator=generator, dtype=torch.float32)
        turn, shear = 0.4 * turn - 0.2, 0.3 * shear - 0.15
        cosine, sine = turn.cos(), turn.sin()
        across, along = 1 / (1.15 + 0.35 * wide), 1 / (1.15 + 0.35 * high)  # from the frame to the table
        maps = torch.stack(
            [
                torch.stack([across * cosine, across * (shear * cosine - sine), 0.16 * right - 0.08], dim=1),
                torch.stack([along * sine, along * (shear * sine + cosine), 0.16 * down - 0.08], dim=1),
            ],
            dim=1,
        )
        tables = torch.stack([_table(letter) for letter in self.letters])[y, font][:, None]
        grid = affine_grid(maps, [len(y), 1, self.size, self.size], align_corners=False)
        distance = grid_sample(tables, grid, padding_mode="border", align_corners=False)
        stroke = (0.065 * stroke - 0.005)[:, None, None, None]
        return (2 * (self.size / 2 * (distance + stroke)).clamp(-0.5, 0.5)).to(torch.get_default_dtype())


@functools.cache
def _table(letter: str) -> Tensor:
    """Distances to the outline of a letter in all fonts, positive inside: (fonts, TABLE, TABLE), frame = 2 units."""
    return torch.stack([_distances(letter, font) for font in FONTS])


def _distances(letter: str, font: str) -> Tensor:
    with extras.needed("drawing letters"):
        import matplotlib
        import numpy as np
        from PIL import Image, ImageDraw, ImageFont
        from scipy.ndimage import distance_transform_edt

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    left, top, right, bottom = ImageFont.truetype(str(path), 1000).getbbox(letter)
    size = 1000 * 0.48 * FINE / max(bottom - top, 0.95 * (right - left))  # the same height of ink
    drawn = ImageFont.truetype(str(path), round(size))
    left, top, right, bottom = drawn.getbbox(letter)
    picture = Image.new("L", (FINE, FINE))
    ImageDraw.Draw(picture).text(((FINE - left - right) / 2, (FINE - top - bottom) / 2), letter, 255, drawn)
    ink = np.asarray(picture) > 127
    fine = torch.from_numpy(distance_transform_edt(ink) - distance_transform_edt(~ink)).float() * 2 / FINE
    return torch.nn.functional.avg_pool2d(fine[None, None], FINE // TABLE)[0, 0]
