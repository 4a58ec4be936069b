"""LayerGCN against a plain dense float64 transcription of its equations, on 5 × 6."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.equations import (
    BATCH,
    adjacency,
    built,
    check,
    check_embeddings,
    chosen,
    loss_of,
    naive_bpr,
    naive_l2,
)

from recommend.models import TrainingData


def naive_layers(matrix, users, items, layers):
    """Σ_{l=1..L} of the refined layers, one node at a time."""
    whole, first = adjacency(matrix), np.concatenate([users, items])
    before, total = first, np.zeros_like(first)
    for _ in range(layers):
        after = np.zeros_like(first)
        for node, weights in enumerate(whole):
            vector = sum(weight * other for weight, other in zip(weights, before, strict=True))
            norms = np.linalg.norm(vector) * np.linalg.norm(first[node])
            cosine = vector @ first[node] / norms if norms else 0
            after[node] = (cosine + 1e-8) * vector
        before, total = after, total + after
    return total[: len(users)], total[len(users) :]


def in_double(data, **settings):
    model, weights = built("layergcn", data, **settings)
    return model.double(), weights


@pytest.mark.parametrize("layers", [1, 3])
def test_layergcn(small, layers):
    model, w = in_double(small, layers=layers, dropout=0.5, reg=0.3)
    matrix = small.train.matrix.toarray()
    check_embeddings(model, small, *naive_layers(matrix, w["users"], w["items"], layers))
    model.begin_epoch({}, np.random.default_rng(1))
    model.double()
    kept = (model.pruned_graph @ torch.eye(6)).numpy() > 0
    users, items = naive_layers(kept.astype(float), w["users"], w["items"], layers)
    l2 = 0.3 * naive_l2(*chosen(w["users"], w["items"]))
    check(loss_of(model, small), {"bpr": naive_bpr(users, items), "l2": l2})


def test_each_epoch_draws_half_of_the_edges_and_ranking_uses_all(small):
    model, w = in_double(small, dropout=0.5, layers=2)
    matrix = small.train.matrix.toarray()
    generator, drawn = np.random.default_rng(0), set()
    for _ in range(10):
        model.begin_epoch({}, generator)
        kept = (model.pruned_graph @ torch.eye(6)).numpy() > 0
        assert kept.sum() == matrix.sum() // 2
        assert (kept <= matrix).all()
        drawn.add(kept.tobytes())
    assert len(drawn) > 5
    check_embeddings(model, small, *naive_layers(matrix, w["users"], w["items"], 2))


def test_without_dropout_training_uses_the_whole_graph(small):
    model, _ = in_double(small, dropout=0)
    model.begin_epoch({}, np.random.default_rng(0))
    assert model.pruned_graph is model.graph


def test_the_gradient_is_that_of_finite_differences(small):
    model, _ = in_double(small, layers=3, dropout=0, reg=0.3)
    sum(model.loss(BATCH, {}).values()).backward()
    step = 1e-6
    for table in (model.users, model.items):
        flat, gradient = table.data.view(-1), table.grad.reshape(-1)
        for place in range(len(flat)):
            values = []
            for sign in (1, -1):
                flat[place] += sign * step
                values.append(sum(loss_of(model, small).values()))
                flat[place] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)
            assert gradient[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_a_node_without_edges_has_a_zero_vector_and_spoils_no_gradient(small):
    # User 5 has no training item.
    data = TrainingData(replace(small.train, n_users=6), small.features)
    model, _ = built("layergcn", data, layers=2, dropout=0)
    batch = replace(BATCH, users=torch.tensor([5, 1, 2, 3, 0]))
    sum(model.loss(batch, {}).values()).backward()
    assert not model.encode({}).users[5].any()
    assert torch.isfinite(model.users.grad).all()
    assert torch.isfinite(model.items.grad).all()
