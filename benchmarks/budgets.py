"""Quality per CPU second: how good samples are after 5 to 40 seconds of training, as in fmlab's labs and by peers.

fmlab's learning rate falls nearly to 0 at the last step, so each budget has a run of its own, of as many steps as fit.
A peer is looked at as it goes, when it has had the seconds that fmlab took. One thread; judging is not counted. All
samples start at one noise, follow the learned field by the midpoint rule, and are compared with the same fresh points.
Their energy distance is in floors, f = E‖X − X'‖ (1/n + 1/m), which n and m points of the data have to each other.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.measure import Numbers, at_least, targets
from benchmarks.training import BATCH
from fmlab.autoencoders import VAE, latent_scale, vae_loss
from fmlab.datasets import Checkerboard, Circles, Digits, Labelled, Moons
from fmlab.glyphs import Glyphs
from fmlab.guidance import guided_vector_field
from fmlab.losses import flow_matching_loss, guided_flow_matching_loss
from fmlab.metrics import energy_distance
from fmlab.models import MLP, UNet
from fmlab.paths import GaussianPath
from fmlab.samplers import sample_flow
from fmlab.training import train

BUDGETS = (5, 10, 20, 40)  # CPU seconds
PLANE = {"moons": Moons(), "circles": Circles(), "checkerboard": Checkerboard()}
DATA = (*PLANE, "digits", "glyphs")
PEERS = ("torchcfm", "flow_matching")


class Problem(NamedTuple):
    """What is learned from; the noise and the labels that samples start with; what they are compared with."""

    data: Any
    noise: Tensor
    labels: Tensor | None
    real: Tensor
    steps: int  # of the midpoint rule

    def draw(self, n: int) -> tuple[Tensor, Tensor | None]:
        """A batch of points, and their labels if they have any."""
        return self.data.sample_labelled(n) if isinstance(self.data, Labelled) else (self.data.sample(n), None)

    def sample(self, field: Callable) -> Tensor:
        return sample_flow(field, self.noise, self.steps)

    def floors(self, x: Tensor) -> float:
        apart = torch.pdist(self.real[:2000].flatten(1)).mean()
        return float(energy_distance(x, self.real) / (apart * (1 / len(x) + 1 / len(self.real))))


@targets(
    *(
        at_least(f"{data}, {peer}, {budget} s", 1, f"{data}, fmlab, {budget} s")
        for data in DATA
        for peer in PEERS
        for budget in BUDGETS
    )
)
def quality_by_seconds(quick: bool) -> Numbers:
    """Energy distance after equal CPU seconds of training, as in fmlab's labs and by examples of peers, in floors"""
    if quick:
        found = [contest(data, quick) for data in DATA]
    else:
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            runs = [pool.submit(contest, data) for data in reversed(DATA)]  # those that take longest first
            found = [run.result() for run in reversed(runs)]
    return {"a floor": 1.0} | {row: value for numbers in found for row, value in numbers.items()}


def contest(data: str, quick: bool = False, seed: int = 0) -> Numbers:
    """The quality that fmlab and its peers reach with each budget, and the seconds that fmlab took."""
    problem = plane(data, quick) if data in PLANE else images(data, quick)
    learn = partial({"digits": learn_digits, "glyphs": learn_glyphs}.get(data, learn_plane), problem)
    fit = (lambda budget: budget // 5 + 1) if quick else fitting(learn)
    spent, found = {}, {}
    for budget in BUDGETS:
        torch.manual_seed(seed)
        spent[budget], samples = timed(partial(learn, fit(budget)))
        found[f"{data}, seconds, {budget} s"] = spent[budget]
        found[f"{data}, fmlab, {budget} s"] = problem.floors(samples())
    examples = peers.PLANE if data in PLANE else peers.IMAGES if find_spec("torchcfm") else {}
    for peer, begin in examples.items():
        torch.manual_seed(seed)
        example = begin(problem.draw, **({"batch": 2} if quick else {}))
        for budget, x in looks(example, problem, spent):
            found[f"{data}, {peer}, {budget} s"] = problem.floors(x)
    return found


def looks(example: peers.Example, problem: Problem, spent: dict[int, float]) -> Iterator[tuple[int, Tensor]]:
    """Samples by an example after so many seconds of training; a step that has begun is finished."""
    seconds = 0.0
    for budget, enough in spent.items():
        while seconds < enough:
            seconds += timed(partial(next, example.losses))[0]
        yield budget, problem.sample(example.field(problem.labels)) / example.scale


def fitting(learn: Callable[[int], object], few: int = 20, many: int = 120) -> Callable[[float], int]:
    """seconds ↦ how many steps fit, by two short runs: what does not depend on their number is paid once."""
    learn(few)  # some things are slower the first time
    first, second = timed(partial(learn, few))[0], timed(partial(learn, many))[0]
    return lambda seconds: max(few, round(few + (many - few) * (seconds - first) / (second - first)))


def timed(work: Callable) -> tuple[float, Any]:
    """CPU seconds of this process, and what came of them."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


# --- what is learned, and how the labs do it ------------------------------------------------------------------------


def plane(data: str, quick: bool) -> Problem:
    n, fixed = 200 if quick else 20_000, torch.Generator().manual_seed(7)
    noise = torch.randn(n, 2, generator=fixed)
    return Problem(PLANE[data], noise, None, PLANE[data].sample(n, fixed), 5 if quick else 20)


def images(data: str, quick: bool) -> Problem:
    """Digits, compared with those held out; or letters, as many as lab 7 has."""
    n, fixed = 2 if quick else 100, torch.Generator().manual_seed(7)
    if data == "digits":
        seen, real = Digits(), Digits(train=False)
    else:
        sizes = (200, 100) if quick else (8000, 1000)
        seen, real = (Labelled(*Glyphs().sample_labelled(size, fixed)[:2]) for size in sizes)
    noise = torch.randn(n, *real.z.shape[1:], generator=fixed)
    return Problem(seen, noise, torch.arange(n) % 10, real.z, 1 if quick else 6)


def learn_plane(problem: Problem, steps: int) -> Callable[[], Tensor]:
    """The defaults of `train` and of `MLP`."""
    model = train(MLP(2), lambda model: flow_matching_loss(model, GaussianPath(), problem.draw(BATCH)[0]), steps)
    return lambda: problem.sample(model)


def learn_digits(problem: Problem, steps: int) -> Callable[[], Tensor]:
    """The U-Net of lab 6."""
    model = train(UNet(labels=10), guided_loss(problem.data, 64), steps, lr=6e-3)
    return lambda: problem.sample(guided_vector_field(model, problem.labels))


def learn_glyphs(problem: Problem, steps: int) -> Callable[[], Tensor]:
    """The autoencoder of lab 7 and its flow on latents, of 800 and 1000 steps there, in this proportion here."""
    letters = problem.data

    def loss(vae):
        x = letters.sample(64)
        return vae_loss(x, *vae(x, torch.randn(64, 4, 4, 4)), beta=0.1)

    vae = train(VAE(), loss, max(1, steps * 4 // 9), lr=5e-3)
    with torch.no_grad():
        latents = torch.cat([vae.encode(x)[0] for x in letters.z.split(1000)])
    scale = latent_scale(latents)
    data = Labelled(latents / scale, letters.y)
    model = train(UNet(4, 32, labels=10), guided_loss(data, 128), max(1, steps * 5 // 9), lr=5e-3)

    @torch.no_grad()
    def samples():
        noise = problem.noise.flatten(1)[:, :64].reshape(-1, 4, 4, 4)
        return vae.decode(scale * sample_flow(guided_vector_field(model, problem.labels), noise, problem.steps))

    return samples


def guided_loss(data: Labelled, batch: int) -> Callable[[nn.Module], Tensor]:
    return lambda model: guided_flow_matching_loss(model, GaussianPath(), *data.sample_labelled(batch))


# --- the picture ------------------------------------------------------------------------------------------------------

LINES = {"fmlab": "ko-", "torchcfm": "ks--", "flow_matching": "k^:"}


def plot(out: Path) -> None:
    """Quality against seconds, a panel for each data set: out/quality.png, if it was measured."""
    if not (record := out / "quality_by_seconds.json").exists():
        return
    import matplotlib.pyplot as plt

    found = json.loads(record.read_text())["measured"]
    fig, axes = plt.subplots(1, len(DATA), figsize=(2 * len(DATA), 3), sharey=True, layout="constrained")
    for data, ax in zip(DATA, axes):
        seconds = [found[f"{data}, seconds, {budget} s"] for budget in BUDGETS]
        for row, style in LINES.items():
            values = [found.get(f"{data}, {row}, {budget} s") for budget in BUDGETS]
            if None not in values:
                ax.loglog(seconds, values, style, label=row, markerfacecolor="k" if row == "fmlab" else "w")
        ax.axhline(1, color="0.6", linewidth=1)
        ax.set(title=data, xlabel="CPU seconds", xticks=BUDGETS, xticklabels=BUDGETS)
        ax.minorticks_off()
    axes[0].set_ylabel("energy distance, in floors")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LINES))
    fig.savefig(out / "quality.png", dpi=120)
    plt.close(fig)
