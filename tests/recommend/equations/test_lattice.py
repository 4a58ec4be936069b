"""LATTICE against a plain dense float64 transcription of its equations, on 5 × 6."""

from dataclasses import replace

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
    naive_lightgcn,
)

from recommend.features import FeatureStore
from recommend.index import nearest
from recommend.models import TrainingData
from recommend.sources import FrozenFeatures
from recommend.train import encode

SETTINGS = {"feature_size": 4, "layers": 2, "neighbours": 2, "raw_weight": 0.6, "reg": 0.2}


def tables(data):
    return FrozenFeatures(data.features)()


def naive_item_graph(vectors, present, k):
    """Eq. 1-3: cosines of the k nearest, not below 0, divided by √(D_i D_j)."""
    n = len(vectors)
    graph = np.zeros((n, n))
    for i in range(n):
        cosines = {
            j: vectors[i] @ vectors[j] / np.sqrt(vectors[i] @ vectors[i] * vectors[j] @ vectors[j])
            for j in range(n)
            if present[i] and present[j] and j != i
        }
        for j in sorted(cosines, key=lambda j: -cosines[j])[:k]:
            graph[i, j] = max(cosines[j], 0)
    degrees = graph.sum(axis=1)
    for i in range(n):
        for j in range(n):
            if graph[i, j] > 0:
                graph[i, j] /= np.sqrt(degrees[i] * degrees[j]) if degrees[j] > 0 else np.inf
    return graph


def naive_vectors(data, w, share, k, layers, item_layers):
    exponentials = [np.exp(weight) for weight in w["weights"]]
    whole = np.zeros((6, 6))
    for exponential, (modality, table) in zip(
        exponentials, data.features.tables.items(), strict=True
    ):
        present = [row.any() for row in table]
        raw = table.astype(float)
        graph = share * naive_item_graph(raw, present, k)
        if share < 1:
            weight, bias = w[f"transform.{modality}.weight"], w[f"transform.{modality}.bias"]
            transformed = np.stack([weight @ row + bias for row in raw])
            graph += (1 - share) * naive_item_graph(transformed, present, k)
        whole += exponential / sum(exponentials) * graph
    h = w["items"]
    for _ in range(item_layers):
        h = whole @ h
    users, items = naive_lightgcn(data.train.matrix.toarray(), w["users"], w["items"], layers)
    lengths = np.linalg.norm(h, axis=1, keepdims=True)
    return users, items + np.divide(h, lengths, out=np.zeros_like(h), where=lengths > 0)


@pytest.mark.parametrize("item_layers", [1, 2])
@pytest.mark.parametrize("share", [0.6, 1.0, 0.0])
def test_lattice(small, share, item_layers):
    settings = SETTINGS | {"raw_weight": share, "item_layers": item_layers}
    model, w = built("lattice", small, **settings)
    users, items = naive_vectors(small, w, share, 2, 2, item_layers)
    check_embeddings(model, small, users, items)
    own = naive_l2(*chosen(w["users"], w["items"]))
    check(loss_of(model, small), {"bpr": naive_bpr(users, items), "l2": 0.2 * own})


def test_the_gradient_of_the_transformation_is_that_of_the_equations(small):
    """The learned graph is learned: through cosines and degrees alike, in every step."""
    model, w = built("lattice", small, **SETTINGS)
    model.begin_epoch(tables(small), np.random.default_rng(0))

    def naive_loss():
        return naive_bpr(*naive_vectors(small, w, 0.6, 2, 2, 1))

    for _ in range(2):
        model.zero_grad()
        model.loss(BATCH, tables(small))["bpr"].backward()
        for name, parameter in model.transform.named_parameters():
            values = w[f"transform.{name}"]
            got = parameter.grad.numpy()
            for place in np.ndindex(values.shape):
                before, sides = values[place], []
                for difference in (1e-5, -1e-5):
                    values[place] = before + difference
                    sides.append(naive_loss())
                values[place] = before
                assert got[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-3, abs=1e-6)


def test_neighbours_are_searched_once_an_epoch_and_once_a_ranking(small):
    searches = []

    def counting(vectors, k, *, keep=True):
        searches.append(keep)
        return nearest(vectors, k)

    model, _ = built("lattice", replace(small, search=counting), **SETTINGS)
    assert searches == [True, True]  # of the raw features
    model.begin_epoch(tables(small), np.random.default_rng(0))
    for _ in range(3):
        loss_of(model, small)
    assert searches[2:] == [False, False]
    encode(model, FrozenFeatures(small.features))
    assert searches[4:] == [False, False]


def test_the_epochs_pairs_stay_while_their_cosines_follow_the_weights(small):
    model, _ = built("lattice", small, **SETTINGS)
    model.begin_epoch(tables(small), np.random.default_rng(0))
    pairs = model.pairs
    before = loss_of(model, small)
    with torch.no_grad():
        model.transform["image"].weight.mul_(1.1)
    assert loss_of(model, small) != before
    assert model.pairs is pairs


def test_a_pair_is_kept_for_each_neighbour_and_none_for_items_without_the_modality(small):
    model, _ = built("lattice", small, **SETTINGS)
    model.begin_epoch(tables(small), np.random.default_rng(0))
    places = list(zip(model.pairs.row_of.tolist(), model.pairs.column_of.tolist(), strict=True))
    assert len(places) == 2 * 5 * 2  # modalities, items that have it, neighbours
    assert not {4, 6 + 5} & {item for place in places for item in place}
    assert all((i < 6) == (j < 6) and i != j for i, j in places)


def test_a_single_modality_has_no_weight_to_train(small):
    data = TrainingData(small.train, small.features.only(["text"]))
    model, _ = built("lattice", data, **SETTINGS)
    assert not model.weights.requires_grad


def test_items_whose_neighbours_all_point_away_do_not_spoil_the_gradient(small):
    opposite = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0], [0, 0]], np.float32)
    features = FeatureStore.from_arrays({"image": opposite, "text": opposite})
    data = TrainingData(small.train, features)
    model, _ = built("lattice", data, **SETTINGS | {"feature_size": 2, "neighbours": 1})
    with torch.no_grad():
        for transform in model.transform.values():
            transform.weight.copy_(torch.eye(2))
            transform.bias.zero_()
    model.begin_epoch(tables(data), np.random.default_rng(0))
    sum(model.loss(BATCH, tables(data)).values()).backward()
    for parameter in model.parameters():
        assert torch.isfinite(parameter.grad).all()
