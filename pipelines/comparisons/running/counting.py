"""How many cells are done, and how long the others will take."""

from collections import defaultdict
from statistics import mean

from pipelines.comparisons.planning.grid import Cell


class Count:
    """The cells of a grid, counted.

    Args:
        total: How many there are.
        processes: How many are trained at a time.
    """

    def __init__(self, total: int, processes: int) -> None:
        self.total = total
        self._processes = processes
        self._told = 0
        self._waiting: dict[str, Cell] = {}
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def waits(self, cell: Cell) -> None:
        """A cell is queued."""
        self._waiting[cell.name] = cell

    def tell(self, cell: Cell | None = None, seconds: float | None = None) -> str:
        """The next one, such as ``cell 7 of 40``.

        Args:
            cell: Which has come to an end, of those that waited.
            seconds: What it took; None if that says nothing of others.
        """
        self._told += 1
        if cell is not None:
            self._waiting.pop(cell.name, None)
            if seconds is not None:
                self._seconds[_kind(cell)].append(seconds)
        return f"cell {self._told} of {self.total}"

    def left(self) -> float | None:
        """Seconds until all are done, by those of the same model and regime, or else by all.

        None if nothing waits, or nothing is known.
        """
        if not self._waiting or not self._seconds:
            return None
        of_all = mean(each for seconds in self._seconds.values() for each in seconds)
        means = {kind: mean(seconds) for kind, seconds in self._seconds.items()}
        expected = sum(means.get(_kind(cell), of_all) for cell in self._waiting.values())
        return expected / self._processes


def _kind(cell: Cell) -> tuple[str, str]:
    return cell.config.model["name"], cell.config.feature_source


def duration(seconds: float) -> str:
    """As one would say it: ``12 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
