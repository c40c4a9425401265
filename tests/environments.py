"""New environments, in which the library is installed from its wheel as a student or a hosted notebook does."""

import os
import shutil
import subprocess
import venv
from importlib.metadata import files
from pathlib import Path

from course import build, handout


def wheel(folder: Path) -> Path:
    """The library with its labs as a wheel, made in an empty folder."""
    handout.labs(build.sources(), folder / "labs")
    return handout.wheel(folder)


class Environment:
    """A Python of its own in a folder, with pip, and with PyTorch from here: to install that anew takes a minute."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=True)
        self.folder, self.python = folder, folder / "bin" / "python"
        packages = Path(self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'), end='')"))
        for file in files("torch") or ():
            if ".." not in file.parts:  # a command, which nobody calls
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                link(Path(str(file.locate())), target)

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run its Python; all it says."""
        done = subprocess.run(
            [self.python, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def install(self, *requirements: str) -> None:
        self.run("-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile", *requirements)


def link(source: Path, target: Path) -> None:
    """The same file at another place; a copy, where that is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
