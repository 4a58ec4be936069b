"""The batched loop: a catalogue in, batches of vectors out, one per shard.

Pictures are encoded in the catalogue's order as they are decoded, texts sorted by length, so that
batches carry little padding; both are put back in their place, and what is absent is recorded.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from extract.catalog import Catalog
from extract.encoders.base import Encoder, to_device
from extract.errors import UserError
from extract.fusion import default_fusion, fuse, fused_dim
from extract.loader import PreparedBatch, default_workers, prepared_batches
from extract.shards import EmbeddingBatch, Problem

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CPU = torch.device("cpu")

Progress = Callable[[str, int], None]


class EmbedOptions(BaseModel):
    """Under what circumstances a catalogue is encoded."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    batch_size: int | None = Field(
        default=None, ge=1, description="Pictures or texts per batch.  [default: 16, on a GPU 256]"
    )
    workers: int | None = Field(
        default=None,
        ge=0,
        description="Processes that decode pictures; 0 decodes in the main one.  [default: by the "
        "number of cores]",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="Arithmetic of the encoder; below fp32 it is faster and less exact.",
    )
    dtype: Literal["float32", "float16"] = Field(
        default="float32", description="How vectors are stored; float16 takes half the space."
    )
    fusion: Literal["auto", "mean", "sum", "product", "concat", "none"] = Field(
        default="auto",
        description="How the fused vector is made; auto is mean where image and text vectors have "
        "one size, else concat.",
    )
    shard_rows: int = Field(default=4096, ge=1, description="Items per shard.")


@dataclass(frozen=True)
class Plan:
    """What `embed` is going to give, known before it starts.

    Attributes:
        dims: Modality to vector size, fused last.
        normalized: Modality to whether its vectors have length 1.
        fusion: A key of `FUSIONS`, or None.
    """

    dims: dict[str, int]
    normalized: dict[str, bool]
    fusion: str | None

    @property
    def encoded(self) -> tuple[str, ...]:
        """The modalities that the encoder itself gives."""
        return tuple(name for name in self.dims if name != "fused")


def plan(encoder: Encoder, catalog: Catalog, options: EmbedOptions) -> Plan:
    """Which vectors a catalogue gets.

    A modality of which no item has anything is left out, instead of a column of nothing.

    Raises:
        UserError: There is nothing to encode, or the fusion does not fit.
    """
    dims = {name: encoder.dims[name] for name in catalog.modalities if name in encoder.dims}
    if not dims:
        raise UserError(
            f"none of the {len(catalog):,} items has a picture or a text to encode; prepare the "
            "data set with some"
        )
    normalized = {name: encoder.normalized[name] for name in dims}
    fusion = _choose_fusion(dims, options.fusion)
    if fusion:
        dims["fused"], normalized["fused"] = fused_dim(fusion, dims), False
    return Plan(dims, normalized, fusion)


def embed(
    encoder: Encoder,
    catalog: Catalog,
    options: EmbedOptions | None = None,
    device: torch.device = CPU,
    progress: Progress = lambda modality, count: None,
) -> Iterator[EmbeddingBatch]:
    """Encode a catalogue.

    Args:
        encoder: An encoder that is on `device`; it is put into evaluation mode, and at the end
            back into the mode that it had.
        catalog: The items.
        options: The circumstances; None for the defaults.
        device: Where the encoder is.
        progress: Told a modality and how many more items are through with it.

    Yields:
        One batch per `options.shard_rows` items, in catalogue order, vectors as float32.

    Raises:
        UserError: There is nothing to encode, or the fusion does not fit.
    """
    options = options or EmbedOptions()
    what = plan(encoder, catalog, options)
    size = options.batch_size or (256 if device.type == "cuda" else 16)
    workers = default_workers(device) if options.workers is None else options.workers
    # No batch crosses the end of a chunk, so that a chunk is a whole number of batches.
    chunks = [_split(chunk, size) for chunk in _split(range(len(catalog)), options.shard_rows)]
    batches = [list(batch) for chunk in chunks for batch in chunk]
    prepared = prepared_batches(encoder, catalog, what.encoded, batches, workers, device)

    def advance(modality: str, count: int) -> None:
        if modality in what.encoded and count:
            progress(modality, count)

    was_training = encoder.training
    encoder.eval()
    try:
        for chunk in chunks:
            with _without_gradients(options.precision, device):
                encoded = _encode(encoder, islice(prepared, len(chunk)), device, size, advance)
            ids = catalog.item_ids[chunk[0].start : chunk[-1].stop].to_pylist()
            yield _finish(ids, encoded, what)
    finally:
        encoder.train(was_training)


@dataclass
class _Encoded:
    """A chunk on its way: per modality its rows and their vectors, in any order."""

    contents: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=dict)
    vectors: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, modality: str, rows: Sequence[int], vectors: Tensor) -> None:
        self.rows.setdefault(modality, []).extend(rows)
        self.vectors.setdefault(modality, []).append(vectors)


def _encode(
    encoder: Encoder,
    batches: Iterator[PreparedBatch],
    device: torch.device,
    size: int,
    progress: Progress,
) -> _Encoded:
    def run(modality: str, rows: Sequence[int], inputs: Any) -> None:
        encoded.add(modality, rows, encoder.encode(to_device(inputs, device))[modality])

    encoded = _Encoded()
    tokens: list[list[int] | None] = []
    for batch in batches:
        if batch.image_rows:
            run("image", [len(tokens) + row for row in batch.image_rows], batch.images)
        encoded.contents.extend(batch.contents)
        encoded.problems.extend(batch.problems)
        tokens.extend(batch.tokens)
        progress("image", len(batch.contents))
    texts = {row: ids for row, ids in enumerate(tokens) if ids is not None}
    # The longest first: where the memory does not suffice, it shows at once.
    by_length = sorted(texts, key=lambda row: -len(texts[row]))
    for rows in _split(by_length, size):
        run("text", rows, encoder.collate({"text": [texts[row] for row in rows]}))
        progress("text", len(rows))
    progress("text", len(tokens) - len(texts))
    return encoded


def _finish(ids: Sequence[str], encoded: _Encoded, what: Plan) -> EmbeddingBatch:
    """Put vectors back in their place and fuse them where both are present."""
    tables = {name: torch.zeros(len(ids), what.dims[name]) for name in what.dims}
    present = {name: np.zeros(len(ids), dtype=bool) for name in what.dims}
    for name, rows in encoded.rows.items():
        # One copy from the device per chunk; half precision is widened before NumPy sees it.
        tables[name][rows] = torch.cat(encoded.vectors[name]).float().cpu()
        present[name][rows] = True
    if what.fusion:
        both = present["image"] & present["text"]
        present["fused"] = both
        where = torch.from_numpy(both)
        tables["fused"][where] = fuse(what.fusion, tables["image"][where], tables["text"][where])
    vectors = {name: table.numpy() for name, table in tables.items()}
    return EmbeddingBatch(ids, encoded.contents, vectors, present, encoded.problems)


@contextmanager
def _without_gradients(precision: str, device: torch.device) -> Iterator[None]:
    if precision == "fp32":
        with torch.inference_mode():
            yield
        return
    # Not inference mode: it switches off autocast's cache of cast weights, which lives as long as
    # this context and makes a transformer in bf16 twice as fast.
    with torch.no_grad(), torch.autocast(device.type, DTYPES[precision]):
        yield


def _choose_fusion(dims: dict[str, int], wanted: str) -> str | None:
    if wanted == "none" or (wanted == "auto" and len(dims) < 2):
        return None
    if len(dims) < 2:
        raise UserError(
            f"the fusion {wanted!r} needs pictures and texts, found only {', '.join(dims)}; "
            "use --fusion none"
        )
    return default_fusion(dims) if wanted == "auto" else wanted


def _split(rows: Any, size: int) -> list[Any]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
