"""Encoders that runs have saved: named by the run, and used like any other."""

import json
import shutil

import pytest
import torch
from support.s3 import BUCKET
from support.tiny_clip import write_gallery
from support.tuning import SHARES, told

from extract.encoders import create_encoder
from extract.encoders.adaptation import Adaptation, adapt
from extract.encoders.tuned import Recipe, load_tuned, save_tuned
from extract.encoders.weights import trained_weights
from extract.finetune.optimizer import choose_trained
from extract.finetune.options import TuneOptions
from pipelines.cli import run
from pipelines.encoder_specs import encoder_spec
from pipelines.roots import open_root
from pipelines.workspace import Workspace, read_json

AGAIN = ("--projection", "0", "--train", "heads", *SHARES)


@pytest.fixture(autouse=True)
def shop(tmp_path):
    return write_gallery(tmp_path)


@pytest.fixture
def runs(tmp_path):
    """The data set's runs: one end to end, one on cached features."""
    folder = tmp_path / "runs" / "shop"
    save_run(folder / "r1")
    save_run(folder / "cached", spec=None)
    return folder


def save_run(folder, spec="random:16", seed=0):
    """What a run leaves behind: its settings, and an encoder with projections that moved."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("")
    if spec is None:
        return
    torch.manual_seed(seed)
    base = create_encoder(spec)
    recipe = Recipe(base.spec, base.fingerprint(), Adaptation(projection=8))
    encoder, added = adapt(base, recipe.adaptation)
    choose_trained(encoder, added, TuneOptions())
    save_tuned(folder / "encoder", recipe, trained_weights(encoder), {"dataset": "shop"})


def model_of(shop, name):
    manifest = json.loads((shop / "features" / name / "manifest.json").read_text())
    return manifest["encoder"]["model"]


@pytest.mark.parametrize("way", ["r1", "shop/r1", "{runs}/r1", "{runs}/r1/"])
def test_features_under_the_runs_name(mmrec, shop, runs, way):
    outcome = mmrec("extract --workers 0 --encoder", way.format(runs=runs))
    assert outcome.code == 0, outcome.err
    assert model_of(shop, "r1") == load_tuned(runs / "r1" / "encoder").fingerprint()


def test_a_run_of_another_data_set_by_its_path(mmrec, refused, shop, runs, tmp_path):
    (tmp_path / "runs" / "shop").rename(tmp_path / "runs" / "mall")
    assert "unknown encoder 'mall/r1'" in refused("extract --encoder mall/r1")
    assert mmrec("extract --workers 0 --encoder", tmp_path / "runs" / "mall" / "r1").code == 0
    model = load_tuned(tmp_path / "runs" / "mall" / "r1" / "encoder").fingerprint()
    assert model_of(shop, "r1") == model


def test_encoders_and_runs_of_each_other_move_with_the_workspace(mmrec, shop, runs, tmp_path):
    assert mmrec("finetune --encoder r1 --out ft", *AGAIN).code == 0
    assert told(shop, "ft")["base"] == "tuned:../../../../runs/shop/r1/encoder"
    save_run(runs / "r2", spec=f"tuned:{shop / 'encoders' / 'ft'}")
    # From a path, another one of the same workspace.
    assert mmrec("finetune --out ft2 --encoder", runs / "r2", *AGAIN).code == 0
    assert told(shop, "ft2")["base"] == "tuned:../../../../runs/shop/r2/encoder"
    model = load_tuned(shop / "encoders" / "ft2").fingerprint()
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("data", "runs"):
        shutil.move(tmp_path / name, moved)
    extract = ["--encoder", "ft2", "--workers", "0", "--root", str(moved)]
    assert run("extract", extract) == 0
    assert model_of(moved / "data" / "shop", "ft2") == model


def test_a_run_of_another_workspace(mmrec, shop, runs, tmp_path):
    (tmp_path / "runs").rename(tmp_path / "far")
    elsewhere = tmp_path / "far" / "shop" / "r1"
    assert mmrec("finetune --out ft --encoder", elsewhere, *AGAIN).code == 0
    assert told(shop, "ft")["base"] == f"tuned:{elsewhere / 'encoder'}"
    load_tuned(shop / "encoders" / "ft")


def test_a_name_that_an_encoder_and_a_run_share(mmrec, refused, shop, runs):
    encoders = shop / "encoders"
    shutil.copytree(runs / "r1" / "encoder", encoders / "r1")
    error = refused("extract --encoder r1")
    assert f"'r1' names the encoder {encoders / 'r1'} and that of the run {runs / 'r1'}" in error
    assert "give the run's path" in error
    assert mmrec("extract --workers 0 --encoder", runs / "r1").code == 0
    # Where the run has no encoder, nothing else can be meant.
    shutil.copytree(runs / "r1" / "encoder", encoders / "cached")
    assert mmrec("extract --workers 0 --encoder cached").code == 0


@pytest.mark.parametrize("way", ["cached", "shop/cached", "{runs}/cached"])
def test_a_run_without_an_encoder(refused, runs, way):
    error = refused("extract --encoder", way.format(runs=runs))
    assert f"the run {runs / 'cached'} has no encoder of its own" in error
    assert "trained on cached features" in error
    assert "mmrec-train --end-to-end saves one" in error


@pytest.mark.parametrize("name", ["r3", "shop/r3", "shop/shop/r1", "../shop/r1", "shop/"])
def test_what_is_unknown_is_told_with_what_there_is(refused, runs, name):
    error = refused("extract --encoder", name)
    assert f"unknown encoder '{name}'" in error
    assert ", r1, " in error
    assert "cached" not in error


def test_what_is_named_lists_runs(shop, runs, tmp_path):
    dataset = Workspace(tmp_path).dataset("shop")
    assert dataset.runs == runs
    assert dataset.run_encoders() == ["r1"]
    assert encoder_spec("r1", dataset) == f"tuned:{runs / 'r1' / 'encoder'}"


def test_no_runs_at_all(tmp_path):
    assert Workspace(tmp_path).dataset("shop").run_encoders() == []


def test_in_an_object_store(mmrec, store, shop, runs, tmp_path, capsys):
    """A run's encoder made from a tuned one made from a run's: all three are fetched."""
    assert mmrec("finetune --encoder r1 --out ft", *AGAIN).code == 0
    save_run(runs / "r2", spec=f"tuned:{shop / 'encoders' / 'ft'}")
    save_run(runs / "encoder")
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        (store / file.relative_to(tmp_path).as_posix()).write_bytes(file.read_bytes())

    def remote(words, *arguments, code=0):
        name, *rest = words.split()
        capsys.readouterr()
        assert run(name, [*rest, *map(str, arguments), "--root", str(store)]) == code
        return capsys.readouterr().err

    model = load_tuned(runs / "r2" / "encoder").fingerprint()
    for way in ("r2", store / "runs" / "shop" / "r2"):
        remote("extract --workers 0 --overwrite --encoder", way)
        manifest = read_json(store / "data" / "shop" / "features" / "r2" / "manifest.json")
        assert manifest["encoder"]["model"] == model
    remote("finetune --encoder r2 --out ft2", *AGAIN)
    folder = store / "data" / "shop" / "encoders"
    assert read_json(folder / "ft2" / "encoder.json")["base"] == (
        "tuned:../../../../runs/shop/r2/encoder"
    )
    remote("finetune --encoder ft2 --out ft3", *AGAIN)
    assert read_json(folder / "ft3" / "encoder.json")["base"] == "tuned:../ft2"
    # What the new one is made from cannot make way for it; another's folder of that name can.
    error = remote("finetune --encoder ft3 --out ft --overwrite", *AGAIN, code=1)
    assert "cannot be replaced by one that is made from it" in error
    remote("finetune --encoder encoder --out encoder", *AGAIN)
    # Of another workspace there, the base could not be named.
    far = open_root(f"s3://{BUCKET}/far") / "runs" / "shop" / "r1"
    (far / "config.toml").write_text("")
    assert "lies in another workspace" in remote("extract --encoder", far, code=1)
