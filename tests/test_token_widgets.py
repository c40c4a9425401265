"""Explorers of tokens: as those of `tests.test_widgets`, and what they report is true."""

import re

import pytest
import torch
from matplotlib.figure import Figure

from fmlab import token_widgets
from tests import test_widgets

EXPLORERS = [token_widgets.lifting_masks, token_widgets.board_in_steps]


@pytest.mark.parametrize("make", EXPLORERS)
@pytest.mark.parametrize(
    "test",
    [
        test_widgets.test_every_slider_changes_the_picture_and_its_text,
        test_widgets.test_a_picture_keeps_nothing_of_the_ones_before,
        test_widgets.test_the_front_end_and_the_static_fallback_show_the_same_picture,
        test_widgets.test_an_explorer_draws_alike_with_and_without_the_course_style,
    ],
)
def test_an_explorer_is_like_the_others(make, test):
    test(make)


def test_masks_lift_until_one_grid_is_left():
    """A clue more never lets more grids fit: 288 at first, 72 with any one cell, 1 at the end, when all are sure."""
    explorer = token_widgets.lifting_masks()
    revealed, order, shown = explorer.children
    for chosen in order.options:
        order.value, found = chosen, []
        for number in range(17):
            revealed.value = number
            found.append(int(re.search(r"(\d+) of 288 grids fit", shown.value)[1]))
        assert found[0] == 288 and found[1] == 72 and found[-1] == 1
        assert found == sorted(found, reverse=True)
    order.value = order.options[0]
    sure = []
    for revealed.value in range(17):
        grids, more = re.search(r"(\d+) of 288 grids fit, (\d+) more", shown.value).groups()
        sure.append(revealed.value + int(more))
        assert (sure[-1] == 16) == (int(grids) == 1)
    assert sure[:2] == [0, 1]


def test_the_board_explorer_reports_one_in_2n_for_masks_and_more_for_uniform_noise():
    explorer = token_widgets.board_in_steps()
    steps, noise, shown = explorer.children

    def off():
        return float(re.search(r"a share ([\d.]+) of", shown.value)[1])

    for n in (1, 3, 8):
        steps.value, noise.value = n, "masks"
        masked = off()
        assert abs(masked - 1 / (2 * n)) < 1e-4
        noise.value = "uniform"
        assert off() > masked or n == 1


def test_a_grid_shows_symbols_from_1_to_4_and_given_ones_in_bold():
    ax = Figure().subplots()
    grid = torch.tensor([0, 1, 2, 3, 4, 4, 4, 4, 3, 2, 1, 0, 4, 0, 4, 1])
    texts = token_widgets.plot_sudoku(ax, grid, grid == 0).texts
    assert [text.get_text() for text in texts] == [*"1234", *[""] * 4, *"4321", "", "1", "", "2"]
    assert [text.get_weight() == "bold" for text in texts] == (grid == 0).tolist()
