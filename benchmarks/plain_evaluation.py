"""Evaluation as one writes it first: a loop over users, to be compared with."""

import math

import numpy as np

from recommend.interactions import Interactions
from recommend.metrics import CUTOFFS


def plain_evaluation(
    users: np.ndarray,
    items: np.ndarray,
    train: Interactions,
    held_out: Interactions,
    chosen: np.ndarray,
) -> dict[str, list[float]]:
    """All metrics of each chosen user, as recommend.evaluate gives them but for ties.

    Args:
        users: (U, d) vectors.
        items: (I, d) vectors.
        train: What is masked.
        held_out: What is to be predicted.
        chosen: Rows of users that have a held-out item.
    """
    values: dict[str, list[float]] = {}
    depth = min(max(CUTOFFS), len(items))
    seen, wanted = train.matrix, held_out.matrix
    for user in chosen.tolist():
        scores = items @ users[user]
        scores[seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
        best = np.argpartition(-scores, depth - 1)[:depth]
        best = best[np.argsort(-scores[best])]
        relevant = set(wanted.indices[wanted.indptr[user] : wanted.indptr[user + 1]].tolist())
        for name, value in plain_metrics(best.tolist(), relevant).items():
            values.setdefault(name, []).append(value)
    return values


def plain_metrics(ranked: list[int], relevant: set[int]) -> dict[str, float]:
    """The metrics of one user, by their definitions."""
    values: dict[str, float] = {}
    for k in CUTOFFS:
        ranks = [rank for rank, item in enumerate(ranked[:k], 1) if item in relevant]
        possible = min(len(relevant), k)
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, possible + 1))
        values |= {
            f"recall@{k}": len(ranks) / len(relevant),
            f"precision@{k}": len(ranks) / k,
            f"ndcg@{k}": sum(1 / math.log2(rank + 1) for rank in ranks) / ideal,
            f"map@{k}": sum(n / rank for n, rank in enumerate(ranks, 1)) / possible,
            f"mrr@{k}": 1 / ranks[0] if ranks else 0.0,
            f"hit@{k}": float(bool(ranks)),
        }
    return values
