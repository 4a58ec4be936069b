"""Features of items: read from shards, joined by id, with a mask of what is there.

A model sees features as tables, modality to an (I, d) tensor, whose absent rows are zero. Where
the tables come from (a cache, a trainable copy, a live encoder) is the business of a
`recommend.sources.FeatureSource`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from extract.errors import UserError
from extract.files import digest
from extract.shards import ShardReader, usable_rows
from recommend.interactions import IdMap

Tables = Mapping[str, Tensor]
RANDOM_DIM = 64


@dataclass(frozen=True)
class FeatureStore:
    """Feature vectors of every item, in the order of an `IdMap`.

    Attributes:
        tables: Modality to (I, d) float32; absent rows are zero.
        present: Modality to (I,) bool.
        name: The name under which they were asked for.
        digest: A digest of where they came from.
        unusable: Modality to the number of stored rows that are zero or not finite, and so absent.
    """

    tables: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    name: str
    digest: str
    unusable: Mapping[str, int]

    @property
    def dims(self) -> dict[str, int]:
        """Modality to vector size d."""
        return {modality: table.shape[1] for modality, table in self.tables.items()}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], name: str = "arrays", source: str = ""
    ) -> "FeatureStore":
        """From one (I, d) array per modality; zero and non-finite rows count as absent.

        Args:
            arrays: Modality to vectors, in the order of the items.
            name: What to call the features.
            source: Digest of where they came from.
        """
        tables, present, unusable = {}, {}, {}
        for modality, array in arrays.items():
            usable = usable_rows(array)
            tables[modality] = np.where(usable[:, None], array, 0).astype(np.float32)
            present[modality] = usable
            unusable[modality] = int((~usable).sum())
        return cls(tables, present, name, source, unusable)

    @classmethod
    def none(cls) -> "FeatureStore":
        """No features: what a model that uses interactions only is given."""
        return cls({}, {}, "none", "", {})

    def only(self, modalities: Sequence[str]) -> "FeatureStore":
        """The same features without other modalities.

        Raises:
            UserError: One is asked for that is not there.
        """
        missing = [modality for modality in modalities if modality not in self.tables]
        if missing or not modalities:
            raise UserError(
                f"the features {self.name!r} have {', '.join(self.tables) or 'no modality'}; "
                f"asked for {', '.join(modalities) or 'none'}"
            )
        return replace(
            self,
            tables={modality: self.tables[modality] for modality in modalities},
            present={modality: self.present[modality] for modality in modalities},
            unusable={modality: self.unusable[modality] for modality in modalities},
            digest=digest([self.digest, *modalities]),
        )

    def shuffled(self, seed: int) -> "FeatureStore":
        """The control: the rows are permuted, of all modalities alike.

        What a model gains from these it gains from more parameters, not from content.
        """
        n_items = len(next(iter(self.tables.values())))
        order = np.random.default_rng([seed, 0x5F]).permutation(n_items)
        return replace(
            self,
            tables={modality: table[order] for modality, table in self.tables.items()},
            present={modality: mask[order] for modality, mask in self.present.items()},
            name=f"shuffled:{self.name}",
            digest=digest([self.digest, f"shuffled {seed}"]),
        )


def load_features(folder: Path, items: IdMap, name: str) -> FeatureStore:
    """Read a finished feature folder and join it to the items by id.

    Args:
        folder: A feature folder with its manifest.
        items: The catalogue's items.
        name: What to call the features.

    Raises:
        UserError: The folder is unfinished or torn, has rows of other items, lacks items, or has
            an item twice.
    """
    reader = ShardReader(folder)
    dims, n_items = reader.manifest.dims, len(items)
    tables = {modality: np.zeros((n_items, dim), np.float32) for modality, dim in dims.items()}
    present = {modality: np.zeros(n_items, bool) for modality in dims}
    unusable = dict.fromkeys(dims, 0)
    seen = np.zeros(n_items, np.int64)
    for batch in reader:
        rows = items.find(batch.item_ids)
        _check_known(folder, rows, batch.item_ids)
        np.add.at(seen, rows, 1)
        for modality in dims:
            vectors = batch.vectors[modality].astype(np.float32)
            usable = usable_rows(vectors)
            unusable[modality] += int((batch.present[modality] & ~usable).sum())
            usable &= batch.present[modality]
            tables[modality][rows[usable]] = vectors[usable]
            present[modality][rows[usable]] = True
    _check_complete(folder, seen, items)
    return FeatureStore(tables, present, name, reader.manifest.digest(), unusable)


def _check_known(folder: Path, rows: np.ndarray, item_ids: Sequence[str]) -> None:
    unknown = np.flatnonzero(rows < 0)
    if unknown.size:
        raise UserError(
            f"{folder} has vectors of items that are not in the catalogue, such as "
            f"{item_ids[unknown[0]]!r}; it was made for other items: extract again"
        )


def _check_complete(folder: Path, seen: np.ndarray, items: IdMap) -> None:
    if (seen > 1).any():
        twice = items.ids[int(np.flatnonzero(seen > 1)[0])]
        raise UserError(f"{folder} has more than one row of item {str(twice)!r}; extract again")
    if (seen == 0).any():
        lacking = items.ids[int(np.flatnonzero(seen == 0)[0])]
        raise UserError(
            f"{folder} lacks rows of {int((seen == 0).sum())} of {len(items)} items, such as "
            f"{str(lacking)!r}; the catalogue has changed since: extract again"
        )


def random_features(n_items: int, seed: int, modalities: Iterable[str]) -> FeatureStore:
    """The control that knows nothing: Gaussian vectors, one per item and modality.

    Args:
        n_items: Number of items, I.
        seed: Seed of the vectors.
        modalities: Which tables to make.
    """
    generator = np.random.default_rng([seed, 0xA7])
    arrays = {
        modality: generator.standard_normal((n_items, RANDOM_DIM), np.float32)
        for modality in modalities
    }
    return FeatureStore.from_arrays(arrays, "random", digest([f"random {seed} {n_items}"]))
