"""Whether all that the labs need is in place: `python -m fmlab`, or `lab0.self_test()` in a notebook.

A look returns one finding: what there is and, where something is off, what to do about it. Whatever is heavy or may be
broken is imported by the look itself, so that a broken installation is told of like everything else.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import fmlab

AGAIN = "set the environment up again as README.md says (make lab, or pip install 'fmlab[labs]'), and restart Jupyter"
PACKAGES = ("torch", "numpy", "matplotlib", "ipywidgets")
SERVER = "jupyterlab"  # which another kind of notebook server does without


@dataclass
class Finding:
    """What was found; cure: what to do about it, empty where all is well."""

    what: str
    cure: str = ""

    def __str__(self):
        return f"✗ {self.what}\n    → {self.cure}" if self.cure else f"✓ {self.what}"


def self_test() -> None:
    """Show, line by line, whether all that the labs need is in place, and where not, what to do. Takes seconds."""
    for finding in findings():
        print(finding, flush=True)


def findings() -> Iterator[Finding]:
    """What each look finds; one that fails finds why."""
    for look in (python, packages, processor, simulation, kernel, sliders):
        try:
            yield look()
        except Exception as error:
            yield Finding(f"{look.__name__}: {type(error).__name__}: {error}", AGAIN)


def python() -> Finding:
    """Which Python and which fmlab."""
    what = f"fmlab {fmlab.__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding(what, "" if (3, 10) <= sys.version_info < (3, 15) else f"use Python 3.10 to 3.14; {AGAIN}")


def packages() -> Finding:
    """The versions of what fmlab builds on: each loads, and is one that fmlab is made for."""
    faults, names = [], [*PACKAGES, *([SERVER] if importlib.util.find_spec(SERVER) else [])]
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken library may raise anything
            faults.append(f"{name} does not load ({error})")
    installed = {name: metadata.version(name) for name in names if not any(f.startswith(name) for f in faults)}
    wanted = ranges()
    faults += [
        f"{name} should be {wanted[name]}, found {version}"
        for name, version in installed.items()
        if name in wanted and not wanted[name].contains(version, prereleases=True)
    ]
    shown = ", ".join(f"{name} {version}" for name, version in installed.items())
    return Finding("; ".join([*faults, shown]), AGAIN if faults else "")


def ranges() -> dict:
    """Package → the versions that fmlab asks for; none where fmlab is used from a folder without being installed."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("fmlab") or []
    except metadata.PackageNotFoundError:
        return {}
    required = [Requirement(line) for line in lines]
    return {r.name: r.specifier for r in required if not r.marker or r.marker.evaluate({"extra": "labs"})} | {
        r.name: r.specifier for r in required if r.name == SERVER
    }


def processor() -> Finding:
    """Cores, threads and device."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU, and none is needed"
    cure = f"set the environment variable OMP_NUM_THREADS to {cores}: more threads than cores are slow"
    return Finding(f"{threads} of {cores} cores in use; {device}", cure if threads > cores else "")


def simulation(n: int = 10_000, steps: int = 100, seed: int = 0) -> Finding:
    """An Ornstein–Uhlenbeck process at t = 1 against its exact law, within six standard errors."""
    import torch

    from fmlab.processes import ornstein_uhlenbeck
    from fmlab.simulators import simulate

    process, x0 = ornstein_uhlenbeck(1.0, 1.0), torch.ones(n, 1)
    x = simulate(process, x0, torch.linspace(0, 1, steps + 1), generator=torch.Generator().manual_seed(seed))
    mean, variance = (float(value.mean()) for value in process.moments(x0, torch.tensor(1.0)))
    what = (
        f"{n * steps:,} random numbers simulate a process: mean {float(x.mean()):.3f} (exact {mean:.3f}), "
        f"variance {float(x.var()):.3f} (exact {variance:.3f})"
    )
    # Beside chance there is the bias of Euler's steps, of the order θh = 1/steps of either.
    near = abs(float(x.mean()) - mean) < 6 * (variance / n) ** 0.5 + mean / steps
    near = near and abs(float(x.var()) / variance - 1) < 6 * (2 / n) ** 0.5 + 1 / steps
    return Finding(what, "" if near else f"PyTorch computes wrong numbers here; {AGAIN}")


def kernel() -> Finding:
    """Whether notebooks run in this very Python."""
    from jupyter_client.kernelspec import KernelSpecManager

    program = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    here = not program.is_absolute() or program.parent == Path(sys.executable).parent
    cure = f"run: {sys.executable} -m ipykernel install --sys-prefix"
    return Finding(
        *(["notebooks run in this Python"] if here else [f"notebooks run in another Python, {program}", cure])
    )


def sliders() -> Finding:
    """Whether JupyterLab has what shows sliders."""
    if not importlib.util.find_spec(SERVER):
        return Finding("sliders: left to the notebook server, which is not of this Python")
    command = [sys.executable, "-m", "jupyter", "labextension", "list"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    found = re.search(r"@jupyter-widgets/jupyterlab-manager (v\S+) (\w+) (\w+)", said)
    if not found:
        cure = "run: pip install --force-reinstall --no-deps ipywidgets jupyterlab_widgets; then restart JupyterLab"
        return Finding("JupyterLab cannot show sliders: the extension jupyterlab-manager is not installed", cure)
    version, enabled, state = found.groups()
    if enabled != "enabled" or state != "OK":
        cure = "run: jupyter labextension enable @jupyter-widgets/jupyterlab-manager; then reload the page"
        return Finding(f"JupyterLab cannot show sliders: the extension jupyterlab-manager is {enabled}, {state}", cure)
    return Finding(f"sliders: jupyterlab-manager {version} is enabled")
