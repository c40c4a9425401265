"""New environments, in which the library is installed from its wheel as a student or a hosted notebook does."""

import subprocess
import venv
from pathlib import Path

from course import build, handout


def wheel(folder: Path) -> Path:
    """The library with its labs as a wheel, made in an empty folder."""
    handout.labs(build.sources(), folder / "labs")
    return handout.wheel(folder)


class Environment:
    """A Python of its own in a folder, with nothing installed but pip."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=True)
        self.folder, self.python = folder, folder / "bin" / "python"

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run its Python; all it says."""
        done = subprocess.run(
            [self.python, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def install(self, *requirements: str) -> None:
        self.run("-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements)
