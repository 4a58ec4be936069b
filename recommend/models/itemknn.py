"""Item kNN on content: recommend what resembles the user's items. No training.

score(u, i) = Σ_{j ∈ N(u)} S_ji, S = Σ_m w_m S_m, S_m = D^-1/2 A_m D^-1/2, where row j of A_m holds
the cosines of item j's k nearest items in modality m, and D the row sums of A_m. It is the honest
control for content: a model that learns from the same features should beat it.
"""

from typing import ClassVar

from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor

from recommend.features import Tables
from recommend.graphs import mixed_neighbours
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace


class ItemKNNConfig(ModelConfig):
    """Settings of content-based item kNN."""

    # Not from a paper: a control that is searched, too, is a fairer one.
    search_space: ClassVar[SearchSpace] = {
        "neighbours": Range(5, 100, log=True, integer=True),
        "image_weight": Range(0.0, 1.0),
    }

    neighbours: int = Field(20, ge=1, description="k, neighbours of each item.")
    image_weight: float = Field(0.5, ge=0, le=1, description="Weight of the image beside the text.")


class ItemKNN(Recommender):
    """Nothing is learned: users are their training rows, items the columns of the graph."""

    config_class = ItemKNNConfig
    uses_features = True

    def __init__(self, config: ItemKNNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.train_matrix = data.train.matrix
        self.graph = mixed_neighbours(
            data.features,
            config.neighbours,
            config.image_weight,
            weighted=True,
            search=data.search,
        )

    def encode(self, features: Tables) -> Embeddings:
        """Sparse: users R (U, I) and items Sᵀ (I, I), so that users @ items.T = R S."""
        return Embeddings(self.train_matrix, csr_array(self.graph.T))

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """No terms: nothing is learned."""
        return {}
