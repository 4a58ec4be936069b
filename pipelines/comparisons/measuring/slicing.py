"""How well each system serves each slice: pooled recall of items, mean recall of users."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.comparisons.contents import Estimate, SliceEstimate
from pipelines.comparisons.measuring.outcomes import Judges, Outcome
from pipelines.comparisons.measuring.resampling import Resamples
from pipelines.comparisons.measuring.slice_kinds import Slices
from recommend.slices import member_hits


@dataclass(frozen=True)
class _Counted:
    """What the systems are judged by in the slices of one kind.

    Attributes:
        slices: The kind, the names, and how many members each has.
        pairs: How many held-out pairs each is judged by, (S,).
        below: Denominators of each user, (U, S).
        above: Numerators of each user and system, averaged over seeds, (U, S, systems) float32.
        seeds: For each system the recall of each seed, (S, seeds).
    """

    slices: Slices
    pairs: np.ndarray
    below: np.ndarray
    above: np.ndarray
    seeds: Sequence[np.ndarray]

    @classmethod
    def of(
        cls, slices: Slices, pairs: np.ndarray, below: np.ndarray, found: Sequence[np.ndarray]
    ) -> "_Counted":
        """From the numerators of each user and seed, a (U, S, seeds) for each system."""
        totals = below.sum(axis=0)[:, None]
        per_seed = [own.sum(axis=0) for own in found]
        seeds = [
            np.divide(own, totals, out=np.full(own.shape, np.nan), where=totals > 0)
            for own in per_seed
        ]
        above = np.stack([own.mean(axis=2, dtype=np.float32) for own in found], axis=2)
        return cls(slices, pairs, below, above, seeds)


def slice_estimates(
    outcomes: Sequence[Outcome],
    judges: Judges,
    by_item: Sequence[Slices],
    by_user: Sequence[Slices],
    k: int,
    resamples: Resamples,
    confidence: float,
) -> dict[str, tuple[SliceEstimate, ...]]:
    """Estimates of all slices, by system.

    A kind of which fewer than two slices hold a test pair is left out: it tells nothing apart.

    Args:
        outcomes: The systems.
        judges: The test users.
        by_item: Slices of items.
        by_user: Slices of test users.
        k: The cutoff of recall.
        resamples: Of the test users.
        confidence: Of the intervals.
    """
    counted = [_of_items(slices, outcomes, judges, k) for slices in by_item]
    counted += [_of_users(slices, outcomes, judges, k) for slices in by_user]
    counted = [own for own in counted if (own.pairs > 0).sum() > 1]
    if not counted:
        return {outcome.name: () for outcome in outcomes}
    below = np.concatenate([own.below for own in counted], axis=1)
    above = np.concatenate([own.above for own in counted], axis=1)
    low, high = resamples.ratios(above, below, confidence)
    return {
        outcome.name: tuple(_told(counted, column, low[:, column], high[:, column]))
        for column, outcome in enumerate(outcomes)
    }


def user_recalls(outcome: Outcome, judges: Judges, k: int) -> np.ndarray:
    """Recall at k of each seed and user, (S, U), from the lists."""
    users, items = judges.held_out
    totals = np.bincount(users, minlength=len(judges.rows))
    found = [
        np.bincount(users, (lists[users, :k] == items[:, None]).any(axis=1), len(judges.rows))
        for lists in outcome.lists
    ]
    return np.asarray(np.stack(found) / totals)


def _of_items(slices: Slices, outcomes: Sequence[Outcome], judges: Judges, k: int) -> _Counted:
    users, items = judges.held_out
    found, held_out = [], np.zeros((len(judges.rows), len(slices.names)))
    for outcome in outcomes:
        hits = [member_hits(own[:, :k], users, items, slices.members) for own in outcome.lists]
        found.append(np.stack([own.found for own in hits], axis=2))
        held_out = hits[0].held_out
    return _Counted.of(slices, held_out.sum(axis=0), held_out, found)


def _of_users(slices: Slices, outcomes: Sequence[Outcome], judges: Judges, k: int) -> _Counted:
    held_out = np.bincount(judges.held_out[0], minlength=len(judges.rows))
    below = slices.members.astype(np.float64)
    found = [
        below[:, :, None] * user_recalls(outcome, judges, k).T[:, None, :] for outcome in outcomes
    ]
    return _Counted.of(slices, held_out @ slices.members, below, found)


def _told(
    counted: Sequence[_Counted], column: int, low: np.ndarray, high: np.ndarray
) -> Iterator[SliceEstimate]:
    """The estimates of one system, in the order of the slices."""
    row = 0
    for own in counted:
        for place, name in enumerate(own.slices.names):
            yield SliceEstimate(
                kind=own.slices.kind,
                name=name,
                members=int(own.slices.members[:, place].sum()),
                pairs=int(own.pairs[place]),
                recall=_estimate(own.seeds[column][place], low[row], high[row]),
            )
            row += 1


def _estimate(seeds: np.ndarray, low: float, high: float) -> Estimate:
    if not np.isfinite([*seeds, low, high]).all():
        return Estimate(mean=None, low=None, high=None, seeds=(None,) * len(seeds))
    return Estimate(
        mean=float(seeds.mean()), low=float(low), high=float(high), seeds=tuple(seeds.tolist())
    )
