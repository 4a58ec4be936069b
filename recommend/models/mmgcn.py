"""MMGCN: one graph convolution per modality, tied together by the ids (Wei et al., MM 2019).

For each modality m, with x⁰ = p_m,u for a user and W_m f_m,i for an item, and l = 1..L:
h_v = LeakyReLU(1/|N_v| Σ_{w in N_v} W₁ x_w),   x'_v = LeakyReLU(W₃ h_v + LeakyReLU(W₂ x_v) + e_v)
user and item vectors = mean over m of x^L; score(u, i) = U_u · V_i
loss = mean -log σ(score(u, i⁺) - score(u, i⁻)) + λ Σ ‖·‖² / (2B), over the batch's e_u, e_i⁺, e_i⁻
and p_m,u.

That is mean aggregation with the element-wise combination. The W₁, W₂, W₃ are of a layer and a
modality, the ids e are shared by all, and every table is trained. The paper starts from the
features themselves and sums over the modalities; here a projection W_m to `latent_size` comes first
(published for images: 256), as the preferences p_m have the same size, and the mean leaves the
scores' scale alone. An item that lacks a modality starts there as zero: it lives on its id and on
its users' preferences.
"""

from typing import ClassVar

import torch
from pydantic import Field
from scipy.sparse import csr_array, diags_array
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.features import Tables
from recommend.layers import Projection, embedding_table
from recommend.losses import bpr, dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Choice, SearchSpace
from recommend.sparse import SparseMatrix


class MMGCNConfig(ModelConfig):
    """Settings of MMGCN."""

    # The MMRec toolbox's grid.
    search_space: ClassVar[SearchSpace] = {"reg": Choice((0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1))}

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    latent_size: int = Field(64, ge=1, description="Size of preferences and projected features.")
    layers: int = Field(2, ge=1, description="L, layers in each modality.")
    reg: float = Field(1e-3, ge=0, description="λ, weight of the L2 term.")


class MMGCN(Recommender):
    """Users' preferences and items' features, passed along the edges of one graph."""

    config_class = MMGCNConfig
    uses_features = True

    def __init__(self, config: MMGCNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.reg = config.reg
        n_users, size, latent = data.train.n_users, config.embedding_size, config.latent_size
        self.items_of_users = SparseMatrix(_row_means(data.train.matrix))
        self.users_of_items = SparseMatrix(_row_means(csr_array(data.train.matrix.T)))
        self.users = embedding_table(n_users, size)
        self.items = embedding_table(data.train.n_items, size)
        dims = data.features.dims
        self.preferences = nn.ParameterDict({m: embedding_table(n_users, latent) for m in dims})
        self.project = nn.ModuleDict({m: _linear(dim, latent) for m, dim in dims.items()})
        sizes = [latent] + [size] * (config.layers - 1)
        self.layers = nn.ModuleDict(
            {m: nn.ModuleList(_Layer(before, size) for before in sizes) for m in dims}
        )

    def encode(self, features: Tables) -> Embeddings:
        """The mean over the modalities, of everybody."""
        return Embeddings(*self._propagate(features, slice(None), slice(None)))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr``, and ``l2`` of the batch's ids and preferences."""
        users, items = self._propagate(features, batch.users, batch.items)
        positives, negatives = batch.places
        own = (self.users[batch.users], self.items[batch.positives], self.items[batch.negatives])
        preferences = (table[batch.users] for table in self.preferences.values())
        return {
            "bpr": bpr(dot(users, items[positives]), dot(users, items[negatives])),
            "l2": self.reg * l2(*own, *preferences),
        }

    def _propagate(
        self, features: Tables, user_rows: Tensor | slice, item_rows: Tensor | slice
    ) -> tuple[Tensor, Tensor]:
        """The vectors in some rows; the last layer is computed for no others."""
        user_ids, item_ids = self.users[user_rows], self.items[item_rows]
        ends = []
        for modality, stack in self.layers.items():
            *layers, last = stack.children()
            users, items = self.preferences[modality], self.project[modality](features[modality])
            user_means, item_means = self._neighbours(users, items)
            for layer in layers:
                users = layer(user_means, users, self.users)
                items = layer(item_means, items, self.items)
                user_means, item_means = self._neighbours(users, items)
            ends.append(
                (
                    last(user_means[user_rows], users[user_rows], user_ids),
                    last(item_means[item_rows], items[item_rows], item_ids),
                )
            )
        users, items = (torch.stack(side).mean(dim=0) for side in zip(*ends, strict=True))
        return users, items

    def _neighbours(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of each user's items and of each item's users."""
        return self.items_of_users @ items, self.users_of_items @ users


class _Layer(nn.Module):
    """The weights of one layer in one modality, and its combination."""

    def __init__(self, before: int, size: int) -> None:
        super().__init__()
        self.aggregate = _linear(before, size)  # W₁
        self.keep = _linear(before, size)  # W₂
        self.combine = _linear(size, size)  # W₃

    def forward(self, means: Tensor, vectors: Tensor, ids: Tensor) -> Tensor:
        """LeakyReLU(W₃ LeakyReLU(W₁ mean) + LeakyReLU(W₂ x) + e), (n, d)."""
        # In place, as the products' own values are not needed again: half the memory traffic.
        own = F.leaky_relu(self.keep(vectors), inplace=True) + ids
        message = F.leaky_relu(self.aggregate(means), inplace=True)
        return F.leaky_relu(self.combine(message).add_(own), inplace=True)


def _linear(before: int, size: int) -> nn.Linear:
    """A linear map without bias, so that zero stays zero."""
    linear = Projection(before, size, bias=False)
    nn.init.xavier_uniform_(linear.weight)
    return linear


def _row_means(matrix: csr_array) -> csr_array:
    """The matrix whose product with vectors is their mean over each row's entries."""
    degrees = matrix.sum(axis=1)
    return csr_array(diags_array(1 / degrees.clip(min=1)) @ matrix)
