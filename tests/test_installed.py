"""The wheel, installed alone into new environments: the mathematics without an extra, and labs with the newest and with
the oldest packages that the metadata allow."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

from tests import environments, submissions
from tests.test_environment import requirements
from tests.test_extras import IMPORT_ALL, SAYS

pytestmark = pytest.mark.slow

LABS = ["lab0_welcome", "lab2_paths"]
KEPT = ("torch",)  # which is the one from here: old ones bring gigabytes of CUDA


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return environments.wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def newest(wheel, tmp_path_factory) -> environments.Environment:
    """With the base alone, at first."""
    environment = environments.Environment(tmp_path_factory.mktemp("newest") / "env")
    environment.install(str(wheel))
    return environment


def runs(environment: environments.Environment, folder: Path) -> None:
    """Copy the labs out as a student does, solve two, and run them from top to bottom."""
    environment.run("-m", "fmlab", "labs", folder)
    for lab in LABS:
        path = folder / lab / f"{lab}.ipynb"
        nbformat.write(submissions.solved(lab), path)
        told = environment.run("-m", "fmlab", "submission", path)
        assert f"✓ {lab}.ipynb is complete" in told, told


def test_with_the_base_alone_every_module_of_the_mathematics_is_imported(newest, tmp_path):
    installed = newest.run("-m", "pip", "list", "--format=freeze")
    assert not re.search(r"(?mi)^(matplotlib|ipywidgets|jupyter\w*|scikit-learn|ipykernel)==", installed)
    told = dict(line.split(" | ") for line in newest.run("-c", IMPORT_ALL, cwd=tmp_path).splitlines())
    assert "plots" in told and all(name == "plots" or name.endswith("widgets") for name in told)
    assert set(told.values()) == {SAYS}


def test_with_the_newest_packages_the_labs_run(newest, wheel, tmp_path):
    newest.install("--upgrade", f"{wheel}[labs]")
    assert "jupyterlab==" not in newest.run("-m", "pip", "list", "--format=freeze")
    runs(newest, tmp_path / "labs")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="a Python that is newer than the oldest packages")
def test_with_the_oldest_packages_the_labs_run(wheel, tmp_path):
    """Those of the extra [labs] and of the base, but for torch."""
    oldest = {r.name: next(iter(r.specifier)).version for r in requirements("dependencies", "labs")}
    pins = tmp_path / "oldest.txt"
    pins.write_text("\n".join(f"{name}=={version}" for name, version in oldest.items() if name not in KEPT))
    environment = environments.Environment(tmp_path / "env")
    environment.install("-c", str(pins), f"{wheel}[labs]")
    runs(environment, tmp_path / "labs")
