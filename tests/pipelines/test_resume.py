"""mmrec-train --resume: a run that did not finish goes on, and ends as if nothing had happened."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from support.shop import interaction_rows, write_features, write_shop

from extract.locking import locked
from pipelines.runs import RunFolder

QUICK = (
    "--set",
    "train.max_epochs=6",
    "--set",
    "train.batch_size=64",
    "--features",
    "good",
    "--run",
    "r",
)
EACH_EPOCH = ("--checkpoint-seconds", "0")
RESULTS = (
    "embeddings.safetensors",
    "ids.parquet",
    "model.safetensors",
    "per_user.parquet",
    "recommendations.parquet",
)


@pytest.fixture(autouse=True)
def shop(tmp_path):
    folder = write_shop(tmp_path)
    write_features(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "shop" / "r"


@pytest.fixture
def whole(mmrec, folder):
    """The results of a run that is not disturbed; the folder is removed."""

    def train(*arguments):
        outcome = mmrec("train", *QUICK, *arguments)
        assert outcome.code == 0, outcome.err
        found = results(folder)
        shutil.rmtree(folder)
        return found

    return train


@pytest.fixture
def interrupted(interrupted):
    """The same of a run with the usual settings, unless others are given."""

    def train(epoch, *arguments):
        interrupted(epoch, *(arguments or (*QUICK, "--model", "freedom", *EACH_EPOCH)))

    return train


def results(folder):
    """Everything but times."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("seconds")
    return metrics, history(folder), {name: (folder / name).read_bytes() for name in RESULTS}


def history(folder):
    """The records of the epochs, without their seconds."""
    path = folder / "history.jsonl"
    records = map(json.loads, path.read_text().splitlines() if path.exists() else [])
    return [{k: v for k, v in record.items() if "second" not in k} for record in records]


def epochs_logged(folder):
    lines = (folder / "log.txt").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("epoch")]


@pytest.mark.parametrize("source", ["frozen", "tuned"])
@pytest.mark.parametrize("model", ["freedom", "vbpr"])
def test_the_end_is_that_of_a_run_without_a_stop(mmrec, folder, whole, interrupted, model, source):
    words = ("--model", model, "--feature-source", source)
    expected = whole(*words)
    assert expected[0]["feature_source"] == source
    interrupted(4, *QUICK, *words, *EACH_EPOCH)
    assert [record["epoch"] for record in history(folder)] == [1, 2, 3, 4]
    outcome = mmrec("train --resume r")
    assert outcome.code == 0, outcome.err
    assert "goes on after epoch 3" in outcome.err
    assert outcome.out.splitlines()[-1] == str(folder)
    assert results(folder) == expected
    assert epochs_logged(folder) == [1, 2, 3, 4, 5, 6]
    assert "goes on after epoch 3" in (folder / "log.txt").read_text()
    assert not (folder / "checkpoint.pt").exists()


def test_interrupted_in_each_epoch(mmrec, folder, whole, interrupted):
    expected = whole("--model", "freedom")
    interrupted(1, *QUICK, "--model", "freedom", *EACH_EPOCH)
    for epoch in range(2, 7):
        interrupted(epoch, "--resume", folder)
        assert [record["epoch"] for record in history(folder)] == list(range(1, epoch + 1))
    assert mmrec("train --resume", folder).code == 0
    assert results(folder) == expected
    assert epochs_logged(folder) == [1, 2, 3, 4, 5, 6]


def test_killed_while_results_are_written(mmrec, folder, whole, monkeypatch):
    expected = whole("--model", "freedom")
    for method in ("write_results", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, method, lambda *arguments: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                mmrec("train --model freedom", *QUICK, *EACH_EPOCH)
        assert "goes on after epoch 6" in mmrec("train --resume r").err
        assert results(folder) == expected
        shutil.rmtree(folder)


def test_without_a_checkpoint_it_starts_from_the_beginning(mmrec, folder, whole, interrupted):
    expected = whole("--model", "freedom")
    interrupted(3, *QUICK, "--model", "freedom")
    assert not (folder / "checkpoint.pt").exists()
    outcome = mmrec("train --resume shop/r")
    assert "has no checkpoint.pt yet: starts from the beginning" in outcome.err
    assert results(folder) == expected
    assert epochs_logged(folder) == [1, 2, 3, 4, 5, 6]


def test_a_model_that_is_not_trained(mmrec, folder, whole, monkeypatch):
    expected = whole("--model", "popularity")
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            mmrec("train --model popularity", *QUICK)
    assert mmrec("train --resume r").code == 0
    assert results(folder) == expected


def test_a_finished_run_is_told_and_left(mmrec, folder):
    assert mmrec("train --model freedom", *QUICK).code == 0
    (folder / "checkpoint.pt").write_bytes(b"left by a kill after metrics.json was there")
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    outcome = mmrec("train --resume r")
    assert outcome.code == 0
    assert "is finished already" in outcome.err
    assert outcome.out.splitlines()[1].startswith("freedom")
    assert outcome.out.splitlines()[-1] == str(folder)
    del times["checkpoint.pt"]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_the_seconds_before_count(mmrec, folder, interrupted):
    interrupted(3)
    path = folder / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    torch.save(content | {"seconds": 1000.0}, path)
    assert mmrec("train --resume r").code == 0
    assert json.loads((folder / "metrics.json").read_text())["seconds"] > 1000


def test_checkpoints_keep_their_distance(mmrec, monkeypatch):
    """At 30 seconds, the default, none is due here; at none, each epoch has one."""
    kept = []
    monkeypatch.setattr(RunFolder, "keep", lambda *arguments: kept.append(arguments))
    assert mmrec("train --model bpr", *QUICK).code == 0
    assert kept == []
    assert mmrec("train --model bpr", *QUICK, *EACH_EPOCH).code == 0
    assert len(kept) == 6


def test_starting_anew_leaves_no_older_checkpoint(folder, interrupted):
    interrupted(3)
    interrupted(1)
    assert not (folder / "checkpoint.pt").exists()


def test_the_distance_is_no_setting_of_the_results(mmrec, interrupted):
    interrupted(2)
    assert mmrec("train --model freedom", *QUICK).code == 0


@pytest.mark.parametrize(
    "words",
    ["--model freedom", "--seed 0", "--set train.patience=3", "--config r.toml", "--device cpu"],
)
def test_other_settings_beside_it_are_wrong_usage(mmrec, folder, interrupted, words):
    interrupted(2)
    outcome = mmrec("train --resume r", *words.split())
    assert outcome.code == 2
    option = words.split()[0]
    assert f"takes all settings from the run's config.toml; leave out {option}" in outcome.error
    assert len(history(folder)) == 2


def test_nothing_to_resume(refused, folder, interrupted):
    assert "unknown run 'nothing'" in refused("train --resume nothing")
    interrupted(2)
    assert "did you mean 'shop/r'" in refused("train --resume shop/x")
    (folder / "config.toml").unlink()
    line = refused("train --resume r")
    assert "has no config.toml, so there is nothing to resume; start anew" in line


def test_unfinished_runs_tell_how_to_go_on(refused, folder, interrupted):
    interrupted(2)
    for command in ("evaluate r", "recommend r"):
        line = refused(command)
        assert f"did not finish; go on with it: mmrec-train --resume {folder}" in line


def change_split(shop):
    other = {"train": "test", "test": "train"}
    rows = [(user, item, other.get(part, part)) for user, item, part in interaction_rows()]
    write_shop(shop.parents[1], rows=rows)


def change_features(shop):
    path = shop / "features/good/manifest.json"
    path.write_text(path.read_text().replace('"fingerprint": "f"', '"fingerprint": "g"'))


def change_settings(shop):
    path = shop.parents[1] / "runs/shop/r/config.toml"
    path.write_text(path.read_text().replace("reg = 0.001", "reg = 0.002"))


@pytest.mark.parametrize(
    ("change", "what"),
    [(change_split, "split"), (change_features, "features"), (change_settings, "settings")],
)
def test_what_has_changed_since(refused, folder, shop, interrupted, change, what):
    interrupted(3)
    before = (folder / "checkpoint.pt").read_bytes()
    change(shop)
    line = refused("train --resume r")
    assert f"checkpoint.pt is of other {what} than there are now, so the run cannot go on" in line
    assert f"start it anew with mmrec-train --config {folder}/config.toml" in line
    assert (folder / "checkpoint.pt").read_bytes() == before
    assert len(history(folder)) == 3


def foreign(path):
    torch.save({"weights": torch.ones(3)}, path)


def torn(path):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path):
    path.write_bytes(b"")


def code(path):
    torch.save(torch.nn.Linear(1, 1), path)


def incomplete(path):
    content = torch.load(path, weights_only=True)
    del content["lines"]
    torch.save(content, path)


@pytest.mark.parametrize("damage", [foreign, torn, empty, code, incomplete])
def test_a_checkpoint_that_is_none(refused, folder, interrupted, damage):
    interrupted(3)
    damage(folder / "checkpoint.pt")
    line = refused("train --resume r")
    assert "checkpoint.pt" in line
    assert f"the run cannot go on; start it anew with mmrec-train --config {folder}" in line


def test_a_run_that_is_still_being_trained(refused, folder, interrupted):
    interrupted(3)
    with locked(folder, "training into"):
        assert "is training into" in refused("train --resume r")


def test_a_run_in_another_place(mmrec, tmp_path, folder, whole, interrupted):
    expected = whole("--model", "freedom")
    interrupted(3)
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert mmrec("train --resume", moved).code == 0
    assert results(moved) == expected
    assert not folder.exists()


def test_the_weights_of_tuned_features_are_kept(mmrec, folder):
    words = ("--model", "vbpr", "--feature-source", "tuned")
    assert mmrec("train", *QUICK, *words).code == 0
    weights = load_file(folder / "model.safetensors")
    assert weights["features.tables.image"].shape == (40, 6)
    ids = [row["id"] for row in pq.read_table(folder / "ids.parquet").to_pylist()]
    lacking = ids.index("i3") - 30  # the users come first
    assert np.flatnonzero(~weights["features.tables.image"].any(axis=1)).tolist() == [lacking]
    assert "good (tuned)" in mmrec("runs").out
    assert pq.read_table(folder / "per_user.parquet").num_rows == 60
