"""LightGCN: linear propagation over the user-item graph (He et al., SIGIR 2020).

E = 1/(L+1) Σ_{l=0..L} Âˡ E⁰, with Â the symmetrically normalised adjacency (eq. 3, 4, 8)
score(u, i) = E_u · E_i
loss = mean -log σ(score(u, i⁺) - score(u, i⁻)) + λ Σ ‖e⁰‖² / (2B), over the batch's layer-0
embeddings only (eq. 15).
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from recommend.convolutions import light_graph_convolution
from recommend.features import Tables
from recommend.graphs import symmetric_normalise
from recommend.layers import embedding_table
from recommend.losses import bpr, dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace
from recommend.sparse import SparseMatrix


class LightGCNConfig(ModelConfig):
    """Settings of LightGCN."""

    # The MMRec toolbox's grid.
    search_space: ClassVar[SearchSpace] = {
        "layers": Range(1, 4, integer=True),
        "reg": Range(1e-6, 1e-2, log=True),
    }

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    layers: int = Field(3, ge=0, description="L, number of propagations.")
    reg: float = Field(1e-4, ge=0, description="λ, weight of the L2 term.")


class LightGCN(Recommender):
    """One vector per user and item, smoothed over the graph."""

    config_class = LightGCNConfig

    def __init__(self, config: LightGCNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.layers, self.reg = config.layers, config.reg
        self.graph = SparseMatrix(symmetric_normalise(data.train.matrix))
        self.users = embedding_table(data.train.n_users, config.embedding_size)
        self.items = embedding_table(data.train.n_items, config.embedding_size)

    def encode(self, features: Tables) -> Embeddings:
        """The mean over the layers."""
        return Embeddings(*light_graph_convolution(self.graph, self.users, self.items, self.layers))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr`` on propagated and ``l2`` on layer-0 embeddings."""
        rows, (positives, negatives) = (batch.users, batch.items), batch.places
        users, items = light_graph_convolution(
            self.graph, self.users, self.items, self.layers, rows
        )
        own_users, own_items = self.users[batch.users], self.items[batch.items]
        return {
            "bpr": bpr(dot(users, items[positives]), dot(users, items[negatives])),
            "l2": self.reg * l2(own_users, own_items[positives], own_items[negatives]),
        }
