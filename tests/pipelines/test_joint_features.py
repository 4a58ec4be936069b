"""Extraction by an encoder that sees pictures and texts together, through the command."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.joint import Pairer, pair_vector

from extract.encoders import ENCODERS, Family
from extract.shards import ShardReader

COMMAND = "extract --encoder pairer --workers 0 --shard-rows 4"


@pytest.fixture
def asked(monkeypatch):
    """The family ``pairer``, and what its encoders were asked for since the last look."""
    made = []

    def create(name):
        made.append(Pairer())
        return made[-1]

    monkeypatch.setitem(ENCODERS, "pairer", Family("pairer", "a test's", create))

    def look():
        told = {name: sum(each.asked[name] for each in made) for name in ("image", "fused")}
        made.clear()
        return told

    return look


@pytest.fixture
def shop(tmp_path):
    """Ten items, of which the third has no picture and the sixth no text."""
    folder = tmp_path / "data" / "shop"
    (folder / "images").mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    for number in range(10):
        Image.new("RGB", (8, 8), (20 * number, 9, 0)).save(folder / f"images/{number}.png")
    rows = [(f"i{n}", f"text {n}" * (n + 1), f"{n}.png") for n in range(10)]
    rows[2], rows[5] = ("i2", "two", None), ("i5", None, "5.png")
    write(folder, rows)
    return folder


def write(shop, rows):
    columns = (pa.array(column, pa.string()) for column in zip(*rows, strict=True))
    pq.write_table(pa.table(list(columns), ["item_id", "text", "image"]), shop / "items.parquet")


def rows_of(shop):
    table = pq.read_table(shop / "items.parquet")
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def check_all(shop, features="pairer"):
    """Compare each item's vector with that of its picture and text, encoded alone."""
    batches = list(ShardReader(shop / "features" / features))
    found = {
        item: batch.vectors["fused"][row] if batch.present["fused"][row] else None
        for batch in batches
        for row, item in enumerate(batch.item_ids)
    }
    assert [*found] == [item for item, _, _ in rows_of(shop)]
    for item, text, image in rows_of(shop):
        if text is None or image is None:
            assert found[item] is None
        else:
            expected = pair_vector(Pairer(), Image.open(shop / "images" / image), text)
            np.testing.assert_allclose(found[item], expected, atol=1e-6)


def manifest_of(shop, features="pairer"):
    return json.loads((shop / "features" / features / "manifest.json").read_text())


def test_the_fused_column_is_the_encoders_own(mmrec, shop, asked):
    done = mmrec(COMMAND)
    assert done.code == 0, done.err
    told = manifest_of(shop)
    assert (told["fusion"], told["dims"]["fused"], told["normalized"]["fused"]) == (
        "joint",
        4,
        False,
    )
    assert told["present"] == {"image": 9, "text": 9, "fused": 8}
    assert asked() == {"image": 9, "fused": 8}
    check_all(shop)
    # Named, it is the same; as a pure function of the two, something else.
    assert "nothing is to be done" in mmrec(COMMAND, "--fusion", "joint").err
    assert "0 reused, 10 new" in mmrec(COMMAND, "--fusion", "concat").err
    assert manifest_of(shop)["fusion"] == "concat"
    for line in ("image: 10 of 10 items", "text: 10 of 10 items"):
        assert done.err.count(line) == 1
    assert "fused:" not in done.err


def test_only_what_changed_is_encoded_again(mmrec, shop, asked):
    mmrec(COMMAND)
    asked()
    rows = rows_of(shop)
    rows[4] = ("i4", "another text", "4.png")
    write(shop, [("new", "a new one", "7.png"), *rows[::-1]])
    done = mmrec(COMMAND)
    assert "11 items (9 reused, 1 new, 1 changed, 0 removed)" in done.err
    assert asked() == {"image": 2, "fused": 2}
    check_all(shop)


def test_an_interrupted_run_goes_on(mmrec, shop, asked, monkeypatch):
    seen = Pairer.encode_joint

    def interrupted(self, images, tokens):
        if len(list((shop / "features/pairer").glob("part-*"))) == 2:
            raise KeyboardInterrupt
        return seen(self, images, tokens)

    with monkeypatch.context() as patch:
        patch.setattr(Pairer, "encode_joint", interrupted)
        stopped = mmrec(COMMAND)
    assert stopped.code == 130
    assert "8 of 10 items are done and kept" in stopped.err
    asked()
    assert "8 reused, 2 new" in mmrec(COMMAND).err
    assert asked() == {"image": 2, "fused": 2}
    check_all(shop)
    mmrec(COMMAND, "--features", "anew")
    for path in (shop / "features/anew").glob("part-*"):
        assert path.read_bytes() == (shop / "features/pairer" / path.name).read_bytes()


def test_an_encoder_without_a_joint_tower_is_refused(refused, shop):
    error = refused("extract --encoder random:4 --fusion joint")
    assert "needs an encoder with a tower that sees picture and text together" in error
    assert not (shop / "features").exists()
