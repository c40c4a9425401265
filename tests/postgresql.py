"""A PostgreSQL server of the tests' own, where its programs are installed."""

import contextlib
import glob
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs; Debian keeps them out of the path."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb")]
    return Path(found[-1]).parent if found[-1] else None


needs_postgresql = pytest.mark.skipif(programs() is None, reason="no PostgreSQL server: install postgresql")


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server in an empty folder, reached through a socket there alone. Yields the URL of its database."""
    data, quiet = folder / "data", _quiet()
    if "user" in quiet:
        shutil.chown(folder, quiet["user"], quiet["group"])
    subprocess.run([programs() / "initdb", "-D", data, "-U", "grader", "--auth=trust", "-E", "UTF8"], **quiet)
    start(folder)
    try:
        yield f"postgresql+psycopg://grader@/postgres?host={folder}"
    finally:
        stop(folder)


@contextlib.contextmanager
def stopped(folder: Path) -> Iterator[None]:
    """The server in a folder is down meanwhile."""
    stop(folder)
    try:
        yield
    finally:
        start(folder)


def start(folder: Path) -> None:
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    _control(folder, "-o", options, "-l", folder / "log", "start")


def stop(folder: Path) -> None:
    """At once, as where the power fails."""
    _control(folder, "-m", "immediate", "stop")


def _control(folder: Path, *command: str | Path) -> None:
    subprocess.run([programs() / "pg_ctl", "-D", folder / "data", "-w", *command], **_quiet())


def _quiet() -> dict[str, Any]:
    """How its programs are run: not by root, as whom they refuse to."""
    owner = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    return {"check": True, "stdout": subprocess.DEVNULL, **owner}
