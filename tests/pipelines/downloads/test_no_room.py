"""A disk that is full, or a folder that cannot be written: one clear error, and nothing torn."""

import os
import re
import resource
import subprocess
import sys
from functools import partial

import pytest
from support.answers import Answer, etag_of
from support.web import picture

LARGE = picture(0, (200, 200))
NO_SPACE = re.compile(
    r"error: there is no room to write \(no space left on device\): .*/disk/here/.*; nothing .*\n"
)
# In a process of its own, as a command: fetches pictures, or a file.
SCRIPT = """
import sys
from pathlib import Path
import click
from pipelines import cli
from pipelines.downloads.files import fetch_file
from pipelines.downloads.manners import FetchConfig
from pipelines.downloads.pictures import fetch_pictures
from pipelines.progress import Reporter

what, site, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
config, reporter = FetchConfig(attempts=2, timeout=5, wait=0.01), Reporter(quiet=True)

@click.command()
def command():
    if what == "file":
        fetch_file([f"{site}/0"], folder / "file", config, reporter)
    else:
        urls = {f"item-{number}": f"{site}/{number}" for number in range(100)}
        fetch_pictures(urls, folder, config, reporter, trusted=[site])

cli.load_command = lambda name: command
sys.exit(cli.run("check", []))
"""


@pytest.fixture
def apart(site):
    """Fetch in a process of its own; gives the exit code and stderr."""

    def run(what, folder, **more):
        command = [sys.executable, "-c", SCRIPT, what, site.url, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
        return done.returncode, done.stderr

    return run


@pytest.fixture
def shop(site):
    for number in range(100):
        site.put(f"/{number}", LARGE if number == 70 or not number else picture(number))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def hidden(folder, suffix):
    return [path.name for path in folder.rglob(f".*{suffix}")]


@pytest.mark.parametrize("what", ["file", "pictures"])
def test_a_file_larger_than_may_be_is_told_in_one_line(shop, apart, tmp_path, what):
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (20_000, 20_000))
    assert len(LARGE) > 20_000
    code, error = apart(what, tmp_path / "here", preexec_fn=limit)
    assert code == 1, error
    assert error.count("\n") == 1, error
    assert error.startswith("error: there is no room to write (")
    assert f"): {tmp_path / 'here'}/" in error
    assert hidden(tmp_path, ".tmp") == []


def test_a_full_disk_is_told_and_the_same_pictures_go_on(shop, apart, small_disk):
    room = small_disk / "room"
    room.write_bytes(bytes(800_000))
    code, error = apart("pictures", small_disk / "here")
    assert code == 1, error
    assert NO_SPACE.fullmatch(error), error
    assert hidden(small_disk, ".tmp") == []
    room.unlink()
    assert apart("pictures", small_disk / "here") == (0, "")
    for number in range(100):
        path = small_disk / "here" / f"item-{number}.jpg"
        assert path.read_bytes() == (LARGE if number in (0, 70) else picture(number))


def test_a_disk_that_has_no_room_for_what_was_refused_is_told(site, apart, small_disk):
    (small_disk / "room").write_bytes(bytes(1 << 20))
    code, error = apart("pictures", small_disk / "here")
    assert code == 1, error
    assert NO_SPACE.fullmatch(error), error
    (small_disk / "room").unlink()
    site.forget()
    assert apart("pictures", small_disk / "here") == (0, "")
    assert apart("pictures", small_disk / "here") == (0, "")
    assert len(site.requests) == 100


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_full_disk_is_told_and_the_same_file_goes_on(site, apart, small_disk, framing):
    room = small_disk / "room"
    room.write_bytes(bytes(1_036_000))
    headers = {"ETag": etag_of(LARGE)}
    site.answer("/0", Answer(200, LARGE, headers, framing=framing))
    code, error = apart("file", small_disk / "here")
    assert code == 1, error
    if framing == "length":
        assert "0 MB more are said to come and 0 MB are free in " in error
    else:
        assert NO_SPACE.fullmatch(error), error
    assert len(site.requests) == 1
    room.unlink()
    assert apart("file", small_disk / "here") == (0, "")
    assert (small_disk / "here" / "file").read_bytes() == LARGE


@pytest.mark.parametrize("what", ["file", "pictures"])
def test_a_folder_that_cannot_be_is_told_in_one_line(site, shop, apart, tmp_path, what):
    (tmp_path / "here").write_text("a file")
    code, error = apart(what, tmp_path / "here" / "there")
    assert code == 1
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    assert str(tmp_path / "here") in error
    assert site.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("what", ["file", "pictures"])
def test_a_folder_that_may_not_be_written_is_told_in_one_line(shop, apart, tmp_path, what):
    (tmp_path / "here").mkdir(mode=0o500)
    code, error = apart(what, tmp_path / "here")
    assert code == 1
    assert error.count("\n") == 1, error
    assert "ermission denied" in error
    assert str(tmp_path / "here") in error
