"""A pool of processes: every outcome comes, whatever happens to a process or to its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import pool_tasks
from support.pool_tasks import (
    Crash,
    Leave,
    Refuse,
    Say,
    Signal,
    Sleep,
    Square,
    Unreadable,
    WhoAmI,
    busy_processes,
    gone,
)

from pipelines.comparisons.running.pool import Pool, share_of_cores
from pipelines.comparisons.running.sparing import Sparing

ROOT = Path(__file__).parents[3]


def done(tasks, processes=2, threads=1):
    """The outcomes by task."""
    with Pool(processes, threads) as pool:
        pool.add(tasks)
        return {outcome.task: outcome for outcome in pool.outcomes()}


def test_each_task_has_its_result():
    outcomes = done([Square(number) for number in range(7)])
    assert {task.number: outcome.result for task, outcome in outcomes.items()} == {
        0: 0,
        1: 1,
        2: 4,
        3: 9,
        4: 16,
        5: 25,
        6: 36,
    }
    assert not any(outcome.error or outcome.traceback for outcome in outcomes.values())
    assert all(outcome.seconds >= 0 <= outcome.overhead for outcome in outcomes.values())


def test_what_tasks_say_is_told_before_their_outcome():
    told = []
    with Pool(1, 1, told.append) as pool:
        pool.add([Say("begun"), Say("again")])
        for outcome in pool.outcomes():
            told.append(outcome.result)
    assert told == ["begun", "said begun", "again", "said again"]


def test_of_lines_that_come_often_some_are_told():
    told, times = [], iter([0.0, 9.9, 10.0, 10.1, 30.0])
    say = Sparing(told.append, lambda: next(times))
    for number in range(5):
        say(str(number))
    assert told == ["0", "2", "4"]


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_are_used_again(processes, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    outcomes = done([WhoAmI(number) for number in range(6)], processes, threads=3)
    pids = {outcome.result[0] for outcome in outcomes.values()}
    assert 1 <= len(pids) <= processes
    assert os.getpid() not in pids
    assert {outcome.result[1] for outcome in outcomes.values()} == {"3"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert gone(pids)


def test_failures_are_told_and_hurt_no_other_task():
    bad = [Refuse(), Crash(), Signal(signal.SIGKILL), Leave(3), unreadable := Unreadable()]
    good = [Square(number) for number in range(5)]
    mixed = [task for pair in zip(bad, good, strict=True) for task in pair]
    outcomes = done(mixed)
    assert len(outcomes) == 10
    assert [outcomes[task].result for task in good] == [0, 1, 4, 9, 16]
    assert outcomes[Refuse()].error == "no, not this"
    assert outcomes[Refuse()].traceback == ""
    assert outcomes[Crash()].error == "KeyError: 'missing'"
    assert 'return {}["missing"]' in outcomes[Crash()].traceback
    killed = outcomes[Signal(signal.SIGKILL)].error
    assert killed.startswith("the process was ended by signal 9, perhaps for want of memory;")
    assert "ended with code 3" in outcomes[Leave(3)].error
    assert outcomes[unreadable].error.startswith("ValueError: ")


def test_one_process_survives_failures_of_all_its_tasks():
    tasks = [Leave(1), Signal(signal.SIGKILL), Leave(2), Square(3)]
    outcomes = done(tasks, processes=1)
    assert [bool(outcomes[task].error) for task in tasks] == [True, True, True, False]


def test_tasks_that_are_added_meanwhile():
    found = []
    with Pool(1, 1) as pool:
        pool.add([Square(2)])
        for outcome in pool.outcomes():
            found.append(outcome.result)
            if outcome.result < 200:
                pool.add([Square(outcome.result)])
    assert found == [4, 16, 256]


def test_without_a_task_nothing_is_started(monkeypatch):
    monkeypatch.setattr("pipelines.comparisons.running.pool.Worker", None)
    assert done([]) == {}


def test_an_interrupt_is_for_the_parent_alone():
    """Ctrl-C reaches all processes of a terminal; ours are ended by their parent."""
    assert done([Signal(signal.SIGINT)])[Signal(signal.SIGINT)].result == "heard nothing"


def test_an_interrupted_parent_ends_its_processes(tmp_path):
    def interrupt():
        with Pool(3, 1) as pool:
            pool.add([Square(1), *(Sleep(tmp_path, number) for number in range(2))])
            for _ in pool.outcomes():
                busy.extend(busy_processes(tmp_path, 2))
                raise KeyboardInterrupt

    busy = []
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert len(busy) == 2
    assert gone(busy)


def test_processes_end_with_a_parent_that_was_killed(tmp_path):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    parent = subprocess.Popen(
        [sys.executable, pool_tasks.__file__, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
    )
    pids = busy_processes(tmp_path, 2)
    parent.kill()
    parent.wait()
    assert gone(pids)


@pytest.mark.parametrize(
    ("wanted", "tasks", "told", "expected"),
    [
        (None, 40, None, (4, 1)),
        (None, 2, None, (2, 2)),
        (1, 40, None, (1, 4)),
        (3, 40, None, (3, 1)),
        (9, 40, None, (9, 1)),
        (9, 5, None, (5, 1)),
        (1, 40, "2", (1, 2)),
        (1, 40, "64", (1, 4)),
        (None, 0, None, (1, 4)),
    ],
)
def test_the_cores_are_shared(monkeypatch, wanted, tasks, told, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert share_of_cores(wanted, tasks) == expected
