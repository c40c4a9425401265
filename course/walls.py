"""The inner walls: what a process does to itself before a student's code runs in it.

Nothing of one submission reaches another, whatever it does. Its processes have namespaces of their own, in which no
other process is seen; every file system is read-only but for small ones in memory that end with it; no file is open but
the pipes to the grader. Then all capabilities go, and the kernel refuses what could bring walls down or keep memory
where nobody counts it. A guard outside ends all of it when nobody listens any more, or when it takes too much memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

NEW_USER, NEW_PID, NEW_MOUNTS, NEW_NET, NEW_IPC = 0x10000000, 0x20000000, 0x00020000, 0x40000000, 0x08000000
ANY_NAMESPACE = NEW_USER | NEW_PID | NEW_MOUNTS | NEW_NET | NEW_IPC | 0x02000000 | 0x04000000  # cgroup, UTS
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
PR_CAP_AMBIENT, CLEAR_ALL = 47, 4
MS_READONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
NOBODY = 65534
READY = b"\0"  # what is said first, where nothing is amiss
OF_A_SOCKET = 2**19  # bytes that wait in it, at most
EVERY = 0.05  # seconds between two looks at the memory that a submission takes

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + 4 * [ctypes.c_ulong]


def lock_in(limits: Mapping[str, int], pipes: tuple[int, int]) -> None:
    """Leave everything behind but the pipes, to read from and to write to: what follows runs as process 1 of namespaces
    of its own. Raises OSError where a wall cannot be made."""
    _prctl(PR_SET_DUMPABLE, 1)  # for the files below; the process it was forked from stays out of reach
    separate()
    if inner := os.fork():
        guard(inner, pipes[1], limits["memory"], sockets)
    die_with_parent()
    os.setsid()  # signals to a process group would reach its members outside
    close_all_but(pipes)
    limit(limits)
    _checked(libc.unshare(NEW_MOUNTS))
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


def out_of_sight() -> None:
    """Nobody but root may look into this process, or into what is forked from it."""
    _prctl(PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


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
    _checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    for path, options in mounted():
        kept = (MS_NOSUID, "nosuid"), (MS_NODEV, "nodev"), (MS_NOEXEC, "noexec")
        flags = sum(flag for flag, name in kept if name in options)
        _checked(libc.mount(None, path, None, MS_REMOUNT | MS_BIND | MS_READONLY | flags, None))
    if os.path.exists("/dev/zero"):  # memory that is shared and in no file could be had of it
        _checked(libc.mount(b"/dev/null", b"/dev/zero", None, MS_BIND, None))
    if os.path.isdir("/dev/pts"):
        _checked(
            libc.mount(b"devpts", b"/dev/pts", b"devpts", MS_NOSUID | MS_NOEXEC, b"newinstance,ptmxmode=0666,max=64")
        )
    for folder, size in (b"/proc", 4096), (b"/dev/mqueue", 4096), (b"/dev/shm", disk), (b"/desk", disk):
        if os.path.isdir(folder):
            options = b"size=%d,nr_inodes=10000,mode=1777" % size
            _checked(libc.mount(b"tmpfs", folder, b"tmpfs", MS_NOSUID | MS_NODEV, options))
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


# --- power ------------------------------------------------------------------------------------------------------------


def without_power() -> None:
    """No capabilities, and no way to new ones."""
    for capability in range(64):
        _prctl(PR_CAPBSET_DROP, capability)  # those that there are
    _prctl(PR_CAP_AMBIENT, CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _checked(libc.capset(header, (ctypes.c_uint32 * 6)()))
    _checked(_prctl(PR_SET_NO_NEW_PRIVS, 1))


# Calls of the kernel, and their numbers on the machines that are known. The first group are ways out or to another
# process or into a key ring; the second keeps memory that is in no process and no file system; the third tells what
# others do with files that all can read, or takes what there is only so much of on the whole machine.
CALLS = {
    "x86_64": {
        **{"unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161},
        **{"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433},
        **{"mount_setattr": 442, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311},
        **{"pidfd_getfd": 438, "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321},
        **{"perf_event_open": 298, "userfaultfd": 323, "open_by_handle_at": 304},
        **{"memfd_create": 319, "memfd_secret": 447, "shmget": 29, "msgget": 68, "vmsplice": 278},
        **{"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
        **{"semget": 64, "landlock_create_ruleset": 444},
        **{"inotify_init": 253, "inotify_init1": 294, "fanotify_init": 300, "mincore": 27, "cachestat": 451},
        **{"syslog": 103, "io_setup": 206},
    },
    "aarch64": {
        **{"unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51},
        **{"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433},
        **{"mount_setattr": 442, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271},
        **{"pidfd_getfd": 438, "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280},
        **{"perf_event_open": 241, "userfaultfd": 282, "open_by_handle_at": 265},
        **{"memfd_create": 279, "memfd_secret": 447, "shmget": 194, "msgget": 186, "vmsplice": 75},
        **{"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
        **{"semget": 190, "landlock_create_ruleset": 444},
        **{"inotify_init1": 26, "fanotify_init": 262, "mincore": 232, "cachestat": 451},
        **{"syslog": 116, "io_setup": 0},
    },
}
MISSING = {"x86_64": (435, 327), "aarch64": (435, 286)}  # clone3, whose flags cannot be seen; preadv2, which tells
# what others have read; who gets "no such call" does without. Locks are granted without being taken: nobody else has
# the files of a submission, and on those that all read, a lock would be a word to others and memory without a bound.
GRANTED = {"x86_64": (73, 221), "aarch64": (32, 223)}  # flock; fadvise, which empties the cache
FCNTL, LOCKS = {"x86_64": 72, "aarch64": 25}, (6, 7, 37, 38)
NOTICES = (1024, 1026)  # calls of fcntl that tell what others do with a file
PRCTL, MMAP, NOBODYS = {"x86_64": 157, "aarch64": 167}, {"x86_64": 9, "aarch64": 222}, 0x21  # shared and in no file
SET_OPTION, BUFFERS = {"x86_64": 54, "aarch64": 208}, (7, 8)  # how much a socket keeps stays as it is
CLONE = {"x86_64": 56, "aarch64": 220}
SOCKET, FAMILIES = {"x86_64": 41, "aarch64": 198}, (1, 2, 10, 16)  # Unix, IPv4, IPv6, netlink: which namespaces hold
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OTHER_ABI = 0x40000000  # where the numbers of x86-64's calls with short pointers begin
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06  # instructions of a filter
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000


def forbid() -> None:
    """From here on the kernel refuses CALLS, and to make namespaces, to this process and to all that it starts."""
    program = ctypes.create_string_buffer(code := filter_of(platform.machine()))
    pointer = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(program)))
    _checked(_prctl(PR_SET_SECCOMP, 2, ctypes.addressof(pointer)))


def filter_of(machine: str) -> bytes:
    """The filter as the kernel takes it: a program on the number of a call, the architecture, and the arguments."""
    if machine not in CALLS:
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {machine}, only for {', '.join(CALLS)}")

    def answer(test: int, value: int, result: int) -> bytes:
        return struct.pack("=HBBI", test, 0, 1, value) + struct.pack("=HBBI", RETURN, 0, 0, result)

    def load(offset: int) -> bytes:
        return struct.pack("=HBBI", LOAD, 0, 0, offset)

    def given(number: int, argument: int, *answers: bytes) -> bytes:
        """Answers to a call by one of its arguments."""
        inside = load(16 + 8 * argument) + b"".join(answers) + load(0)
        return struct.pack("=HBBI", EQUAL, 0, len(inside) // 8, number) + inside

    refused, granted = REFUSE | errno.EPERM, REFUSE  # with error 0
    code = load(4) + struct.pack("=HBBI", EQUAL, 1, 0, ARCHITECTURE[machine])
    code += struct.pack("=HBBI", RETURN, 0, 0, KILL) + load(0) + answer(AT_LEAST, OTHER_ABI, KILL)
    code += b"".join(answer(EQUAL, number, refused) for number in sorted(CALLS[machine].values()))
    code += b"".join(answer(EQUAL, number, REFUSE | errno.ENOSYS) for number in MISSING[machine])
    code += b"".join(answer(EQUAL, number, granted) for number in GRANTED[machine])
    code += given(CLONE[machine], 0, answer(ANY_BIT, ANY_NAMESPACE, refused))
    code += given(FCNTL[machine], 1, *(answer(EQUAL, lock, granted) for lock in LOCKS))
    code += given(FCNTL[machine], 1, *(answer(EQUAL, notice, refused) for notice in NOTICES))
    code += given(PRCTL[machine], 0, answer(EQUAL, PR_SET_DUMPABLE, refused))  # the guard looks
    code += given(MMAP[machine], 3, struct.pack("=HBBI", AND, 0, 0, NOBODYS), answer(EQUAL, NOBODYS, refused))
    code += given(SET_OPTION[machine], 2, *(answer(EQUAL, buffer, granted) for buffer in BUFFERS))
    other = struct.pack("=HBBI", RETURN, 0, 0, REFUSE | errno.EAFNOSUPPORT)
    code += given(SOCKET[machine], 0, *(answer(EQUAL, family, ALLOW) for family in FAMILIES), other)
    return code + struct.pack("=HBBI", RETURN, 0, 0, ALLOW)


# --- the guard --------------------------------------------------------------------------------------------------------


def guard(inner: int, writing: int, memory: int, more: Callable[[], int] = lambda: 0) -> NoReturn:
    """Wait for the submission's process, and kill it, with all that it started, when nobody listens any more or when
    together they take more than this many bytes. more(): what they take that is in no process."""
    out_of_sight()
    with contextlib.suppress(OSError):
        Path(f"/proc/{inner}/oom_score_adj").write_text("1000")  # if memory ends nevertheless, this is what ends
    listener, ordinary = select.poll(), _mapped(inner)
    listener.register(writing, 0)  # which reports errors alone
    while not os.waitpid(inner, os.WNOHANG)[0]:
        if listener.poll(1000 * EVERY) or taken(tree(inner), ordinary, memory) + more() > memory:
            os.kill(inner, signal.SIGKILL)
            os.waitpid(inner, 0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(inner, signal.SIGKILL)  # where there are no walls
            break
    os._exit(0)


def taken(processes: Iterable[int], ordinary: int, enough: int) -> int:
    """Bytes of memory that processes have together; a bound from above where that is not more than `enough`.

    ordinary: bytes that each of them has mapped from files. What several of them share, since one was forked from
    another or since they mapped it, is counted once, which takes longer to find out.
    """
    processes = list(processes)
    most = sum(_own(process) + max(0, _mapped(process) - ordinary) for process in processes)
    if most <= enough:
        return most
    shared = dict(found for process in processes for found in _shared(process))
    return sum(map(_share, processes)) + sum(shared.values())


def sockets() -> int:
    """Bytes that the sockets of this network may keep, also those that nobody has open any more."""
    return OF_A_SOCKET * int(Path("/proc/net/sockstat").read_text().split()[2])


def tree(root: int) -> list[int]:
    """A process, and all that it or one of those started."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parent = Path(f"/proc/{name}/stat").read_bytes().rsplit(b")", 1)[1].split()[1]
            children.setdefault(int(parent), []).append(int(name))
    found = [root]
    for process in found:
        found += children.get(process, ())
    return found


def _status(process: int, path: str = "status") -> dict[str, int]:
    """What the kernel says of a process in bytes; nothing once it has ended."""
    lines = [line.split() for line in _lines(process, path)]
    return {line[0]: 1024 * int(line[1]) for line in lines if line[-1] == "kB"}


def _lines(process: int, path: str) -> list[str]:
    """Of a file of a process in /proc; of one whose first thread has ended, as another of its threads has it."""
    for place in f"/proc/{process}", *(f"/proc/{process}/task/{thread}" for thread in _threads(process)):
        with contextlib.suppress(OSError):
            text = Path(place, path).read_text(errors="replace")
            if text and (path != "status" or "VmSize" in text):
                return text.splitlines()
    return []


def _threads(process: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from os.listdir(f"/proc/{process}/task")


def _own(process: int) -> int:
    """Memory of a process that is no file's and that it does not share on purpose."""
    status = _status(process)
    return status.get("RssAnon:", 0) + status.get("VmSwap:", 0)


def _mapped(process: int) -> int:
    """What a process has mapped, whether it is in memory or not, beside what it can write to and does not share."""
    status = _status(process)
    return status.get("VmSize:", 0) - status.get("VmData:", 0) - status.get("VmStk:", 0)


def _share(process: int) -> int:
    """Memory of a process as in `_own`, of which what it has in common with others counts in parts."""
    status = _status(process, "smaps_rollup")
    return status["Pss_Anon:"] + status["SwapPss:"] if status else _own(process)


def _shared(process: int) -> Iterator[tuple[str, int]]:
    """What is shared on purpose and is in no file, each with its size in bytes; pages of it that are in no process's
    table are in memory as well."""
    for line in _lines(process, "maps"):
        place, mode, _, _, number, *path = line.split(maxsplit=5)
        if mode[3] == "s" and path and path[0].endswith("(deleted)"):
            first, last = (int(end, 16) for end in place.split("-"))
            yield number, last - first


def _prctl(option: int, *args: int) -> int:
    return libc.prctl(option, *args, *(4 - len(args)) * [0])


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


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
