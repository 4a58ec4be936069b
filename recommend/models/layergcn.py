"""LayerGCN: propagation refined by likeness to the first layer (Zhou et al., ICDE 2023).

Yˡ = Â' Xˡ⁻¹, with X⁰ the embeddings and Â' the normalised adjacency
xˡ_v = (cos(yˡ_v, x⁰_v) + ε) yˡ_v for each node v, ε = 10⁻⁸
E = Σ_{l=1..L} Xˡ: layer 0 takes no part
score(u, i) = E_u · E_i
loss = mean -log σ(score(u, i⁺) - score(u, i⁻)) + λ Σ ‖x⁰‖² / (2B), over the batch's layer-0
embeddings only.

In training Â' belongs to a graph whose edges are drawn anew in each epoch, without replacement
and with p ∝ 1/√(d_u d_i); in ranking to the whole graph. A node without an edge there has y = 0,
whose cosine counts as 0.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from recommend.convolutions import pruned_graph
from recommend.features import Tables
from recommend.graphs import symmetric_normalise
from recommend.layers import embedding_table
from recommend.losses import bpr, dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace
from recommend.sparse import SparseMatrix

EPSILON = 1e-8
SMALLEST_NORM = 1e-12


class LayerGCNConfig(ModelConfig):
    """Settings of LayerGCN."""

    # The published grids.
    search_space: ClassVar[SearchSpace] = {
        "dropout": Range(0.0, 0.2),
        "reg": Range(1e-5, 1e-2, log=True),
    }

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    layers: int = Field(4, ge=1, description="L, number of propagations.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of the edges left out each epoch.")
    reg: float = Field(1e-3, ge=0, description="λ, weight of the L2 term.")


class LayerGCN(Recommender):
    """Propagation in which each layer is weighed by its cosine with the first."""

    config_class = LayerGCNConfig

    def __init__(self, config: LayerGCNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.train_matrix = data.train.matrix
        self.graph = SparseMatrix(symmetric_normalise(self.train_matrix))
        self.pruned_graph = self.graph
        self.users = embedding_table(data.train.n_users, config.embedding_size)
        self.items = embedding_table(data.train.n_items, config.embedding_size)

    def begin_epoch(self, features: Tables, generator: np.random.Generator) -> None:
        """Draw this epoch's edges."""
        if self.config.dropout > 0:
            graph = pruned_graph(self.train_matrix, self.config.dropout, generator)
            self.pruned_graph = graph.to(self.users.device)

    def encode(self, features: Tables) -> Embeddings:
        """The sum of the refined layers, over the whole graph."""
        return Embeddings(*self._propagate(self.graph))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr`` over the pruned graph, and ``l2`` on layer-0 embeddings."""
        users, items = self._propagate(self.pruned_graph)
        chosen = users[batch.users]
        own = (self.users[batch.users], self.items[batch.positives], self.items[batch.negatives])
        return {
            "bpr": bpr(dot(chosen, items[batch.positives]), dot(chosen, items[batch.negatives])),
            "l2": self.config.reg * l2(*own),
        }

    def _propagate(self, graph: SparseMatrix) -> tuple[Tensor, Tensor]:
        user_units, item_units = F.normalize(self.users, dim=1), F.normalize(self.items, dim=1)
        users: Tensor = self.users
        items: Tensor = self.items
        user_layers, item_layers = [], []
        for _ in range(self.config.layers):
            users, items = (
                _refined(graph @ items, user_units),
                _refined(graph.transposed_matmul(users), item_units),
            )
            user_layers.append(users)
            item_layers.append(items)
        return sum(user_layers[1:], user_layers[0]), sum(item_layers[1:], item_layers[0])


def _refined(vectors: Tensor, units: Tensor) -> Tensor:
    """(cos(y, x) + ε) y for each row y, given x / ‖x‖."""
    scaled: Tensor = _Refined.apply(vectors, units)
    return scaled


class _Refined(torch.autograd.Function):
    """Written out, as torch's own cosine of two tables takes longer than the sparse products."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, units: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_(min=SMALLEST_NORM)
        cosines = torch.linalg.vecdot(vectors, units)[:, None] / norms
        ctx.save_for_backward(vectors, units, norms, cosines)
        return vectors * (cosines + EPSILON)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """∂cos/∂y = x̂/‖y‖ - cos y/‖y‖² and ∂cos/∂x̂ = y/‖y‖, with x̂ = x/‖x‖."""
        vectors, units, norms, cosines = ctx.saved_tensors
        slopes = torch.linalg.vecdot(gradients[0], vectors)[:, None] / norms
        of_vectors = gradients[0] * (cosines + EPSILON)
        of_vectors.addcmul_(units, slopes)
        of_vectors.addcmul_(vectors, slopes * cosines / norms, value=-1)
        return of_vectors, vectors * slopes
