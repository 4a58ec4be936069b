"""A server that can misbehave, and settings of which every wait is short."""

import os
import time
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from support.web import Site

from pipelines.downloads.files import fetch_file
from pipelines.downloads.manners import FetchConfig
from pipelines.downloads.pictures import fetch_pictures
from pipelines.progress import Reporter

QUICK = {"attempts": 3, "timeout": 0.5, "wait": 0.01, "connections": 4}


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def site():
    with Site() as running:
        yield running


@pytest.fixture
def other_site():
    """A server at another address of this machine, which nobody named."""
    try:
        running = Site("127.0.0.2")
    except OSError as error:
        pytest.skip(f"this machine has no second address of its own: {error}")
    with running:
        yield running


def _whole(site, url):
    return site.url + url if url.startswith("/") and not url.startswith("//") else url


class Fetched(NamedTuple):
    bodies: dict[str, bytes]
    problems: dict[str, tuple[str, str]]

    @property
    def words(self):
        """The problem of each item, without its detail."""
        return {item: problem for item, (problem, _) in self.problems.items()}


@pytest.fixture
def fetch(site, tmp_path):
    """Fetch pictures into a folder; gives the bytes of each, and the problems.

    By default of a user who named the site's host; the URLs may be paths of the site.
    """

    def call(urls, trusted=None, folder=tmp_path / "pictures", **settings):
        whole = {item: _whole(site, url) for item, url in urls.items()}
        config = FetchConfig(**QUICK | settings)
        named = [site.url] if trusted is None else trusted
        got = fetch_pictures(whole, folder, config, Reporter(quiet=True), trusted=named)
        assert got.files.keys() | got.problems.keys() == urls.keys()
        assert not got.files.keys() & got.problems.keys()
        assert all(detail for _, detail in got.problems.values())
        assert all(path.parent == folder for path in got.files.values())
        return Fetched({item: path.read_bytes() for item, path in got.files.items()}, got.problems)

    return call


@pytest.fixture
def fetch_to(site, tmp_path):
    """Fetch a file; gives its bytes. The URLs may be paths of the site."""

    def call(*urls, path=tmp_path / "files" / "reviews.json.gz", magic=b"", **settings):
        whole = [_whole(site, url) for url in urls]
        config = FetchConfig(**QUICK | settings)
        got = fetch_file(whole, path, config, Reporter(quiet=True), magic)
        assert got == path
        hidden = [each.name for each in path.parent.iterdir() if each.name.startswith(".")]
        assert hidden == []
        return got.read_bytes()

    return call


@pytest.fixture
def within():
    """A block that must end within so many seconds."""

    @contextmanager
    def block(seconds):
        start = time.monotonic()
        yield
        assert time.monotonic() - start < seconds

    return block
