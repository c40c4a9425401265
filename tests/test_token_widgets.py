"""Explorers of tokens: as those of `tests.test_widgets`, and what they report is true."""

import re

import numpy as np
import pytest

from fmlab import token_widgets
from fmlab.token_datasets import checkerboard
from fmlab.token_widgets import BoardLaw
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
    """A clue more never lets more grids fit: 288 at first, 72 with any one cell, and 1 at the end, when all are sure."""
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


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 32])
def test_a_board_drawn_from_masks_in_n_steps_is_off_by_one_in_2n(steps):
    board, dark = BoardLaw(True).after(steps), tuple(checkerboard().T.numpy())
    data = np.zeros((8, 8))
    data[dark] = 1 / 32
    assert abs(board.sum() - 1) < 1e-12
    assert abs(np.abs(board - data).sum() / 2 - 1 / (2 * steps)) < 1e-10
    assert abs(1 - board[dark].sum() - 1 / (2 * steps)) < 1e-10  # all of it on light squares


def test_uniform_noise_ends_off_by_more_and_by_half_of_it_in_twice_the_steps():
    dark = tuple(checkerboard().T.numpy())
    off = [1 - BoardLaw(False).after(steps)[dark].sum() for steps in (32, 64)]
    assert off[0] > 1 / 64 and 1.9 < off[0] / off[1] < 2.1
