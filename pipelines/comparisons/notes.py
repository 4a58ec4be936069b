"""What a task says while it is done: to the process that handed it out, where that one listens."""

from collections.abc import Callable

from pipelines.progress import Reporter

_listener: Callable[[str], None] | None = None


def listen(listener: Callable[[str], None]) -> None:
    """Have all notes of this process from now on."""
    global _listener
    _listener = listener


class NotingReporter(Reporter):
    """Says its lines as notes, and shows no bars."""

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def say(self, text: str) -> None:
        """One line."""
        if _listener is not None:
            _listener(text)
