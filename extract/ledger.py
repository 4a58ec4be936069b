"""The ledger of a feature folder: which items have no vector of a modality, and why."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from extract.files import read_parquet, replacing

LEDGER = "ledger.parquet"
SCHEMA = pa.schema([(name, pa.string()) for name in ("item_id", "modality", "problem", "detail")])
# Details of an absence that is the catalogue's own choice, not a fault of what it names.
NO_PICTURE = "the catalogue names none"
NO_TEXT = "the catalogue has none"


@dataclass(frozen=True)
class Problem:
    """A recorded absence: why an item has no vector of a modality."""

    item_id: str
    modality: str
    problem: str
    detail: str = ""

    @property
    def bad(self) -> bool:
        """Whether something was there and could not be used; else the catalogue had nothing."""
        return self.detail not in (NO_PICTURE, NO_TEXT)


def write_ledger(folder: Path, parts: Iterable[Sequence[Problem]]) -> None:
    """Write the ledger of a folder, part by part, so that it never has to fit into the memory."""
    with (
        replacing(folder / LEDGER) as temporary,
        pq.ParquetWriter(temporary, SCHEMA) as writer,
    ):
        for problems in parts:
            rows = [astuple(problem) for problem in problems]
            columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
            writer.write_table(pa.table([pa.array(c, pa.string()) for c in columns], schema=SCHEMA))


def read_ledger(folder: Path) -> list[Problem]:
    """The recorded absences of a feature folder; empty where there is no ledger."""
    path = folder / LEDGER
    if not path.is_file():
        return []
    return [Problem(**row) for row in read_parquet(path).to_pylist()]


def count_problems(folder: Path) -> dict[tuple[str, str], int]:
    """How many absences a feature folder records, by modality and problem."""
    path = folder / LEDGER
    if not path.is_file():
        return {}
    table = read_parquet(path, ["modality", "problem"])
    counts = table.group_by(["modality", "problem"]).aggregate([([], "count_all")])
    return {(row["modality"], row["problem"]): row["count_all"] for row in counts.to_pylist()}


def pack(problems: Sequence[Problem]) -> str:
    """Problems as a text that fits into a file's metadata."""
    return json.dumps([astuple(problem) for problem in problems])


def unpack(text: str) -> list[Problem]:
    """What `pack` packed."""
    return [Problem(*fields) for fields in json.loads(text)]
