"""Lines that come often, told now and then."""

import time
from collections.abc import Callable

from pipelines.progress import SECONDS_BETWEEN_LINES


class Sparing:
    """Tells a line unless it has just told another one.

    Args:
        say: Where lines go.
        clock: Tells seconds.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._last: float | None = None

    def __call__(self, text: str) -> None:
        """A line that nobody misses if it is left out."""
        now = self._clock()
        if self._last is None or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self._say(text)
