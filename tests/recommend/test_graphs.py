"""Graphs against naive dense computations."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from support.cosines import naive_neighbours

from recommend.graphs import (
    item_neighbours,
    prune_by_degree,
    prune_uniformly,
    symmetric_normalise,
    user_neighbours,
)


def test_symmetric_normalisation_by_hand():
    matrix = csr_array(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    half = 1 / 2**0.5
    wanted = [[half, 1 / 2, 0], [0, half, 0], [0, 0, 0]]
    np.testing.assert_allclose(symmetric_normalise(matrix).toarray(), wanted, rtol=1e-12)


def test_symmetric_normalisation_is_a_block_of_the_whole_adjacency():
    generator = np.random.default_rng(2)
    r = (generator.random((7, 9)) < 0.4).astype(float)
    whole = np.block([[np.zeros((7, 7)), r], [r.T, np.zeros((9, 9))]])
    degrees = whole.sum(axis=1)
    root = np.divide(1, np.sqrt(degrees), out=np.zeros(16), where=degrees > 0)
    wanted = root[:, None] * whole * root
    np.testing.assert_allclose(symmetric_normalise(csr_array(r)).toarray(), wanted[:7, 7:])


@pytest.mark.parametrize("weighted", [False, True])
def test_item_neighbours_agree_with_the_dense_formula(weighted):
    vectors = np.random.default_rng(4).standard_normal((20, 5)).astype(np.float32)
    rows, cosines = naive_neighbours(vectors, 4)
    adjacency = np.zeros((20, 20))
    for item, neighbours in enumerate(rows):
        for other in neighbours:
            adjacency[item, other] = max(cosines[item, other], 0) if weighted else 1
    root = 1 / np.sqrt(adjacency.sum(axis=1))
    got = item_neighbours(vectors, np.ones(20, bool), 4, weighted=weighted).toarray()
    np.testing.assert_allclose(got, root[:, None] * adjacency * root, atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_unusable_rows_are_nobodys_neighbours(bad):
    vectors = np.random.default_rng(5).standard_normal((40, 6)).astype(np.float32)
    vectors[[3, 17, 39]] = bad
    present = np.ones(40, bool)
    present[8] = False
    graph = item_neighbours(vectors, present, 5).toarray()
    lost = [3, 8, 17, 39]
    assert not graph[lost].any()
    assert not graph[:, lost].any()
    assert ((graph > 0).sum(axis=1) == np.where(np.isin(np.arange(40), lost), 0, 5)).all()
    assert np.isfinite(graph).all()


def test_no_usable_row_gives_an_empty_graph():
    assert item_neighbours(np.zeros((4, 3), np.float32), np.ones(4, bool), 2).nnz == 0


def test_uniform_pruning_keeps_a_share_of_the_edges_each_as_likely():
    generator = np.random.default_rng(7)
    matrix = csr_array((generator.random((6, 5)) < 0.5).astype(np.float32))
    n = 2000
    counts = sum(prune_uniformly(matrix, 0.5, generator).toarray() for _ in range(n))
    kept = int(0.5 * matrix.nnz)
    assert counts.sum() == n * kept
    share = counts[matrix.toarray() > 0] / n
    np.testing.assert_allclose(share, kept / matrix.nnz, atol=4 * 0.5 / n**0.5)


def test_pruning_keeps_a_share_of_the_edges_and_prefers_the_unpopular():
    generator = np.random.default_rng(7)
    matrix = csr_array((generator.random((60, 40)) < np.linspace(0.02, 0.9, 40)).astype(np.float32))
    kept_edges = np.zeros(matrix.shape)
    for _ in range(50):
        kept = prune_by_degree(matrix, 0.25, generator)
        assert kept.nnz == int(0.25 * matrix.nnz)
        assert (kept.toarray() <= matrix.toarray()).all()
        kept_edges += kept.toarray()
    share = kept_edges.sum(axis=0) / np.maximum(matrix.sum(axis=0), 1)
    assert share[:10].mean() > 1.5 * share[-10:].mean()


def test_pruning_draws_with_the_stated_probability():
    """One edge is kept of three, so its chance must be its weight 1/√(d_u d_i)."""
    matrix = csr_array(np.array([[1.0, 1.0], [0.0, 1.0]]))
    weights = np.array([1 / 2**0.5, 1 / 2, 1 / 2**0.5])
    generator, n = np.random.default_rng(8), 4000
    counts = sum(prune_by_degree(matrix, 0.34, generator).toarray() for _ in range(n))
    got = counts[[0, 0, 1], [0, 1, 1]] / n
    np.testing.assert_allclose(got, weights / weights.sum(), atol=4 * 0.5 / n**0.5)


@pytest.mark.parametrize("block_pairs", [1, 60, 10**6])
def test_user_neighbours_agree_with_the_dense_product(block_pairs):
    generator = np.random.default_rng(9)
    r = (generator.random((30, 8)) < np.linspace(0.05, 0.5, 30)[:, None]).astype(np.float32)
    r[[4, 29]], r[:, 3] = 0, 0
    common = r @ r.T
    wanted = np.zeros((30, 30))
    for user in range(30):
        others = [u for u in range(30) if u != user and common[user, u] > 0]
        for other in sorted(others, key=lambda u, row=user: (-common[row, u], u))[:5]:
            wanted[user, other] = common[user, other]
    got = user_neighbours(csr_array(r), 5, block_pairs=block_pairs)
    np.testing.assert_array_equal(got.toarray(), wanted)
    assert len({tuple(row) for row in np.sort(wanted)}) > 3


def test_without_interactions_nobody_has_neighbours():
    assert user_neighbours(csr_array((4, 3), dtype=np.float32), 2).nnz == 0
