"""What a method of solution buys: network calls until samples are as good as those of an exact solve."""

from importlib.util import find_spec

import torch

from benchmarks.measure import Numbers, at_most, targets
from fmlab.datasets import Checkerboard
from fmlab.losses import flow_matching_loss
from fmlab.metrics import energy_distance
from fmlab.models import MLP
from fmlab.paths import GaussianPath
from fmlab.samplers import sample_flow
from fmlab.simulators import RK4, Euler, Heun, Midpoint
from fmlab.training import train

GOOD = 1.2  # times the energy distance of an exact solve
METHODS = {"Euler": (Euler(), 1), "Heun": (Heun(), 2), "midpoint": (Midpoint(), 2), "RK4": (RK4(), 4)}


@targets(at_most("midpoint", 12, "a call"))
def solver_calls(quick: bool) -> Numbers:
    """Network calls until samples of a trained checkerboard are within 1.2 × the energy distance of an exact solve"""
    generator, data = torch.Generator().manual_seed(0), Checkerboard()
    torch.manual_seed(0)
    model = train(
        MLP(2),
        lambda model: flow_matching_loss(model, GaussianPath(), data.sample(2000, generator), generator=generator),
        steps=300 if quick else 2000,
        generator=generator,
    )
    n = 4000 if quick else 20_000
    x0, fresh = torch.randn(n, 2, generator=generator), data.sample(n, generator)

    def quality(x) -> float:
        return float(energy_distance(x, fresh))

    good = GOOD * quality(sample_flow(model, x0, 100, RK4()))
    calls: Numbers = {"a call": 1.0}
    for name, (method, each) in METHODS.items():
        for grid, shape in (("", lambda t: t), (", later denser", lambda t: 1 - (1 - t) ** 1.5)):
            calls[name + grid] = _first(
                lambda steps, m=method, s=shape: quality(sample_flow(model, x0, s(torch.linspace(0, 1, steps + 1)), m)),
                good,
                each,
                16 if quick else 128,
            )
    if find_spec("torchdiffeq"):
        calls["dopri5 (torchdiffeq)"] = _dopri5(model, x0, lambda x: quality(x) <= good)
    return calls


def _first(quality_after, good: float, each: int, most: int) -> float:
    """Fewest calls, `each` per step, that reach a quality; infinite where `most` do not."""
    return next((float(each * k) for k in range(1, most // each + 1) if quality_after(k) <= good), float("inf"))


@torch.no_grad()
def _dopri5(model, x0, is_good) -> float:
    """Calls of the adaptive method at the loosest tolerance that suffices."""
    from torchdiffeq import odeint

    for tolerance in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4):
        count = 0

        def field(t, x):
            nonlocal count
            count += 1
            return model(x, t.to(x))

        x = odeint(field, x0, torch.tensor([0.0, 1.0]), method="dopri5", rtol=tolerance, atol=tolerance)[-1]
        if is_good(x):
            return float(count)
    return float("inf")
