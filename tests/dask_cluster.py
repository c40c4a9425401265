"""A Dask cluster of the tests' own on this machine, each of its members a program that can be killed or paused."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from course import build

SOON = 30  # seconds in which a program must have started
DASK = [sys.executable, "-m", "dask"]


@contextlib.contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A scheduler, by its address, and its process."""
    log = folder / "scheduler.log"
    with _program(log, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard") as process:
        yield _said(log, "Scheduler at:"), process


@contextlib.contextmanager
def worker(address: str, folder: Path, root: Path = build.ROOT, path: str | None = None) -> Iterator[subprocess.Popen]:
    """A worker of the scheduler at an address. root: of its checkout. path: where it finds programs."""
    name = f"worker-{time.monotonic_ns()}"
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder), "--name", name]
    with _program(folder / f"{name}.log", "worker", address, *options, root=root, path=path) as process:
        _said(folder / f"{name}.log", "Registered to:")
        yield process


@contextlib.contextmanager
def _program(log: Path, *command: str, root: Path = build.ROOT, path: str | None = None) -> Iterator[subprocess.Popen]:
    environment = {**os.environ, "PYTHONPATH": str(root), "PATH": os.environ["PATH"] if path is None else path}
    with log.open("wb") as file:
        process = subprocess.Popen([*DASK, *command], cwd=root, env=environment, stdout=file, stderr=file)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def _said(log: Path, words: str) -> str:
    """What follows these words in a log, once they are there."""
    deadline = time.monotonic() + SOON
    while words not in (said := log.read_text()):
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    return said.partition(words)[2].split()[0]
