"""The contract of all recommenders.

A model is built from sizes, the training interactions and initial features, never from files. It
is trained on whatever features it is handed, and a score is always the inner product of a row of
`Embeddings.users` with a row of `Embeddings.items`, so ranking and retrieval need no model.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from scipy.sparse import csr_array
from torch import Tensor, nn

from recommend.features import FeatureStore, Tables
from recommend.index import Search, nearest
from recommend.interactions import Interactions
from recommend.sampling import Batch
from recommend.search_space import SearchSpace


class ModelConfig(BaseModel):
    """What is learned and how: a model's own settings. Unknown keys are errors.

    Attributes:
        search_space: What a search may try, by setting; no setting is searched that is not in it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    search_space: ClassVar[SearchSpace] = {}


@dataclass(frozen=True)
class TrainingData:
    """What a model may look at when it is built.

    Attributes:
        train: The training interactions.
        features: The items' features at the start, for graphs that are built from them once.
        search: Who finds nearest neighbours.
    """

    train: Interactions
    features: FeatureStore
    search: Search = nearest


@dataclass(frozen=True)
class Embeddings:
    """Everything that ranking needs: score(u, i) = users[u] · items[i].

    Attributes:
        users: (U, d), a dense tensor or a sparse matrix.
        items: (I, d), of the same kind.
    """

    users: Tensor | csr_array
    items: Tensor | csr_array

    def detached(self) -> "Embeddings":
        """The same values, cut off from the parameters' gradients."""
        if isinstance(self.users, Tensor) and isinstance(self.items, Tensor):
            return Embeddings(self.users.detach(), self.items.detach())
        return self

    def to(self, device: torch.device) -> "Embeddings":
        """The same values on a device; sparse ones stay where they are."""
        if isinstance(self.users, Tensor) and isinstance(self.items, Tensor):
            return Embeddings(self.users.to(device), self.items.to(device))
        return self

    @property
    def device(self) -> torch.device:
        """Where scores are computed; sparse ones on the CPU."""
        return self.users.device if isinstance(self.users, Tensor) else torch.device("cpu")

    def scores(self, rows: np.ndarray, first: int = 0, last: int | None = None) -> Tensor:
        """Scores of items for some users.

        Args:
            rows: (b,) int64 rows of users.
            first: The first item.
            last: The end of the items; None for all from the first on.

        Returns:
            (b, last - first) float scores.
        """
        items = self.items[first:last]
        if isinstance(self.users, Tensor):
            return self.users[torch.from_numpy(rows).to(self.users.device)] @ items.T
        return torch.from_numpy(csr_array(self.users[rows] @ items.T).toarray())


class Recommender(nn.Module, ABC):
    """A recommender: `encode` and `loss`, and optionally `begin_epoch`.

    Args:
        config: The model's settings, an instance of its `config_class`.
        data: Training interactions and initial features.
    """

    config_class: ClassVar[type[ModelConfig]]
    uses_features: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, config: ModelConfig, data: TrainingData) -> None:
        super().__init__()

    def begin_epoch(self, features: Tables, generator: np.random.Generator) -> None:
        """Rebuild or prune graphs for the coming epoch.

        Args:
            features: Modality to (I, d_m).
            generator: Source of randomness.
        """

    @abstractmethod
    def encode(self, features: Tables) -> Embeddings:
        """Final vectors of all users and items.

        Args:
            features: Modality to (I, d_m).
        """

    @abstractmethod
    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """Named scalar terms of the loss; the training loop adds them.

        Args:
            batch: Triples of users, positive and negative items.
            features: Modality to (I, d_m), fresh in the rows of the batch's items.
        """
