"""One process at a time writes a folder; the second is told who the first one is.

On a disk the kernel holds the lock, and lets go of it however the process ends; in an object store
it is an object of its own.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from extract.files import is_remote, sweep, write_json
from extract.holders import Holder, refusal
from extract.leases import leased

LOCK, WRITER = ".lock", ".writer.json"


def locked(folder: Path, doing: str) -> AbstractContextManager[None]:
    """Keep every other process from writing a folder meanwhile; does not wait.

    Temporary files that killed processes left in the folder are removed first.

    Args:
        folder: The folder; made if absent.
        doing: What is done to it, such as ``"extracting features to"``; told to others.

    Raises:
        UserError: Another process is writing it; or, in an object store, took it over because
            this one had not renewed its lock for minutes.
    """
    if is_remote(folder):
        return leased(folder / LOCK, Holder(doing))
    return _locked_on_disk(folder, Holder(doing))


@contextmanager
def _locked_on_disk(folder: Path, holder: Holder) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock, writer = FileLock(folder / LOCK), folder / WRITER
    try:
        # Not at once: what was opened may be what the former holder is just removing.
        lock.acquire(timeout=0.3, poll_interval=0.02)
    except Timeout as error:
        raise refusal(folder, _read(writer)) from error
    try:
        write_json(writer, asdict(holder))
        sweep(folder)
        yield
    finally:
        writer.unlink(missing_ok=True)
        # While it is held: who opens it now and locks it later sees that it has no name any more.
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _read(writer: Path) -> Holder | None:
    try:
        return Holder.parse(writer.read_bytes())
    except OSError:  # its holder has not written it yet, or has just ended
        return None
