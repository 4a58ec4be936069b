"""The batched loop for the vectors of patches and words, of which an item has many."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch

from extract.catalog import Catalog
from extract.chunks import Encoded, Progress, Tower, encoded_chunks
from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.ledger import Problem
from extract.planning import EmbedOptions, Rows
from extract.token_batches import Ragged, TokenBatch

CPU = torch.device("cpu")
# Items per shard, at most: a shard is held in memory whole, and an item may have hundreds of
# vectors.
SHARD_ROWS = 256
NOT_FINITE = "the encoder gives it a token vector that is not finite"


def token_plan(encoder: Encoder, catalog: Catalog) -> dict[str, int]:
    """Modality to the size of the token vectors that a catalogue gets.

    Raises:
        UserError: The encoder has none, or none of what the items have.
    """
    if not encoder.token_dims:
        raise UserError(
            f"the encoder {encoder.spec} has no patch or word vectors; leave out --tokens"
        )
    modalities = catalog.modalities
    dims = {name: dim for name, dim in encoder.token_dims.items() if name in modalities}
    if not dims:
        raise UserError(
            f"the encoder {encoder.spec} has token vectors of {', '.join(encoder.token_dims)} "
            f"only, of which none of the {len(catalog):,} items has any; leave out --tokens"
        )
    return dims


def embed_tokens(
    encoder: Encoder,
    catalog: Catalog,
    chunks: Sequence[Rows],
    options: EmbedOptions | None = None,
    dtype: str = "float16",
    device: torch.device = CPU,
    progress: Progress = lambda modality, count: None,
) -> Generator[TokenBatch]:
    """Encode some chunks of a catalogue's rows to token vectors.

    Args:
        encoder: An encoder that is on `device`; it is put into evaluation mode, and at the end
            back into the mode that it had.
        catalog: The items.
        chunks: Rows of the catalogue.
        options: The circumstances; None for the defaults.
        dtype: The vectors' type, ``float16`` or ``float32``.
        device: Where the encoder is.
        progress: Told a modality and how many more items are through with it.

    Yields:
        One batch per chunk, in the chunk's order, without padding.

    Raises:
        UserError: There is nothing to encode.
    """
    dims, kind = token_plan(encoder, catalog), np.dtype(dtype)

    def towers() -> dict[str, _TokenTower]:
        return {name: _TokenTower(encoder, name, device, kind) for name in dims}

    options = options or EmbedOptions()
    encoded = encoded_chunks(encoder, catalog, towers, options, device, progress, chunks)
    with closing(encoded) as finished:
        for chunk in finished:
            yield _batch(catalog, chunk, dims)


class _TokenTower(Tower):
    """A tower that keeps all vectors of each picture or text."""

    def __init__(
        self, encoder: Encoder, modality: str, device: torch.device, dtype: np.dtype
    ) -> None:
        super().__init__(encoder, modality, device)
        self.dtype = dtype
        # None where they are not finite.
        self.vectors: list[np.ndarray | None] = []

    def encode(self, *inputs: Any) -> None:
        vectors, there = self.encoder.encode_tokens(self.modality, self.moved(*inputs))
        # From the device batch by batch: it could not hold those of a whole chunk.
        for each, filled in zip(vectors.float().cpu().numpy(), there.cpu().numpy(), strict=True):
            self.vectors.append(self._stored(each[filled]))

    def by_row(self, count: int) -> list[np.ndarray | None]:
        """The vectors of each row of the chunk, None where there are none."""
        rows: list[np.ndarray | None] = [None] * count
        for row, place in zip(self.rows, self.places, strict=True):
            rows[row] = self.vectors[place]
        return rows

    def _stored(self, vectors: np.ndarray) -> np.ndarray | None:
        # Below float32 it may be the precision, which is an error to tell, not an absence.
        if self.exact and not np.isfinite(vectors).all():
            return None
        with np.errstate(over="ignore"):  # which is told where they are written
            return vectors.astype(self.dtype)


def _batch(catalog: Catalog, chunk: Encoded[_TokenTower], dims: dict[str, int]) -> TokenBatch:
    ids = catalog.ids(chunk.rows)
    tokens, problems = {}, []
    for name, tower in chunk.towers.items():
        rows = tower.by_row(len(ids))
        tokens[name] = Ragged.from_items(rows, dims[name], tower.dtype)
        problems += [
            Problem(ids[row], name, "not_finite", NOT_FINITE)
            for row in sorted(tower.rows)
            if rows[row] is None
        ]
    return TokenBatch(ids, chunk.contents, tokens, problems)
