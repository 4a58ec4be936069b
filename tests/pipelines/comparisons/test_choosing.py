"""What a search chose: found again if it was made in the same way, and part of a run's name."""

from dataclasses import replace

import pytest
from support.shop import write_features, write_shop

from pipelines.comparisons.planning.grid import CompareConfig, cells
from pipelines.comparisons.searching.choosing import (
    Choice,
    SearchSystem,
    by_search,
    key_of,
    read_choice,
    with_choice,
)
from pipelines.comparisons.searching.search import SearchOptions
from pipelines.workspace import Workspace

LOG = {"split": "one"}
OPTIONS = SearchOptions(trials=2)


@pytest.fixture
def workspace(tmp_path):
    write_features(write_shop(tmp_path))
    return Workspace(tmp_path)


@pytest.fixture
def cell(workspace):
    """The first cell of a grid of one model."""

    def of(model="vbpr", epochs=2):
        train = {"max_epochs": epochs, "batch_size": 64}
        return cells(CompareConfig(models=(model,), device="cpu", train=train), workspace)[0]

    return of


def test_what_was_chosen_is_read_back(cell, workspace, tmp_path):
    pytest.importorskip("optuna", reason="needs the extra search")
    system = cell()
    choice = SearchSystem(system, workspace.root, tmp_path / "c", OPTIONS, "key")()
    assert choice.trials == 2
    assert choice.settings.keys() == {"model", "train"}
    assert (tmp_path / "c" / "chosen" / "vbpr-good-frozen.toml").is_file()
    assert read_choice(tmp_path / "c", system.system, "key") == choice
    assert read_choice(tmp_path / "c", system.system, "another key") is None
    assert read_choice(tmp_path, system.system, "key") is None


@pytest.mark.parametrize("text", ["", "key = ", 'key = "key"', "key = 3"])
def test_a_torn_choice_is_none(tmp_path, text):
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "a.toml").write_text(text)
    assert read_choice(tmp_path, "a", "key") is None


def test_the_key_is_of_all_that_a_choice_depends_on(cell, workspace, tmp_path):
    keys = [
        key_of(cell(), workspace, OPTIONS, LOG),
        key_of(cell("bm3"), workspace, OPTIONS, LOG),
        key_of(cell(epochs=3), workspace, OPTIONS, LOG),
        key_of(cell(), workspace, replace(OPTIONS, trials=3), LOG),
        key_of(cell(), workspace, replace(OPTIONS, seed=1), LOG),
        key_of(cell(), workspace, OPTIONS, {"split": "another"}),
    ]
    assert keys[0] == key_of(cell(), workspace, OPTIONS, LOG)
    path = tmp_path / "data/shop/features/good/manifest.json"
    path.write_text(path.read_text().replace('"fingerprint": "f"', '"fingerprint": "g"'))
    keys.append(key_of(cell(), workspace, OPTIONS, LOG))
    assert len(set(keys)) == 7


def test_an_encoder_in_the_loop_has_the_settings_that_are_chosen_for_its_features(
    workspace, tmp_path
):
    write_features(tmp_path / "data/shop", "tuned_one")

    def systems(**settings):
        given = {"models": ("vbpr",), "encoder": "tuned_one", "controls": False, "device": "cpu"}
        searched, unsearched = by_search(cells(CompareConfig(**given, **settings), workspace))
        told = {name: {cell.system for cell in own} for name, own in searched.items()}
        return told, {cell.system for cell in unsearched}

    own = ("tuned_one",)
    assert systems(features=own, regimes=("frozen", "tuned", "refresh", "end-to-end")) == (
        {
            "vbpr-tuned_one-frozen": {
                "vbpr-tuned_one-frozen",
                "vbpr-tuned_one-refresh",
                "vbpr-tuned_one-end-to-end",
            },
            "vbpr-tuned_one-tuned": {"vbpr-tuned_one-tuned"},
        },
        set(),
    )
    assert systems(features=own, regimes=("refresh",)) == ({}, {"vbpr-tuned_one-refresh"})
    # Vectors that are not the encoder's own are of other features.
    frozen = {"vbpr-good-frozen": {"vbpr-good-frozen"}}
    assert systems(features=("good",), regimes=("frozen", "refresh")) == (
        frozen,
        {"vbpr-tuned_one-refresh"},
    )


def test_a_run_with_chosen_settings_has_another_name(cell, workspace):
    settings = {"model": {"embedding_size": 24}, "train": {"learning_rate": 0.5}}
    before = cell().config
    after = with_choice(before, Choice(settings, 3, 0.1), workspace)
    assert (after.model["embedding_size"], after.train.learning_rate) == (24, 0.5)
    assert (after.train.max_epochs, after.features, after.seed) == (2, "good", before.seed)
    assert after.run.startswith("vbpr-good-s0-")
    assert after.run != before.run
