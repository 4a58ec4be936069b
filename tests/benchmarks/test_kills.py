"""An extraction that is killed at random moments and resumed, as `benchmarks.kills` measures it."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.kills import FEATURES, SHARD_ROWS, extraction, killed_runs, write_catalogue

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def check(outcome, kills):
    assert outcome.kills >= kills
    assert outcome.finished
    assert outcome.unequal == []
    assert outcome.rewritten == 0
    assert outcome.most_wasted <= SHARD_ROWS
    assert outcome.wasted <= SHARD_ROWS * outcome.kills


def test_nothing_is_lost_and_the_shards_are_those_of_an_undisturbed_run(tmp_path):
    write_catalogue(tmp_path, 600)
    check(killed_runs(tmp_path, kills=5, seed=1), 5)


def test_nor_where_an_older_catalogues_features_are_brought_up_to_date(tmp_path):
    """Moved, changed, new and removed items; each step of putting old shards aside may be hit."""
    write_catalogue(tmp_path, 600)
    assert os.waitpid(extraction(tmp_path, tmp_path / "log"), 0)[1] == 0
    (tmp_path / "log").unlink()
    path = tmp_path / "data" / "shop" / "items.parquet"
    order = np.random.default_rng(3).permutation(600)[:560]
    table = pq.read_table(path).take(order)
    texts = table["text"].to_pylist()
    texts[::4] = [f"another text {row}" for row in range(len(texts[::4]))]
    table = table.set_column(1, "text", pa.array(texts))
    pq.write_table(table, path)
    check(killed_runs(tmp_path, kills=5, seed=2), 5)
    assert not (tmp_path / FEATURES / ".old").exists()
