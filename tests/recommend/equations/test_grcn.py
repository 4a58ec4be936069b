"""GRCN against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np
import pytest
import torch
from support.equations import (
    built,
    check,
    check_absent_items_give_nothing,
    check_embeddings,
    loss_of,
    naive_bpr,
    naive_l2,
)

from recommend.models import model_class

MODALITIES = ("image", "text")


def unit(vector):
    return vector / np.sqrt((vector**2).sum())


def softmax(logits):
    """Over the values of a dictionary."""
    total = sum(np.exp(value) for value in logits.values())
    return {key: np.exp(value) / total for key, value in logits.items()}


def naive_content(data, w, modality):
    content = np.zeros((6, 2))
    for item, vector in enumerate(data.features.tables[modality].astype(float)):
        if vector.any():
            weight, bias = w[f"project.{modality}.weight"], w[f"project.{modality}.bias"]
            content[item] = unit(weight @ vector + bias)
    return content


def naive_prototype(own, content, routings):
    own = unit(own)
    for _ in range(routings):
        shares = softmax({item: own @ x for item, x in enumerate(content) if x.any()})
        own = unit(own + sum(share * content[item] for item, share in shares.items()))
    return own


def naive_modality(data, w, modality, routings):
    """Affinities towards users and items, and the modality's vectors."""
    matrix, content = data.train.matrix.toarray(), naive_content(data, w, modality)
    taken = [np.flatnonzero(row) for row in matrix]
    start = w[f"prototypes.{modality}"]
    prototypes = np.array(
        [naive_prototype(start[u], content[taken[u]], routings) for u in range(5)]
    )
    to_users, to_items = np.zeros((5, 6)), np.zeros((5, 6))
    for u in range(5):
        for item, share in softmax({i: prototypes[u] @ content[i] for i in taken[u]}).items():
            to_users[u, item] = share
    for i in range(6):
        takers = np.flatnonzero(matrix[:, i])
        for user, share in softmax({u: prototypes[u] @ content[i] for u in takers}).items():
            to_items[user, i] = share
    users, items = prototypes + to_users @ content, content + to_items.T @ prototypes
    return to_users, to_items, users, items


def naive_vectors(data, w, layers, routings):
    found = [naive_modality(data, w, modality, routings) for modality in MODALITIES]
    graph = np.zeros((11, 11))
    for u in range(5):
        for i in range(6):
            of_user = [w["user_confidence"][u, m] * found[m][0][u, i] for m in range(2)]
            of_item = [w["item_confidence"][i, m] * found[m][1][u, i] for m in range(2)]
            graph[u, 5 + i], graph[5 + i, u] = max(0, *of_user), max(0, *of_item)
    start = np.concatenate([w["users"], w["items"]])
    ids = sum(np.linalg.matrix_power(graph, power) @ start for power in range(layers + 1))
    users = np.concatenate([ids[:5], found[0][2], found[1][2]], axis=1)
    items = np.concatenate([ids[5:], found[0][3], found[1][3]], axis=1)
    return users, items, graph


@pytest.mark.parametrize(("layers", "routings"), [(0, 0), (1, 3), (3, 1)])
def test_grcn(small, layers, routings):
    settings = {"layers": layers, "routings": routings, "content_size": 2, "reg": 0.2}
    model, w = built("grcn", small, **settings)
    users, items, graph = naive_vectors(small, w, layers, routings)
    edges = small.train.matrix.toarray() > 0
    pruned = edges & (graph[:5, 5:] == 0)
    assert pruned.any()
    assert (edges & ~pruned).any()
    check_embeddings(model, small, users, items)
    taken, batch_users = ([1, 2, 0, 5, 4], [3, 0, 4, 1, 5]), [0, 1, 2, 3, 0]
    own = [w[name][batch_users] for name in ("users", "prototypes.image", "prototypes.text")]
    l2 = naive_l2(*own, *(w["items"][rows] for rows in taken))
    check(loss_of(model, small), {"bpr": naive_bpr(users, items), "l2": 0.2 * l2})


def test_the_edges_weights_have_gradients(small):
    """Of the confidences by finite differences, through the maximum and the propagation."""
    model, w = built("grcn", small, layers=2, content_size=2)
    tables = {m: torch.from_numpy(t).double() for m, t in small.features.tables.items()}
    model.double()
    score = sum(part.square().sum() for part in vars(model.encode(tables)).values())
    score.backward()
    step = 1e-6
    for name in ("user_confidence", "project.image.weight", "prototypes.text"):
        gradient = model.get_parameter(name).grad.numpy()
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        scores = []
        for sign in (1, -1):
            moved = {key: value.copy() for key, value in w.items()}
            moved[name][place] += sign * step
            users, items, _ = naive_vectors(small, moved, 2, 3)
            scores.append((users**2).sum() + (items**2).sum())
        wanted = (scores[0] - scores[1]) / (2 * step)
        assert gradient[place] == pytest.approx(wanted, rel=1e-5)


def test_an_item_without_a_modality_gives_nothing_to_it(small):
    check_absent_items_give_nothing(built("grcn", small)[0], small)


def test_no_edge_is_pruned_at_the_start_and_every_edge_can_be(small):
    torch.manual_seed(0)
    kind = model_class("grcn")
    model = kind(kind.config_class(embedding_size=4, layers=1), small)
    tables = {m: torch.from_numpy(t) for m, t in small.features.tables.items()}
    ids = model.encode(tables).users[:, :4]
    assert ((ids - model.users).abs().sum(dim=1) > 0).all()
    with torch.no_grad():
        model.user_confidence.neg_()
    assert torch.equal(model.encode(tables).users[:, :4], model.users)
