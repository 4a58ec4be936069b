"""Which items a page shows, and what it says of each."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa

from extract.catalog import Catalog, is_blank
from pipelines.comparisons.measuring.slice_kinds import CATEGORIES
from pipelines.pages.contents import Item
from pipelines.pages.material import Material
from pipelines.pages.thumbnails import LEFT_OUT, Thumbnail, thumbnails
from pipelines.progress import Reporter

LONGEST_TEXT = 300


def shown_items(taken: np.ndarray, needed: Collection[int], limit: int) -> np.ndarray:
    """Rows of the items to show, those that most users took first.

    Args:
        taken: How many users took each item in training, (I,).
        needed: Rows that must be shown, at most `limit`.
        limit: How many to show; those that are not needed are the most taken.
    """
    must = np.zeros(len(taken), bool)
    must[list(needed)] = True
    by_need = np.lexsort((np.arange(len(taken)), -taken, ~must))
    shown = by_need[:limit]
    return shown[np.lexsort((shown, -taken[shown]))]


def describe_items(
    material: Material, shown: np.ndarray, pictures: bool, reporter: Reporter
) -> tuple[Item, ...]:
    """What is said of the items of some rows, in their order.

    Args:
        material: What the page is made from.
        shown: Rows of the items, (n,).
        pictures: Whether to make thumbnails.
        reporter: Where to tell progress.
    """
    catalog = Catalog.from_table(material.items, material.dataset.images)
    small: Sequence[Thumbnail] = [(None, LEFT_OUT)] * len(shown)
    if pictures:
        small = thumbnails(catalog, shown, reporter)
    categories = _categories(material.items)
    taken = material.log.split.train.item_degrees
    return tuple(
        Item(
            id=str(material.log.items.ids[row]),
            text=_text(catalog.text(int(row))),
            taken=int(taken[row]),
            category=categories[row],
            thumbnail=picture,
            why=why,
        )
        for row, (picture, why) in zip(shown, small, strict=True)
    )


def _text(text: str | None) -> str | None:
    """A text, or its beginning; None where there is nothing to read."""
    if text is None or is_blank(text):
        return None
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _categories(items: pa.Table) -> list[str | None]:
    """Of each item the first of its categories that is not said of every item."""
    column = next((name for name in CATEGORIES if name in items.column_names), None)
    if column is None:
        return [None] * items.num_rows
    own = [_labels(value) for value in items[column].to_pylist()]
    counts = Counter(label for labels in own for label in set(labels))
    known = sum(map(bool, own))
    return [next((name for name in labels if counts[name] < known), None) for labels in own]


def _labels(value: str | Iterable[str] | None) -> list[str]:
    parts: Iterable[str] = value.split("|") if isinstance(value, str) else value or ()
    return [part.strip() for part in parts if part and part.strip()]
