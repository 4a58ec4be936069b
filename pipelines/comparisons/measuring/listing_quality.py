"""What a system's lists are like beyond their hits, at 20, as means over users and seeds."""

import numpy as np

from pipelines.comparisons.measuring.outcomes import Judges, Outcome
from recommend import beyond
from recommend.features import FeatureStore

K = 20
# Diversity compares all pairs of each list by long vectors; it is a mean over evenly chosen users.
DIVERSITY_USERS = 500


def beyond_accuracy(
    outcome: Outcome, judges: Judges, vectors: np.ndarray | None
) -> dict[str, float | None]:
    """``coverage@20``, ``gini@20``, ``novelty@20``, ``popularity@20`` and ``diversity@20``.

    Args:
        outcome: The system.
        judges: The test users.
        vectors: (I, d) by which items are compared, a row of zeros for none; None if there are
            none, and then no diversity is told.
    """
    per_seed = [_of_lists(lists[:, :K], judges, vectors) for lists in outcome.lists]
    told: dict[str, float | None] = {}
    for name in per_seed[0]:
        values = np.array([own[name] for own in per_seed], np.float64)
        told[f"{name}@{K}"] = float(values.mean()) if np.isfinite(values).all() else None
    return told


def comparing_vectors(store: FeatureStore) -> np.ndarray:
    """One vector for each item, (I, d): those of its modalities, each of length one, joined."""
    parts = []
    for table in store.tables.values():
        norms = np.linalg.norm(table, axis=1, keepdims=True)
        parts.append(np.divide(table, norms, out=np.zeros_like(table), where=norms > 0))
    return np.concatenate(parts, axis=1)


def _of_lists(lists: np.ndarray, judges: Judges, vectors: np.ndarray | None) -> dict[str, float]:
    train = judges.log.split.train
    taken, n_users = train.item_degrees, int((train.user_degrees > 0).sum())
    return {
        "coverage": beyond.coverage(lists, train.n_items),
        "gini": beyond.gini(lists, train.n_items),
        "novelty": _mean(beyond.novelty(lists, taken, n_users)),
        "popularity": _mean(beyond.popularity(lists, taken)),
        "diversity": np.nan if vectors is None else _mean(_diversity(lists, vectors)),
    }


def _diversity(lists: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    chosen = np.unique(np.linspace(0, len(lists) - 1, DIVERSITY_USERS).astype(np.int64))
    listed, places = np.unique(lists[chosen], return_inverse=True)
    own = vectors[listed]  # -1 takes the last row, of no matter: it stays -1 below
    places = places.reshape(lists[chosen].shape)
    return beyond.diversity(np.where(lists[chosen] == beyond.NONE, beyond.NONE, places), own)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
