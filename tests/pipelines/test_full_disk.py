"""A disk that is full: told in one line, and what was finished is whole."""

import errno
import os
import resource
import subprocess
import sys
from functools import partial

import pytest
from support.shop import write_features, write_shop

from pipelines import cli

PREPARE = ("prepare", "toy", "--items", "50", "--users", "60")
EXTRACT = ("extract", "--encoder", "random:64")
TRAIN = ("train", "--model", "vbpr", "--features", "good", "--set", "train.max_epochs=1")


def limited(limit, root, *arguments):
    """Run a command that may write no file of more than so many bytes; gives its stderr."""
    command = [sys.executable, "-m", "pipelines.cli", *arguments, "--root", str(root), "--quiet"]
    set_limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    done = subprocess.run(command, preexec_fn=set_limit, capture_output=True, text=True)
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def hidden(folder):
    return [path for path in folder.rglob(".*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "limit", "file"),
    [
        (TRAIN, 3000, "model.safetensors"),
        ((*TRAIN, "--checkpoint-seconds", "0"), 3000, "checkpoint.pt"),
        (EXTRACT, 3000, "random-64/part-00000.parquet"),
    ],
)
def test_a_file_that_has_no_room_is_told_and_leaves_no_trace(tmp_path, arguments, limit, file):
    write_features(write_shop(tmp_path))
    error = limited(limit, tmp_path, *arguments)
    assert error.startswith("error: there is no room to write (file too large): ")
    assert f"/{file}; nothing that was finished is lost" in error
    assert not list(tmp_path.rglob(file))
    assert hidden(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 800 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_same_command_goes_on(small_disk, capsys):
    room = small_disk / "room"
    room.write_bytes(bytes(700_000))
    assert cli.run("prepare", [*PREPARE[1:], "--root", str(small_disk)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: there is no room to write (no space left on device)")
    assert cli.run("runs", ["--root", str(small_disk)]) == 1
    room.unlink()
    assert cli.run("prepare", [*PREPARE[1:], "--root", str(small_disk)]) == 0
    assert hidden(small_disk) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_other_reasons_are_told_alike(monkeypatch, capsys, number):
    def fail(name):
        raise OSError(number, os.strerror(number), "a/b")

    monkeypatch.setattr(cli, "load_command", fail)
    assert cli.run("check", []) == 1
    error = capsys.readouterr().err
    assert f"({os.strerror(number).lower()}): a/b; nothing that was finished is lost" in error
