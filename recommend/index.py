"""Nearest neighbours through FAISS; the only file that imports it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from extract.errors import UserError

# From (n, d) vectors and k to rows and cosines, as `nearest` gives them.
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def nearest(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar other rows of every row, by cosine, exactly.

    Args:
        vectors: (n, d) float32, no zero row.
        k: Number of neighbours; at most n - 1 are found.

    Returns:
        Rows (n, k') int64 and cosines (n, k') float32 with k' = min(k, n - 1), most similar first.
    """
    n = len(vectors)
    k = min(k, n - 1)
    if k < 1:
        return np.empty((n, 0), np.int64), np.empty((n, 0), np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.ascontiguousarray(unit, np.float32)
    index = _faiss().IndexFlatIP(unit.shape[1])
    index.add(unit)
    cosines, rows = index.search(unit, k + 1)
    return _without_self(rows, cosines)


def _without_self(rows: np.ndarray, cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop each row from its own list; among many equals it may be missing, then drop the last."""
    n, width = rows.shape
    itself = rows == np.arange(n)[:, None]
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
