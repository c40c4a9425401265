"""`python -m fmlab` finds what is there, and for what is broken, how to mend it."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.specifiers import SpecifierSet

from fmlab import processes
from fmlab.__main__ import main
from fmlab.checks import installation

ROOT = Path(__file__).resolve().parents[1]


def test_here_all_is_in_place(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(line.startswith("✓ ") for line in lines)
    for package in installation.PACKAGES:
        assert f"{package} {metadata.version(package)}" in lines[1]


def test_a_broken_and_a_missing_package_are_named_with_what_to_do(tmp_path):
    """In a process of its own, which finds a torch that does not load, as on a machine without its libraries."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')")
    (tmp_path / "ipywidgets.py").write_text("raise ModuleNotFoundError('No module named ipywidgets')")
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]"
    code = f"{path}; from fmlab.__main__ import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == ""
    (packages,) = [line for line in done.stdout.splitlines() if "numpy " in line]
    assert packages.startswith("✗ torch does not load (libgomp.so.1: cannot")
    assert "ipywidgets does not load (No module named ipywidgets)" in packages and "torch 2" not in packages
    assert "✗ simulation: OSError" in done.stdout and done.stdout.count("→ set the environment up again") == 3
    assert "✓ notebooks run in this Python" in done.stdout


def test_a_version_out_of_range_is_told(monkeypatch):
    monkeypatch.setattr(installation, "ranges", lambda: {"numpy": SpecifierSet(">=99"), "torch": SpecifierSet(">=2")})
    finding = installation.packages()
    assert finding.what.startswith(f"numpy should be >=99, found {metadata.version('numpy')};") and finding.cure


def test_the_ranges_are_those_of_the_installed_project(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=2.4", "pytest>=8; extra == 'grading'"])
    assert installation.ranges() == {"torch": SpecifierSet(">=2.4")}


def test_more_threads_than_cores_are_told(monkeypatch):
    assert installation.processor().cure == ""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    assert installation.processor().cure.startswith("set the environment variable OMP_NUM_THREADS to ")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda process, x0, ts, generator: x0 + torch.randn(x0.shape, generator=generator),
        lambda process, x0, ts, generator: 0 * x0,
        lambda process, x0, ts, generator: torch.full_like(x0, torch.nan),
    ],
)
def test_a_simulation_that_misses_its_law_is_told(monkeypatch, wrong):
    monkeypatch.setattr("fmlab.simulators.simulate", wrong)
    assert "computes wrong numbers" in installation.simulation().cure


def test_the_simulation_passes_for_every_seed():
    """At six standard errors and the bias of the steps, chance alone does not fail a healthy machine."""
    assert [seed for seed in range(30) if installation.simulation(n=2000, seed=seed).cure] == []


def test_a_kernel_of_another_python_is_told(tmp_path, monkeypatch):
    """A kernel named python3 in the user's own folder takes the place of the environment's."""
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {"argv": ["/elsewhere/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    (folder / "kernel.json").write_text(json.dumps(spec | {"display_name": "Python 3", "language": "python"}))
    assert installation.kernel().cure == ""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    finding = installation.kernel()
    assert "another Python, /elsewhere/bin/python" in finding.what and "ipykernel install --sys-prefix" in finding.cure


def test_sliders_that_are_switched_off_or_missing_are_told(tmp_path, monkeypatch):
    off = tmp_path / "labconfig" / "page_config.json"
    off.parent.mkdir()
    off.write_text(json.dumps({"disabledExtensions": {"@jupyter-widgets/jupyterlab-manager": True}}))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    assert installation.sliders().cure.startswith("run: jupyter labextension enable @jupyter-widgets")
    monkeypatch.setattr(sys, "executable", "/bin/echo")  # a JupyterLab that lists no extension
    assert "is not installed" in installation.sliders().what


def test_a_look_that_fails_is_a_finding_too(monkeypatch):
    def broken(*_):
        raise RuntimeError("no such law")

    monkeypatch.setattr(processes, "ornstein_uhlenbeck", broken)
    found = {str(finding) for finding in installation.findings()}
    assert f"✗ simulation: RuntimeError: no such law\n    → {installation.AGAIN}" in found
