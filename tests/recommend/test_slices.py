"""Slices: by hand, and by a loop over users."""

import numpy as np
import pytest

from recommend.slices import popularity_slices, slice_hits

LISTS = np.array([[0, 1], [3, 2], [1, -1]])


def test_by_hand():
    # user 0 holds out 0 (found) and 4, user 1 item 2 (found), user 2 item 3
    users, items = np.array([0, 0, 1, 2]), np.array([0, 4, 2, 3])
    hits = slice_hits(LISTS, users, items, np.array([0, 0, 1, 1, 0]), 3)
    assert hits.found.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert hits.held_out.tolist() == [[2, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert hits.recall()[:2].tolist() == [1 / 2, 1 / 2]
    assert np.isnan(hits.recall()[2])


def test_items_of_no_slice_do_not_count():
    hits = slice_hits(LISTS, np.array([0, 1]), np.array([0, 2]), np.array([-1, 0, 0, 0]), 1)
    assert hits.held_out.sum() == 1
    assert hits.recall().tolist() == [1]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_a_loop_counts(seed):
    generator = np.random.default_rng(seed)
    lists = np.stack([generator.permutation(30)[:6] for _ in range(20)])
    pairs = {(int(u), int(i)) for u, i in generator.integers(0, (20, 30), (80, 2))}
    slice_of = generator.integers(-1, 4, 30)
    found, held_out = np.zeros((20, 4), int), np.zeros((20, 4), int)
    for user, item in pairs:
        if slice_of[item] >= 0:
            held_out[user, slice_of[item]] += 1
            found[user, slice_of[item]] += item in lists[user]
    users, items = np.array(sorted(pairs)).T
    hits = slice_hits(lists, users, items, slice_of, 4)
    assert np.array_equal(hits.found, found)
    assert np.array_equal(hits.held_out, held_out)


def test_slices_of_popularity_share_the_interactions():
    # 12 interactions: the six items of one make up the first half, those of two and four the rest
    degrees = np.array([4, 1, 1, 1, 2, 1, 1, 1, 0])
    assert popularity_slices(degrees, 2).tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 0]


def test_items_of_one_degree_stay_together():
    degrees = np.array([3] * 10 + [0] * 5)
    slices = popularity_slices(degrees, 4)
    assert set(slices[:10].tolist()) == {0}
    assert popularity_slices(np.zeros(3, int), 4).tolist() == [0, 0, 0]


def test_slices_are_in_order_of_popularity():
    degrees = np.random.default_rng(0).zipf(1.5, 500)
    slices = popularity_slices(degrees, 4)
    for a in range(4):
        for b in range(a):
            if (slices == a).any() and (slices == b).any():
                assert degrees[slices == b].max() < degrees[slices == a].min()
    shares = np.bincount(slices, degrees, 4) / degrees.sum()
    assert shares[0] > 0.15
