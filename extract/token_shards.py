"""Token vectors on disk: Parquet shards in a folder of their own, a manifest written last.

A feature folder may hold a folder ``tokens`` with ``part-00000.parquet ...`` and
``manifest.json``: the vectors of each item's patches and words, for models that fuse modalities by
cross-attention. Rows are matched to items by ``item_id``. Nothing but numpy and pyarrow is imported
here, so that reading them never loads an encoder.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extract.errors import UserError
from extract.files import file_sha256, read_parquet, replacing, write_json
from extract.ledger import pack
from extract.manifest import MANIFEST, Shard
from extract.parts import PROBLEMS, STAMP, part_path, parts_of, write_part
from extract.token_batches import Ragged as Ragged
from extract.token_batches import TokenBatch as TokenBatch
from extract.token_batches import from_table, to_table, token_schema

FORMAT = "mmrec-tokens/1"
FOLDER = "tokens"
AGAIN = "delete it and run mmrec-extract --tokens again"


@dataclass(frozen=True)
class TokenManifest:
    """What a finished token folder says of itself, field by field of ``manifest.json``.

    Attributes:
        encoder: Who made the vectors, as in the `Manifest` of the feature folder.
        dims: Modality to vector size.
        dtype: The stored type, ``float16`` or ``float32``.
        rows: Items, absent ones too.
        present: Modality to how many items have vectors.
        lengths: Modality to the most vectors that an item has.
        items_digest: Of the catalogue, as in the feature folder.
        shards: The files, in catalogue order.
        seconds: How long the last run took.
        reused: How many rows an earlier run had made.
        created: When it was finished, ISO 8601 in UTC.
        format: `FORMAT`.
    """

    encoder: Mapping[str, str]
    dims: Mapping[str, int]
    dtype: str
    rows: int
    present: Mapping[str, int]
    lengths: Mapping[str, int]
    items_digest: str
    shards: Sequence[Shard]
    seconds: float
    reused: int = 0
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: str = FORMAT

    @classmethod
    def read(cls, folder: Path) -> "TokenManifest":
        """The manifest of a token folder.

        Raises:
            UserError: The folder is absent, unfinished, or its manifest is not one of ours.
        """
        path = folder / MANIFEST
        if not path.is_file():
            unfinished = bool(parts_of(folder))
            raise UserError(
                f"the token folder {folder} has no {MANIFEST}, so it is unfinished; run the same "
                "mmrec-extract --tokens again"
                if unfinished
                else f"no token vectors at {folder}; make them with mmrec-extract --tokens"
            )
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != FORMAT:
                raise UserError(f"{path} has format {fields['format']!r}, not {FORMAT!r}; {AGAIN}")
            shards = tuple(Shard(**shard) for shard in fields.pop("shards"))
            return cls(**fields, shards=shards)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a manifest of tokens ({error!r}); {AGAIN}") from error


class TokenWriter:
    """Writes one token folder: shards in any order, then the manifest.

    Opening a writer removes an earlier manifest first, so that a folder that is being rewritten is
    never taken for a finished one.

    Args:
        folder: The token folder; made if absent.
        dims: Modality to vector size.
        dtype: ``float16`` or ``float32``.
        stamp: A digest of all but the contents that decides the shards.
    """

    def __init__(
        self, folder: Path, dims: Mapping[str, int], dtype: str = "float16", stamp: str = ""
    ) -> None:
        if dtype not in ("float16", "float32"):
            raise UserError(f"token vectors are stored as float16 or float32, not {dtype!r}")
        self.folder = folder
        self.dims = dict(dims)
        self.dtype = np.dtype(dtype)
        self.present = dict.fromkeys(dims, 0)
        self.lengths = dict.fromkeys(dims, 0)
        self._stamp = stamp
        self._shards: dict[int, Shard] = {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)

    @property
    def rows(self) -> int:
        """Rows so far."""
        return sum(shard.rows for shard in self._shards.values())

    def write(self, batch: TokenBatch, index: int | None = None) -> Shard:
        """Write one batch as one shard.

        Args:
            batch: The vectors.
            index: The shard's place in the catalogue's order; None for the next.

        Raises:
            UserError: A vector is not finite in the stored type.
        """
        index = len(self._shards) if index is None else index
        table = to_table(batch, self.dims, self.dtype)
        metadata = {STAMP: self._stamp, PROBLEMS: pack(batch.problems)}
        path = part_path(self.folder, index)
        with replacing(path) as temporary:
            write_part(table.replace_schema_metadata(metadata), temporary)
            shard = Shard(path.name, table.num_rows, file_sha256(temporary))
        return self._count(index, shard, table)

    def adopt(self, index: int) -> Shard:
        """Take a shard that stands at its place already for one of this run's own."""
        path = part_path(self.folder, index)
        table = read_parquet(path)
        return self._count(index, Shard(path.name, table.num_rows, file_sha256(path)), table)

    def finish(
        self,
        *,
        encoder: Mapping[str, str],
        items_digest: str,
        seconds: float,
        reused: int = 0,
    ) -> TokenManifest:
        """Write the manifest; the folder is now finished.

        Args:
            encoder: See `TokenManifest`, as for the others.
            items_digest: Of what was encoded.
            seconds: How long it took.
            reused: How many rows an earlier run had made.
        """
        if sorted(self._shards) != list(range(len(self._shards))):
            raise ValueError(f"shards are missing: there are {sorted(self._shards)}")
        shards = tuple(self._shards[index] for index in sorted(self._shards))
        manifest = TokenManifest(
            encoder=dict(encoder),
            dims=self.dims,
            dtype=self.dtype.name,
            rows=self.rows,
            present=self.present,
            lengths=self.lengths,
            items_digest=items_digest,
            shards=shards,
            seconds=round(seconds, 3),
            reused=reused,
        )
        named = {shard.file for shard in shards}
        for leftover in parts_of(self.folder):
            if leftover.name not in named:
                leftover.unlink()
        write_json(self.folder / MANIFEST, asdict(manifest))
        return manifest

    def _count(self, index: int, shard: Shard, table: pa.Table) -> Shard:
        self._shards[index] = shard
        for modality in self.dims:
            column = table[modality]
            self.present[modality] += len(column) - column.null_count
            longest = pc.max(pc.list_value_length(column)).as_py() or 0
            self.lengths[modality] = max(self.lengths[modality], longest)
        return shard


class TokenReader:
    """Reads a finished token folder shard by shard.

    Args:
        folder: The token folder, `FOLDER` inside of a feature folder.

    Raises:
        UserError: It is absent, unfinished, or its manifest is not one of ours.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = TokenManifest.read(folder)

    def __iter__(self) -> Iterator[TokenBatch]:
        """One batch per shard, in catalogue order.

        Raises:
            UserError: A shard is missing, torn, or has other rows or columns than the manifest
                says.
        """
        dims = self.manifest.dims
        expected = token_schema(dims, np.dtype(self.manifest.dtype))
        for shard in self.manifest.shards:
            path = self.folder / shard.file
            try:
                table = read_parquet(path)
            except (pa.ArrowException, OSError) as error:
                raise UserError(
                    f"the token shard {path} is missing or torn ({error}); delete its folder and "
                    "run mmrec-extract --tokens again"
                ) from error
            if table.num_rows != shard.rows or not table.schema.equals(expected):
                raise UserError(
                    f"the token shard {path} should have {shard.rows} rows of "
                    f"{_told(expected)}, found {table.num_rows} of {_told(table.schema)}; delete "
                    "its folder and run mmrec-extract --tokens again"
                )
            yield from_table(table, dims)


def _told(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in schema)
