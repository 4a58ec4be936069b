"""The checks of features: each takes a feature folder as evidence, and names those that offend."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extract.manifest import Manifest
from extract.shards import EmbeddingBatch, unusable_rows

Offenders = Sequence[str]


@dataclass(frozen=True)
class FeatureEvidence:
    """A finished feature folder beside the catalogue.

    Attributes:
        item_ids: The catalogue's ids.
        content: The digest of each item's text and picture as they are now.
        catalogue_digests: Of the catalogue's ids alone, and of ids, texts and pictures.
        manifest: What the folder says of itself.
        batches: Its shards.
        changed_shards: Files that are not what the manifest says.
    """

    item_ids: Sequence[str]
    content: Sequence[str]
    catalogue_digests: tuple[str, str]
    manifest: Manifest
    batches: Sequence[EmbeddingBatch]
    changed_shards: Sequence[str] = ()

    @property
    def rows(self) -> list[str]:
        """The item of each row of features."""
        return [item for batch in self.batches for item in batch.item_ids]


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
    """Whether the features were made for other items, or for other texts or pictures of them."""
    found = features.manifest.items_digest
    if found in features.catalogue_digests:
        return []
    return [f"made for {found[:8]}, the catalogue is {features.catalogue_digests[-1][:8]}"]


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
    return _vectors(features, "not_finite")


def zero(features: FeatureEvidence) -> Offenders:
    """Vectors that are zero and say nothing, but are not recorded as absent."""
    return _vectors(features, "zero")


def _vectors(features: FeatureEvidence, problem: str) -> Offenders:
    return [
        f"{batch.item_ids[int(row)]} ({modality})"
        for modality in features.manifest.dims
        for batch in features.batches
        for row in np.flatnonzero(
            unusable_rows(batch.vectors[modality])[problem] & batch.present[modality]
        )
    ]
