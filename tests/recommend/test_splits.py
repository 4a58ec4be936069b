import os
from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pytest

from extract.errors import UserError
from recommend.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    check_ratios,
    item_cold_split,
    k_core,
    mmrec_split,
    random_split,
    temporal_split,
)

RATIOS = (0.8, 0.1, 0.1)
BABY = Path(__file__).parents[2].parent / "shared/data/amazon_baby/baby.inter.tsv"


def pairs(n_users=60, n_items=40, n=500, seed=0):
    """Distinct pairs with skewed items, in random order."""
    generator = np.random.default_rng(seed)
    items = np.minimum(generator.geometric(0.08, 4 * n), n_items) - 1
    drawn = np.unique(np.stack([generator.integers(n_users, size=4 * n), items], 1), axis=0)
    chosen = generator.permutation(len(drawn))[:n]
    return drawn[chosen, 0], drawn[chosen, 1]


def naive_core(users, items, k):
    """Remove one offender after another, as one would by hand."""
    left = set(zip(users.tolist(), items.tolist(), strict=True))
    while True:
        for side in (0, 1):
            for name in {pair[side] for pair in left}:
                of_name = {pair for pair in left if pair[side] == name}
                if len(of_name) < k:
                    left -= of_name
                    break
            else:
                continue
            break
        else:
            return left


@pytest.mark.parametrize("k", [0, 1, 2, 5, 8, 50])
def test_core_is_what_removing_one_by_one_leaves(k):
    users, items = pairs()
    kept = k_core(users, items, k)
    found = set(zip(users[kept].tolist(), items[kept].tolist(), strict=True))
    assert found == naive_core(users, items, k)


def test_core_of_a_chain_unravels_to_nothing():
    users = np.array(["a", "b", "b", "c", "c", "d"])
    items = np.array(["1", "1", "2", "2", "3", "3"])
    assert not k_core(users, items, 2).any()


def test_core_of_nothing_is_nothing():
    assert k_core(np.array([], int), np.array([], int), 5).shape == (0,)


@pytest.mark.parametrize(
    ("taken", "held_out"),
    [(1, 0), (2, 0), (3, 1), (9, 1), (10, 1), (14, 1), (16, 2), (30, 3), (100, 10)],
)
def test_each_user_gives_a_rounded_share_but_at_least_one(taken, held_out):
    labels = random_split(np.zeros(taken, int), np.arange(taken), RATIOS, seed=3)
    sizes = np.bincount(labels, minlength=3)
    assert sizes.tolist() == [taken - 2 * held_out, held_out, held_out]


@pytest.mark.parametrize(
    ("taken", "validation", "test"),
    [
        *[(1, 0, 0), (2, 0, 0), (3, 1, 1), (9, 1, 1), (10, 1, 1), (14, 1, 1), (15, 1, 2)],
        *[(19, 1, 2), (20, 2, 2), (24, 2, 2), (25, 2, 3), (30, 3, 3), (99, 9, 10), (100, 10, 10)],
    ],
)
def test_each_user_gives_what_the_toolbox_takes(taken, validation, test):
    labels = mmrec_split(np.zeros(taken, int), np.arange(taken), seed=3)
    assert np.bincount(labels, minlength=3).tolist() == [
        taken - validation - test,
        validation,
        test,
    ]


def sizes_of_the_toolbox(taken):
    """As its notebook says it, for one user."""
    if taken < 3:
        return taken, 0, 0
    if taken < 10:
        return taken - 2, 1, 1
    held_out = int(0.2 * taken)
    return taken - held_out, held_out // 2, held_out - held_out // 2


def sizes_by_counting(users, labels):
    """User to how many interactions there are of each label, one after the other."""
    sizes = {user: [0, 0, 0] for user in users.tolist()}
    for user, label in zip(users.tolist(), labels.tolist(), strict=True):
        sizes[user][label] += 1
    return {user: tuple(counts) for user, counts in sizes.items()}


def test_many_users_of_the_toolbox_beside_each_other():
    totals = np.random.default_rng(0).integers(1, 300, size=200)
    users = np.random.default_rng(1).permutation(np.repeat(np.arange(200), totals))
    labels = mmrec_split(users, np.arange(len(users)), seed=0)
    expected = {user: sizes_of_the_toolbox(int(total)) for user, total in enumerate(totals)}
    assert sizes_by_counting(users, labels) == expected


@pytest.mark.realdata
def test_the_published_split_sizes_of_baby():
    if not BABY.is_file():
        pytest.skip(f"the real data set is not at {os.path.relpath(BABY)}")
    log = pacsv.read_csv(BABY, parse_options=pacsv.ParseOptions(delimiter="\t"))
    users, items, published = (log[name].to_numpy() for name in ("userID", "itemID", "x_label"))
    labels = mmrec_split(users, items, seed=0)
    assert np.bincount(labels).tolist() == [118_551, 20_559, 21_682]
    assert sizes_by_counting(users, labels) == sizes_by_counting(users, published)
    assert not np.array_equal(labels, published)  # the draw is ours


@pytest.mark.parametrize("ratios", [(0.1, 0.45, 0.45), (0.01, 0.98, 0.01), (0.34, 0.33, 0.33)])
def test_every_user_keeps_something_to_train_on(ratios):
    users = np.repeat(np.arange(30), np.arange(1, 31))
    items = np.concatenate([np.arange(n) for n in range(1, 31)])
    labels = random_split(users, items, ratios, seed=0)
    assert set(users[labels == TRAIN]) == set(users)
    several = set(range(2, 30))
    assert several <= set(users[labels == VALIDATION])
    assert several <= set(users[labels == TEST])


def test_a_part_of_ratio_zero_stays_empty():
    users, items = pairs()
    labels = random_split(users, items, (0.8, 0.0, 0.2), seed=0)
    assert set(labels) == {TRAIN, TEST}
    assert set(item_cold_split(items, (0.8, 0.0, 0.2), seed=0)) == {TRAIN, TEST}


@pytest.mark.parametrize(
    "split",
    [
        lambda users, items: random_split(users, items, RATIOS, seed=1),
        lambda users, items: mmrec_split(users, items, seed=1),
        lambda users, items: item_cold_split(items, RATIOS, seed=1),
        lambda users, items: temporal_split(users * 7 + items, RATIOS),
        lambda users, items: k_core(users, items, 6),
    ],
)
def test_the_order_of_the_rows_does_not_matter(split):
    users, items = pairs()
    order = np.random.default_rng(5).permutation(len(users))
    assert np.array_equal(split(users[order], items[order]), split(users, items)[order])


def test_the_seed_decides():
    users, items = pairs()
    again = random_split(users, items, RATIOS, seed=1)
    assert np.array_equal(random_split(users, items, RATIOS, seed=1), again)
    assert not np.array_equal(random_split(users, items, RATIOS, seed=2), again)
    again = mmrec_split(users, items, seed=1)
    assert np.array_equal(mmrec_split(users, items, seed=1), again)
    assert not np.array_equal(mmrec_split(users, items, seed=2), again)
    assert not np.array_equal(
        item_cold_split(items, RATIOS, seed=1), item_cold_split(items, RATIOS, seed=2)
    )


def test_each_place_of_a_user_is_equally_likely_to_be_held_out():
    n_users, taken = 4000, 5
    users, items = np.repeat(np.arange(n_users), taken), np.tile(np.arange(taken), n_users)
    for labels in (random_split(users, items, RATIOS, seed=0), mmrec_split(users, items, seed=0)):
        for label in (VALIDATION, TEST):
            share = (labels.reshape(n_users, taken) == label).mean(axis=0)
            assert np.abs(share - 1 / taken).max() < 5 * np.sqrt(0.16 / n_users)


def test_ids_of_text_split_like_their_rows():
    users, items = pairs()
    as_text = random_split(
        np.array([f"u{user:03d}" for user in users]),
        np.array([f"i{item:03d}" for item in items]),
        RATIOS,
        seed=4,
    )
    assert np.array_equal(as_text, random_split(users, items, RATIOS, seed=4))


def test_temporal_parts_do_not_overlap_in_time():
    times = np.random.default_rng(0).integers(300, size=1000)
    labels = temporal_split(times, RATIOS)
    assert times[labels == TRAIN].max() < times[labels == VALIDATION].min()
    assert times[labels == VALIDATION].max() < times[labels == TEST].min()
    assert np.abs(np.bincount(labels) / 1000 - RATIOS).max() < 0.01


def test_a_moment_is_never_parted():
    labels = temporal_split(np.array([1, 2, 3, 4, 5, 5, 5, 5, 6, 7]), (0.6, 0.2, 0.2))
    assert labels.tolist() == [TRAIN] * 4 + [VALIDATION] * 4 + [TEST] * 2


def test_one_moment_cannot_be_split():
    with pytest.raises(UserError, match="1 distinct times leaves a part empty"):
        temporal_split(np.full(20, 9), RATIOS)


def test_withheld_items_are_disjoint_and_as_many_as_asked():
    _, items = pairs()
    labels = item_cold_split(items, RATIOS, seed=0)
    of_label = [set(items[labels == label]) for label in (TRAIN, VALIDATION, TEST)]
    assert not (of_label[0] & of_label[1] | of_label[0] & of_label[2] | of_label[1] & of_label[2])
    n_items = len(set(items))
    assert [len(part) for part in of_label[1:]] == [round(n_items / 10)] * 2


def test_two_items_cannot_be_withheld_and_trained_on():
    with pytest.raises(UserError, match="found 2 items"):
        item_cold_split(np.array(["a", "b", "a"]), RATIOS, seed=0)


@pytest.mark.parametrize(
    "ratios", [(0.8, 0.2), (0.8, 0.1, 0.2), (1.1, -0.1, 0.0), (1.0, 0.0, 0.0), (0.0, 0.5, 0.5)]
)
def test_ratios_that_are_none_are_refused(ratios):
    with pytest.raises(UserError, match="ratios"):
        check_ratios(ratios)
