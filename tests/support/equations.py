"""For the tests that hold a model against a plain dense float64 transcription of its equations."""

import numpy as np
import pytest
import torch

from recommend.models import model_class
from recommend.sampling import Batch
from recommend.sources import FrozenFeatures
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


def check_absent_items_give_nothing(model, data):
    """Item 4 lacks the image and item 5 the text, whatever their tables hold."""
    tables = {m: torch.from_numpy(t.copy()) for m, t in data.features.tables.items()}
    wanted = model.encode(tables)
    tables["image"][4], tables["text"][5] = 7, -7
    got = model.encode(tables)
    assert torch.equal(got.users, wanted.users)
    assert torch.equal(got.items, wanted.items)
