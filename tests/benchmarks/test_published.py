"""The benchmark of published figures, on a small data set in the same form."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import t as student_t
from support.shop import N_ITEMS, interaction_rows

from benchmarks.published import CASES, SOURCES, compare, main
from pipelines import training
from pipelines.run_config import shipped_config
from pipelines.runs import FinishedRun
from pipelines.workspace import read_table


@pytest.fixture
def data(tmp_path):
    """What stands in for the ML-100K split: numbered users and items, and two matrices."""
    folder = tmp_path / "ml100k_split"
    folder.mkdir()
    labels = {"train": 0, "validation": 1, "test": 2}
    lines = [f"{u[1:]}\t{i[1:]}\t{labels[part]}" for u, i, part in interaction_rows()]
    (folder / "ml100k.inter").write_text("\n".join(["userID\titemID\tx_label", *lines]) + "\n")
    generator = np.random.default_rng(0)
    for name in ("image", "text"):
        np.save(folder / f"{name}_feat.npy", generator.standard_normal((N_ITEMS, 5)))
    return tmp_path


def test_every_case_of_the_data_that_are_there_is_measured(data, tmp_path):
    arguments = ["--data", str(data), "--json", str(tmp_path / "rows.json"), "--device", "cpu"]
    outcome = CliRunner().invoke(main, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert "baby is left out: not under" in outcome.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    models = [case.model for case in CASES if case.dataset == "ml100k"]
    assert len(models) == 4
    assert {row["name"] for row in rows} == {
        f"{model}/ml100k/{what}" for model in models for what in ("recall@20", "ndcg@20", "seconds")
    }
    for row in rows:
        assert {"value", "unit", "torch", "cores"} <= row.keys()
        assert row["value"] >= 0
        assert ("reference" in row) == (row["unit"] != "s")


def test_finished_runs_are_kept_and_not_trained_again(data, tmp_path, monkeypatch):
    arguments = ["--data", str(data), "--only", "ml100k", "--workspace", str(tmp_path / "w")]
    once = CliRunner().invoke(main, arguments)
    assert once.exit_code == 0, once.output
    monkeypatch.setattr(training, "run", lambda *_: pytest.fail("trained again"))
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0, again.output
    assert again.stdout == once.stdout


def test_runs_are_compared_by_user(data, tmp_path):
    arguments = ["--data", str(data), "--only", "ml100k", "--workspace", str(tmp_path)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    runs = [FinishedRun.open(tmp_path / "runs/ml100k" / f"published-{m}") for m in ("bpr", "vbpr")]
    columns = [
        {
            row["user_id"]: row["recall@20"]
            for row in read_table(run.folder / "per_user.parquet").to_pylist()
            if row["split"] == "test"
        }
        for run in runs
    ]
    differences = np.array([columns[0][user] - columns[1][user] for user in columns[0]])
    t = differences.mean() / (differences.std(ddof=1) / len(differences) ** 0.5)
    wanted = 2 * student_t.sf(abs(t), len(differences) - 1)
    assert compare(*runs, "x").value == pytest.approx(wanted)


def test_every_case_has_a_source_and_settings():
    for case in CASES:
        if case.config is not None:
            assert shipped_config(case.config).is_file()

    assert {case.dataset for case in CASES} == set(SOURCES)
