"""What is trained on what: the pairs in batches and chunks, and the recalls of those held out."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.finetune.material import Chunk, Material
from extract.finetune.objective import Objective
from extract.finetune.options import TuneOptions
from extract.finetune.pairs import Holdout
from extract.finetune.processes import rank, world
from extract.finetune.retrieval import retrieval_recalls
from extract.precision import DTYPES

# Pairs at once where nothing is known of the encoder, and in validation.
CHUNK = 32


@dataclass
class Tuning:
    """What is trained on what.

    Attributes:
        encoder: On `device`; what is trained of it has ``requires_grad``.
        added: Names of weights that were added for this training.
        material: All pairs.
        holdout: Which of them are for what.
        objective: What is minimised.
        options: The circumstances.
        seed: Of the order of the pairs, and of what is drawn on the way.
        device: Where the encoder is.
    """

    encoder: Encoder
    added: tuple[str, ...]
    material: Material
    holdout: Holdout
    objective: Objective
    options: TuneOptions
    seed: int
    device: torch.device

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self.holdout.training) // self.step_pairs

    @property
    def batch(self) -> int:
        """Pairs that are contrasted with each other, of all processes."""
        return min(self.options.batch_size, len(self.holdout.training))

    @property
    def accumulate(self) -> int:
        """Batches per step; no more than there are in an epoch."""
        return min(self.options.accumulate, len(self.holdout.training) // self.batch)

    @property
    def step_pairs(self) -> int:
        """Pairs that a step sees."""
        return self.batch * self.accumulate

    @property
    def chunk(self) -> int:
        """Pairs that go through the encoder at once."""
        if self.options.chunk_size:
            return self.options.chunk_size
        kept = self.material.kept.values()
        return self.batch if len(kept) == 2 and all(each.is_vectors for each in kept) else CHUNK

    def autocast(self) -> Any:
        """The context of the encoder's arithmetic."""
        if self.options.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.options.precision])

    def batches(self, epoch: int, first: int) -> Iterator[Iterator[list[Chunk]]]:
        """Of each step of an epoch from `first` on its batches, of each this process's chunks.

        Raises:
            UserError: There are more processes than pairs in a batch.
        """
        share = self.batch // world()
        if not share:
            raise UserError(
                f"a batch of {self.batch} pairs cannot be shared by {world()} processes; use a "
                "larger --batch-size or fewer processes"
            )
        order = np.random.default_rng([self.seed, epoch]).permutation(self.holdout.training)
        size = self.chunk
        plan = []
        for number in range(first * self.accumulate, self.steps * self.accumulate):
            batch = order[number * self.batch : (number + 1) * self.batch]
            own = batch[rank() * share : (rank() + 1) * share]
            plan.append([own[at : at + size] for at in range(0, len(own), size)])
        ready = self.material.chunks([places for batch in plan for places in batch])
        for at in range(0, len(plan), self.accumulate):
            # One batch at a time: those of a step need not fit the memory together.
            yield ([next(ready) for _ in batch] for batch in plan[at : at + self.accumulate])

    @torch.no_grad()
    def recalls(self, part: str) -> dict[str, float]:
        """Both directions' recalls among the held-out pairs of ``validation`` or ``test``."""
        self.encoder.eval()
        places = getattr(self.holdout, part)
        pieces = [places[at : at + CHUNK] for at in range(0, len(places), CHUNK)]
        found: dict[str, list[Tensor]] = {"image": [], "text": []}
        for chunk in self.material.chunks(pieces):
            with self.autocast():
                for name, views in self.material.views(chunk).items():
                    found[name].append(views[0].float())
        groups = torch.from_numpy(self.material.groups[places]).to(self.device)
        return retrieval_recalls(torch.cat(found["image"]), torch.cat(found["text"]), groups)
