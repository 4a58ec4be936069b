"""A process that does one task after another, seen from its parent and from within.

It ends when its parent does, however that happens.
"""

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

from extract.errors import UserError
from pipelines.cli import keep_freed_memory
from pipelines.comparisons.notes import listen

Task = Callable[[], Any]
# What tells numerical libraries how many threads to start; they look at it when they are loaded.
THREADS = "OMP_NUM_THREADS"
# Seconds that a process has to end by itself.
GRACE = 5.0


@dataclass(frozen=True)
class Answer:
    """What a process sends back."""

    result: Any
    error: str
    traceback: str
    seconds: float


@dataclass(frozen=True)
class Note:
    """What a process says of a task that it is not done with."""

    text: str


class Worker:
    """A process, seen from its parent.

    Args:
        threads: That it may use.

    Attributes:
        connection: To it.
        task: What it does; None if nothing.
        since: Since when, in seconds of `time.monotonic`; at first since it was started.
    """

    def __init__(self, threads: int) -> None:
        self.since = time.monotonic()
        self.task: Task | None = None
        self._is_new = True
        context = get_context("spawn")  # a copy of a process with threads could hang
        self.connection, theirs = context.Pipe()
        # Not a daemon, which could not start processes, as some readers of pictures do.
        self.process: BaseProcess = context.Process(target=_work, args=(theirs,))
        with _environment({THREADS: str(threads)}), _deaf_to_interrupts():
            self.process.start()
        theirs.close()  # or its end would not be seen

    def begin(self, task: Task) -> None:
        """Hand over a task."""
        self.task = task
        if not self._is_new:
            self.since = time.monotonic()
        self._is_new = False
        try:
            self.connection.send_bytes(pickle.dumps(task))
        except OSError:  # it is dead, which reading from it will show
            return

    def answer(self) -> Answer | Note | None:
        """What it sends back; None if it is dead."""
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return None

    def last_words(self) -> str:
        """How a dead process ended."""
        self.join()
        code = self.process.exitcode
        if code is not None and code < 0:
            return (
                f"the process was ended by signal {-code}, perhaps for want of memory; fewer "
                "--processes leave more for each"
            )
        return f"the process ended with code {code} before it was done"

    def end(self, at_once: bool) -> None:
        """Have it end: when it is done, or at once."""
        if at_once:
            self.process.terminate()
        self.connection.close()

    def join(self) -> None:
        """Wait for its end, but not for ever."""
        self.process.join(GRACE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _work(connection: Connection) -> None:
    """What a process does: one task after another, until its parent has gone."""
    keep_freed_memory()
    received: SimpleQueue[bytes | None] = SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(connection, received, busy), daemon=True).start()
    listen(lambda text: connection.send_bytes(pickle.dumps(Note(_line(text)))))
    while (pickled := received.get()) is not None:
        busy.set()
        answer = pickle.dumps(_do(pickled))
        busy.clear()
        connection.send_bytes(answer)


def _listen(
    connection: Connection, received: "SimpleQueue[bytes | None]", busy: threading.Event
) -> None:
    """Receive tasks; when the parent has closed its end, or has died, the process ends."""
    try:
        while True:
            received.put(connection.recv_bytes())
    except (EOFError, OSError):
        received.put(None)
        # Nobody wants the result any more. An idle process may tidy up.
        if not busy.is_set():
            time.sleep(GRACE)
        os._exit(1)


def _do(pickled: bytes) -> Answer:
    start = time.monotonic()
    try:
        task = pickle.loads(pickled)
        start = time.monotonic()  # what had to be imported is no part of the task
        return Answer(task(), "", "", time.monotonic() - start)
    except UserError as error:
        return Answer(None, _line(str(error)), "", time.monotonic() - start)
    except Exception as error:
        told = _line(f"{type(error).__name__}: {error}")
        return Answer(None, told, traceback.format_exc(), time.monotonic() - start)


def _line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables that processes started meanwhile inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started meanwhile do not hear Ctrl-C, which a terminal sends to all of a command.

    Their parent hears it and ends them; each of them would print a traceback of its own.
    """
    # It is started with the first process, and lets interrupts through again when it is.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
