"""What the settings of end-to-end training do, and what an epoch's record says of it."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.adapted import TinyEncoders
from support.live import (
    EVENTFUL,
    QUICK,
    eventful,
    history_of,
    metrics_of,
    moved,
    parts_of,
    setting_words,
    state_of,
    train_parts,
    write_live_shop,
)
from support.tiny_vlmo import write_tiny_vlmo

from pipelines import live_encoder
from pipelines.end_to_end import EncodedFeatures


@pytest.fixture(autouse=True)
def shop(tmp_path):
    return write_live_shop(tmp_path)


@pytest.fixture
def trained(tmp_path, spec):
    """Train the parts of given settings; gives them, the names that moved, and the history."""

    def call(*settings, **given):
        usual = eventful(given.get("regime", "end-to-end"))
        parts = parts_of(tmp_path, given.pop("encoder", spec), *usual, *settings, **given)
        before = state_of(parts.live.encoder)
        history = train_parts(parts).history
        return parts, moved(before, parts.live.encoder), history

    return call


def test_a_pattern_freezes_the_rest(trained):
    parts, changed, _ = trained("end_to_end.train=visual.transformer.resblocks.1")
    assert changed
    assert all(name.startswith("model.visual.transformer.resblocks.1") for name in changed)
    assert parts.live.passes.is_trained("image")
    assert not parts.live.passes.is_trained("text")


def test_a_pattern_with_its_rate_and_layer_decay(tmp_path, spec):
    """Adam's first step is the rate: of layer 0 a tenth of that of layer 1."""
    settings = ("end_to_end.layer_decay=0.1", "train.batch_size=240", "train.max_epochs=1")
    parts = parts_of(tmp_path, spec, *EVENTFUL, *settings)
    before = state_of(parts.live.encoder)
    train_parts(parts)
    now = parts.live.encoder.state_dict()
    steps = {
        number: (now[name] - before[name]).abs().max().item()
        for number, name in (
            (layer, f"model.visual.transformer.resblocks.{layer}.mlp.c_fc.weight")
            for layer in (0, 1)
        )
    }
    assert steps == pytest.approx({0: 1e-4, 1: 1e-3}, rel=0.02)


def test_only_texts(trained):
    parts, changed, _ = trained("modalities=text")
    assert parts.store.dims == {"text": 16}
    assert changed
    assert not any("visual" in name for name in changed)


def test_projections(trained):
    parts, changed, history = trained("end_to_end.projection=8", encoder="random:16")
    assert parts.store.dims == {"image": 8, "text": 8}
    assert changed
    assert history[0]["vectors_encoded"] > 0


def test_lora(mmrec, tmp_path, spec):
    words = setting_words(*QUICK, "end_to_end.lora=2", "end_to_end.learning_rate=1e-2")
    outcome = mmrec("train --end-to-end --model vbpr --run r --encoder", spec, *words)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "runs" / "shop" / "r"
    weights = load_file(folder / "encoder" / "weights.safetensors")
    count = sum(weight.size for weight in weights.values())
    assert metrics_of(folder)["encoder"]["trained_weights"] == count < 30_000
    assert all("lora" in name for name in weights)
    assert all(weight.any() for name, weight in weights.items() if "visual" in name)


@pytest.mark.parametrize("encoder", ["clip", "random:16"])
def test_itc(trained, spec, encoder):
    """With the encoder's own scale, or one of this training; its weight is a factor."""
    spec = spec if encoder == "clip" else encoder
    settings = ("train.max_epochs=1", "train.batch_size=240", "end_to_end.projection_dropout=0")
    first, changed, light = trained("end_to_end.itc_weight=0.1", *settings, encoder=spec)
    _, _, heavy = trained("end_to_end.itc_weight=0.3", *settings, encoder=spec)
    assert heavy[0]["loss"]["itc"] == pytest.approx(3 * light[0]["loss"]["itc"], rel=1e-5)
    assert light[0]["loss"]["itc"] > 0
    assert any("scale" in name for name in changed)
    ids = [id(weight) for group in first.features.groups() for weight in group["params"]]
    assert len(ids) == len(set(ids))


def test_itc_of_a_scale_that_is_not_trained(trained):
    _, changed, history = trained("end_to_end.itc_weight=0.1", "end_to_end.train=visual")
    assert "itc" in history[0]["loss"]
    assert not any("scale" in name for name in changed)


def test_itc_reaches_what_the_model_does_not(trained):
    """FREEDOM without its modality terms, and a warm start without the ITC term."""
    settings = ("model.reg=0", "end_to_end.itc_weight=0.1", "end_to_end.warm_epochs=1")
    _, _, history = trained(*settings, model="freedom")
    assert "itc" not in history[0]["loss"]
    assert history[1]["loss"]["itc"] > 0
    assert history[1]["vectors_encoded"] > 0


def test_itc_by_hand(tmp_path, spec):
    """Of the 36 items that have both, no two of which are alike."""
    settings = ("end_to_end.itc_weight=0.5", "train.batch_size=240")
    parts = parts_of(tmp_path, spec, *settings)
    parts.features.begin_epoch()
    parts.features(torch.arange(40))
    found = parts.features.loss()["itc"].item()
    lacking = [f"i{number}" for number in (3, 5, 7, 20)]
    both = [row for row, item in enumerate(parts.log.items.ids) if item not in lacking]
    assert len(both) == 36
    images, texts = (
        torch.nn.functional.normalize(torch.tensor(parts.store.tables[name][both]), dim=1)
        for name in ("image", "text")
    )
    cosines = images @ texts.T * parts.live.encoder.log_scales[0].exp()
    targets = torch.arange(len(both))
    expected = (
        torch.nn.functional.cross_entropy(cosines, targets)
        + torch.nn.functional.cross_entropy(cosines.T, targets)
    ) / 2
    assert found == pytest.approx(0.5 * expected.item(), rel=1e-5)


def test_a_warm_start(tmp_path, spec):
    """Bit-equal after two epochs, moved after the third; patience waits for it."""
    settings = ("end_to_end.warm_epochs=2", "train.max_epochs=4", "train.patience=1")
    parts = parts_of(tmp_path, spec, *EVENTFUL, *settings, "train.learning_rate=1e-9")
    before, seen = state_of(parts.live.encoder), []
    fitted = train_parts(parts, lambda r: seen.append(moved(before, parts.live.encoder)))
    assert [bool(changed) for changed in seen[:3]] == [False, False, True]
    assert [record["vectors_encoded"] > 0 for record in fitted.history[:3]] == [False, False, True]
    assert "mean_age" not in fitted.history[1]


@pytest.mark.parametrize("regime", ["refresh", "end-to-end"])
def test_bf16(trained, regime):
    parts, changed, _ = trained("end_to_end.precision=bf16", regime=regime)
    assert bool(changed) == (regime == "end-to-end")
    assert all(weight.dtype == torch.float32 for weight in parts.live.encoder.parameters())
    assert all(table.dtype == torch.float32 for table in parts.features().values())


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("end_to_end.refresh_every=0", "train.evaluate_every=9"),
        ("end_to_end.refresh_every=2", "train.evaluate_every=9"),
        ("end_to_end.max_age=1", "train.evaluate_every=9"),
        ("end_to_end.max_age=3", "end_to_end.refresh_every=0", "train.evaluate_every=2"),
    ],
)
def test_ages_and_counts_by_hand(trained, tmp_path, spec, monkeypatch, settings):
    """What each step held is written down, and the ages counted item by item."""
    batches, forward = [], EncodedFeatures.forward

    def watched(self, items=None):
        if items is not None:
            batches.append(items.tolist())
        return forward(self, items)

    monkeypatch.setattr(EncodedFeatures, "forward", watched)
    options = dict(setting.split(".")[1].split("=") for setting in settings)
    epochs, steps = 3, 15
    parts, _, history = trained(*settings, f"train.max_epochs={epochs}", "train.batch_size=16")
    assert len(batches) == epochs * steps
    refresh_every, max_age = int(options.get("refresh_every", 1)), options.get("max_age")
    last, having = (
        np.zeros(40, int),
        {m: set(p.nonzero()[0]) for m, p in parts.store.present.items()},
    )
    for epoch, record in enumerate(history):
        means, largest, encoded = [], [], 0
        if refresh_every and epoch % refresh_every == 0:
            last[:] = epoch * steps
        for step in range(epoch * steps, (epoch + 1) * steps):
            held = set(batches[step])
            for item in range(40):
                old = max_age is not None and step - last[item] > int(max_age)
                if item in held or old:
                    last[item] = step
            ages = [step - last[item] for item in range(40)]
            means.append(sum(ages) / 40)
            largest.append(max(ages))
            encoded += sum(len(held & rows) for rows in having.values())
        assert record["mean_age"] == pytest.approx(np.mean(means))
        assert record["largest_age"] == max(largest)
        assert record["vectors_encoded"] == encoded
        assert max_age is None or record["largest_age"] <= int(max_age)
        evaluated = (epoch + 1) % int(options.get("evaluate_every", 1)) == 0
        if evaluated or epoch + 1 == epochs:
            last[:] = (epoch + 1) * steps


def test_what_an_epoch_took(mmrec, tmp_path, spec):
    words = setting_words(*QUICK)
    assert mmrec("train --end-to-end --model vbpr --run r --encoder", spec, *words).code == 0
    for record in history_of(tmp_path / "runs" / "shop" / "r"):
        assert record["steps_per_second"] == pytest.approx(4 / record["seconds"])
        assert 0 < record["encoder_seconds"] <= record["seconds"] + record["validation_seconds"]
        made = record["vectors_encoded"] + record["vectors_refreshed"]
        expected = made / record["encoder_seconds"]
        assert record["vectors_per_second"] == pytest.approx(expected, rel=0.02)
        assert 100 < record["peak_megabytes"] < 100_000


def test_cached_features_are_the_start(mmrec, tmp_path, shop, spec):
    """The same tables as those that are encoded, without the time; FREEDOM has the same graph."""
    assert mmrec("extract --workers 0 --features own --encoder", spec).code == 0
    cached = parts_of(tmp_path, spec, model="freedom", features="own")
    frozen = parts_of(tmp_path, None, model="freedom", features="own", regime="frozen")
    fresh = parts_of(tmp_path, spec, model="freedom")
    for name, table in frozen.store.tables.items():
        np.testing.assert_array_equal(cached.store.tables[name], table)
        np.testing.assert_allclose(fresh.store.tables[name], table, atol=1e-5)
        np.testing.assert_array_equal(fresh.store.present[name], frozen.store.present[name])
    graph = frozen.model.item_graph
    vectors = torch.eye(40)
    assert (cached.model.item_graph @ vectors).equal(graph @ vectors)
    assert not (graph @ vectors).equal(vectors)
    before = state_of(cached.live.encoder)
    train_parts(cached)
    assert moved(before, cached.live.encoder)


def noisy_tables(parts):
    """Of two epochs the tables for training, and those for ranking."""
    training, ranking = [], []
    for _ in range(2):
        parts.features.train()
        parts.features.begin_epoch()
        training.append(parts.features(torch.arange(40)))
        parts.features.eval()
        parts.features.refresh()
        ranking.append(parts.features.constant())
    return training, ranking


@pytest.mark.parametrize("kind", ["projected", "pair"])
def test_refresh_with_dropout(request, tmp_path, monkeypatch, kind):
    settings = ("end_to_end.projection=8",) if kind == "projected" else ()
    if kind == "pair":
        pair = TinyEncoders(request)["cnn"]
        monkeypatch.setattr(live_encoder, "create_encoder", lambda name: pair)
    spec = "random:16" if kind == "projected" else "pair:t+t"
    parts = parts_of(tmp_path, spec, *settings, regime="refresh")
    before = state_of(parts.live.encoder)
    training, ranking = noisy_tables(parts)
    for name in ("image", "text") if kind == "projected" else ("text",):
        assert not training[0][name].equal(training[1][name])
        assert ranking[0][name].equal(ranking[1][name])
        stored = torch.from_numpy(parts.store.tables[name])
        assert ranking[0][name].equal(stored)
        absent = torch.from_numpy(~parts.store.present[name])
        assert not training[0][name][absent].any()
        assert not training[0][name].equal(stored)
    assert not moved(before, parts.live.encoder)


def test_a_joint_tower(trained, tmp_path_factory):
    encoder = f"vlmo:{write_tiny_vlmo(tmp_path_factory.mktemp('vlmo'))}"
    parts, changed, history = trained("modalities=fused", "train.max_epochs=1", encoder=encoder)
    assert {name: int(mask.sum()) for name, mask in parts.store.present.items()} == {"fused": 36}
    assert changed
    assert history[0]["vectors_encoded"] > 0
