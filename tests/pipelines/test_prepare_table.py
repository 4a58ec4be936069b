import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from PIL import Image

SPLITS = ("train", "validation", "test")
USERS, ITEMS = [f"u{n:02d}" for n in range(20)], [f"i{n:02d}" for n in range(15)]


@pytest.fixture
def shop():
    """A log with ratings and times, and items with titles; about ten interactions a user."""
    generator = np.random.default_rng(0)
    rows = [
        {
            "user_id": user,
            "item_id": item,
            "rating": int(generator.integers(1, 6)),
            "timestamp": int(generator.integers(10**9)),
        }
        for user in USERS
        for item in generator.choice(ITEMS, 10, replace=False)
    ]
    items = [
        {"item_id": item, "title": f"Thing {item}", "price": n} for n, item in enumerate(ITEMS)
    ]
    return pa.Table.from_pylist(rows), pa.Table.from_pylist(items)


@pytest.fixture
def save(tmp_path):
    def to(name, table):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(table, path)
        else:
            delimiter = "," if name.endswith(".csv") else "\t"
            pacsv.write_csv(table, path, pacsv.WriteOptions(delimiter=delimiter))
        return path

    return to


@pytest.fixture
def prepare(mmrec, tmp_path):
    """Prepare data/shop from files and read it back: items, log, description."""

    def call(interactions, items=None, *options):
        given = ["--items", items] if items else []
        outcome = mmrec(
            "prepare table --dataset shop --overwrite --interactions",
            interactions,
            *given,
            *options,
        )
        assert outcome.code == 0, outcome.err
        folder = tmp_path / "data" / "shop"
        return (
            pq.read_table(folder / "items.parquet"),
            pq.read_table(folder / "interactions.parquet"),
            json.loads((folder / "dataset.json").read_text()),
        )

    return call


def split_of(log):
    rows = log.to_pylist()
    return {(row["user_id"], row["item_id"]): row["split"] for row in rows}


def test_tables_and_description_say_the_same(shop, save, prepare):
    items, log, described = prepare(save("log.tsv", shop[0]), save("items.tsv", shop[1]))
    assert items.column_names == ["item_id", "text", "image", "title", "price"]
    assert log.column_names == ["user_id", "item_id", "timestamp", "rating", "split"]
    assert described["counts"] == {
        "users": 20,
        "items": 15,
        "interactions": 200,
        "train": 160,
        "validation": 20,
        "test": 20,
        "texts": 15,
        "pictures": 0,
    }
    assert described["settings"]["ratios"] == [0.8, 0.1, 0.1]
    assert set(described["source"]["files"]) == {"interactions", "items"}


@pytest.mark.parametrize("split", ["random", "temporal", "item-cold"])
def test_another_row_order_gives_the_same_bytes(shop, save, prepare, tmp_path, split):
    folder = tmp_path / "data" / "shop"
    found = []
    for seed in (0, 1):
        order = np.random.default_rng(seed)
        log = shop[0].take(order.permutation(shop[0].num_rows))
        items = shop[1].take(order.permutation(shop[1].num_rows))
        options = ("--split", split, "--min-rating", 2, "--k-core", 3)
        *_, described = prepare(save("log.csv", log), save("items.csv", items), *options)
        tables = [(folder / f"{name}.parquet").read_bytes() for name in ("items", "interactions")]
        found.append((tables, described["digests"]))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["tsv", "csv", "parquet"])
def test_all_file_kinds_give_the_same_log(shop, save, prepare, kind):
    expected = prepare(save("log.tsv", shop[0]), save("items.tsv", shop[1]))[1]
    found = prepare(save(f"log.{kind}", shop[0]), save(f"items.{kind}", shop[1]))[1]
    assert found.equals(expected)


def test_ids_never_become_numbers(write, prepare):
    log = write("log.csv", "user,asin", "007,00.50", "7,00.50", "007,1e3")
    items = write("items.csv", "asin,title", "00.50,A", "1e3,NA")
    table, log, _ = prepare(log, items)
    assert table["item_id"].to_pylist() == ["00.50", "1e3"]
    assert table["text"].to_pylist() == ["A", "NA"]
    assert log["user_id"].to_pylist() == ["007", "007", "7"]


def test_other_files_or_settings_are_refused(write, mmrec, refused):
    table = "prepare table --dataset shop --interactions"
    one, other = (write(name, "user,item", "a,x", "a,y") for name in ("one.csv", "other.csv"))
    assert mmrec(table, one).code == 0
    assert f"was made with interactions {one}, not {other};" in refused(table, other)
    assert "was made with k_core 1, not 0;" in refused(table, one, "--k-core", 0)
    write("one.csv", "user,item", "a,x", "b,y")  # the same settings, whatever the file now says
    assert mmrec(table, one).code == 0


def test_fractions_are_no_ids(save, refused):
    path = save("log.parquet", pa.table({"user": [1.0, 2.0], "item": ["a", "b"]}))
    error = refused("prepare table --dataset shop --interactions", path)
    assert "'user'" in error
    assert "double" in error


def test_rating_filter_then_core(shop, save, prepare):
    _, log, described = prepare(
        save("log.tsv", shop[0]), save("items.tsv", shop[1]), "--min-rating", 3, "--k-core", 5
    )
    left = {(row["user_id"], row["item_id"]) for row in shop[0].to_pylist() if row["rating"] >= 3}
    while True:
        users = [user for user, _ in left]
        items = [item for _, item in left]
        kept = {(u, i) for u, i in left if users.count(u) >= 5 and items.count(i) >= 5}
        if kept == left:
            break
        left = kept
    assert set(split_of(log)) == left
    assert described["steps"]["interactions read"] == 200
    assert sum(described["steps"].values()) - 200 == 200 - len(left)


def test_a_rating_that_is_missing_is_not_high_enough(write, prepare):
    log = write("log.csv", "user,item,rating", "a,x,5", "a,y,", "b,x,4")
    assert len(split_of(prepare(log, None, "--min-rating", 4)[1])) == 2


def test_of_a_repeated_pair_the_earliest_stays(write, prepare):
    rows = ["a\tx\t3\t30", "a\tx\t4\t10", "a\tx\t5\t20", "b\tx\t1\t5"]
    _, log, described = prepare(write("log.tsv", "user\titem\trating\ttimestamp", *rows))
    assert log.select(["user_id", "rating", "timestamp"]).to_pylist() == [
        {"user_id": "a", "rating": 4.0, "timestamp": 10},
        {"user_id": "b", "rating": 1.0, "timestamp": 5},
    ]
    assert described["steps"]["that repeat a pair"] == 2


def test_temporal_split_is_by_one_clock(shop, save, prepare):
    log = prepare(save("log.tsv", shop[0]), None, "--split", "temporal")[1].to_pylist()
    times = {split: [row["timestamp"] for row in log if row["split"] == split] for split in SPLITS}
    assert max(times["train"]) < min(times["validation"])
    assert max(times["validation"]) < min(times["test"])


def test_item_cold_split_withholds_items(shop, save, prepare):
    log = prepare(save("log.tsv", shop[0]), None, "--split", "item-cold")[1].to_pylist()
    items = [{row["item_id"] for row in log if row["split"] == split} for split in SPLITS]
    assert [len(part) for part in items] == [11, 2, 2]
    assert len(set.union(*items)) == 15


def test_unknown_items_are_an_error_or_dropped(shop, save, prepare, refused):
    log, items = save("log.tsv", shop[0]), save("items.tsv", shop[1].slice(1))
    lost = shop[0]["item_id"].to_pylist().count("i00")
    error = refused("prepare table --dataset shop --interactions", log, "--items", items)
    assert f"{lost} of 200 interactions" in error
    assert "'i00'" in error
    assert "--unknown-items drop" in error
    _, kept, described = prepare(log, items, "--unknown-items", "drop")
    assert kept.num_rows == 200 - lost
    assert described["steps"]["with unknown items"] == lost


def test_items_that_nobody_took_go_unless_kept(shop, save, prepare):
    extra = pa.Table.from_pylist([{"item_id": "cold", "title": "Cold", "price": 0}])
    log, items = save("log.tsv", shop[0]), save("items.tsv", pa.concat_tables([shop[1], extra]))
    assert "cold" not in prepare(log, items)[0]["item_id"].to_pylist()
    assert "cold" in prepare(log, items, "--keep-all-items")[0]["item_id"].to_pylist()


def test_without_items_the_log_is_the_catalogue(shop, save, prepare):
    items, _, _ = prepare(save("log.tsv", shop[0]))
    assert items["item_id"].to_pylist() == ITEMS
    assert items["text"].null_count == items["image"].null_count == 15


def test_columns_by_option_and_with_types_in_their_names(write, prepare):
    log = write("log.tsv", "who:token\twhat:token\tstars\twhen", "a\tx\t5\t2020-01-31", "b\ty\t1\t")
    named = ("--user-column", "who", "--item-column", "what", "--timestamp-column", "when")
    _, found, _ = prepare(log, None, *named)
    assert found["timestamp"].to_pylist() == [1580428800, None]
    assert found["rating"].to_pylist() == [5.0, 1.0]


def test_times_keep_every_digit_or_lose_their_fraction(save, write, prepare):
    exact = 2**53 + 1
    path = save("log.parquet", pa.table({"user": ["a"], "item": ["x"], "time": [exact]}))
    assert prepare(path)[1]["timestamp"].to_pylist() == [exact]
    assert prepare(write("l.csv", "user,item,time", "a,x,881250949.0"))[1][
        "timestamp"
    ].to_pylist() == [881250949]


def test_fields_with_quotes_delimiters_and_line_breaks(write, prepare):
    items = write("items.csv", "item,title", 'x,"One, ""two""\nthree"', "y,plain")
    log = write("log.csv", "user,item", "a,x", "a,y")
    assert prepare(log, items)[0]["text"].to_pylist() == ['One, "two"\nthree', "plain"]


def test_a_byte_order_mark_is_no_part_of_a_name(write, prepare):
    log = write("log.csv", "user,item", "a,x", encoding="utf-8-sig")
    assert prepare(log)[1]["user_id"].to_pylist() == ["a"]


def picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def colour_of(path):
    return Image.open(path).convert("RGB").getpixel((4, 4))


def test_the_first_folder_with_a_picture_wins(write, prepare, tmp_path):
    picture(tmp_path / "best/x.png", (255, 0, 0))
    picture(tmp_path / "rest/x.png", (0, 255, 0))
    picture(tmp_path / "rest/y.PNG", (0, 0, 255))
    log = write("log.csv", "user,item", "a,x", "a,y", "a,z")
    folders = ("--images", tmp_path / "best", "--images", tmp_path / "rest")
    items, _, described = prepare(log, None, *folders)
    assert items["image"].to_pylist() == ["x.png", "y.png", None]
    assert described["counts"]["pictures"] == 2
    images = tmp_path / "data/shop/images"
    assert colour_of(images / "x.png") == (255, 0, 0)
    assert colour_of(images / "y.png") == (0, 0, 255)


def test_a_column_of_paths_wins_over_names_but_cannot_leave_the_folder(write, prepare, tmp_path):
    picture(tmp_path / "in/pictures/sub/one.png", (255, 0, 0))
    picture(tmp_path / "in/pictures/y.png", (0, 255, 0))
    picture(tmp_path / "in/secret.png", (0, 0, 255))
    items = write("items.csv", "item,image", "x,sub/one.png", "y,../secret.png", "z,gone.png")
    log = write("log.csv", "user,item", "a,x", "a,y", "a,z")
    table, _, _ = prepare(log, items, "--images", tmp_path / "in/pictures")
    assert table["image"].to_pylist() == ["x.png", "y.png", None]
    assert colour_of(tmp_path / "data/shop/images/x.png") == (255, 0, 0)
    assert colour_of(tmp_path / "data/shop/images/y.png") == (0, 255, 0)


def test_ids_that_name_no_file_still_get_their_picture(write, prepare, tmp_path):
    picture(tmp_path / "in/pictures/p.png", (255, 0, 0))
    items = write("items.csv", "item,image", "../../evil,p.png", "a.1,p.png", "a.2,p.png")
    log = write("log.csv", "user,item", "a,../../evil", "a,a.1", "a,a.2")
    table, _, _ = prepare(log, items, "--images", tmp_path / "in/pictures")
    names = table["image"].to_pylist()
    assert names[1:] == ["a.1.png", "a.2.png"]
    assert "/" not in names[0]
    assert {path.name for path in (tmp_path / "data/shop/images").iterdir()} == set(names)


def test_pictures_of_links_are_files_and_the_sources_stay(write, prepare, tmp_path):
    picture(tmp_path / "far/real.png", (255, 0, 0))
    (tmp_path / "near").mkdir()
    (tmp_path / "near/x.png").symlink_to(tmp_path / "far/real.png")
    log = write("log.csv", "user,item", "a,x")
    for _ in range(2):
        prepare(log, None, "--images", tmp_path / "near")
    assert not (tmp_path / "data/shop/images/x.png").is_symlink()
    assert colour_of(tmp_path / "far/real.png") == (255, 0, 0)


def test_preparing_again_from_its_own_pictures_keeps_them(write, prepare, tmp_path):
    images = tmp_path / "data/shop/images"
    picture(images / "x.png", (255, 0, 0))
    picture(images / "stale.png", (0, 0, 0))
    log = write("log.csv", "user,item", "a,x")
    for _ in range(2):
        prepare(log, None, "--images", images)
    assert [path.name for path in images.iterdir()] == ["x.png"]
    assert colour_of(images / "x.png") == (255, 0, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_one_line(write, refused, tmp_path):
    log = write("log.csv", "user,item", "a,x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o500)
    assert "Permission denied" in refused("prepare table --dataset shop --interactions", log)
