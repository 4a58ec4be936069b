import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from datetime import datetime

import pytest

from extract.errors import UserError
from extract.holders import Holder
from extract.locking import locked

HOLD = """
import multiprocessing, sys, time
from pathlib import Path
from extract.locking import locked
def tell():
    print("held", flush=True)
    time.sleep(60)
with locked(Path(sys.argv[1]), "extracting features to"):
    if "fork" in sys.argv:
        multiprocessing.get_context("fork").Process(target=tell).start()
        time.sleep(60)
    tell()
"""


@contextmanager
def holder_of(folder, *arguments):
    """A second process that holds the folder until it is killed."""
    command = [sys.executable, "-c", HOLD, str(folder), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_second_process_is_told_who_the_first_one_is(tmp_path):
    folder = tmp_path / "features"
    with holder_of(folder) as first:
        minute = datetime.now().strftime("%H:")
        with pytest.raises(UserError) as refused, locked(folder, "preparing"):
            pass
    told = str(refused.value)
    assert told.startswith(f"another process ({first.pid} on {os.uname().nodename} since {minute}")
    assert told.endswith(f"is extracting features to {folder}; wait until it has ended, or end it")


@pytest.mark.parametrize("children", [[], ["fork"]])
def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path, children):
    """Also where its children live on, as workers do for some seconds."""
    with holder_of(tmp_path, *children) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with locked(tmp_path, "preparing"):
            assert Holder.parse((tmp_path / ".writer.json").read_text()).process == os.getpid()


def test_a_lock_is_free_after_its_end_and_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path, "dividing"):
            _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_of_many_processes_one_at_a_time_holds_the_folder(tmp_path):
    """Each that gets the lock makes a file that may not exist, and removes it."""
    script = """
import os, sys, time
from pathlib import Path
from extract.errors import UserError
from extract.locking import locked
folder, held, end = Path(sys.argv[1]), 0, time.monotonic() + 2
while time.monotonic() < end:
    try:
        with locked(folder, "testing"):
            os.close(os.open(folder / "one", os.O_CREAT | os.O_EXCL))
            (folder / "one").unlink()
            held += 1
    except UserError:
        pass
print(held)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    held = [int(process.communicate()[0]) for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert min(held) > 0
    assert sum(held) > 20


def test_a_process_is_refused_its_own_lock(tmp_path):
    with (
        locked(tmp_path, "preparing"),
        pytest.raises(UserError, match=str(os.getpid())),
        locked(tmp_path, "preparing"),
    ):
        pass


def test_other_folders_are_free(tmp_path):
    with holder_of(tmp_path / "a"), locked(tmp_path / "b", "preparing"):
        pass


def test_what_is_not_known_of_a_holder_is_not_told(tmp_path):
    with holder_of(tmp_path):
        (tmp_path / ".writer.json").write_text("{")
        with pytest.raises(UserError) as refused, locked(tmp_path, "preparing"):
            pass
    assert str(refused.value).startswith("another process is writing")


def test_a_holder_is_dead_only_where_that_is_known():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = Holder("preparing")
    assert not here.is_dead
    assert Holder("preparing", process=ended.pid).is_dead
    assert not Holder("preparing", process=ended.pid, host="elsewhere").is_dead
    assert not Holder("preparing", process=ended.pid, space="another boot").is_dead
    assert Holder.parse(here.dump()) == here
