"""Whether this machine can run students' code behind walls."""

import functools
import os
import shutil
import sys
from pathlib import Path

import pytest

from course.outer_walls import attempts

PACKAGES = {"bwrap": "bubblewrap", "podman": "podman and runc", "docker": "docker and start it"}


@functools.cache
def possible(walls: str) -> bool:
    return shutil.which(walls) is not None and attempts(walls, 1)[0] == 1


needs_walls = pytest.mark.skipif(
    not possible("bwrap"), reason="no sandbox: install bubblewrap, on a system that lets it make namespaces"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root, who alone can set a limit on namespaces")


def namespaces(number: int) -> tuple[str, ...]:
    """Before a command, what lets it have so many user namespaces."""
    return sys.executable, str(Path(__file__).with_name("namespaces.py")), str(number)
