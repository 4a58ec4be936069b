import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import pytest
from support.cluster import (
    DyingWorker,
    FailingWorker,
    SlowWorker,
    calls,
    local_cluster,
    needs_ray,
    stay_in,
)
from support.process import run_apart

from extract import ray_cluster, ray_engine
from extract.shards import ShardWriter

WORDS = "extract --encoder random:16 --shard-rows 8 --workers 0"
RAY = f"{WORDS} --engine ray --ray-workers 2 --device cpu --features ray"
ITEMS, SHARDS = 120, 15


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A workspace with a small shop and what one process makes of it; to be copied."""
    root = tmp_path_factory.mktemp("toy")
    run_apart("prepare", "toy", "--root", root, "--items", ITEMS, "--users", 30)
    run_apart("extract", "--root", root, *WORDS.split()[1:], "--features", "local")
    return root


@pytest.fixture
def shop(toy, tmp_path):
    shutil.copytree(toy / "data", tmp_path / "data")
    return tmp_path / "data" / "toy"


@pytest.fixture(scope="module")
def cluster():
    with local_cluster():
        yield


def shards(shop, name):
    return {path.name: path.read_bytes() for path in (shop / "features" / name).glob("*.parquet")}


def assert_same(shop):
    assert shards(shop, "ray") == shards(shop, "local")
    assert len(shards(shop, "ray")) == SHARDS + 1  # and the ledger


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_costs_what_it_had_in_hand(mmrec, shop, monkeypatch):
    monkeypatch.setattr(ray_engine, "EncodingWorker", SlowWorker)
    write, killed = ShardWriter.write, []

    def writing(self, batch, index):
        write(self, batch, index)
        if len(calls(shop)) >= 6 and not killed:
            process, _ = calls(shop)[-1]
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    monkeypatch.setattr(ShardWriter, "write", writing)
    done = mmrec(RAY)
    assert done.code == 0, done.err
    assert_same(shop)
    asked = calls(shop)
    assert len(killed) == 1
    assert len({process for process, _ in asked}) == 3
    assert "a worker died; Ray has put process" in done.err
    # Those that it had begun; the other one that it had in hand was waiting.
    again = len(asked) - SHARDS
    assert len({row for _, row in asked}) == SHARDS
    assert 1 <= again <= ray_engine.IN_FLIGHT
    # All modalities share the time.
    rates = {
        line.split(", ")[-1] for line in done.err.splitlines() if f"{ITEMS} of {ITEMS}" in line
    }
    assert len(rates) == 1


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_an_error_of_the_encoder_comes_once_and_as_itself(refused, shop, monkeypatch):
    monkeypatch.setattr(ray_engine, "EncodingWorker", FailingWorker)
    assert refused(RAY) == "error: this encoder refuses"
    asked = [row for _, row in calls(shop)]
    assert len(asked) == len(set(asked))


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_a_worker_that_always_dies_ends_the_run(refused, shop, monkeypatch):
    monkeypatch.setattr(ray_engine, "EncodingWorker", DyingWorker)
    monkeypatch.setattr(ray_engine, "RETRIES", 0)
    assert "a worker of Ray died too often" in refused(RAY)


@pytest.mark.slow
@needs_ray
def test_from_the_shell_interrupted_and_resumed(mmrec, shop):
    """The cluster is the command's own, and gone with it."""
    mark = uuid4().hex
    program = Path(sys.executable).parent / "mmrec-extract"
    words = [*RAY.split()[1:], "--shard-rows", "1", "--features", "ray1", "--root", "."]
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        environment = os.environ | stay_in(folder) | {"MMREC_TEST": mark}
        environment.pop("RAY_ADDRESS", None)
        process = subprocess.Popen(
            [program, *words],
            cwd=shop.parent.parent,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        wait_for(lambda: len(shards(shop, "ray1")) > 1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        printed, told = process.communicate(timeout=120)
        assert process.returncode == 130, told
        assert printed == ""
        lines = told.splitlines()
        assert lines[1] == "2 workers of Ray with 1 CPU each"
        assert {line.split(":")[0] for line in lines[2:] if line} <= {"text", "image", "error"}
        assert "the same command goes on from there" in lines[-1]
        wait_for(lambda: not processes_with(mark))
    left = len(shards(shop, "ray1"))
    assert 1 < left < ITEMS
    again = "extract --encoder random:16 --workers 0 --shard-rows 1 --features"
    assert f"({left:,} reused" in mmrec(f"{again} ray1").err
    assert mmrec(f"{again} local1").code == 0
    assert shards(shop, "ray1") == shards(shop, "local1")


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def processes_with(mark):
    """The processes that have a mark in their environment, as all do that one with it started."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in file.read_bytes():
                found.append(file.parent.name)
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


@needs_ray
def test_nothing_to_do_starts_no_cluster(mmrec, shop, monkeypatch):
    monkeypatch.delattr(ray_engine, "connected")
    done = mmrec(RAY, "--features", "local")
    assert done.code == 0
    assert "nothing is to be done" in done.err


def test_one_process_never_imports_ray(shop):
    printed = run_apart("extract", "--root", shop.parent.parent, *WORDS.split()[1:])
    assert '"torch"' in printed
    assert '"ray"' not in printed


def test_without_the_package(refused, shop, monkeypatch):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    assert 'pip install "mmrec[ray]"' in refused(RAY)


@needs_ray
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--device cuda:1", "one of auto, cpu, cuda, found 'cuda:1'"),
        ("--ray-workers 0", "ray_workers: input should be greater"),
    ],
)
def test_refusals(refused, shop, words, told):
    assert told in refused(f"{RAY} {words}")


@needs_ray
def test_a_cluster_that_is_not_there(refused, shop, monkeypatch):
    for name, value in stay_in(str(shop)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "the Ray cluster 127.0.0.1:1 cannot be reached" in refused(RAY)
