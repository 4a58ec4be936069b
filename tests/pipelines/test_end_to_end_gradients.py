"""The gradient of a recommender's loss at an encoder's weights is that of one plain graph."""

import math

import numpy as np
import pytest
import torch
from support.live_setting import Setting, assert_like_the_plain_graph
from support.tiny_clip import write_tiny_clip
from support.tiny_vlmo import tiny_vlmo
from support.two_towers import (
    BOTH,
    ITEMS,
    TwoTowers,
    assert_same_gradients,
    having,
    write_items,
)

from extract.encoders import create_encoder
from extract.finetune.optimizer import set_training
from recommend.models import MODELS

TRAINED = sorted(name for name in set(MODELS) - {"itemknn"} if MODELS[name].uses_features)
# The issue's, and all others there are.
WANTED = {"vbpr", "lattice", "freedom", "mmgcl", "slmrec", "mmgcn", "bm3"}
# SLMRec's other tasks, which have chance of their own.
TASKS = ("slmrec-fd", "slmrec-fm")
FUSED = (*BOTH, "fused")
JOINT_WEIGHTS = {"joint.1.weight", "joint.1.bias"}
# Weights on which no ranking loss over pictures and texts depends.
NOT_RANKED = {"log_scale"} | JOINT_WEIGHTS
KEPT = {"states": {"image", "text"}, "inputs": {"image"}, "nothing": set()}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_items(tmp_path_factory.mktemp("items"))


@pytest.fixture(scope="module")
def large_pictures(tmp_path_factory):
    return write_items(tmp_path_factory.mktemp("large"), 32)


def freeze(encoder, *parts):
    """Freeze the weights whose names have one of some parts; gives the names."""
    frozen = {name for name, _ in encoder.named_parameters() if any(part in name for part in parts)}
    for name in frozen:
        encoder.get_parameter(name).requires_grad_(False)
    return frozen


def test_all_models_that_are_trained_on_features_are_here():
    assert set(TRAINED) > WANTED
    assert len(TRAINED) == 10


@pytest.mark.parametrize("chunk", [1, 3, None])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", [*TRAINED, *TASKS])
def test_of_every_model(catalog, name, dropout, chunk):
    setting = Setting(TwoTowers(dropout), catalog, name, chunk)
    assert_like_the_plain_graph(setting, NOT_RANKED)


def test_dropout_is_on_where_it_is_wanted(catalog):
    """Otherwise the half of what is held here would be held in vain."""
    setting = Setting(TwoTowers(0.4), catalog)
    batch = setting.batches[0]
    losses = set()
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        losses.add(setting.model.loss(batch, setting.features(batch.items))["bpr"].item())
    assert len(losses) == 2
    quiet = Setting(TwoTowers(0.4), catalog, dropout=False)
    assert not any(module.training for module in quiet.encoder.modules())
    assert_like_the_plain_graph(quiet, NOT_RANKED)


@pytest.mark.parametrize("keep", ["states", "inputs", "nothing"])
@pytest.mark.parametrize("chunk", [1, 3, None])
def test_with_frozen_first_steps(catalog, keep, chunk):
    encoder = TwoTowers(0.4)
    frozen = freeze(encoder, "_low")
    setting = Setting(encoder, catalog, "slmrec", chunk, keep=keep)
    assert set(setting.passes.inputs.kept) == KEPT[keep]
    assert_like_the_plain_graph(setting, NOT_RANKED | frozen)


@pytest.mark.parametrize("chunk", [2, None])
@pytest.mark.parametrize(("side", "other"), [("image", "text"), ("text", "image")])
def test_with_a_frozen_tower(catalog, side, other, chunk):
    encoder = TwoTowers(0.4)
    frozen = freeze(encoder, f"{other}_")
    setting = Setting(encoder, catalog, "vbpr", chunk)
    before = setting.features.tables()[other]
    assert_like_the_plain_graph(setting, NOT_RANKED | frozen, {side})
    assert torch.equal(setting.features.tables()[other], before)


@pytest.mark.parametrize("own_scale", [True, False])
@pytest.mark.parametrize("name", ["vbpr", "bm3", "freedom"])
@pytest.mark.parametrize("chunk", [1, 3, None])
def test_with_contrast_between_pictures_and_texts(catalog, name, own_scale, chunk):
    encoder = TwoTowers(0.4, text_dim=5, scale=own_scale)
    groups = np.arange(ITEMS) // 4 % 3
    setting = Setting(encoder, catalog, name, chunk, groups=groups, itc_weight=0.3)
    assert ("log_scale" in dict(setting.features.named_parameters(recurse=False))) != own_scale
    assert_like_the_plain_graph(setting, JOINT_WEIGHTS)
    scale = encoder.log_scale if own_scale else setting.features.log_scale
    assert scale.grad.abs() > 0


def test_duplicates_decide_what_is_contrasted(catalog):
    """The groups of the test above make a difference."""
    found = []
    for groups in (None, np.arange(ITEMS) // 4 % 3):
        encoder = TwoTowers(text_dim=5)
        setting = Setting(encoder, catalog, groups=groups, itc_weight=0.3)
        found.append(setting.ours(setting.batches[0])[2]["itc"].item())
    assert abs(found[0] - found[1]) > 1e-3


@pytest.mark.parametrize("chunk", [1, 3, None])
@pytest.mark.parametrize("name", ["vbpr", "mmgcn"])
@pytest.mark.parametrize("modalities", [FUSED, ("fused",), ("image", "fused")])
def test_with_a_joint_tower(catalog, name, chunk, modalities):
    """Which shares its first steps with the others, so that gradients of both are added up."""
    encoder = TwoTowers(0.4)
    setting = Setting(encoder, catalog, name, chunk, modalities)
    without = {"log_scale"} | {
        weight
        for weight, _ in encoder.named_parameters()
        if any(weight.startswith(f"{side}_top") for side in set(BOTH) - set(modalities))
    }
    assert_like_the_plain_graph(setting, without)


@pytest.mark.parametrize("chunk", [3, None])
def test_of_vlmo(large_pictures, chunk):
    """With layers left out by chance, and its joint tower."""
    encoder = tiny_vlmo(depth=2, vlffn_start_layer_index=1).double()
    encoder.dtypes = dict.fromkeys(encoder.dtypes, torch.float64)
    setting = Setting(encoder, large_pictures, "vbpr", chunk, FUSED)
    heads = ("itc_vl_", "logit", "itm_score", "mlm_score", "text_embeddings.position")
    unused = {name for name, _ in encoder.named_parameters() if any(h in name for h in heads)}
    assert_like_the_plain_graph(setting, unused, steps=1)


@pytest.mark.parametrize("chunk", [3, None])
def test_of_clip(large_pictures, tmp_path, chunk):
    encoder = create_encoder(write_tiny_clip(tmp_path / "clip", layers=1)).double()
    encoder.dtypes = dict.fromkeys(encoder.dtypes, torch.float64)
    setting = Setting(encoder, large_pictures, "freedom", chunk, itc_weight=0.3)
    assert_like_the_plain_graph(setting, steps=1)


def test_weights_of_no_vector_get_no_gradient(catalog):
    """Where the names of weights do not tell the sides apart each counts for both."""
    encoder = TwoTowers(0.4)
    frozen = freeze(encoder, "_")
    encoder.joint.requires_grad_(True)
    encoder.image_top.requires_grad_(True)
    encoder.stages = lambda modality: super(TwoTowers, encoder).stages(modality)
    encoder.image_parts = ()
    setting = Setting(encoder, catalog, "vbpr", 3)
    without = NOT_RANKED | {name for name in frozen if not name.startswith("image_top")}
    assert_like_the_plain_graph(setting, without)


@pytest.mark.parametrize("chunk", [3, None])
def test_a_joint_tower_without_trained_weights(catalog, chunk):
    encoder = TwoTowers(0.4)
    frozen = freeze(encoder, "_low", "joint")
    setting = Setting(encoder, catalog, "vbpr", chunk, FUSED)
    assert_like_the_plain_graph(setting, frozen | {"log_scale"})


@pytest.mark.parametrize("share", [0.25, 2.0])
def test_the_norm_is_bounded(catalog, share):
    free = Setting(TwoTowers(), catalog)
    batch = free.batches[0]
    of_encoder, of_model, *_ = free.ours(batch)
    norm = math.sqrt(sum(float((g**2).sum()) for g in of_encoder.values() if g is not None))
    bounded = Setting(TwoTowers(), catalog, clip_norm=share * norm)
    found, of_bounded_model, *_ = bounded.ours(batch)
    factor = min(share, 1.0)
    expected = {name: None if g is None else factor * g for name, g in of_encoder.items()}
    assert_same_gradients(found, expected, 1e-4)  # torch adds 1e-6 to the norm
    assert_same_gradients(of_bounded_model, of_model)
    total = math.sqrt(sum(float((g**2).sum()) for g in found.values() if g is not None))
    assert total <= factor * norm * (1 + 1e-12)


def test_a_second_step_has_none_of_the_first_ones_gradient(catalog):
    setting = Setting(TwoTowers(), catalog)
    one, other = setting.batches[:2]
    expected = setting.ours(other)[0]
    setting.ours(one)
    assert_same_gradients(setting.ours(other)[0], expected)


@pytest.mark.parametrize("name", ["vbpr", "lattice"])
def test_old_rows_are_encoded_without_gradient_and_without_chance(catalog, name):
    """Of the batch's items all, of the others those that no batch held for two steps."""
    setting = Setting(TwoTowers(0.4), catalog, name, max_age=2)
    features, encoder, held = setting.features, setting.encoder, np.zeros(ITEMS, int)
    for step, batch in enumerate(setting.batches):
        items = batch.items.numpy()
        before, refreshed = features.tables(), features.work.refreshed
        found, *_ = setting.ours(batch)
        old = np.setdiff1d(np.flatnonzero(step - held > 2), items)
        held[old] = held[items] = step
        for modality, table in features.tables().items():
            there = np.isin(setting.rows, having(modality))
            quiet = old[there[old]]
            changed = np.flatnonzero((table != before[modality].double()).any(1))
            assert set(items[there[items]]) <= set(changed) <= {*items[there[items]], *quiet}
            encoder.eval()
            with torch.no_grad():
                expected = setting.passes.vectors(modality, setting.rows[quiet], 1)
            set_training(encoder)
            torch.testing.assert_close(table[quiet], expected.double(), rtol=1e-12, atol=1e-12)
            refreshed += len(quiet)
        assert features.work.refreshed == refreshed
        assert features.work.ages[-1][1] == (step - held).max() <= 2
        assert found["image_low.0.weight"].abs().max() > 0
        setting.move()
