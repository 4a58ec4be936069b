"""Lines of a text file, compressed or not, none of which may be endless."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from extract.errors import UserError
from pipelines.progress import Advance

T = TypeVar("T")
LONGEST = 1 << 20
CHUNK = 4 << 20
MB = 1_000_000
GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def nobody(position: int) -> None:
    """Is told the place in a file, and does nothing."""


def read_lines(
    path: Path, longest: int = LONGEST, tell: Callable[[int], None] = nobody
) -> Iterator[bytes | None]:
    r"""The lines of a file, without what ends them, ``\n`` or ``\r\n``.

    Args:
        path: A file of text, compressed by gzip if it begins so.
        longest: How many bytes a line may have.
        tell: As of `read_blocks`.

    Yields:
        Each line; None for one that is longer, of which no more than that is kept in memory.

    Raises:
        UserError: There is no such file, or the compressed file is torn.
    """
    for block in ahead(read_blocks(path, longest, tell)):
        yield from lines_of(block, longest)


def lines_of(block: bytes, longest: int = LONGEST) -> list[bytes | None]:
    """The lines of a block, as `read_lines` yields them."""
    return [line if len(line) <= longest else None for line in block.split(b"\n")]


def read_blocks(
    path: Path, longest: int = LONGEST, tell: Callable[[int], None] = nobody
) -> Iterator[bytes]:
    r"""As `read_lines`, but a few megabytes of lines at a time.

    Args:
        path: A file of text, compressed by gzip if it begins so.
        longest: How many bytes a line may have.
        tell: Called with the place in the file up to which it was read.

    Yields:
        Whole lines with ``\n`` between them. One that is too long may have lost its end, but is
        still too long.
    """
    rest = b""
    for chunk in _chunks(path, tell):
        end = chunk.rfind(b"\n")
        if end < 0:
            # Two more bytes than may be: too long, even if a \r goes from their end.
            rest = (rest + chunk)[: longest + 2]
            continue
        block = b"".join((rest, memoryview(chunk)[:end]))
        if b"\r" in block:
            block = (block + b"\n").replace(b"\r\n", b"\n")[:-1]
        rest = chunk[end + 1 :]
        yield block
    if rest:
        yield rest


def ahead(values: Iterator[T]) -> Iterator[T]:
    """The same values, none of which is None, each made in a thread while the last one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, values, None)
        while (value := coming.result()) is not None:
            coming = thread.submit(next, values, None)
            yield value


def megabytes(advance: Advance) -> Callable[[int], None]:
    """What moves a bar of megabytes to a place in the file."""
    told = 0

    def tell(position: int) -> None:
        nonlocal told
        advance(position // MB - told)
        told = position // MB

    return tell


def _chunks(path: Path, tell: Callable[[int], None]) -> Iterator[bytes]:
    """Some megabytes of text after the other."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    with pa.OSFile(str(path)) as source:
        compressed = source.read(len(GZIP)) == GZIP
        source.seek(0)
        # Arrow decompresses half as fast again as Python, and lets other threads work meanwhile.
        file = pa.CompressedInputStream(source, "gzip") if compressed else source
        chunk = _read(file, path).removeprefix(BYTE_ORDER_MARK)
        while chunk:
            tell(source.tell())
            yield chunk
            chunk = _read(file, path)


def _read(file: pa.NativeFile, path: Path) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        if error.errno:  # of the disk, not of what lies there
            raise
        raise UserError(
            f"{path} should be a whole gzip file, found: {error}; remove it and fetch it again"
        ) from error
