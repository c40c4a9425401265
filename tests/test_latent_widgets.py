"""The sliders of lab 7 redraw, say what they show, and show what the mathematics says."""

import re

import pytest
import torch

from fmlab import latent_widgets
from fmlab.autoencoders import VAE, linear_rate
from fmlab.glyphs import Glyphs
from tests.test_widgets import picture

EIGENVALUES = torch.tensor([40.0, 9.0, 3.1, 0.7, 0.4, 0.05, 0.0])


def between_letters():
    torch.manual_seed(0)
    vae, x = VAE(), Glyphs().sample(4, torch.Generator().manual_seed(0))
    return latent_widgets.between_letters(vae.decode, lambda x: vae.encode(x)[0], x[:2], x[2:])


EXPLORERS = {
    "water": lambda: latent_widgets.water_level(EIGENVALUES),
    "between": between_letters,
    "drawn": lambda: latent_widgets.drawn_letters(lambda noise, w: (w * noise).tanh(), (1, 8, 8), 3),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_slider_changes_the_picture_and_its_text(name):
    explorer = EXPLORERS[name]()
    *sliders, shown = explorer.children
    for slider in sliders:
        before, words = picture(explorer), shown.value.split("src=")[0]
        slider.value = 10**slider.max if hasattr(slider, "base") else slider.max
        assert (picture(explorer) != before).any()
        assert shown.value.split("src=")[0] != words
        assert slider.description


def test_the_water_counts_what_stands_out_of_it():
    explorer = latent_widgets.water_level(EIGENVALUES)
    slider, shown = explorer.children
    slider.value = 10**0.5
    alive, nats, error = map(
        int, re.search(r"(\d+) of 7 directions live, (\d+) nats, error (\d+)", shown.value).groups()
    )
    rate, loss = linear_rate(EIGENVALUES, slider.value)
    assert alive == int((EIGENVALUES > slider.value / 2).sum()) == 3
    assert (nats, error) == (round(float(rate)), round(float(loss)))


def test_at_the_ends_the_walk_shows_the_letters_themselves():
    x = Glyphs().sample(4, torch.Generator().manual_seed(0))
    explorer = latent_widgets.between_letters(lambda z: z, lambda z: z, x[:2], x[2:])
    slider, _ = explorer.children
    for share, letters in (0, x[:2]), (1, x[2:]):
        slider.value = share
        same = latent_widgets.between_letters(lambda z: z, lambda z: z, letters, letters)
        same.children[0].value = share
        assert (picture(explorer) == picture(same)).all()
