"""GRCN: a user-item graph refined by content (Wei et al., MM 2020).

In each modality m, with x_i = (W_m f_m,i + b_m) / ‖·‖, and 0 for an item that lacks m:

p_u ← (p_u + Σ_i a_ui x_i) / ‖·‖ three times (the prototypical network's routing), a_ui the softmax
of p_u · x_i over those of the user's training items that have m, from a trained p_u of length 1
s_ui = softmax of p_u · x_i over the user's items, s_iu = the same over the item's users
z_u = p_u + Σ_i s_ui x_i, z_i = x_i + Σ_u s_iu p_u

An item without m has the neutral affinity, that of cosine 0. Over the modalities, with trained
confidences ρ, the graph with its false positives pruned softly, and vectors e⁰ propagated over it:

S_ui = max(0, max_m ρ_u,m s_ui,m), S_iu = max(0, max_m ρ_i,m s_iu,m)
e^{l+1}_u = Σ_i S_ui e^l_i, e^{l+1}_i = Σ_u S_iu e^l_u, e = Σ_{l=0..L} e^l
score(u, i) = [e_u ‖ z_u,m ...] · [e_i ‖ z_i,m ...]
loss = BPR(score) + λ Σ (‖e⁰‖² + ‖p‖²) / (2B), over the batch's trained vectors
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recommend.features import Tables
from recommend.layers import Projection, edge_dots, embedding_table, unit_rows
from recommend.losses import bpr, dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Choice, SearchSpace
from recommend.sparse import SparsePattern


class GRCNConfig(ModelConfig):
    """Settings of GRCN."""

    # reg is the MMRec toolbox's grid, and 0 of DA-MRS's logs; Elliot has 2 layers, MMRec 3.
    search_space: ClassVar[SearchSpace] = {
        "layers": Choice((2, 3)),
        "reg": Choice((0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
    }

    embedding_size: int = Field(64, ge=1, description="d, size of the id vectors.")
    content_size: int = Field(64, ge=1, description="Size of each modality's vectors.")
    layers: int = Field(3, ge=0, description="L, propagations of the id vectors.")
    routings: int = Field(3, ge=0, description="Iterations that refine the users' prototypes.")
    reg: float = Field(0.0, ge=0, description="λ, weight of the L2 term.")


class GRCN(Recommender):
    """Id vectors propagated over edges that content weighs, beside the content itself."""

    config_class = GRCNConfig
    uses_features = True

    present: Tensor

    def __init__(self, config: GRCNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        dims, n_users, n_items = data.features.dims, data.train.n_users, data.train.n_items
        self.pattern = SparsePattern(data.train.matrix)
        present = np.stack([data.features.present[modality] for modality in dims], axis=1)
        self.register_buffer("present", torch.from_numpy(present), persistent=False)
        self.users = embedding_table(n_users, config.embedding_size)
        self.items = embedding_table(n_items, config.embedding_size)
        self.prototypes = nn.ParameterDict(
            {modality: embedding_table(n_users, config.content_size) for modality in dims}
        )
        self.project = nn.ModuleDict(
            {modality: Projection(dim, config.content_size) for modality, dim in dims.items()}
        )
        # With a confidence above zero no neighbourhood is pruned from the start, and for ever.
        self.user_confidence = nn.Parameter(torch.ones(n_users, len(dims)))
        self.item_confidence = nn.Parameter(torch.ones(n_items, len(dims)))

    def encode(self, features: Tables) -> Embeddings:
        """Id vectors over the refined graph beside each modality's vectors, (U, D) and (I, D)."""
        users, items = self._propagate(features)
        return Embeddings(torch.cat(users, dim=1), torch.cat(items, dim=1))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr``, and ``l2`` of trained vectors."""
        users, items = self._propagate(features)
        chosen = torch.cat([part[batch.users] for part in users], dim=1)
        candidates = torch.cat([part[batch.items] for part in items], dim=1)
        positives, negatives = (candidates[places] for places in batch.places)
        own = (self.users[batch.users], self.items[batch.positives], self.items[batch.negatives])
        prototypes = (table[batch.users] for table in self.prototypes.values())
        return {
            "bpr": bpr(dot(chosen, positives), dot(chosen, negatives)),
            "l2": self.config.reg * l2(*own, *prototypes),
        }

    def _propagate(self, features: Tables) -> tuple[list[Tensor], list[Tensor]]:
        """The parts of the users' and of the items' vectors: ids first, then the modalities."""
        users, items, of_users, of_items = [], [], [], []
        for modality, present in zip(self.project, self.present.T, strict=True):
            content = self.project[modality](features[modality])
            content = unit_rows(content) * present[:, None]
            prototypes = self._routed(self.prototypes[modality], content, present)
            affinity = edge_dots(self.pattern, prototypes, content).exp()
            of_users.append(self._shares_of_users(affinity))
            of_items.append(self._shares_of_items(affinity))
            users.append(prototypes + self.pattern.matmul(of_users[-1], content))
            items.append(content + self.pattern.transposed_matmul(of_items[-1], prototypes))
        refined = self._over_refined_graph(torch.stack(of_users), torch.stack(of_items))
        return [refined[0], *users], [refined[1], *items]

    def _routed(self, prototypes: Tensor, content: Tensor, present: Tensor) -> Tensor:
        """The users' prototypes after the routing, (U, content size)."""
        prototypes, has_content = unit_rows(prototypes), present[self.pattern.column_of]
        for _ in range(self.config.routings):
            # Cosines are at most 1, so the softmax needs no maximum subtracted.
            affinity = edge_dots(self.pattern, prototypes, content).exp() * has_content
            gathered = self.pattern.matmul(self._shares_of_users(affinity), content)
            prototypes = unit_rows(prototypes + gathered)
        return prototypes

    def _over_refined_graph(self, of_users: Tensor, of_items: Tensor) -> tuple[Tensor, Tensor]:
        """Id vectors summed over the layers; shares are (modalities, nnz)."""
        confidence = self.user_confidence.T.index_select(1, self.pattern.row_of)
        to_users = (confidence * of_users).amax(dim=0).relu()
        confidence = self.item_confidence.T.index_select(1, self.pattern.column_of)
        to_items = (confidence * of_items).amax(dim=0).relu()
        users: Tensor = self.users
        items: Tensor = self.items
        for _ in range(self.config.layers):
            users, items = (
                self.users + self.pattern.matmul(to_users, items),
                self.items + self.pattern.transposed_matmul(to_items, users),
            )
        return users, items

    def _shares_of_users(self, affinity: Tensor) -> Tensor:
        return _shares(affinity, self.pattern.row_of, len(self.users))

    def _shares_of_items(self, affinity: Tensor) -> Tensor:
        return _shares(affinity, self.pattern.column_of, len(self.items))


def _shares(affinity: Tensor, node: Tensor, n_nodes: int) -> Tensor:
    """Each edge's share of its node's sum, (nnz,); 0 where the sum is 0."""
    sums = affinity.new_zeros(n_nodes).index_add(0, node, affinity)
    return affinity * (1 / sums.clamp_min(1e-12)).index_select(0, node)
