"""Progress on stderr: bars on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

SECONDS_BETWEEN_LINES = 10.0


class Advance(Protocol):
    """Tells that `count` more are done."""

    def __call__(self, count: int = 1) -> None:
        """Move the bar."""


class Reporter:
    """Where a command says what it is doing.

    Args:
        quiet: Say nothing but errors.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, quiet=quiet, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False)

    @contextmanager
    def bar(
        self,
        what: str,
        total: int,
        unit: str = "items",
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[Advance]:
        """A bar, or a plain line every ten seconds and one at the end, with the rate.

        Args:
            what: What is being done, such as ``"image"``.
            total: How many there are.
            unit: What is counted.
            clock: Tells the seconds that the rate is counted by, where several bars share the time.
        """
        if self.console.is_terminal and not self.quiet:
            with self._rich_bar(what, total, unit, clock) as advance:
                yield advance
        else:
            with self._plain_lines(what, total, unit, clock) as advance:
                yield advance

    @contextmanager
    def _rich_bar(
        self, what: str, total: int, unit: str, clock: Callable[[], float]
    ) -> Iterator[Advance]:
        start = clock()
        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(what, total=total, rate="")
            done = 0

            def advance(count: int = 1) -> None:
                nonlocal done
                done += count
                progress.update(task, advance=count, rate=_rate(done, clock() - start, unit))

            yield advance

    @contextmanager
    def _plain_lines(
        self, what: str, total: int, unit: str, clock: Callable[[], float]
    ) -> Iterator[Advance]:
        start = last = clock()
        done = 0

        def advance(count: int = 1) -> None:
            nonlocal done, last
            done += count
            now = clock()
            if now - last >= SECONDS_BETWEEN_LINES and done < total:
                last = now
                self.say(f"{what}: {done:,} of {total:,} {unit}, {_rate(done, now - start, unit)}")

        yield advance
        if done:
            self.say(f"{what}: {done:,} of {total:,} {unit}, {_rate(done, clock() - start, unit)}")


def _rate(done: int, seconds: float, unit: str) -> str:
    return f"{done / max(seconds, 1e-9):,.1f} {unit}/s"


def print_table(table: Table) -> None:
    """A result for people: on stdout, as wide as it needs to be where stdout is no terminal."""
    width = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, width=width, highlight=False).print(table)
