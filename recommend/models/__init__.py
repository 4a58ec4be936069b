"""The recommenders, by name. A new one is a file beside this, a line here, and a settings file."""

from extract.errors import unknown_name
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.models.bpr import BPR
from recommend.models.freedom import Freedom
from recommend.models.itemknn import ItemKNN
from recommend.models.lightgcn import LightGCN
from recommend.models.popularity import Popularity
from recommend.models.vbpr import VBPR

MODELS: dict[str, type[Recommender]] = {
    "popularity": Popularity,
    "itemknn": ItemKNN,
    "bpr": BPR,
    "lightgcn": LightGCN,
    "vbpr": VBPR,
    "freedom": Freedom,
}

__all__ = ["MODELS", "Embeddings", "ModelConfig", "Recommender", "TrainingData", "model_class"]


def model_class(name: str) -> type[Recommender]:
    """The class of a model.

    Raises:
        UserError: There is none of that name.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]
