"""Logs and features of given sizes, drawn so that they cost what real ones cost.

Users have at least three training items and one for test, as after a k-core; degrees of users and
items are long-tailed (log-normal, with the spread of the Amazon sets). Vectors lie in clusters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recommend.features import FeatureStore
from recommend.interactions import Interactions, Split

LEAST = 3
USER_SPREAD, ITEM_SPREAD = 1.2, 1.3  # of the logarithms
ITEMS_PER_CLUSTER = 50
ITEM_NOISE = 0.5  # beside a cluster's 1: cosines of 0.8 within it


@dataclass(frozen=True)
class Size:
    """How large a data set is.

    Attributes:
        users: U.
        items: I.
        pairs: Number of training pairs.
        dims: Modality to vector size.
    """

    users: int
    items: int
    pairs: int
    dims: Mapping[str, int]


AMAZON = {"image": 4096, "text": 384}
SIZES = {
    "baby": Size(19_445, 7_050, 118_551, AMAZON),
    "sports": Size(35_598, 18_357, 218_409, AMAZON),
}


def simulated_split(size: Size, seed: int = 0) -> Split:
    """Training pairs, and one test pair for each user; no validation pairs.

    Args:
        size: The counts, met exactly.
        seed: Of the draw.
    """
    generator = np.random.default_rng(seed)
    degrees = _degrees(size, generator)
    users = np.repeat(np.arange(size.users), degrees + 1)
    items = _distinct_items(users, size.items, generator)
    test = np.zeros(users.size, bool)
    test[np.cumsum(degrees + 1) - 1] = True
    nothing = np.zeros(users.size, bool)
    return Split(*(_part(users, items, size, rows) for rows in (~test, nothing, test)))


def simulated_features(size: Size, seed: int = 0) -> FeatureStore:
    """Vectors in clusters of fifty items, the same items in each modality."""
    generator = np.random.default_rng(seed)
    n_clusters = -(-size.items // ITEMS_PER_CLUSTER)
    cluster = generator.integers(n_clusters, size=size.items)
    arrays = {}
    for modality, dim in size.dims.items():
        vectors = generator.standard_normal((n_clusters, dim), np.float32)[cluster]
        vectors += ITEM_NOISE * generator.standard_normal((size.items, dim), np.float32)
        arrays[modality] = vectors
    return FeatureStore.from_arrays(arrays, "simulated")


def _degrees(size: Size, generator: np.random.Generator) -> np.ndarray:
    """Training items of each user, (U,), not more than half the catalogue."""
    most, spare = size.items // 2, size.pairs - LEAST * size.users
    if spare < 0 or size.pairs > most * size.users:
        raise ValueError(
            f"{size.users} users with {LEAST} to {most} items each do not have {size.pairs} pairs"
        )
    weights = generator.lognormal(sigma=USER_SPREAD, size=size.users)
    degrees = np.minimum(LEAST + generator.multinomial(spare, weights / weights.sum()), most)
    while lacking := size.pairs - int(degrees.sum()):
        room = np.flatnonzero(degrees < most)
        degrees[generator.choice(room, min(lacking, room.size), replace=False)] += 1
    return degrees


def _distinct_items(users: np.ndarray, n_items: int, generator: np.random.Generator) -> np.ndarray:
    """An item for each row, none twice for a user; `users` ascend."""
    ends = np.cumsum(generator.lognormal(sigma=ITEM_SPREAD, size=n_items))

    def drawn(n: int) -> np.ndarray:
        places = np.searchsorted(ends, generator.random(n) * ends[-1], side="right")
        return np.minimum(places, n_items - 1)

    items = drawn(users.size)
    rows = np.arange(users.size)  # of users who may have an item twice
    while rows.size:
        keys = users[rows] * n_items + items[rows]
        order = np.argsort(keys)
        rows, keys = rows[order], keys[order]
        twice = rows[1:][keys[1:] == keys[:-1]]
        items[twice] = drawn(twice.size)
        again = np.zeros(users[-1] + 1, bool)
        again[users[twice]] = True
        rows = np.flatnonzero(again[users])
    return items


def _part(users: np.ndarray, items: np.ndarray, size: Size, rows: np.ndarray) -> Interactions:
    """Chosen rows, sorted as a log's are."""
    users, items = users[rows], items[rows]
    order = np.argsort(users * size.items + items)
    return Interactions(users[order], items[order], size.users, size.items)
