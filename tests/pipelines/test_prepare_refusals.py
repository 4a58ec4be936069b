"""Bad input: one ``error:`` line that says what to do, and exit code 1; 2 for a wrong option."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TABLE = "prepare table --dataset shop --interactions"
GOOD = ("user,item,rating,timestamp", *(f"u{n % 5},i{n // 5},{n % 5 + 1},{n}" for n in range(25)))


@pytest.fixture
def log(write):
    return write("log.csv", *GOOD)


@pytest.fixture
def items(write):
    return write("items.csv", "item,title,price", *(f"i{n},Thing {n},{n}" for n in range(5)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--min-rating", 6), "no interaction is left after leaving out those rated below 6"),
        (("--k-core", 6), "no interaction is left after leaving out those outside the 6-core"),
        (("--ratios", "0.8,0.1"), "0.8,0.1,0.1; found 0.8,0.1"),
        (("--ratios", "0.8,0.1,x"), "ratios.2: "),
        (("--k-core", -1), "k_core: input should be greater than or equal to 0, found -1"),
        (("--min-rating", "nan"), "min_rating: input should be a finite number, found nan"),
        (("--min-rating", "inf"), "min_rating: input should be a finite number, found inf"),
        (("--ratios", "0.8,0.1,inf"), "ratios.2: input should be a finite number"),
        (("--seed", -1), "seed: input should be greater than or equal to 0, found -1"),
        (("--seed", 2**63), "seed: input should be less than"),
        (("--user-column", "usr"), "unknown column of"),
        (("--user-column", "usr"), "did you mean 'user'?"),
        (("--set", "k_cor=3"), "did you mean 'k_core'?"),
        (("--text", "{title}"), "--items"),
        (("--image-column", "image"), "--images"),
        (("--images", "nowhere"), "no folder of pictures nowhere"),
        (("--items", "nowhere.csv"), "there is no file nowhere.csv"),
        (("--config", "nowhere.toml"), "there is no settings file nowhere.toml"),
    ],
)
def test_settings_that_do_not_fit(refused, log, options, told):
    assert told in refused(TABLE, log, *options)


def test_a_template_with_an_unknown_column_names_the_nearest(refused, log, items):
    error = refused(TABLE, log, "--items", items, "--text", "{titel}. {price}")
    assert "unknown column of" in error
    assert "did you mean 'title'?" in error


def test_a_template_without_columns(refused, log, items):
    assert "'{title}'" in refused(TABLE, log, "--items", items, "--text", "title")


def test_duplicate_item_ids(refused, log, write):
    items = write("items.csv", "item,title", "i0,A", "i1,B", "i0,C")
    error = refused(TABLE, log, "--items", items)
    assert "1 item ids" in error
    assert "'i0'" in error


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((), "is empty"),
        (("",), "is empty"),
        (("user,item",), "has no rows"),
        (("person_x,item", "a,b"), "no column that looks like the user; found person_x, item"),
        (("user,item,item", "a,b,c"), "more than one column 'item'"),
        (("user,item", ",b", "a,c"), "1 of 2 rows"),
        (("user,item", "a,b", "a"), "cannot be read"),
        (("user,item,rating", "a,b,good"), "'rating' of"),
        (("user,item,time", "a,b,noon"), "'time' of"),
        (("user,item,time", "a,b,nan"), "'time' of"),
        (("user,item,time", "a,b,1e300"), "'time' of"),
        (("user,item,time", "a,b,-1e19"), "'time' of"),
        (("user,item,time", "a,b,2020-99-99"), "'time' of"),
    ],
)
def test_logs_that_are_none(refused, write, lines, told):
    assert told in refused(TABLE, write("bad.csv", *lines))


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("time", pa.array([2**64 - 1, 1], pa.uint64()), "should hold times as numbers or dates"),
        ("time", pa.array([float("nan"), 1.0]), "should hold times as numbers or dates"),
        ("time", pa.array([1e300, 1.0]), "should hold times as numbers or dates"),
        ("time", pa.array([[1], [2]]), "should hold times as numbers or dates"),
        ("rating", pa.array([[1], [2]]), "should hold numbers"),
        ("user", pa.array(["a", None]), "1 of 2 rows of"),
        ("item", pa.array([None, None], pa.string()), "2 of 2 rows of"),
        ("item", pa.array([1, None]), "1 of 2 rows of"),
    ],
)
def test_parquet_columns_that_hold_something_else(refused, tmp_path, column, values, told):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user": ["a", "b"], "item": ["x", "y"], column: values}), path)
    error = refused(TABLE, path)
    assert told in error
    assert f"{column!r}" in error


def test_items_without_an_id_and_pictures_that_are_no_paths(refused, log, tmp_path):
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item": ["i0", None, "i2"]}), path)
    assert "1 of 3 rows of" in refused(TABLE, log, "--items", path)
    pq.write_table(pa.table({"item": ["i0"], "image": [{"bytes": b""}]}), path)
    assert "'image'" in refused(TABLE, log, "--items", path, "--unknown-items", "drop")


def test_large_unsigned_ids_are_text(mmrec, tmp_path):
    path = tmp_path / "log.parquet"
    ids = pa.array([2**64 - 1, 5], pa.uint64())
    pq.write_table(pa.table({"user": ids, "item": ["x", "y"]}), path)
    assert mmrec(TABLE, path).code == 0
    found = pq.read_table(tmp_path / "data/shop/interactions.parquet")["user_id"].to_pylist()
    assert found == ["18446744073709551615", "5"]


def test_a_file_that_is_not_utf8(refused, write):
    assert "UTF-8" in refused(TABLE, write("bad.csv", "user,item", "a,caf\xe9", encoding="latin-1"))
    assert "UTF-8" in refused(TABLE, write("b2.csv", "us\xe9r,item", "a,b", encoding="latin-1"))


def test_a_torn_parquet_file(refused, tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user": ["a"] * 100, "item": list(map(str, range(100)))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read" in refused(TABLE, path)


def test_a_missing_log_and_a_folder_for_a_log(refused, tmp_path):
    assert "there is no file" in refused(TABLE, tmp_path / "nothing.csv")
    assert "there is no file" in refused(TABLE, tmp_path)


def test_a_temporal_split_needs_times(refused, write):
    log = write("log.csv", "user,item", "a,x", "b,y")
    assert "has no column of them" in refused(TABLE, log, "--split", "temporal")
    log = write("log.csv", "user,item,time", "a,x,1", "b,y,")
    assert "1 of 2 rows have none" in refused(TABLE, log, "--split", "temporal")


def test_a_rating_filter_needs_ratings(refused, write):
    log = write("log.csv", "user,item", "a,x", "b,y")
    assert "no column of ratings" in refused(TABLE, log, "--min-rating", 3)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up"])
def test_names_that_are_no_folder(refused, log, name):
    assert "named like a folder" in refused(
        "prepare table", "--interactions", log, "--dataset", name
    )


def test_needed_settings(refused, log):
    assert "the setting dataset is needed" in refused("prepare table", "--interactions", log)
    assert "the setting interactions is needed" in refused("prepare table --dataset shop")


def test_a_place_that_cannot_be_written(refused, log, tmp_path):
    (tmp_path / "data").write_text("a file where a folder should be")
    assert "Not a directory" in refused(TABLE, log)


def test_a_refusal_leaves_an_earlier_data_set_alone(mmrec, refused, log, tmp_path):
    assert mmrec(TABLE, log).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "data/shop").glob("*.*")}
    assert len(before) == 3
    assert "100-core" in refused(TABLE, log, "--overwrite", "--k-core", 100)
    assert {path: path.read_bytes() for path in (tmp_path / "data/shop").glob("*.*")} == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("prepare tabel", "did you mean 'table'?"),
        ("prepare table --k-cor 3", "--k-core"),
        ("prepare table --k-core many", "--k-core"),
        ("prepare table --split weekly", "'weekly' is not one of"),
        ("prepare table --k-cor 3", "see mmrec-prepare table --help"),
    ],
)
def test_wrong_usage(mmrec, words, told):
    outcome = mmrec(words)
    assert outcome.code == 2
    assert told in outcome.error
