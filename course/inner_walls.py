"""The inner walls: what a process does to itself before a student's code runs in it.

Nothing of one submission reaches another, whatever it does. Its processes have namespaces of their own, in which no
other process is seen; every file system is read-only but for small ones in memory that end with it; no file is open but
the pipes to the grader. Then all capabilities go, and the kernel refuses what could bring walls down or keep memory
where nobody counts it. A guard outside ends all of it when nobody listens any more, or when it takes too much memory.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from course.guard import guard, sockets
from course.kernel import (
    CLEAR_ALL,
    NEW_IPC,
    NEW_MOUNTS,
    NEW_NET,
    NEW_PID,
    NEW_USER,
    PR_CAP_AMBIENT,
    PR_CAPBSET_DROP,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    checked,
    die_with_parent,
    forbid,
    libc,
    out_of_sight,
    prctl,
)

MS_READONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
NOBODY = 65534
READY = b"\0"  # what is said first, where nothing is amiss


def lock_in(limits: Mapping[str, int], pipes: tuple[int, int]) -> None:
    """Leave everything behind but the pipes, to read from and to write to: what follows runs as process 1 of namespaces
    of its own. Raises OSError where a wall cannot be made."""
    prctl(PR_SET_DUMPABLE, 1)  # for the files below; the process it was forked from stays out of reach
    separate()
    if inner := os.fork():
        guard(inner, pipes[1], limits["memory"], sockets)
    die_with_parent()
    os.setsid()  # signals to a process group would reach its members outside
    close_all_but(pipes)
    limit(limits)
    checked(libc.unshare(NEW_MOUNTS))
    only_small_things_to_write(limits["disk"])
    without_power()
    forbid()


def become_nobody() -> None:
    """Root is above limits on processes."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def keep_in(limits: Mapping[str, int], pipes: tuple[int, int]) -> None:
    """Without walls: a guard, and limits."""
    if inner := os.fork():
        guard(inner, pipes[1], limits["memory"])
    die_with_parent()
    os.setsid()
    limit(limits)


def separate() -> None:
    """Namespaces in which nothing of the outside is seen and this user has power over nothing outside."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEW_USER | NEW_PID | NEW_NET | NEW_IPC):
        number = ctypes.get_errno()
        used_up = "all namespaces are in use that may be (sysctl user.max_user_namespaces)"
        raise OSError(number, used_up if number == errno.ENOSPC else f"no namespaces: {os.strerror(number)}")
    for name, text in ("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1"):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def only_small_things_to_write(disk: int) -> None:
    """File systems: those of the outside to read alone, and new ones in memory, of this many bytes each."""
    checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    for path, options in mounted():
        kept = (MS_NOSUID, "nosuid"), (MS_NODEV, "nodev"), (MS_NOEXEC, "noexec")
        flags = sum(flag for flag, name in kept if name in options)
        checked(libc.mount(None, path, None, MS_REMOUNT | MS_BIND | MS_READONLY | flags, None))
    if os.path.exists("/dev/zero"):  # memory that is shared and in no file could be had of it
        checked(libc.mount(b"/dev/null", b"/dev/zero", None, MS_BIND, None))
    if os.path.isdir("/dev/pts"):
        checked(
            libc.mount(b"devpts", b"/dev/pts", b"devpts", MS_NOSUID | MS_NOEXEC, b"newinstance,ptmxmode=0666,max=64")
        )
    for folder, size in (b"/proc", 4096), (b"/dev/mqueue", 4096), (b"/dev/shm", disk), (b"/desk", disk):
        if os.path.isdir(folder):
            options = b"size=%d,nr_inodes=10000,mode=1777" % size
            checked(libc.mount(b"tmpfs", folder, b"tmpfs", MS_NOSUID | MS_NODEV, options))
    os.chdir("/desk")


def mounted() -> list[tuple[bytes, list[str]]]:
    """What is mounted where, as far as it can be seen, and with which options; what is mounted later comes later."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path, options = line.split()[4:6]
        found[path.encode().decode("unicode_escape").encode("latin-1")] = options.split(",")
    return [(path, options) for path, options in found.items() if os.path.lexists(path)]


def close_all_but(pipes: Iterable[int]) -> None:
    """Close all files but these; input and output are nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    last = 2
    for number in sorted(pipes):
        os.closerange(last + 1, number)
        last = number
    os.closerange(last + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def limit(limits: Mapping[str, int]) -> None:
    """Bound what the process may use from here on."""
    used = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, limits["memory"] + used),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_FSIZE, limits["disk"]),
        (resource.RLIMIT_CPU, limits["cpu"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def without_power() -> None:
    """No capabilities, and no way to new ones."""
    for capability in range(64):
        prctl(PR_CAPBSET_DROP, capability)  # those that there are
    prctl(PR_CAP_AMBIENT, CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()))
    checked(prctl(PR_SET_NO_NEW_PRIVS, 1))


def attempt(limits: Mapping[str, int]) -> None:
    """Make the walls around a process, say how that went, and keep them until there is nothing more to read."""
    become_nobody()
    out_of_sight()
    pipes = os.pipe()
    if os.fork() == 0:
        try:
            lock_in(limits, pipes)
            os.write(pipes[1], READY)
            signal.pause()
        except OSError as error:
            os.write(pipes[1], str(error.strerror).encode())
        os._exit(0)
    os.close(pipes[1])
    said = os.read(pipes[0], 1000)
    os.write(sys.stdout.fileno(), said or b"the process ended")
    if said == READY:
        sys.stdin.read()


if __name__ == "__main__":
    attempt(json.loads(sys.argv[1]))
