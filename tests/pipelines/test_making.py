"""make prepare, extract, train: what is missing first, nothing twice."""

import io
import json
import shlex
import subprocess
import zipfile
from pathlib import Path

import pytest
from support.shop import write_features, write_shop
from support.web import Site

from extract.shards import ShardWriter
from pipelines import making
from pipelines.runs import RunFolder

ROOT = Path(__file__).parents[2]
QUICK = "--set train.max_epochs=3 --set train.batch_size=64"


@pytest.fixture
def make(tmp_path, capsys):
    """make("train DATASET=shop MODEL=vbpr", ARGS): exit code, commands that ran, stderr."""

    def to(words, arguments=""):
        target, *variables = shlex.split(words)
        given = [variable.split("=", 1) for variable in variables]
        options = [word for name, value in given for word in (f"--{name.lower()}", value)]
        capsys.readouterr()
        code = making.main(
            [target, "--root", str(tmp_path), *options, "--", *shlex.split(arguments)]
        )
        err = capsys.readouterr().err
        assert "Traceback" not in err
        root = f"--root {tmp_path} "
        ran = [line.replace(root, "", 1) for line in err.splitlines() if line[:6] == "mmrec-"]
        return code, ran, err

    return to


@pytest.fixture
def shop(tmp_path):
    return write_shop(tmp_path)


@pytest.fixture
def films(tmp_path, monkeypatch):
    """A published data set, ml-1m, of 12 users and 12 films, on a server of this machine."""
    ratings = "".join(f"{u}::{f}::5::{u + f}\n" for u in range(12) for f in range(12) if u != f)
    titles = "".join(f"{f}::Film {f} (1999)::Drama\n" for f in range(12))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", ratings)
        archive.writestr("ml-1m/movies.dat", titles)
    with Site() as site:
        site.put("/ml-1m.zip", file.getvalue(), "application/zip")
        monkeypatch.setenv("MMREC_MOVIELENS_URL", site.url)
        monkeypatch.setenv("MMREC_DOWNLOADS", str(tmp_path / "downloads"))
        yield site


def metrics(folder):
    found = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in found.items() if name != "seconds"}


def test_from_nothing_to_a_trained_recommender_and_nothing_twice(make, mmrec, films, tmp_path):
    line = "train DATASET=ml-1m FEATURES=random:8 MODEL=vbpr"
    code, ran, err = make(line, QUICK)
    assert code == 0, err
    assert ran == [
        "mmrec-prepare movielens --dataset ml-1m",
        "mmrec-extract --dataset ml-1m --encoder random:8",
        f"mmrec-train --dataset ml-1m --features random-8 --model vbpr {QUICK}",
    ]
    (run,) = (tmp_path / "runs/ml-1m").iterdir()
    first = metrics(run)
    every = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    code, ran, err = make(line, QUICK)
    assert code == 0, err
    assert ran == [f"mmrec-train --resume {run}"]
    assert "the data set 'ml-1m' is there already: " in err
    assert "the features 'random-8' are there already: " in err
    assert f"{run} is finished already" in err
    assert every == {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()
    }
    assert len(films.requests) == 1

    # By hand, command for command, the same comes out.
    by_hand = f"train --dataset ml-1m --features random-8 --model vbpr --run r {QUICK}"
    assert mmrec(by_hand).code == 0
    assert metrics(run.parent / "r") == first


def test_another_model_needs_training_only(make, films):
    assert make("extract DATASET=ml-1m ENCODER=random:8")[0] == 0
    code, ran, err = make("train DATASET=ml-1m FEATURES=random:8 MODEL=itemknn")
    assert (code, len(ran)) == (0, 1), err
    assert ran == ["mmrec-train --dataset ml-1m --features random-8 --model itemknn"]


def test_each_target_ends_where_it_says(make, films, tmp_path):
    assert make("prepare DATASET=ml-1m")[1] == ["mmrec-prepare movielens --dataset ml-1m"]
    assert not (tmp_path / "data/ml-1m/features").exists()
    # Encoding looks for itself what is new.
    words = "mmrec-extract --dataset ml-1m --encoder random:8"
    assert make("extract DATASET=ml-1m ENCODER=random:8")[1] == [words]
    code, ran, err = make("extract DATASET=ml-1m ENCODER=random:8")
    assert (code, ran) == (0, [words])
    assert "is up to date, nothing is to be done" in err
    assert not (tmp_path / "runs").exists()


def test_the_generated_shop_has_a_name_too(make, monkeypatch):
    monkeypatch.setattr(making, "run", lambda name, words: 0)
    assert make("prepare DATASET=toy")[:2] == (0, ["mmrec-prepare toy --dataset toy"])


@pytest.mark.parametrize("model", ["popularity", "lightgcn"])
def test_a_model_that_uses_no_features_encodes_nothing(make, shop, model):
    for features in ("", " FEATURES=clip"):
        code, ran, err = make(f"train DATASET=shop MODEL={model}{features}", QUICK)
        assert code == 0, err
        assert "mmrec-extract" not in err
    assert ran[0].startswith("mmrec-train --resume")


def test_the_only_data_set_needs_no_name(make, shop):
    code, ran, err = make("train MODEL=popularity")
    assert (code, ran) == (0, ["mmrec-train --model popularity"]), err
    assert "the data set 'shop' is there already: " in err


def test_features_made_by_hand_are_taken_as_they_are(make, shop):
    write_features(shop, "good")
    code, ran, err = make("train DATASET=shop FEATURES=good MODEL=vbpr", QUICK)
    assert code == 0, err
    assert ran == [f"mmrec-train --dataset shop --features good --model vbpr {QUICK}"]
    code, ran, err = make("train DATASET=shop FEATURES=shuffled:good MODEL=vbpr", QUICK)
    assert (code, len(ran)) == (0, 1), err
    assert "--features shuffled:good" in ran[0]


def test_a_control_needs_what_it_is_a_control_of_and_random_nothing(make, shop):
    code, ran, err = make("train DATASET=shop FEATURES=random MODEL=vbpr", QUICK)
    assert (code, len(ran)) == (0, 1), err
    assert "--features random " in ran[0]
    code, ran, err = make("train DATASET=shop FEATURES=shuffled:random:8 MODEL=vbpr", QUICK)
    assert code == 0, err
    assert ran == [
        "mmrec-extract --dataset shop --encoder random:8",
        f"mmrec-train --dataset shop --features shuffled:random-8 --model vbpr {QUICK}",
    ]


@pytest.mark.parametrize(
    ("variables", "encoded", "features"),
    [
        ("ENCODER=random:8", "--encoder random:8", "random-8"),
        ("FEATURES=random:8", "--encoder random:8", "random-8"),
        ("FEATURES=mine ENCODER=random:8", "--encoder random:8 --features mine", "mine"),
    ],
)
def test_names_of_encoder_and_features(make, shop, variables, encoded, features):
    assert make(f"extract DATASET=shop {variables}")[1] == [
        f"mmrec-extract --dataset shop {encoded}"
    ]
    code, ran, err = make(f"train DATASET=shop {variables} MODEL=itemknn")
    assert code == 0, err
    assert ran == [f"mmrec-train --dataset shop --features {features} --model itemknn"]


def test_without_encoder_and_features_it_is_the_offline_one(make, shop, monkeypatch):
    asked = []
    monkeypatch.setattr(making, "run", lambda name, words: asked.append((name, words[-1])) or 0)
    assert make("extract DATASET=shop")[0] == 0
    assert asked == [("extract", "offline")]
    write_features(shop, "offline")
    assert "--features offline --model freedom" in make("train DATASET=shop")[1][0]


def test_the_encoder_that_takes_part_in_training_needs_no_features(make, shop, monkeypatch):
    monkeypatch.setattr(making, "run", lambda name, words: 0)
    live = "--end-to-end --encoder random:8 --set end_to_end.projection=4"
    _, ran, err = make("train DATASET=shop MODEL=vbpr", live)
    assert ran == [f"mmrec-train --dataset shop --model vbpr {live}"], err


def test_killed_while_encoding_it_goes_on(make, shop, monkeypatch):
    write, count = ShardWriter.write, iter(range(9))

    def dying(self, *arguments):
        if next(count) == 1:
            raise KeyboardInterrupt
        write(self, *arguments)

    line = ("extract DATASET=shop ENCODER=random:8", "--shard-rows 16")
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", dying)
        code, _, err = make(*line)
    assert code == 130
    assert "16 of 40 items are done and kept" in err
    # Training finds unfinished features, and has them finished first.
    code, ran, err = make("train DATASET=shop FEATURES=random:8 MODEL=itemknn")
    assert code == 0, err
    assert [words.split()[0] for words in ran] == ["mmrec-extract", "mmrec-train"]


def test_an_interrupted_run_goes_on(make, shop, tmp_path, monkeypatch):
    write_features(shop, "good")
    line = ("train DATASET=shop FEATURES=good MODEL=vbpr", f"{QUICK} --checkpoint-seconds 0")
    record = RunFolder.record

    def dying(self, told):
        record(self, told)
        if told["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "record", dying)
        code, _, err = make(*line)
    assert code == 130
    (run,) = (tmp_path / "runs/shop").iterdir()
    code, ran, err = make(*line)
    assert (code, ran) == (0, [f"mmrec-train --resume {run}"])
    assert "goes on after epoch 1" in err
    assert (run / "metrics.json").is_file()


def test_other_settings_are_another_run_and_under_one_name_refused(make, shop, tmp_path):
    write_features(shop, "good")
    line = "train DATASET=shop FEATURES=good MODEL=vbpr"
    assert make(line, QUICK)[0] == 0
    assert make(line, f"{QUICK} --seed 1")[0] == 0
    assert len(list((tmp_path / "runs/shop").iterdir())) == 2
    assert make(line, f"{QUICK} --run r")[0] == 0
    code, ran, err = make(line, f"{QUICK} --run r --seed 1")
    assert (code, ran) == (1, [])
    assert "holds a run with other settings" in err


def test_a_data_set_is_left_unless_the_arguments_say_otherwise(make, films):
    words = "mmrec-prepare movielens --dataset ml-1m --k-core 3"
    assert make("prepare DATASET=ml-1m", "--k-core 3")[1] == [words]
    for arguments in ("", "--k-core 3", "--k-core 3 --timeout 9"):
        code, ran, err = make("prepare DATASET=ml-1m", arguments)
        assert (code, ran) == (0, []), err
        assert "is there already" in err
    code, ran, err = make("prepare DATASET=ml-1m", "--k-core 2")
    assert (code, ran) == (1, [])
    assert "was made with k_core 3, not 2" in err
    code, ran, _ = make("prepare DATASET=ml-1m", "--k-core 2 --overwrite")
    assert (code, ran) == (0, [words.replace("3", "2") + " --overwrite"])


def test_an_unfinished_data_set_is_prepared_again(make, films, tmp_path):
    assert make("prepare DATASET=ml-1m")[0] == 0
    (tmp_path / "data/ml-1m/dataset.json").unlink()
    code, ran, _ = make("train DATASET=ml-1m MODEL=popularity")
    assert (code, len(ran)) == (0, 2)
    assert len(films.requests) == 1  # from the downloads


def test_when_a_stage_fails_the_next_one_is_not_begun(make, films, tmp_path):
    films.put("/ml-1m.zip", b"<html>", "text/html")
    code, ran, err = make("train DATASET=ml-1m FEATURES=random:8 MODEL=vbpr")
    assert (code, ran) == (1, ["mmrec-prepare movielens --dataset ml-1m"])
    assert err.count("error: ") == 1


@pytest.mark.parametrize(
    ("line", "arguments", "code", "told"),
    [
        ("train DATASET=ml-1n", "", 1, "unknown published data set 'ml-1n'; did you mean 'ml-1m'"),
        ("prepare DATASET=mine", "", 1, "mmrec-prepare table --dataset mine"),
        ("prepare", "", 1, "found none"),
        ("extract DATASET=ml-1m ENCODER=clpi", "", 1, "unknown encoder 'clpi'; did you mean 'clip"),
        ("train DATASET=ml-1m FEATURES=clpi", "", 1, "unknown encoder 'clpi'"),
        (
            "train DATASET=ml-1m MODEL=fredom",
            "",
            1,
            "unknown model 'fredom'; did you mean 'freedom",
        ),
        ("train DATASET=ml-1m", "--set model.layrs=2", 1, "unknown setting 'model.layrs'"),
        (
            "train DATASET=ml-1m",
            "--epochs 3",
            2,
            "--epochs'. Did you mean '--warm-epochs'?; see mmrec-train -",
        ),
        ("extract DATASET=ml-1m", "--batch", 2, "see mmrec-extract --help"),
        ("frobnicate", "", 2, "see make --help"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_fetched(make, films, line, arguments, code, told):
    found, ran, err = make(line, arguments)
    assert (found, ran, films.requests) == (code, [], [])
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err


def test_what_the_disk_refuses_is_told_in_one_line(make, shop, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied", "manifest.json")

    monkeypatch.setattr(making, "finished_features", refuse)
    write_features(shop, "good")
    code, ran, err = make("train DATASET=shop FEATURES=good")
    assert (code, ran) == (1, [])
    assert err.splitlines()[-1].startswith("error: Permission denied: manifest.json; check")


def dry(words):
    """The last line that make would run."""
    command = ["make", "-n", "-C", str(ROOT), *shlex.split(words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return shlex.split(
        [line for line in done.stdout.splitlines() if "pipelines.making" in line][-1]
    )


@pytest.mark.parametrize("target", making.TARGETS)
def test_make_hands_on_what_it_is_given(target, monkeypatch):
    for name in ("ROOT", "DATASET", "FEATURES", "ENCODER", "MODEL", "ARGS", "MAKEFLAGS"):
        monkeypatch.delenv(name, raising=False)
    start = [".venv/bin/python", "-m", "pipelines.making", target]
    assert dry(target) == [*start, "--model", "freedom", "--"]
    assert dry(f"{target} FEATURES=clip DATASET=sports") == [
        *start,
        *("--dataset", "sports", "--features", "clip", "--model", "freedom", "--"),
    ]
    assert dry(f"{target} ENCODER=hf:a/b ROOT='a b' ARGS='--set x=1'") == [
        *start,
        *("--root", "a b", "--encoder", "hf:a/b", "--model", "freedom", "--", "--set", "x=1"),
    ]
