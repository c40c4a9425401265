"""python -m benchmarks [names] [--quick]: run workloads, print their ratios, write them down and draw them."""

import argparse
import json
import math
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks import (
    checks,
    densities,
    flow_maps,
    grading,
    growth,
    latents,
    notebooks,
    quality,
    resources,
    simulation,
    tokens,
    training,
    widgets,
)
from benchmarks.measure import measure, ratios, table, verdicts

WORKLOADS = {
    workload.__name__: workload
    for workload in (
        simulation.ou,
        simulation.langevin_mixture,
        densities.mixture_8,
        densities.mixture_40,
        densities.data_set_2,
        densities.data_set_64,
        simulation.network_ode,
        simulation.network_ode_small,
        training.time_to_quality,
        training.trained,
        quality.solver_calls,
        flow_maps.few_calls,
        training.digits,
        tokens.sums,
        tokens.colours,
        resources.memory,
        resources.imports,
        resources.threads,
        resources.threads_and_neighbour,
        growth.growth,
        notebooks.labs,
        latents.letters,
        checks.checks,
        widgets.widgets,
        grading.crossing,
        grading.entering,
        grading.starting,
        grading.grading,
        grading.term,
    )
}
LONG = ("starting", "grading", "term")  # which take minutes for any size
QUICK = [name for name in WORKLOADS if name not in LONG]
PEERS = ("torchsde", "torchdiffeq", "flow_matching", "diffrax")
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What fmlab, its limits and peers cost.")
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help=f"small sizes and few turns; {', '.join(LONG)} only if named"
    )
    parser.add_argument("--threads", type=int, default=1, help="number of threads (default: 1, as in every lab)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON files and the plot")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(WORKLOADS):
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    if missing := [peer for peer in PEERS if not find_spec(peer)]:
        print(
            f"Not installed, and so without rows: {', '.join(missing)}. To have them: pip install {' '.join(missing)}"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        for name in options.names or (QUICK if options.quick else WORKLOADS):
            run(name, options.quick, options.out)
    finally:
        torch.set_num_threads(before)
    summarise(options.out)
    plot(options.out)


def run(name: str, quick: bool, out: Path) -> None:
    """Measure one workload, print its table and write out/name.json."""
    workload = WORKLOADS[name]
    bounds = getattr(workload, "bounds", ())
    found = measure(workload, quick, rounds=2 if quick else 40, budget=1 if quick else 20)
    print(table(f"\n{name}: {workload.__doc__}{' (quick: small sizes)' * quick}", found, bounds), flush=True)
    record = {
        "workload": name,
        "quick": quick,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "ratios": ratios(found),
        "bounds": verdicts(bounds, found),
        "measured": found,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(record, indent=1))


def summarise(out: Path) -> None:
    """Every bound measured so far, as a table in Markdown: out/bounds.md."""
    lines = ["| workload | bound | best | median | |", "|---|---|---:|---:|---|"]
    for path in sorted(out.glob("*.json")):
        record = json.loads(path.read_text())
        for verdict in record["bounds"]:
            best, median = (verdict.get(key) for key in ("best", "median"))
            best = verdict.get("value") if best is None else best
            cells = ["" if value is None else f"{value:.2f}" for value in (best, median)]
            mark = {True: "✓", False: "✗", None: "not installed"}[verdict["holds"]]
            lines.append(f"| `{record['workload']}` | {verdict['bound']} | {' | '.join(cells)} | {mark} |")
    (out / "bounds.md").write_text("\n".join(lines) + "\n")


def plot(out: Path) -> None:
    """Every ratio measured so far as a bar, a panel for each workload: out/ratios.png."""
    import matplotlib.pyplot as plt

    records = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    heights = [1 + len(record["ratios"]) for record in records]
    fig, axes = plt.subplots(
        len(records), figsize=(8, 0.25 * sum(heights) + 1), height_ratios=heights, layout="constrained", squeeze=False
    )
    for ax, record in zip(axes[:, 0], records):
        names = list(record["ratios"])
        best = [next(iter(columns.values())) for columns in record["ratios"].values()]
        values = [value if math.isfinite(value) else 0 for value in best]  # no bar where nothing was reached
        bars = ax.barh(names[::-1], values[::-1], color="0.6")
        ax.bar_label(bars, fmt="%.3g", padding=3)
        ax.set(xscale="log", title=f"{record['workload']}, in units of: {names[0]}")
        ax.margins(x=0.15)
    fig.savefig(out / "ratios.png", dpi=120)
    plt.close(fig)


if __name__ == "__main__":
    sys.exit(main())
