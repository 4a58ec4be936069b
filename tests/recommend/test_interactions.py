"""Ids, pairs, splits: order plays no part, and bad logs are refused."""

import numpy as np
import pytest

from extract.errors import UserError
from recommend.interactions import IdMap, InteractionLog, Interactions

LOG = (
    ["u2", "u1", "u1", "u2", "u1", "u10"],
    ["b", "a", "c", "c", "b", "a"],
    ["train", "train", "test", "validation", "train", "train"],
)


def test_ids_are_numbered_in_their_own_order():
    ids = IdMap(["b", "a", "c", "a"])
    assert ids.ids.tolist() == ["a", "b", "c"]
    assert ids.rows(["c", "a"]).tolist() == [2, 0]
    assert ids.find(["a", "zz", ""]).tolist() == [0, -1, -1]
    assert ids == IdMap(["c", "b", "a"])
    assert ids.digest == IdMap(["c", "b", "a"]).digest != IdMap(["a", "b"]).digest


def test_an_empty_map_knows_nothing():
    assert IdMap([]).find(["a"]).tolist() == [-1]


def test_unknown_ids_are_counted_and_one_is_named():
    with pytest.raises(UserError, match=r"2 of 3 items are not among the 1 known ones.*'y'"):
        IdMap(["x"]).rows(["x", "y", "z"], "item")


def test_ids_that_look_like_numbers_stay_text():
    assert IdMap(["007", "7"]).rows(["7", "007"]).tolist() == [1, 0]


def test_a_log_by_hand():
    log = InteractionLog.from_columns(*LOG, catalogue=["a", "b", "c", "d"])
    assert log.users.ids.tolist() == ["u1", "u10", "u2"]
    wanted = [[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert log.split.train.matrix.toarray().tolist() == wanted
    assert log.split.train.user_degrees.tolist() == [2, 1, 1]
    assert log.split.train.item_degrees.tolist() == [2, 2, 0, 0]
    assert (log.split.test.users.tolist(), log.split.test.items.tolist()) == ([0], [2])
    assert (log.split.validation.users.tolist(), log.split.validation.items.tolist()) == ([2], [2])


def test_the_order_of_rows_plays_no_part():
    log = InteractionLog.from_columns(*LOG, catalogue=["a", "b", "c", "d"])
    order = [3, 0, 5, 2, 1, 4]
    other = InteractionLog.from_columns(
        *([column[i] for i in order] for column in LOG), catalogue=["d", "b", "a", "c"]
    )
    assert other.users == log.users
    assert other.items == log.items
    for one, two in zip(log.split, other.split, strict=True):
        np.testing.assert_array_equal(one.users, two.users)
        np.testing.assert_array_equal(one.items, two.items)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("u1", "a", "train"), "stand more than once in one split"),
        (("u1", "a", "test"), "stand in two splits"),
        (("u1", "zz", "train"), "1 of 7 items are not among"),
        (("u1", "d", "valid"), "found 'valid'"),
    ],
)
def test_bad_logs_are_refused(extra, message):
    columns = [[*column, value] for column, value in zip(LOG, extra, strict=True)]
    with pytest.raises(UserError, match=message):
        InteractionLog.from_columns(*columns, catalogue=["a", "b", "c", "d"])


def test_a_log_without_training_is_refused():
    with pytest.raises(UserError, match="no training interaction"):
        InteractionLog.from_columns(["u"], ["a"], ["test"], catalogue=["a"])


def test_rows_out_of_range_are_a_defect():
    with pytest.raises(ValueError, match=r"item rows must lie in 0\.\.1"):
        Interactions(np.array([0]), np.array([2]), 1, 2)
