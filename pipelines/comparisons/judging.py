"""From finished runs to what may be concluded: the one way to a `Comparison`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from extract.errors import UserError, unknown_name
from pipelines.comparisons.concluding.answering import answers
from pipelines.comparisons.concluding.contrasts import (
    Pair,
    best_without_features,
    contrasts,
    pairs,
)
from pipelines.comparisons.contents import Comparison, Contrast, Failure, System
from pipelines.comparisons.measuring.facts import describe, facts, split_name
from pipelines.comparisons.measuring.feature_sets import FeatureSet, feature_sets
from pipelines.comparisons.measuring.listing_quality import K
from pipelines.comparisons.measuring.outcomes import Judges, Outcome, outcome_of
from pipelines.comparisons.measuring.published import published_beside
from pipelines.comparisons.measuring.standing import Standard, build_systems
from pipelines.comparisons.measuring.systems import SAME, feature_names, group_runs, open_runs
from pipelines.comparisons.measuring.unseen import (
    LEAST_SHARE,
    Chances,
    Unseen,
    chances,
    cold_recall,
    unseen_items,
    with_unseen,
)
from pipelines.comparisons.words import counted, figure, listed
from pipelines.loading import load_log, log_digests
from pipelines.runs import FinishedRun
from pipelines.workspace import Dataset, Workspace
from recommend.evaluate import DEPTH
from recommend.interactions import InteractionLog
from recommend.significance import DRAWS, Test

TESTS = get_args(Test)


@dataclass(frozen=True)
class JudgeOptions:
    """How to judge.

    Attributes:
        name: Of the comparison.
        primary: The metric of contrasts; its cutoff is that of slices.
        confidence: Of all intervals, and with it the level of all tests.
        test: Which test gives the p-values.
        seed: Of resamples and signs.
        command: What makes the comparison again.
        searched: Name of a run's folder to how many trials chose its settings.
    """

    name: str = "compare"
    primary: str = "recall@20"
    confidence: float = 0.95
    test: Test = "randomisation"
    seed: int = 0
    command: str = ""
    searched: Mapping[str, int] = field(default_factory=dict)

    @property
    def cutoff(self) -> int:
        """Of the primary metric.

        Raises:
            UserError: It has none, or one that lists are too short for.
        """
        _, _, cutoff = self.primary.partition("@")
        if not cutoff.isdecimal() or not 1 <= int(cutoff) <= DEPTH:
            raise UserError(
                f"the primary metric is written like recall@20, with a cutoff of 1 to {DEPTH}; "
                f"found {self.primary!r}"
            )
        return int(cutoff)


def judge(
    workspace: Workspace,
    dataset: str,
    runs: Sequence[Path],
    failures: Sequence[Failure],
    options: JudgeOptions,
) -> Comparison:
    """Judge finished runs.

    Args:
        workspace: Where the data set lies.
        dataset: On what they were trained.
        runs: Their folders.
        failures: Cells that gave no result, to be told.
        options: How to judge.

    Raises:
        UserError: Runs cannot be compared, or are not of the data set as it is now.
    """
    _check(options)
    own, opened = workspace.dataset(dataset), open_runs(runs)
    judges = Judges(load_log(own))
    _check_data(opened, judges.log, own)
    sets = feature_sets(own, feature_names(opened))
    groups = group_runs(opened, sets)
    depth = max(options.cutoff, K)
    protocol = opened[0].config.protocol
    unseen = unseen_items(judges, protocol)
    outcomes = [
        with_unseen(
            outcome_of(group, judges, options.primary, depth), judges, unseen, options.cutoff
        )
        for group in groups
    ]
    standard = Standard(
        options.primary, options.cutoff, options.confidence, options.seed, options.searched
    )
    systems = build_systems(outcomes, judges, own, sets, unseen, standard)
    chance = chances(judges, protocol, unseen, options.cutoff)
    found = _pairs(outcomes, systems, sets, options, unseen)
    by_name = {outcome.name: outcome for outcome in outcomes}
    told = contrasts(found, by_name, options.seed, options.test, options.confidence)
    description = describe(own)
    split = split_name(description)
    published, reason = published_beside(systems, description, split, protocol)
    comparison = Comparison(
        name=options.name,
        dataset=own.name,
        split=split,
        protocol=protocol,
        users=len(judges.rows),
        primary=options.primary,
        confidence=options.confidence,
        test=options.test,
        systems=tuple(systems),
        contrasts=tuple(told),
        published=tuple(published),
        failures=tuple(failures),
        facts={
            **facts(groups, sets, judges.log, description),
            "tests": _tests(told, options),
            **_of_chance(chance, options.cutoff),
            "published figures": reason,
        },
        command=options.command,
        made=_now(),
    )
    kinds = {name: known.kind for name, known in sets.items()}
    return comparison.model_copy(update={"answers": answers(comparison, kinds, chance)})


def of_failures(
    workspace: Workspace,
    dataset: str,
    failures: Sequence[Failure],
    options: JudgeOptions,
    protocol: str,
) -> Comparison:
    """A comparison in which no cell has a result.

    Args:
        workspace: Where the data set lies.
        dataset: On what they were to be trained.
        failures: The cells.
        options: How to judge.
        protocol: Of the cells.
    """
    description = describe(workspace.dataset(dataset))
    return Comparison(
        name=options.name,
        dataset=dataset,
        split=split_name(description),
        protocol=protocol,
        users=0,
        primary=options.primary,
        confidence=options.confidence,
        test=options.test,
        systems=(),
        failures=tuple(failures),
        command=options.command,
        made=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check(options: JudgeOptions) -> None:
    if not 0 < options.confidence < 1:
        raise UserError(
            f"the confidence lies between 0 and 1, such as 0.95; found {options.confidence}"
        )
    if options.test not in TESTS:
        raise unknown_name("test", options.test, TESTS)


def _check_data(runs: Sequence[FinishedRun], log: InteractionLog, dataset: Dataset) -> None:
    """Runs share their data with each other already; with the data set the first one must."""
    now, then = log_digests(log), runs[0].metrics["digests"]
    differing = [what for key, what in SAME.items() if now[key] != then[key]]
    if differing:
        raise UserError(
            f"the runs were made on another state of the data set {dataset.name!r}: another "
            f"{' and '.join(differing)} than it has now; train them again, or bring it back"
        )


def _pairs(
    outcomes: Sequence[Outcome],
    systems: Sequence[System],
    sets: Mapping[str, FeatureSet],
    options: JudgeOptions,
    unseen: Unseen | None,
) -> Mapping[str, Sequence[Pair]]:
    """By which metric which systems are compared: on cold items too where the test is of them."""
    groups = [own.group for own in outcomes]
    found = {options.primary: pairs(groups, sets, best_without_features(groups, options.primary))}
    if unseen is not None and unseen.share >= LEAST_SHARE:
        # The order of items that a system does not tell apart is that of the catalogue.
        able = {own.name for own in systems if own.scores_unseen}
        telling = [group for group in groups if group.name in able]
        found[cold_recall(options.cutoff)] = pairs(telling, sets, None)
    return found


def _tests(told: Sequence[Contrast], options: JudgeOptions) -> str:
    """How many there were, and what that does to them."""
    number = counted(len(told), "contrast")
    metrics = listed(sorted({own.metric for own in told}) or [options.primary])
    tested = f"{number} by {metrics}, {options.test}, corrected together (Holm)"
    least = len(told) / (DRAWS + 1)
    if options.test == "randomisation" and least > 1 - options.confidence:
        return f"{tested}: so many that no corrected p can be below {least:.2f}; use wilcoxon"
    return tested


def _of_chance(chance: Chances, k: int) -> dict[str, str]:
    told = figure(chance.whole)
    if chance.unseen is not None:
        told += f"; of cold items among themselves {figure(chance.unseen)}"
    return {f"recall@{k} of lists drawn by chance": told}
