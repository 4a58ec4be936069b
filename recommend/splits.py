"""k-core, and which interactions are for training, validation and test: arrays in, arrays out.

The n interactions are given as two (n,) arrays, users and items, of anything that sorts: ids, or
rows numbered in the order of the ids. They are sorted before anything is drawn, so
that the answer depends on the pairs and the seed and never on the order of the rows in a file.
"""

from collections.abc import Sequence

import numpy as np

from extract.errors import UserError

TRAIN, VALIDATION, TEST = 0, 1, 2


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """The largest subset in which every user and every item occurs at least k times.

    Users and items with fewer are removed, again and again, until none is left to remove.

    Args:
        users: (n,) users.
        items: (n,) items.
        k: The least number of interactions; 0 and 1 keep everything.

    Returns:
        (n,) bool, true where an interaction stays.
    """
    user_rows, item_rows = _rows(users), _rows(items)
    kept = np.ones(len(users), bool)
    while True:
        of_users = np.bincount(user_rows[kept], minlength=len(users))
        of_items = np.bincount(item_rows[kept], minlength=len(users))
        stays = kept & (of_users[user_rows] >= k) & (of_items[item_rows] >= k)
        if np.array_equal(stays, kept):
            return kept
        kept = stays


def random_split(
    users: np.ndarray, items: np.ndarray, ratios: Sequence[float], seed: int
) -> np.ndarray:
    """Of each user's interactions, a random share for validation and one for test.

    A user with m interactions gives round(m · ratio) of them, but at least one, to each held-out
    part; a user who then would keep none for training (at 8:1:1, fewer than three interactions)
    gives nothing.

    Args:
        users: (n,) users.
        items: (n,) items.
        ratios: Shares of training, validation and test.
        seed: Seed of the draw.

    Returns:
        (n,) int64 of `TRAIN`, `VALIDATION`, `TEST`.
    """
    check_ratios(ratios)
    user_rows = _rows(users)
    sizes = _held_out(np.bincount(user_rows), ratios[VALIDATION], ratios[TEST])
    return _drawn(user_rows, items, *sizes, seed)


def mmrec_split(users: np.ndarray, items: np.ndarray, seed: int) -> np.ndarray:
    """The random split of the MMRec toolbox, about 8:1:1, by which the field's tables are made.

    Of m interactions of a user, fewer than ten but more than two, one goes to validation and one to
    test. Of ten or more the fifth part, rounded down, is held out, and half of that, rounded down,
    goes to validation. A user with one or two gives nothing. The toolbox sets no seed, so that the
    sizes can be repeated, but not its draw.

    Args:
        users: (n,) users.
        items: (n,) items.
        seed: Seed of the draw.

    Returns:
        (n,) int64 of `TRAIN`, `VALIDATION`, `TEST`.
    """
    user_rows = _rows(users)
    totals = np.bincount(user_rows)
    held_out = np.select([totals < 3, totals < 10], [0, 2], totals // 5)
    n_validation = held_out // 2
    return _drawn(user_rows, items, n_validation, held_out - n_validation, seed)


def temporal_split(timestamps: np.ndarray, ratios: Sequence[float]) -> np.ndarray:
    """Oldest for training, newest for test, by one clock for all users.

    The cuts are quantiles of the whole log's time, so that nothing a model learns from lies after
    anything it is asked for. Interactions of one moment are never parted. Users whose whole
    history lies after a cut have nothing for training.

    Args:
        timestamps: (n,) times, of any unit.
        ratios: Shares of training, validation and test.

    Returns:
        (n,) int64 of `TRAIN`, `VALIDATION`, `TEST`.

    Raises:
        UserError: So many interactions share a moment that a part would be empty.
    """
    check_ratios(ratios)
    ordered = np.sort(timestamps)
    labels = np.full(len(timestamps), TRAIN)
    for label, before in ((VALIDATION, ratios[TRAIN]), (TEST, ratios[TRAIN] + ratios[VALIDATION])):
        first = round(before * len(ordered))
        if first < len(ordered):
            labels[timestamps >= ordered[first]] = label
    sizes = np.bincount(labels, minlength=3)
    if any(size == 0 and ratio > 0 for size, ratio in zip(sizes, ratios, strict=True)):
        raise UserError(
            f"a temporal split of {len(timestamps)} interactions with {np.unique(timestamps).size} "
            f"distinct times leaves a part empty (train, validation, test: {sizes.tolist()}); "
            "give other ratios or a random split"
        )
    return labels


def item_cold_split(items: np.ndarray, ratios: Sequence[float], seed: int) -> np.ndarray:
    """A share of the items is wholly withheld from training; all their interactions are held out.

    Validation and test ask for different items, none of which occurs in training. The ratios are
    shares of the items. Users who took withheld items only have nothing for training.

    Args:
        items: (n,) items.
        ratios: Shares of the items for training, validation and test.
        seed: Seed of the draw.

    Returns:
        (n,) int64 of `TRAIN`, `VALIDATION`, `TEST`.

    Raises:
        UserError: There are fewer items than parts.
    """
    check_ratios(ratios)
    item_rows = _rows(items)
    n_items = np.unique(item_rows).size
    n_validation, n_test = _held_out(np.array([n_items]), ratios[VALIDATION], ratios[TEST])
    if not n_validation[0] + n_test[0]:
        raise UserError(f"an item-cold split needs an item for each part, found {n_items} items")
    shuffled = np.random.default_rng(seed).permutation(n_items)
    label_of_item = np.full(n_items, TRAIN)
    label_of_item[shuffled[: n_validation[0]]] = VALIDATION
    label_of_item[shuffled[n_validation[0] : n_validation[0] + n_test[0]]] = TEST
    return label_of_item[item_rows]


def check_ratios(ratios: Sequence[float]) -> None:
    """Check the shares of training, validation and test.

    Raises:
        UserError: They are not three shares of 1, or leave nothing to train on or to hold out.
    """
    told = ",".join(f"{ratio:g}" for ratio in ratios)
    if len(ratios) != 3 or min(ratios) < 0 or abs(sum(ratios) - 1) > 1e-6:
        raise UserError(
            "ratios are three shares for train, validation and test that sum to 1, such as "
            f"0.8,0.1,0.1; found {told}"
        )
    if not 0 < ratios[TRAIN] < 1:
        raise UserError(f"ratios leave something to train on and something to test, found {told}")


def _rows(ids: np.ndarray) -> np.ndarray:
    return np.unique(ids, return_inverse=True)[1]


def _drawn(
    user_rows: np.ndarray,
    items: np.ndarray,
    n_validation: np.ndarray,
    n_test: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Labels at random, with so many of each user in validation and in test."""
    order = np.lexsort((items, user_rows))
    drawn = np.empty(len(items))
    drawn[order] = np.random.default_rng(seed).random(len(items))
    place = _place_within(user_rows, drawn, np.bincount(user_rows))
    labels = np.full(len(items), TRAIN)
    labels[place < (n_validation + n_test)[user_rows]] = TEST
    labels[place < n_validation[user_rows]] = VALIDATION
    return labels


def _held_out(totals: np.ndarray, validation: float, test: float) -> tuple[np.ndarray, np.ndarray]:
    """How many of each of `totals` go to validation and to test, with one or more for training."""
    parts = 1 + (validation > 0) + (test > 0)
    enough = totals >= parts
    wanted = [
        np.where(enough, np.maximum(np.rint(totals * ratio), 1), 0).astype(int)
        if ratio > 0
        else np.zeros_like(totals)
        for ratio in (validation, test)
    ]
    # Rounding up twice must not eat the last training interaction.
    n_validation = np.minimum(wanted[0], np.maximum(totals - (parts - 1), 0))
    n_test = np.minimum(wanted[1], np.maximum(totals - 1 - n_validation, 0))
    return n_validation, n_test


def _place_within(groups: np.ndarray, keys: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The place, from 0, of each entry within its group when the group is sorted by key."""
    order = np.lexsort((keys, groups))
    place = np.empty(len(groups), np.int64)
    starts = np.cumsum(totals) - totals
    place[order] = np.arange(len(groups)) - starts[groups[order]]
    return place
