"""Systems: which runs are one system, what they are called, which may not be compared."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.compared import log_rows, market, noise, put_run

from extract.errors import UserError
from pipelines.comparisons.measuring.feature_sets import feature_sets
from pipelines.comparisons.measuring.outcomes import Judges, outcome_of
from pipelines.comparisons.measuring.systems import (
    feature_names,
    features_of,
    group_runs,
    open_runs,
)
from pipelines.loading import load_log


def groups(workspace, folders):
    runs = open_runs(folders)
    return group_runs(runs, feature_sets(workspace.dataset(None), feature_names(runs)))


@pytest.fixture
def shop(tmp_path):
    return market(tmp_path)


def test_runs_that_differ_in_seed_and_device_alone_are_one_system(shop):
    folders = [put_run(shop, noise(), seed=2), put_run(shop, noise(), seed=0, device="cpu")]
    (own,) = groups(shop, folders)
    assert (own.name, own.model, own.features) == ("bpr · none", "bpr", "none")
    assert own.seeds == (0, 2)
    assert own.settings == {}


def test_names_tell_model_features_and_regime(shop):
    folders = [
        put_run(shop, noise(), "vbpr", "good"),
        put_run(shop, noise(), "vbpr", "good", feature_source="tuned"),
        put_run(shop, noise(), "vbpr", "shuffled:good"),
        put_run(shop, noise(), "vbpr", "random"),
        put_run(shop, noise(), "lightgcn"),
    ]
    told = {own.name: own.control for own in groups(shop, folders)}
    assert told == {
        "lightgcn · none": None,
        "vbpr · good": None,
        "vbpr · good · tuned": None,
        "vbpr · random": "random",
        "vbpr · shuffled:good": "shuffled",
    }


def test_features_that_a_model_does_not_use_make_no_other_system(shop):
    folders = [put_run(shop, noise()), put_run(shop, noise(), features="good", seed=1)]
    assert [own.seeds for own in groups(shop, folders)] == [(0, 1)]
    assert {features_of(run) for run in open_runs(folders)} == {"none"}


def test_settings_tell_systems_apart_only_where_they_must(shop):
    train = {"learning_rate": 0.01, "batch_size": 512}
    folders = [
        put_run(shop, noise()),
        put_run(shop, noise(), train=train),
        put_run(shop, noise(), "lightgcn", train=train),
    ]
    told = {own.name: dict(own.settings) for own in groups(shop, folders)}
    both = {"train.learning_rate": "0.01", "train.batch_size": "512"}
    assert told == {
        "bpr · none · batch_size=2048": {},
        "bpr · none · batch_size=512": both,
        "lightgcn · none": both,
    }


def test_two_runs_of_one_seed_are_refused(shop):
    folders = [put_run(shop, noise()), put_run(shop, noise(), name="again")]
    with pytest.raises(UserError, match=r"again and bpr-none-s0 have the same .* seed, 0"):
        groups(shop, folders)


def test_features_made_anew_between_two_seeds_are_refused(shop):
    folders = [
        put_run(shop, noise(), "vbpr", seed=seed, features_digest=f"d{seed}") for seed in (0, 1)
    ]
    with pytest.raises(UserError, match="content of their features good"):
        groups(shop, folders)
    # Shuffled by each seed anew, a control has other content in each run.
    for folder in folders:
        text = (folder / "config.toml").read_text()
        (folder / "config.toml").write_text(text.replace('"good"', '"shuffled:good"'))
        told = (folder / "metrics.json").read_text()
        (folder / "metrics.json").write_text(told.replace('"good"', '"shuffled:good"'))
    assert len(groups(shop, folders)) == 1


def test_an_unfinished_run_is_refused(shop):
    folder = put_run(shop, noise())
    (folder / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"did not finish; go on with it: mmrec-train --resume"):
        open_runs([folder])


def test_no_run_at_all_is_refused():
    with pytest.raises(UserError, match="no finished run"):
        open_runs([])


def test_another_split_or_protocol_is_refused_by_name(tmp_path):
    first = put_run(market(tmp_path / "a"), noise())
    rows = log_rows()
    other = [(u, i, {"validation": "test", "test": "validation"}.get(s, s)) for u, i, s in rows]
    second = put_run(market(tmp_path / "b", other), noise(), seed=1)
    with pytest.raises(UserError, match="cannot be compared: another split;"):
        open_runs([first, second])
    third = put_run(market(tmp_path / "c"), noise(), protocol="mmrec")
    with pytest.raises(UserError, match=r"another protocol \(\w+ and \w+\)"):
        open_runs([first, third])


def test_other_users_and_items_are_refused_by_name(tmp_path):
    first = put_run(market(tmp_path / "a"), noise())
    fewer = [row for row in log_rows() if row[0] != "u3"]
    second = put_run(market(tmp_path / "b", fewer), noise()[1:], seed=1)
    with pytest.raises(UserError, match="another users and split"):
        open_runs([first, second])


def test_metrics_and_lists_are_joined_by_id(shop):
    folder = put_run(shop, noise())
    judges = Judges(load_log(shop.dataset(None)))
    (group,) = groups(shop, [folder])
    before = outcome_of(group, judges, "mrr@5", 20)
    for name in ("per_user.parquet", "recommendations.parquet"):
        table = pq.read_table(folder / name)
        order = np.random.default_rng(0).permutation(table.num_rows)
        pq.write_table(table.take(order), folder / name)
    after = outcome_of(group, judges, "mrr@5", 20)
    assert np.array_equal(before.lists, after.lists)
    for name, values in before.metrics.items():
        assert np.array_equal(values, after.metrics[name])
    # The lists are those whose recall the run tells.
    users, items = judges.held_out
    found = np.bincount(users, (before.lists[0][users] == items[:, None]).any(axis=1))
    assert np.allclose(found / np.bincount(users), before.metrics["recall@20"][0])


def test_a_run_that_judges_other_users_is_refused(shop):
    folder = put_run(shop, noise())
    table = pq.read_table(folder / "per_user.parquet")
    pq.write_table(table.slice(0, table.num_rows - 1), folder / "per_user.parquet")
    (group,) = groups(shop, [folder])
    with pytest.raises(UserError, match=r"judges 59 users, and the data set has 60"):
        outcome_of(group, Judges(load_log(shop.dataset(None))), "recall@20", 20)


def test_an_unknown_metric_is_refused_with_the_known_ones(shop):
    (group,) = groups(shop, [put_run(shop, noise())])
    with pytest.raises(UserError, match=r"recall@21.*recall@20"):
        outcome_of(group, Judges(load_log(shop.dataset(None))), "recall@21", 20)
