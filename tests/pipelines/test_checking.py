import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from extract.catalog import content_digest
from extract.manifest import items_digest
from extract.shards import EmbeddingBatch, ShardWriter
from pipelines.checks import DATA_CHECKS, FEATURE_CHECKS
from pipelines.sources.writing import table_digest

ITEMS = ["a", "b", "c", "d"]
LOG = [("u", "a", "train"), ("u", "b", "train"), ("u", "c", "test"), ("v", "d", "train")]
TABLES = ("items", "interactions")
LOG += [("v", "c", "train"), ("v", "a", "validation"), ("v", "b", "test")]


@pytest.fixture
def shop(tmp_path):
    """A flawless data set; written anew with other content on call."""
    folder = tmp_path / "data" / "shop"

    def make(items=ITEMS, log=LOG, texts=None, images=None):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for name, colour in zip("abcd", ("red", "green", "blue", "white"), strict=True):
            Image.new("RGB", (8, 8), colour).save(folder / "images" / f"{name}.png")
        texts = texts or [f"Thing {item}" for item in items]
        images = images or [f"{item}.png" for item in items]
        table = {"item_id": items, "text": pa.array(texts, pa.string())}
        pq.write_table(
            pa.table(table | {"image": pa.array(images, pa.string())}), folder / "items.parquet"
        )
        users, taken, splits = zip(*log, strict=True)
        pq.write_table(
            pa.table({"user_id": users, "item_id": taken, "split": splits}),
            folder / "interactions.parquet",
        )
        tables = {name: pq.read_table(folder / f"{name}.parquet") for name in TABLES}
        digests = {name: table_digest(table) for name, table in tables.items()}
        (folder / "dataset.json").write_text(json.dumps({"digests": digests}))
        return folder

    make()
    return make


@pytest.fixture
def check(mmrec):
    """Run mmrec-check; gives the exit code and, by offence, level, count and examples."""

    def call(*options):
        outcome = mmrec("check --dataset shop --quiet", *options)
        lines = {}
        for line in outcome.out.splitlines():
            for level in ("ok", "warn", "error"):
                offence, found, rest = line.partition(f" {level} ")
                if found and offence.strip():
                    count, _, examples = rest.strip().partition(" ")
                    lines[offence.strip()] = (level, int(count.replace(",", "")), examples.strip())
        return outcome, lines

    return call


def only(lines, *expected):
    """All lines but the expected are ok."""
    assert lines
    assert not {name for name, line in lines.items() if line[0] != "ok"} - {*expected}


@pytest.mark.usefixtures("shop")
def test_a_flawless_data_set(check):
    outcome, lines = check()
    assert outcome.code == 0
    assert outcome.err == ""
    only(lines)
    assert len(lines) == len(DATA_CHECKS) == 18


@pytest.mark.parametrize(
    ("change", "offence", "level", "count", "example"),
    [
        ({"items": [*ITEMS, "a"]}, "item ids with several rows", "error", 1, "a"),
        ({"log": [*LOG, LOG[0]]}, "repeated pairs", "error", 1, "u with a"),
        ({"log": [*LOG, ("u", "a", "test")]}, "pairs in two splits", "error", 1, "u with a"),
        ({"log": [*LOG, ("u", "x", "train")]}, "interactions with unknown items", "error", 1, "x"),
        ({"log": [*LOG, ("u", "d", "tset")]}, "unknown splits", "error", 1, "'tset'"),
        ({"log": [*LOG, (None, "d", "train")]}, "rows without an id", "error", 1, "row 7, user_id"),
        ({"log": [*LOG, ("w", "a", "test")]}, "users without training items", "warn", 1, "w"),
        ({"log": [*LOG, ("w", "a", "train")]}, "users without test items", "warn", 1, "w"),
        ({"texts": ["x", None, " ", "y"]}, "empty texts", "warn", 2, "b; c"),
        ({"images": ["a.png", None, "no.png", "d.png"]}, "missing pictures", "warn", 2, "no.png"),
        ({"images": ["a.png", "../b.png", "c.png", "d.png"]}, "unusable pictures", "warn", 1, "b"),
    ],
)
def test_each_offence_is_named_and_counted(shop, check, change, offence, level, count, example):
    shop(**change)
    outcome, lines = check()
    assert lines[offence][:2] == (level, count)
    assert example in lines[offence][2]
    # A row that stands there twice is its own near-duplicate.
    copies = ("near-duplicate pictures", "near-duplicate texts") if "items" in change else ()
    only(lines, offence, "users without test items", *copies)
    assert outcome.code == (level == "error")
    if level == "error":
        assert f"{count} {offence}" in outcome.error


def test_cold_items_and_items_of_which_content_says_nothing(shop, check):
    shop(
        items=[*ITEMS, "e", "f"],
        texts=["x"] * 5 + [None],
        images=["a.png", "b.png", "c.png", "d.png", None, None],
    )
    _, lines = check()
    assert lines["items without training users"] == ("warn", 2, "e; f")
    assert lines["items with neither text nor picture"] == ("warn", 1, "f")


def test_without_a_description_preparing_did_not_finish(shop, check):
    (shop() / "dataset.json").unlink()
    outcome, lines = check()
    assert lines["unfinished preparing"] == ("error", 1, "no dataset.json")
    only(lines, "unfinished preparing")
    assert outcome.code == 1


@pytest.mark.parametrize("item", [r"i1\[/red]", "x[red]", "[/]", ":smile:", "a\nb\x1b[2J"])
def test_ids_are_shown_as_they_are(shop, check, item):
    shop(log=[*LOG, ("u", item, "train")])
    outcome, lines = check()
    shown = item.encode("unicode_escape").decode() if "\n" in item else item
    assert lines["interactions with unknown items"] == ("error", 1, f"u with {shown}")
    assert "\x1b" not in outcome.out


def test_nothing_to_train_on(shop, check):
    shop(log=[("u", "a", "test")])
    outcome, lines = check()
    assert lines["nothing to train on"][0] == "error"
    assert outcome.code == 1


def test_a_torn_picture(shop, check):
    folder = shop()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        folder / "images/a.png", "JPEG"
    )
    whole = (folder / "images/a.png").read_bytes()
    (folder / "images/a.png").write_bytes(whole[: len(whole) // 2])
    _, lines = check()
    assert lines["unusable pictures"][:2] == ("warn", 1)
    assert lines["unusable pictures"][2].startswith("a (")


def test_at_most_three_examples(shop, check):
    shop(texts=[None] * 4)
    assert check()[1]["empty texts"] == ("warn", 4, "a; b; c")


def test_a_table_that_changed_since_preparing(mmrec, tmp_path):
    assert mmrec("prepare toy --dataset shop --items 50 --users 20").code == 0
    outcome = mmrec("check")
    assert outcome.code == 0
    assert "pictures: 50 of 50" in outcome.err
    folder = tmp_path / "data/shop"
    table = pq.read_table(folder / "interactions.parquet")
    pq.write_table(table.slice(1), folder / "interactions.parquet")
    line = next(line for line in mmrec("check").out.splitlines() if "since preparing" in line)
    assert line.split()[-3:] == ["warn", "1", "interactions"]


@pytest.fixture
def features(tmp_path):
    """Write features of the shop, flawless unless told otherwise."""

    def write(items=ITEMS, vectors=None, digest=None, spec="random:3", content=None):
        writer = ShardWriter(tmp_path / "data/shop/features/f", {"image": 3, "text": 2})
        n = len(items)
        vectors = {"image": np.ones((n, 3)), "text": np.ones((n, 2))} | (vectors or {})
        present = {"image": np.ones(n, bool), "text": np.arange(n) > 0}
        if content is None:
            images = tmp_path / "data/shop/images"
            content = [
                content_digest(f"Thing {item}", (images / f"{item}.png").read_bytes())
                if item in ITEMS
                else ""
                for item in items
            ]
        writer.write(EmbeddingBatch(items, content, vectors, present))
        writer.finish(
            encoder={"spec": spec, "fingerprint": "x"},
            normalized={"image": False, "text": False},
            fusion=None,
            items_digest=digest or items_digest(items),
            seconds=1.0,
        )
        return tmp_path / "data/shop/features/f"

    return write


@pytest.mark.usefixtures("shop")
class TestFeatures:
    def test_flawless(self, check, features):
        features()
        outcome, lines = check("--features", "f")
        assert outcome.code == 0
        only(lines)
        assert len(lines) == len(DATA_CHECKS) + len(FEATURE_CHECKS) == 26
        counts = dict(line.rsplit(maxsplit=1) for line in outcome.out.splitlines()[:12])
        assert counts["image vectors of size 3"].strip() == "4"
        assert counts["text vectors of size 2"].strip() == "3"

    @pytest.mark.parametrize(
        ("change", "offence", "level", "example"),
        [
            ({"items": ITEMS[:3]}, "items without features", "error", "d"),
            ({"items": [*ITEMS, "z"]}, "features of unknown items", "error", "z"),
            ({"items": [*ITEMS, "b"]}, "items with several rows of features", "error", "b"),
            ({"digest": "0" * 32}, "another catalogue", "warn", "made for 00000000"),
            (
                {"vectors": {"text": np.array([[0, 0], [0, 0], [1, 0], [0, 1]])}},
                "vectors that are zero",
                "warn",
                "b (text)",
            ),
            ({"content": ["1", "2", "3", "4"]}, "items changed since extraction", "warn", "a; b"),
        ],
    )
    def test_each_offence(self, check, features, change, offence, level, example):
        features(**change)
        outcome, lines = check("--features", "f")
        assert lines[offence][0] == level
        assert lines[offence][2].startswith(example)
        only(lines, offence, "another catalogue")
        assert outcome.code == (level == "error")

    def test_content_of_matrices_is_not_compared(self, check, features):
        features(content=["1", "2", "3", "4"], spec="npy")
        only(check("--features", "f")[1])

    def test_numbers_that_are_none(self, check, features):
        folder = features()
        path = folder / "part-00000.parquet"
        table = pq.read_table(path)
        bad = np.array([[1, 1, 1], [1, np.nan, 1], [1, 1, np.inf], [1, 1, 1]], np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(bad.reshape(-1)), 3)
        place = table.column_names.index("image")
        pq.write_table(table.set_column(place, "image", column), path)
        outcome, lines = check("--features", "f")
        assert lines["vectors that are not finite"] == ("error", 2, "b (image); c (image)")
        assert lines["shards changed since extraction"] == ("error", 1, "part-00000.parquet")
        assert outcome.code == 1

    @pytest.mark.parametrize(
        "spoil", ["unfinished", "torn", "another vector size", "no manifest of ours"]
    )
    def test_a_folder_that_cannot_be_read(self, check, features, spoil):
        folder = features()
        if spoil == "unfinished":
            (folder / "manifest.json").unlink()
        elif spoil == "torn":
            path = folder / "part-00000.parquet"
            path.write_bytes(path.read_bytes()[:-10])
        elif spoil == "another vector size":
            manifest = json.loads((folder / "manifest.json").read_text())
            manifest["dims"]["image"] = 4
            (folder / "manifest.json").write_text(json.dumps(manifest))
        else:
            (folder / "manifest.json").write_text(json.dumps({"format": "other"}))
        outcome, lines = check("--features", "f")
        assert lines["unreadable features"][:2] == ("error", 1)
        assert outcome.code == 1
        assert "1 unreadable features" in outcome.error

    def test_an_unknown_name(self, refused, features):
        features()
        assert "did you mean 'f'?" in refused("check --dataset shop --features ff")


def test_names_and_files_that_are_not_there(refused, shop):
    folder = shop()
    assert "did you mean 'shop'?" in refused("check --dataset shp")
    (folder / "interactions.parquet").unlink()
    assert "interactions.parquet is missing" in refused("check --dataset shop")
    (folder / "items.parquet").write_bytes(b"PAR1 and no more")
    assert "may be torn" in refused("check --dataset shop")
    pq.write_table(pa.table({"id": [1]}), folder / "items.parquet")
    assert "lacks the column item_id" in refused("check --dataset shop")


def test_a_wrong_option_is_wrong_usage(mmrec):
    assert mmrec("check --datset shop").code == 2
