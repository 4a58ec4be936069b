"""The batched loop: a catalogue in, batches of vectors out, one per shard.

Pictures are encoded in the catalogue's order as they are decoded, texts sorted by length, so that
batches carry little padding; both are put back in their place, and what is absent is recorded.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from extract.batches import EmbeddingBatch
from extract.catalog import Catalog
from extract.encoders.base import Encoder, to_device
from extract.fusion import fuse
from extract.ledger import Problem
from extract.loader import PreparedBatch, default_workers, prepared_batches
from extract.planning import EmbedOptions, Plan, Rows, picture_batch, plan, split

CPU = torch.device("cpu")
# In a batch of texts, padding included: on a CPU as many as its caches hold, by measurement.
TOKENS = {"cpu": 512, "cuda": 32_768}

NOT_FINITE = "the encoder gives it no finite vector"

Progress = Callable[[str, int], None]


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
    size = picture_batch(options, device)
    workers = default_workers(device) if options.workers is None else options.workers
    chunks = split(range(len(catalog)), options.shard_rows) if chunks is None else chunks
    # No batch crosses the end of a chunk, so that a chunk is a whole number of batches.
    batches = _Batches(chunks, size)
    prepared = prepared_batches(encoder, catalog, what.encoded, batches, workers, device)

    def advance(modality: str, count: int) -> None:
        if modality in what.encoded and count:
            progress(modality, count)

    was_training = encoder.training
    encoder.eval()
    try:
        for chunk in chunks:
            own = islice(prepared, batches.count(chunk))
            with torch.inference_mode():
                towers = {name: _Tower(encoder, name, device) for name in what.encoded}
                contents, problems = _encode(towers, own, options.batch_size, advance)
                batch = _finish(catalog, chunk, towers, what, contents, problems)
            yield batch
    finally:
        encoder.train(was_training)


class _Batches:
    """The rows of each batch of each chunk, made when they are asked for."""

    def __init__(self, chunks: Sequence[Rows], size: int) -> None:
        self.chunks = chunks
        self.size = size

    def __iter__(self) -> Iterator[list[int]]:
        for chunk in self.chunks:
            for batch in split(chunk, self.size):
                yield [int(row) for row in batch]

    def count(self, chunk: Rows) -> int:
        return -(-len(chunk) // self.size)


class _Tower:
    """One modality of a chunk: what was encoded, and which rows have which vector of it.

    A picture or a text that comes again is not encoded again.
    """

    def __init__(self, encoder: Encoder, modality: str, device: torch.device) -> None:
        self.encoder = encoder
        self.modality = modality
        self.dtype = encoder.dtypes[modality]
        self.device = device
        self.vectors: list[Tensor] = []
        self.rows: list[int] = []
        self.places: list[int] = []
        self._known: dict[Any, int] = {}

    def add(self, rows: Iterable[int], keys: Iterable[Any]) -> list[int]:
        """Take in rows by what they show; gives the places among them of what is yet unknown."""
        unknown = []
        for place, (row, key) in enumerate(zip(rows, keys, strict=True)):
            if key not in self._known:
                self._known[key] = len(self._known)
                unknown.append(place)
            self.rows.append(row)
            self.places.append(self._known[key])
        return unknown

    def encode(self, inputs: Any) -> None:
        """Encode what was unknown, in the order in which it was taken in."""
        moved = to_device(inputs, self.device, self.dtype)
        vectors = self.encoder.encode({self.modality: moved})[self.modality].float()
        if self.encoder.normalized[self.modality] and self.dtype != torch.float32:
            vectors = normalize(vectors, dim=-1)  # half precision rounds the length, too
        self.vectors.append(vectors)

    def fill(self, table: Tensor, present: np.ndarray) -> None:
        """Put the vectors into their rows."""
        if self.rows:
            # One copy from the device per chunk.
            table[self.rows] = torch.cat(self.vectors).cpu()[self.places]
            present[self.rows] = True


def _encode(
    towers: Mapping[str, _Tower],
    batches: Iterator[PreparedBatch],
    batch_size: int | None,
    progress: Progress,
) -> tuple[list[str], list[Problem]]:
    """Encode the pictures of a chunk as they come, then its texts by length."""
    contents: list[str] = []
    problems: list[Problem] = []
    tokens: list[list[int] | None] = []
    for batch in batches:
        if batch.image_rows:
            rows = (len(contents) + row for row in batch.image_rows)
            unknown = towers["image"].add(rows, batch.image_digests)
            if unknown:
                towers["image"].encode(_some(batch.images, unknown, len(batch.image_rows)))
        contents.extend(batch.contents)
        problems.extend(batch.problems)
        tokens.extend(batch.tokens)
        progress("image", len(batch.contents))
    if "text" in towers:
        _encode_texts(towers["text"], tokens, batch_size, progress)
    return contents, problems


def _encode_texts(
    tower: _Tower,
    tokens: Sequence[list[int] | None],
    batch_size: int | None,
    progress: Progress,
) -> None:
    with_text = [row for row, ids in enumerate(tokens) if ids is not None]
    # The longest first: where the memory does not suffice, it shows at once.
    with_text.sort(key=lambda row: -len(tokens[row] or ()))
    texts = [tuple(tokens[row] or ()) for row in with_text]
    distinct = [texts[place] for place in tower.add(with_text, texts)]
    shares = Counter(texts)
    budget = TOKENS.get(tower.device.type, TOKENS["cpu"])
    for batch in _text_batches(distinct, batch_size, budget):
        tower.encode(tower.encoder.collate({"text": batch})["text"])
        progress("text", sum(shares[text] for text in batch))
    progress("text", len(tokens) - len(texts))


def _text_batches(
    texts: Sequence[tuple[int, ...]], batch_size: int | None, budget: int
) -> Iterator[Sequence[tuple[int, ...]]]:
    """Texts, the longest first, in batches of equal work, or of the size that was asked for."""
    start = 0
    while start < len(texts):
        rows = batch_size or max(1, budget // len(texts[start]))
        yield texts[start : start + rows]
        start += rows


def _some(inputs: Any, places: Sequence[int], of: int) -> Any:
    """Some of the collated pictures of a batch."""
    if len(places) == of:
        return inputs
    if isinstance(inputs, Mapping):
        return {name: _some(value, places, of) for name, value in inputs.items()}
    return inputs[places]


def _finish(
    catalog: Catalog,
    chunk: Rows,
    towers: Mapping[str, _Tower],
    what: Plan,
    contents: Sequence[str],
    problems: Sequence[Problem],
) -> EmbeddingBatch:
    """Put vectors back in their place and fuse them where both are present."""
    tables = {name: torch.zeros(len(chunk), what.dims[name]) for name in what.dims}
    present = {name: np.zeros(len(chunk), dtype=bool) for name in what.dims}
    ids, unusable = catalog.ids(chunk), []
    for name, tower in towers.items():
        tower.fill(tables[name], present[name])
        if tower.dtype == torch.float32:  # below it may be the precision, which is an error to tell
            broken = np.flatnonzero(~torch.isfinite(tables[name]).all(dim=1).numpy())
            present[name][broken] = False
            unusable += [Problem(ids[row], name, "not_finite", NOT_FINITE) for row in broken]
    if what.fusion:
        both = present["image"] & present["text"]
        present["fused"] = both
        where = torch.from_numpy(both)
        tables["fused"][where] = fuse(what.fusion, tables["image"][where], tables["text"][where])
    vectors = {name: table.numpy() for name, table in tables.items()}
    return EmbeddingBatch(ids, contents, vectors, present, [*problems, *unusable])
