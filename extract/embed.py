"""The batched loop: a catalogue in, batches of vectors out, one per shard.

Vectors are put back in their place, and what is absent is recorded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from extract.batches import EmbeddingBatch
from extract.catalog import Catalog
from extract.chunks import Encoded, Progress, Tower, encoded_chunks
from extract.encoders.base import Encoder
from extract.fusion import FUSIONS, fuse
from extract.ledger import Problem
from extract.planning import EmbedOptions, Plan, Rows, plan, split

CPU = torch.device("cpu")

NOT_FINITE = "the encoder gives it no finite vector"


def embed(
    encoder: Encoder,
    catalog: Catalog,
    options: EmbedOptions | None = None,
    device: torch.device = CPU,
    progress: Progress = lambda modality, count: None,
    chunks: Sequence[Rows] | None = None,
) -> Iterator[EmbeddingBatch]:
    """Encode a catalogue, or some chunks of its rows.

    What a chunk's vectors are does not depend on the other chunks.

    Args:
        encoder: An encoder that is on `device`; it is put into evaluation mode, and at the end
            back into the mode that it had.
        catalog: The items.
        options: The circumstances; None for the defaults.
        device: Where the encoder is.
        progress: Told a modality and how many more items are through with it.
        chunks: Rows of the catalogue; None for all of them, `options.shard_rows` at a time.

    Yields:
        One batch per chunk, in the chunk's order, vectors as float32.

    Raises:
        UserError: There is nothing to encode, or the fusion does not fit.
    """
    options = options or EmbedOptions()
    what = plan(encoder, catalog, options)
    chunks = split(range(len(catalog)), options.shard_rows) if chunks is None else chunks

    def towers() -> dict[str, _VectorTower]:
        return {name: _VectorTower(encoder, name, device) for name in what.towers}

    encoded = encoded_chunks(encoder, catalog, towers, options, device, progress, chunks)
    with closing(encoded) as finished:
        for chunk in finished:
            yield _batch(catalog, chunk, what)


class _VectorTower(Tower):
    """A tower that keeps one vector of each picture, text or pair."""

    def __init__(self, encoder: Encoder, modality: str, device: torch.device) -> None:
        super().__init__(encoder, modality, device)
        self.vectors: list[Tensor] = []
        encode: dict[str, Callable[..., Tensor]] = {
            "image": encoder.encode_image,
            "text": encoder.encode_text,
            "fused": encoder.encode_joint,
        }
        self._encode = encode[modality]

    def encode(self, *inputs: Any) -> None:
        vectors = self._encode(*map(self.moved, inputs)).float()
        if self.encoder.normalized.get(self.modality) and not self.exact:
            vectors = normalize(vectors, dim=-1)  # half precision rounds the length, too
        self.vectors.append(vectors)

    def fill(self, table: Tensor, present: np.ndarray) -> None:
        """Put the vectors into their rows."""
        if self.rows:
            # One copy from the device per chunk.
            table[self.rows] = torch.cat(self.vectors).cpu()[self.places]
            present[self.rows] = True


def _batch(catalog: Catalog, chunk: Encoded[_VectorTower], what: Plan) -> EmbeddingBatch:
    """Put vectors back in their place and fuse them where both are present."""
    n = len(chunk.rows)
    tables = {name: torch.zeros(n, dim) for name, dim in what.dims.items()}
    present = {name: np.zeros(n, dtype=bool) for name in what.dims}
    ids, unusable = catalog.ids(chunk.rows), []
    for name, tower in chunk.towers.items():
        tower.fill(tables[name], present[name])
        if name == "fused":
            present[name] &= present["image"] & present["text"]
        if tower.exact:  # below float32 it may be the precision, which is an error to tell
            broken = present[name] & ~torch.isfinite(tables[name]).all(dim=1).numpy()
            present[name] &= ~broken
            unusable += [
                Problem(ids[row], name, "not_finite", NOT_FINITE) for row in np.flatnonzero(broken)
            ]
    if what.fusion in FUSIONS:
        _fuse(what.fusion, tables, present)
    vectors = {name: table.numpy() for name, table in tables.items()}
    return EmbeddingBatch(ids, chunk.contents, vectors, present, [*chunk.problems, *unusable])


def _fuse(fusion: str, tables: Mapping[str, Tensor], present: dict[str, np.ndarray]) -> None:
    present["fused"] = present["image"] & present["text"]
    both = torch.from_numpy(present["fused"])
    tables["fused"][both] = fuse(fusion, tables["image"][both], tables["text"][both])
