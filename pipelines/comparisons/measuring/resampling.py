"""Bootstrap intervals of many numbers from the same resamples of users.

Drawing is dear and arithmetic is cheap: each resample is the number of times that each user was
drawn, and one product of matrices gives the totals of all columns.
"""

import numpy as np

from recommend.significance import DRAWS

# Counts held at once.
AT_ONCE = 8_000_000


class Resamples:
    """Draws of n users from n, with replacement, always the same ones.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        n_users: n.
        seed: Of the draws.
        draws: How many resamples, B.
    """

    def __init__(self, n_users: int, seed: int, draws: int = DRAWS) -> None:
        self.n_users, self.seed, self.draws = n_users, seed, draws

    def totals(self, columns: np.ndarray) -> np.ndarray:
        """The sum of each column over the users drawn, (B, C) float32.

        Args:
            columns: (n, C) numbers of each user.
        """
        generator = np.random.default_rng([self.seed, 0xB0])
        values = np.asarray(columns, np.float32)
        blocks, left = [], self.draws
        while left:
            rows = min(left, max(1, AT_ONCE // self.n_users))
            blocks.append(self._counts(generator, rows) @ values)
            left -= rows
        return np.concatenate(blocks)

    def means(self, columns: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the percentile intervals of the columns' means, (C,) each.

        Args:
            columns: (n, C) numbers of each user.
            confidence: Of the intervals.
        """
        return self._ends(self.totals(columns) / self.n_users, confidence)

    def ratios(
        self, numerators: np.ndarray, denominators: np.ndarray, confidence: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same of ratios of sums, as pooled recall is one, (S, C) each.

        A resample with nothing in the denominator does not count; a slice that is empty in all of
        them has NaN.

        Args:
            numerators: (n, S, C) of each user: of C systems and S slices.
            denominators: (n, S) of each user, the same for all systems.
            confidence: Of the intervals.
        """
        n, slices, systems = numerators.shape
        columns = numerators.reshape(n, slices * systems)
        totals = self.totals(np.concatenate([denominators, columns], axis=1))
        below, above = totals[:, :slices], totals[:, slices:]
        shares = np.divide(
            above.reshape(self.draws, slices, systems),
            below[:, :, None],
            out=np.full((self.draws, slices, systems), np.nan, np.float32),
            where=below[:, :, None] > 0,
        )
        low, high = np.full((2, slices, systems), np.nan)
        for place in np.flatnonzero(denominators.any(axis=0)):
            low[place], high[place] = self._ends(shares[:, place], confidence)
        return low, high

    def _counts(self, generator: np.random.Generator, rows: int) -> np.ndarray:
        """How often each user was drawn, (rows, n)."""
        drawn = generator.integers(0, self.n_users, (rows, self.n_users), np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * np.int32(self.n_users)
        counts = np.bincount(drawn.ravel(), minlength=rows * self.n_users)
        return counts.reshape(rows, self.n_users).astype(np.float32)

    @staticmethod
    def _ends(values: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        tail = (1 - confidence) / 2
        quantile = np.nanquantile if np.isnan(values).any() else np.quantile  # the former is slow
        low, high = quantile(values, (tail, 1 - tail), axis=0)
        return low, high
