"""A sandbox in which students' code runs: no network, no file but its own, limited memory, processes and time.

bubblewrap makes the outer walls once for each worker, around a process that has everything imported; each submission
then runs in a fork of it, behind walls of its own (see `course.student`). What it can see of the machine is the Python
environment and `fmlab`, to read; what it can write is a small folder in memory that ends with it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from course.wire import Broken, Peer

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Limits:
    """Of one submission: bytes of memory, of disk, number of processes, seconds of CPU."""

    memory: int = 8 * 2**30
    disk: int = 64 * 2**20
    processes: int = 64
    cpu: int = 900


class Sandbox:
    """A process behind walls that forks one more for every submission."""

    def __init__(self, limits: Limits = Limits()):
        self.limits = limits
        self.control, other = socket.socketpair()
        command = [*walls(), sys.executable, "-m", "course.student", str(other.fileno())]
        self.log = tempfile.TemporaryFile()  # what is said there is of interest only if it does not start
        quiet = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen(command, pass_fds=[other.fileno()], **quiet)
        other.close()
        if self.control.recv(1) != b"r":
            self.log.seek(0)
            raise Broken(f"the sandbox did not start:\n{self.log.read().decode(errors='replace')[-2000:]}")

    def open(self) -> Peer:
        """A connection to a fresh process, in which nothing of a student's has run; closing it ends the process."""
        mine, theirs = os.pipe(), os.pipe()
        request = json.dumps(asdict(self.limits)).encode()
        socket.send_fds(self.control, [request], [theirs[0], mine[1]])
        os.close(theirs[0])
        os.close(mine[1])
        return Peer(mine[0], theirs[1], discreet=True)

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()


def walls() -> list[str]:
    """The command that runs what follows it with a read-only environment and nothing else."""
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise RuntimeError("bubblewrap is needed to run students' code: apt install bubblewrap")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/desk",
        "TMPDIR": "/desk",
        "PYTHONPATH": "/office",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "LANG": "C.UTF-8",
    }
    namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:  # root is above limits on processes: `course.student` goes on as nobody
        namespaces += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        namespaces += ["--unshare-user"]
    command = [bubblewrap, *namespaces, "--die-with-parent", "--new-session", "--clearenv", "--hostname", "lab"]
    for name, value in environment.items():
        command += ["--setenv", name, value]
    command += ["--tmpfs", "/tmp", "--ro-bind", "/usr", "/usr"]  # the environment may be somewhere below /tmp
    for name in ("bin", "lib", "lib64", "lib32"):
        if (path := Path("/", name)).is_symlink():
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    for path in sorted({sys.prefix, sys.base_prefix} - {"/usr"}):
        for parent in reversed(Path(path).parents[:-1]):
            command += ["--dir", str(parent)]  # where nobody may look, unlike in what a bind makes of it
        command += ["--ro-bind", path, path]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--proc", "/proc", "--dev", "/dev"]
    command += ["--dir", "/office", "--dir", "/office/course", "--ro-bind", str(ROOT / "fmlab"), "/office/fmlab"]
    for name in ("__init__.py", "wire.py", "student.py"):
        command += ["--ro-bind", str(ROOT / "course" / name), f"/office/course/{name}"]
    return [
        *command,
        "--perms",
        "1777",
        "--tmpfs",
        "/desk",
        "--remount-ro",
        "/tmp",
        "--remount-ro",
        "/",
        "--chdir",
        "/desk",
    ]
