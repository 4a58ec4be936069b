"""MGCN: content purified by behaviour, in views of its own (Yu et al., MM 2023).

ê_m,i = e_i ⊙ σ(W₂ᵐ(W₁ᵐ f_m,i + b₁ᵐ) + b₂ᵐ)   the purifier
ē_m = S_mᴸ ê_m for items, R̂ of that for users   the item-item view, S_m the k nearest by cosine
ē = LightGCN(e)   the user-item view
α_m = softmax_m(qᵀ tanh(W ē_m + b)), s = Σ_m α_m ē_m   what the modalities share
c = (s + Σ_m σ(W₃ᵐ ē + b₃ᵐ) ⊙ (ē_m - s)) / (|M| + 1)   the behaviour-aware fuser
score(u, i) = (ē_u + c_u) · (ē_i + c_i)
loss = BPR(score) + λ_c (InfoNCE_τ(ē_u, c_u) + InfoNCE_τ(ē_i, c_i)) + λ Σ ‖e‖² / (2B)

The neighbours in S_m weigh by their cosine, as in the paper. InfoNCE is over the batch's distinct
users and positive items (a repeated one would be its own negative) that have content: an item with
a neighbour in some modality, a user of such an item. An absent ē_m is zero, so with one modality
the fuser is c = s / 2 and has nothing to learn.
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor, nn

from recommend.convolutions import light_graph_convolution
from recommend.features import Tables
from recommend.graphs import item_neighbours, symmetric_normalise
from recommend.layers import Projection, embedding_table
from recommend.losses import bpr, dot, info_nce, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace
from recommend.sparse import SparseMatrix


class MGCNConfig(ModelConfig):
    """Settings of MGCN."""

    # The ends of the MMRec toolbox's grid.
    search_space: ClassVar[SearchSpace] = {"cl_weight": Range(1e-3, 1e-1, log=True)}

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    layers: int = Field(2, ge=0, description="Propagations over the user-item graph.")
    item_layers: int = Field(1, ge=1, description="L, propagations over the item graphs.")
    neighbours: int = Field(10, ge=1, description="k, neighbours of each item and modality.")
    temperature: float = Field(0.2, gt=0, description="τ of the contrast.")
    cl_weight: float = Field(0.01, ge=0, description="λ_c, weight of the contrast.")
    reg: float = Field(1e-4, ge=0, description="λ, weight of the L2 term.")


class MGCN(Recommender):
    """LightGCN, plus content vectors that are purified, propagated and fused."""

    config_class = MGCNConfig
    uses_features = True
    item_has_content: Tensor
    user_has_content: Tensor

    def __init__(self, config: MGCNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config, size, features = config, config.embedding_size, data.features
        graphs = {
            modality: item_neighbours(
                table,
                features.present[modality],
                config.neighbours,
                weighted=True,
                search=data.search,
            )
            for modality, table in features.tables.items()
        }
        self.graph = SparseMatrix(symmetric_normalise(data.train.matrix))
        self.users = embedding_table(data.train.n_users, size)
        self.items = embedding_table(data.train.n_items, size)
        self.views = nn.ModuleDict(
            {
                modality: _ContentView(features.dims[modality], size, graph, config.item_layers)
                for modality, graph in graphs.items()
            }
        )
        self.fuse = _Fuser(len(graphs), size)
        self._note_content(list(graphs.values()), data.train.matrix)

    def encode(self, features: Tables) -> Embeddings:
        """The sum of the id view and the content."""
        users, items = self._behaviour()
        content_users, content_items = self._content(features)
        return Embeddings(
            users + self.fuse(content_users, users), items + self.fuse(content_items, items)
        )

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr``, ``cl`` between behaviour and content, and ``l2``."""
        # Only the batch's own rows are fused.
        user_rows, user_places = batch.users.unique(return_inverse=True)
        positives, negatives = batch.places
        users, items = self._behaviour((user_rows, batch.items))
        content_users, content_items = self._content(features)
        user_content = self.fuse(content_users.index_select(0, user_rows), users)
        item_content = self.fuse(content_items.index_select(0, batch.items), items)
        chosen, candidates = (users + user_content)[user_places], items + item_content
        taken = positives.unique()
        taken = taken[self.item_has_content[batch.items[taken]]]
        active = self.user_has_content[user_rows]
        contrast = self._contrast(users[active], user_content[active])
        contrast = contrast + self._contrast(items[taken], item_content[taken])
        own = (self.users[batch.users], self.items[batch.positives], self.items[batch.negatives])
        return {
            "bpr": bpr(dot(chosen, candidates[positives]), dot(chosen, candidates[negatives])),
            "cl": self.config.cl_weight * contrast,
            "l2": self.config.reg * l2(*own),
        }

    def _behaviour(self, rows: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        return light_graph_convolution(self.graph, self.users, self.items, self.config.layers, rows)

    def _content(self, features: Tables) -> tuple[Tensor, Tensor]:
        """Users (U, |M| d) and items (I, |M| d), the modalities side by side."""
        items = torch.cat(
            [view(features[modality], self.items) for modality, view in self.views.items()], dim=1
        )
        return self.graph @ items, items

    def _contrast(self, behaviour: Tensor, content: Tensor) -> Tensor:
        if not len(content):
            return content.new_zeros(())
        return info_nce(behaviour, content, self.config.temperature)

    def _note_content(self, graphs: list[csr_array], train: csr_array) -> None:
        items = np.any([graph.sum(axis=1) > 0 for graph in graphs], axis=0)
        for name, mask in (("item_has_content", items), ("user_has_content", train @ items > 0)):
            self.register_buffer(name, torch.from_numpy(mask), persistent=False)


class _ContentView(nn.Module):
    """One modality: its features as a gate on the items' id embeddings, then over its graph."""

    def __init__(self, dim: int, size: int, graph: csr_array, layers: int) -> None:
        super().__init__()
        self.graph, self.layers = SparseMatrix(graph), layers
        self.project = Projection(dim, size)
        self.gate = nn.Linear(size, size)

    def forward(self, features: Tensor, items: Tensor) -> Tensor:
        content = items * self.gate(self.project(features)).sigmoid()
        for _ in range(self.layers):
            content = self.graph @ content
        return content


class _Fuser(nn.Module):
    """What the modalities share, and of each what is its own as far as behaviour asks for it."""

    def __init__(self, modalities: int, size: int) -> None:
        super().__init__()
        self.modalities = modalities
        self.attention = nn.Sequential(
            nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False)
        )
        self.preference = nn.Linear(size, modalities * size)

    def forward(self, content: Tensor, behaviour: Tensor) -> Tensor:
        """(n, |M| d) and (n, d) -> (n, d)."""
        content = content.unflatten(1, (self.modalities, -1))
        shared = (self.attention(content).softmax(dim=1) * content).sum(dim=1)
        wanted = self.preference(behaviour).sigmoid().unflatten(1, (self.modalities, -1))
        specific = wanted * (content - shared[:, None])
        return (shared + specific.sum(dim=1)) / (self.modalities + 1)
