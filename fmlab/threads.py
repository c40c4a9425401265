"""Threads: a second one while a core stands idle.

torch splits an operation over its threads and waits for the last of them. With tensors as small as those of the labs
two threads save a third of the time on an idle machine; beside a program that keeps a core busy they take up to three
times as long as one. So no number of threads is right, but the number of cores that nobody else uses is:

    free cores = (time that cores stood idle + time that this process computed) / time passed

What this process uses itself counts as free, so the number does not depend on how many threads it has.

The last digits of a sum over many numbers, such as the gradient of a loss, may change with the number of threads. Where
they must repeat, set the environment variable OMP_NUM_THREADS to 1.
"""

import ctypes
import threading
import time
from collections import deque
from typing import NamedTuple

import torch

try:
    import psutil
    from joblib import cpu_count
except ModuleNotFoundError:  # come with fmlab[labs]
    psutil = None

PERIOD = 0.1  # seconds from one look at the load to the next; systems count in hundredths
CALM = 5  # looks in a row that must find a core free before it is used; a browser comes and goes
SPARE = 0.15  # how much of a free core others may use: a browser that shows a notebook needs a little

_default = torch.get_num_threads()
_watch = None


def use_idle_cores(limit: int = 2) -> None:
    """From now on torch computes with as many threads as cores are free, `limit` at most; at first with one.

    The load is looked at ten times a second; a core is used once it has been free for half a second, and given back at
    once. More threads than torch takes by itself are never used, nor more than this process, or its container, may have
    cores. What adapts is the main thread, where notebooks run; in threads of your own set the number yourself. Call it
    again for another limit; with 1 it ends, and torch keeps to one thread. Without psutil and joblib,
    which come with fmlab[labs], it does from the beginning.

    Raises ValueError if limit < 1.
    """
    global _watch
    if limit < 1:
        raise ValueError(f"limit must be a number of threads ≥ 1, got {limit}")
    if _watch:
        _watch.ended.set()
    torch.set_num_threads(1)
    limit = min(limit, _default, cpu_count()) if psutil else 1
    _watch = Watch(limit) if limit > 1 else None


class Watch(threading.Thread):
    """Looks at the load in the background, and has the main thread change the number of its threads."""

    def __init__(self, limit: int):
        super().__init__(name="fmlab.threads", daemon=True)
        self.limit, self.count, self.ended = limit, 1, threading.Event()
        self.start()

    def run(self) -> None:
        before, recent = clocks(), deque([1] * CALM, CALM)
        while not self.ended.wait(PERIOD):
            now = clocks()
            recent.append(suitable((now.free - before.free) / (now.time - before.time), self.limit))
            before, count = now, min(recent)
            if count != self.count:
                self.count = count
                ctypes.pythonapi.Py_AddPendingCall(_adapt, None)


def suitable(free_cores: float, limit: int) -> int:
    """The number of threads for so many free cores."""
    return min(limit, max(1, int(free_cores + SPARE)))


class Clocks(NamedTuple):
    """Seconds from some beginning: the time, and the time of all cores that nobody but this process has used."""

    time: float
    free: float


def clocks() -> Clocks:
    cores = psutil.cpu_times()
    return Clocks(time.monotonic(), cores.idle + getattr(cores, "iowait", 0.0) + time.process_time())


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def _adapt(_) -> int:
    """Called by the main thread between two instructions of its own: every thread has its own number of threads."""
    if _watch:
        torch.set_num_threads(_watch.count)
    return 0
