"""torch's threads follow the load: a second one while a core stands idle."""

import hashlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import psutil
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from fmlab import threads


@pytest.fixture
def load(monkeypatch):
    """Two cores of which others use `load.others`, as the clocks tell it; afterwards all is as it was."""

    class Load:
        others = time = free = 0.0

        def clocks(self):
            """Another unit of time has passed."""
            self.time, self.free = self.time + 1, self.free + 2 - self.others
            return threads.Clocks(self.time, self.free)

    load, before = Load(), torch.get_num_threads()
    monkeypatch.setattr(threads, "_default", 2)
    monkeypatch.setattr(threads, "cpu_count", lambda: 2)
    monkeypatch.setattr(threads, "clocks", load.clocks)
    yield load
    threads.use_idle_cores(1)
    torch.set_num_threads(before)


def becomes(expected: int) -> bool:
    """Whether the number of threads comes to be as expected while this thread works, within half a minute."""
    end = time.monotonic() + 30
    while torch.get_num_threads() != expected and time.monotonic() < end:
        sum(range(1000))
    return torch.get_num_threads() == expected


def watches() -> int:
    return sum(thread.name == "fmlab.threads" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("free", "limit", "expected"),
    [(2.0, 2, 2), (1.9, 2, 2), (1.75, 2, 1), (1.0, 2, 1), (0.3, 2, 1), (7.9, 2, 2), (7.9, 16, 8), (2.06, 1, 1)],
)
def test_threads_for_free_cores(free, limit, expected):
    assert threads.suitable(free, limit) == expected


def test_a_second_thread_comes_and_goes_with_an_idle_core(load):
    threads.use_idle_cores()
    assert torch.get_num_threads() == 1
    assert becomes(2)
    load.others = 1.0
    assert becomes(1)
    load.others = 0.1  # a browser that shows a notebook
    assert becomes(2)


def test_a_core_that_others_use_in_bursts_is_left_to_them(load, monkeypatch):
    """It is free at three looks of four, never at five in a row."""
    looks, steady = count(), load.clocks

    def bursts():
        load.others = float(next(looks) % 4 == 0)
        return steady()

    monkeypatch.setattr(threads, "clocks", bursts)
    threads.use_idle_cores()
    most = 1
    for _ in range(16):
        time.sleep(threads.PERIOD)
        most = max(most, torch.get_num_threads())
    assert most == 1


def test_an_operation_of_the_main_thread_gets_them(load):
    """Every thread of the process has a number of its own, so it is the main one that must be told."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
        threads.use_idle_cores()
        assert becomes(2)
        assert "at::get_num_threads() : 2" in torch.__config__.parallel_info()
        assert pool.submit(torch.get_num_threads).result() == 1


def test_the_last_call_counts_and_a_limit_of_one_ends_it(load):
    threads.use_idle_cores()
    threads.use_idle_cores()
    assert becomes(2)
    threads.use_idle_cores(1)
    assert torch.get_num_threads() == 1
    end = time.monotonic() + 30
    while watches() and time.monotonic() < end:
        time.sleep(threads.PERIOD)
    assert not watches()
    torch.set_num_threads(3)
    sum(range(1000))
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("own", "cores", "limit"), [(1, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_never_more_threads_than_allowed(load, monkeypatch, own, cores, limit):
    """By torch's own number, as OMP_NUM_THREADS sets it; by the cores of a container; by the caller."""
    monkeypatch.setattr(threads, "_default", own)
    monkeypatch.setattr(threads, "cpu_count", lambda: cores)
    running = watches()
    threads.use_idle_cores(limit)
    assert watches() <= running and torch.get_num_threads() == 1


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="limit must be a number of threads ≥ 1, got 0"):
        threads.use_idle_cores(0)


def test_the_clocks_count_own_work_as_free():
    """Work on all cores leaves none idle, and what it computes is free all the same. Systems count in hundredths."""
    cores = psutil.cpu_count()
    before, own = threads.clocks(), time.process_time()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda _: hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000), range(cores)))
    now, own = threads.clocks(), time.process_time() - own
    passed, free = now.time - before.time, now.free - before.free
    assert own > 0.1 * passed * cores, "it hardly came to work"
    assert own - 0.02 * cores < free < cores * (passed + 0.02)


NOTEBOOK = [
    "import time, torch\nfrom fmlab import threads",
    "threads._default, threads.cpu_count, threads.suitable = 2, lambda: 2, lambda free, limit: limit  # all is idle",
    "threads.use_idle_cores()",
    "end = time.monotonic() + 30\nwhile torch.get_num_threads() == 1 and time.monotonic() < end:\n    pass",
    "torch.get_num_threads()",
]


def test_the_cells_of_a_notebook_get_them():
    nb = NotebookClient(new_notebook(cells=[new_code_cell(source) for source in NOTEBOOK])).execute()
    assert nb.cells[-1].outputs[0].data["text/plain"] == "2"


CROWD = """
import subprocess, sys, time, psutil, torch
from fmlab import threads

cores = psutil.cpu_count()
crowd = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * cores)]
try:
    time.sleep(1)
    threads.use_idle_cores(cores)
    end, most = time.monotonic() + 2, 0
    while time.monotonic() < end:
        torch.ones(300, 300) @ torch.ones(300, 300)
        most = max(most, torch.get_num_threads())
    print(most)
finally:
    for process in crowd:
        process.kill()
"""


@pytest.mark.skipif(psutil.cpu_count() == 1, reason="needs two cores")
def test_no_more_threads_than_fit_beside_a_crowd(monkeypatch):
    """Beside two busy processes a core, less than all cores are free, whatever else the machine does."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(psutil.cpu_count()))
    done = subprocess.run([sys.executable, "-c", CROWD], capture_output=True, text=True, check=True)
    assert int(done.stdout) < psutil.cpu_count()
