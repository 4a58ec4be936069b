"""Tests of significance, held to scipy, statsmodels, and to what chance does."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from recommend.significance import (
    bootstrap_interval,
    compare,
    effect_size,
    holm,
    mean_over_seeds,
    randomisation,
    wilcoxon,
)

CASES = range(50)


def differences(case, n=None):
    """Differences as metrics have them: many zeros, ties, few values."""
    generator = np.random.default_rng(case)
    n = n or int(generator.integers(20, 400))
    values = generator.choice([0, 0, 0, 0.1, 0.25, 1 / 3, 0.5, 1], n)
    return (
        values - generator.choice([0, 0, 0, 0.1, 0.2, 0.5, 1], n) + 0.02 * generator.normal(size=n)
    )


@pytest.mark.parametrize("case", CASES)
def test_holm_is_that_of_statsmodels(case):
    generator = np.random.default_rng(case)
    p_values = generator.random(int(generator.integers(1, 40))) ** 3
    p_values[: len(p_values) // 3] = p_values[0]  # ties
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected, abs=1e-9)


def test_holm_by_hand():
    # 4 * .01, 3 * .02 = .06, 2 * .03 = .06, 1 * .5
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]).tolist() == []


@pytest.mark.parametrize("case", CASES)
def test_few_users_are_gone_through_as_in_scipy(case):
    d = differences(case, n=2 + case % 11)
    expected = stats.permutation_test(
        (d,),
        lambda x, axis: np.abs(np.mean(x, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    assert randomisation(d, np.random.default_rng()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_wilcoxon_is_that_of_scipy_for_pairs(case):
    generator = np.random.default_rng(case)
    ours, theirs = generator.random((2, 60)).round(1)
    expected = stats.wilcoxon(ours, theirs).pvalue
    assert wilcoxon(ours - theirs) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_effect_is_that_behind_the_t_test(case):
    """t = d_z sqrt(n)."""
    d = differences(case)
    assert effect_size(d) * np.sqrt(len(d)) == pytest.approx(
        stats.ttest_1samp(d, 0).statistic, abs=1e-9
    )


@pytest.mark.parametrize("case", range(8))
def test_drawn_signs_agree_with_scipy_within_chance(case):
    d = differences(case, n=80) + 0.03
    drawn = randomisation(d, np.random.default_rng(case))
    expected = stats.permutation_test(
        (d,),
        lambda x, axis: np.abs(np.mean(x, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=9999,
        rng=np.random.default_rng(100 + case),
    ).pvalue
    assert drawn == pytest.approx(expected, abs=5 * np.sqrt(2 * expected / 9999) + 2e-3)


@pytest.mark.parametrize("case", range(8))
def test_the_interval_agrees_with_that_of_scipy_within_chance(case):
    d = differences(case)
    low, high = bootstrap_interval(d, np.random.default_rng(case))
    expected = stats.bootstrap(
        (d,), np.mean, method="percentile", rng=np.random.default_rng(100 + case)
    ).confidence_interval
    width = expected.high - expected.low
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.06 * width)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.exponential(size=150) - 1, generator)
        covered += low <= 0 <= high
    assert 180 <= covered <= 199  # 95 % of 200, within three standard deviations


def test_nothing_differs():
    same = np.array([0.5, 0, 1])
    found = compare(same, same, np.random.default_rng(0))
    assert (found.difference, found.low, found.high, found.p, found.effect) == (0, 0, 0, 1, 0)
    assert wilcoxon(same - same) == 1


def test_a_comparison_by_hand():
    found = compare(
        np.array([1.0, 0.5, 0, 1]), np.array([0, 0.5, 0.5, 0]), np.random.default_rng(0)
    )
    assert found.difference == pytest.approx(1.5 / 4)
    assert (found.better, found.worse) == (0.5, 0.25)
    # of the eight sums of ±1, ±.5 and ±1 four are as far from zero as 1.5
    assert found.p == pytest.approx(4 / 8)
    assert found.low <= found.difference <= found.high


def test_means_of_the_same_seeds_in_another_order_do_not_differ():
    seeds = np.random.default_rng(0).random((3, 200)) / 7
    ours, theirs = mean_over_seeds(list(seeds)), mean_over_seeds(list(seeds[[2, 0, 1]]))
    assert (ours != theirs).any()  # in the last digits
    found = compare(ours, theirs, np.random.default_rng(0))
    assert (found.better, found.worse, found.effect, found.p) == (0, 0, 0, 1)


def test_ranks_and_mean_may_point_in_opposite_ways():
    ours = np.r_[np.full(80, -0.1), np.full(20, 0.73)] + np.linspace(0, 1e-3, 100)
    for test, agree in (("randomisation", True), ("wilcoxon", False)):
        found = compare(ours, np.zeros(100), np.random.default_rng(0), test)
        assert found.difference > 0
        assert found.one_sign == agree
    assert found.p < 0.05


def test_seeds_are_averaged_by_user():
    assert mean_over_seeds([np.array([0, 1.0]), np.array([1, 1.0])]).tolist() == [0.5, 1]


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_what_is_not_paired_is_refused(shapes):
    with pytest.raises(ValueError, match="of one length"):
        compare(np.zeros(shapes[0]), np.zeros(shapes[1]), np.random.default_rng(0))


@pytest.mark.parametrize("test", ["randomisation", "wilcoxon"])
def test_alike_systems_are_seldom_told_apart(test):
    """Six systems without a difference, 1,000 times: any of 15 pairs at 5 % in under 6.5 %."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(1000):
        # The users differ from each other, as they do; the systems are alike.
        users = generator.beta(0.5, 3, size=60)
        systems = np.clip(users + 0.1 * generator.normal(size=(6, 60)), 0, 1)
        p_values = []
        for i in range(6):
            for j in range(i):
                d = systems[i] - systems[j]
                p_values.append(
                    wilcoxon(d) if test == "wilcoxon" else randomisation(d, generator, draws=499)
                )
        wrong += holm(p_values).min() <= 0.05
    assert wrong / 1000 < 0.065


def test_a_real_difference_is_found():
    generator = np.random.default_rng(1)
    base = generator.beta(0.5, 3, size=400)
    better = base + 0.02 + 0.1 * generator.normal(size=400)
    alike = base + 0.1 * generator.normal(size=400)
    first, second = (compare(ours, base, generator) for ours in (better, alike))
    assert holm([first.p, second.p])[0] < 0.01 < second.p
    assert first.low > 0
    assert second.low < 0 < second.high


def test_what_is_not_finite_is_no_evidence():
    values = np.array([0.1, np.nan, 0.3])
    with pytest.raises(ValueError, match="1 of 3 numbers"):
        compare(values, np.zeros(3), np.random.default_rng(0))
    with pytest.raises(ValueError, match="1 of 3 numbers"):
        randomisation(values, np.random.default_rng(0))
    with pytest.raises(ValueError, match="1 of 2 numbers"):
        holm([np.nan, 0.5])


@pytest.mark.parametrize("n", [1, 7, 10])
def test_an_effect_without_spread_has_no_end(n):
    assert effect_size(np.full(n, 0.1)) == np.inf
    assert effect_size(np.full(n, -0.1)) == -np.inf
