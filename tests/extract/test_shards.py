import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract.errors import UserError
from extract.files import file_sha256
from extract.ledger import Problem, read_ledger
from extract.manifest import Manifest
from extract.shards import (
    EmbeddingBatch,
    ShardReader,
    ShardWriter,
    unusable_rows,
    usable_rows,
)

DIMS = {"image": 3, "text": 2}


def batch(start, rows, absent=(), problems=()):
    number = np.arange(start, start + rows, dtype=np.float32)[:, None]
    present = {name: np.ones(rows, dtype=bool) for name in DIMS}
    for modality, row in absent:
        present[modality][row] = False
    return EmbeddingBatch(
        [f"item.{i}" for i in range(start, start + rows)],
        [f"content{i}" for i in range(start, start + rows)],
        {name: number + np.arange(dim, dtype=np.float32) / 8 for name, dim in DIMS.items()},
        present,
        problems,
    )


def write(folder, *batches, dtype="float32"):
    writer = ShardWriter(folder, DIMS, dtype)
    for one in batches:
        writer.write(one)
    return writer.finish(
        encoder={"spec": "test", "fingerprint": "f"},
        normalized={"image": False, "text": True},
        fusion=None,
        items_digest="d",
        seconds=2.0,
    )


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "features"
    problems = [Problem("item.1", "image", "missing", "gone"), Problem("item.3", "text", "empty")]
    write(
        folder, batch(0, 3, [("image", 1)], problems[:1]), batch(3, 2, [("text", 0)], problems[1:])
    )
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_round_trip(tmp_path, dtype):
    """Eighths of small numbers are exact in both types."""
    batches = [batch(0, 3, [("image", 0), ("text", 2)]), batch(3, 2, [("image", 1)])]
    write(tmp_path, *batches, dtype=dtype)
    found = list(ShardReader(tmp_path))
    assert [list(one.item_ids) for one in found] == [list(one.item_ids) for one in batches]
    assert [list(one.content) for one in found] == [list(one.content) for one in batches]
    for read, written in zip(found, batches, strict=True):
        for modality in DIMS:
            present = written.present[modality]
            np.testing.assert_array_equal(read.present[modality], present)
            assert read.vectors[modality].dtype == dtype
            assert read.vectors[modality].shape == written.vectors[modality].shape
            # Rows after an absent one are still their own.
            np.testing.assert_array_equal(
                read.vectors[modality][present], written.vectors[modality][present]
            )


def test_any_parquet_reader_sees_ids_nulls_and_sizes(folder):
    table = pq.read_table(folder / "part-00000.parquet")
    assert table["item_id"].to_pylist() == ["item.0", "item.1", "item.2"]
    assert table["image"].to_pylist() == [[0.0, 0.125, 0.25], None, [2.0, 2.125, 2.25]]
    assert str(table.schema.field("text").type).startswith("fixed_size_list<")
    assert str(table.schema.field("text").type).endswith("[2]")


def test_manifest_counts(folder):
    told = json.loads((folder / "manifest.json").read_text())
    assert told["rows"] == 5
    assert told["present"] == {"image": 4, "text": 4}
    assert told["dims"] == DIMS
    assert told["normalized"] == {"image": False, "text": True}
    assert told["items_per_second"] == 2.5
    assert [shard["rows"] for shard in told["shards"]] == [3, 2]
    for shard in told["shards"]:
        assert shard["sha256"] == file_sha256(folder / shard["file"])
    assert Manifest.read(folder).digest() == Manifest.read(folder).digest()


def test_ledger(folder, tmp_path):
    assert read_ledger(folder) == [
        Problem("item.1", "image", "missing", "gone"),
        Problem("item.3", "text", "empty", ""),
    ]
    assert read_ledger(tmp_path / "nothing") == []


def test_torn_shard_is_told(folder):
    path = folder / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"part-00001.*may be torn.*run mmrec-extract again"):
        list(ShardReader(folder))


def test_missing_shard_is_told(folder):
    (folder / "part-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"part-00000\.parquet of the manifest is missing"):
        list(ShardReader(folder))


def test_wrong_number_of_rows_is_told(folder):
    (folder / "part-00000.parquet").write_bytes((folder / "part-00001.parquet").read_bytes())
    with pytest.raises(UserError, match="has 2 rows, the manifest says 3"):
        list(ShardReader(folder))


def vectors_of(dim, dtype):
    flat = pa.array(np.ones(3 * dim, dtype))
    return pa.FixedSizeListArray.from_arrays(flat, dim)


@pytest.mark.parametrize(
    ("name", "column", "told"),
    [
        ("image", None, r"a column 'image' of float32\[3\], found none"),
        ("image", vectors_of(4, "float32"), r"'image' of float32\[3\], found float32\[4\]"),
        ("text", vectors_of(2, "float16"), r"'text' of float32\[2\], found float16\[2\]"),
        ("text", pa.array([[1.0, 2.0]] * 3), r"'text' of float32\[2\], found list<.*>"),
        ("item_id", pa.array([0, 1, 2]), "'item_id' of string, found int64"),
        ("content", None, "'content' of string, found none"),
    ],
)
def test_other_columns_than_the_manifest_says_are_told(folder, name, column, told):
    path = folder / "part-00000.parquet"
    table = pq.read_table(path).drop_columns(name)
    pq.write_table(table if column is None else table.append_column(name, column), path)
    with pytest.raises(UserError, match=f"part-00000.*{told}; .*run mmrec-extract again"):
        list(ShardReader(folder))


def test_folder_without_manifest_is_unfinished(folder, tmp_path):
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"has no manifest\.json, so it is unfinished"):
        ShardReader(folder)
    with pytest.raises(UserError, match="no feature folder at"):
        ShardReader(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "mmrec-features/1"}'])
def test_garbage_for_a_manifest_is_told(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="is not a manifest of features"):
        Manifest.read(folder)


def test_another_format_is_told(folder):
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**told, "format": "mmrec-features/9"}))
    with pytest.raises(UserError, match="has format 'mmrec-features/9', expected"):
        Manifest.read(folder)


def test_crash_while_writing_leaves_neither_manifest_nor_temporary_files(folder, monkeypatch):
    """A finished folder that is being rewritten is unfinished from the first moment."""

    def crash(*_, **__):
        raise KeyboardInterrupt

    writer = ShardWriter(folder, DIMS)
    writer.write(batch(0, 3))
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", crash)
        with pytest.raises(KeyboardInterrupt):
            writer.write(batch(3, 2))
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["ledger.parquet", "part-00000.parquet", "part-00001.parquet"]
    with pytest.raises(UserError, match="unfinished"):
        ShardReader(folder)


def test_leftovers_of_a_longer_run_are_removed(folder):
    write(folder, batch(0, 4))
    assert sorted(path.name for path in folder.glob("part-*")) == ["part-00000.parquet"]
    assert read_ledger(folder) == []


def test_batches_are_checked(tmp_path):
    good = batch(0, 3)
    with pytest.raises(ValueError, match="same items"):
        EmbeddingBatch(good.item_ids[:2], good.content, good.vectors, good.present)
    with pytest.raises(ValueError, match=r"expected \(3, dim\) vectors"):
        EmbeddingBatch(
            good.item_ids, good.content, {**good.vectors, "text": np.ones((2, 2))}, good.present
        )
    with pytest.raises(ValueError, match="expected vectors of 4, found 3"):
        ShardWriter(tmp_path, {"image": 4}).write(good)
    with pytest.raises(UserError, match="float32 or float16, not 'int8'"):
        ShardWriter(tmp_path, DIMS, "int8")


@pytest.mark.parametrize(("dtype", "value"), [("float32", np.nan), ("float16", 1e5)])
def test_numbers_that_cannot_be_stored_are_told(tmp_path, dtype, value):
    bad = batch(0, 3, [("text", 0)])
    bad.vectors["text"][0] = np.inf  # absent, so it does not matter
    ShardWriter(tmp_path, DIMS, dtype).write(bad)
    bad.vectors["image"][1, 2] = value
    with pytest.raises(UserError, match=r"image vector of item 'item\.1' is not finite"):
        ShardWriter(tmp_path, DIMS, dtype).write(bad)


def test_rows_that_say_nothing():
    vectors = np.array([[1, 0], [0, 0], [np.nan, 1], [-np.inf, 0], [0, -1e-30], [-0.0, 0]])
    assert usable_rows(vectors).tolist() == [True, False, False, False, True, False]
    problems = {
        name: np.flatnonzero(rows).tolist() for name, rows in unusable_rows(vectors).items()
    }
    assert problems == {"zero": [1, 5], "not_finite": [2, 3]}
    assert usable_rows(np.zeros((0, 3))).shape == (0,)
