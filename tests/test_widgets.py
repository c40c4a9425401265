"""Explorers redraw when a slider moves and leave a static picture where no front end is attached."""

import base64
import io
import re

import matplotlib
import numpy as np
import pytest
from matplotlib import image

from fmlab import plots, widgets

EXPLORERS = [
    widgets.euler_step_size,
    widgets.ornstein_uhlenbeck_paths,
    widgets.noise_schedules,
    widgets.sampler_churn,
]


def picture(explorer) -> np.ndarray:
    """The pixels that a reader without a front end sees."""
    return image.imread(io.BytesIO(base64.b64decode(explorer._repr_mimebundle_()["image/png"])))


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
def test_the_front_end_and_the_static_fallback_show_the_same_picture(make):
    explorer = make()
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["image/png"] in explorer.children[-1].value


@pytest.mark.parametrize("make", EXPLORERS)
def test_an_explorer_draws_alike_with_and_without_the_course_style(make):
    plain = picture(make())
    with matplotlib.rc_context():
        plots.use_style()
        assert (picture(make()) == plain).all()


def test_euler_explorer_reports_the_true_error():
    explorer = widgets.euler_step_size(theta=2.0, x0=1.0)
    explorer.children[0].value = 1
    assert "largest error 1.14" in explorer.children[-1].value  # |1 − 2 − e⁻²| = 1.135


def test_schedule_explorer_reports_the_weights_of_the_chosen_schedule():
    explorer = widgets.noise_schedules()
    schedule, t, shown = explorer.children
    schedule.value, t.value = "VE, 20", 0.5
    assert "alpha 1, beta 10, log signal-to-noise ratio -4.61" in shown.value  # −2 log 10


def test_churn_explorer_samples_the_mixture():
    explorer = widgets.sampler_churn(n=4000)
    steps, churn, shown = explorer.children
    for value in (0.0, 1.0):
        steps.value, churn.value = 24, value
        share = int(re.search(r"(\d+)% in the left bump", shown.value).group(1))
        assert abs(share - 40) < 5  # four standard errors are 3; the rest is for 24 steps
