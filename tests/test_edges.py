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
from tests.test_devices import CALLS, TOKENS, World, row_field, tensors

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
        self.generator = torch.Generator().manual_seed(torch.initial_seed())
        vars(self).update(given)

    def randn(self, *shape):
        self.seed += 1
        return self._as(torch.randn(*shape, dtype=EXACT, generator=torch.Generator().manual_seed(self.seed)))

    def _as(self, x):
        return self.lay(x.half().to(self.dtype))  # numbers that all dtypes have

    def on(self, module):
        for each in module.modules():  # new weights, since within torch.func old ones cannot be changed
            for name, weight in each.named_parameters(recurse=False):
                setattr(each, name, torch.nn.Parameter(weight.detach().to(self.dtype)))
            for name, buffer in each.named_buffers(recurse=False):
                setattr(each, name, buffer.to(self.dtype))
        return module

    def uniform(self, *shape):
        self.seed += 1
        return torch.rand(*shape, dtype=EXACT, generator=torch.Generator().manual_seed(self.seed))


EXCEPTIONS = {  # what is not compared, and why
    "jacrev": {
        **dict.fromkeys(
            [f"flow_maps.{name}_target" for name in ("semigroup", "lagrangian", "eulerian", "consistency")],
            "a target carries no gradient, as it says",
        ),
        "losses.reflow_loss": "pairs are drawn once, without gradients, as it says",
    },
    "kinds": {
        "simulators.EulerMaruyama": "a bare step; simulate looks at its states first",
        "simulators.ODEMethod": "a bare step; simulate looks at its states first",
        "losses.reflow_loss": "its numbers of pairs do not fit one point",
        "guidance.batch_guidance": "a label for each row does not fit one point",
        "guidance.guidance_in_interval": "a label for each row does not fit one point",
    },
    "one row": {
        "metrics.nearest_neighbour_distance": "the data are one row as well",
        "sentences.Sentences": "the table is one row as well",
    },
}


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
    if not draws(name) and name not in EXCEPTIONS["one row"]:
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
    """The derivative of a call along a direction, by central differences; 0 where the call is infinite."""
    value, direction = getattr(Edge(), of), direction_of(of)
    ahead, back = (called(name, **{of: value + side * step * direction}) for side in (1, -1))
    return [((a - b) / (2 * step)).nan_to_num(0.0) for a, b in zip(ahead, back) if a.is_floating_point()]


def direction_of(of: str) -> torch.Tensor:
    value = getattr(Edge(), of)
    return torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(99))


def of_floats(name: str) -> bool:
    return any(each.is_floating_point() for each in called(name))


def of_differences(name: str) -> float:
    """The precision of differences; some calls make things of their own in single precision."""
    return 1e-5 if all(each.dtype == EXACT for each in called(name) if each.is_floating_point()) else 0.02


def floats(name: str, of: str):
    def function(value):
        return tuple(each for each in called(name, **{of: value}) if each.is_floating_point())

    return function


@pytest.mark.parametrize("of", INPUTS)
@pytest.mark.parametrize("name", [name for name in NAMES if of_floats(name)])
def test_within_jvp(name, of):
    def call():
        return list(torch.func.jvp(floats(name, of), (getattr(Edge(), of),), (direction_of(of),))[1])

    right_or_refused(call, lambda: along(name, of), of_differences(name))


@pytest.mark.parametrize("of", INPUTS)
@pytest.mark.parametrize("name", [name for name in NAMES if of_floats(name) and name not in EXCEPTIONS["jacrev"]])
def test_within_jacrev(name, of):
    def call():
        jacobians = torch.func.jacrev(floats(name, of))(getattr(Edge(), of))
        direction = direction_of(of)
        return [(each * direction).flatten(each.ndim - direction.ndim).sum(-1) for each in jacobians]

    right_or_refused(call, lambda: along(name, of), of_differences(name))


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_back_can_be_pickled_and_copied(name):
    found = [each.detach() for each in called(name)]
    for copied in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        right_or_refused(lambda copied=copied: copied, lambda: found, 0)


def whole(edge):
    return {name: (3 * getattr(edge, name)).long() for name in ("x", "noise", "image")}


def arrays(edge):
    return {name: getattr(edge, name).numpy() for name in ("x", "t", "s", "image")}


def mixed(edge):
    return {name: getattr(edge, name).float() for name in ("noise", "s")}


def mixed_too(edge):
    return {name: getattr(edge, name).float() for name in ("x", "t", "image")}


def one_point(edge):
    return {"x": edge.x[0], "noise": edge.noise[0]}


OWN = {__file__, str(Path(__file__).with_name("test_devices.py"))}


@pytest.mark.parametrize("kind", [whole, arrays, mixed, mixed_too, one_point])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in EXCEPTIONS["kinds"]])
def test_of_other_kinds(name, kind):
    """What a call is not made for is refused, here or by the field that it asks; or taken as it is meant."""
    try:
        found = called(name, **kind(Edge()))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        assert refused(error) or where in OWN, error
        return
    for a, b in zip(found, called(name)) if kind in (arrays, mixed, mixed_too) and not draws(name) else ():
        torch.testing.assert_close(a.detach().to(b), b.detach(), rtol=1e-3, atol=1e-3)


# --- objects: pickled, and copied so that nothing of the original is left ---------------------------------------------


def denoise(x, t, y=None):
    return -x * (1 + t)


def decay(t):
    return 1 - t


def walk(process):
    return simulators.simulate(process, Edge().x, [0.1, 0.2, 0.3], generator=torch.Generator().manual_seed(0))


MEANS, DATA = Edge().randn(3, 2), Edge().randn(9, 2)
NETWORK = models.MLP(2, labels=3).double()
OBJECTS = {  # an object, and what is asked of it
    "mixture": (lambda: GaussianMixture(MEANS, 0.5), lambda p: p.log_prob(Edge().x)),
    "gaussian": (lambda: Gaussian(MEANS[0], 0.5), lambda p: p.sample(5, torch.Generator().manual_seed(0))),
    "data": (lambda: Empirical(DATA.clone()), lambda p: p.sample(5, torch.Generator().manual_seed(0))),
    "board": (Checkerboard, lambda p: p.log_prob(Edge().x)),
    "circles": (Circles, lambda p: p.log_prob(Edge().x)),
    "moons": (Moons, lambda p: p.sample(5, torch.Generator().manual_seed(0))),
    "path": (lambda: GaussianPath(Cosine()), lambda p: p.velocity(Edge().x, Edge().noise, Edge().t)),
    "line": (LinearPath, lambda p: p.interpolate(Edge().x, Edge().noise, Edge().t)),
    "marginal of a mixture": (
        lambda: GaussianPath().marginal(GaussianMixture(MEANS, 0.5)),
        lambda p: p.vector_field(Edge().x, 0.3),
    ),
    "marginal of data": (lambda: GaussianPath().marginal(Empirical(DATA.clone())), lambda p: p.score(Edge().x, 0.3)),
    "chain": (lambda: Chain([0.1, 0.2]), lambda c: c.noised(Edge().x, 2, Edge().noise)),
    "ODE": (lambda: processes.ODE(denoise), walk),
    "SDE": (lambda: processes.SDE(denoise, 0.3), walk),
    "linear SDE": (lambda: processes.LinearSDE(-1.0, decay), walk),
    "Ornstein-Uhlenbeck": (lambda: processes.ornstein_uhlenbeck(1.0, 0.5), walk),
    "geometric": (lambda: processes.GeometricBrownianMotion(0.1, 0.2), walk),
    "Langevin": (lambda: processes.langevin(GaussianMixture(MEANS, 0.5).score), walk),
    "extension": (lambda: processes.sde_extension(denoise, denoise, decay), walk),
    "forward": (lambda: processes.forward_sde(LinearVP()), walk),
    "reverse": (lambda: processes.reverse_sde(LinearVP(), denoise, 0.7), walk),
    "probability flow": (lambda: processes.probability_flow(LinearVP(), denoise), walk),
    "times": (lambda: losses.uniform(0.1, 0.9), lambda times: times(5, torch.Generator().manual_seed(0))),
    "reflow": (lambda: losses.reflow_loss(torch.neg, Edge().x), lambda loss: loss(row_field, Edge().y, Edge().t)),
    "guided": (
        lambda: guidance.guided_vector_field(NETWORK, torch.tensor([0, 1, 2, 0, 1, 2]), 2.0),
        lambda u: u(Edge().x, 0.3).detach(),
    ),
    "map": (lambda: flow_maps.map_of(flow_maps.average_velocity(GAUSSIAN_MAP)), lambda m: m(Edge().x, 0.1, 0.5)),
    "line map": (
        lambda: flow_maps.LineFlowMap(GaussianMixture(MEANS[:, :1], 0.5)),
        lambda m: m(Edge().x[:, :1], 0.1, 0.5),
    ),
    "method": (lambda: simulators.RK4(), lambda m: m.step(denoise, Edge().x, 0.1, 0.2)),
    "schedule": (lambda: schedules.CondOT(0.1), lambda s: s.beta(Edge().t)),
}
GAUSSIAN_MAP = flow_maps.GaussianFlowMap([1.0, 2.0], 0.5)


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_can_be_pickled(name):
    make, ask = OBJECTS[name]
    torch.testing.assert_close(ask(pickle.loads(pickle.dumps(make()))), ask(make()), rtol=0, atol=0)


def spoil(value, seen=None) -> None:
    """Changes in place all tensors, and sets anew all numbers, that an object is made of."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        value.detach().mul_(0).add_(1)
    elif isinstance(value, (list, tuple)):
        for each in value:
            spoil(each, seen)
    elif hasattr(value, "func") and hasattr(value, "args"):
        spoil([value.func, *value.args], seen)
    elif hasattr(value, "__self__"):
        spoil(value.__self__, seen)
    elif type(value).__module__.startswith("fmlab"):
        for attribute, each in vars(value).items():
            if isinstance(each, float):
                setattr(value, attribute, 0.123)
            spoil(each, seen)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_deep_copy_is_independent_of_the_original(name):
    make, ask = OBJECTS[name]
    original = make()
    copied, expected = copy.deepcopy(original), ask(original)
    spoil(original)
    torch.testing.assert_close(ask(copied), expected, rtol=0, atol=0)


def test_a_changed_copy_is_obeyed():
    original = processes.ornstein_uhlenbeck(1.0, 0.5)
    copied = copy.deepcopy(original)
    copied.rate, copied.sigma = -7.0, 0.1
    assert torch.equal(walk(copied), walk(processes.ornstein_uhlenbeck(7.0, 0.1)))
    assert torch.equal(walk(original), walk(processes.ornstein_uhlenbeck(1.0, 0.5)))
    x = Edge().x
    assert torch.equal(copied.drift(x, 0.1), -7 * x) and copied.diffusion(x, 0.1) == 0.1
