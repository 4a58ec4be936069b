"""How well parts of the catalogue are found: recall of the held-out items of each slice.

A slice is a set of items, such as the rarely taken ones or those without a picture. Of a slice
only its own held-out items count, in lists of the whole catalogue. They are pooled: most users hold
out no item of a small slice, and a mean over the others would be of few.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array


@dataclass(frozen=True)
class SliceHits:
    """What was found of each slice, by user, so that users can be drawn anew for an interval.

    Attributes:
        found: Held-out items of the slice within the list, (U, S).
        held_out: Held-out items of the slice, (U, S).
    """

    found: np.ndarray
    held_out: np.ndarray

    def recall(self) -> np.ndarray:
        """Share of each slice's held-out pairs that were found, (S,); NaN where it has none."""
        totals = self.held_out.sum(axis=0)
        return np.divide(
            self.found.sum(axis=0), totals, out=np.full(len(totals), np.nan), where=totals > 0
        )


def slice_hits(
    lists: np.ndarray, users: np.ndarray, items: np.ndarray, slice_of: np.ndarray, n_slices: int
) -> SliceHits:
    """Count, for each user and slice, held-out items and those in the user's list.

    Args:
        lists: The top k of each user, (U, k) rows of items; -1 where a list is shorter.
        users: The list that each held-out pair belongs to, a row of `lists`, (n,).
        items: The item of each pair, (n,).
        slice_of: Each item's slice, 0..S-1, or -1 for none, (I,).
        n_slices: S.
    """
    return member_hits(lists, users, items, slice_of[:, None] == np.arange(n_slices))


def member_hits(
    lists: np.ndarray, users: np.ndarray, items: np.ndarray, members: np.ndarray
) -> SliceHits:
    """The same of slices that may share items, as categories do.

    Args:
        lists: The top k of each user, (U, k) rows of items; -1 where a list is shorter.
        users: The list that each held-out pair belongs to, a row of `lists`, (n,).
        items: The item of each pair, (n,).
        members: Whether each item is in each slice, (I, S) bool.
    """
    in_list = (lists[users] == items[:, None]).any(axis=1)
    shape = (len(lists), len(members))
    counted = members.astype(np.int64)
    found = coo_array((in_list.astype(np.int64), (users, items)), shape=shape).tocsr()
    held_out = coo_array((np.ones(len(users), np.int64), (users, items)), shape=shape).tocsr()
    return SliceHits(np.asarray(found @ counted), np.asarray(held_out @ counted))


def popularity_slices(taken_by: np.ndarray, n_slices: int) -> np.ndarray:
    """Slices of items of about equal shares of the interactions, the rarest items first, (I,).

    Items of one degree are never parted, so that a slice may be empty; those that nobody took are
    in the first one.

    Args:
        taken_by: How many users took each item in training, (I,).
        n_slices: S.
    """
    order = np.argsort(taken_by, kind="stable")
    before = np.cumsum(taken_by[order]) - taken_by[order]
    total = max(int(taken_by.sum()), 1)
    by_degree: dict[int, int] = {}
    for degree, start in zip(taken_by[order].tolist(), before.tolist(), strict=True):
        by_degree.setdefault(degree, min(start * n_slices // total, n_slices - 1))
    return np.array([by_degree[degree] for degree in taken_by.tolist()], np.int64)
