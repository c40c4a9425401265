"""The kernel: what a process asks it for before a student's code runs, and what it is told to refuse from then on."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
PR_CAP_AMBIENT, CLEAR_ALL = 47, 4
NEW_USER, NEW_PID, NEW_MOUNTS, NEW_NET, NEW_IPC = 0x10000000, 0x20000000, 0x00020000, 0x40000000, 0x08000000
ANY_NAMESPACE = NEW_USER | NEW_PID | NEW_MOUNTS | NEW_NET | NEW_IPC | 0x02000000 | 0x04000000  # cgroup, UTS

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *args: int) -> int:
    return libc.prctl(option, *map(ctypes.c_ulong, [*args, *(4 - len(args)) * [0]]))


def checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def out_of_sight() -> None:
    """Nobody but root may look into this process, or into what is forked from it."""
    prctl(PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# --- what is refused --------------------------------------------------------------------------------------------------

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
    checked(prctl(PR_SET_SECCOMP, 2, ctypes.addressof(pointer)))


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
