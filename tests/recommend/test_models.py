"""One suite over `MODELS`: a new model is tested by standing in the table."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recommend.evaluate import evaluate, seen_items
from recommend.features import FeatureStore
from recommend.models import MODELS, TrainingData, model_class
from recommend.sampling import Sampler
from recommend.sources import FrozenFeatures
from recommend.train import TrainOptions, encode, fit

ALL = sorted(MODELS)
TRAINED = sorted(set(ALL) - {"popularity", "itemknn"})
MULTIMODAL = sorted(name for name in ALL if MODELS[name].uses_features)
MODALITIES = [["image"], ["text"], ["image", "text"], ["fused"], ["image", "text", "fused"]]
# Parameters that are meant to stay where they are, by model.
FROZEN: dict[str, set[str]] = {}


def build(name, data, seed=0, **settings):
    torch.manual_seed(seed)
    kind = model_class(name)
    return kind(kind.config_class(**settings), data)


def one_batch(data, seed=0):
    sampler = Sampler(data.train, 64, np.random.default_rng(seed))
    return next(sampler.epoch())


def step(model, data, batch):
    """One step of the loop's own arithmetic."""
    tables = FrozenFeatures(data.features)()
    model.begin_epoch(tables, np.random.default_rng(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    sum(model.loss(batch, tables).values()).backward()
    optimizer.step()


def test_the_table_is_as_long_as_it_should_be():
    assert len(MODELS) == 15
    assert len(TRAINED) == 13
    assert set(ALL) - set(MULTIMODAL) == {"popularity", "bpr", "lightgcn", "layergcn"}


@pytest.mark.parametrize("name", ALL)
def test_shapes_and_finite_scores_also_of_users_and_items_never_seen(name, small):
    # Users 5 and 6 have no training item.
    data = TrainingData(replace(small.train, n_users=7), small.features)
    embeddings = encode(build(name, data), FrozenFeatures(small.features))
    assert embeddings.users.shape[0] == 7
    assert embeddings.items.shape[0] == 6
    assert embeddings.users.shape[1] == embeddings.items.shape[1]
    scores = embeddings.scores(np.arange(7))
    assert scores.shape == (7, 6)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_moves_after_one_step_or_is_named_frozen(name, small):
    model = build(name, small)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    assert before
    step(model, small, one_batch(small))
    still = {k for k, v in model.named_parameters() if torch.equal(v, before[k])}
    assert still == FROZEN.get(name, set())


@pytest.mark.parametrize("name", TRAINED)
def test_losses_are_finite_named_scalars(name, small):
    terms = build(name, small).loss(one_batch(small), FrozenFeatures(small.features)())
    assert terms
    for term in terms.values():
        assert term.shape == ()
        assert torch.isfinite(term)


@pytest.mark.parametrize("name", ALL)
def test_saved_weights_give_the_same_scores(name, small, tmp_path):
    model, other = build(name, small), build(name, small, seed=9)
    if name in TRAINED:
        step(model, small, one_batch(small))
    torch.save(model.state_dict(), tmp_path / "weights")
    other.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    features, rows = FrozenFeatures(small.features), np.arange(5)
    scores, same = (encode(m, features).scores(rows) for m in (model, other))
    assert torch.equal(scores, same)


@pytest.mark.parametrize("name", ALL)
def test_encode_is_the_same_twice_and_in_a_fresh_model(name, small):
    """Nothing is remembered from the last training batch."""
    model, features = build(name, small), FrozenFeatures(small.features)
    if name in TRAINED:
        step(model, small, one_batch(small))
    once = encode(model, features).scores(np.arange(5))
    assert torch.equal(once, encode(model, features).scores(np.arange(5)))
    fresh = build(name, small, seed=3)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(once, encode(fresh, features).scores(np.arange(5)))


@pytest.mark.parametrize("modalities", MODALITIES, ids="+".join)
@pytest.mark.parametrize("name", MULTIMODAL)
def test_any_modalities_go_through_the_same_code(name, modalities, checkerboard):
    split, store = checkerboard
    data = TrainingData(split.train, store.only(modalities))
    model = build(name, data)
    if name in TRAINED:
        step(model, data, one_batch(data))
    scores = encode(model, FrozenFeatures(data.features)).scores(np.arange(24))
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", MULTIMODAL)
def test_content_matters(name, checkerboard):
    """Other features, another result: nothing is remembered from an earlier data set."""
    split, store = checkerboard
    scores = []
    for features in (store.only(["text"]), store.only(["text"]).shuffled(1)):
        data = TrainingData(split.train, features)
        model = build(name, data)
        if name in TRAINED:  # to some, content comes through the loss only
            step(model, data, one_batch(data))
        scores.append(encode(model, FrozenFeatures(features)).scores(np.arange(24)))
    assert not torch.allclose(*scores)


def train_on_the_checkerboard(name, split, store, seed=0, device="cpu", epochs=40):
    """As many epochs as one would expect to do; nothing is selected, the last weights count."""
    data = TrainingData(split.train, store)
    model = build(name, data, seed).to(device)
    sampler = Sampler(split.train, 32, np.random.default_rng(seed)) if name in TRAINED else None
    seen = seen_items(split, "validation", "strict")
    options = TrainOptions(max_epochs=epochs, evaluate_every=epochs, learning_rate=0.02)
    return fit(
        model,
        FrozenFeatures(store, device),
        sampler,
        lambda embeddings: evaluate(embeddings, split.validation, seen)[0],
        options,
    )


# Popularity knows no user, and on the checkerboard every item is as popular as any other.
@pytest.mark.parametrize("name", sorted(set(ALL) - {"popularity"}))
def test_the_checkerboards_withheld_item_comes_first(name, checkerboard, device):
    split, store = checkerboard
    fitted = train_on_the_checkerboard(name, split, store.only(["image", "text"]), device=device)
    seen = seen_items(split, "validation", "strict")
    _, ranking = evaluate(fitted.embeddings, split.validation, seen)
    assert ranking.items[:, 0].tolist() == list(range(24))


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_is_a_function_of_its_seed(name, checkerboard):
    """Four epochs: whatever is drawn, by step or by epoch, is drawn several times."""
    split, store = checkerboard
    one, same, other = (
        train_on_the_checkerboard(name, split, store, seed, epochs=4).embeddings
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.users, same.users)
    assert torch.equal(one.items, same.items)
    assert not torch.equal(one.users, other.users)


def test_an_item_without_features_has_no_place_in_the_item_graph(small):
    graph = build("freedom", small, neighbours=2, image_weight=1.0).item_graph
    dense = (graph @ torch.eye(6)).numpy()
    assert not dense[4].any()
    assert not dense[:, 4].any()


def test_unusable_features_do_not_spoil_training(checkerboard):
    split, store = checkerboard
    image = store.tables["image"].copy()
    image[[0, 5]] = np.nan
    image[7] = 0
    spoilt = FeatureStore.from_arrays({"image": image, "text": store.tables["text"]})
    for name in MULTIMODAL:
        fitted = train_on_the_checkerboard(name, split, spoilt, epochs=10)
        scores = fitted.embeddings.scores(np.arange(24))
        assert torch.isfinite(scores).all()
        assert fitted.validation.means()["mrr@5"] > 0.8
