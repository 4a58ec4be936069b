"""A text that grows by lines while a run goes on."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from extract.files import is_remote, replacing

SECONDS_BETWEEN_UPLOADS = 30.0


class Journal:
    """A file of lines.

    On a disk each line is there at once. Objects cannot grow, so in an object store the whole
    text is written again, at most twice a minute and at the end.

    Args:
        path: The file; one that is there is replaced.
        lines: What it begins with.

    Attributes:
        lines: All of them.
    """

    def __init__(self, path: Path, lines: Sequence[str] = ()) -> None:
        self._path = path
        self.lines = list(lines)
        self._uploaded = time.monotonic()
        if lines:
            self._write_all()
        else:
            path.unlink(missing_ok=True)

    def write(self, line: str) -> None:
        """Append a line."""
        self.lines.append(line)
        if not is_remote(self._path):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        elif time.monotonic() - self._uploaded > SECONDS_BETWEEN_UPLOADS:
            self._uploaded = time.monotonic()
            with suppress(Exception):  # the next one has all lines
                self._write_all()

    def close(self) -> None:
        """Write what is not written yet; more lines may follow nevertheless."""
        if self.lines and is_remote(self._path):
            self._write_all()

    def _write_all(self) -> None:
        with replacing(self._path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
