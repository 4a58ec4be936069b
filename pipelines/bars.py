"""Bars that share the time: one per modality of an extraction."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from extract.chunks import Progress
from pipelines.progress import Reporter


class _Stopwatch:
    """Seconds per modality: the time up to each report belongs to the modality reported."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._last = time.monotonic()

    def lap(self, modality: str) -> None:
        now = time.monotonic()
        self.seconds[modality] += now - self._last  # type: ignore[assignment]
        self._last = now

    def now(self, modality: str | None) -> float:
        """The seconds of a modality; None for all of them."""
        return self.seconds[modality] if modality else sum(self.seconds.values())


@contextmanager
def modality_bars(
    reporter: Reporter, modalities: Sequence[str], total: int, by_turns: bool
) -> Iterator[Progress]:
    """A bar for each modality, moved by telling a modality and how many more are through.

    Args:
        reporter: Where to tell progress.
        modalities: Which.
        total: Items of each.
        by_turns: Whether only one is worked on at a time: the time up to each report is then its.
    """
    watch = _Stopwatch()
    with ExitStack() as stack:
        bars = {
            name: stack.enter_context(
                reporter.bar(name, total, clock=partial(watch.now, name if by_turns else None))
            )
            for name in modalities
        }

        def progress(modality: str, count: int) -> None:
            watch.lap(modality)
            bars[modality](count)

        yield progress
