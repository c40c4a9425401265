"""The networks that come trained: small files, no side effects, and digits that are what was asked for, and new."""

import numpy as np
import pytest
import torch

from course import pretrain
from fmlab import pretrained
from fmlab.datasets import Digits
from fmlab.guidance import guided_vector_field
from fmlab.samplers import sample_flow
from tests.cases import rng

LABELS = torch.arange(10).repeat(30)


@pytest.fixture(scope="module")
def drawn():
    noise = torch.randn(len(LABELS), 1, 8, 8, generator=rng(0))
    return {w: sample_flow(guided_vector_field(pretrained.digits(), LABELS, w), noise, steps=10) for w in (1, 2)}


def to_nearest(x, y):
    """Distance from each image of x to the nearest one of y, and which that is."""
    return torch.cdist(x.flatten(1), y.flatten(1)).min(dim=1)


def test_weights_are_small_files():
    files = list(pretrained.WEIGHTS.iterdir())
    assert {path.suffix for path in files} == {".npz"}
    assert sum(path.stat().st_size for path in files) < 150_000


def test_loading_draws_no_random_numbers_and_gives_a_network_like_others():
    before = torch.get_rng_state()
    network = pretrained.digits()
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training and network.null_label == 10
    assert all(weight.dtype == torch.float32 and weight.requires_grad for weight in network.parameters())
    assert not any(weight.is_meta for weight in [*network.parameters(), *network.buffers()])
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(network(x, 0.5), network(x, 0.5, 10))


@pytest.mark.parametrize("w, least", [(1, 0.9), (2, 0.97)])
def test_the_digits_are_those_that_were_asked_for(drawn, w, least):
    known = Digits()
    read = known.y[to_nearest(drawn[w], known.z).indices]
    assert (read == LABELS).float().mean() >= least
    shares = (read == LABELS).float().reshape(-1, 10).mean(0)
    assert shares.min() >= least - 0.2, shares


def test_the_digits_are_new_ones(drawn):
    known, held_out = Digits(), Digits(train=False)
    own = to_nearest(drawn[1], known.z).values.mean()
    assert own > 0.8 * to_nearest(held_out.z, known.z).values.mean()


def test_a_training_leaves_a_file_that_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "digits", lambda trained=pretrain.digits: trained(steps=2))
    (path,) = pretrain.write(tmp_path)
    assert path.name == "digits.npz"
    with np.load(path) as written, np.load(pretrained.WEIGHTS / path.name) as kept:
        assert {name: array.shape for name, array in written.items()} == {
            name: array.shape for name, array in kept.items()
        }
        assert {array.dtype for array in written.values()} == {np.dtype(np.float16)}
    network = pretrained.load(pretrained.untrained_digits(), path)
    assert network(torch.randn(3, 1, 8, 8), 0.5, torch.arange(3)).isfinite().all()
