"""Neighbours against a naive loop, disagreement by hand, maps by what they keep apart."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from pipelines.pages import maps as maps_module
from pipelines.pages.contents import Space
from pipelines.pages.disagreements import disagreements, overlaps
from pipelines.pages.maps import map_of, maps
from pipelines.pages.spaces import space_of, taken_together
from pipelines.progress import Reporter
from recommend.interactions import Interactions

QUIET = Reporter(quiet=True)


def naive(vectors, k=12):
    """For each row the k others of the largest cosine, and the cosines; nothing for absent rows."""
    found = []
    there = [row for row, v in enumerate(vectors) if np.isfinite(v).all() and v.any()]
    for row, vector in enumerate(vectors):
        cosines = [
            (float(vector @ vectors[n] / np.linalg.norm(vector) / np.linalg.norm(vectors[n])), n)
            for n in there
            if n != row and row in there
        ]
        found.append(sorted(cosines, key=lambda pair: (-pair[0], pair[1]))[:k])
    return found


def check(space, wanted):
    assert [list(near) for near in space.neighbours] == [[n for _, n in own] for own in wanted]
    for cosines, own in zip(space.similarities, wanted, strict=True):
        assert np.allclose(cosines, [100 * cosine for cosine, _ in own], atol=0.501)


@pytest.mark.parametrize("n", [1, 2, 9, 60])
def test_nearest_by_cosine(n):
    vectors = np.random.default_rng(n).standard_normal((n, 7)).astype(np.float32)
    check(space_of("a", "b", "image", vectors), naive(vectors))


def test_absent_items_have_no_neighbours_and_are_nobodys():
    vectors = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    vectors[4], vectors[7, 1] = 0, np.nan
    space = space_of("a", "b", "image", vectors)
    check(space, naive(vectors))
    assert space.neighbours[4] == space.neighbours[7] == space.similarities[7] == ()
    nothing = space_of("a", "b", "text", np.zeros((3, 2), np.float32))
    assert nothing.neighbours == ((), (), ())


@pytest.mark.parametrize("at_once", [4, 256])
def test_taken_together(monkeypatch, at_once):
    monkeypatch.setattr("pipelines.pages.spaces.AT_ONCE", at_once)
    generator = np.random.default_rng(5)
    matrix = (generator.random((25, 30)) < 0.15).astype(np.float32)
    matrix[:, 11] = 0  # nobody's
    train = Interactions(*csr_array(matrix).tocoo().coords, 25, 30)
    shown = generator.permutation(30)[:22]
    columns = matrix[:, shown].T
    wanted = [[(c, n) for c, n in own if c > 0] for own in naive(columns.astype(np.float64))]
    space = taken_together(train, shown, QUIET)
    assert [len(near) for near in space.neighbours] == [len(own) for own in wanted]
    for row, own in enumerate(wanted):
        cosines = dict((n, c) for c, n in naive(columns.astype(np.float64), k=30)[row])
        # Among equal ones the order of two ways to compute them may differ in the last digit.
        assert np.allclose([cosines[n] for n in space.neighbours[row]], [c for c, _ in own])
        assert np.allclose(space.similarities[row], [100 * c for c, _ in own], atol=0.501)
        assert row not in space.neighbours[row]


def test_equal_cosines_stand_in_the_order_of_the_page():
    users, items = np.array([0, 0, 0, 0]), np.array([0, 1, 2, 3])
    train = Interactions(users, items, 1, 4)
    space = taken_together(train, np.array([2, 3, 0, 1]), QUIET)
    assert space.neighbours == ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2))
    assert set(space.similarities) == {(100, 100, 100)}


def space(name, modality, *neighbours):
    return Space(
        name=f"{name} · {modality}" if modality != "graph" else name,
        features=name,
        modality=modality,
        neighbours=neighbours,
        similarities=tuple((0,) * len(near) for near in neighbours),
    )


def test_overlap_by_hand():
    twelve = tuple(range(1, 13))
    one = space("a", "image", twelve, (1, 2, 3), (), (4, 5))
    other = space("a", "text", (12, 11, 10, 9, 8, 7, 20, 21, 22, 23, 1, 2), (3, 9), (1,), (5, 4, 6))
    # Of the first ten of each: 7, 8, 9, 10. Of the first two: none. Of two: both.
    assert overlaps(one, other) == (0.4, 0.0, None, 1.0)
    assert overlaps(other, one) == overlaps(one, other)
    assert overlaps(space("a", "image", (1, 2, 3)), space("b", "image", (3, 4, 5))) == (0.333,)


def test_which_spaces_are_held_against_which():
    spaces = [
        space(name, modality, ()) for name in ("a", "b") for modality in ("image", "text", "fused")
    ]
    spaces += [space("item graph · x", "graph", ()), space("taken together", "graph", ())]
    found = [(pair.one, pair.other) for pair in disagreements(spaces, "taken together")]
    assert found == [
        ("a · image", "a · text"),
        ("b · image", "b · text"),
        ("a · image", "b · image"),
        ("a · text", "b · text"),
        ("a · fused", "b · fused"),
        *((s.name, "taken together") for s in spaces[:6]),
    ]


def clusters(n, sizes=3):
    """Vectors around a few centres, and which centre each belongs to."""
    generator = np.random.default_rng(2)
    centre = np.arange(n) % sizes
    vectors = 5 * np.eye(sizes, 8)[centre] + 0.1 * generator.standard_normal((n, 8))
    return vectors.astype(np.float32), centre


@pytest.mark.parametrize("fitted", [60, 30])
def test_a_map_keeps_clusters_together(monkeypatch, fitted):
    monkeypatch.setattr(maps_module, "FITTED", fitted)
    vectors, centre = clusters(60)
    vectors[13] = 0
    xy = map_of(vectors, seed=0)
    assert xy[13] is None
    rows = [row for row in range(60) if row != 13]
    places = np.array([xy[row] for row in rows])
    assert places.min() == 0
    assert places.max() == 1000
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (centre[rows][distances.argmin(axis=1)] == centre[rows]).all()


def test_maps_are_repeatable_in_any_company(monkeypatch):
    monkeypatch.setattr(maps_module, "FITTED", 30)
    tables = [clusters(n)[0] for n in (50, 40, 30)]
    together = maps(tables, 0, QUIET)
    assert together == [map_of(table, 0) for table in tables]
    assert map_of(tables[0], 1) != together[0]


@pytest.mark.parametrize("n", [0, 4, 5])
def test_maps_of_hardly_anything(n):
    vectors = np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)
    assert len(map_of(vectors, 0)) == (n if n >= 5 else 0)


@pytest.mark.parametrize("dims", [1, 3])
def test_maps_of_equal_vectors(dims):
    xy = map_of(np.ones((8, dims), np.float32), 0)
    assert len(xy) == 8
    assert all(0 <= x <= 1000 and 0 <= y <= 1000 for x, y in xy)
