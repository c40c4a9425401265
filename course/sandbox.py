"""A sandbox in which students' code runs: no network, no file but its own, limited memory, processes and time.

The outer walls are made once for each worker, by bubblewrap or, where it is missing, by Podman or Docker, around a
process that has everything imported; each submission then runs in a fork of it, behind walls of its own (see
`course.student`). What it can see of the machine is the Python environment and `fmlab`, to read; what it can write is a
small folder in memory that ends with it.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from course.wire import Broken, Peer

ROOT = Path(__file__).resolve().parents[1]
# What is seen of this repository.
OFFICE = ("fmlab", *(f"course/{name}.py" for name in ("__init__", "loans", "student", "transforms", "wire")))
IMAGE = "fmlab-walls"
START = 120  # seconds until a sandbox must have started


@dataclass(frozen=True)
class Limits:
    """Of one submission: bytes of memory, of disk, number of processes, seconds of CPU."""

    memory: int = 8 * 2**30
    disk: int = 64 * 2**20
    processes: int = 64
    cpu: int = 900


class Sandbox:
    """A process behind walls that forks one more for every submission.

    walls: "bwrap", "podman", "docker", or "none", which is for submissions that are trusted; see `WALLS`.
    """

    def __init__(self, limits: Limits = Limits(), walls: str | None = None):
        self.walls, self.limits = walls or found(), limits
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
            command, options = WALLS[self.walls](door)
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **options
            )
            control = self._accept(listener)
        (door / "socket").unlink()
        control.settimeout(START)
        if control.recv(1) != b"r":
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

    def _did_not_start(self) -> Broken:
        self.log.seek(0)
        return Broken(f"the sandbox did not start:\n{self.log.read().decode(errors='replace')[-2000:]}")

    def open(self) -> Peer:
        """A connection to a fresh process, in which nothing of a student's has run; closing it ends the process."""
        if self.process.poll() is not None:  # whoever killed it
            self.close()
            self._start()
        mine, theirs = os.pipe(), os.pipe()
        request = json.dumps(asdict(self.limits)).encode()
        socket.send_fds(self.control, [request], [theirs[0], mine[1]])
        os.close(theirs[0])
        os.close(mine[1])
        return Peer(mine[0], theirs[1], discreet=True)

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


def found() -> str:
    """The best walls that can be made here. Raises RuntimeError where there are none."""
    for program in ("bwrap", "podman", "docker"):
        if shutil.which(program):
            return program
    raise RuntimeError(
        "Students' code is not run without walls around it. Install bubblewrap (Debian: apt install bubblewrap), "
        "Podman or Docker, on Linux; or say --unsafe if you trust every submission."
    )


# --- what is inside ---------------------------------------------------------------------------------------------------


def environment(home: str, office: str | Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "PYTHONPATH": str(office),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "LANG": "C.UTF-8",
    }


def program(door: str | Path) -> list[str]:
    return [sys.executable, "-m", "course.student", str(Path(door, "socket"))]


def system() -> Iterator[str]:
    """Paths of the machine that can be read inside: the system's programs and libraries, and Python's."""
    yield "/usr"
    yield from (path for path in _top() if not Path(path).is_symlink())
    yield from sorted({sys.prefix, sys.base_prefix} - {"/usr"})
    if Path("/etc/ld.so.cache").exists():
        yield "/etc/ld.so.cache"


def links() -> dict[str, str]:
    """What is a link at the root of the machine: {"/bin": "usr/bin", …}."""
    return {path: os.readlink(path) for path in _top() if Path(path).is_symlink()}


def _top() -> list[str]:
    return [path for path in ("/bin", "/lib", "/lib64", "/lib32") if os.path.lexists(path)]


# --- walls ------------------------------------------------------------------------------------------------------------


def bubblewrap(door: Path) -> tuple[list[str], dict]:
    """The command that runs `course.student` in namespaces of its own, and how to start it."""
    namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:  # root is above limits on processes: `course.student` goes on as nobody
        namespaces += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        namespaces += ["--unshare-user"]
    command = ["bwrap", *namespaces, "--die-with-parent", "--new-session", "--clearenv", "--hostname", "lab"]
    for name, value in environment("/desk", "/office").items():
        command += ["--setenv", name, value]
    command += ["--tmpfs", "/tmp"]  # the environment may be somewhere below it
    for path in system():
        for parent in reversed(Path(path).parents[:-1]):
            command += ["--dir", str(parent)]  # where nobody may look, unlike in what a bind makes of it
        command += ["--ro-bind", path, path]
    for path, target in links().items():
        command += ["--symlink", target, path]
    command += ["--proc", "/proc", "--dev", "/dev", "--dir", "/office", "--dir", "/office/course"]
    for name in OFFICE:
        command += ["--ro-bind", str(ROOT / name), f"/office/{name}"]
    command += ["--ro-bind", str(door), "/door", "--perms", "1777", "--tmpfs", "/desk"]
    command += ["--remount-ro", "/tmp", "--remount-ro", "/", "--chdir", "/desk"]
    return [*command, *program("/door")], {}


def container(engine: str, door: Path) -> tuple[list[str], dict]:
    """The same in a container of Podman or Docker, on an image in which there is nothing."""
    if subprocess.run([engine, "image", "inspect", IMAGE], capture_output=True).returncode:
        subprocess.run([engine, "import", "-", IMAGE], input=_nothing(), check=True, capture_output=True)
    command = [engine, "run", "--rm", "--network", "none", "--read-only", "--hostname", "lab", "--workdir", "/desk"]
    command += ["--read-only-tmpfs=false"] * (engine == "podman")  # else /tmp can be written to, which Docker's cannot
    command += ["--user", "65534:65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    # The inner walls are namespaces too, which the default profiles of containers forbid.
    command += ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
    command += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--tmpfs", "/desk:mode=1777"]
    for name, value in environment("/desk", "/office").items():
        command += ["--env", f"{name}={value}"]
    for path in system():
        command += ["--volume", f"{path}:{path}:ro"]
    for name in OFFICE:
        command += ["--volume", f"{ROOT / name}:/office/{name}:ro"]
    return [*command, "--volume", f"{door}:/door", IMAGE, *program("/door")], {}


def _nothing() -> bytes:
    """The archive of a file system with no files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, target in links().items():
            link = tarfile.TarInfo(path.lstrip("/"))
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return stream.getvalue()


def none(door: Path) -> tuple[list[str], dict]:
    """No walls: students' code runs as the user who grades, with limits on memory and time alone."""
    home = door.parent / "home"
    home.mkdir()
    return [*program(door), "--unsafe"], {"env": environment(str(home), ROOT), "cwd": home}


WALLS = {
    "bwrap": bubblewrap,
    "podman": functools.partial(container, "podman"),
    "docker": functools.partial(container, "docker"),
    "none": none,
}
