"""``mmrec-extract --tokens``: patch and word vectors beside the features."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.spelling import Speller, coloured, spelled

from extract import embed_tokens
from extract.encoders import ENCODERS, Family
from extract.shards import ShardReader
from extract.token_shards import TokenReader

PLAIN = "extract --encoder speller --workers 0 --shard-rows 4"
COMMAND = f"{PLAIN} --tokens"


@pytest.fixture
def asked(monkeypatch):
    """The family ``speller``, and how many texts' token vectors it gave since the last look."""
    made = []

    def create(name):
        made.append(Speller(scale=float(name or 1)))
        return made[-1]

    monkeypatch.setitem(ENCODERS, "speller", Family("speller", "a test's", create))

    def look():
        told = sum(each.asked["text"] for each in made)
        made.clear()
        return told

    return look


@pytest.fixture
def shop(tmp_path, asked):
    """Ten items, of which the third has no picture and the sixth no text."""
    folder = tmp_path / "data" / "shop"
    (folder / "images").mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    for number in range(10):
        size = (32 * (number % 4 + 1), 8)
        Image.new("RGB", size, (20 * number, 9, 0)).save(folder / f"images/{number}.png")
    rows = [(f"i{n}", f"text {n}" * (n % 3 + 1), f"{n}.png") for n in range(10)]
    rows[2], rows[5] = ("i2", "two", None), ("i5", None, "5.png")
    write(folder, rows)
    return folder


def write(shop, rows):
    columns = (pa.array(column, pa.string()) for column in zip(*rows, strict=True))
    pq.write_table(pa.table(list(columns), ["item_id", "text", "image"]), shop / "items.parquet")


def rows_of(shop):
    table = pq.read_table(shop / "items.parquet")
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def tokens_folder(shop, features="speller"):
    return shop / "features" / features / "tokens"


def manifest_of(shop):
    return json.loads((tokens_folder(shop) / "manifest.json").read_text())


def check_all(shop):
    """Compare every vector with what it should be, and every digest with that of the features."""
    batches = list(TokenReader(tokens_folder(shop)))
    contents = [content for batch in batches for content in batch.content]
    features = list(ShardReader(shop / "features" / "speller"))
    assert contents == [content for batch in features for content in batch.content]
    found = [
        [ragged.of(row) if ragged.present[row] else None for ragged in batch.tokens.values()]
        for batch in batches
        for row in range(len(batch.item_ids))
    ]
    for (_, text, name), (image, words) in zip(rows_of(shop), found, strict=True):
        for vectors, expected in (
            (words, text and spelled(text)),
            (image, name and coloured(Image.open(shop / "images" / name))),
        ):
            assert (vectors is None) == (expected is None)
            if vectors is not None:
                np.testing.assert_array_equal(vectors, np.asarray(expected, np.float16))


def test_tokens_are_stored_beside_the_features(mmrec, shop):
    done = mmrec(COMMAND)
    assert done.code == 0, done.err
    check_all(shop)
    told = manifest_of(shop)
    features = json.loads((shop / "features/speller/manifest.json").read_text())
    assert (told["format"], told["dtype"]) == ("mmrec-tokens/1", "float16")
    assert (told["encoder"], told["items_digest"]) == (
        features["encoder"],
        features["items_digest"],
    )
    assert told["dims"] == {"image": 3, "text": 2}
    assert told["present"] == {"image": 9, "text": 9}
    assert told["lengths"] == {"image": 4, "text": 18}
    assert [shard["rows"] for shard in told["shards"]] == [4, 4, 2]
    assert "longest" in done.out
    assert "10 items, 10 of them encoded, float16" in done.out
    assert "tokens of 10 items (0 reused, 10 to encode)" in done.err
    # The features are as they are without them, and so is what is said of them.
    assert mmrec(PLAIN, "--features", "plain").code == 0
    for path in (shop / "features/plain").glob("part-*"):
        assert path.read_bytes() == (shop / "features/speller" / path.name).read_bytes()
    assert not tokens_folder(shop, "plain").exists()


def test_what_is_done_is_not_done_again(mmrec, shop, asked):
    mmrec(PLAIN)
    asked()
    mmrec(COMMAND)
    assert asked() == 9
    before = manifest_of(shop)
    done = mmrec(COMMAND, "--batch-size", 2)
    assert done.err.count("is up to date, nothing is to be done") == 2
    assert manifest_of(shop) == before
    assert asked() == 0
    # Another fusion is another feature set, but of the same tokens.
    done = mmrec(COMMAND, "--fusion", "none")
    assert "tokens of 10 items (10 reused, 0 to encode)" in done.err
    assert asked() == 0
    assert manifest_of(shop)["encoder"] != before["encoder"]
    check_all(shop)


def test_a_changed_item_costs_its_shard(mmrec, shop, asked):
    mmrec(COMMAND)
    rows = rows_of(shop)
    rows[6] = ("i6", "another text", "6.png")
    Image.new("RGB", (8, 8), "blue").save(shop / "images" / "9.png")
    write(shop, rows)
    asked()
    assert "tokens of 10 items (4 reused, 6 to encode)" in mmrec(COMMAND).err
    assert asked() == 5
    check_all(shop)
    write(shop, rows[:7])
    assert "tokens of 7 items (4 reused, 3 to encode)" in mmrec(COMMAND).err
    assert len(list(tokens_folder(shop).glob("part-*"))) == 2
    check_all(shop)


def test_whole_shards_that_are_left_out_or_renamed(mmrec, shop, asked):
    mmrec(COMMAND)
    write(shop, rows_of(shop)[:8])
    asked()
    assert "tokens of 8 items (8 reused, 0 to encode)" in mmrec(COMMAND).err
    check_all(shop)
    write(shop, [(f"renamed {item}", *rest) for item, *rest in rows_of(shop)])
    assert "tokens of 8 items (0 reused, 8 to encode)" in mmrec(COMMAND).err
    first, _ = TokenReader(tokens_folder(shop))
    assert first.item_ids[0] == "renamed i0"


def test_old_tokens_are_told_of(mmrec, shop):
    mmrec(COMMAND)
    assert "warning" not in mmrec(PLAIN).err
    write(shop, rows_of(shop)[:7])
    assert "tokens was made of other items or by another encoder; run again" in mmrec(PLAIN).err
    mmrec(COMMAND)
    assert "warning" not in mmrec(PLAIN).err
    other = mmrec("extract --encoder speller:2 --features speller --workers 0 --overwrite")
    assert "was made of other items or by another encoder" in other.err


@pytest.mark.parametrize(
    "change", [["--token-dtype", "float32"], ["--precision", "bf16"], ["--shard-rows", "3"]]
)
def test_what_decides_a_shard_leaves_it_not_reused(mmrec, shop, change):
    mmrec(COMMAND)
    assert "(0 reused, 10 to encode)" in mmrec(COMMAND, *change).err
    kind = "float32" if change[0] == "--token-dtype" else "float16"
    for batch in TokenReader(tokens_folder(shop)):
        assert batch.tokens["text"].values.dtype == kind


def test_an_interrupted_run_goes_on_shard_by_shard(mmrec, shop, asked, monkeypatch):
    mmrec(PLAIN)
    seen = Speller.encode_tokens

    def interrupted(self, modality, batch):
        if len(list(tokens_folder(shop).glob("part-*"))) == 2:
            raise KeyboardInterrupt
        return seen(self, modality, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Speller, "encode_tokens", interrupted)
        stopped = mmrec(COMMAND)
    assert stopped.code == 130
    assert "8 of 10 items are done and kept; the same command goes on from there" in stopped.err
    (tokens_folder(shop) / ".part-00002.parquet.4194305.tmp").write_bytes(b"of a killed process")
    asked()
    assert "tokens of 10 items (8 reused, 2 to encode)" in mmrec(COMMAND).err
    assert asked() == 2
    assert not list(tokens_folder(shop).glob(".*"))
    check_all(shop)


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_flipped_bit_costs_its_shard_only(mmrec, shop, unfinished):
    mmrec(COMMAND)
    path = tokens_folder(shop) / "part-00001.parquet"
    data = bytearray(path.read_bytes())
    place = data.index(spelled("text 6").astype(np.float16).tobytes())
    data[place + 2] ^= 1
    path.write_bytes(data)
    if unfinished:
        (tokens_folder(shop) / "manifest.json").unlink()
    assert "tokens of 10 items (6 reused, 4 to encode)" in mmrec(COMMAND).err
    check_all(shop)


def test_shards_are_small_by_default(mmrec, shop, monkeypatch):
    assert embed_tokens.SHARD_ROWS == 256
    monkeypatch.setattr("pipelines.token_encoding.SHARD_ROWS", 3)
    mmrec("extract --encoder speller --workers 0 --tokens")
    assert [shard["rows"] for shard in manifest_of(shop)["shards"]] == [3, 3, 3, 1]
    assert len(list((shop / "features/speller").glob("part-*"))) == 1


def test_numbers_too_large_for_the_type_are_told(mmrec, refused, shop):
    told = refused("extract --encoder speller:1000 --workers 0 --tokens")
    assert "is not finite as float16; try --token-dtype float32" in told
    done = mmrec("extract --encoder speller:1000 --workers 0 --tokens --token-dtype float32")
    assert done.code == 0, done.err


def test_check_does_not_mind_the_folder(mmrec, shop):
    rows = [(f"u{n % 3}", f"i{n}", "test" if n > 7 else "train") for n in range(10)]
    columns = (list(column) for column in zip(*rows, strict=True))
    log = pa.table(dict(zip(("user_id", "item_id", "split"), columns, strict=True)))
    pq.write_table(log, shop / "interactions.parquet")
    mmrec(PLAIN)
    before = mmrec("check --features speller")
    mmrec(COMMAND)
    after = mmrec("check --features speller")
    assert after.out == before.out
    assert "unreadable" not in after.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--encoder random:4 --tokens", "random:4 has no patch or word vectors; leave out"),
        ("--encoder speller --tokens --engine ray", "--tokens needs --engine local"),
        ("--encoder speller --tokens --token-dtype int8", "Invalid value"),
    ],
)
def test_refusals(mmrec, shop, words, told):
    done = mmrec(f"extract {words}")
    assert done.code in (1, 2)
    assert told in done.err
    assert not (shop / "features").exists()
