"""python -m benchmarks [names] [--quick]: run workloads, print their ratios, write the times to benchmarks/results/."""

import argparse
import json
import os
import platform
from pathlib import Path

import torch

from benchmarks import checks, notebooks, simulation
from benchmarks.measure import interleave, ratios, table

WORKLOADS = {
    workload.__name__: workload
    for workload in (simulation.ou, simulation.langevin_mixture, notebooks.labs, checks.checks)
}
OWN_THREADS = {"labs", "checks"}  # one, as in every lab
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What fmlab, its limits and peers cost.")
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns: seconds instead of minutes")
    parser.add_argument("--threads", type=int, nargs="+", help="numbers of threads (default: one and all)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON files")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(WORKLOADS):
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    for name in options.names or WORKLOADS:
        threads = [1] if name in OWN_THREADS else options.threads or sorted({1, torch.get_num_threads()})
        run(name, options.quick, threads, options.out)


def run(name: str, quick: bool, threads: list[int], out: Path) -> None:
    """Measure one workload with each number of threads, print its tables and write out/name.json."""
    measured, before = [], torch.get_num_threads()
    for count in threads:
        torch.set_num_threads(count)
        try:
            times = interleave(WORKLOADS[name](quick), rounds=5 if quick else 40, budget=1 if quick else 20)
        finally:
            torch.set_num_threads(before)
        heading = f"\n{name}: {WORKLOADS[name].__doc__}{' (quick: fewer steps)' * quick}; threads: {count}"
        print(table(heading, times), flush=True)
        measured.append({"threads": count, "ratios": ratios(times), "seconds": times})

    here = {"machine": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(
        json.dumps({"workload": name, "quick": quick, **here, "measured": measured}, indent=1)
    )


if __name__ == "__main__":
    main()
