"""What lists are like beyond their hits: how much of the catalogue, how popular, how alike.

`lists` are the top k of each user, (U, k) rows of items, best first; -1 where a list is shorter.
"""

import numpy as np

NONE = -1
# Whose vectors are held at once: of 4,096 numbers each and lists of ten, 80 MB.
USERS_AT_ONCE = 256


def coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that is in at least one list.

    Args:
        lists: (U, k).
        n_items: Size of the catalogue.
    """
    return len(np.unique(lists[lists != NONE])) / n_items


def gini(lists: np.ndarray, n_items: int) -> float:
    """How unequally the places of the lists fall to items: 0 evenly, towards 1 all to one.

    Σ_i (2i - I - 1) c_i / (I Σ c), where c_1 ≤ ... ≤ c_I count how often each item is listed.

    Source: Gini, Variabilità e mutabilità, 1912; of lists: Fleder and Hosanagar, Blockbuster
    culture's next rise or fall, Management Science 55(5), 2009.

    Args:
        lists: (U, k).
        n_items: I, size of the catalogue; items in no list count, too.
    """
    counts = np.sort(np.bincount(lists[lists != NONE], minlength=n_items)).astype(np.float64)
    if not counts.sum():
        return 0.0
    ranks = np.arange(1, n_items + 1)
    return float(((2 * ranks - n_items - 1) * counts).sum() / (n_items * counts.sum()))


def novelty(lists: np.ndarray, taken_by: np.ndarray, n_users: int) -> np.ndarray:
    """Mean surprise of each user's list in bits, (U,): -log2 of the share of users with the item.

    An item that nobody took counts as taken by one. An empty list gives NaN.

    Source: Vargas and Castells, Rank and relevance in novelty and diversity metrics, RecSys 2011
    (inverse user frequency).

    Args:
        lists: (U, k).
        taken_by: How many users took each item in training, (I,).
        n_users: Number of users in training.
    """
    surprise = -np.log2(np.maximum(taken_by, 1) / n_users)
    return _mean_of_listed(surprise[lists], lists)


def popularity(lists: np.ndarray, taken_by: np.ndarray) -> np.ndarray:
    """Mean number of users who took the items of each user's list, (U,); NaN for an empty list.

    Args:
        lists: (U, k).
        taken_by: How many users took each item in training, (I,).
    """
    return _mean_of_listed(np.asarray(taken_by, np.float64)[lists], lists)


def diversity(lists: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """How unlike the items of each user's list are: mean of 1 - cosine over its pairs, (U,).

    Items without a vector, a row of zeros, are left out; with fewer than two left it is NaN.

    Source: Ziegler et al., Improving recommendation lists through topic diversification, WWW 2005.

    Args:
        lists: (U, k).
        vectors: (I, d) vectors by which items are compared.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norms, out=np.zeros_like(vectors, np.float64), where=norms > 0)
    blocks = [lists[first : first + USERS_AT_ONCE] for first in range(0, len(lists), USERS_AT_ONCE)]
    return np.concatenate([np.empty(0), *(_unlikeness(block, unit) for block in blocks)])


def _unlikeness(lists: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """`diversity` by vectors of length one, or of zeros."""
    usable = (lists != NONE) & unit[lists].any(axis=2)
    # |Σ v|² holds the cosines of all ordered pairs, and n of items with themselves.
    totals = np.where(usable[:, :, None], unit[lists], 0.0).sum(axis=1)
    n = usable.sum(axis=1).astype(np.float64)
    cosines, pairs = (totals**2).sum(axis=1) - n, n * (n - 1)
    return 1 - np.divide(cosines, pairs, out=np.full(len(lists), np.nan), where=pairs > 0)


def _mean_of_listed(values: np.ndarray, lists: np.ndarray) -> np.ndarray:
    listed = lists != NONE
    counts = listed.sum(axis=1)
    sums = np.where(listed, values, 0.0).sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(lists), np.nan), where=counts > 0)
