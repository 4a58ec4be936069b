"""Where a model's feature tables come from during training.

Every source is a module. What it learns are its parameters, which the loop trains beside the
model's, takes back to their best values and keeps in checkpoints; frozen features have none.

Two more sources, which know an encoder, are made elsewhere, as nothing here does: features that are
encoded anew now and then, and those through which the loss reaches the encoder. The four are the
regimes of training.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from extract.errors import UserError
from recommend.features import FeatureStore, Tables

SourceName = Literal["frozen", "tuned", "refresh", "end-to-end"]
# Those that need an encoder.
LIVE: frozenset[SourceName] = frozenset({"refresh", "end-to-end"})


class FeatureSource(nn.Module, ABC):
    """Feature tables, frozen or learned.

    Args:
        dims: Modality to vector size.

    Attributes:
        first_epoch: After how many epochs it begins to learn; until then training does not end.
    """

    first_epoch: int = 0

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.dims = dims

    def groups(self) -> list[dict[str, Any]]:
        """What it learns as groups of an optimizer, with rates of their own where they differ."""
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": learned}] if learned else []

    def warmth(self, step: int) -> float:
        """The share of its rates that applies in a step, counted from 0."""
        return 1.0

    def begin_epoch(self) -> None:
        """Called before each epoch."""

    def refresh(self) -> None:
        """Bring all rows up to date; called before ranking."""

    @abstractmethod
    def forward(self, items: Tensor | None = None) -> Tables:
        """Whole tables, of which the rows `items` are fresh; all rows where items is None."""

    def loss(self) -> dict[str, Tensor]:
        """Named terms that it adds to the loss, over what was asked for last."""
        return {}

    def backward(self) -> None:
        """Called after the loss's backward, to carry gradients further back."""

    def constant(self) -> Tables:
        """All tables for what is not differentiated: graphs, and vectors for ranking."""
        return {modality: table.detach() for modality, table in self().items()}

    def account(self) -> dict[str, Any]:
        """What the epoch took, for its record."""
        return {}


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
            check_reached(modality, table, self._reached)
            if table.grad is not None:
                table.grad.index_fill_(0, self.get_buffer(f"absent_{modality}"), 0)


def check_reached(modality: str, table: Tensor, reached: set[str]) -> None:
    """Refuse to learn features on which no loss has depended so far.

    Args:
        modality: Whose.
        table: Its table, or rows of it, after the loss's backward.
        reached: The modalities on which some loss has depended; added to.

    Raises:
        UserError: Neither this loss nor one before depends on them.
    """
    if table.grad is not None:
        reached.add(modality)
    elif modality not in reached:
        raise UserError(
            f"the loss does not depend on the {modality} features, so nothing can be learned of "
            "them: with these settings the model uses them only through graphs that are built "
            "once; train with --feature-source frozen"
        )


# Those that need no more than cached features.
SOURCES: dict[SourceName, type[FrozenFeatures] | type[TunedFeatures]] = {
    "frozen": FrozenFeatures,
    "tuned": TunedFeatures,
}
