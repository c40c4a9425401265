"""What a student meets first: labs/README.md and lab 0 say what is there."""

import re
from pathlib import Path

import pytest
import torch

from fmlab.checks import lab0, lab1
from fmlab.datasets import Word
from tests import submissions
from tests.cases import rng
from tests.labs import SOURCES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "labs" / "README.md").read_text()


def test_the_readme_lists_every_lab_in_order_under_its_title():
    links = re.findall(r"^\| \[(.+?)\]\((.+?)\)", README, re.MULTILINE)
    assert [path for _, path in links] == [f"{path.stem}/{path.stem}.ipynb" for path in SOURCES]
    for (title, path), source in zip(links, SOURCES, strict=True):
        assert (ROOT / "labs" / path).is_file()
        assert source.read_text().splitlines()[1] == f"# # Lab {title}"


def test_the_words_that_the_readme_teaches_exist():
    for word in re.findall(r"`lab1\.(\w+)\(", README):
        assert callable(getattr(lab1, word))
    lab1.hint("euler_step")
    text = "\n".join(cell.source for cell in submissions.blank("lab0_welcome").cells)
    for word in ("self_test", "hint", "progress", "submission", "answer_or"):
        assert f"lab0.{word}(" in text and callable(getattr(lab0, word))


def test_letters_of_a_word_are_not_joined_and_missing_ones_are_named():
    columns = Word("flow").corner[:, 0].unique().sort().values
    assert (columns.diff() > 1.5 * Word("flow").pixel).sum() >= 3  # three gaps between four letters
    with pytest.raises(ValueError, match="the font has no letters for '字'"):
        Word("字")


def test_a_word_is_spread_evenly_over_its_letters():
    x = Word("I").sample(20_000, rng(0))  # a bar: its samples fill their box
    assert float(x.abs().max()) <= 3 and abs(float(x[:, 1].max() - x[:, 1].min()) - 6) < 0.01
    width = float(x[:, 0].max() - x[:, 0].min())
    shares = torch.histogram(x[:, 0] / width, 4, range=(-0.5, 0.5)).hist / len(x)
    assert ((shares - 0.25).abs() < 6 * (0.25 * 0.75 / len(x)) ** 0.5 + 1e-3).all()
