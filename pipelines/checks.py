"""The data contract as two tables: what an offence is called, how grave it is, who finds it.

A check looks at evidence that was read before and gives back the offenders, as words for people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipelines import data_checks, feature_checks

Level = Literal["ok", "warn", "error"]


class Check(NamedTuple):
    """A rule: what its offenders are called, how grave they are, and who finds them."""

    offence: str
    level: Level
    find: Callable[[Any], Sequence[str]]


DATA_CHECKS = (
    Check("unfinished preparing", "error", data_checks.unfinished),
    Check("rows without an id", "error", data_checks.unnamed),
    Check("item ids with several rows", "error", data_checks.duplicate_items),
    Check("unknown splits", "error", data_checks.unknown_splits),
    Check("repeated pairs", "error", data_checks.duplicate_pairs),
    Check("pairs in two splits", "error", data_checks.pairs_in_two_splits),
    Check("interactions with unknown items", "error", data_checks.unknown_items),
    Check("nothing to train on", "error", data_checks.no_training),
    Check("users without training items", "warn", data_checks.users_without_training),
    Check("users without test items", "warn", data_checks.users_without_test),
    Check("items without training users", "warn", data_checks.cold_items),
    Check("missing pictures", "warn", data_checks.missing_pictures),
    Check("unusable pictures", "warn", data_checks.broken_pictures),
    Check("empty texts", "warn", data_checks.empty_texts),
    Check("items with neither text nor picture", "warn", data_checks.neither),
    Check("near-duplicate pictures", "warn", data_checks.alike_pictures),
    Check("near-duplicate texts", "warn", data_checks.alike_texts),
    Check("tables changed since preparing", "warn", data_checks.changed_tables),
)

FEATURE_CHECKS = (
    Check("shards changed since extraction", "error", feature_checks.changed_shards),
    Check("items without features", "error", feature_checks.items_without_row),
    Check("features of unknown items", "error", feature_checks.rows_without_item),
    Check("items with several rows of features", "error", feature_checks.duplicate_rows),
    Check("another catalogue", "warn", feature_checks.other_catalogue),
    Check("items changed since extraction", "warn", feature_checks.stale_rows),
    Check("vectors that are not finite", "error", feature_checks.not_finite),
    Check("vectors that are zero", "warn", feature_checks.zero),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    offence: str
    level: Level
    offenders: Sequence[str]


def judge(
    checks: Sequence[Check], evidence: data_checks.DataEvidence | feature_checks.FeatureEvidence
) -> list[Finding]:
    """What each check finds."""
    findings = []
    for check in checks:
        offenders = check.find(evidence)
        findings.append(Finding(check.offence, check.level if offenders else "ok", offenders))
    return findings
