"""End to end in two processes, which share the encoder's work and come to what one comes to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import share
from support.live import history_of, metrics_of, setting_words, write_live_shop
from support.tiny_clip import write_tiny_clip
from support.two_towers import assert_same_gradients

TESTS = Path(__file__).parents[1]
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# Without the two hyphens torchrun takes our --run for an abbreviation of an option of its own.
TRAIN = ("-m", "--", "pipelines.cli", "train")
*WITHOUT_DROPOUT, WITH_DROPOUT = share.WAYS
SETTINGS = (
    "train.max_epochs=2",
    "train.batch_size=80",
    "end_to_end.dropout=false",
    "end_to_end.warmup_steps=0",
    "end_to_end.encoder_rate=1e-3",
    "end_to_end.workers=0",
)


def in_two_processes(*words):
    """Run a script or a module of ours as torchrun does; gives how it ended."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.run(
        [sys.executable, *LAUNCHER, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """What each of two processes finds, way by way, batch by batch."""
    folder = tmp_path_factory.mktemp("two")
    finished = in_two_processes(share.__file__, folder)
    assert finished.returncode == 0, finished.stderr
    return [torch.load(folder / str(rank) / "found.pt") for rank in range(2)]


@pytest.mark.parametrize("way", WITHOUT_DROPOUT)
def test_two_processes_have_the_gradients_of_one(of_two, tmp_path, way):
    """With the joint tower, the contrast and its scale, and gradients that are cut.

    Where the loss has chance of its own it is the first process's.
    """
    alone = share.steps(tmp_path, *way)
    assert len(alone) == 4
    for rank, found in enumerate(of_two):
        for ours, expected in zip(found[way], alone, strict=True):
            assert_same_gradients(ours["encoder"], expected["encoder"])
            if rank == 0 or "bm3" not in way:
                assert_same_gradients(ours["model"], expected["model"])
    reached = [{n for n, g in each["encoder"].items() if g is not None} for each in alone]
    assert reached[0] == set(alone[0]["encoder"])
    assert all(alone[0]["encoder"][name].abs().max() > 0 for name in reached[0])
    assert alone[0]["model"]["log_scale"].abs() > 0


def test_with_dropout_both_processes_train_one_encoder(of_two):
    """Each draws for its own items, and the gradients are those of both together."""
    one, other = (found[WITH_DROPOUT] for found in of_two)
    for ours, theirs in zip(one, other, strict=True):
        assert_same_gradients(ours["encoder"], theirs["encoder"], 0.0)
    assert any(
        not torch.equal(one[0]["encoder"][name], without)
        for name, without in of_two[0][2, 0.0, "vbpr"][0]["encoder"].items()
    )


@pytest.fixture
def words(tmp_path):
    """Of a command that trains end to end."""
    write_live_shop(tmp_path)
    encoder = write_tiny_clip(tmp_path / "clip", layers=1)
    return ("--end-to-end", "--encoder", encoder, "--model", "vbpr", *setting_words(*SETTINGS))


@pytest.mark.slow
def test_one_run_of_two_processes(mmrec, words, tmp_path):
    assert mmrec("train --run alone", *words).code == 0
    finished = in_two_processes(*TRAIN, "--run", "both", *words, "--root", tmp_path)
    assert finished.returncode == 0, finished.stderr
    runs = tmp_path / "runs" / "shop"
    assert sorted(path.name for path in runs.iterdir()) == ["alone", "both"]
    assert finished.stdout.count(str(runs / "both")) == 1
    alone, both = (metrics_of(runs / name) for name in ("alone", "both"))
    for part in ("validation", "test"):
        assert both[part] == pytest.approx(alone[part], rel=1e-6)
    assert both["selection"]["epoch"] == alone["selection"]["epoch"]
    histories = [history_of(runs / name) for name in ("both", "alone")]
    for ours, theirs in zip(*histories, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert (runs / "both" / "encoder" / "weights.safetensors").is_file()


@pytest.mark.slow
def test_several_processes_need_an_encoder(tmp_path):
    write_live_shop(tmp_path)
    finished = in_two_processes(*TRAIN, "--model", "vbpr", "--root", tmp_path)
    assert finished.returncode == 1
    lines = {line for line in finished.stderr.splitlines() if line.startswith("error:")}
    assert lines == {"error: several processes are of use with --encoder only; start one"}
    assert not (tmp_path / "runs").exists()
