"""mmrec-compare: a grid that comes to its end, whatever is killed on the way, and what it tells."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import psutil
import pytest
from support.pool_tasks import gone
from support.process import ENCODER_LIBRARIES, run_apart
from support.shop import write_features, write_shop

from extract.locking import locked
from pipelines.cli import run as command
from pipelines.comparing import run
from pipelines.comparisons.contents import read_comparison
from pipelines.comparisons.planning.command_line import command_of
from pipelines.comparisons.planning.compare_config import CompareConfig, PickedConfig
from pipelines.progress import Reporter
from pipelines.workspace import Workspace

# Every grid here has these; one process and one thread.
QUICK = (
    *("--device", "cpu", "--processes", "1", "--checkpoint-seconds", "0"),
    *("--set", "train.max_epochs=3", "--set", "train.batch_size=64"),
)
# Long enough to be killed in, wherever that is seen.
EPOCHS = 150
LONG = (
    *("--models", "popularity,bpr,vbpr", "--features", "good", "--seeds", "0", "--no-controls"),
    *("--device", "cpu", "--processes", "1", "--checkpoint-seconds", "0.1", "--set"),
    *(f"train.max_epochs={EPOCHS}", "--set", f"train.patience={EPOCHS}"),
    *("--set", "train.batch_size=64"),
)
RESULTS = ("embeddings.safetensors", "model.safetensors", "per_user.parquet", "ids.parquet")


@pytest.fixture(autouse=True)
def shop(tmp_path):
    folder = write_shop(tmp_path)
    write_features(folder)
    return folder


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs" / "shop"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "comparisons" / "shop" / "compare"


@pytest.fixture
def compare(mmrec):
    def call(*words):
        outcome = mmrec("compare", *words)
        assert outcome.code == 0, outcome.err
        return outcome

    return call


def journal(folder):
    """Status by run, of the last time that each was told."""
    lines = map(json.loads, (folder / "cells.jsonl").read_text().splitlines())
    return {line["run"]: line["status"] for line in lines}


def files(folder):
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in folder.iterdir()
    }


def results(folder):
    """Everything but times."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("seconds")
    return metrics, {name: (folder / name).read_bytes() for name in RESULTS}


def wait_for(true):
    end = time.monotonic() + 60
    while not (found := true()):
        assert time.monotonic() < end, "what should happen did not"
        time.sleep(0.005)
    return found


def begun(runs, model):
    """The folder of a model's run, as soon as it has something to go on from."""
    return wait_for(lambda: list(runs.glob(f"{model}-*/checkpoint.pt")))[0].parent


def workers(parent):
    """The processes that train for a process; of Python's own helpers there may be more."""
    children = psutil.Process(parent).children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def started(tmp_path):
    """The long grid in a process of its own, and a session of its own, as from a terminal."""
    words = [sys.executable, "-m", "pipelines.cli", "compare", "--root", str(tmp_path), *LONG]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stderr=pipe, stdout=pipe, text=True, start_new_session=True)


def test_a_grid_its_tables_and_again(compare, folder, runs, tmp_path):
    words = ("--models", "popularity,itemknn", "--seeds", "0,1", *QUICK)
    outcome = compare(*words)
    names = {path.name for path in runs.iterdir()}
    assert len(names) == 8
    assert journal(folder) == dict.fromkeys(names, "done")
    comparison = read_comparison(folder)
    assert {(system.name, system.seeds) for system in comparison.systems} == {
        ("popularity · none", (0, 1)),
        ("itemknn · good", (0, 1)),
        ("itemknn · random", (0, 1)),
        ("itemknn · shuffled:good", (0, 1)),
    }
    assert {name for system in comparison.systems for name in system.runs} == names
    told = re.findall(r"^cell (\d) of 8: (\S+) recall@20 1?\.\d{4} \(\d+ s\)", outcome.err, re.M)
    assert [int(number) for number, _ in told] == list(range(1, 9))
    assert {name for _, name in told} == names
    assert "itemknn · shuffled:good" in outcome.out
    assert outcome.out.splitlines()[-1] == str(folder)
    assert (folder / "comparison.md").read_text()
    before = {run: files(run) for run in runs.iterdir()}
    again = compare("--config", folder / "config.toml")
    assert "all 8 cells are finished already" in again.err
    assert {run: files(run) for run in runs.iterdir()} == before
    assert journal(folder) == dict.fromkeys(names, "kept")
    # What is told of how to make it again makes it again.
    command = read_comparison(folder).command.split()
    assert command[:5] == ["mmrec-compare", "--dataset", "shop", "--features", "good"]
    assert "all 8 cells are finished already" in compare(*command[1:]).err


def test_a_cell_that_diverges_fails_alone(compare, folder):
    """Popularity has no rate, and so nothing that could diverge."""
    words = ("--models", "popularity,bpr", "--seeds", "0", *QUICK)
    outcome = compare(*words, "--set", "train.learning_rate=1e38")
    comparison = read_comparison(folder)
    assert [system.model for system in comparison.systems] == ["popularity"]
    [failure] = comparison.failures
    assert failure.cell.startswith("bpr-none-s0")
    assert "not finite" in failure.error
    assert failure.cell in (folder / "comparison.md").read_text()
    [warning] = [line for line in outcome.err.splitlines() if line.startswith("warning:")]
    assert warning.startswith(f"warning: 1 cell has no result: {failure.cell}; ")
    assert "not finite" in warning
    assert sorted(journal(folder).values()) == ["done", "failed"]
    assert list((folder / "tracebacks").glob("*")) == []


def test_no_cell_has_a_result(mmrec, folder):
    """All searches fail, and with them their cells."""
    pytest.importorskip("optuna", reason="needs the extra search")
    folder.mkdir(parents=True)
    (folder / "search.db").write_text("no database")
    outcome = mmrec("compare --models popularity --seeds 0,1 --trials 2", *QUICK)
    assert outcome.code == 1
    told = "none of 2 cells has a result; the first one, popularity-none-s0-"
    assert told in outcome.error
    assert "the search for settings failed: " in outcome.error
    assert "cannot be used as the SQLite file" in outcome.error
    assert list(journal(folder).values()) == ["failed", "failed"]
    comparison = read_comparison(folder)
    assert (comparison.systems, len(comparison.failures)) == ((), 2)
    assert "popularity-none-s0-" in (folder / "comparison.md").read_text()


def test_what_was_concluded_under_other_settings_does_not_stay(compare, mmrec, folder):
    words = ("--models", "bpr", "--seeds", "0", *QUICK)
    compare(*words)
    assert len(read_comparison(folder).systems) == 1
    outcome = mmrec("compare", *words, "--set", "train.learning_rate=1e38")
    assert outcome.code == 1
    comparison = read_comparison(folder)
    assert comparison.systems == ()
    assert "not finite" in comparison.failures[0].error
    page = mmrec("report")
    assert page.code == 0, page.err
    assert comparison.failures[0].cell in (folder / "report.html").read_text()


@pytest.mark.parametrize("name", ["config.toml", "comparison.json", "comparison.md"])
def test_wherever_it_is_killed_nothing_contradicts(compare, folder, monkeypatch, name):
    """An exception in the place of a kill, just before a file is written."""
    words = ("--models", "popularity", "--seeds", "0", *QUICK)
    compare(*words)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying_at(name))
        with pytest.raises(Killed):
            run(of_shop(seeds=(1,)), Workspace(folder.parents[2]), Reporter(quiet=True))
    assert not (folder / "comparison.md").exists()
    assert (folder / "comparison.json").exists() == (name == "comparison.md")
    run(of_shop(seeds=(1,)), Workspace(folder.parents[2]), Reporter(quiet=True))
    assert read_comparison(folder).systems[0].seeds == (1,)
    assert (folder / "comparison.md").exists()


class Killed(BaseException):
    """Nobody catches it."""


def dying_at(name):
    replace = Path.replace

    def dying(self, target):
        if Path(target).name == name:
            raise Killed
        return replace(self, target)

    return dying


def of_shop(**settings):
    return CompareConfig(models=("popularity",), device="cpu", processes=1, **settings)


def test_a_run_with_torn_results_hurts_no_other(compare, folder, runs):
    words = ("--models", "popularity", "--seeds", "0,1", *QUICK)
    compare(*words)
    [torn] = runs.glob("popularity-none-s1*")
    (torn / "per_user.parquet").write_bytes(b"torn")
    (folder / "cells.jsonl").write_bytes(b'{"run": "torn\xff\xfe"}\nno text \xff\n')
    outcome = compare(*words)
    assert "1 of 2 cells are finished and kept" in outcome.err
    assert len(journal(folder)) == 2
    comparison = read_comparison(folder)
    assert comparison.systems[0].seeds == (0,)
    [failure] = comparison.failures
    assert "per_user.parquet is missing or torn; delete" in failure.error
    assert journal(folder)[torn.name] == "failed"


def test_a_choice_that_fits_no_more_is_told_with_its_file(compare, mmrec, folder):
    pytest.importorskip("optuna", reason="needs the extra search")
    words = ("--models", "bpr,popularity", "--seeds", "0", "--trials", "1", *QUICK)
    outcome = compare(*words)
    assert "bpr-none-frozen: trial 1 of 1: recall@20 0." in outcome.err
    path = folder / "chosen" / "bpr-none-frozen.toml"
    path.write_text(path.read_text().replace("[settings.model]", "[settings.model]\nno_such = 1"))
    assert compare(*words).code == 0
    [failure] = read_comparison(folder).failures
    assert f"{path} does not fit (" in failure.error


def test_a_defect_keeps_its_traceback(tmp_path, runs, folder):
    """A file where the run's folder should be is nothing that training knows of."""
    config = CompareConfig(models=("popularity", "itemknn"), seeds=(0,), controls=False)
    runs.mkdir(parents=True)
    (runs / "itemknn-good-s0").write_text("")
    comparison = run(config, Workspace(tmp_path), Reporter(quiet=True))
    [failure] = comparison.failures
    path = folder / "tracebacks" / "itemknn-good-s0.txt"
    assert failure.error.endswith(f"; its traceback is in {path}")
    assert "Traceback (most recent call last)" in path.read_text()


@pytest.mark.slow
def test_a_worker_that_is_killed_in_mid_cell(compare, mmrec, folder, runs, tmp_path):
    def kill():
        (busy,) = wait_for(lambda: workers(os.getpid()))
        found.append(begun(runs, "bpr"))
        os.kill(busy, signal.SIGKILL)

    found = []
    killer = threading.Thread(target=kill)
    killer.start()
    outcome = compare(*LONG)
    killer.join()
    [cell] = found
    statuses = journal(folder)
    assert statuses.pop(cell.name) == "failed"
    assert list(statuses.values()) == ["done", "done"]
    [failure] = read_comparison(folder).failures
    assert failure.error.startswith("the process was ended by signal 9, perhaps for want of memory")
    assert "the same command tries them again" in outcome.err
    outcome = compare(*LONG)
    assert "2 of 3 cells are finished and kept" in outcome.err
    assert journal(folder) == {**dict.fromkeys(statuses, "kept"), cell.name: "resumed"}
    assert read_comparison(folder).failures == ()
    assert "goes on after epoch" in (cell / "log.txt").read_text()
    resumed = results(cell)
    settings = shutil.copy(cell / "config.toml", tmp_path)
    shutil.rmtree(cell)
    assert mmrec("train --config", settings).code == 0
    assert results(cell) == resumed


@pytest.mark.slow
def test_the_command_is_interrupted_then_killed_then_ends(compare, folder, runs, tmp_path):
    process = started(tmp_path)
    begun(runs, "bpr")
    busy = workers(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    error = "error: interrupted; the same mmrec-compare command goes on, and keeps finished runs"
    assert told.splitlines()[-1] == error
    assert len(busy) == 1
    assert gone(busy)

    process = started(tmp_path)
    begun(runs, "vbpr")
    busy = workers(process.pid)
    process.kill()
    process.wait()
    assert len(busy) == 1
    assert gone(busy)
    finished = [path for path in runs.iterdir() if (path / "metrics.json").exists()]
    assert len(finished) == 2
    assert not (folder / "comparison.json").exists()
    before = {path: files(path) for path in finished}

    assert "2 of 3 cells are finished and kept" in compare(*LONG).err
    assert {path: files(path) for path in finished} == before
    assert sorted(journal(folder).values()) == ["kept", "kept", "resumed"]
    assert {path.name for path in finished} == {
        name for name, status in journal(folder).items() if status == "kept"
    }
    assert len(read_comparison(folder).systems) == 3


def test_a_run_that_another_process_makes_comes_last(tmp_path, runs, folder):
    """It is looked at until it is free, and keeps no other cell waiting, also none that waits."""
    names = [f"popularity-none-s{seed}" for seed in range(3)]
    busy = [locked(runs / name, "training into") for name in names[:2]]
    for holding in busy:
        holding.__enter__()
    lines = []

    class Told(Reporter):
        def say(self, text):
            lines.append(text)
            if re.match(r"cell \d of 3: ", text) and busy:  # the last one that waits is freed first
                busy.pop().__exit__(None, None, None)

    comparison = run(of_shop(seeds=(0, 1, 2)), Workspace(tmp_path), Told(quiet=True))
    assert comparison.failures == ()
    assert list(journal(folder)) == names[::-1]
    waiting = [line for line in lines if "another process" in line]
    assert waiting == [
        f"{name} is being made by another process; it comes later" for name in names[:2]
    ]


def test_only_one_makes_a_comparison(refused, folder):
    with locked(folder, "testing"):
        assert "is testing" in refused("compare --models popularity", *QUICK)


def test_settings_that_validation_chose(compare, folder, runs):
    pytest.importorskip("optuna", reason="needs the extra search")
    words = ("--models", "itemknn", "--no-controls", "--seeds", "0,1", "--trials", "3", *QUICK)
    compare(*words)
    chosen = tomllib.loads((folder / "chosen" / "itemknn-good-frozen.toml").read_text())
    assert chosen["trials"] == 3
    [system] = read_comparison(folder).systems
    assert (system.searched, len(system.runs)) == (3, 2)
    for name in system.runs:
        config = tomllib.loads((runs / name / "config.toml").read_text())
        assert config["train"]["max_epochs"] == 3
        assert config["model"] == {"name": "itemknn", **chosen["settings"]["model"]}
    (folder / "search.db").unlink()  # nobody asks for it any more
    assert "all 2 cells are finished already" in compare(*words).err
    assert not (folder / "search.db").exists()
    # The same runs by name are still those of a search.
    compare("itemknn-*", "--name", "mine")
    [system] = read_comparison(folder.parent / "mine").systems
    assert (system.searched, len(system.runs)) == (3, 2)


@pytest.fixture
def three_runs(mmrec):
    for words in ("popularity --seed 0", "itemknn --seed 0", "itemknn --seed 1"):
        assert mmrec("train --model", *words.split()).code == 0


def test_runs_that_are_there(compare, three_runs, runs, tmp_path):
    before = {run: files(run) for run in runs.iterdir()}
    compare("itemknn-*", runs / "popularity-none-s0", "--primary", "ndcg@10")
    comparison = read_comparison(tmp_path / "comparisons/shop/picked")
    assert {system.runs for system in comparison.systems} == {
        ("itemknn-good-s0", "itemknn-good-s1"),
        ("popularity-none-s0",),
    }
    assert comparison.primary == "ndcg@10"
    assert {run: files(run) for run in runs.iterdir()} == before


def test_unfinished_runs_that_a_pattern_fits_are_left_out(compare, three_runs, runs, tmp_path):
    (runs / "itemknn-good-s1" / "metrics.json").unlink()
    assert "1 unfinished runs that fit are left out" in compare("shop/*", "--name", "mine").err
    assert len(read_comparison(tmp_path / "comparisons/shop/mine").systems) == 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("itemkn-good-s0", "did you mean 'shop/itemknn-good-s0'"),
        ("itemkn-*", "unknown run 'itemkn-*'"),
        ("itemknn-* --dataset shp", "unknown data set 'shp'"),
        ("itemknn-* --name a/b", "a comparison is named like a folder"),
        ("itemknn-* --primary recall@7x", "unknown metric 'recall@7x'"),
    ],
    ids=str,
)
def test_runs_that_cannot_be_compared(refused, three_runs, words, error):
    assert error in refused("compare", *words.split())


def test_runs_of_two_data_sets(refused, three_runs, mmrec, tmp_path):
    write_shop(tmp_path, "other")
    assert mmrec("train --model popularity --dataset other").code == 0
    assert "runs of one data set can be compared, found other and shop" in refused(
        "compare other/* shop/*"
    )


def test_a_grid_of_runs_that_are_there(mmrec):
    outcome = mmrec("compare itemknn-good-s0 --models vbpr")
    assert outcome.code == 2
    assert "RUN is for runs as they are; leave out --models" in outcome.error


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--models fredom", "unknown model 'fredom'; did you mean 'freedom'?"),
        ("--features god", "did you mean 'good'?"),
        ("--set trin.max_epochs=3", "unknown setting 'trin'"),
        ("--set train.max_epoch=3", "did you mean 'train.max_epochs'?"),
        ("--regimes frosen", "regimes"),
        ("--primary recal@20", "did you mean 'recall@20'"),
    ],
    ids=str,
)
def test_wrong_words(refused, words, error, folder):
    assert error in refused("compare", *words.split())
    assert not folder.exists()


def test_the_command_of_a_comparison():
    assert command_of(CompareConfig()) == "mmrec-compare"
    config = CompareConfig(
        dataset="shop",
        models=("bpr", "vbpr"),
        controls=False,
        seeds=(3,),
        train={"max_epochs": 7},
        model={"reg": 0.5},
    )
    assert command_of(config) == (
        "mmrec-compare --dataset shop --models bpr,vbpr --seeds 3 --no-controls "
        "--set=train.max_epochs=7 --set=model.reg=0.5"
    )
    assert command_of(PickedConfig(name="mine"), ["vbpr-*"]) == "mmrec-compare 'vbpr-*' --name mine"


def test_help_teaches(mmrec):
    outcome = mmrec("compare --help")
    assert outcome.code == 0
    for word in ("--trials", "--no-controls", "--regimes", "mmrec-compare 'vbpr-*'"):
        assert word in outcome.out


def test_it_imports_no_library_that_it_does_not_need(three_runs, tmp_path):
    words = ("compare", "itemknn-*", "popularity-*", "--root", tmp_path)
    modules = set(json.loads(run_apart(*words).splitlines()[-1]))
    assert "pipelines.comparisons.judging" in modules
    assert not modules & {*ENCODER_LIBRARIES, "optuna", "sklearn", "jinja2"}


def test_a_workspace_in_an_object_store(store, capsys):
    prepared = ("--items", "50", "--users", "60", "--quiet", "--root", str(store))
    assert command("prepare", ["toy", *prepared]) == 0
    words = ["--models", "popularity", "--seeds", "0,1", "--device", "cpu", "--root", str(store)]
    assert command("compare", words) == 0
    folder = store / "comparisons/toy/compare"
    assert journal(folder) == dict.fromkeys(["popularity-none-s0", "popularity-none-s1"], "done")
    assert len(read_comparison(folder).systems) == 1
    capsys.readouterr()
    assert command("compare", words) == 0
    assert "all 2 cells are finished already" in capsys.readouterr().err
    assert len((folder / "cells.jsonl").read_text().splitlines()) == 4
