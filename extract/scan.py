"""The digests of a whole catalogue's contents, by which rows are known again.

Every picture file is read, but not decoded: a time stamp is no proof that nothing changed.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import numpy as np
import pyarrow as pa

from extract.catalog import Catalog, content_digests
from extract.ledger import Problem
from extract.pictures import PictureProblem
from extract.planning import Rows, split

BLOCK = 4096
# Reading waits for the disk or the network more than it computes.
THREADS = 8


@dataclass(frozen=True)
class Scan:
    """What a catalogue's items contain now.

    Attributes:
        contents: `pack_digests` of their content digests, (n,).
        pictureless: Which of them have no picture file, (n,) bool.
    """

    contents: np.ndarray
    pictureless: np.ndarray


def pack_digests(digests: pa.ChunkedArray) -> np.ndarray:
    """A column of content digests, 32 hexadecimal digits each, as (n,) strings of 16 bytes.

    Raises:
        ValueError: One is none of ours.
    """
    whole = b"".join(_letters(chunk) for chunk in digests.chunks)
    if len(whole) != 32 * len(digests):
        raise ValueError(
            f"expected {len(digests)} digests of 32 letters, found {len(whole)} letters"
        )
    return np.frombuffer(bytes.fromhex(whole.decode()), "S16")


def scan(catalog: Catalog, progress: Callable[[int], None] = lambda count: None) -> Scan:
    """Digest every item's text and picture file.

    Args:
        catalog: The items.
        progress: Told how many more items are through.
    """
    contents = np.empty(len(catalog), "S16")
    pictureless = np.ones(len(catalog), bool)
    with ThreadPoolExecutor(THREADS) as pool:
        for rows in split(range(len(catalog)), BLOCK):
            block = slice(rows[0], rows[-1] + 1)
            named = rows[0] + np.flatnonzero(catalog.images[block].is_valid().to_numpy())
            pictures: list[bytes | None] = [None] * len(rows)
            for row, digest in zip(named, pool.map(partial(_picture, catalog), named), strict=True):
                pictures[row - rows[0]] = digest
            texts = catalog.texts[block].cast(pa.binary()).to_pylist()
            digests = content_digests(texts, pictures)
            contents[block] = np.frombuffer(b"".join(digests), "S32").astype("S16")
            pictureless[block] = [picture is None for picture in pictures]
            progress(len(rows))
    return Scan(contents, pictureless)


def _picture(catalog: Catalog, row: int) -> bytes | None:
    try:
        return sha256(catalog.picture_bytes(int(row))).digest()
    except PictureProblem:
        return None


def _letters(strings: pa.Array) -> bytes:
    return b"".join(strings.cast(pa.binary()).to_pylist())


def absences(catalog: Catalog, rows: Rows) -> list[Problem]:
    """Why items have no picture file, for those of the rows that have none."""
    problems = []
    for row in map(int, rows):
        try:
            catalog.picture_bytes(row)
        except PictureProblem as problem:
            problems.append(Problem(catalog.item_id(row), "image", problem.kind, problem.detail))
    return problems
