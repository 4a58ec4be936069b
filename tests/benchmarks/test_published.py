"""The benchmark of published figures, on a small data set in the same form."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from support.shop import N_ITEMS, interaction_rows

from benchmarks.published import CASES, SOURCES, main


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


def test_every_case_has_a_source():
    assert {case.dataset for case in CASES} == set(SOURCES)
