"""pyproject.toml, environment.yml, constraints.txt and what is installed here tell the same story."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distributions, metadata, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rattler import MatchSpec, Version, VersionSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAME = {"torch": "pytorch", "build": "python-build"}  # the others are called the same


def requirements(*groups):
    """The direct dependencies of some of "dependencies" and the extras, "labs", "grading", …"""
    lists = {"dependencies": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    found = [Requirement(line) for group in groups for line in lists[group]]
    return [requirement for requirement in found if requirement.name != "fmlab"]


STUDENTS = ("dependencies", "labs", "jupyter")
ALL = requirements(*STUDENTS, "grading", "hub", "dev", "bench", "site")
INSTALLED = requirements(*STUDENTS, "grading", "hub", "dev", "site")  # for `make test`; [bench] comes with `make bench`
HERE = [r for r in INSTALLED if r.marker is None or r.marker.evaluate()]  # those that this Python needs


def ids(requirement):
    return requirement.name


def pins():
    """constraints.txt as {name: Requirement}."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    parsed = [Requirement(line) for line in lines]
    pinned = {canonicalize_name(r.name): r for r in parsed}
    assert len(pinned) == len(parsed), "a name appears twice"
    return pinned


def pinned_version(requirement):
    """The version in `name==version`, which is the only form that constraints.txt uses."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "==" and "+" not in specifier.version and "*" not in specifier.version, requirement
    return specifier.version


# --- environment.yml ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conda():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "fmlab"
    assert environment["channels"] == ["conda-forge"]
    *specs, pip = environment["dependencies"]
    assert pip == {"pip": ["-e ."]}
    parsed = [MatchSpec(spec, strict=True) for spec in specs]
    ranges = {spec.name.normalized: spec.version for spec in parsed}
    assert len(ranges) == len(parsed), "a name appears twice"
    return ranges


def test_conda_environment_is_dependencies_and_grading(conda):
    def bounds(specifier):
        return set(str(specifier or "").split(",")) - {""}

    wanted = {CONDA_NAME.get(r.name, r.name): bounds(r.specifier) for r in requirements(*STUDENTS, "grading")}
    wanted |= {"python": bounds(PROJECT["requires-python"]), "pip": set()}
    assert {name: bounds(spec) for name, spec in conda.items()} == wanted


@pytest.mark.parametrize("requirement", requirements(*STUDENTS, "grading"), ids=ids)
def test_conda_range_admits_the_installed_version(conda, requirement):
    installed = version(requirement.name).split("+")[0]
    assert VersionSpec(conda[CONDA_NAME.get(requirement.name, requirement.name)]).matches(Version(installed))


# --- what is installed here --------------------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", HERE, ids=ids)
def test_installed_version_is_in_range(requirement):
    assert requirement.specifier.contains(version(requirement.name), prereleases=True)


# --- constraints.txt ---------------------------------------------------------------------------------------------


def test_torch_is_pinned_without_a_build_tag():
    assert str(pins()["torch"]) == "torch==2.13.0"


@pytest.mark.parametrize("requirement", [r for r in ALL if r.name != "tomli"], ids=ids)  # tomli: Python 3.10 only
def test_every_direct_dependency_is_pinned_in_range(requirement):
    assert requirement.specifier.contains(pinned_version(pins()[canonicalize_name(requirement.name)]))


def test_pins_that_left_python_3_10_behind_carry_a_marker():
    """Or else `make PYTHON=python3.10` could not install; known from the metadata of what is installed."""
    wrong = []
    installed = {canonicalize_name(each.name) for each in distributions()}
    for name, pin in pins().items():
        if name not in installed or version(name).split("+")[0] != pinned_version(pin):
            continue  # says nothing about the pin: another Python, or a contributor's own environment
        supported = Requirement(f"python {metadata(name).get('Requires-Python') or ''}").specifier
        if (pin.marker is None) != supported.contains("3.10.13"):
            wrong.append(f"{name}: Requires-Python {supported}, marker {pin.marker}")
    assert not wrong, "\n".join(wrong)


# --- the wheel ---------------------------------------------------------------------------------------------------


def test_wheel_holds_the_library_with_the_labs_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, source)
    for name in ["fmlab", "course", "tests", "labs", "solutions", "benchmarks"]:  # as in a checkout
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"fmlab", f"fmlab-{version('fmlab')}.dist-info"}
    files = [path for kind in ("*.py", "py.typed", "weights/*.npz") for path in (ROOT / "fmlab").rglob(kind)]
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    for pattern in ("*.md", "lab*/*.ipynb"):
        expected |= {f"fmlab/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "labs").glob(pattern)}
    assert {name for name in names if name.startswith("fmlab/")} == expected
