"""mmrec-train --resume with an encoder in the loop: it ends as if nothing had happened."""

import json
import shutil

import pytest
from support.live import EVENTFUL, history_of, metrics_of, setting_words, write_live_shop
from support.tiny_clip import write_tiny_clip
from support.tuning import change_items

from extract.encoders.tuned import load_tuned

RESULTS = (
    "embeddings.safetensors",
    "model.safetensors",
    "per_user.parquet",
    "recommendations.parquet",
)
# What an epoch took is no result.
TAKEN = ("second", "megabytes")
# Projections drop out; each epoch is ten steps.
SETTINGS = (
    "train.max_epochs=4",
    "train.batch_size=24",
    "end_to_end.workers=0",
    "end_to_end.projection=8",
)
CASES = {
    "vbpr": ("vbpr", "end-to-end", ()),
    "stale rows": ("lattice", "end-to-end", ("train.evaluate_every=3",)),
    "old rows": (
        "lattice",
        "end-to-end",
        ("end_to_end.refresh_every=2", "end_to_end.max_age=2", "train.evaluate_every=4"),
    ),
    "never refreshed": (
        "lattice",
        "end-to-end",
        ("end_to_end.refresh_every=0", "train.evaluate_every=4"),
    ),
    "warm": ("vbpr", "end-to-end", ("end_to_end.warm_epochs=2", "end_to_end.warmup_steps=15")),
    "itc": ("vbpr", "end-to-end", ("end_to_end.itc_weight=0.1",)),
    "refresh": ("lattice", "refresh", ()),
    "warm refresh": ("vbpr", "refresh", ("end_to_end.warm_epochs=2",)),
}


@pytest.fixture(autouse=True)
def shop(tmp_path):
    return write_live_shop(tmp_path)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "shop" / "r"


def words_of(case, spec):
    model, regime, settings = CASES[case]
    trained = ("end_to_end.train=visual", *EVENTFUL) if regime == "end-to-end" else ()
    words = setting_words(*SETTINGS, *trained, *settings)
    live = ("--feature-source", regime, "--encoder", spec, "--device", "cpu")
    return [*live, "--model", model, "--run", "r", "--checkpoint-seconds", 0, *words]


def results(folder):
    """Everything but times and memory."""
    metrics = metrics_of(folder)
    metrics.pop("seconds")
    records = [
        {key: value for key, value in record.items() if not any(word in key for word in TAKEN)}
        for record in history_of(folder)
    ]
    encoder = folder / "encoder"
    weights = (encoder / "weights.safetensors").read_bytes() if encoder.exists() else b""
    return metrics, records, {name: (folder / name).read_bytes() for name in RESULTS}, weights


@pytest.mark.parametrize("case", CASES)
def test_interrupted_in_each_epoch(mmrec, folder, spec, interrupted, case):
    words = words_of(case, spec)
    assert mmrec("train", *words).code == 0
    expected = results(folder)
    assert expected[3]  # also of refresh, whose projections were drawn
    shutil.rmtree(folder)
    interrupted(1, *words)
    for epoch in (2, 3, 4):
        interrupted(epoch, "--resume", folder)
        assert len(history_of(folder)) == epoch
    outcome = mmrec("train --resume r")
    assert outcome.code == 0, outcome.err
    assert "goes on after epoch 3" in outcome.err
    assert results(folder) == expected


def test_killed_before_the_encoder_is_written(mmrec, folder, spec, monkeypatch):
    """The run is not finished before its encoder is."""
    words = words_of("vbpr", spec)
    assert mmrec("train", *words).code == 0
    expected = results(folder)
    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.live_encoder.save_tuned", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            mmrec("train", *words)
    assert not (folder / "metrics.json").exists()
    assert "goes on after epoch 4" in mmrec("train --resume r").err
    assert results(folder) == expected
    assert (
        load_tuned(folder / "encoder").fingerprint()
        == (metrics_of(folder)["encoder"]["fingerprint"])
    )


@pytest.mark.parametrize("what", ["encoder", "texts"])
def test_what_has_changed_since(mmrec, refused, shop, folder, tmp_path, interrupted, what):
    """Another encoder of that name, or another catalogue: its vectors are of other inputs."""
    clip = tmp_path / "clip"
    interrupted(2, *words_of("vbpr", write_tiny_clip(clip)))
    if what == "encoder":
        write_tiny_clip(clip, seed=1)
        told = "is of other features and encoder than there are now"
    else:
        change_items(shop, text=[f"thing {number}" for number in range(40)])
        told = "is of other features than there are now"
    assert told in refused("train --resume r")
    assert len(history_of(folder)) == 2


def test_circumstances_are_no_settings_of_the_results(mmrec, folder, spec, interrupted):
    """What is kept in memory, and who decodes, may change when a run is resumed."""
    words = words_of("vbpr", spec)
    assert mmrec("train", *words).code == 0
    expected = results(folder)
    shutil.rmtree(folder)
    interrupted(3, *words)
    path = folder / "config.toml"
    text = path.read_text()
    path.write_text(text.replace("keep_frozen = true", "keep_frozen = false"))
    assert path.read_text() != text
    outcome = mmrec("train --resume r")
    assert outcome.code == 0, outcome.err
    assert "goes on after epoch 2" in outcome.err
    found = results(folder)
    assert found[1] == expected[1]
    assert json.dumps(found[0]["test"]) == json.dumps(expected[0]["test"])
