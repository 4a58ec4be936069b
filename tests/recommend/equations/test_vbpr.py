"""VBPR against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np
import pytest
from support.equations import (
    BATCH,
    built,
    check,
    check_embeddings,
    chosen,
    loss_of,
    naive_bpr,
    naive_l2,
)


@pytest.mark.parametrize("bias", [True, False])
def test_vbpr(small, bias):
    model, w = built("vbpr", small, reg=0.3, bias=bias)
    content = np.concatenate([small.features.tables[m] for m in ("image", "text")], axis=1)
    vectors = np.concatenate([w["items"], content @ w["project.weight"].T], axis=1)
    users, items = w["users"], vectors
    squares = naive_l2(*chosen(w["users"], vectors))
    if bias:
        biases = w["item_bias"] + content @ w["feature_bias"]
        users = np.concatenate([users, np.ones((5, 1))], axis=1)
        items = np.concatenate([items, biases[:, None]], axis=1)
        squares += naive_l2(biases[BATCH.positives], biases[BATCH.negatives])
    check_embeddings(model, small, users, items)
    check(loss_of(model, small), {"bpr": naive_bpr(users, items), "l2": 0.3 * squares})
