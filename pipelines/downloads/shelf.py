"""Pictures on their way to disk: written at once, flushed and named many together.

A picture in the folder is whole, also after a power failure: it is written under a temporary name,
flushed, and then renamed. To flush one by one, in a thread beside the requests, took longer than
the requests did: at each call of the system one waits for the other.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from extract.files import naming, sync_folder, temporary_name
from pipelines.downloads.journal import Entry, Journal

# How many, or for how many seconds, pictures wait at most for their names.
TOGETHER, SECONDS = 128, 1.0


class Shelf:
    """Takes pictures and refusals; see `shelf`.

    Args:
        folder: Where the pictures go.
        journal: Where it is written down, once they are there.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder, self._journal = folder, journal
        self._waiting: list[Entry] = []
        self._flushed = time.monotonic()
        self._busy = asyncio.Lock()

    async def put(self, entry: Entry, picture: bytes = b"") -> None:
        """Take what became of one item, with its picture where there is one."""
        if entry.file:
            _write(self._folder / entry.file, picture)
        self._waiting.append(entry)
        late = time.monotonic() - self._flushed > SECONDS
        if len(self._waiting) >= TOGETHER or (late and not self._busy.locked()):
            await self.flush()

    async def flush(self) -> None:
        """Give what waits its names, once it is on disk; an interrupt does not stop that."""
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._busy:
            taken, self._waiting = self._waiting, []
            paths = [self._folder / entry.file for entry in taken if entry.file]
            written = [(temporary_name(path), path) for path in paths]
            try:
                await asyncio.to_thread(_flush, [temporary for temporary, _ in written])
                for temporary, path in written:
                    temporary.replace(path)
            finally:
                for temporary, _ in written:
                    temporary.unlink(missing_ok=True)
            sync_folder(self._folder)
            self._journal.add(taken)
            self._flushed = time.monotonic()


@asynccontextmanager
async def shelf(folder: Path, journal: Journal) -> AsyncIterator[Shelf]:
    """A shelf that is empty in the end, also after an interrupt."""
    taking = Shelf(folder, journal)
    try:
        yield taking
    finally:
        await taking.flush()


def _write(path: Path, picture: bytes) -> None:
    """Write a picture that is to be called so, under its temporary name."""
    temporary = temporary_name(path)
    try:
        with naming(path):
            temporary.write_bytes(picture)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _flush(paths: Sequence[Path]) -> None:
    """Flush files of one folder to disk: in one call for all where the system has one."""
    if not paths:
        return
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    for path in paths[:1] if syncfs else paths:
        with naming(path), path.open("rb") as file:
            if not syncfs:
                os.fsync(file.fileno())
            elif syncfs(file.fileno()):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
