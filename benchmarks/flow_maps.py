"""What lab 8 trains, as it trains it: the quality of few network calls, in floors, medians of three seeds; and the cost
of one step of its training, in units of the derivative that it asks for.

A floor is the mean energy distance of two fresh sets of the data; 1 is perfect. Networks, losses and numbers of steps
are those of the lab's notebook.
"""

import copy
from collections.abc import Callable
from statistics import fmean as mean
from statistics import median

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.functional import cross_entropy

from benchmarks.measure import Numbers, Rows, at_least, at_most, targets
from fmlab import flow_maps
from fmlab.datasets import Digits, Moons
from fmlab.guidance import guided_vector_field
from fmlab.losses import flow_matching_loss
from fmlab.metrics import energy_distance, fidelity
from fmlab.models import MLP, TwoTimeMLP
from fmlab.paths import GaussianPath
from fmlab.samplers import sample_flow
from fmlab.simulators import Midpoint
from fmlab.training import train
from fmlab.values import squares

DATA, NULL, SCALE = Moons(), 10, 2.0
STEPS = {
    "teacher": 2500,
    "round": 300,
    "consistency": 3500,
    "coarse consistency": 3500,
    "map": 1500,
    "mean flow": 1800,
    "shortcut": 1500,
    "digits": 1500,
    "reader": 400,
    "digit round": 500,
}


@targets(
    at_most("progressive, 1 call", 2, "teacher, 16 calls"),
    at_most("Eulerian, 1 call", 12, "a floor"),
    at_most("Lagrangian, 1 call", 12, "a floor"),
    at_most("mean flow, 1 call", 15, "a floor"),
    at_least("mean flow without stop, 1 call", 5, "mean flow, 1 call"),
    at_most("consistency training, 1 call", 8, "a floor"),
    at_most("consistency training, 4 calls", 5, "a floor"),
    at_least("consistency with steps of 1/16", 2, "consistency training, 1 call"),
    at_most("shortcut, 2 calls", 5, "a floor"),
    at_most("digits: student, 1 call", 1.5, "digits: teacher, 16 calls"),
    at_least("digits: recognised, share", 0.95, "a floor"),
)
def few_calls(quick: bool) -> Numbers:
    """Energy distance after few network calls, of lab 8's students and their teachers, medians of seeds, in floors"""
    runs = [moons(seed, quick) | digits(seed, quick) for seed in range(1 if quick else 3)]
    return {"a floor": 1.0} | {name: median(run[name] for run in runs) for name in runs[0]}


def error(v, target: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    return flow_maps.target_loss(v, target, x, s, t)


def states_at(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z, noise = DATA.sample(len(s)), torch.randn(len(s), 2)
    return s[:, None] * z + (1 - s)[:, None] * noise, z, noise


def two_times(n: int, equal: float) -> tuple[Tensor, Tensor]:
    s, t = torch.rand(2, n).sort(dim=0).values
    return s, torch.where(torch.rand(n) < equal, s, t)


def moons(seed: int, quick: bool) -> Numbers:
    sets = [DATA.sample(3000, torch.Generator().manual_seed(k)) for k in range(101, 109)]
    floor = mean(float(energy_distance(a, b)) for k, a in enumerate(sets) for b in sets[:k])
    fresh, noise = sets[:4], torch.randn(3000, 2, generator=torch.Generator().manual_seed(7))

    def floors(x: Tensor) -> float:
        return mean(float(energy_distance(x, y)) for y in fresh) / floor

    def trained(network: nn.Module, loss: Callable, name: str, lr: float = 3e-3) -> nn.Module:
        return train(network, loss, steps=20 if quick else STEPS[name], lr=lr).requires_grad_(False)

    def student(loss: Callable, name: str) -> nn.Module:
        torch.manual_seed(seed)
        return trained(TwoTimeMLP(2), loss, name)

    def after(v, calls: int = 1) -> float:
        return floors(flow_maps.sample_map(v, noise, torch.linspace(0, 1, calls + 1)))

    torch.manual_seed(seed)
    teacher = trained(
        MLP(2, width=80), lambda u: flow_matching_loss(u, GaussianPath(), DATA.sample(1000)), "teacher", 1e-2
    )
    found = {"teacher, 16 calls": floors(sample_flow(teacher, noise, 8, Midpoint()))}

    def midpoint(x, s, t):
        return teacher(x + ((t - s) / 2)[:, None] * teacher(x, s), (s + t) / 2)

    v, network = midpoint, teacher
    for steps in (4, 2, 1):
        torch.manual_seed(10 * seed + steps)

        def halving(network, v=v, steps=steps):
            s = torch.randint(steps, (500,)) / steps
            x, *_ = states_at(s)
            target = flow_maps.semigroup_target(v, None, x, s, s + 1 / steps)
            return error(lambda x, s, t: network(x, s), target, x, s, s + 1 / steps)

        network = trained(copy.deepcopy(network).requires_grad_(True), halving, "round")
        v = lambda x, s, t, network=network: network(x, s)  # noqa: E731
    found["progressive, 1 call"] = after(v)

    for name, target in {"Eulerian": flow_maps.eulerian_target, "Lagrangian": flow_maps.lagrangian_target}.items():

        def taught(v, target=target):
            s, t = two_times(500, 0.25)
            x, *_ = states_at(s)
            return error(v, target(v, teacher, x, s, t), x, s, t)

        found[f"{name}, 1 call"] = after(student(taught, "map"))

    def mean_flow(v):
        s, t = two_times(500, 0.5)
        x, z, noise = states_at(s)
        return error(v, flow_maps.eulerian_target(v, lambda x, s: z - noise, x, s, t), x, s, t)

    def without_stop(v):
        s, t = two_times(500, 0.5)
        x, z, noise = states_at(s)
        value, change = jvp(lambda x, s: v(x, s, t), (x, s), (z - noise, torch.ones_like(s)))
        return squares(value - (z - noise) - (t - s)[:, None] * change).mean()

    found["mean flow, 1 call"] = after(student(mean_flow, "mean flow"))
    found["mean flow without stop, 1 call"] = after(student(without_stop, "mean flow"))

    def shortcut(v):
        s, t = two_times(500, 0.5)
        x, z, noise = states_at(s)
        target = torch.where((s == t)[:, None], z - noise, flow_maps.semigroup_target(v, None, x, s, t))
        return error(v, target, x, s, t)

    short = student(shortcut, "shortcut")
    found |= {"shortcut, 1 call": after(short), "shortcut, 2 calls": after(short, 2)}

    def consistency(n: int):
        def loss(v):
            s = torch.randint(n, (500,)) / n
            x, z, noise = states_at(s)
            target = flow_maps.consistency_target(v, lambda x, s: z - noise, x, s, 1 / n)
            return error(v, target, x, s, torch.ones_like(s))

        return loss

    fine, coarse = student(consistency(128), "consistency"), student(consistency(16), "coarse consistency")
    found["consistency training, 1 call"] = floors(flow_maps.sample_consistency(fine, noise))
    renoised = flow_maps.sample_consistency(fine, noise, (0.0, 0.25, 0.5, 0.75), torch.Generator().manual_seed(9))
    found["consistency training, 4 calls"] = floors(renoised)
    found["consistency with steps of 1/16"] = floors(flow_maps.sample_consistency(coarse, noise))
    return found


def digits(seed: int, quick: bool) -> Numbers:
    data, held_out = Digits(train=True), Digits(train=False).z.flatten(1)
    labels = torch.arange(500) % 10
    start = torch.randn(500, 64, generator=torch.Generator().manual_seed(1))
    floor = float(energy_distance(data.z.flatten(1), held_out))

    def trained(network: nn.Module, loss: Callable, name: str, lr: float) -> nn.Module:
        return train(network, loss, steps=20 if quick else STEPS[name], lr=lr).requires_grad_(False)

    def states(n: int, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, y = data.sample_labelled(n)
        z, noise = z.flatten(1), torch.randn(n, 64)
        return s[:, None] * z + (1 - s)[:, None] * noise, y, z - noise

    def guided_matching(u):
        s = torch.rand(256)
        x, y, velocity = states(256, s)
        return squares(u(x, s, torch.where(torch.rand(256) < 0.1, NULL, y)) - velocity).mean()

    def reading(classifier):
        z, y = data.sample_labelled(256)
        return cross_entropy(classifier(z.flatten(1) + 0.3 * torch.randn(256, 64)), y)

    torch.manual_seed(seed)
    teacher = trained(MLP(64, width=256, depth=3, labels=10), guided_matching, "digits", 3e-3)
    layers = nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    reader = trained(nn.Sequential(*layers), reading, "reader", 3e-3)

    def v(x, s, t, y):
        u = guided_vector_field(teacher, y, SCALE, NULL)
        return u(x + ((t - s) / 2)[:, None] * u(x, s), (s + t) / 2)

    network = teacher
    for steps in (2, 1):
        torch.manual_seed(10 * seed + steps)

        def halving(network, v=v, steps=steps):
            s = torch.randint(steps, (128,)) / steps
            x, y, _ = states(128, s)
            target = flow_maps.semigroup_target(lambda x, s, t: v(x, s, t, y), None, x, s, s + 1 / steps)
            return squares(network(x, s, y) - target).mean()

        network = trained(copy.deepcopy(network).requires_grad_(True), halving, "digit round", 2e-3)
        v = lambda x, s, t, y, network=network: network(x, s, y)  # noqa: E731
    by_teacher = sample_flow(guided_vector_field(teacher, labels, SCALE, NULL), start, 4, Midpoint()).clamp(-1, 1)
    by_student = (start + network(start, torch.zeros(500), labels)).clamp(-1, 1)
    return {
        "digits: teacher, 16 calls": float(energy_distance(by_teacher, held_out)) / floor,
        "digits: student, 1 call": float(energy_distance(by_student, held_out)) / floor,
        "digits: recognised, share": float(fidelity(reader(by_student), labels)),
    }


@targets(*(at_most(f"fmlab, {name}", 1.15, f"jvp, {name}") for name in ("Eulerian", "Lagrangian", "mean flow")))
def map_step(quick: bool) -> Rows:
    """One training step of a flow map, 500 states in the plane: jvp, forward and backward of a 4 × 80 network"""
    torch.manual_seed(0)
    v, teacher, n = TwoTimeMLP(2), MLP(2, width=80).requires_grad_(False), 50 if quick else 500
    x, velocity, one = torch.randn(n, 2), torch.randn(n, 2), torch.ones(n)
    s, t = torch.rand(2, n).sort(dim=0).values

    def learned(target: Tensor) -> tuple[Tensor, ...]:
        """The gradient of the regression on a target, as bare as can be."""
        return torch.autograd.grad((v(x, s, t) - target).square().sum() / n, tuple(v.parameters()))

    @torch.no_grad()
    def eulerian(u: Tensor) -> Tensor:
        return u + (t - s)[:, None] * jvp(lambda x, s: v(x, s, t), (x, s), (u, one))[1]

    @torch.no_grad()
    def lagrangian() -> Tensor:
        value, rate = jvp(lambda t: v(x, s, t), (t,), (one,))
        return teacher(x + (t - s)[:, None] * value, t) - (t - s)[:, None] * rate

    eulerian(velocity)  # the first derivative of a process takes a second

    def ours(target, u) -> Callable:
        return lambda: torch.autograd.grad(error(v, target(v, u, x, s, t), x, s, t), tuple(v.parameters()))

    return {
        "forward and backward": lambda: learned(velocity),
        "jvp, Eulerian": lambda: learned(eulerian(teacher(x, s))),
        "fmlab, Eulerian": ours(flow_maps.eulerian_target, teacher),
        "jvp, Lagrangian": lambda: learned(lagrangian()),
        "fmlab, Lagrangian": ours(flow_maps.lagrangian_target, teacher),
        "jvp, mean flow": lambda: learned(eulerian(velocity)),
        "fmlab, mean flow": ours(flow_maps.eulerian_target, lambda x, s: velocity),
    }
