"""Feature sources: frozen tables that stay, tuned ones that are trained, for every model."""

from typing import get_args

import numpy as np
import pytest
import torch

from extract.errors import UserError
from recommend.features import FeatureStore
from recommend.metrics import Metrics
from recommend.models import MODELS, TrainingData, model_class
from recommend.sampling import Sampler
from recommend.sources import LIVE, SOURCES, FrozenFeatures, SourceName, TunedFeatures
from recommend.train import TrainOptions, fit

TRAINED = sorted(name for name in set(MODELS) - {"itemknn"} if MODELS[name].uses_features)
# Models that use features only through graphs built once, whatever their settings.
GRAPHS_ONLY: set[str] = set()


def build(name, data, **settings):
    torch.manual_seed(0)
    kind = model_class(name)
    return kind(kind.config_class(**settings), data)


@pytest.fixture(scope="module")
def data(checkerboard):
    """Three modalities; some items lack one of them."""
    split, store = checkerboard
    arrays = {modality: table.copy() for modality, table in store.tables.items()}
    arrays["image"][[2, 5]] = 0
    arrays["text"][7] = 0
    return TrainingData(split.train, FeatureStore.from_arrays(arrays))


def train(model, source, data, values=(0.1, 0.2, 0.3), **options):
    """Train as many epochs as there are scripted values of the validation."""
    shown = iter((*values, max(values)))
    sampler = Sampler(data.train, 64, np.random.default_rng(0))
    settings = TrainOptions(max_epochs=len(values), learning_rate=0.01, **options)

    def validate(embeddings):
        return Metrics(np.array([0]), {"recall@20": np.array([next(shown)])})

    return fit(model, source, sampler, validate, settings)


def test_the_choice_is_the_table():
    assert set(get_args(SourceName)) == set(SOURCES) | LIVE
    assert len(SOURCES) == len(LIVE) == 2


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_tuned_tables_move_and_frozen_ones_do_not(name, data, weight_decay):
    for kind in (FrozenFeatures, TunedFeatures):
        source, before = kind(data.features), data.features.tables
        model = build(name, data)
        if kind is TunedFeatures and name in GRAPHS_ONLY:
            with pytest.raises(UserError, match="only through graphs"):
                train(model, source, data)
            continue
        train(model, source, data, weight_decay=weight_decay)
        for modality, table in source.constant().items():
            present = data.features.present[modality]
            moved = (table.numpy() != before[modality]).any(axis=1)
            assert moved[present].all() == (kind is TunedFeatures)
            assert not moved[~present].any()
            assert np.isfinite(table.numpy()).all()


def test_the_store_keeps_its_values(data):
    before = {modality: table.copy() for modality, table in data.features.tables.items()}
    train(build("vbpr", data), TunedFeatures(data.features), data)
    for modality, table in before.items():
        np.testing.assert_array_equal(data.features.tables[modality], table)


def test_frozen_features_have_nothing_to_learn_or_to_save(data):
    frozen = FrozenFeatures(data.features)
    assert not list(frozen.parameters())
    assert not frozen.state_dict()


def test_frozen_features_follow_a_move(data):
    moved = FrozenFeatures(data.features).double()()
    assert {table.dtype for table in moved.values()} == {torch.float64}


def test_the_best_tables_come_back_with_the_best_weights(data):
    """The second of four epochs is the best; a run of two epochs ends with it."""
    tables, users = [], []
    for values in ([0.1, 0.9, 0.2, 0.3], [0.1, 0.9]):
        model, source = build("vbpr", data), TunedFeatures(data.features)
        assert train(model, source, data, values).epoch == 2
        tables.append(source.state_dict())
        users.append(model.users)
    assert torch.equal(*users)
    assert tables[0].keys() == {"tables.image", "tables.text", "tables.fused"}
    for name, table in tables[0].items():
        assert torch.equal(table, tables[1][name])


def test_a_loss_that_does_not_reach_the_tables_is_told(data):
    model = build("freedom", data, reg=0.0)
    with pytest.raises(UserError, match="does not depend on the image features, so nothing"):
        train(model, TunedFeatures(data.features), data)


def test_a_table_that_one_batch_does_not_touch_is_no_error(data):
    source = TunedFeatures(data.features.only(["image"]))
    source()["image"].sum().backward()
    source.backward()
    source.zero_grad()
    source.backward()


def test_graphs_are_built_from_tables_without_gradient(data):
    class Looking(model_class("vbpr")):
        def begin_epoch(self, features, generator):
            for table in features.values():
                table.numpy()

    torch.manual_seed(0)
    train(Looking(Looking.config_class(), data), TunedFeatures(data.features), data)


def test_tuned_features_on_a_device(data, device):
    source = TunedFeatures(data.features, device)
    assert {parameter.device.type for parameter in source.parameters()} == {device}
    model = build("vbpr", data).to(device)
    train(model, source, data)
    assert not source()["image"][[2, 5]].any()
