"""The real log of Baby, turned back into the files it came from, becomes what is published."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from support.amazon_files import DAY, loose, put_2014, review

pytestmark = pytest.mark.realdata


@pytest.fixture
def baby(real_data, site):
    """Publish the raw files, with a user too many and reviews that repeat; gives all pairs."""

    def rows(name):
        with (real_data / "amazon_baby" / name).open(encoding="utf-8") as file:
            yield from csv.DictReader(file, delimiter="\t")

    users = {row["userID"]: row["reviewerID"] for row in rows("users.tsv")}
    items = {row["itemID"]: row["asin"] for row in rows("items.tsv")}
    metadata = [{"asin": row["asin"], "imUrl": row["imUrl"]} for row in rows("items.tsv")]
    reviews = [
        review(users[row["userID"]], items[row["itemID"]], float(row["rating"] or 5), DAY + n)
        for n, row in enumerate(rows("baby.inter.tsv"))
    ]
    repeated = [each | {"unixReviewTime": DAY + 10**6, "overall": 1.0} for each in reviews[::1000]]
    rare = [review("RARE", item, 5, DAY) for item in list(items.values())[:4]]
    put_2014(site, "Baby", [*repeated, *reviews, *rare], map(loose, metadata))
    return {(each["reviewerID"], each["asin"]): each for each in reviews}


def test_baby_is_what_is_published(baby, mmrec, site, tmp_path):
    command = "prepare amazon --dataset baby --images none --url"
    outcome = mmrec(command, site.url, "--downloads", tmp_path / "downloads")
    assert outcome.code == 0, outcome.err
    described = json.loads((tmp_path / "data" / "baby" / "dataset.json").read_text())
    assert described["steps"] == {
        "interactions read": 160_792 + 161 + 4,
        "that repeat a pair": 161,
        "outside the 5-core": 4,
    }
    assert described["counts"] == {
        "users": 19_445,
        "items": 7_050,
        "interactions": 160_792,
        "train": 118_551,
        "validation": 20_559,
        "test": 21_682,
        "texts": 0,
        "pictures": 0,
    }
    log = pq.read_table(tmp_path / "data" / "baby" / "interactions.parquet").to_pylist()
    sizes = {}
    for row in log:
        mine = baby.pop((row["user_id"], row["item_id"]))
        assert (row["timestamp"], row["rating"]) == (mine["unixReviewTime"], mine["overall"])
        splits = sizes.setdefault(row["user_id"], {"train": 0, "validation": 0, "test": 0})
        splits[row["split"]] += 1
    assert not baby
    for splits in sizes.values():
        n = sum(splits.values())
        held_out = n // 5 if n >= 10 else 2
        assert splits["validation"] == held_out // 2
        assert splits["test"] == held_out - held_out // 2
