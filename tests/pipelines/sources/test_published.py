"""What all sources share whose files are fetched: settings, what is asked for, what is told."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from support.amazon_files import loose, packed, small_shop
from support.web import Answer

from extract.locking import locked

SHOP = "prepare amazon --dataset baby --k-core 3 --wait 0"


@pytest.fixture
def pictures(site):
    return small_shop(site)


@pytest.fixture
def shop(mmrec, tmp_path, site, pictures):
    """Prepare the small shop; gives the outcome."""

    def prepare(*arguments):
        where = ("--url", site.url, "--downloads", tmp_path / "downloads")
        outcome = mmrec(SHOP, *where, *arguments)
        assert outcome.code == 0, outcome.err
        return outcome

    return prepare


@pytest.fixture
def refusal(refused, tmp_path, site, pictures):
    """Prepare the small shop, which must be refused; gives the error line."""

    def prepare(*arguments):
        return refused(SHOP, "--url", site.url, "--downloads", tmp_path / "downloads", *arguments)

    return prepare


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "baby"


def table(folder, name="items"):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def described(folder):
    return json.loads((folder / "dataset.json").read_text())


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def asked(site):
    return sorted(request.path for request in site.requests)


def test_made_again_it_asks_for_nothing_and_is_the_same(shop, site, folder, pictures):
    shop()
    first = content(folder)
    assert len(first) == 4 + len(pictures)  # tables, ledger, description
    assert {name: first[f"images/{name}.jpg"] for name in pictures} == pictures
    site.forget()
    shop("--connections", 2)
    assert asked(site) == []
    assert content(folder) == first


def test_only_what_is_missing_is_fetched(shop, site, folder, tmp_path):
    shop()
    first = content(folder)
    downloads = tmp_path / "downloads" / "amazon-2014" / "Baby"
    (downloads / "pictures" / "B001.jpg").unlink()
    (downloads / "meta_Baby.json.gz").unlink()
    site.forget()
    shop()
    assert asked(site) == ["/categoryFiles/meta_Baby.json.gz", "/images/I/1%2B.jpg"]
    assert content(folder) == first


def test_what_is_out_of_reach_is_told_and_asked_for_again(shop, site, folder, pictures):
    site.answer("/images/I/1%2B.jpg", Answer(503))
    outcome = shop("--attempts", 2)
    assert "1 pictures were out of reach" in outcome.err
    assert described(folder)["counts"]["pictures unreachable"] == 1
    assert "pictures unreachable" in outcome.out
    assert {row["item_id"]: row["problem"] for row in table(folder, "ledger")} == {
        "B001": "unreachable",
        "B003": "missing",
    }
    site.forget()
    site.put("/images/I/1%2B.jpg", pictures["B001"])
    outcome = shop()
    assert asked(site) == ["/images/I/1%2B.jpg"]
    assert "out of reach" not in outcome.err
    assert described(folder)["counts"]["pictures"] == 3
    assert [row["item_id"] for row in table(folder, "ledger")] == ["B003"]


def test_a_temporal_split_goes_by_the_clock(shop, folder):
    shop("--split", "temporal")
    # Of 12 interactions one after the other the last is for test, the one before for validation.
    held_out = [row for row in table(folder, "interactions") if row["split"] != "train"]
    assert [(r["user_id"], r["item_id"], r["split"]) for r in held_out] == [
        ("U1", "B003", "validation"),
        ("U2", "B003", "test"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("description", "Described 2."),
        ("{title}: {description} {brand}", "Item 2: Described 2."),
        ("categories", "Baby Toys"),
    ],
)
def test_texts_are_made_of_the_columns_that_are_asked_for(shop, folder, text, expected):
    shop("--text", text, "--images", "none")
    assert table(folder)[2]["text"] == expected


def test_wrong_ratios_are_refused_before_anything_is_fetched(refusal, site):
    assert "the split mmrec has a rule of its own" in refusal("--ratios", "0.7,0.2,0.1")
    assert "sum to 1" in refusal("--ratios", "0.7,0.2,0.2", "--split", "random")
    assert asked(site) == []


def test_a_wrong_column_is_refused_before_anything_is_fetched(refusal, site):
    assert "did you mean 'description'?" in refusal("--text", "{title} {descriptoin}")
    assert asked(site) == []


@pytest.mark.parametrize("need", ["image", "image,text"])
def test_items_without_what_is_needed_go_without_a_new_core(shop, folder, need):
    shop("--need", need)
    assert [row["item_id"] for row in table(folder)] == ["B000", "B001", "B002"]
    counts = described(folder)["counts"]
    assert (counts["users"], counts["interactions"], counts["pictures missing"]) == (3, 9, 1)
    assert described(folder)["steps"]["with items without image"] == 3
    assert [row["item_id"] for row in table(folder, "ledger")] == ["B003"]


def test_pictures_of_items_that_go_for_want_of_a_text_go_too(shop, site, folder):
    known = [{"asin": f"B00{n}", "title": f"Item {n}"} for n in range(1, 4)]
    wordless = {"asin": "B000", "imUrl": f"{site.url}/images/I/0%2B.jpg"}
    site.put("/categoryFiles/meta_Baby.json.gz", packed(*map(loose, [*known, wordless])))
    shop("--need", "text")
    assert [row["item_id"] for row in table(folder)] == ["B001", "B002", "B003"]
    assert described(folder)["counts"]["pictures"] == 0
    assert list((folder / "images").iterdir()) == []


def test_where_nothing_has_what_is_needed_nothing_is_left(refusal):
    assert "no interaction is left" in refusal("--need", "text", "--text", "brand")
    assert "--need image leaves no item" in refusal("--need", "image", "--images", "none")


def test_without_pictures_there_is_no_ledger(shop, site, folder):
    shop()
    assert (folder / "ledger.parquet").is_file()
    site.forget()
    shop("--images", "none", "--overwrite")
    assert asked(site) == []
    assert not (folder / "ledger.parquet").exists()
    assert not any("pictures " in what for what in described(folder)["counts"])
    assert {row["image"] for row in table(folder)} == {None}


def test_pictures_from_a_folder(shop, site, folder, tmp_path, pictures):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "B002.JPG").write_bytes(pictures["B002"])
    shop("--images", mine)
    assert (folder / "images" / "B002.jpg").read_bytes() == pictures["B002"]
    assert all(path.startswith("/categoryFiles/") for path in asked(site))
    assert Counter(row["detail"] for row in table(folder, "ledger")) == {
        "the folder of pictures has none": 3
    }


def test_a_folder_of_pictures_must_exist(refusal, site):
    assert "no folder of pictures fetchh" in refusal("--images", "fetchh")
    assert asked(site) == []


def test_ratings_below_go_first(shop, folder):
    shop("--min-rating", 4, "--k-core", 2, "--images", "none")
    # U0 rated all items 3, U1 4 and U2 5.
    assert {row["user_id"] for row in table(folder, "interactions")} == {"U1", "U2"}


def test_other_settings_are_refused_and_circumstances_are_not(shop, refusal):
    shop("--images", "none")
    assert "seed 0, not 1" in refusal("--images", "none", "--seed", 1)
    shop("--images", "none", "--timeout", 5, "--attempts", 2)


def test_the_licence_is_told_once_and_kept(shop, folder, tmp_path):
    outcome = shop("--images", "none")
    assert outcome.err.count("licence: none is stated") == 1
    assert outcome.err.count("please cite: R. He, J. McAuley") == 1
    origin = described(folder)["source"]["origin"]
    assert origin["title"] == "Amazon product data (2014)"
    assert "for research" in origin["licence"]
    assert "SIGIR 2015" in origin["citation"]
    (tmp_path / "downloads" / "amazon-2014" / "Baby" / "meta_Baby.json.gz").unlink()
    assert "licence:" not in shop("--images", "none").err


def test_a_second_process_is_refused(refusal, tmp_path):
    with locked(tmp_path / "downloads" / "amazon-2014" / "Baby", "fetching into"):
        assert "is fetching into" in refusal()


def test_a_torn_file_is_told_by_name(refusal, tmp_path):
    refusal("--k-core", 9)  # fetches the files
    path = tmp_path / "downloads" / "amazon-2014" / "Baby" / "meta_Baby.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    error = refusal()
    assert str(path) in error
    assert "remove it" in error


def test_a_file_of_something_else_is_no_metadata(refusal, site):
    rubbish = packed("<html>", *["It is not here."] * 5)
    site.put("/categoryFiles/meta_Baby.json.gz", rubbish)
    error = refusal()
    assert "6 of 6 lines are no record with a text in 'asin'" in error
    assert "meta_Baby.json.gz" in error


def test_lines_that_do_not_help_are_told(shop, site):
    known = loose({"asin": "B000", "title": "Item"})
    lines = [known, "{'asin': 'B001', 'title': 'It", known, loose({"asin": "nobody's"}), known]
    site.put("/categoryFiles/meta_Baby.json.gz", packed(*lines))
    told = shop().err
    assert "unreadable lines, meta_Baby.json.gz: 1" in told
    assert "lines about an item that was told, meta_Baby.json.gz: 2" in told
    assert "items that are lacking, meta_Baby.json.gz: 3" in told
