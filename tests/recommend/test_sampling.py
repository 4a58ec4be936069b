"""The sampler: every pair once, negatives uniform over what the user did not take."""

import numpy as np
import pytest

from extract.errors import UserError
from recommend.interactions import Interactions
from recommend.sampling import Sampler


def interactions(n_users=30, n_items=50, share=0.3, seed=0):
    taken = np.random.default_rng(seed).random((n_users, n_items)) < share
    taken[:, -5:] = False  # five items that nobody took
    return Interactions(*np.nonzero(taken), n_users, n_items)


def epoch(train, seed=0, batch_size=64):
    batches = list(Sampler(train, batch_size, np.random.default_rng(seed)).epoch())
    columns = zip(*((b.users, b.positives, b.negatives) for b in batches), strict=True)
    return batches, [np.concatenate([part.numpy() for part in column]) for column in columns]


def test_an_epoch_is_every_pair_once_in_another_order():
    train = interactions()
    _, (users, positives, _) = epoch(train)
    got = list(zip(users, positives, strict=True))
    wanted = list(zip(train.users, train.items, strict=True))
    assert sorted(got) == sorted(wanted)
    assert got != wanted


def test_batches_have_the_size_asked_for():
    train = interactions()
    sampler = Sampler(train, 64, np.random.default_rng(0))
    sizes = [len(batch.users) for batch in sampler.epoch()]
    assert len(sizes) == len(sampler)
    assert set(sizes[:-1]) == {64}
    assert sum(sizes) == len(train)


def test_negatives_are_items_that_the_user_did_not_take_but_somebody_did():
    train = interactions(share=0.8)
    _, (users, _, negatives) = epoch(train)
    assert not train.matrix.toarray()[users, negatives].any()
    assert (train.item_degrees[negatives] > 0).all()


def test_negatives_are_uniform():
    train = Interactions(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 4]), 2, 5)
    sampler = Sampler(train, 8, np.random.default_rng(0))
    counts = np.bincount(sampler.negatives(np.zeros(30_000, np.int64)), minlength=5)
    assert counts[:2].sum() == 0
    np.testing.assert_allclose(counts[2:] / 30_000, 1 / 3, atol=0.012)


def test_distinct_items_and_their_places():
    batches, _ = epoch(interactions())
    for batch in batches:
        positives, negatives = batch.places
        assert (batch.items[positives] == batch.positives).all()
        assert (batch.items[negatives] == batch.negatives).all()
        assert batch.items.unique().numel() == batch.items.numel()


def test_an_epoch_is_a_function_of_the_seed():
    one, same, other = (epoch(interactions(), seed)[1] for seed in (1, 1, 2))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one[2] != other[2]).any()


def test_a_user_that_took_everything_is_an_error():
    train = Interactions(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, 3)
    with pytest.raises(UserError, match="took all 2 training items"):
        Sampler(train, 8, np.random.default_rng(0))
