"""Where numbers lie on a drawn line, in percent of its width, and which are written at it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from pipelines.pages.numbers import share, signed

FAR = 5


@dataclass(frozen=True)
class Axis:
    """A line from `low` to `high`, with `margin` percent of its width left free on each side."""

    low: float
    high: float
    margin: float = 4.0

    def at(self, value: float) -> float:
        """Where a number lies, in percent of the width; what is outside lies at the end."""
        within = min(max(value, self.low), self.high)
        part = (within - self.low) / (self.high - self.low)
        return round(self.margin + part * (100 - 2 * self.margin), 2)

    def outside(self, value: float) -> bool:
        """Whether a number is beyond an end."""
        return not self.low <= value <= self.high

    def ticks(self, most: int = 4, sign: bool = False) -> list[tuple[float, str]]:
        """Place and text of round numbers, at most `most` of them."""
        step = round_step((self.high - self.low) / most)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        write = signed if sign else share
        numbers = [k * step for k in range(first, last + 1)]
        return [(self.at(x), "0" if abs(x) < step / 2 else write(x, decimals)) for x in numbers]


def differences(values: Iterable[float | None]) -> Axis:
    """A line around zero; what is more than five times the usual size lies outside it.

    One system that did not learn at all would otherwise hide the differences between all others.

    Args:
        values: What will be drawn; None and what is not finite do not count.
    """
    known = [x for x in values if x is not None and math.isfinite(x)]
    most = FAR * median(map(abs, known)) if known else 0.0
    return axis([x for x in known if abs(x) <= most], zero=True)


def axis(values: Iterable[float | None], zero: bool = False) -> Axis:
    """A line that holds all given numbers with a little room; also zero, if wanted.

    Args:
        values: What will be drawn; None and what is not finite do not count.
        zero: Whether zero has to be on it.
    """
    known = [x for x in values if x is not None and math.isfinite(x)] + ([0.0] if zero else [])
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = (high - low) * 0.03 or max(abs(high), 0.1) * 0.1
    return Axis(low - room, high + room)


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))
