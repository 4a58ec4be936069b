"""The format on disk: Parquet shards of embeddings, a manifest written last, a ledger.

A feature folder holds ``part-00000.parquet ...``, ``ledger.parquet`` and ``manifest.json``; without
the manifest it is unfinished. Rows are matched to items by ``item_id``, never by position. Nothing
but numpy and pyarrow is imported here, so that reading features never loads an encoder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from extract.errors import UserError
from extract.files import file_sha256, replacing, write_json
from extract.manifest import MANIFEST, Manifest, Shard

MODALITIES = ("image", "text", "fused")
LEDGER = "ledger.parquet"
LEDGER_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("item_id", "modality", "problem", "detail")]
)


@dataclass(frozen=True)
class Problem:
    """A recorded absence: why an item has no vector of a modality."""

    item_id: str
    modality: str
    problem: str
    detail: str = ""


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


class ShardWriter:
    """Writes one feature folder: a shard per batch, then ledger and manifest.

    Opening a writer removes an earlier manifest first, so a folder that is being rewritten is
    never taken for a finished one; leftovers of earlier runs are removed at the end.
    """

    def __init__(self, folder: Path, dims: Mapping[str, int], dtype: str = "float32") -> None:
        """Open `folder` for writing.

        Args:
            folder: The feature folder; made if absent.
            dims: Modality to vector size.
            dtype: ``float32`` or ``float16``.
        """
        if dtype not in ("float32", "float16"):
            raise UserError(f"vectors are stored as float32 or float16, not {dtype!r}")
        self.folder = folder
        self.dims = dict(dims)
        self.dtype = np.dtype(dtype)
        self.shards: list[Shard] = []
        self.problems: list[Problem] = []
        self.present = dict.fromkeys(dims, 0)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return sum(shard.rows for shard in self.shards)

    def write(self, batch: EmbeddingBatch) -> Shard:
        """Write one batch as one shard.

        Raises:
            UserError: A present vector is not finite in the stored type.
        """
        columns: dict[str, pa.Array] = {
            "item_id": pa.array(batch.item_ids, pa.string()),
            "content": pa.array(batch.content, pa.string()),
        }
        for modality, dim in self.dims.items():
            columns[modality] = self._column(batch, modality, dim)
        path = self.folder / f"part-{len(self.shards):05d}.parquet"
        with replacing(path) as temporary:
            pq.write_table(pa.table(columns), temporary)
            shard = Shard(path.name, len(batch.item_ids), file_sha256(temporary))
        self.shards.append(shard)
        self.problems.extend(batch.problems)
        for modality in self.dims:
            self.present[modality] += int(batch.present[modality].sum())
        return shard

    def _column(self, batch: EmbeddingBatch, modality: str, dim: int) -> pa.Array:
        vectors, present = batch.vectors[modality], batch.present[modality]
        if vectors.shape[1] != dim:
            raise ValueError(f"{modality}: expected vectors of {dim}, found {vectors.shape[1]}")
        # A number too large for float16 becomes inf here, so finiteness is checked after the cast.
        with np.errstate(over="ignore"):
            stored = np.where(present[:, None], vectors, 0).astype(self.dtype)
        bad = ~np.isfinite(stored).all(axis=1)
        if bad.any():
            item = batch.item_ids[int(np.flatnonzero(bad)[0])]
            raise UserError(
                f"the {modality} vector of item {item!r} is not finite (one of {int(bad.sum())} in "
                "this batch); a lower precision may overflow: try --precision fp32"
            )
        flat = stored.reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), dim, mask=pa.array(~present))

    def finish(
        self,
        *,
        encoder: Mapping[str, str],
        normalized: Mapping[str, bool],
        fusion: str | None,
        items_digest: str,
        seconds: float,
    ) -> Manifest:
        """Write the ledger and then the manifest; the folder is now finished."""
        columns = [[getattr(p, name) for p in self.problems] for name in LEDGER_SCHEMA.names]
        with replacing(self.folder / LEDGER) as temporary:
            pq.write_table(pa.table(columns, schema=LEDGER_SCHEMA), temporary)
        manifest = Manifest(
            encoder=dict(encoder),
            dims=self.dims,
            dtype=self.dtype.name,
            normalized=dict(normalized),
            fusion=fusion,
            rows=self.rows,
            present=self.present,
            items_digest=items_digest,
            shards=tuple(self.shards),
            seconds=round(seconds, 3),
            items_per_second=round(self.rows / max(seconds, 1e-9), 2),
        )
        named = {shard.file for shard in self.shards}
        for leftover in self.folder.glob("part-*.parquet"):
            if leftover.name not in named:
                leftover.unlink()
        write_json(self.folder / MANIFEST, asdict(manifest))
        return manifest


class ShardReader:
    """Reads a finished feature folder batch by batch.

    Args:
        folder: The feature folder.

    Raises:
        UserError: It is absent, unfinished, or its manifest is not one of ours.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        """One batch per shard, in catalogue order.

        Raises:
            UserError: A shard is missing, torn, or has other rows or columns than the manifest
                says.
        """
        for shard in self.manifest.shards:
            yield self._batch(self._table(shard))

    def _table(self, shard: Shard) -> pa.Table:
        path = self.folder / shard.file
        remedy = "delete the folder's manifest.json and run mmrec-extract again"
        try:
            table = pq.read_table(path)
        except FileNotFoundError as error:
            raise UserError(f"the shard {path} of the manifest is missing; {remedy}") from error
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"the shard {path} cannot be read as Parquet, it may be torn ({error}); {remedy}"
            ) from error
        if table.num_rows != shard.rows:
            raise UserError(
                f"the shard {path} has {table.num_rows} rows, the manifest says {shard.rows}; "
                f"{remedy}"
            )
        for name, form in self._forms().items():
            found = _form(table.schema.field(name).type) if name in table.column_names else "none"
            if found != form:
                raise UserError(
                    f"the shard {path} should have a column {name!r} of {form}, found {found}; "
                    f"{remedy}"
                )
        return table

    def _forms(self) -> dict[str, str]:
        """The columns that every shard has, and what they hold."""
        dims, dtype = self.manifest.dims, self.manifest.dtype
        vectors = {modality: f"{dtype}[{dim}]" for modality, dim in dims.items()}
        return {"item_id": "string", "content": "string"} | vectors

    def _batch(self, table: pa.Table) -> EmbeddingBatch:
        vectors: dict[str, np.ndarray] = {}
        present: dict[str, np.ndarray] = {}
        for modality, dim in self.manifest.dims.items():
            column = table[modality].combine_chunks()
            present[modality] = pc.is_valid(column).to_numpy(zero_copy_only=False)
            # `.values` keeps the place of null rows; `.flatten()` would drop them.
            values = column.values.to_numpy(zero_copy_only=False)
            first = column.offset * dim
            vectors[modality] = values[first : first + len(column) * dim].reshape(-1, dim)
        return EmbeddingBatch(
            table["item_id"].to_pylist(), table["content"].to_pylist(), vectors, present
        )


def _form(kind: pa.DataType) -> str:
    if not pa.types.is_fixed_size_list(kind):
        return str(kind)
    return f"{np.dtype(kind.value_type.to_pandas_dtype()).name}[{kind.list_size}]"


def read_ledger(folder: Path) -> list[Problem]:
    """The recorded absences of a feature folder; empty where there is no ledger."""
    path = folder / LEDGER
    if not path.is_file():
        return []
    return [Problem(**row) for row in pq.read_table(path).to_pylist()]
