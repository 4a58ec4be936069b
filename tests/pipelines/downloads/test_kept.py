"""What was fetched once, or refused, is not asked for again; what is lacking is."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.answers import HTML, Answer, published
from support.web import picture

MISSING = Answer(404, HTML, {"Content-Type": "text/html"})
# In a process of its own: fetches n pictures of a site into a folder.
SCRIPT = """
import sys
from pathlib import Path
from pipelines.downloads.manners import FetchConfig
from pipelines.downloads.pictures import fetch_pictures
from pipelines.progress import Reporter
site, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
urls = {f"item-{number}": f"{site}/{number}" for number in range(n)}
config = FetchConfig(connections=4, attempts=2, timeout=5, wait=0.01)
fetch_pictures(urls, folder, config, Reporter(quiet=True), trusted=[site])
"""


@pytest.fixture
def shop(site):
    """Many pictures that take a moment each, and every tenth of which is not there."""
    slowly = Answer(hang=0.005)
    for number in range(400):
        bad = number % 10 == 3
        site.answer(
            f"/{number}", MISSING if bad else published(picture(number), misbehaving=slowly)
        )
    return {f"item-{number}": f"/{number}" for number in range(400)}


@pytest.fixture
def apart(site, tmp_path):
    """The same fetching in a process of its own, ended by a signal once enough files are there."""

    def run(count, enough, number):
        folder = tmp_path / "pictures"
        command = [sys.executable, "-c", SCRIPT, site.url, str(folder), str(count)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while len(list(folder.glob("item-*"))) < enough and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, number)
        start = time.monotonic()
        _, error = process.communicate(timeout=30)
        return process.returncode, time.monotonic() - start, error

    return run


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_nothing_is_asked_for_twice(site, fetch, shop):
    first = fetch(shop)
    assert len(site.requests) == 400
    assert len(first.bodies) == 360
    assert set(first.words.values()) == {"missing"}
    site.forget()
    assert fetch(shop) == first
    assert site.requests == []


def test_refused_ones_are_asked_for_again_only_where_that_is_wanted(site, fetch):
    urls = {"a": "/a", "b": "/b", "c": "/c", "d": "/d", "e": "/e"}
    site.put("/a", picture(1))
    site.answer("/b", MISSING)
    site.answer("/c", Answer(500))
    site.answer("/d", Answer(403))
    site.answer("/e", Answer(200, HTML))
    before = fetch(urls)
    assert before.words == {"b": "missing", "c": "unreachable", "d": "refused", "e": "unreadable"}
    for number, url in enumerate(urls.values()):
        site.put(url, picture(number))
    site.forget()
    after = fetch(urls)
    assert after.problems == {item: before.problems[item] for item in "bde"}
    assert {request.path for request in site.requests} == {"/c"}
    site.forget()
    assert fetch(urls, again=True).bodies.keys() == urls.keys()
    assert {request.path for request in site.requests} == {"/b", "/d", "/e"}
    site.forget()
    assert fetch(urls).problems == {}
    assert site.requests == []


def test_an_item_with_another_url_is_asked_for_there(site, fetch):
    site.answer("/no", MISSING)
    site.put("/old", picture(1))
    site.put("/new", picture(2))
    assert fetch({"a": "/old", "b": "/no"}).words == {"b": "missing"}
    assert fetch({"a": "/new", "b": "/new"}).bodies == dict.fromkeys("ab", picture(2))


def test_a_call_may_ask_for_other_items_than_the_last(site, fetch):
    for name in "abc":
        site.put(f"/{name}", picture(ord(name)))
    fetch({"a": "/a", "b": "/b"})
    site.forget()
    got = fetch({"b": "/b", "c": "/c"})
    assert got.bodies == {"b": picture(ord("b")), "c": picture(ord("c"))}
    assert [request.path for request in site.requests] == ["/c"]


@pytest.mark.parametrize("damage", ["deleted", "truncated", "longer"])
def test_a_picture_that_is_not_as_it_was_is_fetched_again(site, fetch, tmp_path, damage):
    urls = {"a": "/a", "b": "/b"}
    for number, url in enumerate(urls.values()):
        site.put(url, picture(number))
    before = fetch(urls)
    path = tmp_path / "pictures" / "a.jpg"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "longer":
        path.write_bytes(path.read_bytes() + b"more")
    else:
        path.unlink()
    site.forget()
    assert fetch(urls) == before
    assert [request.path for request in site.requests] == ["/a"]


@pytest.mark.parametrize(
    "torn", [b'{"item": "c", "url": "ht', b"\xff\xfe\x00", b"[1]\nnull\n{}", b""]
)
def test_a_journal_that_is_torn_at_its_end_is_gone_on_with(site, fetch, tmp_path, torn):
    urls = {name: f"/{name}" for name in "abc"}
    for number, url in enumerate(urls.values()):
        site.put(url, picture(number))
    for item in "ab":
        fetch({item: urls[item]})
    (journal,) = [path for path in (tmp_path / "pictures").glob(".*") if path.is_file()]
    lines = journal.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["item"] for line in lines] == ["a", "b"]
    journal.write_bytes(lines[0] + torn)
    site.forget()
    assert len(fetch(urls).bodies) == 3
    assert {request.path for request in site.requests} == {"/b", "/c"}
    site.forget()
    assert len(fetch(urls).bodies) == 3
    assert site.requests == []


def test_what_a_killed_process_left_half_written_goes(site, fetch, tmp_path):
    site.put("/a", picture(1))
    fetch({"a": "/a"})
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    left = tmp_path / "pictures" / f".b.jpg.{ended.pid}.tmp"
    left.write_bytes(b"half")
    fetch({"a": "/a"})
    assert not left.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_started_again_it_fetches_only_what_is_missing(
    site, fetch, shop, apart, tmp_path, number
):
    undisturbed = fetch(shop, folder=tmp_path / "undisturbed")
    site.forget()
    code, seconds, error = apart(400, 200, number)
    assert code == -number
    if number == signal.SIGINT:
        assert seconds < 5
        assert error.rstrip().endswith("KeyboardInterrupt")
    asked = {request.path for request in site.requests}
    folder = tmp_path / "pictures"
    there = {f"/{path.stem.removeprefix('item-')}" for path in folder.glob("item-*")}
    assert 200 <= len(there) < len(asked) < 400
    for path in folder.glob("item-*"):
        assert path.read_bytes() == undisturbed.bodies[path.stem]
    site.forget()
    assert fetch(shop) == undisturbed
    paths = [request.path for request in site.requests]
    assert len(paths) == len(set(paths))
    assert set(paths) >= set(shop.values()) - asked
    if number == signal.SIGINT:  # but those that were on their way
        assert len(there & set(paths)) == 0
        assert len(asked & set(paths)) <= 16
    else:  # one batch may be on disk and not yet in the journal
        assert len(there & set(paths)) <= 128
    assert names(folder) == names(tmp_path / "undisturbed")
