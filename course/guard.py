"""The guard of a submission: a process outside, which ends all of it when nobody listens any more, or when it takes
too much memory."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from course.kernel import out_of_sight

OF_A_SOCKET = 2**19  # bytes that wait in it, at most
MOST_MAPS = 10_000  # pieces of memory of a process; an honest one has some thousand
EVERY = 0.05  # seconds between two looks at the memory that a submission takes


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
    shared: dict[str, int] = {}
    for process in processes:
        maps = _lines(process, "maps")
        if len(maps) > MOST_MAPS:  # which would take too long to look at, while it goes on
            return most
        shared.update(_shared(maps))
    return sum(map(share, processes)) + sum(shared.values())


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


def share(process: int) -> int:
    """Memory of a process as in `_own`, of which what it has in common with others counts in parts."""
    status = _status(process, "smaps_rollup")
    return status["Pss_Anon:"] + status["SwapPss:"] if status else _own(process)


def _shared(maps: Iterable[str]) -> Iterator[tuple[str, int]]:
    """What is shared on purpose and is in no file, each with its size in bytes; pages of it that are in no process's
    table are in memory as well."""
    for line in maps:
        place, mode, _, _, number, *path = line.split(maxsplit=5)
        if mode[3] == "s" and path and path[0].endswith("(deleted)"):
            first, last = (int(end, 16) for end in place.split("-"))
            yield number, last - first
