"""A catalogue's pairs of a picture and a text made ready for training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.catalog import Catalog
from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.finetune.inputs import MODALITIES, Inputs, Keep, Progress, read_inputs
from extract.finetune.kept import Kept
from extract.finetune.pairs import duplicate_groups


@dataclass(frozen=True)
class Chunk:
    """Some pairs, ready for the encoder.

    Attributes:
        places: Among the pairs, (n,).
        inputs: Modality to its collated inputs, or to what was kept of its tower.
    """

    places: np.ndarray
    inputs: Mapping[str, Any]

    def __len__(self) -> int:
        """How many pairs it has."""
        return len(self.places)


@dataclass(frozen=True)
class Material:
    """The pairs of a catalogue.

    Attributes:
        inputs: What all items show and say.
        rows: The catalogue's rows that have a picture and a text that can be used, (n,).
        groups: (n,); duplicates have the same number.
    """

    inputs: Inputs
    rows: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.rows)

    @property
    def kept(self) -> Mapping[str, Kept]:
        """Modality to what was kept of it, of all items that have it."""
        return self.inputs.kept

    @property
    def tokens(self) -> list[list[int]]:
        """The token ids of the pairs' texts."""
        return [self.inputs.tokens[row] or [] for row in self.rows]

    def chunks(self, places: Sequence[np.ndarray]) -> Iterator[Chunk]:
        """Pairs made ready, one chunk for each array of places, in that order."""
        wanted = [self.rows[some] for some in places]
        batches = [self.inputs.batches(name, wanted) for name in MODALITIES]
        for some, *both in zip(places, *batches, strict=True):
            made = zip(MODALITIES, both, strict=True)
            yield Chunk(some, {name: self.inputs.moved(name, batch) for name, batch in made})

    def views(self, chunk: Chunk) -> dict[str, tuple[Tensor, ...]]:
        """Modality to the vectors by which it is contrasted, each (n, d), differentiable."""
        if _has_own_views(self.inputs.encoder):
            encode = self.inputs.encoder.encode_views
            return {name: encode(name, batch) for name, batch in chunk.inputs.items()}
        return {name: (self.inputs.vectors(name, batch),) for name, batch in chunk.inputs.items()}


def read_pairs(
    encoder: Encoder,
    catalog: Catalog,
    device: torch.device,
    workers: int | None = None,
    keep: bool = True,
    progress: Progress = lambda what, count: None,
) -> Material:
    """Read a catalogue once.

    Args:
        encoder: On `device`; what is trained of it has ``requires_grad``.
        catalog: The items.
        device: Where the encoder is.
        workers: Threads or processes that decode; None for as many as suit the machine.
        keep: Whether what frozen steps give, or else pixels, are kept, as far as the memory
            suffices. Otherwise all is done again each time.
        progress: Told a modality and how many more items are through with it.

    Raises:
        UserError: No item has both a picture and a text that can be used.
    """
    # The steps of a tower lead to one vector, and not to other views of it.
    most: Keep = "inputs" if _has_own_views(encoder) else "states"
    inputs = read_inputs(encoder, catalog, device, workers, most if keep else "nothing", progress)
    rows = np.intersect1d(inputs.rows["image"], inputs.rows["text"])
    if not len(rows):
        raise UserError(
            f"none of the {len(catalog):,} items has both a picture and a text that can be used, "
            "and pairs of them are what an encoder is tuned on"
        )
    pictures = [inputs.pictures[row] for row in rows]
    texts = [tuple(inputs.tokens[row] or ()) for row in rows]
    return Material(inputs, rows, duplicate_groups(pictures, texts))


def _has_own_views(encoder: Encoder) -> bool:
    return type(encoder).encode_views is not Encoder.encode_views
