"""Whether one system is better than another: paired by user, with intervals and corrected tests.

Two systems that are asked about the same users differ by d_u for user u. Everything here is about
the n differences d: their mean, how far chance moves it, and how often chance alone would do so.
The unit is the user, or the item where a metric is of few items; seeds are averaged before
(`mean_over_seeds`), because runs of one system on the same users are not independent evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

# Signs drawn for the randomisation test, and resamples for an interval.
DRAWS = 9_999
# Up to so many users all 2^n assignments of signs are gone through instead.
EXACT_UP_TO = 12
# Differences below it are none.
TIE = 1e-12
# Numbers held at once while drawing.
AT_ONCE = 4_000_000

Test = Literal["randomisation", "wilcoxon"]


@dataclass(frozen=True)
class Comparison:
    """One system against another.

    Attributes:
        difference: The mean of d.
        low: Lower end of its interval.
        high: Upper end.
        p: The two-sided p-value, not corrected.
        effect: Cohen's d_z: the mean of d by its standard deviation.
        better: Share of the users with d > 0.
        worse: Share of those with d < 0.
        one_sign: Whether the test saw the difference on the side of the mean: ranks may not.
    """

    difference: float
    low: float
    high: float
    p: float
    effect: float
    better: float
    worse: float
    one_sign: bool


def compare(
    ours: np.ndarray,
    theirs: np.ndarray,
    generator: np.random.Generator,
    test: Test = "randomisation",
    confidence: float = 0.95,
) -> Comparison:
    """Compare two systems user by user.

    Args:
        ours: A metric of each user, (n,).
        theirs: The same users' under the other system, (n,).
        generator: Draws resamples and signs.
        test: Which test gives p.
        confidence: Of the interval.

    Raises:
        ValueError: The two are not of one length, or empty, or a number is not finite.
    """
    if ours.shape != theirs.shape or ours.ndim != 1 or not ours.size:
        raise ValueError(
            f"expected two arrays (n,) of one length, found {ours.shape} and {theirs.shape}"
        )
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    _check_finite(differences)
    # Means of the same seeds in another order differ in the last digits.
    differences[np.abs(differences) < TIE] = 0.0
    low, high = bootstrap_interval(differences, generator, confidence)
    p = randomisation(differences, generator) if test == "randomisation" else wilcoxon(differences)
    return Comparison(
        difference=float(differences.mean()),
        low=low,
        high=high,
        p=p,
        effect=effect_size(differences),
        better=float((differences > 0).mean()),
        worse=float((differences < 0).mean()),
        one_sign=test == "randomisation" or rank_sum(differences) * differences.mean() > 0,
    )


def mean_over_seeds(values: Sequence[np.ndarray]) -> np.ndarray:
    """One number per user from several runs of one system, (n,).

    Args:
        values: A metric of the same users, (n,) per seed.
    """
    return np.mean(np.stack(list(values)), axis=0)


def bootstrap_interval(
    values: np.ndarray, generator: np.random.Generator, confidence: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of a mean over users, who are drawn anew with replacement.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        values: One number per user, (n,).
        generator: Draws.
        confidence: Of the interval.
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(_means_of_resamples(values, generator), (tail, 1 - tail))
    return float(low), float(high)


def randomisation(
    differences: np.ndarray, generator: np.random.Generator, draws: int = DRAWS
) -> float:
    """The two-sided p-value of the paired randomisation test of a mean of zero.

    If the systems are alike, d_u is as likely as -d_u. p is the share of assignments of signs
    whose mean lies at least as far from zero as the one found: of all 2^n of them where these are
    few, else of some drawn ones and the one found (Phipson and Smyth, 2010).

    Args:
        differences: d, (n,).
        generator: Draws the signs.
        draws: How many assignments.

    Raises:
        ValueError: A difference is not finite.
    """
    _check_finite(differences)
    differences = differences[differences != 0]  # no sign changes them
    n, found = len(differences), abs(differences.sum())
    # Sums of the same numbers in another order differ in the last digits.
    bound = found * (1 - 1e-12)
    if n <= EXACT_UP_TO:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((np.abs(signs @ differences) >= bound).mean())
    reached, left = 1, draws
    while left:
        rows = min(left, max(1, AT_ONCE // n))
        signs = generator.integers(0, 2, (rows, n), np.int8)
        sums = differences.sum() - 2 * (signs @ differences)
        reached += int((np.abs(sums) >= bound).sum())
        left -= rows
    return reached / (draws + 1)


def wilcoxon(differences: np.ndarray) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test, of the users that differ.

    Source: Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1(6), 1945;
    scipy's.

    Args:
        differences: d, (n,).
    """
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def rank_sum(differences: np.ndarray) -> float:
    """The sum of signed ranks, of which Wilcoxon's test asks whether it is zero.

    Args:
        differences: d, (n,).
    """
    unlike = differences[differences != 0]
    return float((np.sign(unlike) * stats.rankdata(np.abs(unlike))).sum())


def effect_size(differences: np.ndarray) -> float:
    """Cohen's d_z: mean by standard deviation (n - 1); 0 where nothing differs.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, section 2.3.

    Args:
        differences: d, (n,).
    """
    if not np.ptp(differences):
        return 0.0 if not differences.any() else float(np.copysign(np.inf, differences[0]))
    return float(differences.mean() / differences.std(ddof=1))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction of m p-values, (m,).

    The i-th smallest (from 1) becomes max over j ≤ i of min(1, (m - j + 1) p_j): rejecting what is
    at most α keeps the chance of any false rejection at most α, however the tests depend on each
    other.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    Raises:
        ValueError: One is not finite.
    """
    values = np.asarray(p_values, np.float64)
    _check_finite(values)
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values), 0, -1) * values[order]
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def _means_of_resamples(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    n, means = len(values), []
    left = DRAWS
    while left:
        rows = min(left, max(1, AT_ONCE // n))
        means.append(values[generator.integers(0, n, (rows, n))].mean(axis=1))
        left -= rows
    return np.concatenate(means)


def _check_finite(values: np.ndarray) -> None:
    # Comparisons with NaN are false, so that it would pass for the strongest evidence.
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {values.size} numbers are not finite")
