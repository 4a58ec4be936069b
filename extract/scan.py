"""The digests of a whole catalogue's contents, by which rows are known again.

Every picture file is read, but not decoded: a time stamp is no proof that nothing changed.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from extract.catalog import Catalog, content_of
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
        contents: `pack_digests` of their content digests, (n, 2).
        pictureless: Which of them have no picture file, (n,) bool.
    """

    contents: np.ndarray
    pictureless: np.ndarray


def pack_digests(digests: Sequence[str]) -> np.ndarray:
    """Content digests, 32 hexadecimal digits each, as an (n, 2) array of 8-byte numbers.

    Raises:
        ValueError: One is none of ours.
    """
    whole = np.frombuffer(bytes.fromhex("".join(digests)), ">u8")
    return whole.reshape(len(digests), 2).astype(np.uint64)


def scan(catalog: Catalog, progress: Callable[[int], None] = lambda count: None) -> Scan:
    """Digest every item's text and picture file.

    Args:
        catalog: The items.
        progress: Told how many more items are through.
    """
    contents = np.empty((len(catalog), 2), np.uint64)
    pictureless = np.ones(len(catalog), bool)

    def picture(row: int) -> bytes | None:
        try:
            return sha256(catalog.picture_bytes(row)).digest()
        except PictureProblem:
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        for rows in split(range(len(catalog)), BLOCK):
            start, stop = rows[0], rows[-1] + 1
            named = [
                row
                for row, path in zip(rows, catalog.images[start:stop], strict=True)
                if path.is_valid
            ]
            pictures = dict(zip(named, pool.map(picture, named), strict=True))
            texts = catalog.texts[start:stop].to_pylist()
            digests = [
                content_of(text, pictures.get(row)) for row, text in zip(rows, texts, strict=True)
            ]
            contents[start:stop] = pack_digests(digests)
            pictureless[start:stop] = [pictures.get(row) is None for row in rows]
            progress(len(rows))
    return Scan(contents, pictureless)


def absences(catalog: Catalog, rows: Rows) -> list[Problem]:
    """Why items have no picture file, for those of the rows that have none."""
    problems = []
    for row in map(int, rows):
        try:
            catalog.picture_bytes(row)
        except PictureProblem as problem:
            problems.append(Problem(catalog.item_id(row), "image", problem.kind, problem.detail))
    return problems
