"""Vectors of consecutive items in memory, and as the columns of an Arrow table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extract.errors import UserError
from extract.ledger import Problem

MODALITIES = ("image", "text", "fused")


@dataclass(frozen=True)
class EmbeddingBatch:
    """Vectors of consecutive items of a catalogue.

    Attributes:
        item_ids: External ids, n of them.
        content: Digest of each item's text and picture.
        vectors: Modality to an (n, dim) float array; rows of absent items are ignored.
        present: Modality to an (n,) boolean array.
        problems: Why rows are absent.
    """

    item_ids: Sequence[str]
    content: Sequence[str]
    vectors: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    problems: Sequence[Problem] = ()

    def __post_init__(self) -> None:
        """Check that all arrays speak of the same items."""
        n = len(self.item_ids)
        if len(self.content) != n or self.vectors.keys() != self.present.keys():
            raise ValueError("ids, digests, vectors and presence must describe the same items")
        for modality, vectors in self.vectors.items():
            present = self.present[modality]
            if vectors.ndim != 2 or len(vectors) != n or present.shape != (n,):
                raise ValueError(
                    f"{modality}: expected ({n}, dim) vectors and ({n},) presence, "
                    f"found {vectors.shape} and {present.shape}"
                )


def unusable_rows(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Which rows of (n, dim) vectors say nothing, by problem: ``zero``, ``not_finite``; (n,) bool.

    A zero vector has no direction: its cosine with anything is 0/0.
    """
    return {
        "zero": (vectors == 0).all(axis=1),
        "not_finite": ~np.isfinite(vectors).all(axis=1),
    }


def usable_rows(vectors: np.ndarray) -> np.ndarray:
    """Which rows of (n, dim) vectors are finite and not zero, (n,) bool."""
    return ~np.logical_or(*unusable_rows(vectors).values())


def to_table(batch: EmbeddingBatch, dims: Mapping[str, int], dtype: np.dtype) -> pa.Table:
    """The columns ``item_id``, ``content``, and one of vectors per modality, null where absent.

    Raises:
        UserError: A present vector is not finite in the stored type.
    """
    columns: dict[str, pa.Array] = {
        "item_id": pa.array(batch.item_ids, pa.string()),
        "content": pa.array(batch.content, pa.string()),
    }
    for modality, dim in dims.items():
        columns[modality] = _column(batch, modality, dim, dtype)
    return pa.table(columns)


def from_table(table: pa.Table, dims: Mapping[str, int]) -> EmbeddingBatch:
    """What `to_table` made a table of, but for the problems."""
    vectors: dict[str, np.ndarray] = {}
    present: dict[str, np.ndarray] = {}
    for modality, dim in dims.items():
        column = table[modality].combine_chunks()
        present[modality] = pc.is_valid(column).to_numpy(zero_copy_only=False)
        # `.values` keeps the place of null rows; `.flatten()` would drop them.
        values = column.values.to_numpy(zero_copy_only=False)
        first = column.offset * dim
        vectors[modality] = values[first : first + len(column) * dim].reshape(-1, dim)
    ids, content = table["item_id"].to_pylist(), table["content"].to_pylist()
    return EmbeddingBatch(ids, content, vectors, present)


def _column(batch: EmbeddingBatch, modality: str, dim: int, dtype: np.dtype) -> pa.Array:
    vectors, present = batch.vectors[modality], batch.present[modality]
    if vectors.shape[1] != dim:
        raise ValueError(f"{modality}: expected vectors of {dim}, found {vectors.shape[1]}")
    # A number too large for float16 becomes inf here, so finiteness is checked after the cast.
    with np.errstate(over="ignore"):
        stored = np.where(present[:, None], vectors, 0).astype(dtype)
    bad = ~np.isfinite(stored).all(axis=1)
    if bad.any():
        item = batch.item_ids[int(np.flatnonzero(bad)[0])]
        raise UserError(
            f"the {modality} vector of item {item!r} is not finite (one of {int(bad.sum())} in "
            "this batch); a lower precision may overflow: try --precision fp32"
        )
    flat = stored.reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), dim, mask=pa.array(~present))
