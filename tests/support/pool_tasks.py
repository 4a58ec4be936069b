"""Tasks for pools of processes, which import them by name."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from extract.errors import UserError
from pipelines.comparisons.notes import NotingReporter
from pipelines.comparisons.running.pool import Pool


@dataclass(frozen=True)
class Square:
    number: int

    def __call__(self):
        return self.number**2


@dataclass(frozen=True)
class Say:
    text: str

    def __call__(self):
        NotingReporter().say(self.text)
        return f"said {self.text}"


@dataclass(frozen=True)
class WhoAmI:
    number: int

    def __call__(self):
        return os.getpid(), os.environ["OMP_NUM_THREADS"]


@dataclass(frozen=True)
class Refuse:
    def __call__(self):
        raise UserError("no,\nnot this")


@dataclass(frozen=True)
class Crash:
    def __call__(self):
        return {}["missing"]


@dataclass(frozen=True)
class Signal:
    number: int

    def __call__(self):
        os.kill(os.getpid(), self.number)
        return "heard nothing"


@dataclass(frozen=True)
class Leave:
    code: int

    def __call__(self):
        os._exit(self.code)


class Unreadable:
    """Cannot be unpickled."""

    def __reduce__(self):
        return (int, ("no number",))

    def __call__(self):
        raise AssertionError


@dataclass(frozen=True)
class Sleep:
    """Writes its process's number into a folder, and is busy for a minute."""

    folder: Path
    number: int

    def __call__(self):
        (self.folder / f"{self.number}.part").write_text(str(os.getpid()))
        (self.folder / f"{self.number}.part").rename(self.folder / f"{self.number}.pid")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.01)


def busy_processes(folder, count):
    """The numbers of processes that do `Sleep`, as soon as there are so many."""
    end = time.monotonic() + 60
    while len(found := list(folder.glob("*.pid"))) < count:
        assert time.monotonic() < end, "the processes did not start"
        time.sleep(0.02)
    return [int(path.read_text()) for path in found]


def gone(processes):
    """Whether all have ended, which may take a moment."""
    end = time.monotonic() + 20
    while any(_runs(process) for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _runs(process):
    """Whether a process is there and no mere remainder that nobody has asked about."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


if __name__ == "__main__":
    signal.alarm(120)
    with Pool(2, 1) as pool:
        pool.add(Sleep(Path(sys.argv[1]), number) for number in range(2))
        list(pool.outcomes())
