"""MMGCL: contrast of two disturbed multimodal graphs (Yi et al., SIGIR 2022).

Views v: the ids and each modality m. All share the users' ids e_u; the items' side is e_i, or
W_m f_m,i / ‖f_m,i‖ in modality m.
(U_v, V_v) = LightGCN over R̂ from (e_u, item side of v): the mean of layers 0..L
user = A [U_v]_v + a, item = B [V_v]_v + b, with [·]_v the concatenation; score = user · item
loss = BPR + α (InfoNCE(users', users'') + InfoNCE(items', items'') + challenge), where the
temperature is τ, the users and positive items are the batch's distinct ones, and

' is modality edge dropout: each view passes over edges of its own, drawn anew each epoch;
'' is modality masking: in each step one modality's item side is noise, of the spread of fresh
embeddings, over one graph without some of the nodes, drawn anew each epoch;
challenge = mean over m of -log σ((cos(i⁺'', i⁺') - cos(i⁺'', c_m')) / τ), InfoNCE against the
challenging negative c_m: the positive item but for its part V_m, which is the negative item's. It
is left out where one of the two items lacks the modality.

The paper's loss contrasts ' with '' and has challenging negatives; code that is known takes ' in
both places and leaves them out. Their term has here the form of two-way InfoNCE, with one negative
per modality in the manner of TupleInfoNCE (Liu et al., ICCV 2021). The maps W_m have no bias, so
that an item without a modality starts there as zero.
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.convolutions import (
    light_graph_convolution,
    light_graph_convolution_of_items,
    light_graph_convolution_of_users,
)
from recommend.features import Tables
from recommend.graphs import modality_weights, prune_uniformly, symmetric_normalise
from recommend.layers import Projection, embedding_table
from recommend.losses import bpr, dot, info_nce
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace
from recommend.sparse import SparseMatrix


class MMGCLConfig(ModelConfig):
    """Settings of MMGCL."""

    # The published grids.
    search_space: ClassVar[SearchSpace] = {
        "ssl_alpha": Range(0.1, 1.0, log=True),
        "ssl_temperature": Range(0.1, 1.0, log=True),
    }

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    layers: int = Field(3, ge=1, description="L, propagations in each view.")
    edge_dropout: float = Field(0.3, ge=0, lt=1, description="Share of each view's edges left out.")
    node_dropout: float = Field(0.3, ge=0, lt=1, description="Share of the nodes left out.")
    image_masking: float = Field(0.1, ge=0, le=1, description="Chance that images are masked.")
    ssl_alpha: float = Field(0.1, ge=0, description="α, weight of the contrastive terms.")
    ssl_temperature: float = Field(0.2, gt=0, description="τ of the contrastive terms.")


class MMGCL(Recommender):
    """One light graph convolution per view, fused by a linear map."""

    config_class = MMGCLConfig
    uses_features = True
    present: Tensor  # (M, I) bool

    def __init__(self, config: MMGCLConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.train_matrix = data.train.matrix
        size, dims = config.embedding_size, data.features.dims
        self.users = embedding_table(data.train.n_users, size)
        self.items = embedding_table(data.train.n_items, size)
        self.project = nn.ModuleDict(
            {modality: Projection(dim, size, bias=False) for modality, dim in dims.items()}
        )
        views = 1 + len(dims)
        self.fuse_users = nn.Linear(views * size, size)
        self.fuse_items = nn.Linear(views * size, size)
        self.graph = self._graph(self.train_matrix)
        self.view_graphs = [self.graph] * views
        self.masking_graph = self.graph
        present = torch.from_numpy(np.stack([data.features.present[m] for m in dims]))
        self.register_buffer("present", present, persistent=False)

    def begin_epoch(self, features: Tables, generator: np.random.Generator) -> None:
        """Draw this epoch's edges and nodes."""
        edges, nodes = 1 - self.config.edge_dropout, 1 - self.config.node_dropout
        self.view_graphs = [
            self._graph(prune_uniformly(self.train_matrix, edges, generator))
            for _ in self.view_graphs
        ]
        self.masking_graph = self._graph(_without_nodes(self.train_matrix, nodes, generator))

    def encode(self, features: Tables) -> Embeddings:
        """All views over the whole graph, fused."""
        sides = self._user_sides(), self._item_sides(features)
        return Embeddings(*self._fused(self.graph, *sides, None))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr``, and the contrastive ``users``, ``items`` and ``challenge``."""
        alpha, temperature = self.config.ssl_alpha, self.config.ssl_temperature
        distinct, user_places = torch.unique(batch.users, return_inverse=True)
        positives, negatives = batch.places
        rows = distinct, batch.items
        user_sides, sides = self._user_sides(), self._item_sides(features)
        users, items = self._fused(self.graph, user_sides, sides, rows)
        chosen = users[user_places]
        user_parts, item_parts = self._drop_edges(sides, rows)
        dropped_users = self.fuse_users(torch.cat(user_parts, dim=1))
        dropped_items = self.fuse_items(torch.cat(item_parts, dim=1))
        masked_users, masked_items = self._fused(
            self.masking_graph, user_sides, self._mask(sides), rows
        )
        taken = torch.unique(positives)
        challenge = self._challenge(batch, masked_items, dropped_items, item_parts[1:])
        return {
            "bpr": bpr(dot(chosen, items[positives]), dot(chosen, items[negatives])),
            "users": alpha * info_nce(masked_users, dropped_users, temperature),
            "items": alpha * info_nce(masked_items[taken], dropped_items[taken], temperature),
            "challenge": alpha * challenge,
        }

    def _graph(self, matrix: csr_array) -> SparseMatrix:
        return SparseMatrix(symmetric_normalise(matrix)).to(self.users.device)

    def _item_sides(self, features: Tables) -> list[Tensor]:
        """The items' side of each view, (I, d), the ids first."""
        sides: list[Tensor] = [self.items]
        for modality, project in self.project.items():
            table = features[modality]
            # W (f / ‖f‖) as (W f) / ‖f‖, which needs no second table of features.
            lengths = torch.linalg.vector_norm(table, dim=1, keepdim=True)
            sides.append(project(table) / lengths.clamp(min=1e-12))
        return sides

    def _user_sides(self) -> tuple[Tensor, Tensor]:
        """The sum over the views of A_v e_u, and of B_v e_u, (U, d): all have the same users."""
        n_views = len(self.view_graphs)
        maps = self.fuse_users.weight, self.fuse_items.weight
        sums = [weight.unflatten(1, (n_views, -1)).sum(dim=1) for weight in maps]
        return self.users @ sums[0].T, self.users @ sums[1].T

    def _fused(
        self,
        graph: SparseMatrix,
        user_sides: tuple[Tensor, Tensor],
        item_sides: list[Tensor],
        rows: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """User and item vectors, or some rows of them, when all views share a graph.

        Propagation and fusion are linear, so fusion comes first: one pass instead of one per view.
        """
        content, layers = torch.cat(item_sides, dim=1), self.config.layers
        user_rows, item_rows = rows or (None, None)
        of_items = content @ self.fuse_users.weight.T
        users = light_graph_convolution_of_users(graph, user_sides[0], of_items, layers, user_rows)
        of_items = content @ self.fuse_items.weight.T
        items = light_graph_convolution_of_items(graph, user_sides[1], of_items, layers, item_rows)
        return users + self.fuse_users.bias, items + self.fuse_items.bias

    def _drop_edges(
        self, sides: list[Tensor], rows: tuple[Tensor, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Each view's users and items over edges of its own, not yet fused."""
        parts = [
            light_graph_convolution(graph, self.users, side, self.config.layers, rows)
            for graph, side in zip(self.view_graphs, sides, strict=True)
        ]
        return [users for users, _ in parts], [items for _, items in parts]

    def _mask(self, sides: list[Tensor]) -> list[Tensor]:
        """The same with noise in the place of one modality."""
        chances = modality_weights(list(self.project), self.config.image_masking)
        masked = 1 + int(torch.multinomial(torch.tensor(list(chances.values())), 1))
        noise = nn.init.xavier_uniform_(torch.empty_like(sides[masked], requires_grad=False))
        return [*sides[:masked], noise, *sides[masked + 1 :]]

    def _challenge(
        self, batch: Batch, anchors: Tensor, items: Tensor, parts: list[Tensor]
    ) -> Tensor:
        """How hard the positives are to tell from themselves with one part of the negative's."""
        positives, negatives = batch.places
        anchors, own = anchors[positives], items[positives]
        right = F.cosine_similarity(anchors, own, dim=1)
        maps = self.fuse_items.weight.unflatten(1, (1 + len(parts), -1)).unbind(dim=1)[1:]
        means = []
        for weight, part, present in zip(maps, parts, self.present, strict=True):
            swapped = own + (part[negatives] - part[positives]) @ weight.T
            wrong = F.cosine_similarity(anchors, swapped, dim=1)
            losses = F.softplus((wrong - right) / self.config.ssl_temperature)
            counts = present[batch.positives] & present[batch.negatives]
            means.append((losses * counts).sum() / counts.sum().clamp(min=1))
        return torch.stack(means).mean()


def _without_nodes(matrix: csr_array, keep: float, generator: np.random.Generator) -> csr_array:
    """The edges between users and items of which each stays with probability `keep`."""
    users, items = (generator.random(n) < keep for n in matrix.shape)
    coo = matrix.tocoo()
    stays = users[coo.row] & items[coo.col]
    pairs = coo.row[stays], coo.col[stays]
    return csr_array((coo.data[stays], pairs), shape=matrix.shape)
