"""A catalogue's pairs of a picture and a text made ready for training.

The catalogue is read once, to learn what can be used and what are duplicates, and to do what need
be done only once. Pictures whose tower is trained from its first step on are decoded again whenever
they are needed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.catalog import Catalog
from extract.encoders.base import Encoder, to_device
from extract.errors import UserError
from extract.finetune.kept import Kept, frozen_steps, run_steps
from extract.finetune.pairs import duplicate_groups
from extract.loader import PreparedBatch, default_workers, prepared_batches

MODALITIES = ("image", "text")
# Pairs at a time while frozen steps are done.
READ = 16


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
        encoder: By whose preparation, and frozen steps, it was made.
        catalog: The items.
        device: Where the encoder is.
        workers: Threads or processes that decode.
        rows: The catalogue's rows that have a picture and a text that can be used, (n,).
        groups: (n,); duplicates have the same number.
        tokens: The texts' token ids.
        kept: Modality to what its frozen steps gave, of those that have some.
    """

    encoder: Encoder
    catalog: Catalog
    device: torch.device
    workers: int
    rows: np.ndarray
    groups: np.ndarray
    tokens: Sequence[list[int]]
    kept: Mapping[str, Kept]

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.rows)

    def chunks(self, places: Sequence[np.ndarray]) -> Iterator[Chunk]:
        """Pairs made ready, one chunk for each array of places, in that order."""
        pixels: Iterator[PreparedBatch] | None = None
        if "image" not in self.kept:
            rows = [self.rows[some].tolist() for some in places]
            pixels = self._prepared(rows)
        for some in places:
            inputs = {name: kept.take(some.tolist()) for name, kept in self.kept.items()}
            if pixels is not None:
                inputs["image"] = next(pixels).images
            if "text" not in inputs:
                inputs["text"] = self._texts(some)
            moved = {name: to_device(inputs[name], self.device) for name in MODALITIES}
            yield Chunk(some, moved)

    def views(self, chunk: Chunk) -> dict[str, tuple[Tensor, ...]]:
        """Modality to the vectors by which it is contrasted, each (n, d), differentiable."""
        views: dict[str, tuple[Tensor, ...]] = {}
        for name, inputs in chunk.inputs.items():
            if name in self.kept:
                views[name] = (run_steps(frozen_steps(self.encoder, name)[1], inputs),)
            else:
                views[name] = self.encoder.encode_views(name, inputs)
        return views

    def _texts(self, places: np.ndarray) -> Any:
        return self.encoder.collate({"text": [self.tokens[place] for place in places]})["text"]

    def _prepared(self, rows: Sequence[list[int]]) -> Iterator[PreparedBatch]:
        for batch in prepared_batches(
            self.encoder, self.catalog, ("image",), rows, self.workers, self.device
        ):
            if len(batch.image_rows) < len(batch.contents):
                problem = batch.problems[0]
                raise UserError(
                    f"the picture of item {problem.item_id!r} could be used a moment ago and "
                    f"cannot now ({problem.detail}); leave the pictures alone while they are read"
                )
            yield batch


def read_pairs(
    encoder: Encoder,
    catalog: Catalog,
    device: torch.device,
    workers: int | None = None,
    keep: bool = True,
    progress: Callable[[str, int], None] = lambda what, count: None,
) -> Material:
    """Read a catalogue once.

    Args:
        encoder: On `device`; what is trained of it has ``requires_grad``.
        catalog: The items.
        device: Where the encoder is.
        workers: Threads or processes that decode; None for as many as suit the machine.
        keep: Whether what frozen steps give is kept. Without it they are done again each time.
        progress: Told a modality and how many more items are through with it.

    Raises:
        UserError: No item has both a picture and a text that can be used.
    """
    encoder.eval()
    workers = default_workers(device) if workers is None else workers
    keep = keep and type(encoder).encode_views is Encoder.encode_views
    frozen = {name: frozen_steps(encoder, name)[0] for name in MODALITIES}
    kept = {name: Kept() for name in MODALITIES if keep and frozen[name]}
    rows: list[int] = []
    pictures: list[bytes] = []
    tokens: list[list[int]] = []
    batches = [list(some) for some in _pieces(range(len(catalog)), READ)]
    prepared = prepared_batches(encoder, catalog, MODALITIES, batches, workers, device)
    with torch.no_grad():
        for numbers, batch in zip(batches, prepared, strict=True):
            digests = dict(zip(batch.image_rows, batch.image_digests, strict=True))
            usable = [place for place in digests if batch.tokens[place] is not None]
            rows += [numbers[place] for place in usable]
            pictures += [digests[place] for place in usable]
            tokens += [batch.tokens[place] or [] for place in usable]
            if usable and "image" in kept:
                state = run_steps(frozen["image"], to_device(batch.images, device))
                of = [batch.image_rows.index(place) for place in usable]
                found = Kept()
                found.add(state)
                kept["image"].states += found.reordered(of).states
            progress("image", len(numbers))
        if not rows:
            raise UserError(
                f"none of the {len(catalog):,} items has both a picture and a text that can be "
                "used, and pairs of them are what an encoder is tuned on"
            )
        if "text" in kept:
            kept["text"] = _keep_texts(encoder, tokens, device, progress)
    groups = duplicate_groups(pictures, [tuple(ids) for ids in tokens])
    return Material(encoder, catalog, device, workers, np.array(rows), groups, tokens, kept)


def _keep_texts(
    encoder: Encoder,
    tokens: Sequence[list[int]],
    device: torch.device,
    progress: Callable[[str, int], None],
) -> Kept:
    """What the frozen steps give of each text; the longest first, so that there is no padding."""
    steps, kept = frozen_steps(encoder, "text")[0], Kept()
    order = np.argsort([-len(ids) for ids in tokens], kind="stable")
    for some in _pieces(order, READ):
        batch = encoder.collate({"text": [tokens[place] for place in some]})["text"]
        kept.add(run_steps(steps, to_device(batch, device)))
        progress("text", len(some))
    return kept.reordered(np.argsort(order).tolist())


def _pieces(values: Any, size: int) -> list[Any]:
    return [values[start : start + size] for start in range(0, len(values), size)]
