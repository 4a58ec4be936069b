"""mmrec-train --end-to-end: what moves in which regime, and what a run leaves behind."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.adapted import TinyEncoders
from support.live import (
    EVENTFUL,
    MULTIMODAL,
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

from extract.encoders import create_encoder
from extract.encoders.adaptation import Adaptation, adapt
from extract.encoders.tuned import load_tuned
from extract.shards import ShardReader
from pipelines import live_encoder, training_job


@pytest.fixture(autouse=True)
def shop(tmp_path):
    return write_live_shop(tmp_path)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs" / "shop"


@pytest.fixture(scope="module")
def pair(request):
    """A picture tower with batch norms beside a text tower with dropout."""
    return TinyEncoders(request)["cnn"]


@pytest.fixture
def train(mmrec, spec):
    """A run that must succeed; gives what the command said."""

    def call(*arguments, settings=(), run="r", code=0):
        words = setting_words(*QUICK, *EVENTFUL, *settings)
        outcome = mmrec(
            "train --end-to-end --device cpu --encoder", spec, "--run", run, *arguments, *words
        )
        assert outcome.code == code, outcome.err
        return outcome

    return call


def test_what_it_says_and_leaves(train, runs, spec):
    outcome = train("--model", "vbpr")
    assert "end-to-end features clip: image 16-d for 37 items, text 16-d for 38 items" in (
        outcome.err
    )
    weights = sum(weight.numel() for weight in create_encoder(spec).parameters())
    assert f"{weights:,} of {weights:,} weights of {spec} are trained" in outcome.err
    assert outcome.out.splitlines()[-1] == str(runs / "r")
    left = {path.relative_to(runs / "r").as_posix() for path in (runs / "r").rglob("*")}
    assert left >= {"metrics.json", "encoder/encoder.json", "encoder/weights.safetensors"}
    assert "checkpoint.pt" not in left
    assert not any(path.startswith("features") for path in load_file(runs / "r/model.safetensors"))
    told = metrics_of(runs / "r")
    assert (told["feature_source"], told["features"]) == ("end-to-end", "clip")
    assert told["modalities"] == {"image": 37, "text": 38}
    assert told["encoder"] == {
        "base": spec,
        "base_model": create_encoder(spec).fingerprint(),
        "fingerprint": load_tuned(runs / "r" / "encoder").fingerprint(),
        "trained_weights": weights,
    }


def test_the_run_has_its_name_from_its_regime(mmrec, runs, spec):
    words = setting_words("end_to_end.workers=0", "train.max_epochs=1")
    outcome = mmrec("train --end-to-end --model vbpr --encoder", spec, *words)
    assert outcome.code == 0, outcome.err
    (path,) = runs.iterdir()
    assert path.name.startswith("vbpr-clip-end-to-end-s0")


def test_refresh_and_the_shared_flag(train, mmrec, runs, spec):
    """The same command in the other regime with an encoder; nothing of the encoder is saved."""
    words = ("--feature-source", "refresh", "--encoder", spec, "--model", "vbpr", "--run", "r")
    outcome = mmrec("train --device cpu", *words, *setting_words(*QUICK))
    assert outcome.code == 0, outcome.err
    assert not (runs / "r" / "encoder").exists()
    told = metrics_of(runs / "r")
    assert told["feature_source"] == "refresh"
    unchanged = adapt(create_encoder(spec), Adaptation())[0]
    assert told["encoder"]["fingerprint"] == unchanged.fingerprint()
    assert told["encoder"]["trained_weights"] == 0
    record = history_of(runs / "r")[0]
    assert (record["vectors_encoded"], record["vectors_refreshed"]) == (0, 37 + 38)


@pytest.mark.parametrize("regime", ["frozen", "tuned", "refresh", "end-to-end"])
@pytest.mark.parametrize("kind", ["clip", "pair"])
def test_which_weights_move(tmp_path, spec, pair, monkeypatch, regime, kind):
    """All weights and buffers, bit by bit; batch norms keep their statistics in every regime."""
    encoder = create_encoder(spec) if kind == "clip" else pair
    first = state_of(encoder)
    monkeypatch.setattr(live_encoder, "create_encoder", lambda name: encoder)
    live = regime in ("refresh", "end-to-end")
    settings = eventful(regime)
    given = {} if live else {"features": "random"}
    parts = parts_of(tmp_path, "pair:t+t" if live else None, *settings, regime=regime, **given)
    try:
        train_parts(parts)
        weights = {name for name, _ in encoder.named_parameters()}
        buffers = first.keys() - weights
        changed = moved(first, encoder)
        assert (kind == "clip") or any("running_mean" in name for name in buffers)
        assert not changed & buffers
        if regime != "end-to-end":
            assert not changed
        else:
            assert {name.split(".")[0] for name in changed} >= {
                name.split(".")[0] for name in weights if "logit" not in name
            }
    finally:
        encoder.load_state_dict(first)


def test_models_are_all_multimodal_ones():
    assert len(MULTIMODAL) == 10


@pytest.mark.parametrize("model", MULTIMODAL)
def test_every_multimodal_model_moves_the_encoder(tmp_path, spec, model):
    parts = parts_of(tmp_path, spec, *EVENTFUL, "train.max_epochs=1", model=model)
    before = state_of(parts.live.encoder)
    train_parts(parts)
    changed = moved(before, parts.live.encoder)
    assert any("visual" in name for name in changed)
    assert any("token_embedding" in name for name in changed)


def test_the_encoder_feeds_the_two_stage_mode(mmrec, train, shop, runs):
    """Item vectors once more, from extracted features and the recommender's weights."""
    train("--model", "vbpr")
    assert mmrec("extract --workers 0 --encoder r").code == 0
    (batch,) = ShardReader(shop / "features" / "r")
    by_id = {item: row for row, item in enumerate(batch.item_ids)}
    order = [by_id[item] for item in sorted(by_id)]
    tables = []
    for modality in ("image", "text"):
        table = np.where(batch.present[modality][:, None], batch.vectors[modality], 0)
        tables.append(torch.from_numpy(table[order]).float())
    weights = load_file(runs / "r" / "model.safetensors")
    content = torch.cat(tables, dim=1)
    expected = torch.cat(
        [
            weights["items"],
            content @ weights["project.weight"].T,
            (weights["item_bias"] + content @ weights["feature_bias"])[:, None],
        ],
        dim=1,
    )
    items = load_file(runs / "r" / "embeddings.safetensors")["items"]
    torch.testing.assert_close(items, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(content, torch.zeros(()))
    outcome = mmrec("train --model freedom --features r --run two", *setting_words(*QUICK[:2]))
    assert outcome.code == 0, outcome.err
    assert metrics_of(runs / "two")["features"] == "r"


def test_the_encoder_is_the_start_of_another_run(train, mmrec, runs):
    train("--model", "vbpr")
    shutil.rmtree(runs.parents[1] / "data" / "shop" / "features", ignore_errors=True)
    outcome = mmrec(
        "train --end-to-end --model vbpr --encoder r --run again", *setting_words(*QUICK)
    )
    assert outcome.code == 0, outcome.err
    first, second = (metrics_of(runs / name)["encoder"] for name in ("r", "again"))
    assert second["base_model"] == first["fingerprint"]
    assert mmrec("extract --workers 0 --encoder again").code == 0
    assert mmrec("extract --workers 0 --encoder r").code == 0


def test_an_encoder_that_took_part_too_late_is_told(train, runs):
    still = ("--warm-epochs", "1", "--encoder-rate", "1e-12")
    settings = ("train.learning_rate=1e-12", "train.max_epochs=2")
    outcome = train("--model", "vbpr", *still, settings=settings)
    assert "warning: epoch 1 was the best, before the encoder took part" in outcome.err
    assert metrics_of(runs / "r")["selection"]["epoch"] == 1


def test_a_run_that_begins_again_takes_its_encoder_back(train, runs, monkeypatch):
    train("--model", "vbpr")
    assert (runs / "r" / "encoder" / "encoder.json").is_file()

    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(training_job, "fit", interrupt)
    assert train("--model", "vbpr", code=130).code == 130
    assert not (runs / "r" / "encoder" / "encoder.json").exists()
