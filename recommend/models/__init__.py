"""The recommenders, by name. A new one is a file beside this, a line here, and a settings file."""

from extract.errors import unknown_name
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.models.bm3 import BM3
from recommend.models.bpr import BPR
from recommend.models.dualgnn import DualGNN
from recommend.models.freedom import Freedom
from recommend.models.grcn import GRCN
from recommend.models.itemknn import ItemKNN
from recommend.models.lattice import Lattice
from recommend.models.layergcn import LayerGCN
from recommend.models.lightgcn import LightGCN
from recommend.models.mgcn import MGCN
from recommend.models.mmgcl import MMGCL
from recommend.models.mmgcn import MMGCN
from recommend.models.popularity import Popularity
from recommend.models.slmrec import SLMRec
from recommend.models.vbpr import VBPR

MODELS: dict[str, type[Recommender]] = {
    # Nothing is learned.
    "popularity": Popularity,
    "itemknn": ItemKNN,
    # From interactions alone.
    "bpr": BPR,
    "lightgcn": LightGCN,
    "layergcn": LayerGCN,
    # Multimodal, in the order of their papers.
    "vbpr": VBPR,
    "mmgcn": MMGCN,
    "grcn": GRCN,
    "dualgnn": DualGNN,
    "lattice": Lattice,
    "slmrec": SLMRec,
    "mmgcl": MMGCL,
    "bm3": BM3,
    "freedom": Freedom,
    "mgcn": MGCN,
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
