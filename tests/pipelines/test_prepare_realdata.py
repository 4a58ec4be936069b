"""Preparing the real data sets gives the counts that are known of them."""

import json

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.realdata


@pytest.fixture
def counts(mmrec, tmp_path):
    def prepare(words, *arguments):
        outcome = mmrec(f"prepare {words} --dataset real", *arguments)
        assert outcome.code == 0, outcome.err
        return json.loads((tmp_path / "data/real/dataset.json").read_text())["counts"]

    return prepare


def test_movies_from_tables_with_posters(mmrec, counts, real_data, tmp_path):
    folder = real_data / "ml100k"
    found = counts(
        "table --min-rating 4 --k-core 5",
        *("--interactions", folder / "interactions.tsv", "--items", folder / "items.tsv"),
        *("--images", folder / "posters_imdb", "--images", folder / "posters_tmdb"),
        *("--text", "{title}. {overview}"),
    )
    assert found["train"] + found["validation"] + found["test"] == found["interactions"]
    log = pq.read_table(tmp_path / "data/real/interactions.parquet")
    assert min(log.group_by("user_id").aggregate([("item_id", "count")])[1].to_pylist()) >= 5
    assert min(log.group_by("item_id").aggregate([("user_id", "count")])[1].to_pylist()) >= 5
    assert min(log["rating"].to_pylist()) >= 4
    items = pq.read_table(tmp_path / "data/real/items.parquet")
    assert sorted(items["item_id"].to_pylist()) == items["item_id"].to_pylist()
    assert found["texts"] == found["items"]
    for item in items.to_pylist():
        preferred = folder / "posters_imdb" / f"{item['item_id']}.jpg"
        source = preferred if preferred.is_file() else folder / "posters_tmdb" / preferred.name
        assert bool(item["image"]) == source.is_file()
        if item["image"]:
            placed = tmp_path / "data/real/images" / item["image"]
            assert placed.read_bytes() == source.read_bytes()
    assert mmrec("check --dataset real --quiet").code == 0


def test_unfiltered_movies_keep_everything(counts, real_data):
    folder = real_data / "ml100k"
    found = counts(
        "table",
        *("--interactions", folder / "interactions.tsv", "--items", folder / "items.tsv"),
        *("--images", folder / "posters_imdb", "--images", folder / "posters_tmdb"),
    )
    assert (found["users"], found["items"], found["interactions"]) == (943, 1682, 100_000)


def test_movies_with_a_split_and_matrices(mmrec, counts, real_data):
    folder = real_data / "ml100k_split"
    log, items = folder / "ml100k.inter", folder / "items.tsv"
    found = counts("inter", "--interactions", log, "--items", items)
    expected = {"users": 938, "items": 1437, "interactions": 55_338, "texts": 1437}
    expected |= {"train": 44_242, "validation": 5_548, "test": 5_548, "pictures": 0}
    assert found == expected
    matrices = ("--image", folder / "image_feat.npy", "--text", folder / "text_feat.npy")
    outcome = mmrec("prepare features --dataset real --features given", *matrices)
    assert outcome.code == 0, outcome.err
    assert mmrec("check --dataset real --features given --quiet").code == 0


def test_our_split_of_the_movies_is_as_large_as_the_given_one(counts, real_data):
    log = real_data / "ml100k_split" / "ml100k.inter"
    found = counts("table", "--interactions", log)
    assert (found["train"], found["validation"], found["test"]) == (44_242, 5_548, 5_548)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("baby", (19_445, 7_050, 160_792, 118_551, 20_559, 21_682)),
        ("sports", (35_598, 18_357, 296_337, 218_409, 37_899, 40_029)),
        ("clothing", (39_387, 23_033, 278_677, 197_338, 40_150, 41_189)),
    ],
)
def test_amazon_logs_keep_the_published_counts(counts, real_data, name, expected):
    found = counts("inter", "--interactions", real_data / f"amazon_{name}" / f"{name}.inter.tsv")
    names = ("users", "items", "interactions", "train", "validation", "test")
    assert tuple(found[name] for name in names) == expected


def test_matrices_of_another_data_set_are_refused(counts, refused, real_data):
    counts("inter", "--interactions", real_data / "amazon_baby" / "baby.inter.tsv")
    matrix = real_data / "ml100k_split" / "text_feat.npy"
    error = refused("prepare features --dataset real --features given --text", matrix)
    assert "has 1437 rows" in error
    assert "needs 7050" in error
