"""What a grid costs beside its runs, as `benchmarks.compare` measures it."""

import json

import pytest
from click.testing import CliRunner
from support.shop import write_features, write_shop

from benchmarks import compare
from benchmarks.compare import AIM, ENCODERS, MODELS, SEEDS, Measured, main, measure, rows_of


def test_a_small_grid(tmp_path):
    shop = write_shop(tmp_path)
    for encoder in ENCODERS:
        write_features(shop, encoder.replace(":", "-"))
    measured = measure(tmp_path, processes=1, epochs=1, models=("itemknn",))
    assert measured.cells == len(measured.own) == 4 * len(SEEDS)
    assert measured.wall > sum(measured.own) > 0
    assert measured.again > 0


def test_the_overhead_by_hand():
    """Two processes for 11 s are 22 s, of which the runs took 20."""
    assert Measured(4, 2, 11.0, (8.0, 3.0, 7.0, 2.0), 1.0).overhead == pytest.approx(0.1)


def test_the_table(tmp_path, monkeypatch):
    assert len(MODELS) * 4 * len(SEEDS) == 40
    measured = Measured(40, 2, 11.0, (20.0,), 1.0)
    monkeypatch.setattr(compare, "write_shop", lambda root: None)
    monkeypatch.setattr(compare, "write_features", lambda root: None)
    monkeypatch.setattr(compare, "measure", lambda *arguments: measured)
    file = tmp_path / "compare.json"
    done = CliRunner().invoke(main, ["--json", str(file)])
    assert done.exit_code == 0, done.output
    told = {row["name"]: row for row in json.loads(file.read_text())}
    assert told.keys() == {row.name for row in rows_of(measured)}
    assert told["compare/overhead"]["reference"] == AIM
