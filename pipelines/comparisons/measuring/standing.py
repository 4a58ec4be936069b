"""A system as the document tells it: estimates, slices, lists beyond their hits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from extract.errors import UserError
from pipelines.comparisons.contents import Estimate, SliceEstimate, System
from pipelines.comparisons.measuring.feature_sets import FeatureSet
from pipelines.comparisons.measuring.listing_quality import beyond_accuracy, comparing_vectors
from pipelines.comparisons.measuring.outcomes import Judges, Outcome
from pipelines.comparisons.measuring.resampling import Resamples
from pipelines.comparisons.measuring.slice_kinds import (
    Slices,
    activity_slices,
    agreement_slices,
    item_slices,
)
from pipelines.comparisons.measuring.slicing import slice_estimates
from pipelines.comparisons.measuring.unseen import Unseen, cold_recall, tells_apart
from pipelines.loading import load_store
from pipelines.workspace import Dataset
from recommend.features import FeatureStore

AMONG = "cold items among themselves"


@dataclass(frozen=True)
class Standard:
    """By what all systems are measured.

    Attributes:
        primary: The metric by which they are sorted.
        cutoff: Its cutoff, and that of slices.
        confidence: Of intervals.
        seed: Of resamples.
        searched: Name of a run's folder to how many trials chose its settings.
    """

    primary: str
    cutoff: int
    confidence: float
    seed: int
    searched: Mapping[str, int]


def build_systems(
    outcomes: Sequence[Outcome],
    judges: Judges,
    dataset: Dataset,
    sets: Mapping[str, FeatureSet],
    unseen: Unseen | None,
    standard: Standard,
) -> list[System]:
    """All systems, best first.

    Args:
        outcomes: What was found.
        judges: The test users.
        dataset: Whose catalogue.
        sets: What is known of the feature sets, by name.
        unseen: The items that nobody took in training; None if there are none.
        standard: By what to measure.
    """
    resamples = Resamples(len(judges.rows), standard.seed)
    # Large multimodal vectors may be what is being judged; the plainest ones compare items.
    plainest = sorted((own for own in sets.values() if own.kind != "random"), key=_plainness)
    store = _first_store(plainest, dataset, judges)
    vectors = None if store is None else comparing_vectors(store)
    by_item = item_slices(dataset, judges.log, store) + _agreement(plainest, dataset, judges)
    by_user = [activity_slices(judges.log, judges.rows)]
    slices = slice_estimates(
        outcomes, judges, by_item, by_user, standard.cutoff, resamples, standard.confidence
    )
    test = _estimates(outcomes, resamples, standard)
    told = [
        _system(
            outcome,
            test[outcome.name],
            (*slices[outcome.name], *_among(test[outcome.name], unseen, standard.cutoff)),
            beyond_accuracy(outcome, judges, vectors),
            _scores_unseen(outcome, judges, unseen),
            standard,
        )
        for outcome in outcomes
    ]
    return sorted(told, key=lambda own: (-(own.test[standard.primary].mean or 0.0), own.name))


def _system(
    outcome: Outcome,
    test: Mapping[str, Estimate],
    slices: tuple[SliceEstimate, ...],
    beyond: Mapping[str, float | None],
    scores_unseen: bool | None,
    standard: Standard,
) -> System:
    group = outcome.group
    names = tuple(run.folder.name for run in group.runs)
    return System(
        name=group.name,
        model=group.model,
        features=group.features,
        regime=group.regime,
        control=group.control,
        scores_unseen=scores_unseen,
        settings=dict(group.settings),
        searched=max(standard.searched.get(name, 0) for name in names),
        runs=names,
        seeds=group.seeds,
        epochs=tuple(int(run.metrics["selection"]["epoch"]) for run in group.runs),
        seconds=tuple(float(run.metrics["seconds"]) for run in group.runs),
        test=dict(test),
        beyond=dict(beyond),
        slices=slices,
    )


def _estimates(
    outcomes: Sequence[Outcome], resamples: Resamples, standard: Standard
) -> dict[str, dict[str, Estimate]]:
    """Of all metrics: of users by the same resamples as slices, of items by resamples of these."""
    told: dict[str, dict[str, Estimate]] = {outcome.name: {} for outcome in outcomes}
    for metric in (*outcomes[0].metrics, *outcomes[0].by_item):
        columns = np.stack([outcome.of_units(metric) for outcome in outcomes], axis=1)
        of_users = metric in outcomes[0].metrics
        drawn = resamples if of_users else Resamples(len(columns), standard.seed)
        ends = zip(*drawn.means(columns, standard.confidence), strict=True)
        for outcome, (low, high) in zip(outcomes, ends, strict=True):
            values = outcome.metrics[metric] if of_users else outcome.by_item[metric]
            seeds = values.mean(axis=1)
            told[outcome.name][metric] = Estimate(
                mean=float(seeds.mean()),
                low=float(low),
                high=float(high),
                seeds=tuple(seeds.tolist()),
            )
    return told


def _among(
    test: Mapping[str, Estimate], unseen: Unseen | None, cutoff: int
) -> Iterator[SliceEstimate]:
    """Unseen items among themselves as a slice of its own."""
    estimate = test.get(cold_recall(cutoff))
    if unseen is not None and estimate is not None:
        yield SliceEstimate(
            kind=AMONG,
            name="unseen in training",
            members=len(unseen.rows),
            pairs=len(unseen.users),
            recall=estimate,
        )


def _scores_unseen(outcome: Outcome, judges: Judges, unseen: Unseen | None) -> bool | None:
    """Whether a run tells unseen items apart.

    Without features, all that could tell them apart is where their vectors happened to start.
    """
    if unseen is None:
        return None
    if not outcome.group.uses_features:
        return False
    return any(tells_apart(run, judges, unseen) for run in outcome.group.runs)


def _plainness(own: FeatureSet) -> tuple[bool, bool, str]:
    return own.tuned, own.kind != "modality-specific", own.name


def _first_store(
    sets: Sequence[FeatureSet], dataset: Dataset, judges: Judges
) -> FeatureStore | None:
    """The first features that can be read."""
    for own in sets:
        try:
            return load_store(dataset, own.name, judges.log, seed=0)
        except UserError:  # stale or torn: it is no part of what was measured
            continue
    return None


def _agreement(sets: Sequence[FeatureSet], dataset: Dataset, judges: Judges) -> list[Slices]:
    """By how well pictures and texts agree, if some features tell."""
    for own in sets:
        if own.one_space:
            store = _first_store([own], dataset, judges)
            slices = None if store is None else agreement_slices(store, own.name)
            if slices is not None:
                return [slices]
    return []
