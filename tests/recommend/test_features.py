"""Features: joined by id, absent where they are missing, zero or not finite; the controls."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from extract.errors import UserError
from extract.shards import EmbeddingBatch, ShardWriter
from recommend.features import FeatureStore, load_features, random_features
from recommend.interactions import IdMap
from recommend.sources import FrozenFeatures

ITEMS = IdMap(["a", "b", "c", "d"])


def write(folder, ids, image, present=None, shard_rows=2):
    """A finished feature folder with one modality."""
    image = np.asarray(image, np.float32)
    present = np.ones(len(ids), bool) if present is None else np.asarray(present, bool)
    writer = ShardWriter(folder, {"image": image.shape[1]})
    for start in range(0, len(ids), shard_rows):
        part = slice(start, start + shard_rows)
        writer.write(
            EmbeddingBatch(
                ids[part], ["x"] * len(ids[part]), {"image": image[part]}, {"image": present[part]}
            )
        )
    writer.finish(
        encoder={"spec": "test", "fingerprint": "f"},
        normalized={"image": False},
        fusion=None,
        items_digest="d",
        seconds=1,
    )
    return folder


def test_rows_are_joined_by_id_whatever_their_order(tmp_path):
    folder = write(tmp_path / "f", ["c", "a", "d", "b"], [[3, 3], [1, 1], [4, 4], [2, 2]])
    store = load_features(folder, ITEMS, "f")
    assert store.tables["image"][:, 0].tolist() == [1, 2, 3, 4]
    assert store.present["image"].all()
    assert store.dims == {"image": 2}


def test_missing_zero_and_nan_rows_are_absent(tmp_path):
    folder = write(
        tmp_path / "f", ["a", "b", "c", "d"], [[1, 1], [0, 0], [5, 5], [2, 2]], [1, 1, 0, 1]
    )
    part = folder / "part-00001.parquet"  # what no writer of ours would write
    table = pq.read_table(part).to_pydict()
    table["image"][1] = [float("nan"), 1.0]
    schema = pq.read_schema(part)
    pq.write_table(pa.table(table, schema=schema), part)
    store = load_features(folder, ITEMS, "f")
    assert store.present["image"].tolist() == [True, False, False, False]
    assert store.tables["image"].tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]
    assert store.unusable == {"image": 2}


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "c", "e"], "items that are not in the catalogue, such as 'e'"),
        (["a", "b", "c"], "lacks rows of 1 of 4 items, such as 'd'"),
        (["a", "b", "c", "d", "a"], "more than one row of item 'a'"),
    ],
)
def test_features_of_other_items_are_refused(tmp_path, ids, message):
    folder = write(tmp_path / "f", ids, np.ones((len(ids), 2)))
    with pytest.raises(UserError, match=message):
        load_features(folder, ITEMS, "f")


def test_an_unfinished_folder_is_refused(tmp_path):
    folder = write(tmp_path / "f", ["a", "b", "c", "d"], np.ones((4, 2)))
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="unfinished"):
        load_features(folder, ITEMS, "f")


def store():
    generator = np.random.default_rng(0)
    arrays = {m: generator.standard_normal((30, 4)) for m in ("image", "text")}
    arrays["text"][3] = 0
    return FeatureStore.from_arrays(arrays, "clip", "digest")


def test_the_shuffled_control_moves_all_modalities_alike():
    own = store()
    shuffled = own.shuffled(seed=1)
    order = [
        int(np.flatnonzero((own.tables["image"] == row).all(axis=1))[0])
        for row in shuffled.tables["image"]
    ]
    assert sorted(order) == list(range(30))
    assert order != list(range(30))
    np.testing.assert_array_equal(shuffled.tables["text"], own.tables["text"][order])
    np.testing.assert_array_equal(shuffled.present["text"], own.present["text"][order])
    assert shuffled.name == "shuffled:clip"
    assert shuffled.digest not in (own.digest, own.shuffled(seed=2).digest)


def test_the_random_control_is_a_function_of_its_seed():
    one, same, other = (random_features(9, seed, ["image"]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.tables["image"], same.tables["image"])
    assert (one.tables["image"] != other.tables["image"]).all()


def test_choosing_modalities():
    assert list(store().only(["text"]).tables) == ["text"]
    with pytest.raises(UserError, match="have image, text; asked for fused"):
        store().only(["fused"])


def test_frozen_features_hand_out_whole_tables(device):
    frozen = FrozenFeatures(store(), device)
    tables = frozen(torch.tensor([1]))
    assert {m: tuple(t.shape) for m, t in tables.items()} == {"image": (30, 4), "text": (30, 4)}
    assert not any(table.requires_grad for table in tables.values())
    assert tables["image"].device.type == device
