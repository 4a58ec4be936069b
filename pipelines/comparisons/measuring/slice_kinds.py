"""Which slices a data set has: sets of items, and of test users."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.workspace import Dataset, read_table
from recommend.features import FeatureStore
from recommend.interactions import InteractionLog
from recommend.slices import popularity_slices

FIFTHS = ("second", "third", "fourth")
QUARTERS = 4
# Columns of a catalogue that hold categories, the first one found is used.
CATEGORIES = ("genres", "category", "categories", "main_category")
LARGEST = 8
OTHER = "other"


@dataclass(frozen=True)
class Slices:
    """Slices of one kind.

    Attributes:
        kind: What is sliced by.
        names: Of the S slices.
        members: Whether each item, or each test user, is in each, (I or U, S) bool.
    """

    kind: str
    names: tuple[str, ...]
    members: np.ndarray


def item_slices(dataset: Dataset, log: InteractionLog, store: FeatureStore | None) -> list[Slices]:
    """Slices by popularity, by what was seen in training, by modalities and by category.

    Args:
        dataset: Whose items.
        log: Its log.
        store: Features that tell which items' pictures and texts were usable; None if unknown.
    """
    items = _aligned(read_table(dataset.items, ["item_id"]), log)
    taken = log.split.train.item_degrees
    every = [_popularity(taken), _warmth(taken), _modalities(items, store), _categories(items)]
    return [slices for slices in every if slices is not None]


def agreement_slices(store: FeatureStore, name: str) -> Slices | None:
    """Fifths of the items by the cosine of picture and text; None where no item has both.

    Args:
        store: Vectors of pictures and texts in one space.
        name: Of the features.
    """
    both = np.flatnonzero(store.present["image"] & store.present["text"])
    if not both.size:
        return None
    image, text = (_unit(store.tables[modality][both]) for modality in ("image", "text"))
    order = both[np.argsort((image * text).sum(axis=1), kind="stable")]
    slice_of = np.full(len(store.present["image"]), -1)
    slice_of[order] = np.arange(len(order)) * 5 // len(order)
    names = ("least alike fifth", *(f"{nth} fifth" for nth in FIFTHS), "most alike fifth")
    return Slices(f"image-text agreement ({name})", names, _one_hot(slice_of, 5))


def activity_slices(log: InteractionLog, users: np.ndarray) -> Slices:
    """About quarters of the test users by how much they took in training.

    Users who took equally much are never parted, so that there may be fewer than four.

    Args:
        log: The log.
        users: Rows of the test users, (U,).
    """
    taken = log.split.train.user_degrees[users]
    bounds = np.quantile(taken, np.arange(1, QUARTERS) / QUARTERS, method="inverted_cdf")
    quarters = np.searchsorted(np.unique(bounds), taken)
    present, slice_of = np.unique(quarters, return_inverse=True)
    names = [_range(taken[slice_of == place]) for place in range(len(present))]
    return Slices("user activity", tuple(names), _one_hot(slice_of, len(present)))


def _popularity(taken: np.ndarray) -> Slices:
    names = ("rarest fifth", *(f"{nth} fifth" for nth in FIFTHS), "most taken fifth")
    return Slices("item popularity", names, _one_hot(popularity_slices(taken, 5), 5))


def _warmth(taken: np.ndarray) -> Slices:
    names = ("unseen in training", "seen in training")
    return Slices("cold items", names, np.stack([taken == 0, taken > 0], axis=1))


def _modalities(items: pa.Table, store: FeatureStore | None) -> Slices | None:
    """By what an item lacks; None where none lacks anything."""
    has = {
        modality: _has(items, modality) & _present(items, store, modality)
        for modality in ("image", "text")
    }
    image, text = has["image"], has["text"]
    if (image & text).all():
        return None
    names = ("picture and text", "text only", "picture only", "neither")
    members = np.stack([image & text, ~image & text, image & ~text, ~image & ~text], axis=1)
    return Slices("modalities", names, members)


def _has(items: pa.Table, column: str) -> np.ndarray:
    if column not in items.column_names:
        return np.zeros(items.num_rows, bool)
    return np.array([bool(value and value.strip()) for value in items[column].to_pylist()], bool)


def _present(items: pa.Table, store: FeatureStore | None, modality: str) -> np.ndarray:
    if store is None or modality not in store.present:
        return np.ones(items.num_rows, bool)
    return store.present[modality]


def _categories(items: pa.Table) -> Slices | None:
    """The largest categories, an item in each of its own, and all others in one."""
    column = next((name for name in CATEGORIES if name in items.column_names), None)
    if column is None:
        return None
    own = [_labels(value) for value in items[column].to_pylist()]
    known = sum(map(bool, own))
    counts = Counter(label for labels in own for label in labels)
    # What is said of every item tells none apart.
    ranked = sorted((-n, label) for label, n in counts.items() if n < known)
    largest = [label for _, label in ranked[:LARGEST]]
    if not largest:
        return None
    members = np.array([[label in labels for label in largest] for labels in own], bool)
    rest = np.array([bool(labels) for labels in own]) & ~members.any(axis=1)
    names = tuple(largest)
    if rest.any():
        names, members = (*names, OTHER), np.column_stack([members, rest])
    return Slices("category", names, members)


def _labels(value: str | Iterable[str] | None) -> set[str]:
    """The categories of one item: a list, or a text with strokes between them."""
    parts: Iterable[str] = value.split("|") if isinstance(value, str) else value or ()
    return {part.strip() for part in parts if part and part.strip()}


def _aligned(items: pa.Table, log: InteractionLog) -> pa.Table:
    """The catalogue in the order of the log's items."""
    rows = log.items.rows(items["item_id"].to_pylist(), "item")
    return items.take(pa.array(np.argsort(rows)))


def _one_hot(slice_of: np.ndarray, n_slices: int) -> np.ndarray:
    return np.asarray(slice_of[:, None] == np.arange(n_slices))


def _range(taken: Sequence[int] | np.ndarray) -> str:
    low, high = int(min(taken)), int(max(taken))
    unit = "item" if high == 1 else "items"
    return f"{low:,} {unit} taken" if low == high else f"{low:,} to {high:,} {unit} taken"


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
