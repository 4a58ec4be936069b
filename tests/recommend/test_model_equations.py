"""Each model against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np
import pytest
import torch

from recommend.features import FrozenFeatures
from recommend.models import MODELS, model_class
from recommend.sampling import Batch
from recommend.train import encode

BATCH = Batch(
    users=torch.tensor([0, 1, 2, 3, 0]),
    positives=torch.tensor([1, 2, 0, 5, 4]),
    negatives=torch.tensor([3, 0, 4, 1, 5]),
)


def built(name, data, **settings):
    torch.manual_seed(5)
    kind = model_class(name)
    model = kind(kind.config_class(embedding_size=3, **settings), data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    weights = {k: v.detach().double().numpy() for k, v in model.named_parameters()}
    return model, weights


def loss_of(model, data):
    terms = model.loss(BATCH, FrozenFeatures(data.features)())
    return {name: term.item() for name, term in terms.items()}


def check(got, wanted):
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, rel=1e-6), name


def check_embeddings(model, data, users, items):
    got = encode(model, FrozenFeatures(data.features))
    np.testing.assert_allclose(got.users, users, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.items, items, rtol=1e-5, atol=1e-6)


def chosen(users, items):
    """The batch's user, positive and negative rows."""
    return users[BATCH.users.numpy()], items[BATCH.positives], items[BATCH.negatives]


def naive_bpr(users, items):
    """-log σ by its definition, one triple at a time."""
    total = 0.0
    for user, positive, negative in zip(*chosen(users, items), strict=True):
        difference = sum(user * positive) - sum(user * negative)
        total += -np.log(1 / (1 + np.exp(-difference)))
    return total / len(BATCH.users)


def naive_l2(*arrays):
    return sum((array**2).sum() for array in arrays) / 2 / len(BATCH.users)


def adjacency(matrix):
    """D^-1/2 [0 R; Rᵀ 0] D^-1/2."""
    n_users, n_items = matrix.shape
    whole = np.zeros((n_users + n_items, n_users + n_items))
    whole[:n_users, n_users:] = matrix
    whole[n_users:, :n_users] = matrix.T
    degrees = whole.sum(axis=1)
    root = np.array([1 / d**0.5 if d else 0 for d in degrees])
    return root[:, None] * whole * root[None, :]


def naive_lightgcn(matrix, users, items, layers):
    whole, embeddings = adjacency(matrix), np.concatenate([users, items])
    powers = [np.linalg.matrix_power(whole, layer) @ embeddings for layer in range(layers + 1)]
    mean = sum(powers) / (layers + 1)
    return mean[: len(users)], mean[len(users) :]


def naive_graph(vectors, k):
    """D^-1/2 A D^-1/2 of the k nearest by cosine; zero vectors take no part."""
    n = len(vectors)
    graph = np.zeros((n, n))
    usable = [i for i in range(n) if vectors[i].any()]
    for i in usable:
        cosines = {
            j: vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j])
            for j in usable
            if j != i
        }
        for j in sorted(cosines, key=cosines.get, reverse=True)[:k]:
            graph[i, j] = 1
    degrees = graph.sum(axis=1)
    root = np.array([1 / d**0.5 if d else 0 for d in degrees])
    return root[:, None] * graph * root[None, :]


def test_popularity(small):
    model = MODELS["popularity"](MODELS["popularity"].config_class(), small)
    matrix = small.train.matrix.toarray()
    check_embeddings(model, small, np.ones((5, 1)), matrix.sum(axis=0)[:, None])


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


def test_bpr(small):
    model, w = built("bpr", small, reg=0.3)
    check_embeddings(model, small, w["users"], w["items"])
    wanted = {
        "bpr": naive_bpr(w["users"], w["items"]),
        "l2": 0.3 * naive_l2(*chosen(w["users"], w["items"])),
    }
    check(loss_of(model, small), wanted)


def test_lightgcn(small):
    model, w = built("lightgcn", small, reg=0.3, layers=3)
    matrix = small.train.matrix.toarray()
    users, items = naive_lightgcn(matrix, w["users"], w["items"], 3)
    check_embeddings(model, small, users, items)
    wanted = {
        "bpr": naive_bpr(users, items),
        "l2": 0.3 * naive_l2(*chosen(w["users"], w["items"])),
    }
    check(loss_of(model, small), wanted)


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
        weight, bias = w[f"project.{modality}.weight"], w[f"project.{modality}.bias"]
        projected = small.features.tables[modality] @ weight.T + bias
        wanted[f"bpr_{modality}"] = 0.2 * naive_bpr(users, projected)
    check(loss_of(model, small), wanted)


def test_freedom_without_modality_terms_has_no_projections(small):
    model, _ = built("freedom", small, reg=0)
    assert [name for name, _ in model.named_parameters()] == ["users", "items"]
