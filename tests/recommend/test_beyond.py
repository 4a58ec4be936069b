"""Beyond accuracy: by hand, and by naive loops."""

from itertools import combinations

import numpy as np
import pytest

from recommend.beyond import coverage, diversity, gini, novelty, popularity

LISTS = np.array([[0, 1], [0, 2], [0, -1]])


def some(seed, users=30, k=7, items=40):
    generator = np.random.default_rng(seed)
    lists = np.stack([generator.permutation(items)[:k] for _ in range(users)])
    lists[generator.random(lists.shape) < 0.1] = -1
    return lists, generator


def test_by_hand():
    assert coverage(LISTS, 6) == 3 / 6
    # counts 0 0 0 1 1 3 at places 1..6: (-5*0 -3*0 -1*0 +1*1 +3*1 +5*3) / (6 * 5)
    assert gini(LISTS, 6) == pytest.approx(19 / 30)
    assert novelty(LISTS, np.array([8, 4, 0]), 8).tolist() == [0.5, 1.5, 0]
    assert popularity(LISTS, np.array([8, 4, 1])).tolist() == [6, 4.5, 8]


def test_the_ends_of_gini():
    assert gini(np.array([[0], [1], [2]]), 3) == 0
    assert gini(np.zeros((5, 1), int), 4) == pytest.approx(3 / 4)  # 1 - 1/I
    assert gini(np.full((2, 3), -1), 4) == 0


def test_of_alike_and_unlike_items():
    vectors = np.array([[2.0, 0], [1, 0], [0, 3], [0, 0]])
    found = diversity(np.array([[0, 1], [0, 2], [0, 3], [-1, -1]]), vectors)
    assert found[:2] == pytest.approx([0, 1])
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("seed", range(5))
def test_diversity_is_that_of_a_loop_over_pairs(seed):
    lists, generator = some(seed)
    vectors = generator.normal(size=(40, 5))
    vectors[3] = 0
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    expected = []
    for row in lists:
        kept = [item for item in row if item not in (-1, 3)]
        expected.append(np.mean([1 - unit[a] @ unit[b] for a, b in combinations(kept, 2)]))
    assert diversity(lists, vectors) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_gini_is_the_mean_difference_of_all_pairs(seed):
    """Half the mean absolute difference, by the mean."""
    lists, _ = some(seed)
    counts = np.array([(lists == item).sum() for item in range(40)])
    expected = np.abs(counts[:, None] - counts[None]).mean() / 2 / counts.mean()
    assert gini(lists, 40) == pytest.approx(expected)


def test_empty_lists_are_told():
    empty = np.full((2, 3), -1)
    assert coverage(empty, 4) == 0
    assert np.isnan(novelty(empty, np.ones(4), 2)).all()
