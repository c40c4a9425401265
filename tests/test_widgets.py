"""Explorers redraw when a slider moves and leave a static picture where no front end is attached."""

import base64
import html
import io
import math
import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import image

from fmlab import plots, widgets
from fmlab.datasets import Word
from fmlab.distributions import Gaussian


def guidance_scale():
    return widgets.guidance_scale([Gaussian([-1.0, 0.0], 0.2), Gaussian([1.0, 0.5], 0.3)])


LETTERS = Word("flow").sample(500, torch.Generator().manual_seed(0))


def noise_to_data():
    return widgets.noise_to_data(LETTERS)


EXPLORERS = [
    noise_to_data,
    widgets.step_size,
    widgets.ornstein_uhlenbeck_paths,
    widgets.noise_schedules,
    widgets.sampler_churn,
    guidance_scale,
    widgets.path_through_time,
    widgets.sde_extension_noise,
    widgets.diffusion_sigma,
]


def picture(explorer) -> np.ndarray:
    """The pixels that a reader without a front end sees."""
    png = explorer._repr_mimebundle_()["text/html"].partition("base64,")[2].partition('"')[0]
    return image.imread(io.BytesIO(base64.b64decode(png)))


@pytest.mark.parametrize("make", EXPLORERS)
def test_every_slider_changes_the_picture_and_its_text(make):
    explorer = make()
    *sliders, shown = explorer.children
    for slider in sliders:
        before, words = picture(explorer), shown.value.split("src=")[0]
        low, high = (
            slider.options[:: len(slider.options) - 1] if hasattr(slider, "options") else (slider.min, slider.max)
        )
        slider.value = high if slider.value != high else low
        assert (picture(explorer) != before).any()
        assert shown.value.split("src=")[0] != words
        assert slider.description


@pytest.mark.parametrize("make", EXPLORERS)
def test_a_picture_keeps_nothing_of_the_ones_before(make):
    explorer = make()
    before, (slider, *_) = picture(explorer), explorer.children
    start = slider.value
    slider.value = slider.options[-1] if hasattr(slider, "options") else slider.max
    slider.value = start
    assert (picture(explorer) == before).all()


@pytest.mark.parametrize("make", EXPLORERS)
def test_the_front_end_and_the_static_fallback_show_the_same_picture(make):
    explorer = make()
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    alt, png = re.search('alt="(.*?)" src="(.*?)"', bundle["text/html"]).groups()
    assert f'<img alt="{alt}" src="{png}"' in explorer.children[-1].value
    assert alt == html.escape(bundle["text/plain"])


@pytest.mark.parametrize("make", EXPLORERS)
def test_an_explorer_draws_alike_with_and_without_the_course_style(make):
    plain = picture(make())
    with matplotlib.rc_context():
        plots.use_style()
        assert (picture(make()) == plain).all()


def test_step_size_reports_the_true_error_of_each_method():
    """One step of size 1 multiplies by the Taylor polynomial of e⁻² whose degree is the order of the method."""
    explorer = widgets.step_size(theta=2.0, x0=1.0)
    steps, _, method, shown = explorer.children
    steps.value = 1
    for name, factor in {
        "Euler": 1 - 2,
        "Heun": 1 - 2 + 2,
        "midpoint": 1 - 2 + 2,
        "RK4": 1 - 2 + 2 - 4 / 3 + 2 / 3,
    }.items():
        method.value = name
        assert shown.value.startswith(f'<img alt="{name} with 1 steps')
        assert f"largest error {abs(factor - math.exp(-2)):.3g}" in shown.value


def test_schedule_explorer_reports_the_weights_of_the_chosen_schedule():
    explorer = widgets.noise_schedules()
    schedule, t, shown = explorer.children
    schedule.value, t.value = "VE, 20", 0.5
    assert "alpha 1, beta 10, log signal-to-noise ratio -4.61" in shown.value  # −2 log 10


def test_churn_explorer_samples_the_mixture():
    explorer = widgets.sampler_churn(n=4000)
    steps, churn, shown = explorer.children
    for value in (0.0, 1.0):
        steps.value, churn.value = 16, value
        share = int(re.search(r"(\d+)% in the left bump", shown.value).group(1))
        assert abs(share - 40) < 5  # four standard errors are 3; the rest is for 16 steps


def test_guidance_scale_reports_what_the_samples_show():
    """At w = 0 every label is as likely, at w = 1 samples are the class, and beyond nearly all are recognised."""
    explorer = guidance_scale()
    shares = []
    for w in (0.0, 1.0, 4.0):
        explorer.children[0].value = w
        shares.append(float(re.search(r"samples is ([\d.]+)", explorer.children[-1].value)[1]))
    assert abs(shares[0] - 0.5) < 0.1 and 0.9 < shares[1] < 0.99 < shares[2]


def test_the_extended_sde_keeps_its_quantiles_for_every_noise():
    """Twelve standard errors of a quantile of 8000 trajectories are 0.15; too coarse steps are seen at once."""
    explorer = widgets.sde_extension_noise(n=8000, steps=400)
    noise, shown = explorer.children
    for value in (0.0, 0.5, 1.0, 2.0):
        noise.value = value
        assert float(re.search(r"off by ([\d.]+)", shown.value)[1]) < 0.15
    coarse = widgets.sde_extension_noise(n=8000, steps=40)
    coarse.children[0].value = 3.0
    assert float(re.search(r"off by ([\d.]+)", coarse.children[1].value)[1]) > 0.3


def test_noise_repairs_coarse_steps_until_they_are_unstable():
    """Two fresh sets of 3000 points are about 0.001 apart."""
    explorer = widgets.diffusion_sigma(n=3000)
    c, steps, shown = explorer.children
    found = {}
    for values in ((0.0, 5), (2.0, 5), (6.0, 5), (2.0, 30)):
        c.value, steps.value = values
        found[values] = float(re.search(r"energy distance ([\d.]+)", shown.value)[1])
    assert found[2.0, 5] < 0.7 * found[0.0, 5] and found[6.0, 5] > 0.1 and found[2.0, 30] < 0.005
