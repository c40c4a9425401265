"""The slider of lab 6 shows the images that it was given, says which, and is fast since it computes none."""

import re

import pytest
import torch

from fmlab import guidance_widgets
from tests.test_widgets import picture

SCALES = (0.0, 1.0, 2.5)


def drawn(names: str, rows: int = 3, seed: int = 0) -> dict[float, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {w: torch.rand(rows * len(names), 1, 4, 4, generator=generator) * 2 - 1 for w in SCALES}


def explorer(names: str = "0123456789", models=("MLP", "U-Net")):
    return guidance_widgets.drawn_images({name: drawn(names, seed=k) for k, name in enumerate(models)}, names)


def test_every_slider_changes_the_picture_and_its_text():
    made = explorer()
    *sliders, shown = made.children
    assert len(sliders) == 3
    for slider, value in zip(sliders, (2.5, 3, "U-Net"), strict=True):
        before, words = picture(made), shown.value.split("src=")[0]
        slider.value = value
        assert (picture(made) != before).any()
        assert shown.value.split("src=")[0] != words
        assert slider.description


def test_it_shows_the_images_of_this_scale_noise_and_network():
    """A picture of one network and one row alone is the same as that of all when its sliders stand there."""
    made = explorer()
    for w, noise, model in (0.0, 2, "MLP"), (2.5, 3, "U-Net"), (1.0, 1, "MLP"):
        for slider, value in zip(made.children, (w, noise, model)):
            slider.value = value
        row = drawn("0123456789", seed=int(model == "U-Net"))[w][10 * noise - 10 : 10 * noise]
        alone = guidance_widgets.drawn_images({model: {w: row}})
        words = re.search(r'alt="([^"]*)"', made.children[-1].value)[1]
        assert f"guidance scale {w:g}, noise number {noise}" in words and model in words
        # the titles, at the top, differ in the number of the noise
        assert (picture(made)[50:] == picture(alone)[50:]).all()


def test_one_network_needs_no_choice_and_any_labels_will_do():
    made = explorer("ABCD", ["MLP"])
    assert len(made.children) == 3
    assert "4 images with the labels A to D" in made.children[-1].value


def test_it_starts_where_guidance_is_off():
    assert explorer().children[0].value == 1.0
    assert guidance_widgets.drawn_images({"MLP": {0.5: torch.zeros(10, 1, 4, 4)}}).children[0].value == 0.5


def test_images_are_kept_so_that_later_changes_do_not_show():
    images = drawn("01")
    made = guidance_widgets.drawn_images({"MLP": images}, "01")
    before = picture(made)
    for x in images.values():
        x.zero_()
    made.children[0].value = 0.0
    made.children[0].value = 1.0
    assert (picture(made) == before).all()


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"MLP": drawn("01"), "U-Net": {1.0: torch.zeros(2, 1, 4, 4)}}, "same scales"),
        ({"MLP": {1.0: torch.zeros(1, 1, 4, 4)}}, "an image of each label"),
        ({}, "no images"),
        ({"MLP": {}}, "no images"),
    ],
)
def test_images_that_do_not_fit_are_refused(models, words):
    with pytest.raises(ValueError, match=words):
        guidance_widgets.drawn_images(models, "01")
