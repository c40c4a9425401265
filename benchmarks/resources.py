"""What the machine gives besides time on one core: memory, more cores, and time before the first line."""

import ctypes
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from jupyter_client.manager import start_new_kernel

from benchmarks.measure import Numbers, Rows, at_most, targets
from benchmarks.simulation import eight_gaussians
from course import build
from fmlab.datasets import Checkerboard, Digits, Empirical
from fmlab.losses import flow_matching_loss
from fmlab.models import MLP, UNet
from fmlab.paths import GaussianPath
from fmlab.processes import ODE, langevin
from fmlab.samplers import sample_flow
from fmlab.sentences import Sentences
from fmlab.simulators import simulate
from fmlab.threads import use_idle_cores
from fmlab.token_datasets import sums
from fmlab.tokens import TokenPath
from fmlab.training import train
from tests import submissions


@targets(at_most("import fmlab", 1.1, "import torch"), at_most("its modules up to training", 1.1, "import torch"))
def imports(quick: bool) -> Rows:
    """Time to import, in processes of their own"""
    modules = "distributions metrics simulators losses likelihood samplers guidance training".split()
    statements = {
        "import torch": "import torch",
        "import fmlab": "import fmlab",
        "its modules up to training": "import " + ", ".join(f"fmlab.{module}" for module in modules),
    }
    return {
        name: partial(subprocess.run, [sys.executable, "-c", code], check=True) for name, code in statements.items()
    }


LABS = ("lab1", "lab7")  # the first one with exercises, and the one that imports most


@targets(*(at_most(f"first cell of {lab}", 1.25, "import torch") for lab in LABS))
def first_cell(quick: bool) -> Rows:
    """From the start of a kernel until it has imported torch, or run the first cell of a lab"""
    cells = {f"first cell of {lab}": submissions.setup(build.read(*build.sources([lab]))).source for lab in LABS}
    return {name: partial(in_a_kernel, code) for name, code in ({"import torch": "import torch"} | cells).items()}


def in_a_kernel(code: str) -> None:
    manager, client = start_new_kernel(extra_arguments=["--log-level=ERROR"])
    try:
        reply = client.execute_interactive(code)
        if reply["content"]["status"] != "ok":
            raise RuntimeError(str(reply["content"]))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@targets(
    at_most("recording 200 states", 1.1, "the recorded states"),
    at_most("field of 10⁶ data points", 64, "1 MiB"),
    at_most("posterior of 10⁴ sentences", 32, "1 MiB"),
)
def memory(quick: bool) -> Numbers:
    """Memory at the peak, in MiB beyond what was held before (Linux)"""
    if not Path("/proc/self/clear_refs").exists():
        return {"1 MiB": 1.0}
    x0, ts = torch.randn(100_000, 2), torch.linspace(0, 1, 200)
    data, x = Empirical(torch.randn(1_000_000, 2)), torch.randn(20 if quick else 200, 2)
    marginal = GaussianPath().marginal(data)
    table, path = sums(), TokenPath(10)
    sentences, noisy = Sentences(table, path), path.sample(table[:4096], 0.6)
    return {
        "1 MiB": 1.0,
        "the recorded states": len(ts) * x0.numel() * 4 / 2**20,
        "recording 200 states": peak(lambda: simulate(ODE(lambda x, t: -x), x0, ts, record=True)),
        "field of 10⁶ data points": peak(lambda: marginal.vector_field(x, 0.6)),
        "field, one time for each point": peak(lambda: marginal.vector_field(x, torch.full((len(x),), 0.6))),
        "field, close to the data": peak(lambda: marginal.vector_field(x, 0.98)),
        "posterior of 10⁴ sentences": peak(lambda: sentences.posterior(noisy, 0.6)),
    }


def peak(call) -> float:
    """MiB by which a call raises the resident memory at its peak."""
    ctypes.CDLL(None).malloc_trim(0)  # else it could use again what earlier calls have left
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


WORK = ("Langevin", "training", "training a U-Net", "sampling", "exact field")
ONE, ALL, IDLE = "one thread", "all threads", "idle cores"


@targets(*(at_most(f"{work}, {IDLE}", 1.1, f"{work}, {fixed}") for work in WORK for fixed in (ONE, ALL)))
def threads(quick: bool) -> Rows:
    """The heavier work of the labs on one thread, on all, and on as many as `use_idle_cores` finds"""
    return {
        f"{name}, {how}": partial(on_threads, how, call)
        for name, call in course_work(quick).items()
        for how in (ONE, ALL, IDLE)
    }


@targets(*threads.bounds)
def threads_and_neighbour(quick: bool) -> Rows:
    """The same, while another process keeps a core busy"""
    return {name: partial(beside_a_neighbour, call) for name, call in threads(quick).items()}


def course_work(quick: bool) -> Rows:
    """Runs of four seconds or so."""
    torch.manual_seed(0)
    steps = 1 if quick else 300
    mixture, path = eight_gaussians(), GaussianPath()
    points, digits = Checkerboard().sample(2000), Digits().z[:64]
    flow, unet, x0 = MLP(2), UNet(), torch.randn(10_000, 2)
    ts, marginal = torch.linspace(0, 1, 20 * steps + 1), path.marginal(Empirical(points))
    calls = (
        lambda: simulate(langevin(mixture.score), x0, ts),
        lambda: train(flow, lambda model: flow_matching_loss(model, path, points), 6 * steps),
        lambda: train(unet, lambda model: flow_matching_loss(model, path, digits), steps),
        lambda: sample_flow(flow, x0, 2 * steps),
        lambda: sample_flow(marginal.vector_field, x0[:1000], 2 * steps),
    )
    return dict(zip(WORK, calls))


def on_threads(how: str, call) -> None:
    before = torch.get_num_threads()
    use_idle_cores(2 if how == IDLE else 1)
    if how == ALL:
        torch.set_num_threads(os.cpu_count() or 1)
    try:
        call()
    finally:
        use_idle_cores(1)
        torch.set_num_threads(before)


def beside_a_neighbour(call) -> None:
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as neighbour:
        try:
            call()
        finally:
            neighbour.kill()
