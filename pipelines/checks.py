"""The data contract: one small function per rule, each naming those that break it.

A check looks at evidence that was read before and gives back the offenders, as words for people;
the tables at the end say how grave an offence is.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from extract.shards import EmbeddingBatch, Manifest
from pipelines.workspace import SPLITS

Level = Literal["ok", "warn", "error"]
Offenders = Sequence[str]


@dataclass(frozen=True)
class DataEvidence:
    """The two tables of a data set, as columns.

    Attributes:
        item_ids: Ids of the items, as they stand; one that is absent is empty.
        texts: One text per item, or None.
        users: User of each interaction.
        items: Item of each interaction.
        splits: Split of each interaction.
        pictures: From row to what is wrong with the picture: a kind and a detail.
        changed: What differs from the description that preparing wrote.
    """

    item_ids: Sequence[str]
    texts: Sequence[str | None]
    users: Sequence[str]
    items: Sequence[str]
    splits: Sequence[str]
    pictures: Mapping[int, tuple[str, str]]
    changed: Sequence[str] = ()

    def users_of(self, split: str) -> set[str]:
        """The users with an interaction of that split."""
        return {user for user, of in zip(self.users, self.splits, strict=True) if of == split}


@dataclass(frozen=True)
class FeatureEvidence:
    """A finished feature folder beside the catalogue.

    Attributes:
        item_ids: The catalogue's ids.
        content: The digest of each item's text and picture as they are now.
        catalogue_digest: The catalogue's own digest.
        manifest: What the folder says of itself.
        batches: Its shards.
        changed_shards: Files that are not what the manifest says.
    """

    item_ids: Sequence[str]
    content: Sequence[str]
    catalogue_digest: str
    manifest: Manifest
    batches: Sequence[EmbeddingBatch]
    changed_shards: Sequence[str] = ()

    @property
    def rows(self) -> list[str]:
        """The item of each row of features."""
        return [item for batch in self.batches for item in batch.item_ids]


def duplicate_items(data: DataEvidence) -> Offenders:
    """Item ids with more than one row."""
    return [item for item, count in Counter(data.item_ids).items() if count > 1]


def unnamed(data: DataEvidence) -> Offenders:
    """Rows without an id, of either table."""
    columns = {"item_id": data.item_ids, "user_id": data.users, "item_id of the log": data.items}
    return [
        f"row {row}, {name}"
        for name, column in columns.items()
        for row, value in enumerate(column)
        if not value
    ]


def unknown_splits(data: DataEvidence) -> Offenders:
    """Names of splits that are none."""
    return sorted(map(repr, set(data.splits) - set(SPLITS)))


def duplicate_pairs(data: DataEvidence) -> Offenders:
    """Pairs that stand more than once in one split."""
    counts = Counter(zip(data.users, data.items, data.splits, strict=True))
    return [f"{user} with {item}" for (user, item, _), count in counts.items() if count > 1]


def pairs_in_two_splits(data: DataEvidence) -> Offenders:
    """Pairs whose answer is known before the question."""
    distinct = set(zip(data.users, data.items, data.splits, strict=True))
    counts = Counter((user, item) for user, item, _ in distinct)
    return sorted(f"{user} with {item}" for (user, item), count in counts.items() if count > 1)


def unknown_items(data: DataEvidence) -> Offenders:
    """Interactions with an item that the catalogue lacks."""
    known = set(data.item_ids)
    return [
        f"{user} with {item}"
        for user, item in zip(data.users, data.items, strict=True)
        if item not in known
    ]


def users_without_training(data: DataEvidence) -> Offenders:
    """Users of whom nothing can be learned."""
    return sorted(set(data.users) - data.users_of("train"))


def users_without_test(data: DataEvidence) -> Offenders:
    """Users whom the test leaves out."""
    return sorted(set(data.users) - data.users_of("test"))


def cold_items(data: DataEvidence) -> Offenders:
    """Items that nobody took in training."""
    pairs = zip(data.items, data.splits, strict=True)
    trained = {item for item, split in pairs if split == "train"}
    return [item for item in data.item_ids if item not in trained]


def no_training(data: DataEvidence) -> Offenders:
    """Whether there is nothing to train on."""
    return [] if "train" in data.splits else ["no interaction has the split train"]


def missing_pictures(data: DataEvidence) -> Offenders:
    """Items without a picture file."""
    return _pictures(data, lambda kind: kind == "missing")


def broken_pictures(data: DataEvidence) -> Offenders:
    """Items whose picture cannot be used."""
    return _pictures(data, lambda kind: kind != "missing")


def empty_texts(data: DataEvidence) -> Offenders:
    """Items without a text."""
    return [
        item
        for item, text in zip(data.item_ids, data.texts, strict=True)
        if not (text or "").strip()
    ]


def neither(data: DataEvidence) -> Offenders:
    """Items with neither a text nor a picture: content says nothing of them."""
    pictureless = {data.item_ids[row] for row in data.pictures}
    return [item for item in empty_texts(data) if item in pictureless]


def changed_tables(data: DataEvidence) -> Offenders:
    """What is no longer as it was prepared."""
    return data.changed


def changed_shards(features: FeatureEvidence) -> Offenders:
    """Files that are not what the manifest says."""
    return features.changed_shards


def items_without_row(features: FeatureEvidence) -> Offenders:
    """Items of the catalogue that the features do not know."""
    known = set(features.rows)
    return [item for item in features.item_ids if item not in known]


def rows_without_item(features: FeatureEvidence) -> Offenders:
    """Rows of items that the catalogue does not know."""
    known = set(features.item_ids)
    return [item for item in features.rows if item not in known]


def duplicate_rows(features: FeatureEvidence) -> Offenders:
    """Items with more than one row of features."""
    return [item for item, count in Counter(features.rows).items() if count > 1]


def other_catalogue(features: FeatureEvidence) -> Offenders:
    """Whether the features were made for another list of items."""
    expected, found = features.catalogue_digest, features.manifest.items_digest
    return [] if expected == found else [f"made for {found[:8]}, the catalogue is {expected[:8]}"]


def stale_rows(features: FeatureEvidence) -> Offenders:
    """Items whose text or picture is another one than was encoded."""
    if features.manifest.encoder.get("spec") == "npy":
        return []  # such rows carry the digest of a vector, for want of what was encoded
    now = dict(zip(features.item_ids, features.content, strict=True))
    return [
        item
        for batch in features.batches
        for item, then in zip(batch.item_ids, batch.content, strict=True)
        if now.get(item, then) != then
    ]


def not_finite(features: FeatureEvidence) -> Offenders:
    """Vectors with a number that is none."""
    return _vectors(features, lambda vectors: ~np.isfinite(vectors).all(axis=1))


def zero(features: FeatureEvidence) -> Offenders:
    """Vectors that are zero and say nothing, but are not recorded as absent."""
    return _vectors(features, lambda vectors: (vectors == 0).all(axis=1))


def _pictures(data: DataEvidence, wanted: Callable[[str], bool]) -> Offenders:
    return [
        f"{data.item_ids[row]} ({detail})"
        for row, (kind, detail) in data.pictures.items()
        if wanted(kind)
    ]


def _vectors(features: FeatureEvidence, bad: Callable[[np.ndarray], np.ndarray]) -> Offenders:
    return [
        f"{batch.item_ids[int(row)]} ({modality})"
        for modality in features.manifest.dims
        for batch in features.batches
        for row in np.flatnonzero(bad(batch.vectors[modality]) & batch.present[modality])
    ]


class Check(NamedTuple):
    """A rule: what its offenders are called, how grave they are, and who finds them."""

    offence: str
    level: Level
    find: Callable[[Any], Offenders]


DATA_CHECKS = (
    Check("rows without an id", "error", unnamed),
    Check("item ids with several rows", "error", duplicate_items),
    Check("unknown splits", "error", unknown_splits),
    Check("repeated pairs", "error", duplicate_pairs),
    Check("pairs in two splits", "error", pairs_in_two_splits),
    Check("interactions with unknown items", "error", unknown_items),
    Check("nothing to train on", "error", no_training),
    Check("users without training items", "warn", users_without_training),
    Check("users without test items", "warn", users_without_test),
    Check("items without training users", "warn", cold_items),
    Check("missing pictures", "warn", missing_pictures),
    Check("unusable pictures", "warn", broken_pictures),
    Check("empty texts", "warn", empty_texts),
    Check("items with neither text nor picture", "warn", neither),
    Check("tables changed since preparing", "warn", changed_tables),
)

FEATURE_CHECKS = (
    Check("shards changed since extraction", "error", changed_shards),
    Check("items without features", "error", items_without_row),
    Check("features of unknown items", "error", rows_without_item),
    Check("items with several rows of features", "error", duplicate_rows),
    Check("another catalogue", "warn", other_catalogue),
    Check("items changed since extraction", "warn", stale_rows),
    Check("vectors that are not finite", "error", not_finite),
    Check("vectors that are zero", "warn", zero),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    offence: str
    level: Level
    offenders: Offenders


def judge(checks: Sequence[Check], evidence: DataEvidence | FeatureEvidence) -> list[Finding]:
    """What each check finds."""
    findings = []
    for check in checks:
        offenders = check.find(evidence)
        findings.append(Finding(check.offence, check.level if offenders else "ok", offenders))
    return findings
