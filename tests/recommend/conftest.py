"""Small data whose right answer is obvious."""

import numpy as np
import pytest
import torch

from recommend.features import FeatureStore
from recommend.interactions import Interactions, Split
from recommend.models import TrainingData

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def pairs(matrix):
    """Interactions from a 0/1 matrix."""
    users, items = np.nonzero(matrix)
    return Interactions(users, items, *matrix.shape)


@pytest.fixture(scope="session")
def checkerboard():
    """Even users like even items, odd users odd ones; what is on the diagonal is withheld.

    So every sane model must rank item u first for user u, and every content feature that tells
    even from odd is a perfect one.
    """
    n = 24
    likes = (np.add.outer(np.arange(n), np.arange(n)) % 2 == 0).astype(int)
    withheld = np.eye(n, dtype=int)
    nothing = np.zeros_like(likes)
    split = Split(pairs(likes - withheld), pairs(withheld), pairs(nothing))
    parity = np.arange(n) % 2
    noise = np.random.default_rng(0).standard_normal((n, 6)) * 0.1
    content = np.concatenate([np.eye(2)[parity], noise], axis=1).astype(np.float32)
    arrays = {"image": content, "text": content[:, :5] + 0.5, "fused": content[:, :3]}
    return split, FeatureStore.from_arrays(arrays)


@pytest.fixture(scope="session")
def small():
    """5 users, 6 items, two modalities, of which item 4 lacks the image and item 5 the text."""
    matrix = np.array(
        [
            [1, 1, 0, 0, 1, 0],
            [0, 1, 1, 0, 0, 0],
            [1, 0, 0, 1, 0, 0],
            [0, 0, 1, 1, 0, 1],
            [1, 0, 0, 0, 1, 0],
        ]
    )
    generator = np.random.default_rng(3)
    image = generator.standard_normal((6, 4)).astype(np.float32)
    text = generator.standard_normal((6, 3)).astype(np.float32)
    image[4], text[5] = 0, 0
    store = FeatureStore.from_arrays({"image": image, "text": text})
    return TrainingData(pairs(matrix), store)
