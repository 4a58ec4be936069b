"""One cell: kept, resumed or trained, by what lies in its run's folder."""

import json
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from support.shop import interaction_rows, write_features, write_shop

from extract.errors import UserError
from extract.locking import locked
from pipelines.comparisons.planning.grid import CompareConfig, cells
from pipelines.comparisons.running.cells import PAUSE, TrainCell, Trained, finished, run_folder
from pipelines.loading import load_log, log_digests
from pipelines.runs import RunFolder
from pipelines.workspace import Workspace

SETTINGS = {
    "seeds": (0,),
    "train": {"max_epochs": 6, "batch_size": 64},
    "device": "cpu",
    "checkpoint_seconds": 0,
}
RESULTS = ("embeddings.safetensors", "model.safetensors", "per_user.parquet")


@pytest.fixture(autouse=True)
def shop(tmp_path):
    folder = write_shop(tmp_path)
    write_features(folder)
    return folder


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def task(workspace):
    """The task of a cell, by features."""

    def of(features="good", model="vbpr"):
        config = CompareConfig(models=(model,), features=("good",), **SETTINGS)
        log = log_digests(load_log(workspace.dataset("shop")))
        found = {cell.config.features: cell for cell in cells(config, workspace)}
        return TrainCell(found[features].config, workspace.root, log)

    return of


@pytest.fixture
def interrupt(monkeypatch):
    """Have a cell interrupted after an epoch, before its checkpoint."""

    def during(task, epoch):
        record = RunFolder.record

        def dying(self, told):
            record(self, told)
            if told["epoch"] == epoch:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "record", dying)
            with pytest.raises(KeyboardInterrupt):
                task()

    return during


def results(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("seconds")
    return metrics, {name: (folder / name).read_bytes() for name in RESULTS}


def files(folder):
    """What would show that a file was written again."""
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def test_trained_and_then_kept(task, workspace):
    cell = task()
    first = cell()
    folder = run_folder(cell.config, workspace)
    assert (first.status, folder.name) == ("done", cell.config.run)
    assert first.metrics == json.loads((folder / "metrics.json").read_text())
    before = files(folder)
    second = cell()
    assert (second.status, second.metrics) == ("kept", first.metrics)
    assert files(folder) == before


def test_a_run_of_mmrec_train_is_kept(task, mmrec):
    words = ["--set", "train.max_epochs=6", "--set", "train.batch_size=64"]
    assert mmrec("train --model freedom --features good --device cpu", *words).code == 0
    assert task(model="freedom")().status == "kept"


@pytest.mark.parametrize("features", ["good", "random", "shuffled:good"])
def test_a_cell_that_was_killed_ends_as_if_it_had_not_been(task, workspace, interrupt, features):
    cell = task(features)
    folder = run_folder(cell.config, workspace)
    assert cell().status == "done"
    expected = results(folder)
    shutil.rmtree(folder)
    interrupt(cell, 4)
    assert finished(cell.config, workspace, cell.log) is None
    assert cell().status == "resumed"
    assert results(folder) == expected
    assert cell().status == "kept"


@pytest.mark.parametrize("what", ["absent", "torn"])
def test_without_a_usable_checkpoint_it_starts_anew(task, workspace, interrupt, what):
    cell = task()
    interrupt(cell, 3)
    checkpoint = run_folder(cell.config, workspace) / "checkpoint.pt"
    checkpoint.unlink() if what == "absent" else checkpoint.write_bytes(b"torn")
    assert cell().status == "done"


def test_data_that_changed_make_runs_and_checkpoints_stale(task, tmp_path, interrupt):
    finished_cell, begun = task("good"), task("random")
    assert finished_cell().status == "done"
    interrupt(begun, 3)
    write_shop(tmp_path, rows=interaction_rows(seed=1))
    assert task("good")().status == "done"
    assert task("random")().status == "done"
    assert task("good")().status == "kept"


@pytest.mark.parametrize(
    ("features", "status"), [("good", "done"), ("shuffled:good", "done"), ("random", "kept")]
)
def test_features_that_changed_make_runs_of_them_stale(task, shop, features, status):
    assert task(features)().status == "done"
    assert task(features)().status == "kept"
    manifest = shop / "features/good/manifest.json"
    told = json.loads(manifest.read_text())
    told["encoder"]["fingerprint"] = "another"
    manifest.write_text(json.dumps(told))
    assert task(features)().status == status


def test_a_folder_with_other_settings_is_left_alone(task, workspace):
    cell = task()
    assert cell().status == "done"
    folder = run_folder(cell.config, workspace)
    settings = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(settings.replace("max_epochs = 6", "max_epochs = 7"))
    before = files(folder)
    with pytest.raises(UserError, match="holds a run with other settings"):
        cell()
    assert files(folder).items() >= before.items()


@pytest.mark.parametrize("name", ["per_user.parquet", "recommendations.parquet"])
def test_torn_results_are_told(task, workspace, name):
    cell = task()
    cell()
    folder = run_folder(cell.config, workspace)
    (folder / name).write_bytes(b"torn")
    with pytest.raises(UserError, match=f"{name} is missing or torn; delete .*{folder.name}, and"):
        cell()
    shutil.rmtree(folder)
    assert cell().status == "done"


def test_results_of_fewer_users_or_of_something_else_are_told(task, workspace):
    cell = task()
    cell()
    folder = run_folder(cell.config, workspace)
    table = pq.read_table(folder / "per_user.parquet")
    pq.write_table(table.slice(0, 1), folder / "per_user.parquet")
    with pytest.raises(UserError, match=r"per_user.parquet is missing or torn"):
        cell()
    pq.write_table(table, folder / "per_user.parquet")
    assert cell().status == "kept"
    pq.write_table(table, folder / "recommendations.parquet")
    with pytest.raises(UserError, match=r"recommendations.parquet is missing or torn"):
        cell()


def test_a_run_that_another_process_makes_is_busy(task, workspace, monkeypatch):
    cell, pauses = task(), []
    monkeypatch.setattr("pipelines.comparisons.running.cells.sleep", pauses.append)
    again = replace(cell, again=True)
    with locked(run_folder(cell.config, workspace), "training into"):
        assert cell() == Trained("busy", {})
        assert pauses == []
        # However often it is looked at, nobody is kept from other cells meanwhile.
        assert [again(), again()] == [Trained("busy", {})] * 2
        assert pauses == [PAUSE, PAUSE]
    assert again().status == "done"


def test_torn_metrics_are_made_again(task, workspace):
    cell = task()
    cell()
    (run_folder(cell.config, workspace) / "metrics.json").write_text('{"model":')
    assert cell().status == "done"
    assert cell().status == "kept"
