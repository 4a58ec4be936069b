"""The shards of a feature folder as files: their names, and what they say of themselves."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from extract.ledger import Problem, unpack

# Where shards are put aside while a folder is rewritten.
OLD = ".old"
PART = re.compile(r"part-[0-9]+\.parquet")
# Keys of a shard's own metadata.
STAMP, ENCODER, PROBLEMS = "mmrec.stamp", "mmrec.encoder", "mmrec.problems"


def part_path(folder: Path, index: int) -> Path:
    """Where the shard of that place stands."""
    return folder / f"part-{index:05d}.parquet"


def part_index(path: Path) -> int:
    """The place of a shard, by its name."""
    return int(path.stem.removeprefix("part-"))


def parts_of(folder: Path) -> list[Path]:
    """The shards of a folder, finished or not, by place."""
    # Not by a pattern, since the folder's own name may look like one.
    inside = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in inside if PART.fullmatch(path.name)), key=part_index)


def stamp_of(schema: pa.Schema) -> str:
    """What a shard carries of what decides it; empty where it says nothing."""
    return (schema.metadata or {}).get(STAMP.encode(), b"").decode()


def unfinished_encoder(folder: Path) -> dict[str, str]:
    """Who began to make an unfinished folder; empty where it does not say."""
    for path in [*parts_of(folder), *parts_of(folder / OLD)]:
        try:
            metadata = read_schema(path).metadata or {}
            encoder: dict[str, str] = json.loads(metadata.get(ENCODER.encode(), b"{}"))
        except (pa.ArrowException, OSError, ValueError):
            continue
        return encoder
    return {}


def problems_of(schema: pa.Schema) -> list[Problem]:
    """What is absent from a shard."""
    return unpack((schema.metadata or {}).get(PROBLEMS.encode(), b"[]").decode())


def read_schema(path: Path) -> pa.Schema:
    """A Parquet file's columns and metadata."""
    with path.open("rb") as file:
        return pq.read_schema(file)


def write_part(table: pa.Table, path: Path) -> None:
    """Write a shard's table to a file."""
    # Vectors do not compress, and their numbers hardly repeat: trying both costs most of the time.
    pq.write_table(
        table,
        path,
        compression="none",
        use_dictionary=False,
        write_statistics=["item_id"],
        write_page_checksum=True,
    )
