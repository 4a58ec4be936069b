"""What a catalogue's items show and say, ready for an encoder's towers again and again.

The catalogue is read once, to learn what can be used, and to do what need be done only once: the
leading steps of a tower of which no weight is trained, the decoding of pictures. Where the memory
does not suffice for what that gives, pictures are decoded again whenever they are needed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from extract.catalog import Catalog
from extract.encoders.base import Encoder, Stage, to_device
from extract.errors import UserError
from extract.finetune.kept import Kept, frozen_steps, run_frozen, run_steps
from extract.loader import PreparedBatch, default_workers, prepared_batches

# What frozen steps give, or else pixels; only what the towers' first steps take; neither.
Keep = Literal["states", "inputs", "nothing"]
# Told a modality and how many more items are through with it.
Progress = Callable[[str, int], None]

MODALITIES = ("image", "text")
# Items at a time while the catalogue is read and frozen steps are done.
READ = 16


@dataclass(frozen=True)
class Inputs:
    """What a catalogue's items show and say.

    Attributes:
        encoder: By whose preparation, and frozen steps, it was made.
        catalog: The items.
        device: Where the encoder is.
        workers: Threads or processes that decode.
        rows: Modality to the catalogue's rows that have something usable of it, (n,) int64,
            ascending; of the modalities that were asked for.
        tokens: Of every row of the catalogue its text's token ids, or None.
        pictures: Of every row of the catalogue the digest of its usable picture, or None.
        kept: Modality to what was kept of it, in the order of its `rows`.
        again: Modality to the frozen steps that are done again each time, as what they give is not
            kept.
        trained: Modality to the steps that come after what is kept, or after those.
    """

    encoder: Encoder
    catalog: Catalog
    device: torch.device
    workers: int
    rows: Mapping[str, np.ndarray]
    tokens: Sequence[list[int] | None]
    pictures: Sequence[bytes | None]
    kept: Mapping[str, Kept]
    again: Mapping[str, Sequence[Stage]]
    trained: Mapping[str, Sequence[Stage]]

    @property
    def nbytes(self) -> int:
        """What all that is kept takes in memory."""
        return sum(kept.nbytes for kept in self.kept.values())

    def batches(self, modality: str, wanted: Sequence[np.ndarray]) -> Iterator[Any]:
        """What the remaining steps take, on the CPU: a batch for each array of rows, in that order.

        Args:
            modality: ``image`` or ``text``.
            wanted: Arrays of the catalogue's rows, (n,), all among `rows`; they may repeat.

        Raises:
            ValueError: A row has nothing usable of the modality.
            UserError: A picture that could be used when the catalogue was read has gone.
        """
        # At once, and not only when the first batch is taken.
        places = [self._places(modality, rows) for rows in wanted]
        if modality in self.kept:
            return map(self.kept[modality].take, places)
        if modality == "text":
            return (_texts(self.encoder, self.tokens, rows) for rows in wanted)
        return self._decoded([rows.tolist() for rows in wanted])

    def vectors(self, modality: str, batch: Any) -> Tensor:
        """The vectors of a batch, (n, d), on the device, differentiable."""
        state = self.moved(modality, batch)
        if self.again.get(modality):
            # As if it had been kept: without autocast.
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                state = run_steps(self.again[modality], state)
        return run_steps(self.trained[modality], state)

    def moved(self, modality: str, batch: Any) -> Any:
        """A batch on the encoder's device, in the type of its weights."""
        return to_device(batch, self.device, self.encoder.dtypes[modality])

    def _places(self, modality: str, wanted: np.ndarray) -> list[int]:
        """Where among a modality's rows some are."""
        rows = self.rows[modality]
        places = np.searchsorted(rows, wanted)
        if (places == len(rows)).any() or (rows[places] != wanted).any():
            unknown = np.setdiff1d(wanted, rows).tolist()
            raise ValueError(f"the rows {unknown} of the catalogue have no usable {modality}")
        return places.tolist()

    def _decoded(self, wanted: Sequence[list[int]]) -> Iterator[Any]:
        for batch in prepared_batches(
            self.encoder, self.catalog, ("image",), wanted, self.workers, self.device
        ):
            if len(batch.image_rows) < len(batch.contents):
                problem = batch.problems[0]
                raise UserError(
                    f"the picture of item {problem.item_id!r} could be used a moment ago and "
                    f"cannot now ({problem.detail}); leave the pictures alone while they are read"
                )
            yield batch.images


def read_inputs(
    encoder: Encoder,
    catalog: Catalog,
    device: torch.device,
    workers: int | None = None,
    keep: Keep = "states",
    progress: Progress = lambda what, count: None,
    modalities: Sequence[str] = MODALITIES,
    whole: bool = False,
) -> Inputs:
    """Read a catalogue once.

    Args:
        encoder: On `device`; what is trained of it has ``requires_grad``. It is put into evaluation
            mode.
        catalog: The items.
        device: Where the encoder is.
        workers: Threads or processes that decode; None for as many as suit the machine.
        keep: As far as the memory suffices: ``states``, what a tower's frozen leading steps give,
            and the pixels of a picture tower that has none; ``inputs``, the pixels, so that every
            step is done each time; ``nothing``, so that pictures are decoded each time, too.
            Without frozen steps texts are kept as token ids.
        progress: Told how many more pictures were read, and texts taken through frozen steps.
        modalities: Those of ``image`` and ``text`` that are wanted.
        whole: Whether frozen steps are done like trained ones, as they are with ``inputs``.
    """
    encoder.eval()
    workers = default_workers(device) if workers is None else workers
    whole = whole or keep == "inputs"
    steps = {
        name: ([], list(encoder.stages(name))) if whole else frozen_steps(encoder, name)
        for name in modalities
    }
    source = catalog if "image" in modalities else _without_pictures(catalog)
    limit = len(catalog) - source.images.null_count
    frozen = steps["image"][0] if "image" in modalities else []
    found = _Found([], [], Kept() if "image" in modalities and keep != "nothing" else None)
    pieces = [range(len(catalog))[at : at + READ] for at in range(0, len(catalog), READ)]
    for batch in prepared_batches(encoder, source, modalities, map(list, pieces), workers, device):
        found.add(batch)
        if found.kept is not None and batch.image_rows:
            dtype = encoder.dtypes["image"]
            found.add_states(run_frozen(frozen, batch.images, device, dtype), limit)
        if "image" in modalities:
            progress("image", len(batch.contents))
    columns: dict[str, Sequence[object]] = {"image": found.pictures, "text": found.tokens}
    rows = {
        name: np.flatnonzero([value is not None for value in columns[name]]) for name in modalities
    }
    kept = {"image": found.kept}
    if "text" in modalities and keep != "nothing" and steps["text"][0]:
        kept["text"] = _keep_texts(
            encoder, steps["text"][0], found.tokens, rows["text"], device, progress
        )
    some = {name: each for name, each in kept.items() if each is not None and each.states}
    return Inputs(
        encoder=encoder,
        catalog=catalog,
        device=device,
        workers=workers,
        rows=rows,
        tokens=found.tokens,
        pictures=found.pictures,
        kept=some,
        again={name: [] if name in some else before for name, (before, _) in steps.items()},
        trained={name: after for name, (_, after) in steps.items()},
    )


@dataclass
class _Found:
    """What is found row by row while the catalogue is read."""

    pictures: list[bytes | None]
    tokens: list[list[int] | None]
    kept: Kept | None

    def add_states(self, states: Any, limit: int) -> None:
        """Keep states of pictures, as long as those of `limit` of them would fit."""
        if self.kept is not None:
            self.kept.add(states)
            self.kept = self.kept if self.kept.fits(limit) else None

    def add(self, batch: PreparedBatch) -> None:
        digests = dict(zip(batch.image_rows, batch.image_digests, strict=True))
        self.pictures += map(digests.get, range(len(batch.contents)))
        self.tokens += batch.tokens


def _without_pictures(catalog: Catalog) -> Catalog:
    """The loader reads the files of all pictures that a catalogue names."""
    return replace(catalog, images=pa.chunked_array([pa.nulls(len(catalog), pa.string())]))


def _texts(encoder: Encoder, tokens: Sequence[list[int] | None], rows: np.ndarray) -> Any:
    return encoder.collate({"text": [tokens[row] for row in rows]})["text"]


def _keep_texts(
    encoder: Encoder,
    steps: Sequence[Stage],
    tokens: Sequence[list[int] | None],
    rows: np.ndarray,
    device: torch.device,
    progress: Progress,
) -> Kept | None:
    """What frozen steps give of each text; the longest first, so that there is little padding.

    None where the memory does not suffice.
    """
    kept = Kept()
    order = np.argsort([-len(tokens[row] or ()) for row in rows], kind="stable")
    for at in range(0, len(order), READ):
        some = rows[order[at : at + READ]]
        kept.add(run_frozen(steps, _texts(encoder, tokens, some), device, encoder.dtypes["text"]))
        if not kept.fits(len(rows)):
            return None
        progress("text", len(some))
    return kept.reordered(np.argsort(order).tolist())
