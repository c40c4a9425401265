"""Networks as fields: shapes, times, labels, and that points of a batch do not see each other."""

import copy

import pytest
import torch

from fmlab.models import MLP, UNet, time_embedding
from fmlab.processes import ODE
from fmlab.simulators import simulate

POINT, IMAGE = (2,), (1, 8, 8)
NETWORKS = {
    "MLP": (lambda: MLP(2), POINT),
    "MLP on images": (lambda: MLP(64, width=32, labels=10), IMAGE),
    "MLP scaled": (lambda: MLP(2, scale=5.0, labels=10), POINT),
    "U-Net": (lambda: UNet(), IMAGE),
    "U-Net with labels": (lambda: UNet(labels=10), IMAGE),
    "U-Net in colour": (lambda: UNet(channels=3, labels=10), (3, 12, 16)),
    "U-Net of three levels": (lambda: UNet(width=8, labels=10, halvings=2), (1, 12, 16)),
}


def build(name: str):
    """A network with weights away from their start, where some are 0, and points for it."""
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model = make()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model, torch.randn(6, *shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_a_field(name):
    model, x = build(name)
    assert model(x, 0.3).shape == x.shape and model(x, 0.3).dtype == x.dtype
    torch.testing.assert_close(model(x, 0.3), model(x, torch.full((6,), 0.3)))
    torch.testing.assert_close(model(x, 0.3), model(x, torch.tensor(0.3, dtype=torch.float64)))
    with torch.no_grad():
        assert simulate(ODE(model), x, torch.linspace(0, 1, 3)).shape == x.shape


@pytest.mark.parametrize("name", NETWORKS)
def test_each_point_is_seen_alone_with_its_time_and_label(name):
    model, x = build(name)
    t = torch.linspace(0, 1, 6)
    y = torch.tensor([0, 3, 9, 10, 3, 0]) if model.null_label else None
    together = model(x, t) if y is None else model(x, t, y)
    for k in range(6):
        alone = model(x[k : k + 1], float(t[k])) if y is None else model(x[k : k + 1], float(t[k]), int(y[k]))
        torch.testing.assert_close(alone[0], together[k], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_time_matters_and_every_weight_learns(name):
    model, x = build(name)
    values = [model(x, t).detach() for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for k, value in enumerate(values):
        assert all(float((value - other).abs().max()) > 1e-3 for other in values[k + 1 :])
    y = () if model.null_label is None else (torch.arange(6),)
    model(x, torch.rand(6), *y).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


@pytest.mark.parametrize("name", ["MLP on images", "U-Net with labels"])
def test_no_label_is_the_null_label(name):
    model, x = build(name)
    assert model.null_label == 10
    torch.testing.assert_close(model(x, 0.5), model(x, 0.5, torch.full((6,), 10)))
    for y in range(10):
        assert float((model(x, 0.5, y) - model(x, 0.5)).detach().abs().max()) > 1e-3
    assert copy.deepcopy(model).null_label == 10


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_repeats_the_network(name):
    (first, x), (second, _) = build(name), build(name)
    assert (first(x, 0.5) == second(x, 0.5)).all()


def test_networks_follow_the_dtype():
    model = MLP(2).double()
    assert model(torch.zeros(3, 2, dtype=torch.float64), 0.5).dtype == torch.float64


def test_scale_divides_the_inputs():
    torch.manual_seed(0)
    plain = MLP(2)
    scaled = copy.deepcopy(plain)
    scaled.scale = 5.0
    x = torch.randn(4, 2)
    torch.testing.assert_close(scaled(5 * x, 0.3), plain(x, 0.3))


def test_the_embedding_tells_times_apart():
    t = torch.linspace(0, 1, 101)
    features = time_embedding(t, 8)
    assert features.shape == (101, 8)
    distances = torch.cdist(features, features) + 9 * torch.eye(101)
    assert distances.min() > 0.1  # also between t = 0 and t = 1
    torch.testing.assert_close(features.square().sum(1), torch.full((101,), 4.0))  # cos² + sin², four times


def test_small_networks_are_small():
    size = lambda model: sum(weight.numel() for weight in model.parameters())  # noqa: E731
    assert size(MLP(2)) < 20_000 and size(UNet(labels=10)) < 80_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLP(2)(torch.zeros(3, 2).long(), 0.5), "floating point"),
        (lambda: MLP(2)(torch.zeros(3, 4), 0.5), "2 coordinates"),
        (lambda: MLP(2)(torch.zeros(3, 2), torch.zeros(3, 1)), r"scalar or have shape \(3,\)"),
        (lambda: MLP(2)(torch.zeros(3, 2), torch.zeros(4)), r"got \(4,\)"),
        (lambda: MLP(2)(torch.zeros(3, 2), 0.5, torch.zeros(3).long()), "knows no labels"),
        (lambda: MLP(2, labels=3)(torch.zeros(3, 2), 0.5, torch.zeros(3)), "whole numbers"),
        (lambda: MLP(2, labels=3)(torch.zeros(3, 2), 0.5, torch.tensor([0, 1, 4])), "0 … 2, or 3 for none"),
        (lambda: MLP(2, labels=3)(torch.zeros(3, 2), 0.5, -1), "got values from -1 to -1"),
        (lambda: MLP(2, labels=3)(torch.zeros(3, 2), 0.5, torch.zeros(2).long()), r"have shape \(3,\)"),
        (lambda: UNet()(torch.zeros(3, 1, 7, 8), 0.5), "even"),
        (lambda: UNet(halvings=2)(torch.zeros(3, 1, 6, 8), 0.5), "multiples of 4"),
        (lambda: UNet()(torch.zeros(3, 8, 8), 0.5), "images"),
        (lambda: UNet(channels=3)(torch.zeros(3, 1, 8, 8), 0.5), "n, 3"),
    ],
)
def test_wrong_use_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_network_says_which_numbers_it_takes():
    for x, message in (
        (torch.zeros(2, 2).double(), "computes in torch.float32"),
        (torch.zeros(2, 2).long(), "floating"),
    ):
        with pytest.raises(ValueError, match=message):
            MLP(2)(x, 0.3)
    with pytest.raises(TypeError, match="must be a tensor"):
        MLP(2)([[0.0, 0.0]], 0.3)


@pytest.mark.parametrize("network, shape", [(MLP(2, labels=3), (2,)), (UNet(), (1, 8, 8))])
def test_a_network_takes_no_rows(network, shape):
    assert network(torch.zeros(0, *shape), 0.3).shape == (0, *shape)


def test_time_features_in_half_precision_are_those_of_the_time():
    t = torch.linspace(0, 1, 9).half()
    exact = time_embedding(t.double(), 64)
    torch.testing.assert_close(time_embedding(t, 64).double(), exact, rtol=0, atol=1e-3)
