"""DualGNN: a user's own mix of modalities, shared with like users (Wang et al., TMM 2021).

e⁰_m = a trained preference of each user, and W_m f_m,i + b_m of each item that has m, else 0
(u_m, i_m) = Σ_{l=0..L} Âˡ e⁰_m, as LightGCN, in each modality m
u' = Σ_m softmax(w_u)_m u_m, with trained weights of each user (the paper's attentive sum)
u = u' + Σ_{v ∈ N_u} softmax_v(c_uv) v', where N_u holds the k users that have the most training
items in common with u, and c_uv is their number (one layer, weighed by softmax)
i = Σ_m i_m
loss = BPR(u · i) + λ Σ ‖e⁰_u‖² / (2B), over the preferences of the batch's users
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.convolutions import light_graph_convolution
from recommend.features import Tables
from recommend.graphs import symmetric_normalise, user_neighbours
from recommend.layers import Projection, embedding_table
from recommend.losses import bpr, dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace
from recommend.sparse import SparseMatrix


class DualGNNConfig(ModelConfig):
    """Settings of DualGNN."""

    # The MMRec toolbox's grid.
    search_space: ClassVar[SearchSpace] = {"reg": Range(1e-5, 1e-1, log=True)}

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    layers: int = Field(2, ge=0, description="L, propagations over the user-item graph.")
    neighbours: int = Field(40, ge=1, description="k, neighbours of each user.")
    reg: float = Field(1e-3, ge=0, description="λ, weight of the L2 term.")


class DualGNN(Recommender):
    """LightGCN per modality, fused by each user's weights and averaged over its neighbours."""

    config_class = DualGNNConfig
    uses_features = True

    neighbours: Tensor
    neighbour_weights: Tensor
    present: Tensor

    def __init__(self, config: DualGNNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        dims, matrix = data.features.dims, data.train.matrix
        self.graph = SparseMatrix(symmetric_normalise(matrix))
        neighbours, weights = _padded(user_neighbours(matrix, config.neighbours))
        present = np.stack([data.features.present[m] for m in dims], axis=1)
        self.register_buffer("neighbours", neighbours, persistent=False)
        self.register_buffer("neighbour_weights", weights, persistent=False)
        self.register_buffer("present", torch.from_numpy(present), persistent=False)
        # The modalities stand side by side, so that one propagation serves all.
        self.preferences = embedding_table(data.train.n_users, len(dims) * config.embedding_size)
        self.fusion = nn.Parameter(torch.zeros(data.train.n_users, len(dims)))
        self.project = nn.ModuleDict(
            {modality: Projection(dim, config.embedding_size) for modality, dim in dims.items()}
        )

    def encode(self, features: Tables) -> Embeddings:
        """Users with their neighbours' share, and items."""
        users, items = self._propagate(features)
        return Embeddings(self._with_neighbours(users, slice(None)), items)

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr``, and ``l2`` of the users' preferences."""
        users, items = self._propagate(features)
        chosen = self._with_neighbours(users, batch.users)
        return {
            "bpr": bpr(dot(chosen, items[batch.positives]), dot(chosen, items[batch.negatives])),
            "l2": self.config.reg * l2(self.preferences[batch.users]),
        }

    def _propagate(self, features: Tables) -> tuple[Tensor, Tensor]:
        """Users u', fused but alone, and items i."""
        content = [
            project(features[modality]) * self.present[:, [m]]
            for m, (modality, project) in enumerate(self.project.items())
        ]
        layers, shape = self.config.layers, (-1, len(content), self.config.embedding_size)
        users, items = light_graph_convolution(
            self.graph, self.preferences, torch.cat(content, dim=1), layers
        )
        shares = F.softmax(self.fusion, dim=1)
        fused = (users.view(shape) * shares[:, :, None]).sum(dim=1)
        # The convolution gives the mean over the layers, the paper takes the sum.
        return (layers + 1) * fused, (layers + 1) * items.view(shape).sum(dim=1)

    def _with_neighbours(self, users: Tensor, rows: Tensor | slice) -> Tensor:
        """Some users' vectors plus the weighted mean of their neighbours'."""
        weights = self.neighbour_weights[rows].to(users.dtype)
        shared = F.embedding_bag(
            self.neighbours[rows], users, mode="sum", per_sample_weights=weights
        )
        return users[rows] + shared


def _padded(counts: csr_array) -> tuple[Tensor, Tensor]:
    """Columns and softmax of each row's entries, (U, k); missing ones have weight 0."""
    of_row = np.diff(counts.indptr)
    width = int(of_row.max(initial=1))
    filled = np.arange(width) < of_row[:, None]
    columns = np.zeros(filled.shape, np.int32)
    logits = np.full(filled.shape, -np.inf, np.float32)
    columns[filled], logits[filled] = counts.indices, counts.data
    weights = torch.softmax(torch.from_numpy(logits), dim=1).nan_to_num_(0)
    return torch.from_numpy(columns), weights
