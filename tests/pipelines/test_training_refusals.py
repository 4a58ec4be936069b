"""Bad input to mmrec-train: one error line each, exit code 1, and never a metrics.json."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.shop import interaction_rows, write_features, write_shop

QUICK = ("--set", "train.max_epochs=2")


@pytest.fixture(autouse=True)
def shop(tmp_path):
    folder = write_shop(tmp_path)
    write_features(folder)
    yield folder
    assert not list(tmp_path.glob("runs/**/metrics.json"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--model bpr --dataset shp", ["unknown data set 'shp'", "did you mean 'shop'"]),
        ("--model fredom", ["unknown model 'fredom'", "did you mean 'freedom'", "lightgcn"]),
        ("--model vbpr --features god", ["'god'", "did you mean 'good'", "shuffled:good"]),
        ("--model vbpr --features shuffled:god", ["'god'", "did you mean 'good'"]),
        ("--model bpr --set model.embeding_size=9", ["did you mean 'model.embedding_size'"]),
        ("--model bpr --set train.patiens=9", ["did you mean 'train.patience'"]),
        ("--model bpr --set protocoll=mmrec", ["did you mean 'protocol'"]),
        ("--model bpr --set train.batch_size=0", ["train.batch_size", "greater than", "found 0"]),
        ("--model bpr --set batch", ["--set takes KEY=VALUE, found 'batch'"]),
        ("--model bpr --config nowhere.toml", ["unknown settings file 'nowhere.toml'"]),
        ("--dataset shop", ["which model? give --model NAME"]),
        ("--model vbpr --modalities sound", ["unknown modality 'sound'; known: fused, image"]),
        ("--model bpr --device cuda:77", ["cuda:77"]),
        ("--model bpr --device gpu", ["'gpu'"]),
        ("--model vbpr --features random --modalities sound", ["unknown modality 'sound'"]),
        ("--model popularity --set train.selection=recal@20", ["did you mean 'recall@20'"]),
        ("--model bpr --set model=freedom", ["--model says 'bpr'", "'freedom'"]),
        ("--model lightgcn --config bpr-baby", ["--model says 'lightgcn'", "'bpr'"]),
        ("--model bpr --set model.reg=inf", ["model.reg", "finite"]),
        ("--model bpr --set train.learning_rate=nan", ["train.learning_rate", "finite"]),
        ("--model bpr --run a/b", ["without slashes", "'a/b'"]),
    ],
)
def test_names_and_values(refused, words, parts):
    line = refused(f"train {words}")
    for part in parts:
        assert part in line


def test_all_wrong_settings_are_told_at_once(refused):
    line = refused("train --model bpr --set model.size=1 --set train.rate=1 --set seed=-1")
    for part in ("model.size", "train.rate", "seed"):
        assert part in line


def test_an_unknown_option_is_wrong_usage(mmrec):
    outcome = mmrec("train --model bpr --epochs 3")
    assert outcome.code == 2
    assert "--epochs" in outcome.error
    assert "mmrec-train --help" in outcome.error


def test_a_settings_file_that_is_not_toml(refused, write):
    assert "is not TOML" in refused("train --config", write("x.toml", "model = = 3"))


def test_features_without_manifest(refused, shop):
    (shop / "features/good/manifest.json").unlink()
    assert "unfinished" in refused("train --model vbpr")


def test_a_torn_manifest(refused, shop):
    (shop / "features/good/manifest.json").write_text('{"format": "mmrec-fea')
    assert "is not a manifest" in refused("train --model vbpr")


def test_features_of_other_items(refused, shop):
    write_features(shop, items=[f"i{i}" for i in range(39)] + ["i77"])
    assert "not in the catalogue, such as 'i77'" in refused("train --model vbpr")


def test_features_that_lack_new_items(refused, shop, tmp_path):
    write_shop(tmp_path, items=[f"i{i}" for i in range(45)])
    assert "lacks rows of 5 of 45 items" in refused("train --model vbpr")


def test_features_of_other_texts_of_the_same_items(refused, shop):
    table = pq.read_table(shop / "items.parquet")
    texts = pa.array(["another text", *table["text"].to_pylist()[1:]])
    pq.write_table(table.set_column(1, "text", texts), shop / "items.parquet")
    assert "made from other texts or pictures" in refused("train --model vbpr")
    assert "made from other texts" in refused("train --model vbpr --features shuffled:good")


def test_no_features_and_too_many(refused, shop):
    write_features(shop, name="other")
    assert "found good, other" in refused("train --model vbpr")


@pytest.mark.parametrize("name", ["items.parquet", "interactions.parquet"])
def test_a_truncated_table(refused, shop, name):
    path = shop / name
    path.write_bytes(path.read_bytes()[:200])
    assert "cannot be read as Parquet" in refused("train --model bpr")


def test_a_truncated_shard(refused, shop):
    path = shop / "features/good/part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read as Parquet, it may be torn" in refused("train --model vbpr")


def test_duplicate_item_ids(refused, tmp_path):
    write_shop(tmp_path, items=[f"i{i}" for i in range(40)] + ["i0"])
    assert "1 item ids more than once" in refused("train --model bpr")


def test_interactions_with_unknown_items(refused, tmp_path):
    write_shop(tmp_path, rows=[*interaction_rows(), ("u0", "nothing", "train")])
    assert "1 of 301 items are not among" in refused("train --model bpr")


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_split_without_a_part(refused, tmp_path, part):
    write_shop(tmp_path, rows=[row for row in interaction_rows() if row[2] != part])
    assert f"has no {part} interaction" in refused("train --model bpr")


def test_a_loss_that_is_not_finite_is_an_error(refused, tmp_path):
    line = refused("train --model bpr --set train.learning_rate=1e38 --set train.batch_size=32")
    assert "the loss is not finite in epoch" in line


def test_scores_that_are_not_finite_are_an_error(refused):
    """One step: its loss is still finite, the weights that it leads to are not usable."""
    line = refused("train --model bpr --set train.learning_rate=1e38 --set train.max_epochs=1")
    assert "scores are not finite" in line


def test_an_unfinished_data_set(refused, shop):
    (shop / "dataset.json").unlink()
    assert "preparing did not finish" in refused("train --model bpr")


@pytest.mark.parametrize(("row", "name"), [((None, "i0"), "user_id"), (("u0", None), "item_id")])
def test_rows_without_an_id(refused, tmp_path, row, name):
    write_shop(tmp_path, rows=[*interaction_rows(), (*row, "train")])
    assert f"1 rows of {tmp_path}/data/shop/interactions.parquet have no {name}" in refused(
        "train --model bpr"
    )


def test_no_permission_to_write(refused, tmp_path):
    (tmp_path / "runs").write_text("a file where the runs should go")
    assert "check that the path exists and may be written" in refused("train --model bpr", *QUICK)
