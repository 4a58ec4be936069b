"""Which pairs of a picture and a text there are, which of them are duplicates, which are held out.

Items that share a picture or a text are not each other's negatives: the other's text fits just as
well. They, and items that share a value of a column such as a product's code, are held out
together, so that nothing of what is held out was seen in another colour.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from extract.errors import UserError

# A ranking of fewer pairs says nothing of which encoder is better.
FEWEST_HELD_OUT = 2
# Of a held-out part, that a family may be.
LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class Holdout:
    """Places among the pairs, ascending: for training, for choosing the best, for the figures."""

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def duplicate_groups(pictures: Sequence[Hashable], texts: Sequence[Hashable]) -> np.ndarray:
    """Numbers such that pairs that share a picture or a text, also over others, have the same.

    Args:
        pictures: What each of the n pairs shows, such as a digest.
        texts: What each says.

    Returns:
        (n,) int64, from 0 without gaps.
    """
    return _components([pictures, texts])


def families(groups: np.ndarray, values: Sequence[Hashable] | None) -> np.ndarray:
    """Numbers such that pairs of one group, or of one value, also over others, have the same.

    Args:
        groups: Of duplicates, (n,).
        values: Of a column, n of them, of which None joins nothing; None for no column.
    """
    if values is None:
        return groups
    # Where there is no value, one of its own.
    own = [("", row) if value is None else value for row, value in enumerate(values)]
    return _components([groups.tolist(), own])


def hold_out(families: np.ndarray, shares: tuple[float, float], seed: int) -> Holdout:
    """Draw whole families until validation and test have their shares of the pairs.

    Args:
        families: (n,).
        shares: Of validation and of test.
        seed: Of the order in which families are drawn.

    Raises:
        UserError: A part has too few pairs.
    """
    n = len(families)
    order = np.random.default_rng(seed).permutation(families.max() + 1 if n else 0)
    # One that would fill a part alone, such as of all items with a placeholder for a picture, comes
    # last, which is for training.
    sizes = np.bincount(families, minlength=len(order))
    order = order[np.argsort(sizes[order] > LARGEST_SHARE * min(shares) * n, kind="stable")]
    drawn = np.argsort(order)[families]  # when a pair's family is drawn
    sizes = sizes[order]
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(order) else sizes
    # A family belongs to the part in which its first pair falls.
    bounds = np.array([shares[1], shares[0] + shares[1]]) * n
    part = np.searchsorted(bounds, before, side="right")[drawn]
    test, validation, training = (np.flatnonzero(part == number) for number in range(3))
    for name, places in (("test", test), ("validation", validation), ("training", training)):
        if len(places) < FEWEST_HELD_OUT:
            other = "smaller" if name == "training" else "larger"
            raise UserError(
                f"of {n:,} items with a picture and a text only {len(places)} are for {name}; "
                f"at least {FEWEST_HELD_OUT} are needed: give more items, or a {other} --holdout"
            )
    return Holdout(training, validation, test)


def _components(columns: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """The connected components of rows that are joined by equal values of a column."""
    n = len(columns[0])
    rows: list[int] = []
    nodes: list[int] = []
    used = n
    for column in columns:
        numbers: dict[Hashable, int] = {}
        nodes += [used + numbers.setdefault(value, len(numbers)) for value in column]
        rows += range(n)
        used += len(numbers)
    joined = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, nodes)), shape=(used, used))
    found = connected_components(joined, directed=False)[1][:n]
    return np.unique(found, return_inverse=True)[1].astype(np.int64)
