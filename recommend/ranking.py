"""The k best items for many users, exactly, in blocks, with defined ties."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from extract.errors import UserError
from recommend.models.base import Embeddings

# Scores held at once; 2²⁵ floats are 128 MB.
BLOCK_SCORES = 2**25


@dataclass(frozen=True)
class Ranking:
    """Items by falling score, equal scores by rising row; masked items stand last with -inf.

    Attributes:
        users: (n,) rows of the users.
        items: (n, k) rows of the items.
        scores: (n, k).
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray


def rank(
    embeddings: Embeddings, users: np.ndarray, seen: csr_array, k: int, block: int | None = None
) -> Ranking:
    """Rank the whole catalogue for some users.

    Args:
        embeddings: Vectors of all users and items.
        users: (n,) int64 rows of the users to rank for.
        seen: (U, I), nonzero where an item is masked.
        k: How many items; no more than the catalogue has.
        block: Users at a time; None fits the block to 128 MB of scores.

    Raises:
        UserError: A score is NaN or infinite.
    """
    n_items = embeddings.items.shape[0]
    k = min(k, n_items)
    block = block or max(1, BLOCK_SCORES // n_items)
    parts = list(_blocks(embeddings, users, seen, k, block))
    if not parts:
        return Ranking(users, np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    items, scores = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return Ranking(users, items, scores)


def _blocks(
    embeddings: Embeddings, users: np.ndarray, seen: csr_array, k: int, block: int
) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(users), block):
        rows = users[start : start + block]
        scores = embeddings.scores(rows)
        masked = seen[rows].tocoo()
        scores[
            torch.from_numpy(masked.row.astype(np.int64)),
            torch.from_numpy(masked.col.astype(np.int64)),
        ] = -torch.inf
        columns, values = top_k(scores, k)
        if not (values < torch.inf).all():  # NaN, or an overflow, which top_k puts first
            raise UserError(
                "scores are not finite, so there is nothing to rank by; train again with a smaller "
                "train.learning_rate, and look at the features with mmrec-check"
            )
        yield columns, values


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, equal ones by rising column.

    torch.topk leaves the order of equal values open, within the k and at their edge. The first is
    mended by sorting the k; the second by choosing among all columns that equal the k-th.

    Args:
        scores: (n, m), no NaN.
        k: At most m.

    Returns:
        Columns (n, k) int64 and scores (n, k).
    """
    values, columns = scores.topk(k, dim=1)
    edge = values[:, -1:]
    torn = (scores >= edge).sum(dim=1) > k
    if torn.any():
        columns[torn] = _first_of_equals(scores[torn], edge[torn], k)
    columns = columns.sort(dim=1).values
    values = scores.gather(1, columns)
    order = values.argsort(dim=1, descending=True, stable=True)
    return columns.gather(1, order), values.gather(1, order)


def _first_of_equals(scores: Tensor, edge: Tensor, k: int) -> Tensor:
    """All columns above the edge, and the first of those that equal it, k in all; (n, k)."""
    above, equal = scores > edge, scores == edge
    room = k - above.sum(dim=1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=1) <= room))
    return chosen.nonzero()[:, 1].reshape(-1, k)
