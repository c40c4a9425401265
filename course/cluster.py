"""Who grades on other machines: the workers of a Dask cluster. Each needs this repository, its environment, and walls.

Each is tried before it gets a job, also one that joins later. One that fails is named and left out; what a worker had
that is gone, or is not heard of any more, goes to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dask.config
from tqdm import tqdm

from course.early import starting
from course.failures import KNOWN, sentence
from course.jobs import Job, Settings, ungraded
from course.workers import AFTER, Graded, on_one_core, ready

ANSWER = 10  # seconds for the scheduler to answer
SILENT = 30  # seconds without a sign of a worker, after which others do its jobs
NOBODY = 20  # seconds to wait for a worker where there is none
TRIES = 3  # workers that may fail over one job
AHEAD = 2  # jobs at a worker, which does one of them
AGAIN = "give the same command again. What was graded is kept."


@dataclass
class Task:
    """A job, and how many workers failed over it. job: None for the trial of a worker."""

    job: Job | None
    failures: int = 0


@dataclass
class Running:
    """A task at a worker."""

    task: Task
    worker: str
    since: float
    future: Any


class Cluster:
    """The workers of a scheduler. Raises RuntimeError where that does not answer, or has no worker that can grade."""

    def __init__(self, settings: Settings, scheduler: str):
        dask.config.set({"logging": {"distributed": "critical", "distributed.client": "critical"}})
        from dask.distributed import Client

        self.settings, self.scheduler = settings, scheduler
        try:
            self.client = Client(scheduler, timeout=ANSWER, set_as_default=False)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            raise RuntimeError(
                f"There is no Dask scheduler at {scheduler}. Start one, or correct the address, such as tcp://host:8786,"
                f" and give the same command again. ({str(error).partition(chr(10))[0]})"
            ) from error
        self.ended: queue.Queue = queue.Queue()  # futures, as they end
        self.running: dict[str, Running] = {}  # by the keys of their futures
        self.good: set[str] = set()  # workers that were tried
        self.refused: dict[str, str] = {}  # workers that failed when they were tried, and why
        self.heard: dict[str, tuple[float, float]] = {}  # the last sign of each worker, and when it was seen here

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            self.client.close(timeout=ANSWER)

    def grade(self, jobs: Collection[Job], labs: Collection[str]) -> Iterator[Graded]:
        self.labs = labs
        self.waiting = deque(Task(job) for job in jobs)
        self.versions = {task.job.lab: task.job.version for task in self.waiting}
        self.looked, self.manned = 0.0, time.monotonic()
        while self.waiting or any(running.task.job for running in self.running.values()):
            yield from self._look()
            self._hand_out()
            yield from self._come()

    # --- who is there -------------------------------------------------------------------------------------------------

    def _look(self) -> Iterator[Graded]:
        """See which workers there are, at most once in a second."""
        now = time.monotonic()
        if now < self.looked + 1 or (there := self._there()) is None:
            return
        self.looked = now
        for worker, sign in there.items():
            if worker not in self.heard or self.heard[worker][0] != sign:
                self.heard[worker] = sign, now
        alive = {worker for worker in there if now < self.heard[worker][1] + SILENT}
        known = self.good | {running.worker for running in self.running.values()}
        for worker in sorted(known - alive):
            yield from self._lose(worker, "has not been heard of for a while" if worker in there else "is gone")
        for worker in sorted(alive - known - self.refused.keys()):
            self._submit(Task(None), worker)
        self._any(now, alive)

    def _there(self) -> Mapping[str, float] | None:
        """The last sign of each worker that the scheduler has; None while the connection to it is made anew."""
        try:
            if self.client.status == "running":
                found = self.client.sync(self.client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER)
                return {worker: known["last_seen"] for worker, known in found["workers"].items()}
            lost = self.client.status != "connecting"
        except asyncio.TimeoutError:
            lost = True
        except (OSError, RuntimeError):  # just now, which its status will tell next time
            lost = False
        if lost:
            raise RuntimeError(f"The scheduler at {self.scheduler} does not answer any more. Start it, and {AGAIN}")
        return None

    def _any(self, now: float, alive: set[str]) -> None:
        """Raises RuntimeError if nobody is there who can grade, nor will be."""
        if self.good or self.running:
            self.manned = now
        elif alive & self.refused.keys() or now > self.manned + NOBODY:
            reasons = "".join(f"\n{worker}: {why}" for worker, why in self.refused.items())
            raise RuntimeError(f"No worker of {self.scheduler} can grade. Start workers, and {AGAIN}{reasons}")

    def _lose(self, worker: str, why: str) -> Iterator[Graded]:
        """Take back what a worker has."""
        _say(f"The worker {worker} {why}; others do its jobs.")
        self.good.discard(worker)
        for running in [running for running in self.running.values() if running.worker == worker]:
            del self.running[running.future.key]
            running.future.cancel()
            yield from self._again(running, why)

    # --- who does what ------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give each worker that was tried enough to do."""
        if self.client.status != "running":
            return
        load = Counter(running.worker for running in self.running.values())
        for worker in sorted(self.good, key=lambda worker: load[worker]):
            while self.waiting and load[worker] < AHEAD:
                self._submit(self.waiting.popleft(), worker)
                load[worker] += 1

    def _submit(self, task: Task, worker: str) -> None:
        work = (_grade, task.job, self.settings) if task.job else (_tried, self.versions, self.labs, self.settings)
        future = self.client.submit(*work, workers=[worker], allow_other_workers=False, pure=False, retries=0)
        self.running[future.key] = Running(task, worker, time.monotonic(), future)
        future.add_done_callback(self.ended.put)

    def _come(self) -> Iterator[Graded]:
        """What has ended meanwhile."""
        with contextlib.suppress(queue.Empty):
            future = self.ended.get(timeout=1)
            if running := self.running.pop(future.key, None):
                yield from self._ended(running)
        limit = AHEAD * (self.settings.patience.notebook + AFTER)
        for running in [each for each in self.running.values() if time.monotonic() > each.since + limit]:
            self.refused[running.worker] = "it does not come to an end"
            yield from self._lose(running.worker, "does not come to an end")

    def _ended(self, running: Running) -> Iterator[Graded]:
        if running.future.status in ("cancelled", "lost"):  # with the connection
            self.waiting.extendleft([running.task] if running.task.job else [])
            return
        try:
            result = running.future.result(timeout=ANSWER)
        except Exception as error:
            result = repr(error)
        if running.task.job is None:
            self._tried(running.worker, result)
        elif isinstance(result, str):
            self.good.discard(running.worker)  # it is tried once more
            yield from self._again(running, result)
        else:
            yield result

    def _tried(self, worker: str, why: str) -> None:
        """Take a worker, or leave it out."""
        if not why:
            self.good.add(worker)
            return
        self.refused[worker] = why
        _say(f"The worker {worker} is left out: {why}")

    def _again(self, running: Running, why: str) -> Iterator[Graded]:
        """Let another worker do a job; if several failed over it, it is not graded."""
        if running.task.job is None:
            return
        running.task.failures += 1
        if running.task.failures < TRIES:
            self.waiting.append(running.task)
        else:
            reason = f"The grader itself failed, on the worker {running.worker}, and will try again: {why}"
            yield ungraded(running.task.job, reason), None


def _say(words: str) -> None:
    tqdm.write(words, file=sys.stderr)


# --- in a worker ------------------------------------------------------------------------------------------------------

one_at_a_time = threading.Lock()  # also where a worker has several threads


def _tried(versions: Mapping[str | None, str], labs: Collection[str], settings: Settings) -> str:
    """Why this worker cannot grade as the machine does that asks; "" if it can. labs: those whose official solutions
    have to get full marks."""
    with one_at_a_time:
        starting(settings.walls)
        on_one_core()
        from course import vouch
        from course.fingerprints import fingerprint

        if any(fingerprint(lab) != version for lab, version in versions.items()):
            return "it has another version of fmlab, of course, of Python or of PyTorch; update it, and start it again"
        try:
            ready(settings)
            vouch.insist(labs, settings.walls)
        except KNOWN as error:
            return sentence(error)
    return ""


def _grade(job: Job, settings: Settings) -> Graded:
    from course.marking import grade_one

    with one_at_a_time:
        return grade_one(job, settings)
