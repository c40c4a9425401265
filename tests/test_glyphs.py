"""Letters without a download: all fonts draw all letters, within the frame, and anew each time."""

import matplotlib
import pytest
import torch

from fmlab.glyphs import FAMILIES, FONTS, Glyphs
from tests.cases import rng


def test_every_letter_of_every_font_has_ink_and_few_touch_the_border():
    glyphs = Glyphs()
    y, font = torch.arange(10).repeat(len(FONTS)), torch.arange(len(FONTS)).repeat_interleave(10)
    ink = (glyphs.draw(y, font, rng(0)) > 0).flatten(1).sum(1)
    assert int(ink.min()) > 30 and int(ink.max()) < 600
    x = glyphs.sample(4000, rng(1))
    assert float(x.min()) == -1 and float(x.max()) == 1
    border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., 0], x[..., -1]], dim=-1)
    assert float((border > 0).flatten(1).any(1).double().mean()) < 0.005


def test_draws_repeat_with_a_generator_and_differ_without():
    glyphs = Glyphs("KR", size=24)
    x, y, style = glyphs.sample_labelled(50, rng(0))
    again, *_ = glyphs.sample_labelled(50, rng(0))
    assert torch.equal(x, again) and x.shape == (50, 1, 24, 24)
    assert set(y.tolist()) == {0, 1} and int(style.max()) < len(FAMILIES)
    assert not torch.equal(glyphs.sample(5), glyphs.sample(5))
    with pytest.raises(ValueError, match="Latin alphabet"):
        Glyphs("A1")


def test_letters_are_told_apart_by_their_shapes():
    """Nearest mean image recognises most letters: labels belong to pictures."""
    glyphs = Glyphs()
    x, y, _ = glyphs.sample_labelled(3000, rng(0))
    means = torch.stack([x[y == k].mean(0) for k in range(10)]).flatten(1)
    new, labels, _ = glyphs.sample_labelled(1000, rng(1))
    found = torch.cdist(new.flatten(1), means).argmin(1)
    assert float((found == labels).double().mean()) > 0.6


def test_the_fonts_are_in_the_oldest_matplotlib_that_metadata_allow():
    """cmti10.ttf came later than 3.8."""
    assert len(FONTS) == 20 and "cmti10" not in FONTS
    assert matplotlib.__version_info__ >= (3, 8)
