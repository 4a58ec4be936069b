"""One big file from servers that misbehave: it comes as published, or one line says why not."""

import gzip
import shutil
from collections import namedtuple

import pytest
from support.answers import HTML, Answer, published
from support.web import picture

from extract.errors import UserError

MAGIC = b"\x1f\x8b"
FILE = gzip.compress(b"".join(b"%d\n" % number for number in range(20_000)))
PAGE = {"Content-Type": "text/html; charset=utf-8"}
# Way to misbehave: what is answered, what the error tells of it, how often it is asked for of 2.
WAYS = {
    "not there": (Answer(404, HTML, PAGE), "404", 1),
    "forbidden": (Answer(403, HTML, PAGE), "403", 1),
    "too often": (Answer(429), "429", 2),
    "too often for long": (Answer(429, headers={"Retry-After": "3600"}), "429", 1),
    "broken": (Answer(500), "500", 2),
    "reset at once": (Answer(200, FILE, cut=0, reset=True), "", 2),
    "shorter than told": (Answer(200, FILE[:50], says=99, cut=50), "50", 2),
    "silent": (Answer(hang=60), "0.5 s", 2),
    "silent in the middle": (Answer(200, FILE[:50], says=99), "", 2),
    "slow": (Answer(200, FILE, drip=1, pause=0.1), "0.5 s", 2),
    "slow to begin": (Answer(200, FILE, drip_head=True, pause=0.2), "0.5 s", 2),
    "in circles": (Answer(302, headers={"Location": "/file"}), "redirects", 6),
    "out of the web": (Answer(302, headers={"Location": "file:///etc/passwd"}), "http", 1),
    "a page": (Answer(200, HTML, PAGE), "text/html", 1),
    "a page of the right type": (Answer(200, HTML, {"Content-Type": "application/gzip"}), "DOC", 1),
    "a page byte by byte": (Answer(200, HTML[:4], drip=1, pause=0.05), "not the file", 1),
    "one byte": (Answer(200, MAGIC[:1]), "nothing", 1),
    "nothing": (Answer(200), "nothing", 1),
    "nothing without a length": (Answer(200, framing="chunked"), "nothing", 1),
    "a part unasked": (Answer(206, FILE[50:]), "0", 2),
    "an end unasked": (Answer(416), "0", 2),
}
Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_told_in_one_line(site, fetch_to, within, tmp_path, way):
    answer, told, times = WAYS[way]
    site.answer("/file", answer)
    with within(6), pytest.raises(UserError) as caught:
        fetch_to("/file", magic=MAGIC, attempts=2)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"reviews.json.gz cannot be fetched ({site.url}/file: ")
    assert told in line
    assert len(site.requests) == times
    assert not (tmp_path / "files" / "reviews.json.gz").exists()


@pytest.mark.parametrize("way", WAYS)
def test_the_next_place_is_asked_and_nothing_is_mixed(site, other_site, fetch_to, within, way):
    site.answer("/file", WAYS[way][0])
    good = other_site.put("/file", FILE, "application/gzip")
    with within(6):
        assert fetch_to("/file", good, magic=MAGIC, attempts=1) == FILE
    assert len(WAYS) == 21


def test_all_places_are_told_of(site, fetch_to):
    site.answer("/b", Answer(403))
    with pytest.raises(UserError, match=r"/a: HTTP 404 .*; .*/b: HTTP 403 "):
        fetch_to("/a", "/b")


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_attempts_are_as_many_as_asked_for(site, fetch_to, attempts):
    site.answer("/file", Answer(503))
    with pytest.raises(UserError):
        fetch_to("/file", attempts=attempts)
    assert len(site.requests) == attempts


def test_retry_after_is_waited_for(site, fetch_to):
    late = Answer(503, headers={"Retry-After": "1"})
    site.answer("/file", late, published(FILE))
    assert fetch_to("/file") == FILE
    first, second = site.requests
    assert 0.95 <= second.at - first.at < 3


@pytest.mark.parametrize("framing", ["length", "chunked", "none"])
@pytest.mark.parametrize("encoding", [None, "gzip", "x-gzip", "deflate", "br"])
def test_bytes_stay_as_they_are_published(site, fetch_to, framing, encoding):
    headers = {"Content-Type": "application/x-gzip"}
    headers |= {"Content-Encoding": encoding} if encoding else {}
    site.answer("/file", Answer(200, FILE, headers, framing=framing))
    assert fetch_to("/file", magic=MAGIC) == FILE


def test_a_file_in_chunks_that_is_cut_is_not_taken_for_whole(site, fetch_to):
    site.answer("/file", Answer(200, FILE, framing="chunked", cut=100), published(FILE))
    assert fetch_to("/file") == FILE
    assert len(site.requests) == 2


def test_what_comes_slowly_but_steadily_arrives(site, fetch_to):
    """Longer than the time-out as a whole, and more than a kilobyte a second."""
    body = FILE[:4000]
    site.answer("/file", Answer(200, body, drip=200, pause=0.06))
    assert fetch_to("/file", attempts=1) == body


@pytest.mark.parametrize("magic", [b"", MAGIC, FILE])
def test_magic_may_be_longer_than_what_comes_at_once(site, fetch_to, magic):
    body = FILE[: max(len(magic), 40)]
    site.answer("/file", Answer(200, body, drip=max(len(body) // 20, 1), pause=0.005))
    assert fetch_to("/file", magic=magic) == body


def test_10_gb_where_there_is_no_room_for_them_are_not_begun(
    site, fetch_to, monkeypatch, within, tmp_path
):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**10, 10**10, 10**9))
    site.answer("/file", Answer(200, FILE, says=10**10))
    line = r"10,000 MB more are said to come and 1,000 MB are free in .*--downloads"
    with within(2), pytest.raises(UserError, match=line):
        fetch_to("/file", magic=MAGIC)
    assert len(site.requests) == 1


def test_10_gb_that_do_not_come_are_waited_for_no_longer_than_silence(
    site, fetch_to, monkeypatch, within, tmp_path
):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 0, 10**12))
    site.answer("/file", Answer(200, FILE, {"ETag": '"a"'}, says=10**10))
    with within(6), pytest.raises(UserError, match="cannot be fetched"):
        fetch_to("/file", magic=MAGIC, attempts=2)
    used = sum(path.stat().st_blocks * 512 for path in (tmp_path / "files").iterdir())
    assert used < 10 * len(FILE)


def test_the_folder_is_made_and_other_files_in_it_stay(site, fetch_to, tmp_path):
    other = tmp_path / "a" / "b" / "other.gz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"other")
    site.put("/file", FILE)
    site.put("/picture", picture(1))
    assert fetch_to("/file", path=tmp_path / "a" / "b" / "c" / "file") == FILE
    assert fetch_to("/picture", path=tmp_path / "a" / "b" / "picture") == picture(1)
    assert other.read_bytes() == b"other"
