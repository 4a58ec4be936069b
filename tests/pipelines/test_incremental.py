"""What is encoded again after a change of the catalogue, and what is not."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from extract.encoders.random import RandomEncoder
from extract.errors import UserError
from extract.ledger import read_ledger
from extract.shards import ShardReader
from pipelines.extraction import ExtractionConfig

COMMAND = "extract --encoder random:4 --workers 0 --shard-rows 4"


@pytest.fixture
def shop(tmp_path):
    """Ten items, each with a text and a picture of its own."""
    folder = tmp_path / "data" / "shop"
    (folder / "images").mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    for number in range(10):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(folder / f"images/{number}.png")
    write(folder, [(f"i{n}", f"text {n}", f"{n}.png") for n in range(10)])
    return folder


def write(shop, rows):
    columns = (list(column) for column in zip(*rows, strict=True))
    table = pa.table(dict(zip(("item_id", "text", "image"), columns, strict=True)))
    pq.write_table(table, shop / "items.parquet")


def rows_of(shop):
    table = pq.read_table(shop / "items.parquet")
    return list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures and texts the encoder was asked for since the last look."""
    asked = {"image": 0, "text": 0}
    image, text = RandomEncoder.encode_image, RandomEncoder.encode_text

    def encode_image(self, images):
        asked["image"] += len(images)
        return image(self, images)

    def encode_text(self, tokens):
        asked["text"] += len(tokens["input_ids"])
        return text(self, tokens)

    monkeypatch.setattr(RandomEncoder, "encode_image", encode_image)
    monkeypatch.setattr(RandomEncoder, "encode_text", encode_text)

    def look():
        told = (asked["image"], asked["text"])
        asked.update(image=0, text=0)
        return told

    return look


def folder_of(shop, name="random-4"):
    return shop / "features" / name


def vectors(folder):
    """Item to its vectors of all modalities, None where it has none."""
    found = {}
    for batch in ShardReader(folder):
        for row, item in enumerate(batch.item_ids):
            found[item] = {
                name: batch.vectors[name][row].tobytes() if batch.present[name][row] else None
                for name in batch.vectors
            }
    return found


def same_as_anew(mmrec, shop):
    """Whether the features are those of a folder that was empty before; its shards, too."""
    assert mmrec(COMMAND, "--features", "anew").code == 0
    for path in folder_of(shop, "anew").glob("*.parquet"):
        if path.read_bytes() != (folder_of(shop) / path.name).read_bytes():
            return False
    return vectors(folder_of(shop)) == vectors(folder_of(shop, "anew"))


def test_new_items_in_the_middle_are_all_that_is_encoded(mmrec, shop, encoded):
    assert "0 reused, 10 new, 0 changed, 0 removed" in mmrec(COMMAND).err
    assert encoded() == (10, 10)
    rows = rows_of(shop)
    write(shop, [*rows[:3], *((f"n{n}", f"a new text {n}", None) for n in range(3)), *rows[3:]])
    done = mmrec(COMMAND)
    assert "13 items (10 reused, 3 new, 0 changed, 0 removed)" in done.err
    assert encoded() == (0, 3)
    assert same_as_anew(mmrec, shop)
    assert json.loads((folder_of(shop) / "manifest.json").read_text())["reused"] == 10


def test_changed_and_removed_items_are_told(mmrec, shop, encoded):
    mmrec(COMMAND)
    encoded()
    rows = rows_of(shop)
    rows[4] = ("i4", "another text", "4.png")
    Image.new("RGB", (8, 8), "blue").save(shop / "images" / "7.png")
    write(shop, rows[1:])
    assert "9 items (7 reused, 0 new, 2 changed, 1 removed)" in mmrec(COMMAND).err
    assert encoded() == (2, 2)
    assert same_as_anew(mmrec, shop)


def test_the_order_and_the_size_of_shards_cost_nothing(mmrec, shop, encoded):
    mmrec(COMMAND)
    encoded()
    write(shop, rows_of(shop)[::-1])
    assert "10 reused, 0 new, 0 changed, 0 removed" in mmrec(COMMAND).err
    assert same_as_anew(mmrec, shop)
    encoded()
    assert "10 reused" in mmrec(f"{COMMAND} --shard-rows 3").err
    assert encoded() == (0, 0)
    assert len(list(folder_of(shop).glob("part-*"))) == 4


def test_touching_a_file_changes_nothing(mmrec, shop):
    mmrec(COMMAND)
    for path in [*(shop / "images").iterdir(), shop / "items.parquet"]:
        os.utime(path, (1, 1))
    assert "nothing is to be done" in mmrec(COMMAND).err


@pytest.mark.parametrize(
    "change", [["--fusion", "sum"], ["--precision", "bf16"], ["--dtype", "float16"]]
)
def test_what_decides_vectors_leaves_nothing_to_reuse(mmrec, shop, change):
    mmrec(COMMAND)
    before = json.loads((folder_of(shop) / "manifest.json").read_text())["encoder"]
    assert "0 reused, 10 new" in mmrec(COMMAND, *change).err
    after = json.loads((folder_of(shop) / "manifest.json").read_text())["encoder"]
    assert before["model"] == after["model"]
    if change[0] != "--dtype":  # which says how vectors are stored, not what they are
        assert before["fingerprint"] != after["fingerprint"]


def test_stored_halves_are_used_again_to_the_bit(mmrec, shop):
    mmrec(f"{COMMAND} --dtype float16")
    before = vectors(folder_of(shop))
    write(shop, rows_of(shop)[::-1])
    assert "10 reused" in mmrec(f"{COMMAND} --dtype float16").err
    assert vectors(folder_of(shop)) == before


def test_an_item_under_another_id_keeps_its_vectors_and_problems(mmrec, shop, encoded):
    (shop / "images" / "2.png").write_bytes(b"broken")
    mmrec(COMMAND)
    before = vectors(folder_of(shop))
    encoded()
    rows = [(f"renamed {item}", text, image) for item, text, image in rows_of(shop)]
    write(shop, rows[::-1])
    assert "10 reused, 0 new, 0 changed, 10 removed" in mmrec(COMMAND).err
    assert encoded() == (0, 0)
    assert vectors(folder_of(shop)) == {f"renamed {i}": found for i, found in before.items()}
    (problem,) = read_ledger(folder_of(shop))
    assert (problem.item_id, problem.problem) == ("renamed i2", "unreadable")


@pytest.mark.parametrize("moved", [False, True])
def test_why_there_is_no_picture_is_told_as_it_is_today(mmrec, shop, moved):
    """The content digest is the same for a picture that is missing for another reason."""
    rows = rows_of(shop)
    rows[1], rows[2] = ("i1", "one", None), ("i2", "two", "gone.png")
    write(shop, rows)
    mmrec(COMMAND)
    rows[1], rows[2] = ("i1", "one", "lost.png"), ("i2", "two", None)
    write(shop, rows[::-1] if moved else rows)
    assert "10 reused" in mmrec(COMMAND).err
    told = {(problem.item_id, problem.detail) for problem in read_ledger(folder_of(shop))}
    assert told == {("i1", "there is no file lost.png"), ("i2", "the catalogue names none")}
    assert same_as_anew(mmrec, shop)


def test_equal_items_are_encoded_once_and_again_from_one_row(mmrec, shop, encoded):
    write(shop, [(f"i{n}", "one text", "3.png") for n in range(4)])
    mmrec(COMMAND)
    assert encoded() == (1, 1)
    write(shop, [(f"j{n}", "one text", "3.png") for n in range(6)])
    assert "6 reused, 0 new, 0 changed, 4 removed" in mmrec(COMMAND).err
    assert encoded() == (0, 0)
    assert same_as_anew(mmrec, shop)


def test_a_flipped_bit_costs_its_shard_only(mmrec, shop, encoded):
    mmrec(COMMAND)
    before = vectors(folder_of(shop))
    encoded()
    path = folder_of(shop) / "part-00001.parquet"
    data = bytearray(path.read_bytes())
    wanted = np.frombuffer(before["i5"]["text"], np.float32).tobytes()
    data[data.index(wanted) + 2] ^= 1
    path.write_bytes(data)
    assert "6 reused, 4 new" in mmrec(COMMAND).err
    assert encoded() == (4, 4)
    assert vectors(folder_of(shop)) == before


def test_an_interrupted_run_says_how_far_it_came_and_goes_on(mmrec, shop, monkeypatch, encoded):
    asked = RandomEncoder.encode_text

    def interrupted(self, tokens):
        if len(list(folder_of(shop).glob("part-*"))) == 2:
            raise KeyboardInterrupt
        return asked(self, tokens)

    with monkeypatch.context() as patch:
        patch.setattr(RandomEncoder, "encode_text", interrupted)
        stopped = mmrec(COMMAND)
    assert stopped.code == 130
    assert "8 of 10 items are done and kept; the same command goes on from there" in stopped.err
    told = mmrec("train --model vbpr --features random-4")
    assert told.code == 1
    encoded()
    assert "8 reused, 2 new" in mmrec(COMMAND).err
    assert encoded() == (2, 2)
    assert same_as_anew(mmrec, shop)


def test_an_unfinished_folder_is_refused_with_the_command_that_finishes_it(mmrec, shop):
    mmrec(COMMAND)
    (folder_of(shop) / "manifest.json").unlink()
    with pytest.raises(UserError) as refused:
        ShardReader(folder_of(shop))
    assert (
        "finish it with mmrec-extract --dataset shop --features random-4 --encoder random:4"
        in str(refused.value)
    )
    done = mmrec("extract --dataset shop --features random-4 --encoder random:4 --shard-rows 4")
    assert "10 reused" in done.err
    assert done.code == 0


@pytest.mark.parametrize("put_aside", [False, True])
def test_that_command_has_all_that_decides_the_shards(mmrec, shop, tmp_path, encoded, put_aside):
    """Else following it would begin anew."""
    given = "--precision bf16 --half-convolutions --fusion sum --dtype float16 --shard-rows 4"
    mmrec(f"extract --encoder random:4 {given}")
    (folder_of(shop) / "manifest.json").unlink()
    if put_aside:
        (folder_of(shop) / ".old").mkdir()
        for path in folder_of(shop).glob("part-*"):
            path.rename(folder_of(shop) / ".old" / path.name)
    with pytest.raises(UserError) as refused:
        ShardReader(folder_of(shop))
    words = str(refused.value).split("finish it with mmrec-")[1]
    encoded()
    assert "10 reused" in mmrec(words).err
    assert encoded() == (0, 0)


def test_a_command_with_other_settings_that_does_not_finish_costs_nothing(
    mmrec, shop, monkeypatch, encoded
):
    mmrec(COMMAND)
    before = vectors(folder_of(shop))

    def interrupted(self, tokens):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RandomEncoder, "encode_text", interrupted)
        assert mmrec(f"{COMMAND} --fusion sum").code == 130
    encoded()
    assert "10 reused" in mmrec(COMMAND).err
    assert encoded() == (0, 0)
    assert vectors(folder_of(shop)) == before
    assert not (folder_of(shop) / ".old").exists()


def test_an_unfinished_folder_of_another_encoder_is_not_taken(mmrec, refused, shop):
    mmrec(COMMAND)
    (folder_of(shop) / "manifest.json").unlink()
    error = refused("extract --encoder random:5 --features random-4")
    assert "holds unfinished features of random:4" in error
    assert mmrec("extract --encoder random:5 --features random-4 --overwrite").code == 0
    assert "10 items" in mmrec("extract --encoder random:5 --features random-4").out


@pytest.mark.parametrize(
    ("limit", "passes"), [("2", True), ("1", False), ("20%", True), ("19.9%", False)]
)
def test_too_much_that_is_bad_ends_the_run_and_keeps_the_work(mmrec, shop, encoded, limit, passes):
    (shop / "images" / "2.png").write_bytes(b"broken")
    rows = rows_of(shop)
    rows[3], rows[4] = ("i3", "text 3", None), ("i4", " ", "4.png")  # none named: not bad
    write(shop, rows)
    done = mmrec(COMMAND, "--max-bad", limit)
    assert done.code == (0 if passes else 1)
    if passes:
        assert "warning: 2 items have a picture or a text that cannot be used" in done.err
        # Nor does a finished folder hide it.
        assert "2 of the 10" in mmrec(COMMAND, "--max-bad", "1").err
        return
    assert "2 of the 8 items so far" in done.err
    assert {p.item_id for p in read_ledger(folder_of(shop)) if p.bad} == {"i2", "i4"}
    assert not (folder_of(shop) / "manifest.json").exists()
    encoded()
    Image.new("RGB", (8, 8), "blue").save(shop / "images" / "2.png")
    assert mmrec(COMMAND, "--max-bad", "1").code == 0
    assert encoded() == (3, 3)  # what was not reached yet, and what was mended


@pytest.mark.parametrize(
    ("limit", "items", "allowed"),
    [("29%", 100, 29), ("0.7%", 1000, 7), ("3", 100, 3), (None, 5, None)],
)
def test_shares_are_counted_exactly(limit, items, allowed):
    config = ExtractionConfig(encoder="random:4", max_bad=limit)
    assert config.allowed_bad(items) == allowed


@pytest.mark.parametrize("wrong", ["1.5", "x", "%", "-1", "1 %"])
def test_max_bad_is_a_number_or_a_share(refused, shop, wrong):
    assert "max_bad" in refused(COMMAND, "--max-bad", wrong)
