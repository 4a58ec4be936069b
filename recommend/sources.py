"""Where a model's feature tables come from during training.

Every source is a module. What it learns are its parameters, which the loop trains beside the
model's, takes back to their best values and keeps in checkpoints; frozen features have none.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from extract.errors import UserError
from recommend.features import FeatureStore, Tables

SourceName = Literal["frozen", "tuned"]


class FeatureSource(nn.Module, ABC):
    """Feature tables, frozen or learned.

    Args:
        dims: Modality to vector size.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.dims = dims

    def begin_epoch(self) -> None:
        """Called before each epoch."""

    @abstractmethod
    def forward(self, items: Tensor | None = None) -> Tables:
        """Whole tables, of which the rows `items` are fresh; all rows where items is None."""

    def backward(self) -> None:
        """Called after the loss's backward, to carry gradients further back."""

    def constant(self) -> Tables:
        """All tables, fresh, for what is not differentiated: graphs, and vectors for ranking."""
        return {modality: table.detach() for modality, table in self().items()}


class FrozenFeatures(FeatureSource):
    """Cached features that never change; not saved with the module.

    Args:
        store: The features.
        device: Where the tables live.
    """

    def __init__(self, store: FeatureStore, device: torch.device | str = "cpu") -> None:
        super().__init__(store.dims)
        for modality, table in store.tables.items():
            tensor = torch.from_numpy(np.ascontiguousarray(table)).to(device)
            self.register_buffer(f"table_{modality}", tensor, persistent=False)

    def forward(self, items: Tensor | None = None) -> Tables:
        """The tables, whole and always fresh."""
        return {modality: self.get_buffer(f"table_{modality}") for modality in self.dims}


class TunedFeatures(FeatureSource):
    """A copy of cached features that is trained; rows of absent items stay zero.

    This is what LATTICE, FREEDOM, BM3 and MGCN in the MMRec toolbox do without saying so. An
    optimiser's step over whole tables can take longer than everything that a model does.

    Args:
        store: The features at the start.
        device: Where the tables live.
    """

    def __init__(self, store: FeatureStore, device: torch.device | str = "cpu") -> None:
        super().__init__(store.dims)
        self.tables = nn.ParameterDict()
        self._reached: set[str] = set()
        for modality, table in store.tables.items():
            self.tables[modality] = nn.Parameter(torch.tensor(table, device=device))
            absent = torch.from_numpy(np.flatnonzero(~store.present[modality])).to(device)
            self.register_buffer(f"absent_{modality}", absent, persistent=False)

    def forward(self, items: Tensor | None = None) -> Tables:
        """The tables, whole and always fresh."""
        return dict(self.tables.items())

    def backward(self) -> None:
        """Drop the gradient of absent rows, which would fill them.

        Raises:
            UserError: The loss does not depend on a table.
        """
        for modality, table in self.tables.items():
            if table.grad is not None:
                table.grad.index_fill_(0, self.get_buffer(f"absent_{modality}"), 0)
                self._reached.add(modality)
            elif modality not in self._reached:
                raise UserError(
                    f"the loss does not depend on the {modality} features, so they cannot be "
                    "tuned: with these settings the model uses them only through graphs that are "
                    "built once; train with --feature-source frozen"
                )


SOURCES: dict[SourceName, type[FrozenFeatures] | type[TunedFeatures]] = {
    "frozen": FrozenFeatures,
    "tuned": TunedFeatures,
}
