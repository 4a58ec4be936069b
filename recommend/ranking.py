"""The k best items for many users, exactly, in blocks, with defined ties."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from extract.errors import UserError
from recommend.models.base import Embeddings
from recommend.native import call, usable

# Scores held at once. On a CPU a tile of 2²⁰ (4 MB) is ranked while it is still in the caches; a
# GPU wants few large ones.
TILE_SCORES = {"cpu": 2**20, "cuda": 2**26}
TILE_ITEMS = 2048


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
    """Rank the whole catalogue for some users, a tile of users and items at a time.

    Args:
        embeddings: Vectors of all users and items.
        users: (n,) int64 rows of the users to rank for.
        seen: (U, I), nonzero where an item is masked.
        k: How many items; no more than the catalogue has.
        block: Users at a time; None fits tiles to the caches.

    Raises:
        UserError: A score is NaN or infinite.
    """
    n_items = embeddings.items.shape[0]
    k = min(k, n_items)
    tile = TILE_SCORES[embeddings.device.type]
    width = min(n_items, TILE_ITEMS if embeddings.device.type == "cpu" else tile)
    block = block or max(1, tile // width)
    native = isinstance(embeddings.users, Tensor) and usable(embeddings.users)
    lists = _NativeLists if native else _TorchLists
    parts = []
    for start in range(0, len(users), block):
        rows = users[start : start + block]
        best = lists(rows, seen, k, embeddings.device)
        for first in range(0, n_items, width):
            best.merge(embeddings.scores(rows, first, first + width), first)
        parts.append(best.ranked())
    if not parts:
        return Ranking(users, np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    items, scores = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return Ranking(users, items, scores)


class _Lists(ABC):
    """The k best items so far of some users; tiles come by rising item.

    Args:
        rows: (n,) rows of the users.
        seen: (U, I), nonzero where an item is masked; its columns are sorted.
        k: How many items.
        device: Where the scores lie.
    """

    def __init__(self, rows: np.ndarray, seen: csr_array, k: int, device: torch.device) -> None:
        self.rows, self.seen, self.k = rows, seen, k
        self.items = torch.empty((len(rows), k), dtype=torch.int64, device=device)
        self.scores = torch.empty((len(rows), k), device=device)

    @abstractmethod
    def merge(self, scores: Tensor, first: int) -> None:
        """Take (n, w) scores of the items first..first+w-1 into account; they are overwritten.

        Raises:
            UserError: A score is NaN or infinite.
        """

    @abstractmethod
    def ranked(self) -> tuple[Tensor, Tensor]:
        """Items (n, k) int64 and scores (n, k), best first."""


class _TorchLists(_Lists):
    """By torch's operations, on any device."""

    def merge(self, scores: Tensor, first: int) -> None:
        masked = self.seen[self.rows][:, first : first + scores.shape[1]].tocoo()
        places = (torch.from_numpy(axis.astype(np.int64)) for axis in (masked.row, masked.col))
        scores[*(axis.to(scores.device) for axis in places)] = -torch.inf
        columns, values = top_k(scores, min(self.k, scores.shape[1]))
        _check_finite((values < torch.inf).all())  # NaN, or an overflow, which top_k puts first
        columns = columns + first
        if first:
            columns = torch.cat([self.items, columns], dim=1)
            values = torch.cat([self.scores, values], dim=1)
            order, values = top_k(values, min(self.k, values.shape[1]))
            columns = columns.gather(1, order)
        self.items, self.scores = columns, values

    def ranked(self) -> tuple[Tensor, Tensor]:
        return self.items, self.scores


class _NativeLists(_Lists):
    """By the compiled loop, which looks only at what is greater than the k-th best so far."""

    def __init__(self, rows: np.ndarray, seen: csr_array, k: int, device: torch.device) -> None:
        super().__init__(rows, seen, k, device)
        self._rows = torch.from_numpy(rows)
        self._indptr, self._indices = (
            torch.from_numpy(array.astype(np.int32, copy=False))
            for array in (seen.indptr, seen.indices)
        )

    def merge(self, scores: Tensor, first: int) -> None:
        arrays = (scores, self._rows, self._indptr, self._indices, self.scores, self.items)
        bad = call("merge_best", *scores.shape, first, self.k, *arrays)
        _check_finite(not bad)

    def ranked(self) -> tuple[Tensor, Tensor]:
        call("sort_best", *self.scores.shape, self.scores, self.items)
        return self.items, self.scores


def _check_finite(finite: bool | Tensor) -> None:
    if not finite:
        raise UserError(
            "scores are not finite, so there is nothing to rank by; train again with a smaller "
            "train.learning_rate, and look at the features with mmrec-check"
        )


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
