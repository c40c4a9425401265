"""Tables of sentences: complete, right, and without one too many."""

import itertools

import pytest
import torch
from matplotlib.colors import XKCD_COLORS, to_rgb

from fmlab import token_datasets
from fmlab.token_datasets import ColourNames
from tests.cases import rng


def test_the_board_has_every_second_cell():
    board = {tuple(x) for x in token_datasets.checkerboard().tolist()}
    assert len(board) == 32
    for a, b in itertools.product(range(8), repeat=2):
        assert ((a, b) in board) == ((a // 2) % 2 == (b // 2) % 2)


def valid(grid: list[int]) -> bool:
    """By sets: a row, a column and a box hold all four symbols."""
    rows = [set(grid[4 * k : 4 * k + 4]) for k in range(4)]
    columns = [set(grid[k::4]) for k in range(4)]
    boxes = [{grid[4 * (r + i) + c + j] for i in (0, 1) for j in (0, 1)} for r in (0, 2) for c in (0, 2)]
    return all(group == {0, 1, 2, 3} for group in rows + columns + boxes)


def test_there_are_288_grids_all_valid_and_different():
    grids = token_datasets.sudoku()
    assert grids.shape == (288, 16) and len(grids.unique(dim=0)) == 288
    assert all(map(valid, grids.tolist())) and bool(token_datasets.is_sudoku(grids).all())


def test_grids_are_judged_as_sets_judge_them():
    grids = token_datasets.sudoku()[torch.randint(288, (300,), generator=rng(0))]
    changed = grids.clone()
    rows = torch.arange(300)
    changed[rows, torch.randint(16, (300,), generator=rng(1))] = torch.randint(5, (300,), generator=rng(2))
    swapped = grids[:, torch.randperm(16, generator=rng(3))]
    masked = torch.full((1, 16), 4)
    every = torch.cat([grids, changed, swapped, masked])
    assert token_datasets.is_sudoku(every).tolist() == [valid(x) for x in every.tolist()]


def test_sums_are_all_sums_and_nothing_else():
    table = token_datasets.sums()
    assert len({tuple(x) for x in table.tolist()}) == 10_000
    for x in table[torch.randint(10_000, (200,), generator=rng(0))].tolist():
        text = token_datasets.written_sum(x)
        left, result = text.split("=")
        assert sum(map(int, left.split("+"))) == int(result) and len(text) == 9
        assert token_datasets.sum_of(text)[0].tolist() == x
    assert bool(token_datasets.is_sum(table).all())
    off = table.clone()
    off[:, 6] = (off[:, 6] + 1) % 10
    assert not bool(token_datasets.is_sum(off).any())
    assert not bool(token_datasets.is_sum(torch.full((1, 7), 10)).any())
    assert token_datasets.sum_of("3_+_7=092").tolist() == [[3, 10, 10, 7, 0, 9, 2]]
    assert token_datasets.written_sum([3, 10, 10, 7, 0, 9, 2]) == "3_+_7=092"


def test_halves_are_a_partition_the_same_for_the_same_seed():
    table = token_datasets.sums()
    learned, held_out = token_datasets.halves(table)
    assert len(learned) == len(held_out) == 5000
    assert len(torch.cat([learned, held_out]).unique(dim=0)) == 10_000
    assert torch.equal(learned, token_datasets.halves(table)[0])
    assert not torch.equal(learned, token_datasets.halves(table, seed=1)[0])


def test_names_of_colours_are_those_of_matplotlib_and_nobody_is_in_both_parts():
    seen, unseen = ColourNames(), ColourNames(train=False)
    assert not set(seen.names) & set(unseen.names)
    assert len(seen.names) + len(unseen.names) == 839 and len(unseen.names) == 83
    for data in (seen, unseen):
        assert data.z.shape == (len(data.names), 14) and data.y.shape == data.z.shape[:1]
        assert int(data.z.max()) < len(token_datasets.LETTERS) and 0 <= int(data.y.min()) <= int(data.y.max()) <= 8
        for name, row, colour in zip(data.names, data.z, data.colours):
            assert token_datasets.name_of(row) == name
            assert colour.tolist() == pytest.approx(to_rgb(XKCD_COLORS[f"xkcd:{name}"]))
    assert sorted(set(seen.y.tolist())) == list(range(9))
    assert seen.names == ColourNames().names != ColourNames(seed=1).names


def test_letters_fill_up_and_masks_are_written():
    assert token_datasets.letters("__sty ____").tolist()[0][:2] == [28, 28]
    assert token_datasets.name_of(token_datasets.letters("__sty ____")[0]) == "__sty ____"
    assert int((token_datasets.letters("red") == 0).sum()) == 11


@pytest.mark.parametrize(
    "rgb, hue",
    [
        ((0.9, 0.1, 0.1), "red"),
        ((0.9, 0.1, 0.2), "red"),
        ((0.9, 0.5, 0.1), "orange"),
        ((0.4, 0.25, 0.1), "orange"),
        ((0.9, 0.9, 0.1), "yellow"),
        ((0.2, 0.8, 0.2), "green"),
        ((0.1, 0.8, 0.8), "cyan"),
        ((0.1, 0.2, 0.9), "blue"),
        ((0.5, 0.1, 0.9), "purple"),
        ((0.9, 0.2, 0.7), "pink"),
        ((0.5, 0.5, 0.52), "grey"),
        ((0.05, 0.0, 0.0), "grey"),
    ],
)
def test_a_hue_is_that_of_the_colour_wheel(rgb, hue):
    assert token_datasets.HUES[token_datasets.hue(rgb)] == hue
