"""Features that an encoder makes while a recommender is trained on them.

Here is what such regimes have in common, and the one that sends no gradient back.
`RefreshedFeatures` is what the released code of the published work does under the name of end to
end: before each epoch all items are encoded again, in training mode, and the encoder's weights
stay. What changes from epoch to epoch is its dropout, if it has any. That noise is for training
only: here items are ranked by vectors without it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.finetune.two_pass import TwoPass
from pipelines.end_to_end_config import EndToEndOptions
from pipelines.memory import peak_bytes
from recommend.features import FeatureStore, Tables
from recommend.sources import FeatureSource

# How many items go through the encoder at once where no gradient is wanted.
CHUNK = 32


@dataclass
class Account:
    """What an epoch and its validation took.

    Attributes:
        encoded: Vectors that a gradient was carried through.
        refreshed: Vectors that were made without one.
        device: Of the encoder.
        seconds: Spent on either.
        ages: Of each step the mean and the largest age of the rows that the model was handed.
    """

    device: torch.device
    encoded: int = 0
    refreshed: int = 0
    seconds: float = 0.0
    ages: list[tuple[float, int]] = field(default_factory=list)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time inside."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds += time.perf_counter() - start

    def _wait(self) -> None:
        """A GPU works on while Python goes ahead."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def told(self) -> dict[str, Any]:
        """As the record of an epoch has it; ages in steps."""
        made = self.encoded + self.refreshed
        told: dict[str, Any] = {
            "vectors_encoded": self.encoded,
            "vectors_refreshed": self.refreshed,
            "encoder_seconds": round(self.seconds, 3),
            "vectors_per_second": round(made / self.seconds, 3) if self.seconds else 0.0,
        }
        if self.ages:
            means, largest = zip(*self.ages, strict=True)
            told |= {"mean_age": float(np.mean(means)), "largest_age": max(largest)}
        return told


class LiveFeatures(FeatureSource):
    """Tables in the order of the items, and an encoder that fills their rows.

    For the first epochs, those of a warm start, the tables are as they were at the start.

    Args:
        passes: Encodes rows of the catalogue.
        store: The features at the start.
        rows: The catalogue's row of each item, (I,).
        options: The circumstances.
        steps_per_epoch: Of training.

    Attributes:
        epochs: How many have begun.
        work: What the present one has taken.
    """

    epochs: Tensor

    def __init__(
        self,
        passes: TwoPass,
        store: FeatureStore,
        rows: np.ndarray,
        options: EndToEndOptions,
        steps_per_epoch: int,
    ) -> None:
        super().__init__(store.dims)
        self.passes, self.options = passes, options
        self.first_epoch = options.warm_epochs
        self.first_step = options.warm_epochs * steps_per_epoch
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.device = passes.inputs.device
        self.work = Account(self.device)
        self.rows = rows
        # Of each modality the items that have it; those without a usable vector at the start are
        # absent for good.
        self.having = {name: np.flatnonzero(store.present[name]) for name in store.dims}
        passes.restrict({name: rows[having] for name, having in self.having.items()})
        for name, table in store.tables.items():
            tensor = torch.tensor(table, device=self.device)  # the store keeps its own values
            self.register_buffer(f"table_{name}", tensor)

    @property
    def is_warming(self) -> bool:
        """Whether the encoder takes no part yet."""
        return int(self.epochs) <= self.first_epoch

    @property
    def is_due(self) -> bool:
        """Whether the whole catalogue is to be encoded for the epoch that has begun."""
        live, every = int(self.epochs) - self.first_epoch - 1, self.options.refresh_every
        return live == 0 or (live > 0 and every > 0 and live % every == 0)

    @property
    def encoder(self) -> Encoder:
        """The encoder, whose frozen weights are no part of this module's state."""
        return self.passes.inputs.encoder

    def tables(self) -> dict[str, Tensor]:
        """The tables as they are now."""
        return {name: self.get_buffer(f"table_{name}") for name in self.dims}

    def begin_epoch(self) -> None:
        """Count the epochs."""
        self.epochs += 1

    def keep(self, tables: Tables) -> None:
        """Take tables for the present ones."""
        for name, table in tables.items():
            setattr(self, f"table_{name}", table.detach())

    def account(self) -> dict[str, Any]:
        """Items that were encoded and how fast, the rows' age, and the memory."""
        told, self.work = self.work.told(), Account(self.device)
        return told | {"peak_megabytes": round(peak_bytes(self.device) / 2**20)}

    def encode_rows(self, items: np.ndarray | None = None) -> dict[str, Tensor]:
        """Tables in which some items' rows, or all, are encoded anew, without a graph.

        Raises:
            UserError: A vector is not finite.
        """
        tables = self.tables()
        for name, having in self.having.items():
            some = having if items is None else np.intersect1d(having, items)
            chunk = max(self.options.chunk_size, CHUNK)
            vectors = self.passes.vectors(name, self.rows[some], chunk)
            self.check_finite(name, vectors)
            places = torch.from_numpy(some).to(self.device)
            tables[name] = tables[name].to(vectors.dtype).index_copy(0, places, vectors)
            self.work.refreshed += len(some)
        return tables

    def check_finite(self, modality: str, vectors: Tensor) -> None:
        """Refuse vectors that mean nothing."""
        if not torch.isfinite(vectors).all():
            raise UserError(
                f"the encoder's {modality} vectors are not finite{self.when()}; use a smaller "
                "--encoder-rate if it is trained, and look at its features with mmrec-check"
            )

    def when(self) -> str:
        """Where training is, for an error."""
        return ""


class RefreshedFeatures(LiveFeatures):
    """All items encoded again before each epoch, with the encoder's dropout, without gradients."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._noisy: Tables = self.tables()

    def begin_epoch(self) -> None:
        """Encode the catalogue."""
        super().begin_epoch()
        if self.is_due:
            with self.work.timed():
                if self.options.dropout:
                    _set_noisy(self.encoder)
                self._noisy = self.encode_rows()
                self.encoder.eval()

    def forward(self, items: Tensor | None = None) -> Tables:
        """This epoch's tables."""
        return dict(self._noisy)

    def constant(self) -> Tables:
        """The tables without noise."""
        return self.tables()


def _set_noisy(encoder: nn.Module) -> None:
    """Training mode, but for batch norms, which would change their statistics."""
    encoder.train()
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
