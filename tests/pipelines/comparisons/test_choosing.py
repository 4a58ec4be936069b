"""What a search chose: found again if it was made in the same way, and part of a run's name."""

from dataclasses import replace

import pytest
from support.shop import write_features, write_shop

from pipelines.comparisons.planning.grid import CompareConfig, cells
from pipelines.comparisons.running.cells import TrainCell
from pipelines.comparisons.running.counting import Count
from pipelines.comparisons.running.pool import Outcome
from pipelines.comparisons.running.working import Place, Work
from pipelines.comparisons.searching.choosing import (
    Choice,
    SearchSystem,
    by_search,
    key_of,
    of_encoders,
    read_choice,
    with_choice,
)
from pipelines.comparisons.searching.search import SearchOptions
from pipelines.progress import Reporter
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


WHOLE = 'key = "key"\ntrials = 2\nvalue = 0.5\n[settings.model]\n[settings.train]\n'


def test_a_whole_choice(tmp_path):
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "a.toml").write_text(WHOLE)
    assert read_choice(tmp_path, "a", "key") == Choice({"model": {}, "train": {}}, 2, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        *("", "key = ", 'key = "key"', "key = 3"),
        WHOLE.replace("[settings.train]\n", ""),
        WHOLE.replace("[settings.model]\n[settings.train]\n", "settings = 3\n"),
        WHOLE.replace("[settings.model]\n", "[settings]\nmodel = 3\n"),
        WHOLE.replace("0.5", '"much"'),
    ],
)
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
        searches, unsearched = by_search(cells(CompareConfig(**given, **settings), workspace))
        told = {own.cell.system: {cell.system for cell in own.cells} for own in searches}
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
    # Also where nobody asked for the frozen ones.
    assert systems(features=own, regimes=("tuned", "refresh")) == (
        {
            "vbpr-tuned_one-tuned": {"vbpr-tuned_one-tuned"},
            "vbpr-tuned_one-frozen": {"vbpr-tuned_one-refresh"},
        },
        set(),
    )
    # Vectors that are not the encoder's own are of other features.
    frozen = {"vbpr-good-frozen": {"vbpr-good-frozen"}}
    assert systems(features=("good",), regimes=("frozen", "refresh")) == (
        frozen,
        {"vbpr-tuned_one-refresh"},
    )


@pytest.mark.parametrize("regime", ["refresh", "end-to-end"])
def test_what_is_searched_for_an_encoder_is_what_is_searched_frozen(workspace, tmp_path, regime):
    """So that a grid with frozen cells finds the choice of one without, and the other way round."""
    write_features(tmp_path / "data/shop", "tuned_one")

    def search_of(regimes):
        config = CompareConfig(
            models=("vbpr",),
            features=("tuned_one",),
            controls=False,
            regimes=regimes,
            encoder="tuned_one" if regime in regimes else None,
            seeds=(3, 4),
        )
        [search], _ = by_search(cells(config, workspace))
        return search

    frozen, live = search_of(("frozen",)), search_of((regime,))
    keys = {key_of(own.cell, workspace, OPTIONS, LOG) for own in (frozen, live)}
    assert len(keys) == 1
    assert {own.config.feature_source for own in live.cells} == {regime}
    choice = Choice({"model": {"embedding_size": 24}, "train": {"learning_rate": 0.5}}, 3, 0.1)
    for cell in live.cells:
        after = with_choice(cell.config, choice, workspace)
        assert (after.model["embedding_size"], after.train.learning_rate) == (24, 0.5)
        assert (after.feature_source, after.encoder) == (regime, "tuned_one")
        assert after.end_to_end == cell.config.end_to_end
        assert after.run.startswith(f"vbpr-tuned_one-{regime}-s{cell.config.seed}-")


class Searched:
    """A pool of which every search has the same choice, and which trains nothing."""

    def __init__(self, choice):
        self.choice, self.tasks = choice, []

    def add(self, tasks):
        self.tasks += tasks

    def outcomes(self):
        for task in self.tasks:
            if isinstance(task, SearchSystem):
                yield Outcome(task, self.choice, "", "", 1, 0)


def test_an_encoder_is_trained_with_what_was_chosen_frozen(workspace, tmp_path):
    write_features(tmp_path / "data/shop", "tuned_one")
    config = CompareConfig(
        models=("vbpr",),
        features=("tuned_one",),
        controls=False,
        regimes=("tuned", "refresh", "end-to-end"),
        encoder="tuned_one",
        seeds=(0, 1),
    )
    grid = cells(config, workspace)
    pool = Searched(
        Choice({"model": {"embedding_size": 24}, "train": {"learning_rate": 0.5}}, 3, 0.1)
    )
    place = Place(workspace, tmp_path / "c", LOG)
    work = Work(place, pool, Count(len(grid), 1), "recall@20", Reporter(quiet=True))
    work.begin(grid, OPTIONS)
    worked = work.finish()
    searches = [task.cell.system for task in pool.tasks if isinstance(task, SearchSystem)]
    assert searches == ["vbpr-tuned_one-tuned", "vbpr-tuned_one-frozen"]
    trained = [task.config for task in pool.tasks if isinstance(task, TrainCell)]
    assert sorted((own.feature_source, own.seed) for own in trained) == [
        (regime, seed) for regime in ("end-to-end", "refresh", "tuned") for seed in (0, 1)
    ]
    assert {own.model["embedding_size"] for own in trained} == {24}
    assert worked.searched == {own.run: 3 for own in trained}


def test_lines_on_systems_with_an_encoder(workspace, tmp_path):
    write_features(tmp_path / "data/shop", "tuned_one")

    def told(features, **settings):
        config = CompareConfig(models=("vbpr",), features=features, controls=False, **settings)
        grid = cells(config, workspace)
        return list(of_encoders(grid, by_search(grid)[1]))

    live = {"regimes": ("refresh", "end-to-end"), "encoder": "tuned_one"}
    names = "vbpr-tuned_one-end-to-end and vbpr-tuned_one-refresh"
    assert told(("tuned_one",), **live) == [
        f"{names}: the settings are those chosen for the same features frozen"
    ]
    assert told(("good",), **live) == [
        f"{names}: nothing is searched, as they start from no features of the data set"
    ]
    assert told(("good",)) == []


def test_a_run_with_chosen_settings_has_another_name(cell, workspace):
    settings = {"model": {"embedding_size": 24}, "train": {"learning_rate": 0.5}}
    before = cell().config
    after = with_choice(before, Choice(settings, 3, 0.1), workspace)
    assert (after.model["embedding_size"], after.train.learning_rate) == (24, 0.5)
    assert (after.train.max_epochs, after.features, after.seed) == (2, "good", before.seed)
    assert after.run.startswith("vbpr-good-s0-")
    assert after.run != before.run
