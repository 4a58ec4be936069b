"""The format on disk: Parquet shards of embeddings, a manifest written last, a ledger.

A feature folder holds ``part-00000.parquet ...``, ``ledger.parquet`` and ``manifest.json``; without
the manifest it is unfinished. Rows are matched to items by ``item_id``, never by position. A shard
tells in its own metadata what made it and what is absent from it, so that it is worth something
without the manifest, too. Nothing but numpy and pyarrow is imported here, so that reading features
never loads an encoder.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from extract.batches import MODALITIES as MODALITIES
from extract.batches import EmbeddingBatch as EmbeddingBatch
from extract.batches import from_table, to_table
from extract.batches import unusable_rows as unusable_rows
from extract.batches import usable_rows as usable_rows
from extract.errors import UserError
from extract.files import file_sha256, read_parquet, replacing, write_json
from extract.ledger import Problem, pack, write_ledger
from extract.manifest import MANIFEST, Manifest, Shard
from extract.parts import (
    ENCODER,
    PROBLEMS,
    STAMP,
    part_path,
    parts_of,
    problems_of,
    read_schema,
    unfinished_encoder,
    write_part,
)


class ShardWriter:
    """Writes one feature folder: shards in any order, then ledger and manifest.

    Opening a writer removes an earlier manifest first, so a folder that is being rewritten is
    never taken for a finished one; leftovers of earlier runs are removed at the end.

    Attributes:
        present: Modality to the number of vectors so far.
        bad: Items so far of which something was there and could not be used.
    """

    def __init__(
        self,
        folder: Path,
        dims: Mapping[str, int],
        dtype: str = "float32",
        stamp: str = "",
        encoder: Mapping[str, str] | None = None,
    ) -> None:
        """Open `folder` for writing.

        Args:
            folder: The feature folder; made if absent.
            dims: Modality to vector size.
            dtype: ``float32`` or ``float16``.
            stamp: A digest of all but the contents that decides the shards.
            encoder: As in the manifest, for the shards to say who made them.
        """
        if dtype not in ("float32", "float16"):
            raise UserError(f"vectors are stored as float32 or float16, not {dtype!r}")
        self.folder = folder
        self.dims = dict(dims)
        self.dtype = np.dtype(dtype)
        self._metadata = {STAMP: stamp, ENCODER: json.dumps(dict(encoder or {}))}
        self.present = dict.fromkeys(dims, 0)
        self.bad = 0
        self._shards: dict[int, Shard] = {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)

    @property
    def shards(self) -> list[Shard]:
        """The shards so far, in the catalogue's order."""
        return [self._shards[index] for index in sorted(self._shards)]

    @property
    def rows(self) -> int:
        """Rows so far."""
        return sum(shard.rows for shard in self._shards.values())

    def write(self, batch: EmbeddingBatch, index: int | None = None) -> Shard:
        """Write one batch as one shard.

        Args:
            batch: The vectors.
            index: The shard's place in the catalogue's order; None for the next.

        Raises:
            UserError: A present vector is not finite in the stored type.
        """
        index = len(self._shards) if index is None else index
        table = to_table(batch, self.dims, self.dtype)
        metadata = self._metadata | {PROBLEMS: pack(batch.problems)}
        path = part_path(self.folder, index)
        with replacing(path) as temporary:
            write_part(table.replace_schema_metadata(metadata), temporary)
            shard = Shard(path.name, table.num_rows, file_sha256(temporary))
        self._count(index, shard, table, batch.problems)
        return shard

    def adopt(self, index: int) -> Shard:
        """Take a shard that stands at its place already for one of this run's own."""
        path = part_path(self.folder, index)
        table = read_parquet(path)
        shard = Shard(path.name, table.num_rows, file_sha256(path))
        self._count(index, shard, table, problems_of(table.schema))
        return shard

    def _count(
        self, index: int, shard: Shard, table: pa.Table, problems: Sequence[Problem]
    ) -> None:
        self._shards[index] = shard
        self.bad += len({problem.item_id for problem in problems if problem.bad})
        for modality in self.dims:
            self.present[modality] += table.num_rows - table[modality].null_count

    def write_ledger(self) -> None:
        """Write the ledger of the shards so far."""
        files = (self.folder / shard.file for shard in self.shards)
        write_ledger(self.folder, (problems_of(read_schema(file)) for file in files))

    def finish(
        self,
        *,
        encoder: Mapping[str, str],
        normalized: Mapping[str, bool],
        fusion: str | None,
        items_digest: str,
        seconds: float,
        reused: int = 0,
    ) -> Manifest:
        """Write the ledger and then the manifest; the folder is now finished.

        Args:
            encoder: See `Manifest`, as for the others.
            normalized: Modality to whether vectors have length 1.
            fusion: How fused vectors were made.
            items_digest: Of what was encoded.
            seconds: How long it took.
            reused: How many rows an earlier run had made.
        """
        if sorted(self._shards) != list(range(len(self._shards))):
            raise ValueError(f"shards are missing: there are {sorted(self._shards)}")
        self.write_ledger()
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
            items_per_second=round((self.rows - reused) / max(seconds, 1e-9), 2),
            reused=reused,
            bad=self.bad,
        )
        named = {shard.file for shard in self.shards}
        for leftover in parts_of(self.folder):
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
        unfinished = not (folder / MANIFEST).is_file()
        begun = unfinished_encoder(folder).get("options", "") if unfinished else ""
        self.manifest = Manifest.read(folder, begun)

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        """One batch per shard, in catalogue order.

        Raises:
            UserError: A shard is missing, torn, or has other rows or columns than the manifest
                says.
        """
        for shard in self.manifest.shards:
            yield from_table(self._table(shard), self.manifest.dims)

    def _table(self, shard: Shard) -> pa.Table:
        path = self.folder / shard.file
        remedy = "delete the folder's manifest.json and run mmrec-extract again"
        try:
            table = read_parquet(path)
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


def _form(kind: pa.DataType) -> str:
    if not pa.types.is_fixed_size_list(kind):
        return str(kind)
    return f"{np.dtype(kind.value_type.to_pandas_dtype()).name}[{kind.list_size}]"
