"""The chunks of a catalogue through the towers of an encoder, one chunk after the other.

Pictures are encoded in the catalogue's order as they are decoded, texts sorted by length, so that
batches carry little padding. What a tower keeps of it is its own business.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import torch

from extract.catalog import Catalog
from extract.encoders.base import Encoder, to_device
from extract.ledger import Problem
from extract.loader import PreparedBatch, default_workers, prepared_batches
from extract.planning import EmbedOptions, Rows, picture_batch, split

# In a batch of texts, padding included: on a CPU as many as its caches hold, by measurement.
TOKENS = {"cpu": 512, "cuda": 32_768}

Progress = Callable[[str, int], None]


class Tower(ABC):
    """What sees one modality of a chunk, ``fused`` among them: it knows which rows show what.

    A picture or a text that comes again is not encoded again.

    Args:
        encoder: On `device`.
        modality: What it sees.
        device: Where the encoder is.

    Attributes:
        rows: The rows of the chunk that it was given.
        places: For each of them, which of all that was encoded is its own.
    """

    def __init__(self, encoder: Encoder, modality: str, device: torch.device) -> None:
        self.encoder = encoder
        self.modality = modality
        self.device = device
        # Not finite below float32, that may be the precision.
        self.exact = encoder.dtypes.get(modality, torch.float32) == torch.float32
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

    @abstractmethod
    def encode(self, *inputs: Any) -> None:
        """Encode what was unknown, in the order in which it was taken in.

        Args:
            inputs: The collated pictures, or texts, or of ``fused`` both.
        """

    def moved(self, inputs: Any) -> Any:
        """Collated inputs as the encoder takes them."""
        # Of a pair the pixels are what has a type; the weights that see them are the pictures'.
        modality = "image" if self.modality == "fused" else self.modality
        return to_device(inputs, self.device, self.encoder.dtypes[modality])


TowerT = TypeVar("TowerT", bound=Tower)


@dataclass(frozen=True)
class Encoded(Generic[TowerT]):
    """A chunk that went through the towers.

    Attributes:
        rows: Its rows of the catalogue.
        towers: What they made of it.
        contents: Content digest per row.
        problems: What is absent, and why.
    """

    rows: Rows
    towers: Mapping[str, TowerT]
    contents: list[str]
    problems: list[Problem]


def encoded_chunks(
    encoder: Encoder,
    catalog: Catalog,
    towers: Callable[[], Mapping[str, TowerT]],
    options: EmbedOptions,
    device: torch.device,
    progress: Progress,
    chunks: Sequence[Rows],
) -> Generator[Encoded[TowerT]]:
    """Put each chunk of a catalogue's rows through towers of its own.

    What becomes of a chunk does not depend on the other chunks.

    Args:
        encoder: It is put into evaluation mode, and at the end back into the mode that it had.
        catalog: The items.
        towers: Makes a chunk's towers, of image or text, or both, and then perhaps ``fused``.
        options: The circumstances.
        device: Where the encoder is.
        progress: Told image or text and how many more items are through with it.
        chunks: Rows of the catalogue.
    """
    size = picture_batch(options, device)
    workers = default_workers(device) if options.workers is None else options.workers
    # No batch crosses the end of a chunk, so that a chunk is a whole number of batches.
    batches = _Batches(chunks, size)
    modalities = [name for name in towers() if name != "fused"]
    prepared = prepared_batches(encoder, catalog, modalities, batches, workers, device)

    def advance(modality: str, count: int) -> None:
        if modality in modalities and count:
            progress(modality, count)

    was_training = encoder.training
    encoder.eval()
    try:
        for chunk in chunks:
            own, fresh = islice(prepared, batches.count(chunk)), towers()
            with torch.inference_mode():
                contents, problems = _encode(fresh, own, options.batch_size, advance)
            yield Encoded(chunk, fresh, contents, problems)
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


def _encode(
    towers: Mapping[str, Tower],
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
            _encode_pictures(towers["image"], batch, len(contents))
            if "fused" in towers:
                _encode_pairs(towers["fused"], batch, len(contents))
        contents.extend(batch.contents)
        problems.extend(batch.problems)
        tokens.extend(batch.tokens)
        progress("image", len(batch.contents))
    if "text" in towers:
        _encode_texts(towers["text"], tokens, batch_size, progress)
    return contents, problems


def _encode_pictures(tower: Tower, batch: PreparedBatch, start: int) -> None:
    unknown = tower.add([start + row for row in batch.image_rows], batch.image_digests)
    if unknown:
        tower.encode(_some(batch.images, unknown, len(batch.image_rows)))


def _encode_pairs(tower: Tower, batch: PreparedBatch, start: int) -> None:
    """Encode pictures together with their texts, where the pixels are at hand."""
    places = [place for place, row in enumerate(batch.image_rows) if batch.tokens[row] is not None]
    rows = [batch.image_rows[place] for place in places]
    texts = [tuple(batch.tokens[row] or ()) for row in rows]
    pairs = zip((batch.image_digests[place] for place in places), texts, strict=True)
    unknown = tower.add([start + row for row in rows], pairs)
    if unknown:
        images = _some(batch.images, [places[at] for at in unknown], len(batch.image_rows))
        collated = tower.encoder.collate({"text": [texts[at] for at in unknown]})
        tower.encode(images, collated["text"])


def _encode_texts(
    tower: Tower,
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
