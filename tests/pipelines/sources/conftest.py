"""What the tests of the published sources share."""

import json

import pyarrow.parquet as pq
import pytest
from support.web import Site


@pytest.fixture
def site():
    with Site() as site:
        yield site


@pytest.fixture
def made(mmrec, tmp_path, site):
    """Prepare a category; gives the rows of the three tables without nulls, and the description."""

    def prepare(kind, category):
        command = f"prepare {kind} --dataset made --k-core 2 --wait 0 --category {category} --url"
        outcome = mmrec(command, site.url, "--downloads", tmp_path / "downloads")
        assert outcome.code == 0, outcome.err
        folder = tmp_path / "data" / "made"
        items, log, ledger = (
            pq.read_table(folder / f"{name}.parquet").to_pylist()
            for name in ("items", "interactions", "ledger")
        )
        items = [{name: value for name, value in row.items() if value is not None} for row in items]
        return items, log, ledger, json.loads((folder / "dataset.json").read_text())

    return prepare
