"""Items' vectors whose gradient goes through an encoder in bounded memory.

A loss sees items through their vectors only. They are encoded chunk by chunk without a graph, and
are leaves for whatever the loss does with them; each chunk is then encoded once more, with the same
random numbers, and its leaves' gradient pushed through. The sum over chunks is the gradient of one
plain graph (see `extract.finetune.step`, where the loss is a contrast). A modality that fits one
chunk keeps its graph and needs no second pass.

With several processes each encodes its share of the items; the vectors of all are put together, so
that every process has the same leaves. Each pushes the gradient of its share, and the sum of what
all of them get is the gradient of the whole.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.finetune.inputs import Inputs
from extract.finetune.processes import from_first, rank, together, world
from extract.finetune.step import RandomState, at_least_float32

JOINT = "fused"
# One modality's collated inputs, or of the joint tower both, on the CPU.
Batch = Any


@dataclass(frozen=True)
class _Chunk:
    """Some items of a modality between the two passes.

    Attributes:
        places: Of them among the leaves, (n,).
        random: What the first pass drew from.
        batch: The tower's inputs; None where they are kept anyway.
        graph: The vectors with their graph, where there is only one chunk.
    """

    places: np.ndarray
    random: RandomState
    batch: Batch | None
    graph: Tensor | None


@dataclass(frozen=True)
class _Modality:
    """The vectors of a modality that were handed out."""

    rows: np.ndarray
    leaf: Tensor
    chunks: list[_Chunk]


class TwoPass:
    """The vectors of a catalogue's items by an encoder that is trained.

    Args:
        inputs: What the items show and say. For the joint tower it must not have done any steps.
        modalities: Which vectors are wanted: image, text, and fused of an encoder that has a tower
            for both together.
        chunk: Items that go through a tower at once; None for all.
        autocast: Makes the context of the encoder's arithmetic.

    Attributes:
        rows: Modality to the catalogue's rows that have it, ascending.
    """

    def __init__(
        self,
        inputs: Inputs,
        modalities: Sequence[str],
        chunk: int | None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.inputs, self.chunk, self.autocast = inputs, chunk, autocast
        self.rows = {
            name: np.intersect1d(inputs.rows["image"], inputs.rows["text"])
            if name == JOINT
            else inputs.rows[name]
            for name in modalities
        }
        self._handed_out: dict[str, _Modality] = {}

    def restrict(self, rows: Mapping[str, np.ndarray]) -> None:
        """Leave out all but some rows of each modality."""
        self.rows = {name: np.sort(some) for name, some in rows.items()}

    def is_trained(self, modality: str) -> bool:
        """Whether a modality's vectors may depend on a weight that is trained.

        Of a tower that does not tell its steps, or both sides' weights apart, they need not.
        """
        if modality == JOINT:
            return any(weight.requires_grad for weight in self.inputs.encoder.parameters())
        steps = self.inputs.trained[modality]
        return any(weight.requires_grad for step in steps for weight in step.parameters)

    @torch.no_grad()
    def vectors(
        self,
        modality: str,
        rows: np.ndarray,
        chunk: int,
        progress: Callable[[int], None] = lambda count: None,
    ) -> Tensor:
        """The vectors of some rows that have the modality, (n, d), without a graph.

        Args:
            modality: Which.
            rows: Of the catalogue, (n,).
            chunk: How many to encode at once.
            progress: Told how many more are done.
        """
        pieces = self._pieces(rows, chunk)
        batches = self._batches(modality, [rows[places] for places in pieces])
        found = []
        for piece, batch in zip(pieces, batches, strict=True):
            found.append(self._encode(modality, batch))
            progress(len(piece))
        return self._put_together(modality, found, pieces, len(rows))

    def leaves(self, rows: np.ndarray) -> dict[str, tuple[np.ndarray, Tensor]]:
        """Encode items, for a loss to be computed of them.

        Args:
            rows: Distinct rows of the catalogue.

        Returns:
            Each modality that is trained to those of the rows that have it, in some order, and to
            their vectors, (n, d), as a leaf.
        """
        self._handed_out = {
            name: self._first_pass(name, rows[np.isin(rows, having)])
            for name, having in self.rows.items()
            if self.is_trained(name)
        }
        return {name: (each.rows, each.leaf) for name, each in self._handed_out.items()}

    def push(self) -> None:
        """Carry the gradient of the leaves through the encoder, onto its weights.

        With several processes the weights' gradients then still have to be added up. Nothing is
        done for a modality that the loss does not depend on.
        """
        for name, each in self._handed_out.items():
            if each.leaf.grad is not None:
                gradient = from_first(each.leaf.grad)
                for chunk in each.chunks:
                    places = torch.from_numpy(chunk.places).to(gradient.device)
                    self._second_pass(name, each.rows, chunk, gradient[places])
        self._handed_out = {}

    def _first_pass(self, modality: str, rows: np.ndarray) -> _Modality:
        pieces = self._pieces(rows, self.chunk or max(len(rows), 1))
        batches = self._batches(modality, [rows[places] for places in pieces])
        hold = modality == JOINT or modality not in self.inputs.kept
        chunks, found = [], []
        for places, batch in zip(pieces, batches, strict=True):
            random = RandomState(self.inputs.device)
            with torch.set_grad_enabled(len(pieces) == 1):
                vectors = self._encode(modality, batch)
            graph = vectors if len(pieces) == 1 else None
            chunks.append(_Chunk(places, random, batch if hold and graph is None else None, graph))
            found.append(vectors.detach())
        leaf = self._put_together(modality, found, pieces, len(rows))
        return _Modality(rows, leaf.requires_grad_(), chunks)

    def _second_pass(
        self, modality: str, rows: np.ndarray, chunk: _Chunk, gradient: Tensor
    ) -> None:
        vectors = chunk.graph
        if vectors is None:
            batch = chunk.batch
            if batch is None:
                [batch] = self._batches(modality, [rows[chunk.places]])
            with chunk.random.again():
                vectors = self._encode(modality, batch)
        if vectors.requires_grad:
            vectors.backward(gradient)

    def _pieces(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """This process's places among rows, in chunks; long texts first, for little padding."""
        lengths = [-len(self.inputs.tokens[row] or ()) for row in rows]
        own = np.argsort(lengths, kind="stable")[rank() :: world()]
        return [own[at : at + size] for at in range(0, len(own), size)]

    def _batches(self, modality: str, wanted: Sequence[np.ndarray]) -> Iterator[Batch]:
        if modality != JOINT:
            return self.inputs.batches(modality, wanted)
        both = (self.inputs.batches(name, wanted) for name in ("image", "text"))
        return zip(*both, strict=True)

    def _encode(self, modality: str, batch: Batch) -> Tensor:
        with self.autocast():
            if modality == JOINT:
                moved = map(self.inputs.moved, ("image", "text"), batch)
                return at_least_float32(self.inputs.encoder.encode_joint(*moved))
            return at_least_float32(self.inputs.vectors(modality, batch))

    def _put_together(
        self, modality: str, found: Sequence[Tensor], pieces: Sequence[np.ndarray], n: int
    ) -> Tensor:
        """The vectors of all chunks and processes, (n, d), each in its place."""
        own = found[0] if found else next(self.inputs.encoder.parameters()).detach()
        whole = at_least_float32(own).new_zeros(n, self.inputs.encoder.dims[modality])
        if found:
            places = torch.from_numpy(np.concatenate(pieces)).to(whole.device)
            whole[places] = torch.cat(list(found))
        return together(whole)
