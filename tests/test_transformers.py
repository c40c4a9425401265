"""Transformers by identities: torch's own attention, unfold, and what a block is before it has learned anything."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention, unfold
from torch.utils.flop_counter import FlopCounterMode

from fmlab.models import MLP, TwoTimeMLP, UNet
from fmlab.transformers import Block, DiT, SelfAttention, attention, patchify, position_embedding, unpatchify
from tests.cases import normal, rng


def test_patches_are_those_of_unfold_and_come_back():
    x = normal(3, 2, 6, 9, seed=0)
    tokens = patchify(x, 3)
    assert torch.equal(tokens, unfold(x, 3, stride=3).mT)
    assert torch.equal(unpatchify(tokens, 3, (2, 6, 9)), x)
    lit = torch.zeros(1, 1, 4, 6)
    lit[0, 0, 3, 2] = 1  # second row of patches, second column; second row, first column of the patch
    assert patchify(lit, 2).nonzero().tolist() == [[0, 4, 2]]
    with pytest.raises(ValueError, match="4 divides"):
        patchify(x, 4)


def test_attention_is_torchs_and_an_average():
    q, k, v = normal(2, 7, 5, seed=0), normal(2, 9, 5, seed=1), normal(2, 9, 3, seed=2)
    torch.testing.assert_close(attention(q, k, v), scaled_dot_product_attention(q, k, v), rtol=1e-12, atol=1e-12)
    order = torch.randperm(9, generator=rng(0))
    torch.testing.assert_close(attention(q, k[:, order], v[:, order]), attention(q, k, v), rtol=1e-12, atol=1e-12)
    same = attention(q, k[:, :1].expand_as(k), v)
    torch.testing.assert_close(same, v.mean(1, keepdim=True).expand_as(same))
    assert attention(300 * q, k, v).isfinite().all()


def test_self_attention_is_torchs_with_the_same_weights():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(12, 3).double(), torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x = normal(4, 7, 12, seed=1)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tokens", [16, 64, 250])
def test_self_attention_costs_what_the_formula_says(tokens):
    """Multiplications and additions of the layers, 8 n D², and of all pairs of tokens, 4 n² D, as torch counts them."""
    size, layer = 24, SelfAttention(24, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(1, tokens, size))
    assert counter.get_total_flops() == 8 * tokens * size**2 + 4 * tokens**2 * size


def test_a_block_starts_as_the_identity_and_only_its_gates_learn():
    torch.manual_seed(0)
    block, x, c = Block(16, 4).double(), normal(3, 5, 16, seed=1), normal(3, 16, seed=2)
    assert torch.equal(block(x, c), x)
    (block(x, c) * normal(3, 5, 16, seed=3)).sum().backward()
    for part, rows in zip(("shift", "scale", "gate") * 2, block.modulation.weight.grad.chunk(6)):
        assert bool((rows != 0).any()) == (part == "gate")
    others = [p for name, p in block.named_parameters() if not name.startswith("modulation")]
    assert all(not bool(p.grad.any()) for p in others)


def test_positions_differ_and_their_products_depend_on_differences_alone():
    table = position_embedding(4, 4, 32, torch.float64)
    assert int(torch.linalg.matrix_rank(table)) == 7  # 4 + 4 − 1
    products = table @ table.T
    for shift in (1, 4):
        pairs = [(k, k + shift) for k in range(16) if k + shift < 16 and (shift == 4 or k % 4 < 3)]
        values = torch.stack([products[a, b] for a, b in pairs])
        assert float(values.std()) < 1e-12
    torch.testing.assert_close(products.diagonal(), torch.full((16,), 16.0, dtype=torch.float64))


def drawn(model):
    """A network with weights away from their start."""
    with torch.no_grad():
        for k, weight in enumerate(model.parameters()):
            weight.add_(0.2 * torch.randn(weight.shape, generator=rng(k)).to(weight))
    return model


def test_without_positions_a_transformer_does_not_know_the_order_of_patches():
    shape = (1, 4, 4)
    x, order = normal(2, *shape, seed=0), torch.randperm(4, generator=rng(1))
    shuffled = unpatchify(patchify(x, 2)[:, order], 2, shape)
    for positions in (False, True):
        model = drawn(DiT(shape, width=16, heads=2, positions=positions).double())
        moved = unpatchify(patchify(model(x, 0.3), 2)[:, order], 2, shape)
        assert torch.allclose(model(shuffled, 0.3), moved, atol=1e-12) == (not positions)


NETWORKS = {
    "MLP": (lambda: MLP(2, features=2), (2,)),
    "U-Net": (lambda: UNet(features=4, labels=3), (1, 4, 4)),
    "U-Net of three levels": (lambda: UNet(width=8, features=4, labels=3, halvings=2), (1, 4, 8)),
    "DiT": (lambda: DiT((2, 4, 4), width=16, heads=2, labels=3), (2, 4, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_mode_through_every_network_agrees_with_finite_differences(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x, v = drawn(make().double()), normal(3, *shape, seed=1), normal(3, *shape, seed=2)
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    if name == "MLP":
        model.double()
        torch.nn.Module.requires_grad_(model, False)
    h = 1e-6
    _, found = torch.func.jvp(model, (x, t), (v, torch.ones_like(t)))
    expected = (model(x + h * v, t + h) - model(x - h * v, t - h)) / (2 * h)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-6)


def test_a_two_time_network_takes_all_kinds_of_times_and_differentiates_in_both():
    torch.manual_seed(0)
    model, x = drawn(TwoTimeMLP(2, labels=3).double()), normal(4, 2, seed=1)
    s, t = torch.full((4,), 0.2, dtype=torch.float64), torch.full((4,), 0.7, dtype=torch.float64)
    torch.testing.assert_close(model(x, 0.2, 0.7), model(x, s, t))
    torch.testing.assert_close(model(x, 0.2, t, 1), model(x, s, torch.tensor(0.7), torch.ones(4, dtype=torch.int64)))
    assert not torch.allclose(model(x, 0.2, 0.7), model(x, 0.3, 0.8))
    h, one = 1e-6, torch.ones_like(s)
    for k in (1, 2):
        tangents = [torch.zeros_like(x), torch.zeros_like(s), torch.zeros_like(t)]
        tangents[k] = one
        _, found = torch.func.jvp(model, (x, s, t), tuple(tangents))
        ahead, back = ([x, s, t] for _ in range(2))
        ahead[k], back[k] = ahead[k] + h, back[k] - h
        torch.testing.assert_close(found, (model(*ahead) - model(*back)) / (2 * h), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="shape"):
        model(x, s[:, None], t)
