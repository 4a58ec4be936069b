"""A search on validation: what it is handed, what it chooses, and how it goes on after a kill."""

import gc
import weakref
from types import SimpleNamespace

import pytest
from support.searching import Told, run_search, settings, studies, trials_of
from support.shop import interaction_rows, write_features, write_shop

from extract.errors import UserError
from pipelines.assembling import assemble, with_names
from pipelines.comparisons.searching import search as module
from pipelines.comparisons.searching.search import SearchOptions
from pipelines.comparisons.searching.studies import opened
from pipelines.comparisons.searching.trial_settings import overridden
from pipelines.training_job import fit_parts
from pipelines.workspace import Workspace
from recommend.models.bpr import BPRConfig
from recommend.models.lightgcn import LightGCNConfig
from recommend.search_space import Choice, Range
from recommend.train import TrainOptions


@pytest.fixture
def shop(tmp_path):
    """A workspace with the data set shop; gives its root."""
    write_features(write_shop(tmp_path))
    return tmp_path


@pytest.fixture
def space(monkeypatch):
    """Put other spaces in place of those of a config class, by its settings."""

    def replace(config_class, **values):
        monkeypatch.setattr(config_class, "search_space", values)

    return replace


@pytest.fixture
def handed(monkeypatch):
    """The parts and the hook that each trial is trained with, as they come."""
    seen = []

    def spy(parts, checkpoint, on_epoch):
        seen.append((parts, on_epoch))
        return fit_parts(parts, checkpoint, on_epoch)

    monkeypatch.setattr(module, "fit_parts", spy)
    return seen


def value_of(root, config):
    """What a training without any search has on validation."""
    workspace = Workspace(root)
    parts = assemble(with_names(config, workspace), workspace)
    return fit_parts(parts, None).validation.means()[config.train.selection]


# What is chosen.


@pytest.mark.parametrize("model", ["bpr", "freedom", "itemknn"])
def test_the_first_trial_is_the_settings_as_they_are_and_the_choice_is_not_worse(shop, model):
    config = settings(model)
    chosen = run_search(shop, config)
    trials = trials_of(shop / "search.db")
    assert trials[0][2] == [value_of(shop, config)]
    assert chosen.value == max(value for state, _, (value,), _ in trials if state == "COMPLETE")
    assert chosen.value >= trials[0][2][0]
    assert chosen.trials == len(trials) == 6
    assert value_of(shop, overridden(config, chosen.settings)) == chosen.value


def test_the_first_trial_wins_where_nothing_in_the_space_is_better(shop, space):
    space(BPRConfig)
    space(TrainOptions, learning_rate=Range(1e-9, 1e-8, log=True))
    chosen = run_search(shop)
    assert chosen.settings == {"model": {}, "train": {"learning_rate": 0.02}}
    assert chosen.value == value_of(shop, settings())


def test_of_equal_trials_the_first_is_chosen(shop, space, monkeypatch):
    space(BPRConfig)
    space(TrainOptions, learning_rate=Range(1e-4, 1e-2, log=True))
    values = iter([0.1, 0.3, 0.2, 0.3, 0.3])
    monkeypatch.setattr(module, "_value", lambda *_: next(values))
    chosen = run_search(shop, trials=5)
    assert chosen.value == 0.3
    second = trials_of(shop / "search.db")[1][1]
    assert chosen.settings["train"]["learning_rate"] == second["train.learning_rate"]


def test_the_better_of_two_is_found_whatever_one_starts_from(shop, space):
    """A weight of a thousand leaves nothing but the L2 term."""
    space(LightGCNConfig, reg=Choice((0.0, 1000.0)))
    space(TrainOptions)
    config = settings({"name": "lightgcn", "reg": 1000.0})
    chosen = run_search(shop, config)
    assert chosen.settings["model"] == {"reg": 0.0}
    assert chosen.value > value_of(shop, config)
    assert run_search(shop, settings("lightgcn")).value == chosen.value


def test_a_known_optimum_is_found(shop, space, monkeypatch):
    """The best rate is 0.003, the best number of layers 3; values are of a formula."""
    space(LightGCNConfig, layers=Range(1, 4, integer=True))
    space(TrainOptions, learning_rate=Range(1e-5, 1.0, log=True))

    def formula(parts, checkpoint, on_epoch):
        rate, layers = parts.config.train.learning_rate, parts.config.model["layers"]
        value = 1 / (1 + abs(rate / 0.003 - 1) + abs(layers - 3))
        return SimpleNamespace(validation=SimpleNamespace(means=lambda: {"recall@20": value}))

    monkeypatch.setattr(module, "fit_parts", formula)
    config = settings({"name": "lightgcn", "layers": 1}, train={"learning_rate": 1.0})
    chosen = run_search(shop, config, trials=40)
    assert chosen.settings["model"] == {"layers": 3}
    assert 0.0015 < chosen.settings["train"]["learning_rate"] < 0.006


def test_settings_may_start_outside_of_the_space(shop):
    """A reg of 0 lies in no range of factors."""
    chosen = run_search(shop, settings({"name": "bpr", "reg": 0.0}), trials=3)
    first, *others = trials_of(shop / "search.db")
    assert first[1] == {}  # 0.02 lies above the rates, too
    assert all(set(params) == {"model.reg", "train.learning_rate"} for _, params, *_ in others)
    assert set(chosen.settings["model"]) == {"reg"}


def test_where_nothing_can_be_tried_the_settings_are_only_judged(shop):
    chosen = run_search(shop, settings("popularity"))
    assert (chosen.settings, chosen.trials) == ({"model": {}, "train": {}}, 1)
    assert chosen.value == value_of(shop, settings("popularity"))


def test_epochs_patience_and_metric_are_those_of_the_settings(shop, handed):
    options = {"max_epochs": 3, "patience": 2, "selection": "ndcg@10"}
    chosen = run_search(shop, settings(train=options), trials=3)
    assert len(handed) == 3
    for parts, _ in handed:
        assert options.items() <= parts.config.train.model_dump().items()
    assert chosen.value == value_of(shop, overridden(settings(train=options), chosen.settings))


# Trials that come to nothing.


def test_a_hopeless_trial_is_given_up_early(shop, space, handed):
    space(BPRConfig)
    space(TrainOptions, learning_rate=Choice((0.02, 1e-12)))
    reporter = Told()
    chosen = run_search(shop, settings(train={"max_epochs": 12}), startup=1, reporter=reporter)
    trials = trials_of(shop / "search.db")
    hopeless = [t for t in trials if t[1] == {"train.learning_rate": 1e-12}]
    assert chosen.pruned == len(hopeless) > 0
    for state, _, _, by_epoch in hopeless:
        assert state == "PRUNED"
        assert 2 <= max(by_epoch) < 12
    assert all(state == "COMPLETE" for state, params, *_ in trials if params != hopeless[0][1])
    assert any("given up early" in line for line in reporter.lines)
    models = [weakref.ref(parts.model) for parts, _ in handed]
    handed.clear()
    gc.collect()
    assert [model() for model in models] == [None] * 6


def test_a_trial_that_diverges_fails_alone(shop, space):
    space(BPRConfig)
    space(TrainOptions, learning_rate=Choice((0.02, 1e38)))
    reporter = Told()
    chosen = run_search(shop, trials=6, reporter=reporter)
    trials = trials_of(shop / "search.db")
    assert [t[0] for t in trials].count("FAIL") == chosen.failed > 0
    assert chosen.trials == 6
    assert chosen.settings["train"] == {"learning_rate": 0.02}
    assert any("failed: the loss is not finite" in line for line in reporter.lines)


def test_settings_that_diverge_are_only_the_first_trial(shop, space):
    space(BPRConfig)
    space(TrainOptions, learning_rate=Range(0.01, 0.05))
    chosen = run_search(shop, settings(train={"learning_rate": 1e38}), trials=3)
    assert chosen.failed == 1
    assert 0.01 <= chosen.settings["train"]["learning_rate"] <= 0.05


def test_where_every_trial_fails_the_error_is_told(shop, space):
    space(BPRConfig)
    space(TrainOptions, learning_rate=Choice((1e37, 1e38)))
    with pytest.raises(UserError, match=r"none of 3 trials of bpr .* the loss is not finite"):
        run_search(shop, settings(train={"learning_rate": 1e38}), trials=3)


# The same again, and more of it.


def test_the_same_seed_gives_the_same_trials_and_another_one_others(shop):
    first, again = (run_search(shop, storage=shop / f"{n}.db") for n in (1, 2))
    assert first == again
    assert trials_of(shop / "1.db") == trials_of(shop / "2.db")
    run_search(shop, storage=shop / "3.db", seed=1)
    assert trials_of(shop / "3.db")[0] == trials_of(shop / "1.db")[0]
    assert trials_of(shop / "3.db")[1:] != trials_of(shop / "1.db")[1:]


def test_a_search_that_has_ended_is_not_done_again_but_may_go_on(shop, handed):
    first = run_search(shop, trials=4)
    assert run_search(shop, trials=4) == first
    # Fewer are the first ones, as if there had been no more.
    assert run_search(shop, trials=2) == run_search(shop, trials=2, storage=shop / "two.db")
    assert len(handed) == 4 + 2
    del handed[:2]
    more = run_search(shop, trials=7)
    assert len(handed) == 7
    assert more == run_search(shop, trials=7, storage=shop / "at once.db")
    assert trials_of(shop / "search.db") == trials_of(shop / "at once.db")


def test_what_decides_the_search_decides_the_study(shop):
    run_search(shop, trials=1)
    run_search(shop, settings(run="called otherwise", device="cpu"), trials=1)
    assert len(studies(shop / "search.db")) == 1
    others = (
        settings(seed=1),
        settings("lightgcn"),
        settings({"name": "bpr", "embedding_size": 8}),
        settings(train={"max_epochs": 4}),
        settings(protocol="mmrec"),
    )
    for config in others:
        run_search(shop, config, trials=1)
    run_search(shop, trials=1, warmup=3)
    rows = interaction_rows()
    write_shop(shop, rows=[row for row in rows if row != rows[0]])
    run_search(shop, trials=1)
    assert len(studies(shop / "search.db")) == 1 + len(others) + 2


def test_a_trial_that_ends_in_a_defect_fails_alone(shop, monkeypatch):
    begun = iter(range(9))

    def failing(*arguments):
        if next(begun) == 2:
            raise RuntimeError("out of memory")
        return fit_parts(*arguments)

    monkeypatch.setattr(module, "fit_parts", failing)
    chosen = run_search(shop, trials=5)
    assert (chosen.trials, chosen.failed) == (5, 1)
    [failed] = [trial for trial in all_trials(shop) if trial.state.name == "FAIL"]
    assert failed.user_attrs["error"] == "RuntimeError: out of memory"


def test_settings_that_end_every_process_are_given_up(shop, monkeypatch):
    """What kills a process leaves its trial running; here an exception stands for it."""
    begun = []

    def dying(parts, checkpoint, on_epoch):
        begun.append(parts.config)
        if parts.config.results() == begun[min(2, len(begun) - 1)].results() and len(begun) > 2:
            raise SystemExit
        return fit_parts(parts, checkpoint, on_epoch)

    monkeypatch.setattr(module, "fit_parts", dying)
    for _ in range(3):
        with pytest.raises(SystemExit):
            run_search(shop, trials=4)
    chosen = run_search(shop, trials=4)
    assert (chosen.trials, chosen.failed) == (4, 1)
    assert len(begun) == 2 + 3 + 1
    assert [trial.state.name for trial in all_trials(shop)][2:5] == ["FAIL"] * 3


def all_trials(shop):
    (trials,) = studies(shop / "search.db").values()
    return trials


# Refusals.


@pytest.mark.parametrize("regime", ["refresh", "end-to-end"])
def test_a_regime_with_an_encoder_is_refused(shop, regime):
    with pytest.raises(UserError, match=f"cached features.*{regime}"):
        run_search(shop, settings(feature_source=regime, encoder="offline"))


def test_tuned_features_are_searched_too(shop, handed):
    config = settings("vbpr", feature_source="tuned")
    assert run_search(shop, config, trials=2).value >= value_of(shop, config)
    tables = [parts.features.tables["image"].data_ptr() for parts, _ in handed]
    assert len(set(tables)) == 2  # each trial starts from the features as they are


def test_without_optuna_the_extra_is_named(shop, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UserError, match=r'pip install "mmrec\[search\]"'):
        run_search(shop)


def test_a_file_of_something_else_is_refused_and_left_alone(shop):
    (shop / "search.db").write_text("ratings" * 1000)
    with pytest.raises(UserError, match=r"search.db cannot be used as the SQLite file"):
        run_search(shop)
    assert (shop / "search.db").read_text() == "ratings" * 1000


@pytest.mark.parametrize(
    ("name", "value"), [("trials", 0), ("seed", -1), ("startup", 0), ("warmup", -1)]
)
def test_numbers_that_are_too_small(name, value):
    with pytest.raises(UserError, match=f"needs {name} of {value + 1} or more, found {value}"):
        SearchOptions(**{name: value})


def test_the_same_search_twice_at_once_is_refused(shop):
    run_search(shop, trials=1)
    (name,) = studies(shop / "search.db")
    with (
        opened(shop / "search.db", name, 3, 2),
        pytest.raises(UserError, match="another process is doing the same search"),
    ):
        run_search(shop, trials=2)
    assert run_search(shop, trials=2).trials == 2
    assert not list(shop.glob(".*.lock"))
