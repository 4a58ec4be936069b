"""Where two spaces differ: how many of an item's nearest they have in common."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from pipelines.pages.contents import Disagreement, Space

AMONG = 10
GRAPH = "graph"


def disagreements(spaces: Sequence[Space], reference: str) -> tuple[Disagreement, ...]:
    """Picture against text of each feature set, a modality across sets, and each against one space.

    Args:
        spaces: The spaces.
        reference: Name of the space that all features are held against.
    """
    return tuple(
        Disagreement(one=one.name, other=other.name, overlap=overlaps(one, other))
        for one, other in _pairs(spaces, reference)
    )


def overlaps(one: Space, other: Space) -> tuple[float | None, ...]:
    """For each item the share of common ones among its nearest `AMONG` of each space.

    Where a space has fewer, as many of the other are looked at; None where either has none.
    """
    pairs = zip(one.neighbours, other.neighbours, strict=True)
    return tuple(_overlap(ours, theirs) for ours, theirs in pairs)


def _overlap(ours: Sequence[int], theirs: Sequence[int]) -> float | None:
    depth = min(AMONG, len(ours), len(theirs))
    if not depth:
        return None
    return round(len(set(ours[:depth]) & set(theirs[:depth])) / depth, 3)


def _pairs(spaces: Sequence[Space], reference: str) -> Iterator[tuple[Space, Space]]:
    features = [space for space in spaces if space.modality != GRAPH]
    for one, other in combinations(features, 2):
        if one.features == other.features and {one.modality, other.modality} == {"image", "text"}:
            yield one, other
    for one, other in combinations(features, 2):
        if one.features != other.features and one.modality == other.modality:
            yield one, other
    for space in features:
        yield from ((space, held) for held in spaces if held.name == reference)
