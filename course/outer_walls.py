"""The outer walls: commands that run a program where it sees nothing of the machine but what it needs, to read.

They are made by bubblewrap or, where it is missing, by Podman or Docker; and tried before anybody's code runs.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from course.inner_walls import READY

ROOT = Path(__file__).resolve().parents[1]
# What is seen of this repository.
OFFICE = (
    "fmlab",
    *(
        f"course/{name}.py"
        for name in ("__init__", "guard", "inner_walls", "kernel", "loans", "shell", "student", "transforms", "wire")
    ),
)
IMAGE = "fmlab-walls"


@dataclass(frozen=True)
class Limits:
    """Of one submission: bytes of memory for all its processes together, and of each of its disks; how many processes,
    and files open in each; seconds of CPU in each."""

    memory: int = 3 * 2**30
    disk: int = 256 * 2**20
    processes: int = 64
    files: int = 256
    cpu: int = 900


class NoWalls(RuntimeError):
    """There cannot be walls around students' code here or now, so that none is run; the message says what to do."""


# --- which of them ----------------------------------------------------------------------------------------------------

INSTALL = (
    "Students' code is not run without walls around it. Install bubblewrap (Debian: apt install bubblewrap), "
    "Podman or Docker, on Linux; or say --unsafe if you trust every submission."
)
# What may be set so that nobody makes namespaces, and what to do about it.
SETTINGS = {
    "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=10000"),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile of AppArmor for bubblewrap",
    ),
}


def found(number: int = 1) -> tuple[str, int]:
    """The best walls that can be made here, and how many of a number of them at the same time, which was just tried.
    Raises NoWalls where there are none."""
    reasons = []
    for name in filter(shutil.which, ("bwrap", "podman", "docker")):
        made, reason = attempts(name, number)
        if made:
            return name, made
        reasons.append(f"{name} is installed but does not work here ({reason}).")
    advice = [f"Perhaps this is needed: {do}." for path, (off, do) in SETTINGS.items() if _setting(path) == off]
    raise NoWalls(" ".join([*reasons, *(advice if reasons else []), INSTALL]))


def _setting(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def attempts(walls: str, number: int) -> tuple[int, str]:
    """How many of a number of walls can be made at the same time, and why not more. Nothing of anybody's runs there."""
    if walls == "none":
        return number, ""
    for pause in (0.3, 1, 0):  # what others gave back, such as namespaces, is free after a moment
        with contextlib.ExitStack() as standing:
            begun = [_begin(walls, standing) for _ in range(number)]
            reasons = [reason for reason in map(_made, begun) if reason]
        if not reasons:
            break
        time.sleep(pause)
    return number - len(reasons), (reasons or [""])[0]


def _begin(walls: str, standing: contextlib.ExitStack) -> tuple[subprocess.Popen, IO] | str:
    """Begin to make walls, inner ones as well, around nothing; they stand as long as the stack is open. Returns the
    process and what it complains in, or why there is none."""
    door = standing.enter_context(tempfile.TemporaryDirectory())
    log = standing.enter_context(tempfile.TemporaryFile())
    try:
        command, options = WALLS[walls](Path(door), [*PYTHON, "course.inner_walls", json.dumps(asdict(Limits()))])
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        return last_line(getattr(error, "stderr", b"")) or str(error)
    standing.enter_context(process)
    standing.callback(process.stdin.close)
    return process, log


def _made(begun: tuple[subprocess.Popen, IO] | str) -> str:
    """Why walls that were begun do not stand; "" if they do."""
    if isinstance(begun, str):
        return begun
    process, log = begun
    if (said := process.stdout.read(1)) == READY:
        return ""
    said += process.stdout.read()
    log.seek(0)
    return last_line(said or log.read()) or "it ended without a word"


def last_line(text: bytes) -> str:
    return "".join(text.decode(errors="replace").strip().splitlines()[-1:])


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
        "PIP_NO_INDEX": "1",  # it would try for half a minute
        "LANG": "C.UTF-8",
    }


PYTHON = [sys.executable, "-m"]


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


def bubblewrap(door: Path, program: list[str]) -> tuple[list[str], dict]:
    """The command that runs a program in namespaces of its own, with a folder at /door; and how to start it."""
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
    command += ["--ro-bind", str(door), "/door", "--perms", "1777", "--tmpfs", "/desk", "--dir", "/dev/shm"]
    for path in ("/tmp", "/dev", "/"):
        command += ["--remount-ro", path]
    return [*command, "--chdir", "/desk", *program], {}


def container(engine: str, door: Path, program: list[str]) -> tuple[list[str], dict]:
    """The same in a container of Podman or Docker, on an image in which there is nothing."""
    if subprocess.run([engine, "image", "inspect", IMAGE], capture_output=True).returncode:
        subprocess.run([engine, "import", "-", IMAGE], input=_nothing(), check=True, capture_output=True)
    command = [engine, "run", "--rm", "--interactive", "--network", "none", "--read-only"]
    command += ["--hostname", "lab", "--workdir", "/desk"]
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
    return [*command, "--volume", f"{door}:/door", IMAGE, *program], {}


def _nothing() -> bytes:
    """The archive of a file system with no files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, target in links().items():
            link = tarfile.TarInfo(path.lstrip("/"))
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return stream.getvalue()


def none(door: Path, program: list[str]) -> tuple[list[str], dict]:
    """No walls: students' code runs as the user who grades, with limits on memory and time alone."""
    home = door.parent / "home"
    home.mkdir()
    program = [part.replace("/door", str(door)) for part in program]
    return [*program, "--unsafe"], {"env": environment(str(home), ROOT), "cwd": home}


WALLS = {
    "bwrap": bubblewrap,
    "podman": functools.partial(container, "podman"),
    "docker": functools.partial(container, "docker"),
    "none": none,
}
