"""Recall of cold items: by hand, and of orders that know nothing."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from pipelines.comparisons.measuring.unseen import Unseen
from recommend.significance import compare


def test_items_are_counted_alike_however_often_they_are_held_out():
    # Item 1 is held out by three users, item 4 by one, item 0 by nobody.
    users, items = np.array([0, 1, 2, 2]), np.array([1, 1, 1, 4])
    unseen = Unseen(np.arange(10, 16), csr_array((3, 6)), users, items, 3, 1.0)
    assert unseen.by_item(np.array([1, 1, 0, 0])).tolist() == pytest.approx([2 / 3, 0])
    masked = csr_array(np.array([[1, 1, 1, 0, 0, 0], [0] * 6, [0] * 6]))
    unseen = Unseen(np.arange(10, 16), masked, users, items, 3, 1.0)
    # Two of three unmasked for user 0, two of six for the others.
    assert unseen.chance(2) == pytest.approx(((2 / 3 + 2 / 6 + 2 / 6) / 3 + 2 / 6) / 2)


def test_orders_drawn_by_chance_differ_by_user_but_not_by_item():
    """What holds for one order of few items holds for all users: they are no evidence of their own.

    Each order is nearly the same for all users, as that of items without interactions is.
    """
    generator = np.random.default_rng(0)
    n_users, n_items, k, pairs = 300, 60, 12, 60
    popularity = 1 / np.arange(1, n_items + 1) ** 0.8
    held_out = np.zeros((n_users, n_items), bool)
    for row in held_out:
        chosen = generator.choice(n_items, 5, replace=False, p=popularity / popularity.sum())
        row[chosen] = True
    users, items = np.nonzero(held_out)
    masked = csr_array((n_users, n_items))
    unseen = Unseen(np.arange(n_items), masked, users, items, n_users, 1.0)

    def hits():
        scores = generator.standard_normal(n_items)
        scores = scores + 0.5 * generator.standard_normal((n_users, n_items))
        bar = np.sort(scores, axis=1)[:, [-k]]
        return (scores >= bar)[users, items]

    told_apart = {"user": 0, "item": 0}
    for _ in range(pairs):
        ours, theirs = hits(), hits()
        by_unit = {
            "user": [np.bincount(users, own) / 5 for own in (ours, theirs)],
            "item": [unseen.by_item(own) for own in (ours, theirs)],
        }
        for unit, (own, other) in by_unit.items():
            told_apart[unit] += compare(own, other, generator).p <= 0.05
    assert told_apart["user"] > pairs / 2
    assert told_apart["item"] <= 0.065 * pairs
