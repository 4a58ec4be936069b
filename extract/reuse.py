"""What earlier runs left in a feature folder, and which of it can be used again.

A row is used again where who made it and the digest of its content are unchanged. A shard that is
just what its place needs stays as it is; every other one of the same maker is put aside in
``.old/`` as a source of rows, until the new folder is finished. Each step leaves a folder that
this file understands, so a run may be killed anywhere.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extract.batches import EmbeddingBatch
from extract.catalog import Catalog
from extract.files import file_sha256, move
from extract.ledger import Problem
from extract.parts import OLD, part_index, part_path, parts_of
from extract.planning import Rows, split
from extract.scan import Scan, absences, scan
from extract.sources import Part, Sources, read_part


@dataclass(frozen=True)
class Task:
    """A shard that is to be written.

    Attributes:
        index: Its place.
        rows: Its rows of the catalogue.
        places: Where `Sources.find` found each of them, -1 where it is to be encoded.
    """

    index: int
    rows: Rows
    places: np.ndarray

    @property
    def missing(self) -> np.ndarray:
        """The rows of the catalogue that are to be encoded."""
        return np.asarray(self.rows)[self.places < 0]


class Survey:
    """What is there, what is to be done, and how the one becomes the other.

    Making one changes nothing; `settle` and `finish` do.

    Args:
        folder: The feature folder.
        stamp: Who is to make the features.
        dims: Modality to vector size.
        catalog: The items.
        shard_rows: Items per shard.
        progress: Told how many more items were compared.
        hashes: The SHA-256 of shards, by their file's name, where one is known.

    Attributes:
        whole: Files that have the SHA-256 that was given.
        kept: Places whose shard stays as it is.
        tasks: The shards that are to be written.
    """

    def __init__(
        self,
        folder: Path,
        stamp: str,
        dims: Mapping[str, int],
        catalog: Catalog,
        shard_rows: int,
        progress: Callable[[int], None] = lambda count: None,
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.dims = dims
        self.catalog = catalog
        self.kept: set[int] = set()
        self._spare: list[Part] = []
        self._foreign: list[Path] = []
        chunks = split(range(len(catalog)), shard_rows)
        paths, old = parts_of(folder), parts_of(folder / OLD)
        self.whole = {
            path.name for path in paths if (hashes or {}).get(path.name) == file_sha256(path)
        }
        parts = {path: read_part(path, stamp, path.name in self.whole) for path in paths}
        found = [part for part in (read_part(path, stamp) for path in old) if part]
        # Without anything to compare with, every picture would be read twice.
        self._scan = scan(catalog, progress) if found or any(parts.values()) else None
        for path, part in parts.items():
            self._judge(path, part, chunks)
        # In the order in which a later run finds them, so that it takes the same of equal rows.
        self.sources = Sources([*found, *self._spare])
        self.tasks = [
            Task(index, rows, self._find(rows))
            for index, rows in enumerate(chunks)
            if index not in self.kept
        ]

    def _judge(self, path: Path, part: Part | None, chunks: Sequence[Rows]) -> None:
        index = part_index(path)
        if part is None:
            self._foreign.append(path)
        elif index < len(chunks) and self._is_wanted(part, chunks[index]):
            self.kept.add(index)
        else:
            self._spare.append(part)

    def _is_wanted(self, part: Part, rows: Rows) -> bool:
        start, stop = rows[0], rows[-1] + 1
        now = self._scanned()
        if not part.ids.equals(self.catalog.item_ids.slice(start, stop - start)):
            return False
        if not np.array_equal(part.contents, now.contents[start:stop]):
            return False
        if "image" not in self.dims:
            return True
        # The digest does not say why there is no picture.
        without = np.arange(start, stop)[now.pictureless[start:stop]]
        ids = set(self.catalog.ids(without))
        then = [p for p in part.problems if p.modality == "image" and p.item_id in ids]
        return then == absences(self.catalog, without)

    def _scanned(self) -> Scan:
        if self._scan is None:
            raise ValueError("nothing was scanned, because nothing was there")
        return self._scan

    def _find(self, rows: Rows) -> np.ndarray:
        if self._scan is None:
            return np.full(len(rows), -1)
        return self.sources.find(self._scan.contents[rows[0] : rows[-1] + 1])

    def counts(self) -> dict[str, int]:
        """How many rows are ``reused``, ``new``, ``changed`` and ``removed``."""
        total = len(self.catalog)
        missing = np.concatenate([np.empty(0, np.int64), *(task.missing for task in self.tasks)])
        changed = removed = 0
        if self.sources.parts:
            known = self.sources.ids
            to_encode = self.catalog.item_ids.take(pa.array(missing))
            changed = pc.sum(pc.is_in(to_encode, known)).as_py() or 0
            removed = len(known) - (pc.sum(pc.is_in(known, self.catalog.item_ids)).as_py() or 0)
        return {
            "reused": total - len(missing),
            "new": len(missing) - changed,
            "changed": changed,
            "removed": removed,
        }

    def settle(self) -> None:
        """Put aside every shard that does not stay.

        Also those of another maker: whoever began this run with the wrong settings, and ends it
        before it is finished, has lost nothing.
        """
        taken = [part_index(path) for path in parts_of(self.folder / OLD)]
        free = max(taken, default=-1) + 1
        moved = {}
        for number, path in enumerate([*(part.path for part in self._spare), *self._foreign]):
            target = part_path(self.folder / OLD, free + number)
            target.parent.mkdir(exist_ok=True)
            move(path, target)
            moved[path] = target
        self._spare, self._foreign = [], []
        self.sources.parts = [
            replace(part, path=moved.get(part.path, part.path)) for part in self.sources.parts
        ]

    def complete(self, task: Task, fresh: EmbeddingBatch | None) -> EmbeddingBatch:
        """The batch of a task: what was encoded now among what is used again.

        Args:
            task: The task.
            fresh: The vectors of `task.missing`; None where nothing was missing.
        """
        if fresh is not None and len(fresh.item_ids) == len(task.rows):
            return fresh
        ids = self.catalog.ids(task.rows)
        contents = [""] * len(ids)
        vectors = {name: np.zeros((len(ids), dim), np.float32) for name, dim in self.dims.items()}
        present = {name: np.zeros(len(ids), bool) for name in self.dims}
        problems: list[tuple[int, Problem]] = []
        for places, batch in self._pieces(task, fresh):
            for name in self.dims:
                vectors[name][places] = batch.vectors[name]
                present[name][places] = batch.present[name]
            for place, content in zip(places, batch.content, strict=True):
                contents[place] = content
            problems += _problems_at(places, batch)
        problems = self._with_absences(task, problems)
        named = [
            replace(problem, item_id=ids[at]) for at, problem in sorted(problems, key=_by_place)
        ]
        return EmbeddingBatch(ids, contents, vectors, present, named)

    def _pieces(
        self, task: Task, fresh: EmbeddingBatch | None
    ) -> Iterator[tuple[np.ndarray, EmbeddingBatch]]:
        """The batches that a task's rows are in, and the places of their rows in the task."""
        if fresh is not None:
            yield np.flatnonzero(task.places < 0), fresh
        known = np.flatnonzero(task.places >= 0)
        for which, batch in self.sources.read(task.places[known], self.dims):
            yield known[which], batch

    def _with_absences(
        self, task: Task, problems: list[tuple[int, Problem]]
    ) -> list[tuple[int, Problem]]:
        """The same problems, with why there is no picture as it is today: the digest is silent."""
        known = np.flatnonzero(task.places >= 0)
        if "image" not in self.dims or not known.size:
            return problems
        rows = np.asarray(task.rows)
        without = known[self._scanned().pictureless[rows[known]]]
        then = set(without.tolist())
        kept = [(at, p) for at, p in problems if p.modality != "image" or at not in then]
        return kept + [(at, p) for at in then for p in absences(self.catalog, rows[at : at + 1])]

    def finish(self) -> None:
        """Remove what was put aside; the folder is finished."""
        for path in parts_of(self.folder / OLD):
            path.unlink()
        # Something that is not ours may lie there; a folder in an object store is none.
        if (self.folder / OLD).is_dir():
            with suppress(OSError):
                (self.folder / OLD).rmdir()


def _problems_at(places: np.ndarray, batch: EmbeddingBatch) -> list[tuple[int, Problem]]:
    """The problems of a batch, each with the place of its item."""
    of_item = defaultdict(list)
    for problem in batch.problems:
        of_item[problem.item_id].append(problem)
    return [
        (int(place), problem)
        for place, item in zip(places, batch.item_ids, strict=True)
        for problem in of_item[item]
    ]


def _by_place(located: tuple[int, Problem]) -> tuple[int, str]:
    return located[0], located[1].modality
