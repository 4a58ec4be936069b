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
from extract.encoders.base import Encoder, Stage, to_device
from extract.errors import UserError
from extract.finetune.kept import Kept, frozen_steps, run_frozen, run_steps
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
        trained: Modality to the steps that come after those.
    """

    encoder: Encoder
    catalog: Catalog
    device: torch.device
    workers: int
    rows: np.ndarray
    groups: np.ndarray
    tokens: Sequence[list[int]]
    kept: Mapping[str, Kept]
    trained: Mapping[str, Sequence[Stage]]

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
                views[name] = (run_steps(self.trained[name], inputs),)
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
        keep: Whether what frozen steps give is kept, as far as the memory suffices. Otherwise they
            are done again each time.
        progress: Told a modality and how many more items are through with it.

    Raises:
        UserError: No item has both a picture and a text that can be used.
    """
    encoder.eval()
    workers = default_workers(device) if workers is None else workers
    keep = keep and type(encoder).encode_views is Encoder.encode_views
    steps = {name: frozen_steps(encoder, name) for name in MODALITIES}
    kept = {name: Kept() for name in MODALITIES if keep and steps[name][0]}
    usable = _Usable([], [], [])
    batches = _pieces(range(len(catalog)), READ)
    prepared = prepared_batches(encoder, catalog, MODALITIES, map(list, batches), workers, device)
    for rows, batch in zip(batches, prepared, strict=True):
        places = usable.add(rows, batch)
        if places and "image" in kept:
            states = run_frozen(steps["image"][0], batch.images, device)
            kept["image"].add(states, [batch.image_rows.index(place) for place in places])
            if not kept["image"].fits(len(catalog)):
                del kept["image"]
        progress("image", len(rows))
    if not usable.rows:
        raise UserError(
            f"none of the {len(catalog):,} items has both a picture and a text that can be used, "
            "and pairs of them are what an encoder is tuned on"
        )
    if "text" in kept:
        texts = _keep_texts(encoder, steps["text"][0], usable.tokens, device, progress)
        kept = {name: each for name, each in (kept | {"text": texts}).items() if each is not None}
    return Material(
        encoder=encoder,
        catalog=catalog,
        device=device,
        workers=workers,
        rows=np.array(usable.rows),
        groups=duplicate_groups(usable.pictures, [tuple(ids) for ids in usable.tokens]),
        tokens=usable.tokens,
        kept=kept,
        trained={name: after for name, (_, after) in steps.items()},
    )


@dataclass(frozen=True)
class _Usable:
    """The rows that have a picture and a text that can be used, and what they show and say."""

    rows: list[int]
    pictures: list[bytes]
    tokens: list[list[int]]

    def add(self, rows: Sequence[int], batch: PreparedBatch) -> list[int]:
        """Take in a batch; gives the places in it of those that can be used."""
        digests = dict(zip(batch.image_rows, batch.image_digests, strict=True))
        places = [place for place in digests if batch.tokens[place] is not None]
        self.rows.extend(rows[place] for place in places)
        self.pictures.extend(digests[place] for place in places)
        self.tokens.extend(batch.tokens[place] or [] for place in places)
        return places


def _keep_texts(
    encoder: Encoder,
    steps: Sequence[Stage],
    tokens: Sequence[list[int]],
    device: torch.device,
    progress: Callable[[str, int], None],
) -> Kept | None:
    """What frozen steps give of each text; the longest first, so that there is little padding.

    None where the memory does not suffice.
    """
    kept = Kept()
    order = np.argsort([-len(ids) for ids in tokens], kind="stable")
    for some in _pieces(order, READ):
        batch = encoder.collate({"text": [tokens[place] for place in some]})["text"]
        kept.add(run_frozen(steps, batch, device))
        if not kept.fits(len(tokens)):
            return None
        progress("text", len(some))
    return kept.reordered(np.argsort(order).tolist())


def _pieces(values: Any, size: int) -> list[Any]:
    return [values[start : start + size] for start in range(0, len(values), size)]
