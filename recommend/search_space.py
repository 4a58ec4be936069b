"""The vocabulary of search spaces: which values of a setting are worth trying.

A config class has its space beside its fields, as `search_space`, so that whoever changes a model
sees what is searched for it. What searches is elsewhere; here is only what may be tried.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

Value = bool | int | float | str


@dataclass(frozen=True)
class Choice:
    """One of a few values, without an order.

    Args:
        values: At least two, all different.

    Raises:
        ValueError: They are fewer, or not different.
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise ValueError(f"a choice is of two or more different values, found {self.values}")

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values by which the space is known to be valid: all."""
        return self.values

    def holds(self, value: object) -> bool:
        """Whether a value may be chosen."""
        return value in self.values


@dataclass(frozen=True)
class Range:
    """Any number from `low` to `high`, both included.

    Args:
        low: The least.
        high: The greatest.
        log: Whether factors count rather than differences.
        integer: Whether only whole numbers are meant.

    Raises:
        ValueError: The ends are not finite, in the wrong order, not whole where they should be, or
            not above zero where factors count.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        """Check the ends."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range goes up between two numbers, found {self.low}..{self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a range of factors starts above zero, found {self.low}")
        if self.integer and not all(isinstance(end, int) for end in self.ends):
            raise ValueError(f"a range of whole numbers has such ends, found {self.ends}")

    @property
    def ends(self) -> tuple[float, float]:
        """The values by which the space is known to be valid."""
        return self.low, self.high

    def holds(self, value: object) -> bool:
        """Whether a value lies in the range."""
        kinds = (int,) if self.integer else (int, float)
        return isinstance(value, kinds) and self.low <= value <= self.high


# From a setting's name to what may be tried.
SearchSpace = Mapping[str, Choice | Range]
