"""Resamples: against resampling rows one by one, and against scipy's percentile bootstrap."""

import numpy as np
import pytest
from scipy import stats

from pipelines.comparisons.measuring import resampling
from pipelines.comparisons.measuring.resampling import Resamples


def test_totals_are_sums_over_the_users_drawn():
    drawn = Resamples(7, seed=3, draws=50)
    ones = drawn.totals(np.ones((7, 1)))
    assert (ones == 7).all()
    counts = drawn.totals(np.eye(7))  # how often each user was drawn
    assert (counts.sum(axis=1) == 7).all()
    assert (counts == counts.round()).all()
    values = np.random.default_rng(0).random((7, 3))
    assert np.allclose(drawn.totals(values), counts @ values, atol=1e-5)


def test_every_user_is_drawn_as_often():
    counts = Resamples(5, seed=0, draws=20_000).totals(np.eye(5))
    # 20,000 draws of mean 1 and variance 4/5: five standard errors
    assert np.abs(counts.mean(axis=0) - 1).max() < 5 * np.sqrt(0.8 / 20_000)
    assert counts.var(axis=0) == pytest.approx(0.8, abs=0.05)


def test_blocks_change_nothing(monkeypatch):
    values = np.random.default_rng(1).random((40, 2))
    whole = Resamples(40, seed=1, draws=99).totals(values)
    monkeypatch.setattr(resampling, "AT_ONCE", 400)
    assert np.allclose(Resamples(40, seed=1, draws=99).totals(values), whole)


def test_intervals_of_means_are_those_of_scipy():
    values = np.random.default_rng(2).beta(1, 3, (300, 3))
    low, high = Resamples(300, seed=0).means(values, 0.9)
    for column in range(3):
        theirs = stats.bootstrap(
            (values[:, column],), np.mean, method="percentile", confidence_level=0.9, rng=5
        ).confidence_interval
        width = theirs.high - theirs.low
        assert low[column] == pytest.approx(theirs.low, abs=0.05 * width)
        assert high[column] == pytest.approx(theirs.high, abs=0.05 * width)


def test_ratios_are_of_the_same_users_above_and_below():
    generator = np.random.default_rng(4)
    below = generator.integers(0, 4, (30, 2)).astype(float)
    above = below[:, :, None] * generator.random((30, 2, 3))
    drawn = Resamples(30, seed=9, draws=500)
    counts = drawn.totals(np.eye(30))
    low, high = drawn.ratios(above, below, 0.8)
    for place in range(2):
        for system in range(3):
            ratios = [(c @ above[:, place, system]) / (c @ below[:, place]) for c in counts]
            expected = np.quantile(ratios, [0.1, 0.9])
            assert [low[place, system], high[place, system]] == pytest.approx(expected, rel=1e-4)


def test_resamples_without_a_pair_do_not_count_and_empty_slices_have_none():
    below = np.zeros((4, 2))
    below[0, 0] = 1  # one user of four: not in a third of the resamples
    low, high = Resamples(4, seed=0, draws=200).ratios(below[:, :, None] * 0.5, below, 0.95)
    assert (low[0, 0], high[0, 0]) == (0.5, 0.5)
    assert np.isnan([low[1, 0], high[1, 0]]).all()
