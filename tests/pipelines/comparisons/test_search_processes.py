"""Searches in processes: killed in a trial, and two in one file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.searching import run_search, settings, studies, told, trials_of
from support.shop import write_features, write_shop

from pipelines.comparisons.searching import search as module
from pipelines.training_job import fit_parts

TESTS = Path(__file__).parents[2]
# Kills itself in an epoch of a trial, both counted from 1, or not at all.
SCRIPT = """
import os, signal, sys
from pipelines.comparisons.searching import search as module
from support.searching import run_search, settings

root, model, in_trial, in_epoch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
begun, fit_parts = 0, module.fit_parts

def dying(parts, checkpoint, on_epoch):
    global begun
    begun += 1

    def hook(record):
        if (begun, record["epoch"]) == (in_trial, in_epoch):
            os.kill(os.getpid(), signal.SIGKILL)
        on_epoch(record)

    return fit_parts(parts, checkpoint, hook)

module.fit_parts = dying
run_search(root, settings(model), name=model)
"""


def begin(root, model, in_trial=0, in_epoch=0):
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", SCRIPT, str(root), model, str(in_trial), str(in_epoch)]
    return subprocess.Popen(
        words, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def shop(tmp_path):
    write_features(write_shop(tmp_path))
    return tmp_path


@pytest.fixture
def done(monkeypatch):
    """What each trial from now on is trained with."""
    arguments = []

    def spy(*each):
        arguments.append(each)
        return fit_parts(*each)

    monkeypatch.setattr(module, "fit_parts", spy)
    return arguments


def is_as_without(shop, number, name="bpr"):
    """Whether a search gives what an undisturbed one does; the trial of that number was failed."""
    chosen = run_search(shop, name=name)
    (trials,) = (found for study, found in studies(shop / "search.db").items() if name in study)
    assert [n for n, trial in enumerate(trials) if trial.state.name == "FAIL"] == [number]
    assert len(trials) == 7
    undisturbed = shop / "undisturbed.db"
    assert chosen == run_search(shop, name=name, storage=undisturbed)
    assert told(trials[:number] + trials[number + 1 :]) == trials_of(undisturbed)


def test_of_two_processes_at_one_file_one_is_killed_and_the_other_goes_on(shop, done):
    dying, other = begin(shop, "bpr", in_trial=4, in_epoch=2), begin(shop, "lightgcn")
    _, err = other.communicate()
    assert other.returncode == 0, err
    dying.communicate()
    assert dying.returncode == -signal.SIGKILL
    by_model = {
        name.partition("-")[0]: trials for name, trials in studies(shop / "search.db").items()
    }
    assert [trial.state.name for trial in by_model["bpr"]][3:] == ["RUNNING"]
    assert [trial.state.is_finished() for trial in by_model["lightgcn"]] == [True] * 6
    run_search(shop, name="bpr")
    assert len(done) == 3  # the killed one, and the two that were to come
    is_as_without(shop, 3)
    run_search(shop, settings("lightgcn"), name="lightgcn", storage=shop / "alone.db")
    assert told(by_model["lightgcn"]) == trials_of(shop / "alone.db")
    assert not list(shop.glob(".*.lock"))


@pytest.mark.parametrize("number", [0, 2])
def test_after_an_interrupt_the_same_call_goes_on(shop, monkeypatch, done, number):
    with monkeypatch.context() as patch:
        begun = iter(range(6))

        def interrupted(*arguments):
            if next(begun) == number:
                raise KeyboardInterrupt
            return fit_parts(*arguments)

        patch.setattr(module, "fit_parts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_search(shop, name="bpr")
    run_search(shop, name="bpr")
    assert len(done) == 6 - number
    is_as_without(shop, number)
