"""LATTICE: item graphs of raw and of learned features (Zhang et al., MM 2021).

S_m = D^-1/2 C D^-1/2, C_ij = max(cos(f_m,i, f_m,j), 0) where j is among the k nearest of i, itself
excluded, and D the row sums of C; raw features, fixed (eq. 1-3)
S'_m = the same of the transformed features W_m f_m + b_m (eq. 4)
A = Σ_m α_m (λ S_m + (1-λ) S'_m), α = softmax(w) (eq. 5, 6)
h = A^L e_i, (U, V) = LightGCN over R, x_i = V_i + h_i / ‖h_i‖ (eq. 7, 8)
score(u, i) = U_u · x_i; loss = BPR(score) + reg Σ ‖e⁰‖² / (2B), over the batch's embeddings

Which pairs are neighbours by their transformed features is searched once an epoch and once for
each ranking; their cosines, and D, are computed in each step, with gradients to W_m and b_m. The
paper's own code does that in the first step of an epoch only and keeps the graph for the others.
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import block_diag, csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.convolutions import light_graph_convolution
from recommend.features import Tables
from recommend.graphs import item_neighbours, neighbour_cosines, symmetric_normalise
from recommend.layers import Projection, edge_dots, embedding_table, unit_rows
from recommend.losses import bpr, dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Choice, Range, SearchSpace
from recommend.sparse import SparseMatrix, SparsePattern


class LatticeConfig(ModelConfig):
    """Settings of LATTICE."""

    # reg is the MMRec toolbox's grid; its neighbours and λ are 10 and 0.9, Elliot's 20 and 0.7.
    search_space: ClassVar[SearchSpace] = {
        "neighbours": Choice((10, 20)),
        "raw_weight": Range(0.7, 0.9),
        "reg": Choice((0.0, 1e-5, 1e-4, 1e-3)),
    }

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    feature_size: int = Field(64, ge=1, description="Size of the transformed features.")
    layers: int = Field(2, ge=0, description="Propagations over the user-item graph.")
    item_layers: int = Field(1, ge=1, description="L, propagations over the item graph.")
    neighbours: int = Field(10, ge=1, description="k, neighbours of each item and modality.")
    raw_weight: float = Field(0.9, ge=0, le=1, description="λ, share of the raw features' graph.")
    reg: float = Field(0.0, ge=0, description="Weight of the L2 term.")


class Lattice(Recommender):
    """LightGCN, plus propagation over an item graph that is learned along.

    The modalities' graphs are blocks of one, of which an item is a node in every modality.
    """

    config_class = LatticeConfig
    uses_features = True

    def __init__(self, config: LatticeConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config, self.search, self.present = config, data.search, data.features.present
        self.graph = SparseMatrix(symmetric_normalise(data.train.matrix))
        raw = [
            item_neighbours(
                table,
                self.present[modality],
                config.neighbours,
                weighted=True,
                search=data.search,
            )
            for modality, table in data.features.tables.items()
        ]
        self.raw_graph = SparseMatrix(csr_array(block_diag(raw)))
        self.users = embedding_table(data.train.n_users, config.embedding_size)
        self.items = embedding_table(data.train.n_items, config.embedding_size)
        transformed = data.features.dims if config.raw_weight < 1 else {}
        self.transform = nn.ModuleDict(
            {
                modality: Projection(dim, config.feature_size)
                for modality, dim in transformed.items()
            }
        )
        # The softmax of a single weight is 1, whatever it is.
        self.weights = nn.Parameter(torch.zeros(len(raw)), requires_grad=len(raw) > 1)
        self.pairs: SparsePattern | None = None

    def begin_epoch(self, features: Tables, generator: np.random.Generator) -> None:
        """Search the neighbours by the transformed features."""
        self.pairs = self._search(features)

    def encode(self, features: Tables) -> Embeddings:
        """Users and items, with neighbours searched anew."""
        return Embeddings(*self._propagate(features, self._search(features)))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr`` on propagated and ``l2`` on layer-0 embeddings."""
        pairs = self.pairs or self._search(features)
        users, items = self._propagate(features, pairs, (batch.users, batch.items))
        positives, negatives = batch.places
        own_users, own_items = self.users[batch.users], self.items[batch.items]
        return {
            "bpr": bpr(dot(users, items[positives]), dot(users, items[negatives])),
            "l2": self.config.reg * l2(own_users, own_items[positives], own_items[negatives]),
        }

    def _transformed(self, features: Tables) -> Tensor:
        """The features W_m f_m + b_m of all items, one modality under the other, (M I, s)."""
        return torch.cat(
            [transform(features[modality]) for modality, transform in self.transform.items()]
        )

    @torch.no_grad()
    def _search(self, features: Tables) -> SparsePattern | None:
        """The places of C', (M I, M I); None where the learned graph has no weight."""
        if not self.transform:
            return None
        vectors = self._transformed(features).cpu().numpy()
        cosines = [
            neighbour_cosines(
                block, present, self.config.neighbours, search=self.search, keep=False
            )
            for block, present in zip(
                np.split(vectors, len(self.present)), self.present.values(), strict=True
            )
        ]
        return SparsePattern(csr_array(block_diag(cosines))).to(self.users.device)

    def _propagate(
        self,
        features: Tables,
        pairs: SparsePattern | None,
        rows: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """All users and items, or those in the rows."""
        cosines = _normalised_cosines(pairs, self._transformed(features)) if pairs else None
        neighbourly: Tensor = self.items
        for _ in range(self.config.item_layers):
            neighbourly = self._item_layer(neighbourly, pairs, cosines)
        neighbourly = neighbourly if rows is None else neighbourly[rows[1]]
        users, items = light_graph_convolution(
            self.graph, self.users, self.items, self.config.layers, rows
        )
        return users, items + F.normalize(neighbourly, dim=1)

    def _item_layer(
        self, vectors: Tensor, pairs: SparsePattern | None, cosines: Tensor | None
    ) -> Tensor:
        """A @ vectors."""
        weights, share = self.weights.softmax(0), self.config.raw_weight
        repeated = vectors.repeat(len(weights), 1)
        smoothed = share * (self.raw_graph @ repeated)
        if pairs is not None and cosines is not None:
            smoothed = smoothed + (1 - share) * pairs.matmul(cosines, repeated)
        return (weights @ smoothed.view(len(weights), -1)).view_as(vectors)


def _normalised_cosines(pattern: SparsePattern, vectors: Tensor) -> Tensor:
    """The values of D^-1/2 C D^-1/2 in the pattern's places, (nnz,)."""
    vectors = unit_rows(vectors)
    cosines = edge_dots(pattern, vectors, vectors).relu()
    sums = vectors.new_zeros(len(vectors)).index_add(0, pattern.row_of, cosines)
    roots = sums.where(sums > 0, torch.inf).rsqrt()
    # index_select, as the gradient of roots[...] is a hundred times as slow.
    left, right = (roots.index_select(0, of) for of in (pattern.row_of, pattern.column_of))
    return cosines * left * right
