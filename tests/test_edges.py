"""Every public function at its edges: it is right there, or says in a sentence of its own what to do.

The table of calls is that of `tests.test_devices`. Each is made in inference mode, within `vmap`, `jvp` and `jacrev`,
with no row and with one, in other layouts of memory and in half precision, and compared with the plain call in double
precision, or with its differences. A refusal counts where it is a ValueError or TypeError that the library raises.
"""

import copy
import pickle
import traceback
from pathlib import Path

import pytest
import torch

import fmlab
from fmlab import flow_maps, guidance, losses, models, processes, schedules, simulators
from fmlab.datasets import Checkerboard, Circles, Empirical, Moons
from fmlab.ddpm import Chain
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.paths import GaussianPath, LinearPath
from fmlab.schedules import CondOT, Cosine, LinearVP
from tests.test_devices import BY_VALUES, CALLS, TOKENS, World, row_field, tensors

LIBRARY = Path(fmlab.__file__).parent
NAMES = sorted(CALLS)
EXACT = torch.float64


class Edge(World):
    """The world of the calls, of n rows, of a dtype; all tensors made by `lay`, and `given` ones put in place."""

    def __init__(self, n: int = 6, dtype: torch.dtype = EXACT, lay=lambda x: x, **given):
        self.device, self.dtype, self.lay, self.seed = "cpu", dtype, lay, 0
        self.x, self.noise, self.image = self.randn(6, 2)[:n], self.randn(6, 2)[:n], self.randn(4, 1, 8, 8)[:n]
        self.t, self.s = (self._as(torch.linspace(*ends, 6))[:n] for ends in ((0.2, 0.7), (0.3, 0.9)))
        self.y = torch.tensor([0, 1, 2, 0, 1, 2])[:n]
        kept, self.lay = self.lay, lambda x: x
        self.mixture = GaussianMixture(self.randn(3, 2).to(torch.promote_types(dtype, torch.float32)), 0.5)
        self.lay = kept
        self.path, self.schedule = GaussianPath(), CondOT()
        self.tokens, self.masks = TOKENS[:n], torch.full((6, 2), 4)[:n]
        self.generator = torch.Generator()
        vars(self).update(given)

    def randn(self, *shape):
        self.seed += 1
        return self._as(torch.randn(*shape, dtype=EXACT, generator=torch.Generator().manual_seed(self.seed)))

    def _as(self, x):
        return self.lay(x.half().to(self.dtype))  # numbers that all dtypes have

    def on(self, module):
        return module.to(self.dtype)

    def uniform(self, *shape):
        self.seed += 1
        return torch.rand(*shape, dtype=EXACT, generator=torch.Generator().manual_seed(self.seed))


def called(name: str, *args, seed: int = 0, **settings) -> list[torch.Tensor]:
    """What a call returns, as a list of tensors, of the same random numbers each time."""
    torch.manual_seed(seed)
    return tensors(CALLS[name](Edge(*args, **settings)))


def refused(error: Exception) -> bool:
    """Whether an error is one that the library raises itself, with a sentence."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = LIBRARY in Path(last.filename).parents
    return own and isinstance(error, (ValueError, TypeError)) and len(str(error).split()) > 3


def right_or_refused(call, expected, tolerance=1e-9):
    """Asserts that a call returns what is expected, unless it refuses."""
    try:
        found = call()
    except Exception as error:
        if refused(error):
            return
        raise
    expected = expected()
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a.detach().clone().to(b), b.detach(), rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_in_inference_mode(name):
    def call():
        with torch.inference_mode():
            return called(name)

    right_or_refused(call, lambda: called(name))


def channels_last(x):
    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x


def columns_first(x):
    return x.mT.contiguous().mT if x.ndim > 1 else x


def strided(x):
    return torch.stack([x, x + 1], dim=-1)[..., 0]


@pytest.mark.parametrize("lay", [channels_last, columns_first, strided])
@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_layout_in_memory(name, lay):
    right_or_refused(lambda: called(name, lay=lay), lambda: called(name))


@pytest.mark.parametrize("name", NAMES)
def test_of_expanded_rows(name):
    def expanded(x):
        return x[:1].expand_as(x) if x.ndim > 1 else x

    right_or_refused(lambda: called(name, lay=expanded), lambda: called(name, lay=lambda x: expanded(x).contiguous()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_in_half_precision(name, dtype):
    def rounded(x):
        return x.to(dtype).float()

    tolerance = 0.02 if dtype == torch.float16 else 0.1
    expected = lambda: called(name, dtype=torch.float32, lay=rounded)  # noqa: E731
    right_or_refused(lambda: called(name, dtype=dtype, lay=lambda x: x.to(dtype)), expected, tolerance)


def draws(name: str) -> bool:
    """Whether a call depends on random numbers."""
    return any(not torch.equal(a, b) for a, b in zip(called(name, seed=0), called(name, seed=1)))


@pytest.mark.parametrize("name", NAMES)
def test_of_one_row(name):
    def first():
        return [a[:1] if a.ndim and len(a) == 6 and b.shape == a[:1].shape else b for a, b in zip(many, one)]

    many = called(name)
    try:
        one = called(name, 1)
    except Exception as error:
        assert refused(error), error
        return
    assert all(each.isfinite().all() for each in one if each.is_floating_point())
    if not draws(name):
        right_or_refused(lambda: one, first)


@pytest.mark.parametrize("name", NAMES)
def test_of_no_row(name):
    try:
        found = called(name, 0)
    except Exception as error:
        assert refused(error), error
        return
    assert all(each.isfinite().all() for each in found if each.is_floating_point())


INPUTS = ["x", "t"]


@pytest.mark.parametrize("of", INPUTS)
@pytest.mark.parametrize("name", NAMES)
def test_within_vmap(name, of):
    value = getattr(Edge(), of)
    batch = torch.stack([value, 0.9 * value])

    def call():
        return list(torch.func.vmap(lambda v: tuple(called(name, **{of: v})), randomness="same")(batch))

    right_or_refused(call, lambda: [torch.stack(parts) for parts in zip(*(called(name, **{of: v}) for v in batch))])


def along(name: str, of: str, step: float = 1e-5) -> list[torch.Tensor]:
    """The derivative of a call along a direction, by central differences."""
    value, direction = getattr(Edge(), of), direction_of(of)
    ahead, back = (called(name, **{of: value + side * step * direction}) for side in (1, -1))
    return [(a - b) / (2 * step) for a, b in zip(ahead, back) if a.is_floating_point()]


def direction_of(of: str) -> torch.Tensor:
    value = getattr(Edge(), of)
    return torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(99))


def floats(name: str, of: str):
    def function(value):
        return tuple(each for each in called(name, **{of: value}) if each.is_floating_point())

    return function


@pytest.mark.parametrize("of", INPUTS)
@pytest.mark.parametrize("name", NAMES)
def test_within_jvp(name, of):
    def call():
        return list(torch.func.jvp(floats(name, of), (getattr(Edge(), of),), (direction_of(of),))[1])

    right_or_refused(call, lambda: along(name, of), 1e-5)


@pytest.mark.parametrize("of", INPUTS)
@pytest.mark.parametrize("name", NAMES)
def test_within_jacrev(name, of):
    def call():
        jacobians = torch.func.jacrev(floats(name, of))(getattr(Edge(), of))
        direction = direction_of(of)
        return [(each * direction).flatten(each.ndim - direction.ndim).sum(-1) for each in jacobians]

    right_or_refused(call, lambda: along(name, of), 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_back_can_be_pickled_and_copied(name):
    found = [each.detach() for each in called(name)]
    for copied in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        right_or_refused(lambda copied=copied: copied, lambda: found, 0)


def test_no_call_looks_at_numbers_in_vain():
    assert set(CALLS) >= BY_VALUES
