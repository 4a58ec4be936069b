"""itemknn against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np

from recommend.models import MODELS
from recommend.sources import FrozenFeatures
from recommend.train import encode


def test_itemknn(small):
    kind = MODELS["itemknn"]
    model = kind(kind.config_class(neighbours=2, image_weight=0.25), small)
    mixed = np.zeros((6, 6))
    for modality, weight in (("image", 0.25), ("text", 0.75)):
        vectors = small.features.tables[modality].astype(np.float64)
        norms = np.linalg.norm(vectors, axis=1)
        graph = np.zeros((6, 6))
        for i in np.flatnonzero(norms):
            cosines = {
                j: vectors[i] @ vectors[j] / norms[i] / norms[j]
                for j in np.flatnonzero(norms)
                if j != i
            }
            for j in sorted(cosines, key=cosines.get, reverse=True)[:2]:
                graph[i, j] = max(cosines[j], 0)
        degrees = graph.sum(axis=1)
        root = np.array([1 / d**0.5 if d else 0 for d in degrees])
        mixed += weight * root[:, None] * graph * root[None, :]
    got = encode(model, FrozenFeatures(small.features)).scores(np.arange(5))
    wanted = small.train.matrix.toarray() @ mixed
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
