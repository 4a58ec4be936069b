"""The format on disk: Parquet shards of embeddings, a manifest written last, a ledger.

A feature folder holds ``part-00000.parquet ...``, ``ledger.parquet`` and ``manifest.json``; without
the manifest it is unfinished. Rows are matched to items by ``item_id``, never by position. Nothing
but numpy and pyarrow is imported here, so that reading features never loads an encoder.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from extract.errors import UserError

FORMAT = "mmrec-features/1"
MODALITIES = ("image", "text", "fused")
MANIFEST = "manifest.json"
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


@dataclass(frozen=True)
class Shard:
    """One file of a feature folder."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished feature folder says of itself; see the README for each field."""

    encoder: Mapping[str, str]
    dims: Mapping[str, int]
    dtype: str
    normalized: Mapping[str, bool]
    fusion: str | None
    rows: int
    present: Mapping[str, int]
    items_digest: str
    shards: Sequence[Shard]
    seconds: float
    items_per_second: float
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: str = FORMAT

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a feature folder.

        Raises:
            UserError: The folder is absent, unfinished, or its manifest is not one of ours.
        """
        path = folder / MANIFEST
        if not folder.is_dir():
            raise UserError(f"no feature folder at {folder}; make it with mmrec-extract")
        if not path.is_file():
            raise UserError(
                f"the feature folder {folder} has no {MANIFEST}, so it is unfinished; "
                f"finish it by running its mmrec-extract command again"
            )
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != FORMAT:
                raise UserError(
                    f"{path} has format {fields['format']!r}, expected {FORMAT!r}; extract again"
                )
            shards = tuple(Shard(**shard) for shard in fields.pop("shards"))
            return cls(**fields, shards=shards)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not a manifest of features ({error!r}); delete the folder and extract "
                "again"
            ) from error

    def digest(self) -> str:
        """A digest of the features' content: what was encoded, by what, into which shards."""
        parts = [self.items_digest, json.dumps(dict(self.encoder), sort_keys=True)]
        return digest([*parts, *(shard.sha256 for shard in self.shards)])


def digest(parts: Iterable[str]) -> str:
    """A short SHA-256 over strings, each ended by a zero byte so that no two lists collide."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return hasher.hexdigest()[:32]


def items_digest(item_ids: Iterable[str]) -> str:
    """The digest of a catalogue's item ids, in its order, by which features name the catalogue."""
    return digest(item_ids)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write; on success flush it to disk and rename it to `path`.

    A reader sees the old file or the whole new one, never a torn one; on any error the temporary
    file is removed and the old one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs: indented, keys as given, one newline at the end."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


class ShardWriter:
    """Writes one feature folder: a shard per batch, then ledger and manifest.

    Opening a writer removes an earlier manifest first, so a folder that is being rewritten is
    never taken for a finished one; leftovers of earlier runs are removed at the end.
    """

    def __init__(
        self, folder: Path, dims: Mapping[str, int], dtype: str = "float32", start: int = 0
    ) -> None:
        """Open `folder` for writing.

        Args:
            folder: The feature folder; made if absent.
            dims: Modality to vector size.
            dtype: ``float32`` or ``float16``.
            start: Number of the first shard.
        """
        if dtype not in ("float32", "float16"):
            raise UserError(f"vectors are stored as float32 or float16, not {dtype!r}")
        self.folder = folder
        self.dims = dict(dims)
        self.dtype = np.dtype(dtype)
        self.shards: list[Shard] = []
        self.problems: list[Problem] = []
        self.present = dict.fromkeys(dims, 0)
        self._next = start
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
        path = self.folder / f"part-{self._next:05d}.parquet"
        with replacing(path) as temporary:
            pq.write_table(pa.table(columns), temporary)
            shard = Shard(path.name, len(batch.item_ids), file_sha256(temporary))
        self.shards.append(shard)
        self.problems.extend(batch.problems)
        for modality in self.dims:
            self.present[modality] += int(batch.present[modality].sum())
        self._next += 1
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
        open_table: How one shard is read; replaced in tests.
    """

    def __init__(
        self, folder: Path, open_table: Callable[[Path], pa.Table] = pq.read_table
    ) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self._open_table = open_table

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        """One batch per shard, in catalogue order.

        Raises:
            UserError: A shard is missing, torn, or has other rows than the manifest says.
        """
        for shard in self.manifest.shards:
            yield self._batch(self._table(shard))

    def _table(self, shard: Shard) -> pa.Table:
        path = self.folder / shard.file
        remedy = "delete the folder's manifest.json and run mmrec-extract again"
        try:
            table = self._open_table(path)
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
        return table

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


def read_ledger(folder: Path) -> list[Problem]:
    """The recorded absences of a feature folder; empty where there is no ledger."""
    path = folder / LEDGER
    if not path.is_file():
        return []
    return [Problem(**row) for row in pq.read_table(path).to_pylist()]
