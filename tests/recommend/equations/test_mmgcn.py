"""MMGCN against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np
import pytest
import torch
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

from recommend.interactions import Interactions
from recommend.sources import FrozenFeatures
from recommend.train import encode


def leaky(vector):
    return np.where(vector > 0, vector, 0.01 * vector)


def naive_mmgcn(w, matrix, tables, layers):
    """One node at a time, over the graph of users and items together."""
    n_users, n_items = matrix.shape
    ids = [*w["users"], *w["items"]]
    neighbours = [[n_users + i for i in np.flatnonzero(matrix[u])] for u in range(n_users)]
    neighbours += [list(np.flatnonzero(matrix[:, i])) for i in range(n_items)]
    sums = [0] * len(ids)
    for modality, table in tables.items():
        projected = [w[f"project.{modality}.weight"] @ f for f in table.astype(np.float64)]
        nodes = [*w[f"preferences.{modality}"], *projected]
        for layer in range(layers):
            first, second, third = (
                w[f"layers.{modality}.{layer}.{part}.weight"]
                for part in ("aggregate", "keep", "combine")
            )
            after = []
            for node, vector in enumerate(nodes):
                messages = [first @ nodes[other] for other in neighbours[node]]
                h = leaky(sum(messages) / len(messages))
                own = leaky(second @ vector) + ids[node]
                after.append(leaky(third @ h + own))
            nodes = after
        sums = [total + node for total, node in zip(sums, nodes, strict=True)]
    vectors = np.array(sums) / len(tables)
    return vectors[:n_users], vectors[n_users:]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_mmgcn(layers, small):
    model, w = built("mmgcn", small, layers=layers, latent_size=2, reg=0.3)
    model.double()
    store = small.features
    users, items = naive_mmgcn(w, small.train.matrix.toarray(), store.tables, layers)
    tables = FrozenFeatures(store)()
    doubles = {modality: table.double() for modality, table in tables.items()}
    with torch.no_grad():
        got = model.encode(doubles)
    np.testing.assert_allclose(got.users, users, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(got.items, items, rtol=1e-6, atol=1e-7)
    own = [*chosen(w["users"], w["items"])]
    own += [w[f"preferences.{modality}"][BATCH.users] for modality in store.tables]
    terms = model.loss(BATCH, doubles)
    wanted = {"bpr": naive_bpr(users, items), "l2": 0.3 * naive_l2(*own)}
    check({name: term.item() for name, term in terms.items()}, wanted)


def test_mmgcn_in_single_precision(small):
    model, w = built("mmgcn", small, latent_size=3, reg=0)
    matrix = small.train.matrix.toarray()
    users, items = naive_mmgcn(w, matrix, small.features.tables, 2)
    check_embeddings(model, small, users, items)
    assert loss_of(model, small)["bpr"] == pytest.approx(naive_bpr(users, items), rel=1e-5)


def test_ids_and_preferences_are_trained_by_the_ranking_itself(small):
    """Not by the L2 term alone: it is left out here."""
    model, _ = built("mmgcn", small, reg=0)
    names = {"users", "items", "preferences.image", "preferences.text"}
    parameters = dict(model.named_parameters())
    assert names <= set(parameters)
    model.loss(BATCH, FrozenFeatures(small.features)())["bpr"].backward()
    for name in names:
        assert parameters[name].grad.any(dim=1).all(), name


def test_an_item_without_a_modality_starts_there_as_zero(small):
    """Whatever the projection is, the vectors of modality text do not depend on item 5's."""
    text = small.features.only(["text"])
    model, _ = built("mmgcn", small)
    assert not model.project["text"](FrozenFeatures(text)()["text"])[5].any()
    assert all(project.bias is None for project in model.project.values())


def test_a_user_and_an_item_that_were_never_seen_have_their_ids_and_preferences(small):
    """A mean over no neighbour is zero, not NaN."""
    matrix = np.zeros((5, 6))
    matrix[0, 0] = 1
    lonely = type(small)(pairs(matrix), small.features)
    model, w = built("mmgcn", lonely, layers=1, latent_size=3)
    got = encode(model, FrozenFeatures(small.features)).users[3].numpy()
    ends = [
        leaky(leaky(w[f"layers.{m}.0.keep.weight"] @ w[f"preferences.{m}"][3]) + w["users"][3])
        for m in ("image", "text")
    ]
    np.testing.assert_allclose(got, np.mean(ends, axis=0), rtol=1e-5)


def pairs(matrix):
    return Interactions(*np.nonzero(matrix), *matrix.shape)
