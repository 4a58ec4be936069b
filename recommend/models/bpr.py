"""BPR: matrix factorisation with a pairwise ranking loss (Rendle et al., UAI 2009).

score(u, i) = e_u · e_i
loss = mean -log σ(score(u, i⁺) - score(u, i⁻)) + λ Σ ‖e‖² / (2B), over the batch's own embeddings.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from recommend.features import Tables
from recommend.layers import embedding_table
from recommend.losses import bpr, dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace


class BPRConfig(ModelConfig):
    """Settings of BPR."""

    # The MMRec toolbox's grid, where the L2 term is of another form.
    search_space: ClassVar[SearchSpace] = {"reg": Range(1e-5, 2.0, log=True)}

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    reg: float = Field(1e-2, ge=0, description="λ, weight of the L2 term.")


class BPR(Recommender):
    """One vector per user and item."""

    config_class = BPRConfig

    def __init__(self, config: BPRConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.reg = config.reg
        self.users = embedding_table(data.train.n_users, config.embedding_size)
        self.items = embedding_table(data.train.n_items, config.embedding_size)

    def encode(self, features: Tables) -> Embeddings:
        """The tables themselves."""
        return Embeddings(self.users, self.items)

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr`` and ``l2``."""
        users = self.users[batch.users]
        positives, negatives = self.items[batch.positives], self.items[batch.negatives]
        return {
            "bpr": bpr(dot(users, positives), dot(users, negatives)),
            "l2": self.reg * l2(users, positives, negatives),
        }
