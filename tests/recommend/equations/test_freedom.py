"""FREEDOM against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np
import torch
from support.equations import (
    built,
    check,
    check_embeddings,
    loss_of,
    naive_bpr,
    naive_graph,
    naive_lightgcn,
)


def test_freedom(small):
    settings = {"neighbours": 2, "image_weight": 0.3, "layers": 2, "item_layers": 2, "reg": 0.2}
    model, w = built("freedom", small, dropout=0.5, **settings)
    graph = 0.3 * naive_graph(small.features.tables["image"].astype(float), 2)
    graph += 0.7 * naive_graph(small.features.tables["text"].astype(float), 2)
    neighbourly = graph @ graph @ w["items"]
    matrix = small.train.matrix.toarray()
    users, items = naive_lightgcn(matrix, w["users"], w["items"], 2)
    check_embeddings(model, small, users, items + neighbourly)
    model.begin_epoch({}, np.random.default_rng(1))
    kept = (model.pruned_graph @ torch.eye(6)).numpy() > 0
    assert kept.sum() == matrix.sum() // 2
    assert (kept <= matrix).all()
    users, items = naive_lightgcn(kept.astype(float), w["users"], w["items"], 2)
    wanted = {"bpr": naive_bpr(users, items + neighbourly)}
    for modality in ("image", "text"):
        projected = small.features.tables[modality] @ w[f"project.{modality}.weight"].T
        wanted[f"bpr_{modality}"] = 0.2 * naive_bpr(users, projected)
    check(loss_of(model, small), wanted)


def test_freedom_without_modality_terms_has_no_projections(small):
    model, _ = built("freedom", small, reg=0)
    assert [name for name, _ in model.named_parameters()] == ["users", "items"]
