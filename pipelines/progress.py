"""What a command says: progress on stderr, and its result as tables on stdout.

Progress is bars on a terminal, plain lines elsewhere, nothing when quiet.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0
# Of a table, in letters; rich cuts cells that do not fit into a console's width.
WIDEST = 100_000


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
        self.console = Console(
            stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False, emoji=False
        )

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text)

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
                left = _duration((now - start) / done * (total - done)) if done else "?"
                rate = _rate(done, now - start, unit)
                self.say(f"{what}: {done:,} of {total:,} {unit}, {rate}, {left} left")

        yield advance
        if done:
            self.say(f"{what}: {done:,} of {total:,} {unit}, {_rate(done, clock() - start, unit)}")


def _rate(done: int, seconds: float, unit: str) -> str:
    return f"{done / max(seconds, 1e-9):,.1f} {unit}/s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Collection[str] = ()
) -> Table:
    """A table whose cells show exactly what they hold: nothing in them is taken for markup.

    Args:
        columns: Headings.
        rows: The cells, as many as there are columns.
        right: The columns that are aligned to the right, as figures are.
    """
    table = Table(box=None, pad_edge=False, header_style="")
    for name in columns:
        heading = Text.assemble((name, "bold"))  # its letters only, not the padding
        table.add_column(heading, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_printable(cell)) for cell in row))
    return table


def counts_table(counts: Mapping[str, int]) -> Table:
    """What was counted, and the counts."""
    rows = [(what, f"{count:,}") for what, count in counts.items()]
    return plain_table(("what", "count"), rows, right=("count",))


def print_table(table: Table) -> None:
    """A result for people: on stdout, as wide as it needs to be, so that no figure is cut."""
    # With a height, too, or rich would take a terminal without abilities to be 80 letters wide.
    console = Console(width=WIDEST, height=25, highlight=False)
    with console.capture() as printed:
        console.print(table)
    # Without the padding, a terminal that is narrower than one cell wraps that one's line only.
    click.echo("\n".join(line.rstrip() for line in printed.get().split("\n")), nl=False)


def _printable(cell: str) -> str:
    """A cell in one line, with escapes for what would move the cursor."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cell)
