"""The token shards, also as any reader of Parquet sees them."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract.errors import UserError
from extract.ledger import Problem
from extract.token_shards import Ragged, TokenBatch, TokenReader, TokenWriter

DIMS = {"image": 2, "text": 3}


def vectors(length, dim, start=0):
    return np.arange(start, start + length * dim, dtype=np.float32).reshape(length, dim)


def batch_of(ids, images, texts, **more):
    tokens = {
        "image": Ragged.from_items(images, 2, np.dtype("float32")),
        "text": Ragged.from_items(texts, 3, np.dtype("float32")),
    }
    return TokenBatch(ids, [f"digest of {item}" for item in ids], tokens, **more)


@pytest.fixture
def written(tmp_path):
    """Two shards: of items with one to three vectors, one without a picture, one with nothing."""
    folder = tmp_path / "tokens"
    writer = TokenWriter(folder, DIMS, "float16", stamp="me")
    problem = Problem("b", "image", "not_finite", "why")
    first = batch_of(
        ["a", "b", "c"],
        [vectors(2, 2), None, vectors(1, 2, 10)],
        [vectors(1, 3), vectors(3, 3, 20), None],
        problems=[problem],
    )
    writer.write(batch_of(["d"], [None], [None]), 1)
    writer.write(first, 0)
    writer.finish(encoder={"spec": "s"}, items_digest="i", seconds=1.5)
    return folder


def test_what_was_written_is_read(written):
    reader = TokenReader(written)
    first, second = reader
    assert (first.item_ids, second.item_ids) == (["a", "b", "c"], ["d"])
    assert first.content == ["digest of a", "digest of b", "digest of c"]
    values, offsets, present = first.tokens["text"]
    assert values.dtype == np.float16
    assert offsets.tolist() == [0, 1, 4, 4]
    assert present.tolist() == [True, True, False]
    np.testing.assert_array_equal(values, np.concatenate([vectors(1, 3), vectors(3, 3, 20)]))
    np.testing.assert_array_equal(first.tokens["image"].of(2), [[10, 11]])
    assert first.tokens["text"].longest == 3
    assert second.tokens["text"].values.shape == (0, 3)
    assert not second.tokens["image"].present.any()
    manifest = reader.manifest
    assert (manifest.rows, manifest.dtype, manifest.dims) == (4, "float16", DIMS)
    assert manifest.present == {"image": 2, "text": 2}
    assert manifest.lengths == {"image": 2, "text": 3}


def test_any_reader_of_parquet_sees_lists(written):
    table = pq.read_table(written / "part-00000.parquet")
    assert table.column_names == ["item_id", "content", "image", "text"]
    assert table.schema.field("image").type == pa.list_(pa.list_(pa.float16(), 2))
    assert table["image"].to_pylist() == [[[0, 1], [2, 3]], None, [[10, 11]]]
    assert table["text"][1].as_py() == [[20, 21, 22], [23, 24, 25], [26, 27, 28]]
    assert b"not_finite" in table.schema.metadata[b"mmrec.problems"]
    told = json.loads((written / "manifest.json").read_text())
    assert told["format"] == "mmrec-tokens/1"
    assert [shard["rows"] for shard in told["shards"]] == [3, 1]


def test_shards_are_taken_over_and_leftovers_removed(written):
    (written / "part-00007.parquet").write_bytes(b"old")
    writer = TokenWriter(written, DIMS, "float16", stamp="me")
    assert not (written / "manifest.json").exists()
    with pytest.raises(UserError, match="so it is unfinished; run the same"):
        TokenReader(written)
    writer.adopt(0)
    assert writer.rows == 3
    manifest = writer.finish(encoder={}, items_digest="", seconds=1, reused=3)
    assert (manifest.present, manifest.lengths) == ({"image": 2, "text": 2}, DIMS)
    assert sorted(path.name for path in written.glob("part-*")) == ["part-00000.parquet"]


def test_a_folder_with_a_hole_is_not_finished(tmp_path):
    writer = TokenWriter(tmp_path, DIMS)
    writer.write(batch_of(["z"], [None], [None]), 1)
    with pytest.raises(ValueError, match="shards are missing"):
        writer.finish(encoder={}, items_digest="", seconds=1)


@pytest.mark.parametrize(
    ("dtype", "number", "told"),
    [
        ("float16", 70_000, "item 'b' is not finite as float16; try --token-dtype float32"),
        ("float32", np.nan, "item 'b' is not finite as float32"),
    ],
)
def test_what_the_type_cannot_hold_is_refused(tmp_path, dtype, number, told):
    texts = [vectors(2, 3), vectors(2, 3)]
    texts[1][0, 2] = number
    writer = TokenWriter(tmp_path / "tokens", DIMS, dtype)
    with pytest.raises(UserError, match=told):
        writer.write(batch_of(["a", "b"], [None, None], texts))
    assert not list((tmp_path / "tokens").iterdir())


def test_batches_that_do_not_fit_are_refused(tmp_path):
    writer = TokenWriter(tmp_path, {"image": 2, "text": 4})
    with pytest.raises(ValueError, match=r"expected \(2, 4\) vectors of 1 items, found \(2, 3\)"):
        writer.write(batch_of(["a"], [None], [vectors(2, 3)]))
    with pytest.raises(UserError, match="not 'float64'"):
        TokenWriter(tmp_path, DIMS, "float64")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("no folder", "no token vectors at .*tokens; make them with mmrec-extract --tokens"),
        ("no shard", "part-00001.parquet is missing or torn"),
        ("torn shard", "part-00001.parquet is missing or torn"),
        ("fewer rows", "should have 3 rows of item_id string.*, found 1 of"),
        ("other columns", "image list<item: fixed_size_list<item: halffloat>.2.>.*, found 3 of"),
        ("torn manifest", "is not a manifest of tokens"),
        ("other format", "has format 'mmrec-tokens/9', not 'mmrec-tokens/1'"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(written, change, told):
    manifest, first, last = (
        written / name for name in ("manifest.json", "part-00000.parquet", "part-00001.parquet")
    )
    if change == "no folder":
        written = written / "tokens"
    if change == "no shard":
        last.unlink()
    if change == "torn shard":
        last.write_bytes(last.read_bytes()[:-9])
    if change == "fewer rows":
        first.write_bytes(last.read_bytes())
    if change == "other columns":
        pq.write_table(pq.read_table(first).drop_columns("image"), first)
    if change == "torn manifest":
        manifest.write_text("{")
    if change == "other format":
        manifest.write_text(manifest.read_text().replace("tokens/1", "tokens/9"))
    with pytest.raises(UserError, match=told):
        list(TokenReader(written))


def test_reading_loads_no_encoder():
    code = """
import sys
import extract.token_shards
print([name for name in ("torch", "transformers", "PIL") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
