"""SLMRec against a plain dense float64 transcription of its equations, on 5 × 6."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.equations import built, check, naive_lightgcn
from torch.nn import functional as F

from recommend.features import FeatureStore
from recommend.models import TrainingData
from recommend.sampling import Batch

# Users and positive items stand in it twice.
BATCH = Batch(
    users=torch.tensor([0, 1, 2, 3, 0, 4]),
    positives=torch.tensor([1, 2, 0, 5, 4, 0]),
    negatives=torch.tensor([3, 0, 4, 1, 5, 1]),
)
SETTINGS = {"layers": 2, "temperature": 0.4, "ssl_temperature": 0.3, "ssl_alpha": 0.7, "reg": 0.2}
USERS, POSITIVES = [0, 1, 2, 3, 4], [0, 1, 2, 4, 5]


def in_double(model, data):
    """The model and its features in float64, as a float32 product is exact to 1e-7 only."""
    tables = {m: torch.from_numpy(t.astype(np.float64)) for m, t in data.features.tables.items()}
    return model.double(), tables


def loss_of(model, tables, batch=BATCH):
    return {name: term.item() for name, term in model.loss(batch, tables).items()}


def unit(vectors):
    return np.array([v / np.linalg.norm(v) for v in vectors])


def naive_info_nce(anchors, others, temperature):
    total = 0.0
    for i, anchor in enumerate(unit(anchors)):
        powers = [np.exp(anchor @ other / temperature) for other in unit(others)]
        total -= np.log(powers[i] / sum(powers))
    return total / len(anchors)


def naive_content(data, w):
    """x_m of each modality, one item at a time."""
    content = {}
    for modality, table in data.features.tables.items():
        weight = w[f"project.{modality}.weight"]
        rows = [
            weight @ (row / np.linalg.norm(row)) if row.any() else np.zeros(len(weight))
            for row in table.astype(float)
        ]
        content[modality] = np.array(rows)
    return content


def naive_views(data, w, content):
    """A LightGCN of its own for each view."""
    matrix = data.train.matrix.toarray()
    starts = [w["items"], *content.values()]
    return [naive_lightgcn(matrix, w["users"], start, SETTINGS["layers"]) for start in starts]


def naive_fused(w, views):
    users = np.concatenate([users for users, _ in views], axis=1)
    items = np.concatenate([items for _, items in views], axis=1)
    return (
        users @ w["fuse_users.weight"].T + w["fuse_users.bias"],
        items @ w["fuse_items.weight"].T + w["fuse_items.bias"],
    )


def naive_main(users, items):
    return naive_info_nce(users[BATCH.users], items[BATCH.positives], 0.4)


def naive_fine_and_coarse(data, w, views):
    total, common = 0.0, views[0][1]
    for (modality, present), (_, view) in zip(
        data.features.present.items(), views[1:], strict=True
    ):
        common = common @ w[f"common.{modality}.weight"].T + w[f"common.{modality}.bias"]
        own = view @ w[f"own.{modality}.weight"].T + w[f"own.{modality}.bias"]
        rows = [row for row in POSITIVES if present[row]]
        total += naive_info_nce(common[rows], own[rows], 0.3)
    return total


def squares(w):
    chosen = w["users"][BATCH.users], w["items"][BATCH.positives]
    return 0.2 * sum((vectors**2).sum() for vectors in chosen) / 2 / 6


@pytest.mark.parametrize(
    "modalities", [["text"], ["image", "text"], ["text", "image", "fused"]], ids="+".join
)
def test_slmrec_fine_and_coarse(small, modalities):
    fused = np.random.default_rng(4).standard_normal((6, 2))
    store = FeatureStore.from_arrays({**small.features.tables, "fused": fused})
    data = TrainingData(small.train, store.only(modalities))
    model, w = built("slmrec", data, **SETTINGS)
    model, tables = in_double(model, data)
    views = naive_views(data, w, naive_content(data, w))
    users, items = naive_fused(w, views)
    got = model.encode(tables).detached()
    np.testing.assert_allclose(got.users, users, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(got.items, items, rtol=1e-6, atol=1e-7)
    wanted = {
        "main": naive_main(users, items),
        "fac": 0.7 * naive_fine_and_coarse(data, w, views),
        "l2": squares(w),
    }
    check(loss_of(model, tables), wanted)


def drawn_masks(task, n_modalities, seed):
    """What torch's generator gives for the first and the second copy."""
    torch.manual_seed(seed)
    shape = (6, n_modalities, 3 if task == "fd" else 1)
    return [F.dropout(torch.ones(shape, dtype=torch.float64), 0.4).numpy() for _ in range(2)]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("task", ["fd", "fm"])
def test_slmrec_feature_dropout_and_masking(small, task, training):
    model, w = built("slmrec", small, task=task, dropout=0.4, **SETTINGS)
    model, tables = in_double(model, small)
    model.train(training)
    content = naive_content(small, w)
    users, items = naive_fused(w, naive_views(small, w, content))
    copies = []
    for mask in drawn_masks(task, len(content), seed=3):
        assert set(np.unique(mask)) == {0, 1 / 0.6}
        kept = mask if training else np.ones_like(mask)
        dropped = {name: x * kept[:, m] for m, (name, x) in enumerate(content.items())}
        copies.append(naive_fused(w, naive_views(small, w, dropped)))
    (users_1, items_1), (users_2, items_2) = copies
    contrast = naive_info_nce(users_1[USERS], users_2[USERS], 0.3)
    contrast += naive_info_nce(items_1[POSITIVES], items_2[POSITIVES], 0.3)
    wanted = {"main": naive_main(users, items), task: 0.7 * contrast, "l2": squares(w)}
    torch.manual_seed(3)
    check(loss_of(model, tables), wanted)


@pytest.mark.parametrize("task", ["fd", "fm"])
def test_every_parameter_of_the_other_tasks_has_a_gradient(small, task):
    model, _ = built("slmrec", small, task=task, **SETTINGS)
    model, tables = in_double(model, small)
    sum(model.loss(BATCH, tables).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_the_batchs_negative_items_are_not_used(small):
    model, _ = built("slmrec", small, **SETTINGS)
    model, tables = in_double(model, small)
    other = replace(BATCH, negatives=BATCH.negatives.flip(0))
    assert loss_of(model, tables) == loss_of(model, tables, other)


def test_reg_counts(small):
    losses = []
    for reg in (0.0, 0.5):
        model, _ = built("slmrec", small, **{**SETTINGS, "reg": reg})
        model, tables = in_double(model, small)
        losses.append(loss_of(model, tables)["l2"])
    assert losses[0] == 0 < losses[1]


def test_a_batch_without_any_content_is_finite_and_has_no_contrast(small):
    nothing = FeatureStore.from_arrays({"text": np.zeros((6, 3), np.float32)})
    data = replace(small, features=nothing)
    model, _ = built("slmrec", data, **SETTINGS)
    model, tables = in_double(model, data)
    terms = model.loss(BATCH, tables)
    assert terms["fac"].item() == 0
    sum(terms.values()).backward()
    assert torch.isfinite(terms["main"])
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_gradients_reach_the_features_that_are_handed_in(small):
    model, _ = built("slmrec", small, **SETTINGS)
    model, tables = in_double(model, small)
    for table in tables.values():
        table.requires_grad_()
    sum(model.loss(BATCH, tables).values()).backward()
    for modality, table in tables.items():
        assert torch.isfinite(table.grad).all()
        assert table.grad[small.features.present[modality]].any()
