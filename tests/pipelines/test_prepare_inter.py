import pyarrow.parquet as pq
import pytest

LINES = ("0\t10\t0", "0\t2\t1", "0\t0\t2", "1\t2\t0", "1\t10\t0")
INTER = "prepare inter --dataset shop --interactions"


@pytest.fixture
def tables(tmp_path):
    def read():
        folder = tmp_path / "data" / "shop"
        return [pq.read_table(folder / f"{name}.parquet") for name in ("items", "interactions")]

    return read


@pytest.mark.parametrize(
    "header", ["userID\titemID\tx_label", "userID:token\titemID:token\tx_label:float"]
)
def test_the_split_of_the_file_is_kept_and_numbers_are_ids(mmrec, write, tables, header):
    assert mmrec(INTER, write("log.inter", header, *LINES)).code == 0
    items, log = tables()
    assert items["item_id"].to_pylist() == ["0", "10", "2"]
    assert [tuple(row.values()) for row in log.to_pylist()] == [
        ("0", "0", "test"),
        ("0", "10", "train"),
        ("0", "2", "validation"),
        ("1", "10", "train"),
        ("1", "2", "train"),
    ]


def test_ratings_are_kept(mmrec, write, tables):
    log = write("log.inter", "userID\titemID\trating\tx_label", "0\t1\t5.0\t0", "0\t2\t3.0\t1")
    assert mmrec(INTER, log).code == 0
    assert tables()[1]["rating"].to_pylist() == [5.0, 3.0]


def test_items_bring_texts(mmrec, write, tables):
    log = write("log.inter", "userID\titemID\tx_label", *LINES)
    items = write("items.tsv", "itemID\ttitle", "2\tTwo", "0\tNought", "10\tTen", "11\tNobody's")
    assert mmrec(INTER, log, "--items", items).code == 0
    assert tables()[0]["text"].to_pylist() == ["Nought", "Ten", "Two"]
    assert mmrec(INTER, log, "--items", items, "--keep-all-items", "--overwrite").code == 0
    assert tables()[0]["item_id"].to_pylist() == ["0", "10", "11", "2"]


def test_a_pair_repeated_in_one_split_counts_once(mmrec, write, tables):
    assert mmrec(INTER, write("log.inter", "userID\titemID\tx_label", *LINES, LINES[0])).code == 0
    assert tables()[1].num_rows == len(LINES)


def test_a_pair_in_two_splits_is_refused(refused, write):
    error = refused(INTER, write("log.inter", "userID\titemID\tx_label", *LINES, "0\t10\t2"))
    assert "1 (user, item) pairs" in error
    assert "user '0' with item '10'" in error


@pytest.mark.parametrize("label", ["3", "-1", "", "training"])
def test_a_wrong_label_is_refused(refused, write, label):
    error = refused(INTER, write("log.inter", "userID\titemID\tx_label", *LINES, f"5\t5\t{label}"))
    assert "1 of 6 rows" in error
    assert repr(label or None) in error


def test_without_a_split_the_file_is_not_of_this_form(refused, write):
    error = refused(INTER, write("log.inter", "userID\titemID", "0\t1"))
    assert "no column x_label" in error
    assert "mmrec-prepare table" in error


def test_items_must_be_known_or_their_interactions_dropped(mmrec, refused, write, tables):
    log = write("log.inter", "userID\titemID\tx_label", *LINES)
    items = write("items.tsv", "itemID\ttitle", "2\tTwo", "0\tNought")
    error = refused(INTER, log, "--items", items)
    assert "2 of 5 interactions" in error
    assert "--unknown-items drop" in error
    outcome = mmrec(INTER, log, "--items", items, "--unknown-items", "drop")
    assert outcome.code == 0
    assert "with unknown items: 2" in outcome.err
    assert tables()[1].num_rows == 3


def test_when_all_items_are_unknown_nothing_is_left(refused, write):
    log = write("log.inter", "userID\titemID\tx_label", *LINES)
    items = write("items.tsv", "itemID\ttitle", "3\tThree")
    assert "no interaction is left" in refused(
        INTER, log, "--items", items, "--unknown-items", "drop"
    )


def test_a_data_set_from_another_source_is_refused(mmrec, refused, write):
    log = write("log.inter", "userID\titemID\tx_label", *LINES)
    assert mmrec(INTER.replace("inter ", "table "), log).code == 0
    error = refused(INTER, log)
    assert "was made from the source table, not inter" in error
    assert "--overwrite" in error
    assert mmrec(INTER, log, "--overwrite").code == 0
