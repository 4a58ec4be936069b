"""Rows of a catalogue made ready for an encoder, by threads or by worker processes.

For an encoder on the CPU pictures are decoded by threads between its batches, because both want the
same cores; for one on a GPU by processes beside it. A picture's file is read once, for its digest
and for its pixels.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from extract.catalog import Catalog, content_of, is_blank
from extract.encoders.base import Encoder
from extract.ledger import NO_TEXT, Problem
from extract.pictures import (
    DRAFT_FACTOR,
    FORMATS,
    MAX_ASPECT,
    MAX_PIXELS,
    MAX_SCANNED_PIXELS,
    PictureProblem,
    open_picture,
)

# Part of what decides the vectors, as the encoders' own preparation is.
DECODING = (
    f"jpeg at {DRAFT_FACTOR} times the size or more, {' '.join(FORMATS)}, at most {MAX_PIXELS} "
    f"pixels, {MAX_SCANNED_PIXELS} scanned, {MAX_ASPECT} to 1"
)


@dataclass
class PreparedBatch:
    """What is made of some rows of the catalogue.

    Attributes:
        contents: Content digest per row.
        problems: What is absent, and why.
        images: The collated pictures of the rows in `image_rows`; None where there are none.
        image_rows: Positions within the batch.
        image_digests: Of the picture files of those rows.
        tokens: Token ids per row, None where there is no text.
    """

    contents: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    images: Any = None
    image_rows: list[int] = field(default_factory=list)
    image_digests: list[bytes] = field(default_factory=list)
    # Lists, because each small tensor that a worker sends would cost a file descriptor.
    tokens: list[list[int] | None] = field(default_factory=list)

    def pin_memory(self) -> "PreparedBatch":
        """Itself in pinned memory, from where a copy to the GPU goes on beside the computation."""
        if self.images is not None:
            self.images = _pinned(self.images)
        return self


def prepared_batches(
    encoder: Encoder,
    catalog: Catalog,
    modalities: Sequence[str],
    batches: Iterable[list[int]],
    workers: int,
    device: torch.device,
) -> Iterator[PreparedBatch]:
    """Read, decode and tokenise rows of a catalogue.

    Args:
        encoder: Whose preparation is used.
        catalog: The items.
        modalities: Those of image and text that are wanted.
        batches: The rows of each batch.
        workers: Threads, or for a GPU processes, that read and decode; 0 does it in this one.
        device: Where the encoder is.
    """
    rows = _Rows(catalog, encoder, modalities)
    collate = partial(_collate, encoder.collate)
    if device.type == "cuda" and workers:
        yield from DataLoader(
            rows,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=True,
        )
    elif workers and "image" in catalog.modalities:
        yield from _by_threads(rows, batches, workers, collate)
    else:
        yield from (collate([rows[row] for row in batch]) for batch in batches)


def default_workers(device: torch.device) -> int:
    """How many threads or processes, unless told.

    On the CPU as many threads as there are cores, as they work while the encoder rests; for a GPU
    a process for every core but one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    return min(cores - 1, 32) if device.type == "cuda" else min(cores, 32)


class _Picture(NamedTuple):
    digest: bytes | None = None
    pixels: Any = None
    problem: PictureProblem | None = None


class _Row(NamedTuple):
    content: str
    picture: _Picture
    tokens: list[int] | None
    problems: list[Problem]


class _Rows:
    """The catalogue as a data set of prepared rows; it holds no weights, so it is cheap to send."""

    def __init__(self, catalog: Catalog, encoder: Encoder, modalities: Sequence[str]) -> None:
        self.catalog = catalog
        self.prepare_image = encoder.prepare_image
        self.prepare_text = encoder.prepare_text
        self.side = encoder.picture_side
        self.modalities = modalities

    def __len__(self) -> int:
        return len(self.catalog)

    def __getitem__(self, row: int) -> _Row:
        return self.finish(row, self.look(row))

    def look(self, row: int) -> _Picture:
        """Read and decode the picture of a row; the only part that threads do."""
        digest = None
        try:
            # Also where no picture is wanted: the digest of an item speaks of its picture.
            data = self.catalog.picture_bytes(row)
            digest = hashlib.sha256(data).digest()
            if "image" not in self.modalities:
                return _Picture(digest)
            return _Picture(digest, self.prepare_image(open_picture(data, self.side)))
        except PictureProblem as problem:
            return _Picture(digest, None, problem)

    def finish(self, row: int, picture: _Picture) -> _Row:
        """Add the text: a tokenizer bears only one thread at a time."""
        item, text = self.catalog.item_id(row), self.catalog.text(row)
        problems: list[Problem] = []
        if picture.problem and "image" in self.modalities:
            problems.append(Problem(item, "image", picture.problem.kind, picture.problem.detail))
        tokens = self._tokens(text, item, problems) if "text" in self.modalities else None
        return _Row(content_of(text, picture.digest), picture, tokens, problems)

    def _tokens(self, text: str | None, item: str, problems: list[Problem]) -> list[int] | None:
        detail = NO_TEXT
        if text is not None:
            tokens = [] if is_blank(text) else self.prepare_text(text)
            if tokens:
                return tokens
            detail = "nothing that can be seen" if is_blank(text) else "no word that is known"
        problems.append(Problem(item, "text", "empty", detail))
        return None


def _by_threads(
    rows: _Rows,
    batches: Iterable[list[int]],
    workers: int,
    collate: Callable[[Sequence[_Row]], PreparedBatch],
) -> Iterator[PreparedBatch]:
    # A batch is decoded while the encoder waits for it: both at once would fight for the cores,
    # and PyTorch's threads wait for each other without sleeping.
    own_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1)) as pool:
            for batch in batches:
                pictures = pool.map(rows.look, batch)
                yield collate([rows.finish(*both) for both in zip(batch, pictures, strict=True)])
    finally:
        # Each of those threads set the number for all threads that start later, too.
        torch.set_num_threads(own_threads)


def _collate(
    collate: Callable[[dict[str, list[Any]]], dict[str, Any]], rows: Sequence[_Row]
) -> PreparedBatch:
    with_picture = [place for place, row in enumerate(rows) if row.picture.pixels is not None]
    pictures = [rows[place].picture for place in with_picture]
    return PreparedBatch(
        contents=[row.content for row in rows],
        problems=[problem for row in rows for problem in row.problems],
        images=collate({"image": [picture.pixels for picture in pictures]}).get("image"),
        image_rows=with_picture,
        image_digests=[picture.digest or b"" for picture in pictures],
        tokens=[row.tokens for row in rows],
    )


def _pinned(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: _pinned(value) for name, value in inputs.items()}
    return inputs.pin_memory()
