"""MGCN against a plain dense float64 transcription of its equations, on 5 × 6."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.equations import (
    BATCH,
    adjacency,
    built,
    check,
    chosen,
    naive_bpr,
    naive_l2,
    naive_lightgcn,
)

from recommend.features import FeatureStore
from recommend.models import TrainingData
from recommend.sampling import Batch

SETTINGS = {"neighbours": 2, "layers": 2, "temperature": 0.3, "cl_weight": 0.7, "reg": 0.2}


def in_double(model, data):
    """The model and its features in float64, as a float32 product is exact to 1e-7 only."""
    tables = {m: torch.from_numpy(t.astype(np.float64)) for m, t in data.features.tables.items()}
    return model.double().eval(), tables


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive_weighted_graph(vectors, k):
    """D^-1/2 A D^-1/2 of the cosines with the k nearest; zero vectors take no part."""
    n = len(vectors)
    graph = np.zeros((n, n))
    usable = [i for i in range(n) if vectors[i].any()]
    for i in usable:
        unit = vectors[i] / np.linalg.norm(vectors[i])
        cosines = {j: unit @ vectors[j] / np.linalg.norm(vectors[j]) for j in usable if j != i}
        for j in sorted(cosines, key=cosines.get, reverse=True)[:k]:
            graph[i, j] = max(cosines[j], 0)
    for i in range(n):
        assert graph[i].sum() > 0 or not vectors[i].any()
    root = [1 / d**0.5 if d else 0 for d in graph.sum(axis=1)]
    return np.diag(root) @ graph @ np.diag(root)


def naive_info_nce(anchors, others, temperature):
    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    total = 0.0
    for i, anchor in enumerate(anchors):
        powers = [np.exp(cosine(anchor, other) / temperature) for other in others]
        total -= np.log(powers[i] / sum(powers))
    return total / len(anchors)


def naive_fuser(w, content, behaviour):
    """The fused vector of one user or item, from |M| vectors and one."""
    raw = [
        w["fuse.attention.2.weight"][0]
        @ np.tanh(w["fuse.attention.0.weight"] @ c + w["fuse.attention.0.bias"])
        for c in content
    ]
    shares = np.exp(raw) / np.exp(raw).sum()
    shared = sum(share * c for share, c in zip(shares, content, strict=True))
    wanted = sigmoid(w["fuse.preference.weight"] @ behaviour + w["fuse.preference.bias"])
    parts = [
        gate * (c - shared) for gate, c in zip(np.split(wanted, len(content)), content, strict=True)
    ]
    return (shared + sum(parts)) / (len(content) + 1)


def naive_mgcn(data, w, item_layers):
    """Behaviour and fused content, of users and of items."""
    matrix = data.train.matrix.toarray().astype(float)
    between = adjacency(matrix)[: len(matrix), len(matrix) :]
    user_content, item_content = [], []
    for modality, table in data.features.tables.items():
        vectors, at = table.astype(float), f"views.{modality}."
        hidden = vectors @ w[at + "project.weight"].T + w[at + "project.bias"]
        gate = sigmoid(hidden @ w[at + "gate.weight"].T + w[at + "gate.bias"])
        graph = np.linalg.matrix_power(naive_weighted_graph(vectors, 2), item_layers)
        item_content.append(graph @ (w["items"] * gate))
        user_content.append(between @ item_content[-1])
    users, items = naive_lightgcn(matrix, w["users"], w["items"], 2)
    fused = [
        np.array([naive_fuser(w, [c[i] for c in content], own[i]) for i in range(len(own))])
        for content, own in ((user_content, users), (item_content, items))
    ]
    return users, items, *fused


@pytest.mark.parametrize("modalities", [["text"], ["image", "text"]], ids="+".join)
@pytest.mark.parametrize("item_layers", [1, 2])
def test_mgcn(small, modalities, item_layers):
    data = TrainingData(small.train, small.features.only(modalities))
    model, w = built("mgcn", data, item_layers=item_layers, **SETTINGS)
    model, tables = in_double(model, data)
    users, items, fused_users, fused_items = naive_mgcn(data, w, item_layers)
    got = model.encode(tables).detached()
    np.testing.assert_allclose(got.users, users + fused_users, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(got.items, items + fused_items, rtol=1e-6, atol=1e-7)
    # Item 5 is among the positives, and has no text.
    positives = [0, 1, 2, 4] if modalities == ["text"] else [0, 1, 2, 4, 5]
    contrast = naive_info_nce(users[:4], fused_users[:4], 0.3)
    contrast += naive_info_nce(items[positives], fused_items[positives], 0.3)
    wanted = {
        "bpr": naive_bpr(users + fused_users, items + fused_items),
        "cl": 0.7 * contrast,
        "l2": 0.2 * naive_l2(*chosen(w["users"], w["items"])),
    }
    check({name: term.item() for name, term in model.loss(BATCH, tables).items()}, wanted)


def test_items_and_users_without_content_have_a_zero_content_and_no_part_in_the_contrast(small):
    text = np.abs(small.features.tables["text"])  # so that no two items are opposites
    text[[1, 2]] = 0  # all that user 1 took; item 5 has none either
    data = replace(small, features=FeatureStore.from_arrays({"text": text}))
    model, _ = built("mgcn", data, **SETTINGS)
    model, tables = in_double(model, data)
    content_users, content_items = model._content(tables)
    assert (content_items == 0).all(dim=1).tolist() == [False, True, True, False, False, True]
    assert (content_users == 0).all(dim=1).tolist() == [False, True, False, False, False]
    users, items = model._behaviour()
    both = users, items, model.fuse(content_users, users), model.fuse(content_items, items)
    users, items, fused_users, fused_items = (vectors.detach().numpy() for vectors in both)
    contrast = naive_info_nce(users[[0, 2, 3]], fused_users[[0, 2, 3]], 0.3)
    contrast += naive_info_nce(items[[0, 4]], fused_items[[0, 4]], 0.3)
    terms = model.loss(BATCH, tables)
    assert terms["cl"].item() == pytest.approx(0.7 * contrast, rel=1e-6)
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_repeated_user_or_item_is_not_its_own_negative(small):
    model, _ = built("mgcn", small, **SETTINGS)
    model, tables = in_double(model, small)
    columns = (BATCH.users, BATCH.positives, BATCH.negatives)
    twice = Batch(*(torch.cat([column, column]) for column in columns))
    once, again = (model.loss(batch, tables)["cl"].item() for batch in (BATCH, twice))
    assert again == pytest.approx(once, rel=1e-12)


def test_a_batch_without_any_content_has_no_contrast(small):
    nothing = FeatureStore.from_arrays({"text": np.zeros((6, 3), np.float32)})
    data = replace(small, features=nothing)
    model, _ = built("mgcn", data, **SETTINGS)
    model, tables = in_double(model, data)
    terms = model.loss(BATCH, tables)
    assert terms["cl"].item() == 0
    assert torch.isfinite(terms["bpr"])


def test_gradients_reach_the_features_that_are_handed_in(small):
    model, _ = built("mgcn", small, **SETTINGS)
    model, tables = in_double(model, small)
    for table in tables.values():
        table.requires_grad_()
    sum(model.loss(BATCH, tables).values()).backward()
    for modality, table in tables.items():
        reached = table.grad.abs().sum(dim=1) > 0
        assert reached[small.features.present[modality]].any()
        assert not reached[~small.features.present[modality]].any()
