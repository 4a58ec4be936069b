"""Rows of a catalogue made ready for an encoder, by worker processes where there are any.

A worker reads a picture's file once, for its digest and for its pixels.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from extract.catalog import NO_TEXT, Catalog, content_digest
from extract.encoders.base import Encoder, Inputs
from extract.pictures import PictureProblem, open_picture
from extract.shards import Problem


@dataclass
class PreparedBatch:
    """What workers make of some rows of the catalogue.

    Attributes:
        contents: Content digest per row.
        problems: What is absent, and why.
        images: The collated pictures of the rows in `image_rows`; empty where there are none.
        image_rows: Positions within the batch.
        tokens: Token ids per row, None where there is no text.
    """

    contents: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    images: Inputs = field(default_factory=dict)
    image_rows: list[int] = field(default_factory=list)
    # Lists, because each small tensor that a worker sends would cost a file descriptor.
    tokens: list[list[int] | None] = field(default_factory=list)


def prepared_batches(
    encoder: Encoder,
    catalog: Catalog,
    modalities: Sequence[str],
    batches: Sequence[list[int]],
    workers: int,
    device: torch.device,
) -> Iterator[PreparedBatch]:
    """Read, decode and tokenise rows of a catalogue.

    Args:
        encoder: Whose preparation is used.
        catalog: The items.
        modalities: Those of image and text that are wanted.
        batches: The rows of each batch.
        workers: Processes; 0 does it in this one.
        device: Where the pictures will go.
    """
    loader: DataLoader = DataLoader(
        _Rows(catalog, encoder, modalities),  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=partial(_collate, encoder.collate),
        num_workers=workers,
    )
    for batch in loader:
        if device.type == "cuda":
            batch.images = _pinned(batch.images)
        yield batch


def default_workers(device: torch.device) -> int:
    """How many processes, unless told: none where they would only take the encoder's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    if device.type == "cuda":
        return min(cores - 1, 16)
    return 0 if cores <= 2 else min(cores // 2, 8)


class _Row(NamedTuple):
    content: str
    image: Any
    tokens: list[int] | None
    problems: list[Problem]


class _Rows:
    """The catalogue as a data set of prepared rows; it holds no weights, so it is cheap to send."""

    def __init__(self, catalog: Catalog, encoder: Encoder, modalities: Sequence[str]) -> None:
        self.catalog = catalog
        self.prepare_image = encoder.prepare_image
        self.prepare_text = encoder.prepare_text
        self.modalities = modalities

    def __len__(self) -> int:
        return len(self.catalog)

    def __getitem__(self, row: int) -> _Row:
        item, text = self.catalog.item_id(row), self.catalog.text(row)
        problems: list[Problem] = []
        data, image = self._image(row, item, problems)
        tokens = self._tokens(text, item, problems)
        return _Row(content_digest(text, data), image, tokens, problems)

    def _image(self, row: int, item: str, problems: list[Problem]) -> tuple[bytes | None, Any]:
        wanted, data = "image" in self.modalities, None
        try:
            # Also where no picture is wanted: the digest of an item speaks of its picture.
            data = self.catalog.picture_bytes(row)
            return data, self.prepare_image(open_picture(data)) if wanted else None
        except PictureProblem as problem:
            if wanted:
                problems.append(Problem(item, "image", problem.kind, problem.detail))
            return data, None

    def _tokens(self, text: str | None, item: str, problems: list[Problem]) -> list[int] | None:
        if "text" not in self.modalities:
            return None
        if text and text.strip():
            return self.prepare_text(text)
        detail = NO_TEXT if text is None else "nothing but white space"
        problems.append(Problem(item, "text", "empty", detail))
        return None


def _collate(
    collate: Callable[[dict[str, list[Any]]], dict[str, Any]], rows: Sequence[_Row]
) -> PreparedBatch:
    images = [row.image for row in rows if row.image is not None]
    return PreparedBatch(
        contents=[row.content for row in rows],
        problems=[problem for row in rows for problem in row.problems],
        images=collate({"image": images}),
        image_rows=[position for position, row in enumerate(rows) if row.image is not None],
        tokens=[row.tokens for row in rows],
    )


def _pinned(inputs: Any) -> Any:
    # In pinned memory a copy to the device goes on beside the computation.
    if isinstance(inputs, dict):
        return {name: _pinned(value) for name, value in inputs.items()}
    return inputs.pin_memory()
