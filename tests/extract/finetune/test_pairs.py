"""Duplicates, families and what is held out."""

import numpy as np
import pytest

from extract.errors import UserError
from extract.finetune.pairs import duplicate_groups, families, hold_out


def naive_groups(columns):
    """Numbers by merging sets until nothing changes."""
    sets = [{row} for row in range(len(columns[0]))]
    for column in columns:
        for first, value in enumerate(column):
            for second in range(first):
                if value is not None and column[second] == value:
                    joined = next(s for s in sets if first in s) | next(
                        s for s in sets if second in s
                    )
                    sets = [s for s in sets if not s & joined] + [joined]
    return sets


def as_sets(numbers):
    return sorted(sorted(np.flatnonzero(numbers == number)) for number in np.unique(numbers))


def test_pairs_that_share_a_picture_or_a_text_are_one_group():
    groups = duplicate_groups(["p", "q", "q", "r", "s"], ["a", "a", "b", "c", "d"])
    assert as_sets(groups) == [[0, 1, 2], [3], [4]]


def test_groups_equal_a_naive_merging():
    rng = np.random.default_rng(0)
    pictures, texts = rng.integers(0, 90, (2, 60)).tolist()
    expected = sorted(sorted(s) for s in naive_groups([pictures, texts]))
    assert as_sets(duplicate_groups(pictures, texts)) == expected
    assert 3 < len(expected) < 55


def test_families_join_groups_by_a_column_whose_gaps_join_nothing():
    groups = np.array([0, 1, 1, 2, 3, 4])
    values = ["x", None, "x", None, None, "y"]
    assert as_sets(families(groups, values)) == [[0, 1, 2], [3], [4], [5]]
    assert families(groups, None) is groups


def test_whole_families_are_held_out():
    rng = np.random.default_rng(1)
    numbers = np.unique(rng.integers(0, 300, 1000), return_inverse=True)[1]
    parts = hold_out(numbers, (0.05, 0.1), seed=0)
    arrays = [parts.training, parts.validation, parts.test]
    assert sorted(np.concatenate(arrays)) == list(range(1000))
    seen = [set(numbers[places]) for places in arrays]
    assert not seen[0] & (seen[1] | seen[2])
    assert not seen[1] & seen[2]
    assert abs(len(parts.validation) - 50) < 10
    assert abs(len(parts.test) - 100) < 10
    again = hold_out(numbers, (0.05, 0.1), seed=0)
    other = hold_out(numbers, (0.05, 0.1), seed=1)
    assert np.array_equal(parts.test, again.test)
    assert not np.array_equal(parts.test, other.test)


@pytest.mark.parametrize("seed", range(20))
def test_a_family_that_would_fill_a_part_is_for_training(seed):
    """Such as of all items with one placeholder for a picture."""
    numbers = np.concatenate([np.zeros(300, dtype=int), np.arange(1, 701)])
    parts = hold_out(numbers, (0.05, 0.05), seed)
    assert set(range(300)) <= set(parts.training)
    assert (len(parts.validation), len(parts.test)) == (50, 50)


def test_too_few_to_hold_out_are_told():
    with pytest.raises(UserError, match="of 10 items with a picture and a text only 1 are for"):
        hold_out(np.arange(10), (0.1, 0.1), seed=0)
    with pytest.raises(UserError, match="only 0 are for"):
        hold_out(np.zeros(10, dtype=int), (0.2, 0.2), seed=0)
