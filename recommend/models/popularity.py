"""Popularity: everybody gets what most people took. The floor below every table.

score(u, i) = number of training interactions of item i.
"""

import numpy as np
import torch
from torch import Tensor

from recommend.features import Tables
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch


class PopularityConfig(ModelConfig):
    """Nothing to set."""


class Popularity(Recommender):
    """Counts; nothing is learned, and no user is told from another."""

    config_class = PopularityConfig
    counts: Tensor

    def __init__(self, config: PopularityConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.n_users = data.train.n_users
        counts = data.train.item_degrees.astype(np.float32)
        self.register_buffer("counts", torch.from_numpy(counts))

    def encode(self, features: Tables) -> Embeddings:
        """One column: 1 for each user, the count for each item."""
        return Embeddings(self.counts.new_ones(self.n_users, 1), self.counts[:, None])

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """No terms: nothing is learned."""
        return {}
