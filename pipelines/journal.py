"""A text that grows by lines while a run goes on."""

import time
from contextlib import suppress
from pathlib import Path

from extract.files import is_remote, replacing

SECONDS_BETWEEN_UPLOADS = 30.0


class Journal:
    """A file of lines, empty at first.

    On a disk each line is there at once. Objects cannot grow, so in an object store the whole
    text is written again, at most twice a minute and at the end.

    Args:
        path: The file; one that is there is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._uploaded = time.monotonic()
        path.unlink(missing_ok=True)

    def write(self, line: str) -> None:
        """Append a line."""
        if not is_remote(self._path):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            return
        self._lines.append(line + "\n")
        if time.monotonic() - self._uploaded > SECONDS_BETWEEN_UPLOADS:
            self._uploaded = time.monotonic()
            with suppress(Exception):  # the next one has all lines
                self._upload()

    def close(self) -> None:
        """Write what is not written yet; more lines may follow nevertheless."""
        if self._lines:
            self._upload()

    def _upload(self) -> None:
        with replacing(self._path) as temporary:
            temporary.write_text("".join(self._lines), encoding="utf-8")
