"""What students get: one zip with the labs, the library as a wheel, exact versions, and a script that sets up.

    python -m course handout [labs] [--out FILE]        build/fmlab-labs.zip if no file is named

It holds nothing of solutions, sources or hidden inputs: the library is taken without the instructor's tools, and the
notebooks are what `build` releases. The wheel carries the same labs: `python -m fmlab labs` copies them from it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from course import build, jobs
from course.build import ROOT, BuildError

HERE = Path(__file__).parent
FOLDER = "fmlab-labs"  # what the zip unpacks to
EPOCH = "315532800"  # 1980, from which zips count: when a file was written is not part of what is in it
PACKAGE = ("pyproject.toml", "README.md", "LICENSE")  # what a wheel is made of beside the library and the labs


def write(sources: Iterable[Path], out: Path) -> None:
    """Write the zip. Its bytes depend on what is in it alone. Raises BuildError where there is no wheel to be had."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        labs(sources, stage / "labs")
        inside = dict(_files(stage / "labs", f"{FOLDER}/labs"))
        built = wheel(stage)
        inside |= {f"{FOLDER}/{path.name}": path for path in (built, HERE / "start.py", HERE / "README.md")}
        inside[f"{FOLDER}/constraints.txt"] = ROOT / "constraints.txt"
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, path in sorted(inside.items()):
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def labs(sources: Iterable[Path], folder: Path) -> None:
    """The folder that students work in: the chosen labs, and the pages beside them."""
    folder.mkdir()
    for page in (ROOT / "labs").glob("*.md"):
        shutil.copy(page, folder)
    for source in sources:  # and not labs/, where somebody may have begun to solve them
        build.put(folder / source.stem / f"{source.stem}.ipynb", jobs.release(source.stem))


def wheel(stage: Path) -> Path:
    """The library with the labs in stage/labs as a wheel, made in `stage`."""
    for name in PACKAGE:
        shutil.copy(ROOT / name, stage)
    shutil.copytree(ROOT / "fmlab", stage / "fmlab", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(stage), str(stage)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH})
    if done.returncode:
        raise BuildError(f"the wheel could not be built:\n{(done.stdout + done.stderr)[-2000:]}")
    return next(stage.glob("*.whl"))


def _files(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield f"{name}/{path.relative_to(folder).as_posix()}", path
