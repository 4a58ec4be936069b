"""Ranking metrics: from a hit matrix to one number per user.

hits[u, r] says whether the item at rank r (from 0) is one of the user's n_u held-out items.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CUTOFFS = (5, 10, 20, 50)


@dataclass(frozen=True)
class Metrics:
    """Per-user values of all metrics at all cutoffs.

    Attributes:
        users: (n,) rows of the users that have a held-out item.
        values: Name, such as ``recall@20``, to (n,) float64.
    """

    users: np.ndarray
    values: Mapping[str, np.ndarray]

    def means(self) -> dict[str, float]:
        """The mean over the users, unrounded; 0 where there is no user."""
        return {
            name: float(values.mean()) if values.size else 0.0
            for name, values in self.values.items()
        }


def recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Hits among the first k / all n_u held-out items."""
    found: np.ndarray = hits[:, :k].sum(axis=1)
    return found / relevant


def precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Hits among the first k / k."""
    return hits[:, :k].sum(axis=1) / k


def hit(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """1 if there is a hit among the first k, else 0."""
    return np.asarray(hits[:, :k].any(axis=1), np.float64)


def ndcg(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Σ 1/log2(rank + 1) over the hits, divided by the same sum of the best ranking.

    The best ranking has its first min(n_u, k) places relevant; ranks count from 1.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    width = min(k, hits.shape[1])
    ideal = np.cumsum(discounts)[np.minimum(relevant, k) - 1]
    gain: np.ndarray = (hits[:, :width] * discounts[:width]).sum(axis=1)
    return gain / ideal


def average_precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Σ precision@rank over the ranks of the hits / min(n_u, k)."""
    top = hits[:, :k]
    precisions = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
    return (precisions * top).sum(axis=1) / np.minimum(relevant, k)


def reciprocal_rank(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """1 / rank of the first hit among the first k, 0 without one."""
    top = hits[:, :k]
    return np.where(top.any(axis=1), 1 / (top.argmax(axis=1) + 1), 0)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit": hit,
}


# Every metric that is measured by default, such as ``recall@20``.
NAMES = tuple(f"{name}@{k}" for name in METRICS for k in CUTOFFS)


def measure(
    users: np.ndarray, hits: np.ndarray, relevant: np.ndarray, cutoffs: Sequence[int] = CUTOFFS
) -> Metrics:
    """All metrics at all cutoffs.

    Args:
        users: (n,) rows of the users.
        hits: (n, depth) bool; depth is the largest cutoff, or less in a small catalogue.
        relevant: (n,) number of held-out items of each user, at least 1.
        cutoffs: The values of k.
    """
    return Metrics(
        users,
        {
            f"{name}@{k}": function(hits, relevant, k)
            for name, function in METRICS.items()
            for k in cutoffs
        },
    )
