"""A PostgreSQL server of the tests' own, where its programs are installed."""

import contextlib
import glob
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs; Debian keeps them out of the path."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb")]
    return Path(found[-1]).parent if found[-1] else None


needs_postgresql = pytest.mark.skipif(programs() is None, reason="no PostgreSQL server: install postgresql")


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server in an empty folder, reached through a socket there alone. Yields the URL of its database."""
    owner = {}
    if os.geteuid() == 0:  # as whom it refuses to run
        owner = {"user": "postgres", "group": "postgres"}
        shutil.chown(folder, "postgres", "postgres")
    data, quiet = folder / "data", {"check": True, "stdout": subprocess.DEVNULL, **owner}
    subprocess.run([programs() / "initdb", "-D", data, "-U", "grader", "--auth=trust", "-E", "UTF8"], **quiet)
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    control = [programs() / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], **quiet)
    try:
        yield f"postgresql+psycopg://grader@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
