from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from recommend import index
from recommend.graphs import item_neighbours
from recommend.index import find, nearest
from recommend.neighbours import RECENT, StoredNeighbours, neighbours_key


@pytest.fixture
def vectors():
    return np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)


class Counting:
    """`find`, and how often it was asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, vectors, k):
        self.asked += 1
        return find(vectors, k)


def test_what_was_found_once_is_not_searched_again(tmp_path, vectors):
    search = Counting()
    for _ in range(3):
        rows, cosines = StoredNeighbours(tmp_path / "kept", search)(vectors, 5)
        expected_rows, expected_cosines = nearest(vectors, 5)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_array_equal(cosines, expected_cosines)
        assert rows.dtype == expected_rows.dtype
    assert search.asked == 1


def test_other_vectors_or_another_k_are_searched(tmp_path, vectors):
    search = Counting()
    stored = StoredNeighbours(tmp_path, search)
    moved = vectors.copy()
    moved[7, 3] = np.nextafter(moved[7, 3], 2)
    for asked in ((vectors, 5), (vectors, 6), (moved, 5), (vectors[::-1], 5), (vectors[:29], 5)):
        rows, _ = stored(*asked)
        np.testing.assert_array_equal(rows, nearest(*asked)[0])
    assert search.asked == 5
    keys = {neighbours_key(v, 5) for v in (vectors, moved, vectors[::-1], vectors.reshape(15, 16))}
    assert len(keys) == 4


def test_a_torn_file_is_searched_again(tmp_path, vectors):
    search = Counting()
    stored = StoredNeighbours(tmp_path, search)
    stored(vectors, 5)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    np.testing.assert_array_equal(stored(vectors, 5)[0], nearest(vectors, 5)[0])
    assert search.asked == 2
    stored(vectors, 5)
    assert search.asked == 2


def test_swapped_features_have_another_graph(tmp_path, vectors):
    """What the best-known toolbox gets wrong: its cache is named by k alone."""
    stored = StoredNeighbours(tmp_path)
    present = np.ones(30, bool)
    noise = np.random.default_rng(1).standard_normal((30, 8)).astype(np.float32)
    graphs = [item_neighbours(v, present, 5, search=stored) for v in (vectors, noise, vectors)]
    assert (graphs[0] != graphs[1]).nnz > 0
    assert (graphs[0] != graphs[2]).nnz == 0


def test_what_is_not_to_be_kept_is_remembered_for_a_while_only(tmp_path, vectors):
    search = Counting()
    stored = StoredNeighbours(tmp_path, search)
    for _ in range(2):
        rows, _ = stored(vectors, 5, keep=False)
        np.testing.assert_array_equal(rows, nearest(vectors, 5)[0])
    assert search.asked == 1
    for other in range(1, RECENT + 1):
        stored(vectors + other, 5, keep=False)
    stored(vectors, 5, keep=False)
    assert search.asked == 1 + RECENT + 1
    assert not list(tmp_path.iterdir())


def test_reports_tell_how_neighbours_were_found_also_those_kept(tmp_path, vectors, monkeypatch):
    many = np.random.default_rng(2).standard_normal((400, 8)).astype(np.float32)
    monkeypatch.setattr(index, "EXACT_UP_TO", 300)
    stored, again = StoredNeighbours(tmp_path), StoredNeighbours(tmp_path, search=None)
    assert stored.reports == []
    for search in (stored, again):
        search(vectors, 5)
        search(many, 10)
        search(many, 10)
    exact, approximate = stored.reports
    assert exact == {"rows": 30, "size": 8, "k": 5, "method": "exact", "recall": 1.0}
    found = find(many, 10)
    assert approximate == {
        "rows": 400,
        "size": 8,
        "k": 10,
        "method": found.method,
        "recall": found.recall,
    }
    assert 0 < found.recall < 1
    assert again.reports == stored.reports


def test_of_equal_searches_the_worst_recall_is_reported(tmp_path, vectors):
    recalls = iter([0.97, 0.96, 0.99])

    def search(vectors, k):
        return replace(find(vectors, k), method="ivf", recall=next(recalls))

    stored = StoredNeighbours(tmp_path, search)
    for other in range(3):
        stored(vectors + other, 5, keep=False)
    assert [report["recall"] for report in stored.reports] == [0.96]


def test_another_method_has_another_key(vectors, monkeypatch):
    exact = neighbours_key(vectors, 5)
    monkeypatch.setattr(index, "EXACT_UP_TO", 10)
    approximate = neighbours_key(vectors, 5)
    monkeypatch.setattr(index, "WANTED_RECALL", 0.99)
    assert len({exact, approximate, neighbours_key(vectors, 5)}) == 3


def test_a_file_without_a_report_is_searched_again(tmp_path, vectors):
    rows, cosines = nearest(vectors, 5)
    file = tmp_path / f"{neighbours_key(vectors, 5)}.safetensors"
    save_file({"rows": rows.astype(np.int32), "cosines": cosines}, file)
    search = Counting()
    StoredNeighbours(tmp_path, search)(vectors, 5)
    assert search.asked == 1
