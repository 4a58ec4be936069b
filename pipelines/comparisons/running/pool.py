"""Processes that live through many tasks, of which each does one at a time.

A task is anything that can be pickled and called without arguments. A process that dies takes its
task with it and nothing else: another one takes its place.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any

from pipelines.comparisons.running.workers import THREADS, Answer, Note, Task, Worker


def share_of_cores(wanted: int | None, tasks: int) -> tuple[int, int]:
    """How many processes to start, and how many threads each of them should have.

    Threads depend on the number of all tasks, not of those that are still to be done: what is
    computed may differ in its last digits with their number.

    Args:
        wanted: Processes that were asked for; None for one a core.
        tasks: How many tasks there are in all.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    processes = max(1, min(wanted or cores, tasks))
    threads = max(1, cores // processes)
    told = os.environ.get(THREADS, "")
    return processes, min(threads, int(told)) if told.isdecimal() and int(told) else threads


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: Which.
        result: What it returned; None if it failed.
        error: One line; empty if it did not fail.
        traceback: Of a failure that is a defect; empty otherwise.
        seconds: What the task itself took.
        overhead: What its process took beside that: to start, to import, to be told.
    """

    task: Task
    result: Any
    error: str
    traceback: str
    seconds: float
    overhead: float


class Pool:
    """Processes, and tasks that wait for them; a context, at whose end the processes end.

    Args:
        processes: How many at most; they are started as there are tasks for them.
        threads: Of each process.
        on_note: Is told what tasks say while they are done.
    """

    def __init__(
        self, processes: int, threads: int, on_note: Callable[[str], None] = lambda text: None
    ) -> None:
        self._processes, self._threads, self._on_note = processes, threads, on_note
        self._waiting: deque[Task] = deque()
        self._workers: list[Worker] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end(at_once=kind is not None)
        for worker in self._workers:
            worker.join()

    def add(self, tasks: Iterable[Task]) -> None:
        """Put tasks at the end of the queue."""
        self._waiting.extend(tasks)

    def outcomes(self) -> Iterator[Outcome]:
        """Have all tasks done; gives outcomes as they come. Tasks may be added meanwhile."""
        while True:
            self._hand_out()
            busy = {worker.connection: worker for worker in self._workers if worker.task}
            if not busy:
                return
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                answer = worker.answer()
                if isinstance(answer, Note):
                    self._on_note(answer.text)
                else:
                    yield self._outcome(worker, answer)

    def _hand_out(self) -> None:
        idle = [worker for worker in self._workers if worker.task is None]
        while self._waiting and (idle or len(self._workers) < self._processes):
            if not idle:
                idle.append(Worker(self._threads))
                self._workers += idle
            # A process that died while it was idle is found out as one that dies of its task.
            idle.pop().begin(self._waiting.popleft())

    def _outcome(self, worker: Worker, answer: Answer | None) -> Outcome:
        task, since = worker.task, worker.since
        assert task is not None
        if answer is None:
            self._workers.remove(worker)
            answer = Answer(None, worker.last_words(), "", time.monotonic() - since)
        overhead = max(time.monotonic() - since - answer.seconds, 0.0)
        worker.task = None
        return Outcome(task, overhead=overhead, **vars(answer))
