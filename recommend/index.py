"""Nearest neighbours through FAISS; the only file that imports it.

Up to `EXACT_UP_TO` rows every row is compared with every other. Beyond, the rows are divided into
lists around the centres of a k-means (IVF), and a row is compared with those of the nearest lists
only: of as many lists as it takes to find `WANTED_RECALL` of the true neighbours, but of no more
than `MOST_LISTS` of them. The recall is measured against the exact neighbours of a sample of rows.
Both ways are deterministic.

Why not a graph index (HNSW): in a trial with 300,000 × 64 vectors in 3,000 clusters, one thread and
k = 10, lists found 99 % in about 14 s and the graph 96 % in about 52 s, both with the building (the
search timed on 20,000 rows and scaled); and FAISS builds another graph each time that it uses more
than one thread.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from extract.errors import UserError

EXACT_UP_TO = 100_000
WANTED_RECALL = 0.95
# Share of the lists; above it comparing all is hardly slower.
MOST_LISTS = 1 / 16
# Rows whose exact neighbours are found as well, to measure the recall of a faster search.
SAMPLED_ROWS = 1000
# Neighbours whose cosines differ by less are equally near, such as copies of one picture.
EQUAL_COSINES = 1e-6


class Search(Protocol):
    """Who finds neighbours, as `nearest` does."""

    def __call__(
        self, vectors: np.ndarray, k: int, *, keep: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and cosines; `keep` is False for vectors that no other run will ask for."""


@dataclass(frozen=True)
class Found:
    """The neighbours of every row, and how they were found.

    Attributes:
        rows: (n, k') int64, most similar first.
        cosines: (n, k') float32.
        method: In words.
        recall: Share of the true neighbours of a sample of rows that are among those found.
    """

    rows: np.ndarray
    cosines: np.ndarray
    method: str
    recall: float


def nearest(vectors: np.ndarray, k: int, *, keep: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar other rows of every row, by cosine.

    Args:
        vectors: (n, d) float32, no zero row.
        k: Number of neighbours; at most n - 1 are found.
        keep: Of no meaning here, where nothing is kept.

    Returns:
        Rows (n, k') int64 and cosines (n, k') float32 with k' = min(k, n - 1), most similar first.
    """
    found = find(vectors, k)
    return found.rows, found.cosines


def find(vectors: np.ndarray, k: int) -> Found:
    """As `nearest`, with method and recall."""
    n = len(vectors)
    k = min(k, n - 1)
    if k < 1:
        return Found(np.empty((n, 0), np.int64), np.empty((n, 0), np.float32), "exact", 1.0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.ascontiguousarray(unit, np.float32)
    if n > EXACT_UP_TO:
        return _find_in_lists(unit, k)
    return Found(*_neighbours(_compare_all(unit), unit, np.arange(n), k), "exact", 1.0)


def method_for(n_rows: int) -> str:
    """What decides, beside the vectors and k, which neighbours are found."""
    if n_rows <= EXACT_UP_TO:
        return "exact"
    return (
        f"ivf, {_lists(n_rows)} lists, at most {MOST_LISTS} of them, recall {WANTED_RECALL} "
        f"of {SAMPLED_ROWS} rows"
    )


def sampled_rows(n_rows: int) -> np.ndarray:
    """The rows, ascending, on which recall is measured."""
    size = min(SAMPLED_ROWS, n_rows)
    return np.sort(np.random.default_rng(n_rows).choice(n_rows, size, replace=False))


def _compare_all(unit: np.ndarray) -> Any:
    index = _faiss().IndexFlatIP(unit.shape[1])
    index.add(unit)
    return index


def _find_in_lists(unit: np.ndarray, k: int) -> Found:
    faiss, n_lists = _faiss(), _lists(len(unit))
    # The factory normalises the centres, as inner products need it.
    index = faiss.index_factory(unit.shape[1], f"IVF{n_lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(unit)
    index.add(unit)
    sample = sampled_rows(len(unit))
    exact = _neighbours(_compare_all(unit), unit[sample], sample, k)[1]
    index.nprobe, most = 4, max(4, int(MOST_LISTS * n_lists))
    while _recall(_neighbours(index, unit[sample], sample, k)[1], exact) < WANTED_RECALL:
        if index.nprobe >= most:
            break
        index.nprobe = min(2 * index.nprobe, most)
    rows, cosines = _neighbours(index, unit, np.arange(len(unit)), k)
    method = f"ivf, {index.nprobe} of {n_lists} lists"
    return Found(rows, cosines, method, _recall(cosines[sample], exact))


def _lists(n_rows: int) -> int:
    return int(4 * n_rows**0.5)


def _recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the found that are as near as the k-th of the exact, by the cosines of both."""
    return float((found >= exact[:, -1:] - EQUAL_COSINES).mean())


def _neighbours(
    index: Any, vectors: np.ndarray, own: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of vectors that stand in the index themselves, in the rows `own`."""
    cosines, rows = index.search(vectors, k + 1)
    short = np.flatnonzero((rows < 0).any(axis=1))  # the lists searched had too few rows
    if short.size:
        probes, index.nprobe = index.nprobe, index.nlist
        cosines[short], rows[short] = index.search(vectors[short], k + 1)
        index.nprobe = probes
    return _without_self(rows, cosines, own)


def _without_self(
    rows: np.ndarray, cosines: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Drop each row from its own list; among many equals it may be missing, then drop the last."""
    n, width = rows.shape
    itself = rows == own[:, None]
    itself[~itself.any(axis=1), -1] = True
    return rows[~itself].reshape(n, width - 1), cosines[~itself].reshape(n, width - 1)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            'item graphs need faiss, which is not installed; pip install "mmrec[cpu]" or '
            '"mmrec[gpu]"'
        ) from error
    return faiss
