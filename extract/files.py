"""Files that are whole or not there, on a disk or in an object store, and digests of content.

A path in an object store looks like a `pathlib.Path`, but is none: libraries that open files by
name cannot use it. What they need is here.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

READ_ROWS = 16_384
REQUESTS_AT_ONCE = 16
TEMPORARY = re.compile(r"\..+\.(?P<process>[0-9]+)\.tmp")


def digest(parts: Iterable[str]) -> str:
    """A short SHA-256 over strings, each ended by a zero byte so that no two lists collide."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return hasher.hexdigest()[:32]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_remote(path: Path) -> bool:
    """Whether a path lies in an object store rather than on a disk."""
    return not isinstance(path, Path)


def store_of(path: Path) -> Any:
    """The fsspec file system of a path in an object store."""
    return path.fs  # type: ignore[attr-defined]


def key_of(path: Path) -> str:
    """What a path in an object store is called there, bucket first."""
    return path.path  # type: ignore[attr-defined]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path on disk to write; on success it takes the place of `path`.

    A reader sees the old file or the whole new one, never a torn one; on any error the temporary
    file is removed and the old one stays. On a disk the new file is flushed and renamed, so that
    it outlives a power failure; to an object store it is uploaded, where objects come whole.
    """
    if is_remote(path):
        with TemporaryDirectory(prefix="mmrec-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            store_of(path).put_file(str(temporary), key_of(path))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of the system say that it is of `path`, as a failed write does not say."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise


def temporary_name(path: Path) -> Path:
    """Where a file is written before it takes its place; `sweep` knows it by this name."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep(folder: Path) -> int:
    """Remove what `replacing` left in a folder when its process was killed.

    The folder should be locked: a process on another machine that shares it is not seen here.

    Returns:
        How many files were removed.
    """
    if is_remote(folder) or not folder.is_dir():
        return 0  # in an object store nothing is left
    removed = 0
    for path in folder.glob(".*.tmp"):
        name = TEMPORARY.fullmatch(path.name)
        if name and not is_running(int(name["process"])):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def is_running(process: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def move(source: Path, target: Path) -> None:
    """Give a file another name in the same store, in place of what has that name."""
    if is_remote(source):
        store = store_of(source)
        store.cp_file(key_of(source), key_of(target))
        store.rm_file(key_of(source))
        return
    source.replace(target)
    sync_folder(target.parent)


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """A path on disk with a file's bytes, for libraries that need one: itself, or a download.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not is_remote(path):
        yield path
        return
    with TemporaryDirectory(prefix="mmrec-") as folder:
        copy = Path(folder) / path.name
        store_of(path).get_file(key_of(path), str(copy))
        yield copy


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file's table.

    Args:
        path: The file.
        columns: Only these; of an object nothing else is fetched.

    Raises:
        FileNotFoundError: There is no such file.
        pyarrow.ArrowException: It is torn; or an OSError.
    """
    if not is_remote(path):
        return _read(path, columns)
    if columns is None:
        whole = pa.BufferReader(path.read_bytes())
        return _read(whole, None)
    # Parquet asks for just the ranges it needs; a cache would fetch megabytes around each.
    with store_of(path).open(key_of(path), "rb", cache_type="none") as file:
        return _read(file, columns)


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; none where it does not exist."""
    if not is_remote(folder):
        return sorted(e.name for e in folder.iterdir() if e.is_dir()) if folder.is_dir() else []
    try:
        entries = store_of(folder).ls(key_of(folder), detail=True)
    except FileNotFoundError:
        return []
    return sorted(Path(each["name"]).name for each in entries if each["type"] == "directory")


def upload(folder: Path, names: Sequence[str], target: Path) -> None:
    """Copy files of a folder on disk to one in an object store, many at a time."""
    sources = [str(folder / name) for name in names]
    store_of(target).put(sources, [key_of(target / name) for name in names])


def remove_others(folder: Path, names: Iterable[str]) -> None:
    """Remove all files of a folder in an object store but those of the given names."""
    kept = {key_of(folder / name) for name in names}
    store = store_of(folder)
    others = [key for key in store.find(key_of(folder)) if key not in kept]
    # One by one: where many are given, a name with brackets or a star is taken for a pattern.
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        list(pool.map(store.rm_file, others))


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs: indented, keys as given, one newline at the end."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read(file: Any, columns: list[str] | None) -> pa.Table:
    # Batch by batch, which needs little more memory than the table; reading it in one go, twice.
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        schema = parquet.schema_arrow
        if columns is not None:
            fields = [schema.field(name) for name in columns if name in schema.names]
            schema = pa.schema(fields, schema.metadata)
        batches = parquet.iter_batches(READ_ROWS, columns=columns)
        return pa.Table.from_batches(batches, schema)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk, so that a rename outlives a power failure."""
    # Some file systems cannot do that to a folder, and need not.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
