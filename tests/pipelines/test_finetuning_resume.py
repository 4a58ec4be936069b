"""mmrec-finetune, killed or interrupted: it goes on, and ends as if nothing had happened."""

import signal
import subprocess
import sys

import pytest
import torch
from support.tiny_clip import write_gallery, write_tiny_clip
from support.tuning import CONTROL, change_items, clip_words, results, told

from pipelines import tuning_job
from pipelines.checkpoints import Checkpoint

EACH_STEP = ("--checkpoint-seconds", "0")
DIES = """
import os, signal, sys
from pipelines.checkpoints import Checkpoint
from pipelines.cli import run

save, left = Checkpoint.save, [int(sys.argv[1])]

def dying(self, path):
    save(self, path)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.save = dying
sys.exit(run("finetune", sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def shop(tmp_path):
    return write_gallery(tmp_path)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def checkpoint(shop):
    return shop / "encoders" / "ft" / "checkpoint.pt"


@pytest.fixture
def interrupted(mmrec, monkeypatch):
    """Ctrl-C after so many checkpoints; gives what the command said."""

    def call(saves, *arguments):
        save, left = Checkpoint.save, [saves]

        def dying(self, path):
            save(self, path)
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", dying)
            outcome = mmrec("finetune --out ft", *CONTROL, *EACH_STEP, *arguments)
        assert outcome.code == 130, outcome.err
        return outcome

    return call


@pytest.mark.parametrize(
    ("encoder", "saves"), [("clip", 1), ("clip", 4), ("random", 6), ("random", 9)]
)
def test_killed_and_run_again_it_comes_to_the_same(mmrec, shop, spec, checkpoint, encoder, saves):
    """In the first epoch, in the second, at its end, at the very end; with dropout to draw."""
    words = clip_words(spec) if encoder == "clip" else CONTROL
    words = (*words, "--projection", "8", "--train", "all", "--projection-dropout", "0.4")
    words = (*words, *EACH_STEP, "--root", str(shop.parents[1]))
    assert mmrec("finetune --out whole", *words).code == 0
    killed = subprocess.run(
        [sys.executable, "-c", DIES, str(saves), "--out", "ft", *words],
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint.is_file()
    assert not checkpoint.with_name("encoder.json").exists()
    outcome = mmrec("finetune --out ft", *words)
    assert outcome.code == 0, outcome.err
    assert f"goes on after epoch {saves // 3}, step {saves % 3} of the next one" in outcome.err
    assert results(shop) == results(shop, "whole")
    assert encoder == "random" or told(shop)["epoch"] > 0  # weights that were trained
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--accumulate", "2", "--batch-size", "4"),
        ("--evaluate-every", "2"),
        ("--losses", "label", "--label-column", "top"),
        ("--precision", "bf16", "--chunk-size", "3"),
        ("--patience", "1", "--learning-rate", "0.5"),
    ],
)
def test_interrupted_after_each_step(mmrec, tune, interrupted, shop, words):
    tune(*words, out="whole")
    steps = 0
    while steps < 5:
        interrupted(1, *words)
        steps += 1
    assert "goes on after epoch 1, step 2" in tune(*words).err
    assert results(shop) == results(shop, "whole")


def test_an_interruption_tells_how_to_go_on(mmrec, interrupted, tune):
    outcome = interrupted(4)
    assert outcome.error == "error: interrupted; the same command goes on from the checkpoint"
    error = mmrec("extract --workers 0 --encoder ft").error
    assert "there is no finished encoder in it; make it with mmrec-finetune" in error
    assert "goes on after epoch 1, step 1" in tune().err


def test_an_interruption_without_a_checkpoint_promises_none(mmrec, monkeypatch):
    def dying(*arguments, **others):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning_job, "finetune", dying)
    outcome = mmrec("finetune --out ft", *CONTROL)
    assert (outcome.code, outcome.error) == (130, "error: interrupted")


def test_checkpoints_keep_their_distance(tune, monkeypatch):
    """At 60 seconds, the default, none is due here; at none, each step has one."""
    saved = []
    monkeypatch.setattr(Checkpoint, "save", lambda *arguments: saved.append(arguments))
    tune()
    assert saved == []
    tune("--overwrite", *EACH_STEP)
    assert len(saved) == 9


def test_replacing_can_be_interrupted_too(tune, cannot, interrupted, shop):
    """The former encoder is there until the end."""
    tune("--seed", "1")
    before = results(shop)
    outcome = interrupted(4, "--overwrite")
    assert "the same command without --overwrite goes on from the checkpoint" in outcome.error
    assert results(shop) == before
    assert "checkpoint.pt is of other settings than there are now" in cannot("--seed", "2")
    assert "goes on after epoch 1, step 1" in tune().err
    assert told(shop)["settings"]["seed"] == 0
    tune(out="whole")
    assert results(shop) == results(shop, "whole")


def torn(path):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    torch.save({"weights": torch.ones(3)}, path)


def code(path):
    torch.save(torch.nn.Linear(1, 1), path)


@pytest.mark.parametrize("damage", [torn, empty, foreign, code])
def test_a_checkpoint_that_is_none(cannot, tune, interrupted, shop, checkpoint, damage):
    interrupted(2)
    damage(checkpoint)
    error = cannot()
    assert "checkpoint.pt" in error
    assert "so training cannot go on; start anew with --overwrite" in error
    assert not checkpoint.with_name("encoder.json").exists()
    assert "goes on" not in tune("--overwrite").err
    tune(out="whole")
    assert results(shop) == results(shop, "whole")


def of_another_shape(state):
    state["weights"]["heads.image.0.weight"] = torch.zeros(5, 5, 5)


def of_another_name(state):
    state["weights"]["nose"] = torch.zeros(5)


def without_a_part(state):
    del state["optimizer"]


@pytest.mark.parametrize("damage", [of_another_shape, of_another_name, without_a_part])
def test_a_state_that_does_not_fit(cannot, interrupted, checkpoint, damage):
    interrupted(2)
    content = torch.load(checkpoint, weights_only=True)
    damage(content["state"])
    torch.save(content, checkpoint)
    error = cannot()
    assert "the state that was saved does not fit this encoder" in error
    assert "start anew with --overwrite" in error


@pytest.mark.parametrize("what", ["settings", "catalogue", "encoder"])
def test_a_checkpoint_of_something_else(cannot, interrupted, shop, checkpoint, what):
    interrupted(2)
    before = checkpoint.read_bytes()
    words = {"settings": ("--seed", "5"), "encoder": ("--encoder", "random:17")}.get(what, ())
    if what == "catalogue":
        change_items(shop, text=[f"text {n}" for n in range(42)])
    error = cannot(*words)
    assert f"checkpoint.pt is of other {what} than there are now, so training cannot go" in error
    assert "start anew with --overwrite, or with another --out than ft" in error
    assert checkpoint.read_bytes() == before


def test_the_seconds_before_count(interrupted, tune, shop, checkpoint):
    interrupted(3)
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"seconds": 1000.0}, checkpoint)
    tune()
    assert told(shop)["seconds"] >= 1000
