"""The explorers of flow maps redraw when a slider moves, and what they say is exact."""

import re

import pytest
import torch

from fmlab import map_widgets
from fmlab.datasets import Moons
from fmlab.distributions import GaussianMixture
from fmlab.models import TwoTimeMLP
from fmlab.paths import GaussianPath
from fmlab.processes import ODE
from fmlab.simulators import RK4, simulate
from tests.test_widgets import (
    test_a_picture_keeps_nothing_of_the_ones_before as keeps_nothing,
)
from tests.test_widgets import (
    test_an_explorer_draws_alike_with_and_without_the_course_style as draws_alike,
)
from tests.test_widgets import (
    test_every_slider_changes_the_picture_and_its_text as every_slider,
)
from tests.test_widgets import (
    test_the_front_end_and_the_static_fallback_show_the_same_picture as same_picture,
)

LINE = GaussianMixture([[-1.2], [0.9]], [0.06, 0.12], [0.4, 0.6])
FRESH = Moons().sample(3000, torch.Generator().manual_seed(0))


def chord_on_a_line():
    return map_widgets.chord_on_a_line(LINE)


def few_calls():
    torch.manual_seed(0)
    field = lambda x, t: x.roll(1, -1) - x  # noqa: E731
    return map_widgets.few_calls(field, {"student": TwoTimeMLP(2)}, FRESH)


@pytest.mark.parametrize("claim", [every_slider, keeps_nothing, draws_alike, same_picture])
@pytest.mark.parametrize("make", [chord_on_a_line, few_calls])
def test_it_is_an_explorer_like_the_others(make, claim):
    claim(make)


def numbers(explorer) -> list[float]:
    words = re.search(r'alt="([^"]*)"', explorer.children[-1].value)[1]
    return [float(number) for number in re.findall(r"-?\d+\.\d+", words)]


@pytest.mark.parametrize("s, t, x", [(0.0, 1.0, -0.4), (0.3, 0.86, 0.75), (0.9, 0.2, -1.25)])
def test_the_chord_ends_where_the_flow_does(s, t, x):
    explorer = chord_on_a_line()
    for slider, value in zip(explorer.children, (s, t, x), strict=False):
        slider.value = value
    field = GaussianPath().marginal(LINE).vector_field
    start = torch.tensor([[x]], dtype=torch.float64)
    end = float(simulate(ODE(field), start, torch.linspace(s, t, 201, dtype=torch.float64), RK4()))
    velocity = float(field(start, torch.tensor(s, dtype=torch.float64)))
    expected = [x, s, end, t, (end - x) / (t - s), velocity]
    assert numbers(explorer) == pytest.approx(expected, abs=0.006)  # two digits are shown


def test_a_jump_of_no_length_has_the_velocity_of_the_start():
    explorer = chord_on_a_line()
    explorer.children[0].value = explorer.children[1].value = 0.5
    *_, mean, velocity = numbers(explorer)
    assert mean == velocity


def test_an_exact_map_is_as_good_in_one_call_as_in_many():
    """Of normal data, where the map is a factor: two fresh sets of 3000 points are about 0.001 apart."""
    spread = 0.5
    sigma = lambda t: torch.hypot(t * spread, 1 - t)  # noqa: E731
    v = lambda x, s, t: (sigma(t) / sigma(s) - 1) / (t - s) * x  # noqa: E731
    field = lambda x, t: (t * spread**2 - (1 - t)) / sigma(t) ** 2 * x  # noqa: E731
    fresh = spread * torch.randn(3000, 2, generator=torch.Generator().manual_seed(1))
    explorer = map_widgets.few_calls(field, {"exact": v}, fresh, n=3000)
    who, calls, shown = explorer.children
    found = {}
    for value in ((who.options[0], 1), (who.options[0], 32), ("exact", 1), ("exact", 5)):
        who.value, calls.value = value
        found[value] = float(re.search(r"energy distance ([\d.]+)", shown.value)[1])
    assert found["exact", 1] == pytest.approx(found["exact", 5], abs=2e-4) and found["exact", 1] < 0.005
    assert found[who.options[0], 1] > 0.2 and found[who.options[0], 32] < 0.02
