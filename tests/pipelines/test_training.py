"""mmrec-train: a whole run folder, repeatable to the bit, whatever the order of the rows."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from support.process import libraries_imported, run_apart
from support.shop import interaction_rows, write_features, write_shop

from pipelines import training, training_job
from pipelines.cli import run
from recommend.metrics import CUTOFFS, METRICS
from recommend.models import MODELS

SHIPPED = sorted(path.stem for path in (Path(training.__file__).parent / "configs").glob("*.toml"))
QUICK = ("--set", "train.max_epochs=6", "--set", "train.batch_size=64")


@pytest.fixture
def shop(tmp_path):
    folder = write_shop(tmp_path)
    write_features(folder)
    return folder


@pytest.fixture
def trained(shop, mmrec, tmp_path):
    """A finished run of a model; gives its folder."""

    def train(model="freedom", *arguments, run="r"):
        outcome = mmrec("train --model", model, "--run", run, *QUICK, *arguments)
        assert outcome.code == 0, outcome.err
        return tmp_path / "runs" / "shop" / run

    return train


def test_the_run_folder_is_complete(trained):
    folder = trained("freedom", "--features", "good", "--seed", 3)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.toml",
        "embeddings.safetensors",
        "history.jsonl",
        "ids.parquet",
        "log.txt",
        "metrics.json",
        "model.safetensors",
        "per_user.parquet",
        "recommendations.parquet",
    ]
    metrics = json.loads((folder / "metrics.json").read_text())
    wanted = {"dataset": "shop", "features": "good", "model": "freedom", "seed": 3}
    assert wanted.items() <= metrics.items()
    assert metrics["protocol"] == "strict"
    assert metrics["users"] == 30
    assert set(metrics["selection"]) == {"metric", "epoch", "value"}
    assert metrics["selection"]["value"] == metrics["validation"]["recall@20"]
    assert metrics["modalities"] == {"image": 39, "text": 40}
    names = {f"{name}@{k}" for name in METRICS for k in CUTOFFS}
    assert set(metrics["validation"]) == set(metrics["test"]) == names
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6]
    assert set(history[0]["loss"]) == {"bpr", "bpr_image", "bpr_text"}
    best = max(history, key=lambda record: record["validation"]["recall@20"])
    assert best["epoch"] == metrics["selection"]["epoch"]
    assert "epoch    6" in (folder / "log.txt").read_text()


def test_per_user_values_average_to_the_metrics(trained):
    folder = trained()
    metrics = json.loads((folder / "metrics.json").read_text())
    every = pq.read_table(folder / "per_user.parquet").to_pylist()
    for split in ("validation", "test"):
        rows = [row for row in every if row["split"] == split]
        assert len(rows) == len({row["user_id"] for row in rows}) == 30
        for name, value in metrics[split].items():
            assert sum(row[name] for row in rows) / 30 == pytest.approx(value)


def test_recommendations_are_the_vectors_best_products_without_seen_items(trained):
    """Recomputed from embeddings.safetensors, ids.parquet and the log alone."""
    folder = trained("vbpr")
    vectors = load_file(folder / "embeddings.safetensors")
    ids = pq.read_table(folder / "ids.parquet").to_pylist()
    users = [row["id"] for row in ids if row["kind"] == "user"]
    items = [row["id"] for row in ids if row["kind"] == "item"]
    scores = vectors["users"] @ vectors["items"].T
    wanted = {}
    for row, user in enumerate(users):
        seen = {i for u, i, part in interaction_rows() if u == user and part != "test"}
        ranked = sorted(range(len(items)), key=lambda i: (-scores[row, i], i))
        wanted[user] = [items[i] for i in ranked if items[i] not in seen]
    got = {user: [] for user in users}
    for row in pq.read_table(folder / "recommendations.parquet").to_pylist():
        got[row["user_id"]].append(row["item_id"])
        assert row["rank"] == len(got[row["user_id"]])
        assert row["score"] == pytest.approx(
            scores[users.index(row["user_id"]), items.index(row["item_id"])], abs=1e-6
        )
    assert got == wanted


def results(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    keep = ("validation", "test", "selection", "users", "counts", "digests")
    recommendations = pq.read_table(folder / "recommendations.parquet")
    return {key: metrics[key] for key in keep}, recommendations.to_pydict()


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_same_seed_gives_the_same_bits(trained, model):
    one, same = (results(trained(model, "--seed", 5, run=run)) for run in ("a", "b"))
    assert one == same


@pytest.mark.parametrize("model", sorted(MODELS))
def test_another_order_of_the_input_rows_gives_equal_metrics(trained, shop, tmp_path, model):
    before = results(trained(model, run="before"))
    generator = np.random.default_rng(2)
    rows = [interaction_rows()[i] for i in generator.permutation(300)]
    items = [f"i{i}" for i in generator.permutation(40)]
    write_shop(tmp_path, rows=rows, items=items)
    assert results(trained(model, run="after")) == before


def test_the_resolved_settings_can_be_run_again(trained, mmrec, tmp_path):
    folder = trained("lightgcn", "--set", "model.layers=1", "--seed", 4)
    before = results(folder)
    outcome = mmrec("train --config", folder / "config.toml")
    assert outcome.code == 0, outcome.err
    assert results(folder) == before


def test_other_settings_do_not_overwrite_a_named_run(trained, refused):
    folder = trained("bpr")
    line = refused("train --model bpr --run r", *QUICK, "--seed", 1)
    assert "holds a run with other settings" in line
    assert (folder / "metrics.json").is_file()


def test_default_names_tell_runs_apart(shop, mmrec, tmp_path):
    for words in ("--model bpr", "--model bpr --set model.reg=0.5", "--model bpr --seed 1"):
        assert mmrec(f"train {words}", *QUICK).code == 0
    assert mmrec("train --model popularity").code == 0
    names = sorted(path.name for path in (tmp_path / "runs/shop").iterdir())
    assert names[-1] == "popularity-none-s0"
    assert len(names) == 4
    assert sum(name.startswith("bpr-none-s0-") for name in names) == 2


def test_a_model_without_features_says_so_whatever_it_is_given(trained, mmrec):
    metrics = json.loads((trained("bpr", "--features", "good") / "metrics.json").read_text())
    assert metrics["features"] == "good"
    assert metrics["modalities"] == {}
    assert metrics["digests"]["features"] == ""
    row = mmrec("runs").out.splitlines()[1]
    assert row.split()[:2] == ["bpr", "-"]


def test_controls_need_no_files_of_their_own(trained):
    random = json.loads(
        (trained("vbpr", "--features", "random", run="a") / "metrics.json").read_text()
    )
    folder = trained("vbpr", "--features", "shuffled:good", run="b")
    shuffled = json.loads((folder / "metrics.json").read_text())
    assert random["features"] == "random"
    assert shuffled["features"] == "shuffled:good"
    assert shuffled["modalities"] == {"image": 39, "text": 40}
    assert random["digests"]["features"] != shuffled["digests"]["features"]


@pytest.mark.parametrize("modalities", ["image", "text", "fused", "image,text,fused"])
@pytest.mark.parametrize("model", ["itemknn", "vbpr", "freedom"])
def test_modalities_are_a_choice(trained, model, modalities):
    folder = trained(model, "--modalities", modalities)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics["modalities"]) == modalities.split(",")


def test_content_that_decides_is_found_and_its_shuffle_is_not(shop, mmrec, tmp_path):
    values = {}
    for features in ("good", "shuffled:good"):
        name = features.replace(":", "-")
        outcome = mmrec("train --model itemknn --features", features, "--run", name)
        assert outcome.code == 0, outcome.err
        metrics = json.loads((tmp_path / f"runs/shop/{name}/metrics.json").read_text())
        values[features] = metrics["test"]["ndcg@10"]
    assert values["good"] > 1.3 * values["shuffled:good"]


def test_the_protocols_are_named_and_differ_at_test_only(trained):
    strict = results(trained("bpr", run="strict"))[0]
    mmrec = results(trained("bpr", "--protocol", "mmrec", run="mmrec"))[0]
    assert strict["validation"] == mmrec["validation"]
    # Validation items are candidates under mmrec, so that each test item has more rivals.
    assert strict["test"]["ndcg@50"] > mmrec["test"]["ndcg@50"]


def test_no_encoder_library_is_imported(shop, tmp_path):
    assert libraries_imported("train", "--root", tmp_path, "--model", "freedom", *QUICK) == set()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_with_two_threads_and_in_two_processes(shop, tmp_path):
    for name in ("a", "b"):
        arguments = ["--root", tmp_path, "--model", "freedom", "--run", name, *QUICK]
        run_apart("train", *arguments, OMP_NUM_THREADS="2")
    folders = [tmp_path / "runs" / "shop" / name for name in ("a", "b")]
    assert results(folders[0]) == results(folders[1])
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]


def test_a_failing_repetition_leaves_the_finished_run(trained, refused, shop, tmp_path):
    folder = trained("bpr")
    before = results(folder)
    everything = [("u0", f"i{item}", "train") for item in range(40)]
    held_out = [("u1", "i1", "validation"), ("u1", "i2", "test")]
    write_shop(tmp_path, rows=everything + held_out)
    assert "a user took all 40 training items" in refused("train --model bpr --run r", *QUICK)
    assert results(folder) == before


def test_a_model_that_draws_no_negatives_does_not_miss_them(mmrec, tmp_path):
    rows = [("u0", "i0", "train"), ("u0", "i1", "validation"), ("u0", "i2", "test")]
    write_shop(tmp_path, rows=rows)
    assert mmrec("train --model popularity").code == 0


def test_the_device_is_no_setting_of_a_run(trained, mmrec):
    trained("popularity", "--device", "auto")
    assert mmrec("train --model popularity --run r --device cpu", *QUICK).code == 0


@pytest.mark.parametrize("name", SHIPPED)
def test_settings_that_come_along(shop, mmrec, name):
    outcome = mmrec("train --config", name, "--set", "train.max_epochs=1", "--protocol", "mmrec")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[1].split()[0] == name.split("-")[0]


def test_ctrl_c_ends_with_130_and_an_unfinished_run(shop, mmrec, tmp_path, monkeypatch):
    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(training_job, "fit", interrupt)
    outcome = mmrec("train --model bpr --run r")
    assert outcome.code == 130
    folder = tmp_path / "runs/shop/r"
    assert outcome.error == f"error: interrupted; go on with mmrec-train --resume {folder}"
    assert not (folder / "metrics.json").exists()


def test_the_help_names_every_setting_with_its_default(mmrec, capsys):
    run("train", ["--help"])
    told = capsys.readouterr().out
    assert "train.patience=20" in told
    for name, kind in MODELS.items():
        assert name in told
        for key, field in kind.config_class.model_fields.items():
            assert f"  model.{key}={field.default} " in told


def test_quiet_says_only_the_result(shop, mmrec):
    outcome = mmrec("train --model popularity --quiet")
    assert outcome.err == ""
    assert "popularity" in outcome.out
