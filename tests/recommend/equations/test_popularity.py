"""popularity against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np
from support.equations import check_embeddings

from recommend.models import MODELS


def test_popularity(small):
    model = MODELS["popularity"](MODELS["popularity"].config_class(), small)
    matrix = small.train.matrix.toarray()
    check_embeddings(model, small, np.ones((5, 1)), matrix.sum(axis=0)[:, None])
