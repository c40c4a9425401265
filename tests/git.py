"""git, for the tests that need a repository."""

import shutil
import subprocess
from pathlib import Path

import pytest

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git: install git")


def git(folder: Path, *arguments: str) -> str:
    """What a git command says in a folder."""
    own = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", *own, *arguments], cwd=folder, check=True, text=True, capture_output=True)
    return done.stdout.strip()
