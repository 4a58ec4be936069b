"""MMGCL against a plain dense float64 transcription of its equations, on 5 × 6."""

import numpy as np
import pytest
import torch
from support.equations import BATCH, built, check, naive_bpr, naive_lightgcn

from recommend.convolutions import (
    light_graph_convolution,
    light_graph_convolution_of_items,
    light_graph_convolution_of_users,
)
from recommend.sampling import Batch
from recommend.sources import FrozenFeatures
from recommend.sparse import SparseMatrix

TEMPERATURE, ALPHA, LAYERS = 0.4, 0.7, 3


def unit(vector):
    norm = np.linalg.norm(vector)
    return vector / norm if norm else vector


def naive_sides(w, tables):
    sides = [w["items"]]
    for modality, table in tables.items():
        weight = w[f"project.{modality}.weight"]
        sides.append(np.array([weight @ unit(f) for f in table.astype(np.float64)]))
    return sides


def naive_parts(w, matrices, sides):
    """Each view over its own graph: its users and its items."""
    return [
        naive_lightgcn(matrix, w["users"], side, LAYERS)
        for matrix, side in zip(matrices, sides, strict=True)
    ]


def naive_fused(w, parts):
    users = np.concatenate([users for users, _ in parts], axis=1)
    items = np.concatenate([items for _, items in parts], axis=1)
    return (
        users @ w["fuse_users.weight"].T + w["fuse_users.bias"],
        items @ w["fuse_items.weight"].T + w["fuse_items.bias"],
    )


def naive_info_nce(anchors, others, rows):
    total = 0.0
    for row in rows:
        similar = {
            other: np.exp(unit(anchors[row]) @ unit(others[other]) / TEMPERATURE) for other in rows
        }
        total -= np.log(similar[row] / sum(similar.values()))
    return total / len(rows)


def naive_challenge(w, anchors, parts, present):
    means = []
    for view, there in enumerate(present, start=1):
        losses = []
        for positive, negative in zip(BATCH.positives, BATCH.negatives, strict=True):
            if not (there[positive] and there[negative]):
                continue
            own = [items[positive] for _, items in parts]
            swapped = [*own[:view], parts[view][1][negative], *own[view + 1 :]]
            right, wrong = (
                np.exp(unit(anchors[positive]) @ unit(fused) / TEMPERATURE)
                for fused in (
                    w["fuse_items.weight"] @ np.concatenate(vectors) + w["fuse_items.bias"]
                    for vectors in (own, swapped)
                )
            )
            losses.append(-np.log(right / (right + wrong)))
        means.append(np.mean(losses))
    return np.mean(means)


def naive_terms(w, data, matrices, masking_matrix, masked, noise):
    matrix, sides = data.train.matrix.toarray(), naive_sides(w, data.features.tables)
    parts = naive_parts(w, matrices, sides)
    dropped = naive_fused(w, parts)
    hidden = [noise if view == masked else side for view, side in enumerate(sides)]
    behind = naive_fused(w, naive_parts(w, [masking_matrix] * len(sides), hidden))
    whole = naive_fused(w, naive_parts(w, [matrix] * len(sides), sides))
    users, items = sorted(set(BATCH.users.tolist())), sorted(set(BATCH.positives.tolist()))
    present = data.features.present.values()
    return {
        "bpr": naive_bpr(*whole),
        "users": ALPHA * naive_info_nce(behind[0], dropped[0], users),
        "items": ALPHA * naive_info_nce(behind[1], dropped[1], items),
        "challenge": ALPHA * naive_challenge(w, behind[1], parts, present),
    }


def of_small(small, **settings):
    settings = {"layers": LAYERS, "ssl_alpha": ALPHA, "ssl_temperature": TEMPERATURE, **settings}
    model, w = built("mmgcl", small, **settings)
    return model.double(), w


def doubles(data):
    tables = FrozenFeatures(data.features)()
    return {modality: table.double() for modality, table in tables.items()}


def terms_of(model, data, seed=11):
    torch.manual_seed(seed)
    terms = model.loss(BATCH, doubles(data))
    return {name: term.item() for name, term in terms.items()}


def replayed(seed=11):
    """The draws of one step: which modality is masked, of two as likely, and its noise."""
    torch.manual_seed(seed)
    masked = 1 + torch.multinomial(torch.tensor([0.5, 0.5]), 1).item()
    bound = (6 / (6 + 3)) ** 0.5
    return masked, torch.empty(6, 3, dtype=torch.float64).uniform_(-bound, bound).numpy()


def edges(graph):
    return (graph @ torch.eye(6)).numpy() > 0


def test_embeddings(small):
    model, w = of_small(small)
    matrix, sides = small.train.matrix.toarray(), naive_sides(w, small.features.tables)
    users, items = naive_fused(w, naive_parts(w, [matrix] * 3, sides))
    with torch.no_grad():
        got = model.encode(doubles(small))
    np.testing.assert_allclose(got.users, users, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(got.items, items, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))  # of which some mask the one, some the other
def test_loss_with_masking_alone(seed, small):
    model, w = of_small(small, edge_dropout=0, node_dropout=0, image_masking=0.5)
    model.begin_epoch({}, np.random.default_rng(0))
    matrix = small.train.matrix.toarray()
    wanted = naive_terms(w, small, [matrix] * 3, matrix, *replayed(seed))
    check(terms_of(model, small, seed), wanted)


def test_loss_over_the_epochs_graphs(small):
    model, w = of_small(small, edge_dropout=0.4, node_dropout=0.2, image_masking=0.5)
    model.begin_epoch({}, np.random.default_rng(2))
    matrices = [edges(graph).astype(float) for graph in model.view_graphs]
    masking_matrix = edges(model.masking_graph).astype(float)
    check(terms_of(model, small), naive_terms(w, small, matrices, masking_matrix, *replayed()))


def test_each_view_drops_edges_of_its_own_anew_each_epoch(small):
    model, _ = built("mmgcl", small, edge_dropout=0.4)
    generator, matrix, drawn = np.random.default_rng(0), small.train.matrix.toarray(), []
    for _ in range(2):
        model.begin_epoch({}, generator)
        drawn += [edges(graph) for graph in model.view_graphs]
    assert len(drawn) == 2 * 3
    for kept in drawn:
        assert kept.sum() == int(0.6 * matrix.sum())
        assert (kept <= matrix).all()
    assert len({kept.tobytes() for kept in drawn}) == 6


def test_the_masking_graph_lacks_nodes_with_all_their_edges(small):
    model, _ = built("mmgcl", small, node_dropout=0.4)
    generator, matrix, shares = np.random.default_rng(4), small.train.matrix.toarray(), []
    for _ in range(300):
        model.begin_epoch({}, generator)
        kept = edges(model.masking_graph)
        users, items = kept.any(axis=1), kept.any(axis=0)
        assert (kept == matrix * users[:, None] * items[None, :]).all()
        assert len(model.masking_graph.rows.values) == kept.sum()
        shares.append(kept.sum() / matrix.sum())
    # An edge stays when both of its nodes do.
    assert np.mean(shares) == pytest.approx(0.6 * 0.6, abs=0.04)


def test_the_second_view_is_used(small):
    """Known code contrasts the first with itself: then other noise would change nothing."""
    model, _ = of_small(small)
    one, other = terms_of(model, small, seed=1), terms_of(model, small, seed=2)
    assert one["bpr"] == other["bpr"]
    for name in ("users", "items", "challenge"):
        assert one[name] != other[name]


def test_no_user_and_no_item_is_its_own_negative(small):
    """The same pair twice in a batch contrasts nothing new."""
    model, _ = of_small(small)
    twice = Batch(
        *(torch.cat([rows, rows]) for rows in (BATCH.users, BATCH.positives, BATCH.negatives))
    )
    terms = []
    for batch in (BATCH, twice):
        torch.manual_seed(3)
        terms.append({k: v.item() for k, v in model.loss(batch, doubles(small)).items()})
    check(*terms)


@pytest.mark.parametrize(("chance", "hidden"), [(1.0, "image"), (0.0, "text")])
def test_a_masked_modality_has_no_part_in_the_second_view(chance, hidden, small):
    model, _ = of_small(small, image_masking=chance)
    sides = model._item_sides(doubles(small))
    for seed in range(5):
        torch.manual_seed(seed)
        same = [new is old for new, old in zip(model._mask(sides), sides, strict=True)]
        assert same == [True, hidden != "image", hidden != "text"]


def test_pairs_that_lack_a_modality_are_not_swapped(small):
    """Of the batch's items, 4 has no image and 5 no text: both are in it, on either side."""
    model, _ = of_small(small)
    parts = [torch.randn(6, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    vectors = torch.randn(6, 3, dtype=torch.float64)
    assert BATCH.items.tolist() == list(range(6))
    model._challenge(BATCH, vectors, vectors + 1, parts).backward()
    moved = [part.grad.any(dim=1).tolist() for part in parts]
    # (1, 3), (2, 0), (0, 4), (5, 1), (4, 5) are the pairs.
    assert moved == [[True] * 4 + [False, True], [True] * 5 + [False]]


@pytest.mark.parametrize("rows", [None, torch.tensor([3, 0, 3])])
@pytest.mark.parametrize("layers", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_side_of_a_light_graph_convolution(dtype, layers, rows, small):
    """It and its gradient are those of both sides."""
    torch.manual_seed(0)
    graph = SparseMatrix(small.train.matrix * 0.3)
    tables = [torch.randn(n, 3, dtype=dtype, requires_grad=True) for n in (5, 6)]
    both = light_graph_convolution(graph, *tables, layers)
    sides = (light_graph_convolution_of_users, light_graph_convolution_of_items)
    for whole, one_side in zip(both, sides, strict=True):
        wanted = whole if rows is None else whole[rows]
        got = one_side(graph, *tables, layers, rows)
        torch.testing.assert_close(got, wanted)
        direction = torch.randn_like(got)
        gradients = [
            torch.autograd.grad(
                (vectors * direction).sum(), tables, retain_graph=True, materialize_grads=True
            )
            for vectors in (got, wanted)
        ]
        torch.testing.assert_close(*gradients)
