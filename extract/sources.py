"""Shards of earlier runs as sources of rows, found by what was encoded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extract.batches import EmbeddingBatch, from_table
from extract.errors import UserError
from extract.files import read_parquet
from extract.ledger import Problem
from extract.parts import problems_of, read_schema, stamp_of
from extract.scan import pack_digests

# Bytes of shards.
REMEMBERED = 512 * 2**20


@dataclass(frozen=True)
class Part:
    """A shard of an earlier run, without its vectors.

    Attributes:
        path: Where it is.
        ids: Its items.
        contents: What was encoded: `pack_digests` of its rows.
    """

    path: Path
    ids: pa.ChunkedArray
    contents: np.ndarray

    @property
    def problems(self) -> list[Problem]:
        """What is absent from it, read anew each time: of many shards it may be much."""
        return problems_of(read_schema(self.path))


def read_part(path: Path, stamp: str, whole: bool = False) -> Part | None:
    """A shard of that maker; None where it is another's, torn, or no shard at all.

    Args:
        path: Where it is.
        stamp: The maker.
        whole: Whether it is known to be as it was written. Else all of it is read, vectors too,
            and compared with the checksums of its pages.
    """
    try:
        if stamp_of(read_schema(path)) != stamp:
            return None
        table = read_parquet(path, ["item_id", "content"] if whole else None)
        return Part(path, table["item_id"], pack_digests(table["content"]))
    except (pa.ArrowException, OSError, ValueError, KeyError, UserError):
        return None


class Sources:
    """Rows of earlier runs that can be had by their content.

    Args:
        parts: The shards that they are in.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        digests = [np.empty(0, "S16"), *(part.contents for part in parts)]
        contents = np.concatenate(digests)
        self._starts = np.cumsum([0, *(len(part.contents) for part in parts)])
        self._order = np.argsort(contents, kind="stable")
        self._sorted = contents[self._order]
        self._recent: dict[Path, pa.Table] = {}

    @property
    def ids(self) -> pa.Array:
        """The items of all rows, each once."""
        chunks = [chunk for part in self.parts for chunk in part.ids.chunks]
        return pc.unique(pa.chunked_array(chunks, pa.string()))

    def find(self, contents: np.ndarray) -> np.ndarray:
        """Where each content is among all rows, (n,); -1 where it is nowhere."""
        if not len(self._sorted):
            return np.full(len(contents), -1)
        place = np.searchsorted(self._sorted, contents)
        place = np.minimum(place, len(self._sorted) - 1)
        return np.where(self._sorted[place] == contents, self._order[place], -1)

    def read(
        self, places: np.ndarray, dims: Mapping[str, int]
    ) -> Iterator[tuple[np.ndarray, EmbeddingBatch]]:
        """The rows at some of the places that `find` gave.

        Yields:
            Which of the places, and their rows, one shard of the sources after the other.
        """
        of_part = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(of_part):
            part, which = self.parts[number], np.flatnonzero(of_part == number)
            rows = places[which] - self._starts[number]
            batch = from_table(self._table(part.path).take(pa.array(rows)), dims)
            wanted = set(batch.item_ids)
            yield which, replace(batch, problems=[p for p in part.problems if p.item_id in wanted])

    def _table(self, path: Path) -> pa.Table:
        """A shard, of which the last ones are remembered: in another order each is asked often."""
        table = self._recent.pop(path, None)
        if table is None:
            table = read_parquet(path)
        self._recent[path] = table
        while len(self._recent) > 1 and sum(t.nbytes for t in self._recent.values()) > REMEMBERED:
            del self._recent[next(iter(self._recent))]
        return table
