"""Sliders for flow maps: a jump on a line, and samples in few calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fmlab import plots
from fmlab.distributions import GaussianMixture
from fmlab.flow_maps import LineFlowMap, Map, sample_map
from fmlab.metrics import energy_distance
from fmlab.paths import GaussianPath
from fmlab.processes import Field
from fmlab.samplers import sample_flow
from fmlab.simulators import Euler
from fmlab.widgets import Dropdown, Explorer, FloatSlider, IntSlider

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def chord_on_a_line(mixture: GaussianMixture) -> Explorer:
    """The jump from (s, x) to (t, X_{s,t}(x)) of the exact flow on a line, as s, t and x move.

    mixture: in one dimension, the data. The slope of the chord is the average velocity v_{s,t}(x); the dotted line goes
    on with the velocity u_s(x) of the start.
    """
    flow_map, field = LineFlowMap(mixture), GaussianPath().marginal(mixture).vector_field
    ts = torch.linspace(0, 1, 51, dtype=torch.float64)
    starts = torch.linspace(-2.2, 2.2, 15, dtype=torch.float64)
    times, first = (k.flatten() for k in torch.meshgrid(ts, starts, indexing="ij"))
    fan = flow_map(first[:, None], torch.zeros_like(times), times).reshape(len(ts), len(starts))

    def draw(ax: Axes, s: float, t: float, x: float) -> str:
        start = torch.tensor([[x]], dtype=torch.float64)
        end = float(flow_map(start, s, t))
        velocity = float(field(start, torch.tensor(s, dtype=torch.float64)))
        own = flow_map(start.expand(len(ts), 1), torch.full_like(ts, s), ts)
        ax.plot(ts, fan, color=plots.SKY, ls="-", lw=0.7)
        ax.plot(ts, own, color=plots.BLUE, ls="-", lw=1.6, label="its trajectory")
        ax.plot([s, t], [x, end], color=plots.RED, ls="--", marker="o", lw=2, label="chord")
        straight = [x, x + (t - s) * velocity]
        ax.plot([s, t], straight, color=plots.BLACK, ls=":", lw=1.6, label="velocity of the start")
        ax.set(xlim=(-0.02, 1.02), ylim=(-3, 3.9), xlabel="time", ylabel="state")
        mean = f"{(end - x) / (t - s):.2f}" if t != s else f"{velocity:.2f}"
        ax.set_title(f"s = {s:.2f}, t = {t:.2f}: average velocity {mean}, velocity of the start {velocity:.2f}")
        ax.legend(loc="upper left")
        return (
            f"From x = {x:.2f} at s = {s:.2f} the flow leads to {end:.2f} at t = {t:.2f}: average velocity {mean}, "
            f"velocity of the start {velocity:.2f}"
        )

    return Explorer(
        draw,
        s=FloatSlider(value=0.0, min=0, max=1, step=0.02, description="from time s"),
        t=FloatSlider(value=1.0, min=0, max=1, step=0.02, description="to time t"),
        x=FloatSlider(value=-0.4, min=-2, max=2, step=0.05, description="state x"),
    )


def _jumps(v: Map, x0: Tensor, k: int) -> Tensor:
    return sample_map(v, x0, torch.linspace(0, 1, k + 1))


def few_calls(teacher: Field, students: Mapping[str, Map], data: Tensor, n: int = 800) -> Explorer:
    """Samples in the plane by a teacher's Euler steps, or by as many jumps of a student.

    teacher: field u(x, t). students: name → average velocity v(x, s, t). data: (N, 2), to compare with.
    """
    x0, few = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)), data[:n]
    samplers: dict[str, Callable[[int], Tensor]] = {"teacher, Euler": lambda k: sample_flow(teacher, x0, k, Euler())}
    for name, v in students.items():
        samplers[name] = partial(_jumps, v, x0)

    def draw(ax: Axes, who: str, calls: int) -> str:
        x = samplers[who](calls)
        distance = float(energy_distance(x, few))
        plots.plot_samples(few, ax, color=plots.SKY, alpha=0.4, label="data")
        plots.plot_samples(x, ax, color=plots.RED, ms=3, label=who)
        ax.set(xlim=(-4, 4), ylim=(-2.2, 2.2), xlabel="x₁", ylabel="x₂")
        ax.set_title(f"{who}, {calls} call{'s' * (calls > 1)}: energy distance {distance:.4f}")
        ax.legend(loc="upper right")
        return f"{who}, {calls} calls: {n} samples at energy distance {distance:.4f} from the data"

    return Explorer(
        draw,
        who=Dropdown(options=list(samplers), description="who draws"),
        calls=IntSlider(1, 1, 32, description="calls"),
    )
