"""FREEDOM: a frozen item graph and a denoised user-item graph (Zhou and Shen, MM 2023).

S = Σ_m w_m S_m, S_m the k nearest items by cosine of the raw features, fixed (eq. 1-4)
R' = R with edges drawn in each epoch with p ∝ 1/√(d_u d_i), normalised anew (eq. 5)
(U, V) = LightGCN over R' in training, over R when ranking (eq. 6)
score(u, i) = U_u · (V_i + (Sᴸ e_i))   (eq. 7-9)
loss = BPR(score) + λ Σ_m BPR(U_u · W_m f_m,i)   (eq. 10)

Features enter through the graph; with λ = 0 they enter in no other way. A bias of W_m would cancel
between positive and negative, so there is none.
"""

from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from recommend.convolutions import light_graph_convolution, pruned_graph
from recommend.features import Tables
from recommend.graphs import (
    mixed_neighbours,
    symmetric_normalise,
)
from recommend.layers import Projection, embedding_table, row_differences
from recommend.losses import bpr, dot
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Choice, SearchSpace
from recommend.sparse import SparseMatrix


class FreedomConfig(ModelConfig):
    """Settings of FREEDOM."""

    # The MMRec toolbox's grid.
    search_space: ClassVar[SearchSpace] = {
        "dropout": Choice((0.8, 0.9)),
        "reg": Choice((0.0, 1e-5, 1e-4, 1e-3)),
    }

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    layers: int = Field(2, ge=0, description="Propagations over the user-item graph.")
    item_layers: int = Field(1, ge=0, description="L, propagations over the item graph.")
    neighbours: int = Field(10, ge=1, description="k, neighbours of each item and modality.")
    image_weight: float = Field(0.1, ge=0, le=1, description="Weight of the image beside the text.")
    dropout: float = Field(0.8, ge=0, lt=1, description="Share of the edges left out each epoch.")
    reg: float = Field(1e-3, ge=0, description="λ, weight of the modality terms.")


class Freedom(Recommender):
    """LightGCN on a pruned graph, plus propagation over the frozen item graph."""

    config_class = FreedomConfig
    uses_features = True

    def __init__(self, config: FreedomConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.train_matrix = data.train.matrix
        self.graph = SparseMatrix(symmetric_normalise(self.train_matrix))
        self.pruned_graph = self.graph
        self.item_graph = SparseMatrix(
            mixed_neighbours(
                data.features, config.neighbours, config.image_weight, search=data.search
            )
        )
        self.users = embedding_table(data.train.n_users, config.embedding_size)
        self.items = embedding_table(data.train.n_items, config.embedding_size)
        projected = data.features.dims if config.reg > 0 else {}
        self.project = nn.ModuleDict(
            {
                modality: Projection(dim, config.embedding_size, bias=False)
                for modality, dim in projected.items()
            }
        )

    def begin_epoch(self, features: Tables, generator: np.random.Generator) -> None:
        """Draw this epoch's edges."""
        if self.config.dropout > 0:
            graph = pruned_graph(self.train_matrix, self.config.dropout, generator)
            self.pruned_graph = graph.to(self.users.device)

    def encode(self, features: Tables) -> Embeddings:
        """Users and items over the whole graph."""
        return Embeddings(*self._propagate(self.graph))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr`` over the pruned graph, and ``bpr_<modality>`` of the projected features."""
        users, items = self._propagate(self.pruned_graph, (batch.users, batch.items))
        positives, negatives = batch.places
        terms = {"bpr": bpr(dot(users, items[positives]), dot(users, items[negatives]))}
        for modality, project in self.project.items():
            # A difference of scores is the score of the projected difference: half the work.
            content = project(row_differences(features[modality], batch.positives, batch.negatives))
            term = bpr(dot(users, content), content.new_zeros(()))
            terms[f"bpr_{modality}"] = self.config.reg * term
        return terms

    def _propagate(
        self, graph: SparseMatrix, rows: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        users, items = light_graph_convolution(
            graph, self.users, self.items, self.config.layers, rows
        )
        neighbourly: Tensor = self.items
        for _ in range(self.config.item_layers):
            neighbourly = self.item_graph @ neighbourly
        return users, items + (neighbourly if rows is None else neighbourly[rows[1]])
