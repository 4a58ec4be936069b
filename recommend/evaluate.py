"""Full ranking under a named protocol, judged by the metrics."""

from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from recommend.interactions import Interactions, Split
from recommend.metrics import CUTOFFS, Metrics, measure
from recommend.models.base import Embeddings
from recommend.ranking import Ranking, rank

Protocol = Literal["strict", "mmrec"]
DEPTH = max(CUTOFFS)


def seen_items(
    split: Split, held_out: Literal["validation", "test"], protocol: Protocol
) -> csr_array:
    """What is masked, (U, I): training items; at test under ``strict`` validation items too.

    Args:
        split: All interactions.
        held_out: The part that is to be predicted.
        protocol: ``strict``, or ``mmrec`` for comparison with the tables of the MMRec toolbox.
    """
    if held_out == "test" and protocol == "strict":
        return csr_array(split.train.matrix + split.validation.matrix)
    return split.train.matrix


def evaluate(
    embeddings: Embeddings, held_out: Interactions, seen: csr_array, block: int | None = None
) -> tuple[Metrics, Ranking]:
    """Rank the catalogue for every user that has a held-out item, and measure.

    Args:
        embeddings: Vectors of all users and items.
        held_out: The interactions to be predicted.
        seen: (U, I), nonzero where an item is masked.
        block: Users at a time; None fits the block to memory.

    Returns:
        Metrics of those users, and the ranking that they come from, 50 deep.
    """
    users = np.flatnonzero(held_out.user_degrees)
    ranking = rank(embeddings, users, seen, DEPTH, block)
    return measure(users, hit_matrix(ranking, held_out), held_out.user_degrees[users]), ranking


def hit_matrix(ranking: Ranking, held_out: Interactions) -> np.ndarray:
    """Whether each ranked item is held out for its user, (n, k) bool."""
    keys = ranking.users[:, None].astype(np.int64) * held_out.n_items + ranking.items
    wanted = np.sort(held_out.keys)
    if not wanted.size:
        return np.zeros(keys.shape, bool)
    places = np.searchsorted(wanted, keys)
    places[places == wanted.size] = 0
    return wanted[places] == keys
