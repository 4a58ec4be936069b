"""DualGNN against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np
import pytest
import torch
from support.equations import (
    adjacency,
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


def naive_shared(matrix, fused, k):
    """Each user's vector plus the softmax-weighted sum of those of its k closest users."""
    shared = fused.copy()
    for user, own in enumerate(matrix):
        common = {other: own @ matrix[other] for other in range(5) if other != user}
        closest = sorted((o for o in common if common[o]), key=lambda o: (-common[o], o))[:k]
        total = sum(np.exp(common[other]) for other in closest)
        for other in closest:
            shared[user] += np.exp(common[other]) / total * fused[other]
    return shared


def naive_vectors(data, w, layers, k):
    matrix = data.train.matrix.toarray().astype(float)
    whole = adjacency(matrix)
    fused, items = np.zeros((5, 3)), np.zeros((6, 3))
    for m, modality in enumerate(MODALITIES):
        content = np.zeros((6, 3))
        for item, vector in enumerate(data.features.tables[modality].astype(float)):
            if vector.any():
                weight, bias = w[f"project.{modality}.weight"], w[f"project.{modality}.bias"]
                content[item] = weight @ vector + bias
        start = np.concatenate([w["preferences"][:, 3 * m : 3 * m + 3], content])
        total = sum(np.linalg.matrix_power(whole, power) @ start for power in range(layers + 1))
        for user in range(5):
            logits = np.exp(w["fusion"][user])
            fused[user] += logits[m] / logits.sum() * total[user]
        items += total[5:]
    return naive_shared(matrix, fused, k), items


@pytest.mark.parametrize(("layers", "k"), [(0, 1), (1, 40), (2, 2)])
def test_dualgnn(small, layers, k):
    model, w = built("dualgnn", small, layers=layers, neighbours=k, reg=0.2)
    users, items = naive_vectors(small, w, layers, k)
    check_embeddings(model, small, users, items)
    batch_users = [0, 1, 2, 3, 0]
    l2 = naive_l2(w["preferences"][batch_users])
    check(loss_of(model, small), {"bpr": naive_bpr(users, items), "l2": 0.2 * l2})


def test_an_item_without_a_modality_gives_nothing_to_it(small):
    check_absent_items_give_nothing(built("dualgnn", small)[0], small)


def test_every_user_starts_with_equal_weights_and_shares_with_users_that_are_like_it(small):
    torch.manual_seed(0)
    kind = model_class("dualgnn")
    model = kind(kind.config_class(neighbours=1), small)
    assert not model.fusion.any()
    # Of the pairs with common items 0-4 has two, 2-0, 1-0 and 3-1 one each, the lower row first.
    assert model.neighbours[:, 0].tolist() == [4, 0, 0, 1, 0]
    np.testing.assert_allclose(model.neighbour_weights, np.ones((5, 1)))
