"""Nearest neighbours, exact and approximate, against all cosines."""

import numpy as np
import pytest
from support.cosines import naive_neighbours

from recommend import index
from recommend.index import find, method_for, nearest, sampled_rows


def clustered(n, size, clusters, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((clusters, size))
    spread = 0.6 * generator.standard_normal((n, size))
    return (centres[generator.integers(clusters, size=n)] + spread).astype(np.float32)


def test_nearest_agrees_with_all_cosines():
    vectors = np.random.default_rng(0).standard_normal((80, 12)).astype(np.float32)
    rows, cosines = nearest(vectors, 7)
    wanted, every = naive_neighbours(vectors, 7)
    np.testing.assert_array_equal(rows, wanted)
    np.testing.assert_allclose(cosines, np.take_along_axis(every, wanted, 1), atol=1e-6)
    found = find(vectors, 7)
    assert (found.method, found.recall) == ("exact", 1.0)


def test_nobody_is_its_own_neighbour_even_among_copies():
    rows, _ = nearest(np.ones((12, 4), np.float32), 3)
    assert rows.shape == (12, 3)
    assert (rows != np.arange(12)[:, None]).all()


@pytest.mark.parametrize(("n", "k", "width"), [(1, 5, 0), (3, 5, 2)])
def test_fewer_rows_than_neighbours(n, k, width):
    rows, cosines = nearest(np.eye(3, dtype=np.float32)[:n], k)
    assert rows.shape == cosines.shape == (n, width)


@pytest.fixture
def few_are_many(monkeypatch):
    monkeypatch.setattr(index, "EXACT_UP_TO", 1999)
    monkeypatch.setattr(index, "SAMPLED_ROWS", 200)


def naive_recall(found, vectors, k):
    """Share of the sampled rows' true neighbours that were found; no two are equally near."""
    wanted, _ = naive_neighbours(vectors, k)
    sample = sampled_rows(len(vectors))
    hits = [len(set(found.rows[row]) & set(wanted[row])) for row in sample]
    return sum(hits) / k / len(sample)


@pytest.mark.parametrize("clusters", [60, 2000])
def test_the_recall_of_a_faster_search_is_as_measured_naively(few_are_many, clusters):
    vectors = clustered(2000, 16, clusters)
    found = find(vectors, 10)
    assert found.method.startswith("ivf, ")
    assert found.recall == pytest.approx(naive_recall(found, vectors, 10), abs=1e-9)
    assert found.recall > 0.9 if clusters == 60 else 0.2 < found.recall < 0.9
    _, every = naive_neighbours(vectors, 10)
    np.testing.assert_allclose(found.cosines, np.take_along_axis(every, found.rows, 1), atol=1e-6)
    assert (np.diff(found.cosines, axis=1) <= 0).all()


def test_a_faster_search_gives_everyone_k_other_rows(few_are_many):
    # Copies fill whole lists, and a lonely row has a list for itself.
    vectors = np.ones((2000, 8), np.float32)
    vectors[1000:] = clustered(1000, 8, 5)
    vectors[-1] = -1
    rows, _ = nearest(vectors, 10)
    assert rows.min() >= 0
    assert (rows != np.arange(2000)[:, None]).all()
    assert all(len(set(row)) == 10 for row in rows)


def test_equally_near_neighbours_count_as_found(few_are_many):
    vectors = np.repeat(clustered(100, 8, 100), 20, axis=0)
    assert find(vectors, 10).recall == 1.0


@pytest.mark.parametrize("n", [500, 2000])
def test_a_search_is_deterministic(few_are_many, n):
    vectors = clustered(n, 16, 60)
    one, same = (find(vectors, 10) for _ in range(2))
    np.testing.assert_array_equal(one.rows, same.rows)
    np.testing.assert_array_equal(one.cosines, same.cosines)
    assert (one.method, one.recall) == (same.method, same.recall)


def test_the_method_depends_on_the_number_of_rows(few_are_many):
    assert method_for(1999) == "exact"
    assert method_for(2000).startswith("ivf, ")
    assert method_for(2000) != method_for(20_000)
