"""Writing a data set: pictures, then the two tables, and the description last."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from extract.files import digest, file_sha256, write_json
from extract.ledger import LEDGER, Problem, write_ledger
from pipelines.config import Config
from pipelines.progress import Reporter
from pipelines.sources.pictures import Draw, write_pictures
from pipelines.workspace import SPLITS, Dataset, write_table

VALUES_AT_ONCE = 65_536


class Origin(NamedTuple):
    """Where published data come from.

    Attributes:
        title: What they are called.
        home: The address that tells about them.
        licence: What may be done with them.
        citation: What a paper that uses them cites.
    """

    title: str
    home: str
    licence: str
    citation: str


@dataclass(frozen=True)
class Prepared:
    """A data set that is complete but for being on disk.

    Attributes:
        kind: The source's name.
        items: item_id, text, image and further columns, sorted by item_id.
        interactions: user_id, item_id, timestamp?, rating?, split, sorted by user and item.
        pictures: Path under ``images/`` to what writes it.
        settings: What the data set was asked to be.
        steps: What preparing did, each with a number of rows.
        files: What it was made from.
        origin: Who published it; None for data of one's own.
        problems: Which pictures were not to be had, and why; also of items that were left out.
    """

    kind: str
    items: pa.Table
    interactions: pa.Table
    pictures: Mapping[str, Draw]
    settings: Config
    steps: Mapping[str, int]
    files: Mapping[str, Path]
    origin: Origin | None = None
    problems: Sequence[Problem] = ()


def write_dataset(dataset: Dataset, prepared: Prepared, reporter: Reporter) -> dict[str, Any]:
    """Write a data set, in place of an earlier one of its name, and return its description.

    The description is removed first and written last: a data set without it is unfinished.
    """
    dataset.folder.mkdir(parents=True, exist_ok=True)
    dataset.description.unlink(missing_ok=True)
    write_pictures(dataset.images, prepared.pictures, reporter)
    write_table(dataset.items, prepared.items)
    write_table(dataset.interactions, prepared.interactions)
    if prepared.problems:
        write_ledger(dataset.folder, [prepared.problems])
    else:
        (dataset.folder / LEDGER).unlink(missing_ok=True)
    described = describe(dataset.name, prepared)
    write_json(dataset.description, described)
    return described


def describe(name: str, prepared: Prepared) -> dict[str, Any]:
    """What ``dataset.json`` says: source, settings, counts, digests."""
    items, log = prepared.items, prepared.interactions
    of_split = dict(zip(*_values_and_counts(log["split"]), strict=True))
    files = {
        role: {"path": str(path), "sha256": file_sha256(path)}
        for role, path in prepared.files.items()
    }
    origin = {"origin": prepared.origin._asdict()} if prepared.origin else {}
    lost = Counter(problem.problem for problem in prepared.problems)
    return {
        "name": name,
        "source": {"kind": prepared.kind, "files": files, **origin},
        "settings": prepared.settings.model_dump(mode="json", exclude_none=True),
        "steps": dict(prepared.steps),
        "counts": {
            "users": pc.count_distinct(log["user_id"]).as_py(),
            "items": items.num_rows,
            "interactions": log.num_rows,
            **{split: of_split.get(split, 0) for split in SPLITS},
            "texts": items.num_rows - items["text"].null_count,
            "pictures": len(prepared.pictures),
            **{f"pictures {problem}": count for problem, count in sorted(lost.items())},
        },
        "digests": {
            "item_ids": digest(items["item_id"].to_pylist()),
            "items": table_digest(items),
            "interactions": table_digest(log),
        },
    }


def table_digest(table: pa.Table) -> str:
    """A digest of a table's column names and values, whatever file it is written to."""
    columns = []
    for name in table.column_names:
        values = _values(table[name])
        columns += [name, digest("" if value is None else f"={value}" for value in values)]
    return digest(columns)


def _values(column: pa.ChunkedArray) -> Iterator[Any]:
    """Some at a time, since Python's are many times as large as Arrow's."""
    for first in range(0, len(column), VALUES_AT_ONCE):
        yield from column.slice(first, VALUES_AT_ONCE).to_pylist()


def _values_and_counts(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    counts = pc.value_counts(column)
    return counts.field("values").to_pylist(), counts.field("counts").to_pylist()
