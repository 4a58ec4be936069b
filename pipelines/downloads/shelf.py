"""Pictures on their way to disk: many are written and flushed together, away from the requests.

A picture in the folder is whole, also after a power failure: it is written under a temporary name,
flushed, and then renamed. One by one that would take longer than the requests do.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from extract.files import sync_folder, temporary_name
from pipelines.downloads.journal import Entry, Journal

TOGETHER = 64


class Shelf:
    """Takes pictures and refusals; see `shelf`.

    Args:
        folder: Where the pictures go.
        journal: Where it is written down, once they are there.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder, self._journal = folder, journal
        self._waiting: list[tuple[Entry, bytes]] = []
        self._busy = asyncio.Lock()

    async def put(self, entry: Entry, picture: bytes = b"") -> None:
        """Take what became of one item, with its picture where there is one."""
        self._waiting.append((entry, picture))
        if len(self._waiting) >= TOGETHER:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits."""
        async with self._busy:
            taken, self._waiting = self._waiting, []
            await asyncio.to_thread(self._store, taken)

    def _store(self, taken: Sequence[tuple[Entry, bytes]]) -> None:
        written: list[tuple[Path, Path]] = []
        try:
            for entry, picture in taken:
                if entry.file:
                    path = self._folder / entry.file
                    written.append((temporary_name(path), path))
                    _write(written[-1][0], picture)
            for temporary, path in written:
                temporary.replace(path)
        except OSError:
            for temporary, _ in written:
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(self._folder)
        self._journal.add([entry for entry, _ in taken])


@asynccontextmanager
async def shelf(folder: Path, journal: Journal) -> AsyncIterator[Shelf]:
    """A shelf that is empty in the end, also after an interrupt."""
    taking = Shelf(folder, journal)
    try:
        yield taking
    finally:
        await taking.flush()


def _write(path: Path, picture: bytes) -> None:
    # Unbuffered: each further call of the system waits for the requests to make way.
    with path.open("wb", buffering=0) as file:
        if file.write(picture) < len(picture):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file.fileno())
