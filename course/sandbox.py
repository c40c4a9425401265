"""A sandbox in which students' code runs: no network, no file but its own, limited memory, processes and time.

The outer walls are made once for each worker (see `course.outer_walls`), around a process that has everything imported;
each submission then runs in a fork of it, behind walls of its own (see `course.inner_walls`). What it can see of the
machine is the Python environment and `fmlab`, to read; what it can write is a small folder in memory that ends with it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from course.inner_walls import READY
from course.outer_walls import PYTHON, WALLS, Limits, NoWalls, found, last_line

if TYPE_CHECKING:
    from course.wire import Peer

START = 120  # seconds until a sandbox must have started
SOON = 60  # seconds until the walls of one submission must be made


class Sandbox:
    """A process behind walls that forks one more for every submission.

    walls: "bwrap", "podman", "docker", or "none", which is for submissions that are trusted; see `WALLS`.
    """

    def __init__(self, limits: Limits = Limits(), walls: str | None = None):
        self.walls, self.limits = walls or found()[0], limits
        self.process, self.control = None, None
        self._start()

    def _start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()  # for nobody but this user
        self.log = tempfile.TemporaryFile()  # what is said there is of interest only if it does not start
        try:
            self.control = self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> socket.socket:
        """The connection to the process, once it is ready. The door is shut behind it."""
        door = Path(self.folder.name, "door")
        door.mkdir()
        door.chmod(0o711)  # the process may be another user's, who gets here by a bind
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(door / "socket"))
            (door / "socket").chmod(0o666)
            listener.listen(1)
            listener.settimeout(1)
            command, options = WALLS[self.walls](door, [*PYTHON, "course.student", "/door/socket"])
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **options
            )
            control = self._accept(listener)
        (door / "socket").unlink()
        control.settimeout(START)
        if control.recv(1) != READY:
            raise self._did_not_start()
        control.settimeout(None)
        return control

    def _accept(self, listener: socket.socket) -> socket.socket:
        for _ in range(START):
            try:
                return listener.accept()[0]
            except TimeoutError:
                if self.process.poll() is not None:
                    break
        raise self._did_not_start()

    def _did_not_start(self) -> NoWalls:
        self.log.seek(0)
        why = last_line(self.log.read()) or "it ended without a word"
        return NoWalls(f"The sandbox did not start: {why}. If memory is short, grade with fewer workers (--workers 1).")

    def open(self) -> Peer:
        """A connection to a fresh process, in which nothing of a student's has run; closing it ends the process.

        Raises NoWalls where no such process can be had.
        """
        deadline = time.monotonic() + SOON
        while True:
            if self.process.poll() is not None:  # whoever killed it
                self.close()
                self._start()
            peer, said = self._ask()
            if said == READY:
                return peer
            peer.close()
            if time.monotonic() > deadline:
                raise NoWalls(f"the walls of a submission could not be made: {said.decode(errors='replace')}")
            time.sleep(0.2)  # what is used up for now, such as namespaces, may be free again

    def _ask(self) -> tuple[Peer, bytes]:
        """A connection to a fresh process, and what that says first."""
        from course.wire import Peer  # loads torch

        mine, theirs = os.pipe(), os.pipe()
        peer = Peer(mine[0], theirs[1], discreet=True)
        try:
            socket.send_fds(self.control, [json.dumps(asdict(self.limits)).encode()], [theirs[0], mine[1]])
        except OSError as error:
            return peer, str(error).encode()
        finally:
            os.close(theirs[0])
            os.close(mine[1])
        if not select.select([mine[0]], [], [], SOON)[0]:
            return peer, b"no answer came"
        said = os.read(mine[0], 1)
        return peer, said if said == READY else said + os.read(mine[0], 1000)

    def close(self) -> None:
        """End the process and all that it forked. In a container it ends when it sees that the connection has."""
        if self.control is not None:
            self.control.close()
        if self.process is not None:
            if self.walls in ("bwrap", "none"):
                self.process.kill()
            self.process.wait()
        self.log.close()
        self.folder.cleanup()
