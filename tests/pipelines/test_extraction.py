import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from extract import chunks as chunks_module
from extract.encoders import create_encoder
from extract.ledger import read_ledger
from extract.shards import ShardReader
from pipelines.workspace import catalogue_digest


@pytest.fixture
def shop(tmp_path):
    """A data set of six items: one without a picture, one with a broken one, one without a text."""
    folder = tmp_path / "data" / "shop"
    (folder / "images").mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    for number in range(5):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(folder / "images" / f"{number}.png")
    (folder / "images" / "3.png").write_bytes(b"broken")
    write_items(folder, [f"text {number}" for number in range(5)] + [None])
    return folder


def write_items(folder, texts):
    table = {
        "item_id": [f"i{number}" for number in range(6)],
        "text": texts,
        "image": [*(f"{number}.png" for number in range(5)), None],
    }
    pq.write_table(pa.table(table), folder / "items.parquet")


def manifest_of(folder, name="random-4"):
    return json.loads((folder / "features" / name / "manifest.json").read_text())


def test_features_are_written_and_told(mmrec, shop):
    done = mmrec("extract --encoder random:4 --shard-rows 4 --workers 0")
    assert done.code == 0, done.err
    told = manifest_of(shop)
    fingerprint = told["encoder"].pop("fingerprint")
    assert told["encoder"].pop("options") == "--encoder random:4 --shard-rows 4"
    assert told["encoder"] == {
        "spec": "random:4",
        "model": create_encoder("random:4").fingerprint(),
        "precision": "fp32",
    }
    assert len(fingerprint) == 32
    assert fingerprint != told["encoder"]["model"]
    assert told["dims"] == {"image": 4, "text": 4, "fused": 4}
    assert told["present"] == {"image": 4, "text": 5, "fused": 4}
    assert told["normalized"] == {"image": True, "text": True, "fused": False}
    assert (told["fusion"], told["dtype"], told["rows"]) == ("mean", "float32", 6)
    assert told["items_digest"] == catalogue_digest(pq.read_table(shop / "items.parquet"))
    assert [shard["rows"] for shard in told["shards"]] == [4, 2]
    problems = {(p.item_id, p.modality, p.problem) for p in read_ledger(shop / "features/random-4")}
    assert problems == {
        ("i3", "image", "unreadable"),
        ("i5", "image", "missing"),
        ("i5", "text", "empty"),
    }
    # Results on stdout, what went on meanwhile on stderr.
    assert "1 missing, 1 unreadable" in done.out
    assert "6 items" in done.out
    assert str(shop / "features" / "random-4") in done.out.replace("\n", "")
    assert "image: 6 of 6 items" in done.err
    assert "text: 6 of 6 items" in done.err
    assert "items/s" in done.err


def test_quiet_says_results_only(mmrec, shop):
    done = mmrec("extract --encoder random:4 --workers 0 --quiet")
    assert done.err == ""
    assert "6 items" in done.out


def test_vectors_are_the_encoders_own(mmrec, shop):
    mmrec("extract --encoder random:4 --dtype float16 --fusion concat --features half --workers 0")
    (batch,) = ShardReader(shop / "features" / "half")
    encoder = create_encoder("random:4")
    tokens = encoder.collate({"text": [encoder.prepare_text("text 2")]})
    expected = encoder.encode(tokens)["text"][0].numpy()
    np.testing.assert_allclose(batch.vectors["text"][2], expected, atol=1e-3)
    assert batch.vectors["text"].dtype == np.float16
    fused = np.concatenate([batch.vectors["image"][2], batch.vectors["text"][2]])
    np.testing.assert_allclose(batch.vectors["fused"][2], fused, atol=1e-3)


def test_what_is_done_is_not_done_again(mmrec, shop):
    again = "extract --encoder random:4 --workers 0"
    mmrec(again)
    before = manifest_of(shop)
    done = mmrec(again, "--batch-size", 2)  # a circumstance, no other result
    assert done.code == 0
    assert "nothing is to be done" in done.err
    assert "6 items" in done.out
    assert manifest_of(shop) == before


@pytest.mark.parametrize(
    "change",
    [
        "another fusion",
        "another type",
        "another precision",
        "another text",
        "another picture",
        "another item",
        "a torn shard",
        "a missing shard",
        "a torn manifest",
    ],
)
def test_whatever_changes_is_done_again(mmrec, shop, change):
    mmrec("extract --encoder random:4 --workers 0")
    features = shop / "features" / "random-4"
    arguments = {
        "another fusion": ["--fusion", "sum"],
        "another type": ["--dtype", "float16"],
        "another precision": ["--precision", "bf16"],
    }.get(change, [])
    if change == "another text":
        write_items(shop, [f"text {number}" for number in range(5)] + ["now there is one"])
    if change == "another picture":
        Image.new("RGB", (8, 8), "blue").save(shop / "images" / "3.png")
    if change == "another item":
        table = pq.read_table(shop / "items.parquet")
        pq.write_table(table.slice(0, 5), shop / "items.parquet")
    if change == "a torn shard":
        with (features / "part-00000.parquet").open("ab") as file:
            file.write(b"x")
    if change == "a missing shard":
        (features / "part-00000.parquet").unlink()
    if change == "a torn manifest":
        (features / "manifest.json").write_text("{")
    done = mmrec("extract --workers 0 --encoder random:4", *arguments)
    assert done.code == 0, done.err
    assert "nothing is to be done" not in done.err
    assert sum(len(batch.item_ids) for batch in ShardReader(features)) == (
        5 if change == "another item" else 6
    )


def test_features_of_another_encoder_are_not_replaced(mmrec, refused, shop):
    mmrec("extract --encoder random:4 --workers 0 --features mine")
    before = manifest_of(shop, "mine")
    other = "extract --encoder random:5 --workers 0 --features mine"
    error = refused(other)
    assert "holds features of random:4 (fingerprint " in error
    assert "not of random:5 (fingerprint " in error
    assert "--features" in error
    assert "--overwrite" in error
    assert manifest_of(shop, "mine") == before
    assert mmrec(other, "--overwrite").code == 0
    assert manifest_of(shop, "mine")["encoder"]["spec"] == "random:5"
    # Not a wish to do over what is done.
    assert "nothing is to be done" in mmrec(other, "--overwrite").err


def test_equal_weights_by_another_spec_are_the_same_encoder(mmrec, shop):
    mmrec("extract --encoder random:4 --workers 0 --features mine")
    manifest = manifest_of(shop, "mine")
    manifest["encoder"]["spec"] = "random:./where/it/was"
    (shop / "features/mine/manifest.json").write_text(json.dumps(manifest))
    assert mmrec("extract --encoder random:4 --workers 0 --features mine").code == 0


def test_a_crash_in_the_middle_leaves_an_unfinished_folder(mmrec, refused, shop, monkeypatch):
    mmrec("extract --encoder random:4 --workers 0 --shard-rows 2")
    opened = chunks_module.prepared_batches

    def interrupted(*arguments):
        yield from list(opened(*arguments))[:1]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chunks_module, "prepared_batches", interrupted)
        stopped = mmrec(
            "extract --encoder random:5 --features random-4 --workers 0 --shard-rows 2 --overwrite"
        )
    assert stopped.code == 130
    assert "error: interrupted" in stopped.err
    left = sorted(path.name for path in (shop / "features" / "random-4").iterdir())
    assert "manifest.json" not in left
    assert not [name for name in left if name.endswith(".tmp")]
    # The same command again finishes it.
    assert (
        mmrec("extract --encoder random:5 --features random-4 --workers 0 --shard-rows 2").code == 0
    )
    assert manifest_of(shop)["encoder"]["spec"] == "random:5"


def test_settings_may_come_from_a_file(mmrec, shop, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('encoder = "random:4"\nfeatures = "mine"\nworkers = 0\n')
    assert mmrec("extract --fusion product --config", file).code == 0
    assert manifest_of(shop, "mine")["fusion"] == "product"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--encoder clop", "unknown encoder 'clop'; did you mean 'clip'"),
        ("--encoder random:4 --dataset shup", "unknown data set 'shup'; did you mean 'shop'"),
        ("--encoder random:4 --features a/b", "named like a folder"),
        ("--encoder random:4 --features ..", "named like a folder"),
        ("--encoder random:4 --features random", "is a control of mmrec-train"),
        ("--encoder random:4 --device cuda:99", "device cuda:99 was asked for"),
        ("--encoder random:4 --device gpu", "a device is auto, cpu, cuda or cuda:N, found 'gpu'"),
        ("--encoder random:4 --batch-size 0", "batch_size: input should be greater"),
        ("--encoder random:4 --set bach_size=3", "did you mean 'batch_size'"),
        ("--encoder random:4 --seed -1", "seed: input should be greater"),
        ("--encoder random:4 --seed 9223372036854775808", "seed: input should be less"),
        ("--encoder random:99999999999999", "at most 65,536"),
        ("", "the setting encoder is needed"),
    ],
)
def test_refusals(refused, shop, words, told):
    assert told in refused(f"extract {words}")
    assert not (shop / "features").exists()


def test_item_ids_that_come_twice_are_refused(refused, shop):
    table = pq.read_table(shop / "items.parquet")
    pq.write_table(pa.concat_tables([table, table]), shop / "items.parquet")
    assert "6 of them come more than once" in refused("extract --encoder random:4")
