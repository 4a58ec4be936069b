"""VBPR: matrix factorisation with a second, content-based part (He and McAuley, AAAI 2016).

score(u, i) = γ_u · γ_i + θ_u · W f_i + b_i + β · f_i   (eq. 4, less what is constant for a user)
loss = mean -log σ(score(u, i⁺) - score(u, i⁻)) + λ Σ ‖·‖² / (2B), over the batch's vectors
[γ_u ‖ θ_u], [γ_i ‖ W f_i] and biases.

f_i is the concatenation of all modalities, zero where an item lacks one. The paper's L2 term is
over W and β themselves; over the projected vectors, as here, it does not depend on the number or
scale of the features. `bias` switches the last two terms of the score.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from recommend.features import Tables
from recommend.layers import Projection, embedding_table
from recommend.losses import bpr, dot, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace


class VBPRConfig(ModelConfig):
    """Settings of VBPR."""

    # The MMRec toolbox's grid, where the L2 term is of another form.
    search_space: ClassVar[SearchSpace] = {"reg": Range(1e-5, 2.0, log=True)}

    embedding_size: int = Field(64, ge=1, description="d, size of γ and of θ.")
    reg: float = Field(1e-2, ge=0, description="λ, weight of the L2 term.")
    bias: bool = Field(True, description="Add the item bias b_i and the visual bias β · f_i.")


class VBPR(Recommender):
    """Two vectors per user, one per item, and a projection of its features."""

    config_class = VBPRConfig
    uses_features = True

    def __init__(self, config: VBPRConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.reg, size = config.reg, config.embedding_size
        self.users = embedding_table(data.train.n_users, 2 * size)
        self.items = embedding_table(data.train.n_items, size)
        dims = sum(data.features.dims.values())
        self.project = Projection(dims, size, bias=False)
        nn.init.xavier_uniform_(self.project.weight)
        self.item_bias = nn.Parameter(torch.zeros(data.train.n_items)) if config.bias else None
        self.feature_bias = nn.Parameter(torch.zeros(dims)) if config.bias else None

    def encode(self, features: Tables) -> Embeddings:
        """Users [γ_u ‖ θ_u ‖ 1] and items [γ_i ‖ W f_i ‖ b_i + β · f_i]."""
        rows = torch.arange(len(self.items), device=self.items.device)
        items, biases = self._items(rows, features)
        if biases is None:
            return Embeddings(self.users, items)
        ones = self.users.new_ones(len(self.users), 1)
        return Embeddings(
            torch.cat([self.users, ones], dim=1), torch.cat([items, biases[:, None]], dim=1)
        )

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``bpr`` and ``l2``."""
        users = self.users[batch.users]
        items, biases = self._items(batch.items, features)
        positive_places, negative_places = batch.places
        positives, negatives = items[positive_places], items[negative_places]
        positive_scores, negative_scores = dot(users, positives), dot(users, negatives)
        squares = l2(users, positives, negatives)
        if biases is not None:
            positive_scores = positive_scores + biases[positive_places]
            negative_scores = negative_scores + biases[negative_places]
            squares = squares + l2(biases[positive_places], biases[negative_places])
        return {"bpr": bpr(positive_scores, negative_scores), "l2": self.reg * squares}

    def _items(self, rows: Tensor, features: Tables) -> tuple[Tensor, Tensor | None]:
        content = torch.cat([table[rows] for table in features.values()], dim=1)
        vectors = torch.cat([self.items[rows], self.project(content)], dim=1)
        if self.item_bias is None or self.feature_bias is None:
            return vectors, None
        return vectors, self.item_bias[rows] + content @ self.feature_bias
