"""BM3 against a plain dense float64 transcription of its equations, on 5 × 6."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.equations import BATCH, built, check, naive_lightgcn

from recommend.features import FeatureStore
from recommend.models import TrainingData
from recommend.sampling import Batch

MODALITIES = ("image", "text")
SETTINGS = {"layers": 2, "cl_weight": 1.5, "reg": 0.3}


def in_double(data, **settings):
    model, weights = built("bm3", data, **(SETTINGS | settings))
    tables = {m: torch.from_numpy(t).double() for m, t in data.features.tables.items()}
    return model.double(), weights, tables


def values(terms):
    return {name: term.item() for name, term in terms.items()}


def distance(predicted, target):
    """C(a, b) = 1 - cos(a, b); a view that dropout made zero has cosine 0."""
    norms = np.linalg.norm(predicted) * np.linalg.norm(target)
    return 1 - predicted @ target / norms if norms else 1.0


def naive_vectors(data, w):
    """h_u, h_i, and the predictor."""
    matrix = data.train.matrix.toarray()
    users, items = naive_lightgcn(matrix, w["users"], w["items"], 2)
    return users, items + w["items"], lambda h: w["predict.weight"] @ h + w["predict.bias"]


def test_bm3(small):
    model, w, tables = in_double(small, dropout=0)
    users, items, predict = naive_vectors(small, w)
    got = model.eval().encode(tables).detached()
    model.train()
    np.testing.assert_allclose(got.users, [predict(h) for h in users], rtol=1e-6)
    np.testing.assert_allclose(got.items, [predict(h) for h in items], rtol=1e-6)

    pairs = list(zip(BATCH.users.tolist(), BATCH.positives.tolist(), strict=True))
    rec = [
        distance(predict(users[u]), items[i]) + distance(predict(items[i]), users[u])
        for u, i in pairs
    ]
    squares = [users[u] @ users[u] + items[i] @ items[i] for u, i in pairs]
    wanted = {"rec": np.mean(rec), "l2": 0.3 * np.mean(squares) / 2}
    for modality in MODALITIES:
        weight, bias = w[f"project.{modality}.weight"], w[f"project.{modality}.bias"]
        table = small.features.tables[modality].astype(float)
        align, mask = [], []
        for _, i in pairs:
            if table[i].any():
                content = weight @ table[i] + bias
                align.append(distance(predict(content), items[i]))
                mask.append(distance(predict(content), content))
        # Item 4 has no image and item 5 no text.
        assert len(align) == 4
        wanted[f"align_{modality}"] = 1.5 * np.mean(align)
        wanted[f"mask_{modality}"] = 1.5 * np.mean(mask)
    check(values(model.loss(BATCH, tables)), wanted)


def test_an_item_counts_as_often_as_it_stands_in_the_batch(small):
    model, _, tables = in_double(small, dropout=0)

    def terms(users, positives):
        rows = (torch.tensor(users), torch.tensor(positives))
        return values(model.loss(Batch(*rows, negatives=rows[1]), tables))

    repeated = terms([0, 2, 4, 1], [0, 0, 0, 2])
    zero, two = terms([0, 2, 4], [0, 0, 0]), terms([1], [2])
    check(repeated, {name: (3 * zero[name] + two[name]) / 4 for name in zero})


def test_negatives_play_no_part(small):
    model, _, tables = in_double(small, dropout=0)
    other = replace(BATCH, negatives=BATCH.positives)
    assert values(model.loss(BATCH, tables)) == values(model.loss(other, tables))


def test_dropout_makes_the_targets_only_and_none_of_it_in_evaluation(small):
    model, w, tables = in_double(small, dropout=0.5, cl_weight=0)
    torch.manual_seed(3)
    got = model.loss(BATCH, tables)["rec"].item()
    users, items, predict = naive_vectors(small, w)
    # The masks in the order of their drawing: of the batch's users, of its distinct items.
    torch.manual_seed(3)
    user_masks = (torch.rand(5, 3, dtype=torch.float64) >= 0.5).numpy()
    item_masks = (torch.rand(5, 3, dtype=torch.float64) >= 0.5).numpy()
    assert 0 < user_masks.sum() < 15
    mask_of = dict(zip(sorted(BATCH.positives.tolist()), item_masks, strict=True))
    pairs = zip(BATCH.users.tolist(), BATCH.positives.tolist(), user_masks, strict=True)
    wanted = [
        distance(predict(users[u]), items[i] * mask_of[i])
        + distance(predict(items[i]), users[u] * mask)
        for u, i, mask in pairs
    ]
    assert got == pytest.approx(np.mean(wanted), rel=1e-6)
    model.eval()
    plain, _, _ = in_double(small, dropout=0, cl_weight=0)
    assert values(model.loss(BATCH, tables)) == values(plain.loss(BATCH, tables))


def test_targets_pass_no_gradient(small):
    """The gradient is that of the loss with the targets held fast, by finite differences."""
    model, w, tables = in_double(small, dropout=0, reg=0)
    model.loss(BATCH, tables)["rec"].backward()
    users, items, _ = naive_vectors(small, w)
    pairs = list(zip(BATCH.users.tolist(), BATCH.positives.tolist(), strict=True))
    step = 1e-6
    for row, column in np.ndindex(w["users"].shape):
        losses = []
        for sign in (1, -1):
            moved = {**w, "users": w["users"].copy()}
            moved["users"][row, column] += sign * step
            own_users, own_items, predict = naive_vectors(small, moved)
            total = [
                distance(predict(own_users[u]), items[i])
                + distance(predict(own_items[i]), users[u])
                for u, i in pairs
            ]
            losses.append(np.mean(total))
        slope = (losses[0] - losses[1]) / (2 * step)
        assert model.users.grad[row, column].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_the_modality_terms_reach_the_tables_but_not_the_item_vectors(small):
    """A live encoder may stand behind the features; the item side is a target."""
    model, _, tables = in_double(small, dropout=0)
    tables = {modality: table.requires_grad_() for modality, table in tables.items()}
    terms = model.loss(BATCH, tables)
    sum(term for name, term in terms.items() if name not in ("rec", "l2")).backward()
    assert model.users.grad is None
    assert model.items.grad is None
    has = {"image": [0, 1, 2, 5], "text": [0, 1, 2, 4]}
    for modality, rows in has.items():
        touched = tables[modality].grad.abs().sum(dim=1) > 0
        assert touched.nonzero().flatten().tolist() == rows


def test_a_batch_without_any_present_item_has_zero_modality_terms(small):
    arrays = dict(small.features.tables)
    arrays["image"] = np.zeros_like(arrays["image"])
    arrays["image"][3] = 1
    data = TrainingData(small.train, FeatureStore.from_arrays(arrays))
    model, _, tables = in_double(data)
    terms = model.loss(BATCH, tables)
    sum(terms.values()).backward()
    assert terms["align_image"].item() == terms["mask_image"].item() == 0
    assert torch.isfinite(model.predict.weight.grad).all()


def test_without_modality_terms_there_are_no_projections(small):
    model, _, _ = in_double(small, cl_weight=0)
    assert "project" not in {name.split(".")[0] for name, _ in model.named_parameters()}
