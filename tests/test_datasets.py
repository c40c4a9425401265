"""Data sets: samples against their densities, moments and support; digits and MNIST as they are found."""

import builtins
import math
import subprocess
import sys
import types

import pytest
import torch
from sklearn.datasets import load_digits, make_moons

from fmlab.datasets import Checkerboard, Circles, Digits, Labelled, Moons, mnist
from tests.cases import gradient, rng

PLANE = [Checkerboard(), Moons(), Circles(), Circles(radii=(1.0,), noise=0.3)]


def cells(x, low=-3.0, side=0.25, count=24):
    """Share of the points in each cell of a grid over [−3, 3]²."""
    index = ((x - low) / side).floor().long()
    inside = ((index >= 0) & (index < count)).all(1)
    return torch.bincount(index[inside] @ torch.tensor([count, 1]), minlength=count**2) / len(x)


def cell_probabilities(p, fine=20, low=-3.0, side=0.25, count=24):
    """The integral of the density over each cell, by the midpoint rule on fine × fine points."""
    axis = low + side / fine * (torch.arange(count * fine, dtype=torch.float64) + 0.5)
    density = p.log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(count, fine, count, fine)
    return (density.mean((1, 3)) * side**2).flatten()


@pytest.mark.parametrize("p", [PLANE[0], *PLANE[2:]], ids=["Checkerboard", "Circles", "one circle"])
def test_samples_follow_the_density(p):
    n, expected = 200_000, cell_probabilities(p)
    assert float(expected.sum()) == pytest.approx(1, abs=1e-3)
    found = cells(p.sample(n, rng(0)))
    error = (expected * (1 - expected) / n).sqrt()
    assert ((found - expected).abs() <= 5.5 * error + 2 / n).all()


@pytest.mark.parametrize("p", PLANE, ids=["Checkerboard", "Moons", "Circles", "one circle"])
def test_samples_are_seeded_centred_and_about_one_unit_wide(p):
    x = p.sample(50_000, rng(0))
    assert x.shape == (50_000, 2) and x.dtype == torch.get_default_dtype()
    assert (x == p.sample(50_000, rng(0))).all() and not (x == p.sample(50_000, rng(1))).all()
    assert ((x.mean(0)).abs() < 5 * x.std(0) / math.sqrt(len(x))).all()
    assert 0.5 < float(x.var(0).mean()) < 1.5
    assert float(p.sample(1).abs().sum()) > 0 and p.sample(0).shape == (0, 2)


def test_each_dark_cell_gets_an_eighth():
    p, n = Checkerboard(), 80_000
    x = p.sample(n, rng(0))
    assert float(x.abs().max()) <= 2 and (p.log_prob(x) == -math.log(8)).all()
    index = ((x + 2).floor().long() @ torch.tensor([4, 1])).bincount(minlength=16)
    assert sorted((index > 0).tolist()) == [False] * 8 + [True] * 8
    assert ((index[index > 0] / n - 1 / 8).abs() < 5 * math.sqrt(1 / 8 * 7 / 8 / n)).all()
    assert p.log_prob(torch.tensor([[0.5, -0.5], [2.5, 0.5], [-2.5, -0.5]])).tolist() == [-math.inf] * 3


def test_moons_are_scikit_learns_moons():
    """Both lie on the same two curves, once centred and scaled, and have the same share on each."""
    reference = torch.as_tensor(make_moons(4000, noise=0.0)[0], dtype=torch.float32)
    reference = math.sqrt(2) * (reference - torch.tensor([0.5, 0.25]))
    x = Moons(noise=0.0).sample(4000, rng(0))
    distances = torch.cdist(x, reference)
    assert distances.amin(1).max() < 0.01 and distances.amin(0).max() < 0.02
    noisy = torch.cdist(Moons(noise=0.05).sample(4000, rng(0)), reference).amin(1)
    assert float(noisy.square().mean().sqrt()) == pytest.approx(0.05, rel=0.1)  # noise across the curve, mostly


def test_the_score_of_circles_by_autograd_points_to_the_nearest_circle():
    p, ray = Circles(noise=0.05), torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    for radius, sign in [(0.7, 1), (0.9, -1), (1.5, 1), (1.7, -1)]:
        score = gradient(p.log_prob, radius * ray)
        assert float((score * ray).sum()) * sign == pytest.approx(0.1 / 0.05**2, rel=0.05)


def test_thin_data_have_no_density():
    with pytest.raises(ValueError, match="no density"):
        Circles(noise=0.0).log_prob(torch.zeros(1, 2))
    assert torch.allclose(Circles((1.5,), noise=0.0).sample(100).norm(dim=1), torch.tensor(1.5))


def test_digits_are_scikit_learns_split_in_two():
    train, test = Digits(), Digits(train=False)
    pixels, labels = load_digits(return_X_y=True)
    assert train.z.shape == (1438, 1, 8, 8) and test.z.shape == (359, 1, 8, 8)
    assert train.z.min() == -1 and train.z.max() == 1 and train.y.dtype == torch.int64
    rows = {
        (*row, label) for row, label in zip((pixels - 8).astype(int).tolist(), labels.tolist()) for row in [tuple(row)]
    }
    found = [
        (*(8 * z).int().flatten().tolist(), int(y)) for p in (train, test) for z, y in zip(p.z, p.y)
    ]  # every image with its own label, none twice
    assert set(found) == rows and len(found) == len(labels)
    assert (Digits().z == train.z).all() and not (Digits(seed=1).z == train.z).all()
    assert ((train.y.bincount(minlength=10) / 1438 - 0.1).abs() < 0.02).all()


def test_labels_stay_with_their_images():
    digits = Digits()
    z, y = digits.sample_labelled(500, rng(0))
    assert z.shape == (500, 1, 8, 8) and y.shape == (500,)
    nearest = torch.cdist(z.flatten(1), digits.z.flatten(1)).argmin(1)
    assert (digits.y[nearest] == y).all()
    assert (digits.sample(500, rng(0)) == z).all()
    assert y.unique().tolist() == list(range(10))


def test_digits_load_without_touching_sklearn_before():
    code = "import sys, fmlab.datasets; print('sklearn' in sys.modules, 'torchvision' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "False False\n"


def without_torchvision(monkeypatch, error):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("torchvision"):
            raise error
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("No module named 'torchvision'"), RuntimeError("operator torchvision::nms does not exist")],
    ids=["missing", "broken"],
)
def test_mnist_says_what_to_do_where_torchvision_does_not_load(monkeypatch, error):
    without_torchvision(monkeypatch, error)
    with pytest.raises(RuntimeError) as caught:
        mnist()
    message = str(caught.value)
    assert str(error) in message and torch.__version__ in message and "Digits()" in message


def test_mnist_as_it_is_here():
    """Whatever this machine has: the data, or a message that says what is missing."""
    try:
        data = mnist("data-that-is-not-there")
    except RuntimeError as error:
        assert "MNIST" in str(error) and "Digits()" in str(error)
    else:
        assert data.z.shape == (60_000, 1, 28, 28)


def stub_torchvision(monkeypatch, dataset):
    package, datasets = types.ModuleType("torchvision"), types.ModuleType("torchvision.datasets")
    datasets.MNIST = dataset
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.mark.parametrize("error", [RuntimeError("Error downloading train-images-idx3-ubyte.gz"), OSError("read-only")])
def test_mnist_says_what_to_do_where_the_data_are_out_of_reach(monkeypatch, error):
    def dataset(root, train, download):
        raise error

    stub_torchvision(monkeypatch, dataset)
    with pytest.raises(RuntimeError, match="neither in 'somewhere' nor could it be downloaded") as caught:
        mnist("somewhere")
    assert str(error) in str(caught.value) and "Digits()" in str(caught.value)


def test_mnist_images_are_scaled_like_digits(monkeypatch):
    class Dataset:
        def __init__(self, root, train, download):
            self.data = torch.tensor([0, 255, 51], dtype=torch.uint8)[:, None, None].expand(3, 28, 28)
            self.targets = torch.tensor([5, 0, 4])

    stub_torchvision(monkeypatch, Dataset)
    data = mnist()
    assert data.z.shape == (3, 1, 28, 28) and data.y.tolist() == [5, 0, 4]
    torch.testing.assert_close(data.z[:, 0, 0, 0], torch.tensor([-1.0, 1.0, -0.6]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Moons(noise=-0.1), "noise"),
        (lambda: Circles(noise=math.nan), "noise"),
        (lambda: Circles(radii=(1.0, -1.0)), "radii"),
        (lambda: Circles(radii=()), "radii"),
        (lambda: Checkerboard().log_prob(torch.zeros(3)), r"\(n, 2\)"),
        (lambda: Circles().log_prob(torch.zeros(3, 2).long()), "floating point"),
        (lambda: Labelled(torch.zeros(3, 2), torch.zeros(3)), "3 whole numbers"),
        (lambda: Labelled(torch.zeros(3, 2), torch.zeros(2).long()), r"got torch.int64 \(2,\)"),
    ],
)
def test_wrong_use_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
