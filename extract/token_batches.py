"""Token vectors of consecutive items in memory, and as the columns of an Arrow table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extract.errors import UserError
from extract.ledger import Problem


class Ragged(NamedTuple):
    """The vectors of n items, of each as many as it has patches or words.

    Attributes:
        values: All of them, (total, dim), one item's after the other's.
        offsets: Where each item's begin, and where the last one's end, (n + 1,) int64.
        present: Which items have any, (n,) bool.
    """

    values: np.ndarray
    offsets: np.ndarray
    present: np.ndarray

    def of(self, row: int) -> np.ndarray:
        """One item's vectors, (length, dim)."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def longest(self) -> int:
        """The most vectors that an item has."""
        return int(np.diff(self.offsets).max(initial=0))

    @classmethod
    def from_items(cls, items: Sequence[np.ndarray | None], dim: int, dtype: np.dtype) -> "Ragged":
        """From (length, dim) vectors per item, None where it has none."""
        lengths = [0 if vectors is None else len(vectors) for vectors in items]
        there = [vectors for vectors in items if vectors is not None]
        values = np.concatenate([np.empty((0, dim), dtype), *there], dtype=dtype)
        present = np.array([vectors is not None for vectors in items], bool)
        return cls(values, _offsets(np.array(lengths, np.int64)), present)


@dataclass(frozen=True)
class TokenBatch:
    """Token vectors of consecutive items of a catalogue.

    Attributes:
        item_ids: External ids, n of them.
        content: Digest of each item's text and picture.
        tokens: Modality to the items' vectors.
        problems: What lacks although the item has a picture or a text that can be used; other
            absences stand in the ledger of the feature folder.
    """

    item_ids: Sequence[str]
    content: Sequence[str]
    tokens: Mapping[str, Ragged]
    problems: Sequence[Problem] = ()


def token_schema(dims: Mapping[str, int], dtype: np.dtype) -> pa.Schema:
    """The columns of a token shard: ``item_id``, ``content``, and one of lists per modality."""
    kind = pa.from_numpy_dtype(dtype)
    columns = [("item_id", pa.string()), ("content", pa.string())]
    return pa.schema([*columns, *((name, pa.list_(pa.list_(kind, d))) for name, d in dims.items())])


def to_table(batch: TokenBatch, dims: Mapping[str, int], dtype: np.dtype) -> pa.Table:
    """A batch as a table of `token_schema`; a list is null where the item has none.

    Raises:
        UserError: A vector is not finite in the stored type.
    """
    schema = token_schema(dims, dtype)
    columns = [pa.array(batch.item_ids, pa.string()), pa.array(batch.content, pa.string())]
    for modality, dim in dims.items():
        columns.append(_column(batch, modality, dim, dtype))
    return pa.table(columns, schema)


def from_table(table: pa.Table, dims: Mapping[str, int]) -> TokenBatch:
    """What `to_table` made a table of, but for the problems."""
    tokens = {}
    for modality, dim in dims.items():
        column = table[modality].combine_chunks()
        lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        # Nothing inside of a list is null, so that flattening drops nothing but null lists.
        values = column.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        present = pc.is_valid(column).to_numpy(zero_copy_only=False)
        tokens[modality] = Ragged(values, _offsets(lengths), present)
    return TokenBatch(table["item_id"].to_pylist(), table["content"].to_pylist(), tokens)


def _column(batch: TokenBatch, modality: str, dim: int, dtype: np.dtype) -> pa.Array:
    values, offsets, present = batch.tokens[modality]
    if values.shape != (offsets[-1], dim) or len(present) != len(batch.item_ids):
        raise ValueError(
            f"{modality}: expected ({offsets[-1]}, {dim}) vectors of {len(batch.item_ids)} items, "
            f"found {values.shape} of {len(present)}"
        )
    # A number too large for float16 becomes inf here, so finiteness is checked after the cast.
    with np.errstate(over="ignore"):
        stored = values.astype(dtype, copy=False)
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if bad.size:
        row = int(np.searchsorted(offsets, bad[0], side="right")) - 1
        raise UserError(
            f"a {modality} token vector of item {batch.item_ids[row]!r} is not finite as {dtype}; "
            "try --token-dtype float32, or --precision fp32 where it was lower"
        )
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(stored.reshape(-1)), dim)
    starts = pa.array(offsets, pa.int32())
    return pa.ListArray.from_arrays(starts, vectors, mask=pa.array(~present))


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
