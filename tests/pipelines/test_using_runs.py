"""mmrec-evaluate, mmrec-recommend and mmrec-runs on a finished run."""

import json

import pyarrow.parquet as pq
import pytest
from support.process import libraries_imported
from support.shop import interaction_rows, write_features, write_shop


@pytest.fixture
def folder(tmp_path, mmrec):
    """A finished run of each kind of vectors: dense (bpr) and sparse (itemknn)."""
    dataset = write_shop(tmp_path)
    write_features(dataset)
    for model in ("bpr", "itemknn"):
        words = f"train --model {model} --run {model} --features good"
        assert mmrec(words, "--set", "train.max_epochs=3").code == 0
    return tmp_path / "runs" / "shop"


@pytest.mark.parametrize("model", ["bpr", "itemknn"])
def test_evaluating_again_gives_the_same_numbers(mmrec, folder, tmp_path, model):
    outcome = mmrec("evaluate", model, "--json", tmp_path / "again.json")
    assert outcome.code == 0, outcome.err
    again = json.loads((tmp_path / "again.json").read_text())
    assert again == json.loads((folder / model / "metrics.json").read_text())


def test_evaluating_under_another_protocol(mmrec, folder, tmp_path):
    assert mmrec("evaluate shop/bpr --protocol mmrec --json", tmp_path / "m.json").code == 0
    other = json.loads((tmp_path / "m.json").read_text())
    own = json.loads((folder / "bpr/metrics.json").read_text())
    assert other["protocol"] == "mmrec"
    assert other["validation"] == own["validation"]
    assert other["test"] != own["test"]


def parse(text):
    header, *lines = text.splitlines()
    assert header == "user_id\trank\titem_id\tscore"
    return [tuple(line.split("\t")) for line in lines]


@pytest.mark.parametrize("model", ["bpr", "itemknn"])
def test_recommending_repeats_the_runs_lists(mmrec, folder, model):
    outcome = mmrec("recommend", folder / model, "--top", 50)
    assert outcome.code == 0, outcome.err
    stored = pq.read_table(folder / model / "recommendations.parquet").to_pylist()
    wanted = [(row["user_id"], str(row["rank"]), row["item_id"]) for row in stored]
    assert [row[:3] for row in parse(outcome.out)] == wanted


def test_recommending_to_some_users_without_what_they_know(mmrec, folder, write):
    outcome = mmrec("recommend bpr --top 40 --hide-known --users", write("u.txt", "u3", "", "u1"))
    rows = parse(outcome.out)
    assert list(dict.fromkeys(row[0] for row in rows)) == ["u3", "u1"]
    known = {(user, item) for user, item, _ in interaction_rows()}
    assert not {(row[0], row[2]) for row in rows} & known
    assert len(rows) == 2 * (40 - 10)


def test_recommending_to_a_file(mmrec, folder, tmp_path):
    for name in ("lists.parquet", "lists.tsv"):
        outcome = mmrec("recommend bpr --top 2 --out", tmp_path / name)
        assert outcome.code == 0
        assert outcome.out == ""
    rows = pq.read_table(tmp_path / "lists.parquet").to_pylist()
    assert len(rows) == 60
    lines = parse((tmp_path / "lists.tsv").read_text())
    assert [row[2] for row in lines] == [row["item_id"] for row in rows]


def test_the_table_of_runs(mmrec, folder):
    (folder / "unfinished").mkdir()
    outcome = mmrec("runs")
    assert "itemknn" in outcome.out
    assert "bpr" in outcome.out
    assert "strict" in outcome.out
    assert "1 unfinished runs are not shown" in outcome.err


def test_refusals(refused, folder, tmp_path, write):
    assert "did you mean 'shop/bpr'" in refused("evaluate shop/bp")
    assert "1 of 1 users are not among" in refused("recommend bpr --users", write("u", "nobody"))
    assert "names no user" in refused("recommend bpr --users", write("e", ""))
    assert "there is no file" in refused("recommend bpr --users nowhere")
    torn = folder / "bpr" / "embeddings.safetensors"
    torn.write_bytes(torn.read_bytes()[:100])
    assert "may be torn" in refused("recommend bpr")
    (folder / "itemknn" / "metrics.json").unlink()
    assert "did not finish" in refused("evaluate itemknn")


@pytest.mark.parametrize("command", ["evaluate", "recommend"])
def test_a_data_set_that_changed_since(refused, folder, tmp_path, command):
    write_shop(tmp_path, rows=[*interaction_rows(), ("newcomer", "i0", "train")])
    assert "the users and split of data set 'shop' have changed" in refused(command, "bpr")


@pytest.mark.parametrize("command", ["evaluate", "recommend"])
def test_the_same_log_in_another_split(refused, folder, tmp_path, command):
    other = {"train": "test", "test": "train"}
    rows = [(user, item, other.get(part, part)) for user, item, part in interaction_rows()]
    write_shop(tmp_path, rows=rows)
    assert "the split of data set 'shop' have changed" in refused(command, "bpr")


@pytest.mark.parametrize("command", ["evaluate", "recommend"])
def test_no_encoder_library_is_imported(folder, tmp_path, command):
    assert libraries_imported(command, "bpr", "--root", tmp_path) == set()


def test_a_run_of_another_version(refused, folder):
    (folder / "bpr" / "metrics.json").write_text('{"model": "bpr"}')
    for command in ("runs", "evaluate bpr"):
        assert "lacks features, seed" in refused(command)


def test_a_run_name_that_two_data_sets_have(refused, folder, tmp_path):
    other = tmp_path / "runs" / "other"
    other.mkdir()
    (folder / "bpr").rename(folder / "same")
    (folder / "itemknn").rename(other / "same")
    assert "names 2 runs" in refused("evaluate same")
