"""What a finished feature folder says of itself, in a file that is written last."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from extract.errors import UserError
from extract.files import digest

FORMAT = "mmrec-features/1"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """One file of a feature folder: its name there, its number of items, its SHA-256."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished feature folder says of itself, field by field of ``manifest.json``.

    Attributes:
        encoder: Who made the vectors: ``spec``, what the user asked for; ``fingerprint``, a digest
            of all but the contents that decides the vectors; perhaps ``model``, the encoder's part
            of it, and ``precision``, the arithmetic.
        dims: Modality to vector size, for each column of vectors.
        dtype: The stored type, ``float32`` or ``float16``.
        normalized: Modality to whether its vectors have length 1.
        fusion: How the fused vectors were made, or None.
        rows: Items, absent ones too.
        present: Modality to how many items have a vector.
        items_digest: `items_digest` of what was encoded; of the ids alone for given matrices.
        shards: The files, in catalogue order.
        seconds: How long it took.
        items_per_second: Rows that were made, not reused, by `seconds`.
        reused: How many rows an earlier run had made.
        bad: Items of which something was there and could not be used.
        created: When it was finished, ISO 8601 in UTC.
        format: `FORMAT`.
    """

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
    reused: int = 0
    bad: int = 0
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: str = FORMAT

    @classmethod
    def read(cls, folder: Path, unfinished: str = "") -> "Manifest":
        """The manifest of a feature folder.

        Args:
            folder: The feature folder.
            unfinished: The options by which it was begun, if it turns out to be unfinished.

        Raises:
            UserError: The folder is absent, unfinished, or its manifest is not one of ours.
        """
        path = folder / MANIFEST
        if not folder.is_dir():
            raise UserError(f"no feature folder at {folder}; make it with mmrec-extract")
        if not path.is_file():
            raise UserError(
                f"the feature folder {folder} has no {MANIFEST}, so it is unfinished; "
                f"finish it with mmrec-extract --dataset {folder.parents[1].name} "
                f"--features {folder.name} {unfinished or '--encoder SPEC'}"
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


Column: TypeAlias = Sequence[str | None] | pa.ChunkedArray
BLOCK = 16_384


def items_digest(
    item_ids: Column, texts: Column | None = None, images: Column | None = None
) -> str:
    """The digest by which features name the catalogue that they were made from.

    It does not depend on the order of the items.

    Args:
        item_ids: Ids of the items, (n,).
        texts: Their texts; None where features were not made from texts.
        images: Paths of their pictures; None where features were not made from pictures.
    """
    columns = [column for column in (item_ids, texts, images) if column is not None]
    order = pc.sort_indices(_strings(item_ids))
    hasher = hashlib.sha256(b"%d columns" % len(columns))
    for column in columns:
        strings = _strings(column)
        for start in range(0, len(order), BLOCK):
            _update(hasher, strings.take(order.slice(start, BLOCK)))
    return hasher.hexdigest()[:32]


def _strings(column: Column) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        column = pa.chunked_array([pa.array(column, pa.string())])
    # In one piece, which `take` would otherwise make of it each time; it may be more than 2 GiB.
    return column.cast(pa.large_string()).combine_chunks()


def _update(hasher: Any, strings: pa.Array) -> None:
    """Hash the lengths, by which a null is told from an empty string, and then the letters."""
    hasher.update(pc.binary_length(strings).fill_null(-1).to_numpy().astype("<i8").tobytes())
    hasher.update(b"".join(filter(None, strings.cast(pa.large_binary()).to_pylist())))
