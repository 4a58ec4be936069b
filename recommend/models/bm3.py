"""BM3: self-supervision without negatives or item graphs (Zhou et al., WWW 2023).

h_u = E_u, h_i = E_i + e_i, with E the LightGCN mean over layers of the embeddings e
h_m,i = W_m f_m,i + b_m of modality m, and the predictor f(h) = W h + b, one for all
ḣ = dropout(h), a second view that passes no gradient
C(a, b) = 1 - cos(a, b)
score(u, i) = f(h_u) · f(h_i)
loss = C(f(h_u), ḣ_i) + C(f(h_i), ḣ_u)
     + w Σ_m [C(f(h_m,i), ḣ_i) + C(f(h_m,i), ḣ_m,i)]
     + λ (‖h_u‖² + ‖h_i‖²) / 2

as means over the batch's pairs (u, i); an item without a modality has no part in its two terms.
The paper's C is -cos, which differs by a constant; at 1 - cos a loss of 0 is a perfect one.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.convolutions import light_graph_convolution
from recommend.features import Tables
from recommend.graphs import symmetric_normalise
from recommend.layers import Projection, embedding_table
from recommend.losses import dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Choice, SearchSpace
from recommend.sparse import SparseMatrix


class BM3Config(ModelConfig):
    """Settings of BM3."""

    # The MMRec toolbox's grid, and less reg, as its L2 term is a norm, ours the square.
    search_space: ClassVar[SearchSpace] = {
        "layers": Choice((1, 2)),
        "dropout": Choice((0.3, 0.5)),
        "reg": Choice((0.0, 1e-4, 1e-3, 1e-2, 1e-1)),
    }

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    layers: int = Field(1, ge=0, description="Propagations over the user-item graph.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of the second view's zeros.")
    cl_weight: float = Field(2.0, ge=0, description="w, weight of the modality terms.")
    reg: float = Field(0.0, ge=0, description="λ, weight of the L2 term.")


class BM3(Recommender):
    """LightGCN whose users, items and modalities predict each other's dropped-out views."""

    config_class = BM3Config
    uses_features = True

    def __init__(self, config: BM3Config, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.graph = SparseMatrix(symmetric_normalise(data.train.matrix))
        self.users = embedding_table(data.train.n_users, config.embedding_size)
        self.items = embedding_table(data.train.n_items, config.embedding_size)
        self.predict = nn.Linear(config.embedding_size, config.embedding_size)
        projected = data.features.dims if config.cl_weight > 0 else {}
        self.project = nn.ModuleDict(
            {
                modality: Projection(dim, config.embedding_size)
                for modality, dim in projected.items()
            }
        )
        for modality, present in data.features.present.items():
            mask = torch.from_numpy(present.copy())
            self.register_buffer(f"has_{modality}", mask, persistent=False)

    def encode(self, features: Tables) -> Embeddings:
        """The predictor's output for every user and item."""
        users, items = self._propagate()
        return Embeddings(self.predict(users), self.predict(items))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``rec``, ``align_<modality>``, ``mask_<modality>`` and ``l2``."""
        rows, places, counts = torch.unique(
            batch.positives, return_inverse=True, return_counts=True
        )
        users, items = self._propagate((batch.users, rows))
        user_targets, item_targets = self._target(users), self._target(items)
        of_users = dot(self._predicted(users), item_targets[places])
        of_items = dot(self._predicted(items)[places], user_targets)
        terms = {"rec": 2 - (of_users + of_items).mean()}
        for modality, project in self.project.items():
            has = self.get_buffer(f"has_{modality}")[rows]
            content = project(features[modality].index_select(0, rows[has]))
            predicted, shares = self._predicted(content), _shares(counts[has])
            align = 1 - dot(predicted, item_targets[has])
            mask = 1 - dot(predicted, self._target(content))
            terms[f"align_{modality}"] = self.config.cl_weight * (shares * align).sum()
            terms[f"mask_{modality}"] = self.config.cl_weight * (shares * mask).sum()
        return terms | {"l2": self.config.reg * l2(users, items[places])}

    def _propagate(self, rows: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        users, items = light_graph_convolution(
            self.graph, self.users, self.items, self.config.layers, rows
        )
        return users, items + (self.items if rows is None else self.items[rows[1]])

    def _predicted(self, vectors: Tensor) -> Tensor:
        """f(h) / ‖f(h)‖, for a cosine is a product of unit vectors."""
        return F.normalize(self.predict(vectors), dim=1)

    def _target(self, vectors: Tensor) -> Tensor:
        """ḣ / ‖ḣ‖, without a gradient; dropout's usual factor is left out, as it cancels."""
        vectors = vectors.detach()
        if self.training and self.config.dropout > 0:
            # Four times as fast as torch's dropout, whose Bernoulli draws are slow on a CPU.
            vectors = vectors * (torch.rand_like(vectors) >= self.config.dropout)
        return F.normalize(vectors, dim=1)


def _shares(counts: Tensor) -> Tensor:
    """How much of the batch each distinct item stands for."""
    return counts / counts.sum().clamp(min=1)
