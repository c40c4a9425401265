"""Networks for tokens: shapes, labels, what they can see, and that a few steps teach them something."""

import pytest
import torch

from fmlab import token_models
from fmlab.sentences import masked_cross_entropy
from fmlab.token_datasets import ColourNames, checkerboard
from fmlab.token_models import TokenConv, TokenMLP, denoiser
from fmlab.tokens import TokenPath
from fmlab.training import train
from tests.cases import rng


def network(kind: str):
    torch.manual_seed(0)
    return {"MLP": TokenMLP(5, 7), "convolution": TokenConv(5, 7), "labels": TokenConv(5, 7, labels=3)}[kind]


@pytest.mark.parametrize("kind", ["MLP", "convolution", "labels"])
def test_logits_of_each_token_depend_on_the_others_and_not_on_the_time(kind):
    model, x = network(kind), torch.randint(6, (4, 7), generator=rng(0))
    logits = model(x)
    assert logits.shape == (4, 7, 5)
    assert torch.equal(logits, model(x, 0.3)) and torch.equal(logits, model(x, torch.rand(4)))
    changed = x.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 6
    moved = (model(changed) != logits).any(-1).all(0)
    assert bool(moved[2]) and bool(moved[4])
    torch.testing.assert_close(model(x[1:2])[0], logits[1])  # rows do not meet
    assert len(model(x[:0])) == 0


def test_labels_matter_and_none_is_the_null_label():
    model, x = network("labels"), torch.randint(6, (4, 7), generator=rng(0))
    free = model(x)
    assert torch.equal(free, model(x, None, 3)) and not torch.allclose(free, model(x, None, 1))
    mixed = model(x, None, torch.tensor([0, 3, 1, 2]))
    torch.testing.assert_close(mixed[1], free[1])
    torch.testing.assert_close(mixed[2], model(x, None, 1)[2])
    with pytest.raises(ValueError, match="knows no labels"):
        network("convolution")(x, None, 1)


def test_a_denoiser_is_a_softmax_and_colder_ones_are_surer():
    model, x = network("labels"), torch.randint(6, (4, 7), generator=rng(0))
    warm, cold = denoiser(model)(x), denoiser(model, temperature=0.5)(x, 0.2)
    assert warm.dtype == torch.float64 and not warm.requires_grad
    torch.testing.assert_close(warm, model(x).double().softmax(-1).detach())
    torch.testing.assert_close(cold, warm**2 / (warm**2).sum(-1, keepdim=True), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(denoiser(model, 2)(x), model(x, None, 2).double().softmax(-1).detach())
    with pytest.raises(ValueError, match="temperature"):
        denoiser(model, temperature=0.0)


def test_stratified_times_have_one_in_each_part():
    t = token_models.stratified(50, rng(0))
    assert torch.equal((50 * t).long(), torch.arange(50)) and float(t.max()) < 1
    assert not torch.equal(t, token_models.stratified(50, rng(1)))


@pytest.mark.parametrize("make", [lambda: TokenMLP(8, 2, width=64), lambda: TokenConv(8, 2, width=32, reach=3)])
def test_a_network_learns_that_one_token_of_the_board_tells_the_other(make):
    """From ln 8 for each token towards ln 8 and ln 4: the entropy of the board is ln 32."""
    torch.manual_seed(0)
    board, path = checkerboard(), TokenPath(8)

    def loss(model):
        z = board[torch.randint(32, (64,))]
        return masked_cross_entropy(model, path, z, token_models.stratified(64), torch.rand(64, 2))

    model = train(make(), loss, steps=300, lr=1e-2)
    x = torch.tensor([[0, 8], [5, 8]])
    second = denoiser(model)(x)[:, 1]
    same_side = torch.tensor([[0, 1, 4, 5], [0, 1, 4, 5]])
    assert float(second[0].gather(0, same_side[0]).sum()) > 0.95
    assert float(second[1].gather(0, same_side[1]).sum()) > 0.95


def test_the_judge_reads_names_that_it_has_not_seen_far_better_than_chance():
    seen, unseen = ColourNames(), ColourNames(train=False)
    read = token_models.hue_reader(seen.names, seen.y)
    assert float((read(unseen.names) == unseen.y).double().mean()) > 0.55
    assert read(["dark blue", "pale green"]).tolist() == [5, 3]
