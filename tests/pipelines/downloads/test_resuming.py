"""The rest of a big file is asked for by range, where the server says that it is the same file."""

import json
import random

import pytest
from support.answers import MODIFIED, Answer, etag_of, published

from extract.errors import UserError

GZIP = "application/gzip"
FILE = b"\x1f\x8b" + random.Random(0).randbytes(300_000)
HALF = len(FILE) // 2
CUT = published(FILE, GZIP, Answer(cut=HALF))
GOOD = published(FILE, GZIP)
OTHER = b"\x1f\x8b" + random.Random(1).randbytes(300_000)


@pytest.fixture
def halved(site, fetch_to, tmp_path):
    """The first half of a file is on disk, of a command that gave up; the record begins anew."""

    def make(answer=CUT, **settings):
        site.answer("/file", answer)
        with pytest.raises(UserError):
            fetch_to("/file", attempts=1, **settings)
        assert not (tmp_path / "files" / "reviews.json.gz").exists()
        site.forget()

    return make


def ranges(site):
    return [request.headers.get("range") for request in site.requests]


def test_the_next_command_asks_for_the_rest_only(site, fetch_to, halved):
    halved()
    site.answer("/file", GOOD)
    assert fetch_to("/file") == FILE
    assert ranges(site) == [f"bytes={HALF}-"]
    assert site.requests[0].headers["if-range"] == etag_of(FILE)


@pytest.mark.parametrize("reset", [False, True])
def test_so_does_the_next_attempt_of_one_command(site, fetch_to, reset):
    third = len(FILE) // 3
    site.answer("/file", *[published(FILE, GZIP, Answer(cut=third, reset=reset))] * 2, GOOD)
    assert fetch_to("/file") == FILE
    assert ranges(site) == [None, f"bytes={third}-", f"bytes={2 * third}-"]


def test_a_file_that_is_there_is_not_asked_for(site, fetch_to):
    site.answer("/file", GOOD)
    assert fetch_to("/file") == fetch_to("/file") == FILE
    assert ranges(site) == [None]


def test_a_date_serves_where_there_is_no_etag(site, fetch_to, halved):
    dated = {"Last-Modified": MODIFIED}
    halved(Answer(200, FILE, dated, cut=HALF))
    rest = {"Content-Range": f"bytes {HALF}-{len(FILE) - 1}/{len(FILE)}"}
    site.answer("/file", Answer(206, FILE[HALF:], dated | rest))
    assert fetch_to("/file") == FILE
    assert site.requests[0].headers["if-range"] == MODIFIED


@pytest.mark.parametrize("etag", [{}, {"ETag": 'W/"weak"'}])
def test_a_file_that_no_name_tells_from_another_is_fetched_whole(site, fetch_to, halved, etag):
    halved(Answer(200, FILE, etag, cut=HALF))
    site.answer("/file", GOOD)
    assert fetch_to("/file") == FILE
    assert ranges(site) == [None]


def test_a_file_that_changed_is_fetched_whole(site, fetch_to, halved):
    halved()
    site.put("/file", OTHER, GZIP)
    assert fetch_to("/file") == OTHER
    assert ranges(site) == [f"bytes={HALF}-"]


def test_a_file_that_changed_is_noticed_where_the_server_minds_no_condition(site, fetch_to, halved):
    halved()
    told = {"Content-Range": f"bytes {HALF}-{len(FILE) - 1}/{len(FILE)}", "ETag": etag_of(OTHER)}
    site.answer("/file", Answer(206, OTHER[HALF:], told), published(OTHER, GZIP))
    assert fetch_to("/file") == OTHER


def test_a_server_without_ranges_sends_it_whole(site, fetch_to, halved):
    halved()
    site.answer("/file", Answer(200, FILE, {"ETag": etag_of(FILE)}))
    assert fetch_to("/file") == FILE
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "told",
    [
        None,
        "bytes",
        "bytes */301954",
        f"bytes 0-{len(FILE) - 1}/{len(FILE)}",
        f"bytes {HALF + 1}-{len(FILE) - 1}/{len(FILE)}",
        f"bytes {HALF}-{len(FILE) - 1}/{len(FILE) + 1}",
        f"bytes {HALF}-{len(FILE)}/{len(FILE) - 1}",
        f"items {HALF}-{len(FILE) - 1}/{len(FILE)}",
        f"bytes {'9' * 5000}-{len(FILE) - 1}/{len(FILE)}",
    ],
)
def test_a_part_other_than_asked_for_is_not_trusted(site, fetch_to, halved, told):
    halved()
    headers = {"ETag": etag_of(FILE)} | ({"Content-Range": told} if told else {})
    site.answer("/file", Answer(206, OTHER[HALF:], headers), GOOD)
    assert fetch_to("/file") == FILE
    assert ranges(site) == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("extra", [-1000, 1000])
def test_a_rest_of_another_length_than_told_is_noticed(site, fetch_to, halved, extra):
    halved()
    rest = FILE[HALF:extra] if extra < 0 else FILE[HALF:] + bytes(extra)
    told = {"Content-Range": f"bytes {HALF}-{len(FILE) - 1}/{len(FILE)}", "ETag": etag_of(FILE)}
    site.answer("/file", Answer(206, rest, told), GOOD)
    assert fetch_to("/file") == FILE
    assert len(site.requests) == 2


def test_a_file_that_became_shorter_is_fetched_whole(site, fetch_to, halved):
    halved()
    short = FILE[: HALF // 2]
    gone = Answer(416, b"", {"Content-Range": f"bytes */{len(short)}"})
    site.answer("/file", gone, published(short, GZIP))
    assert fetch_to("/file") == short
    assert ranges(site) == [f"bytes={HALF}-", None]


def test_a_part_that_is_all_of_the_file_needs_no_more(site, fetch_to, halved):
    """Killed after the last byte, and before the file took its place."""
    halved(Answer(200, FILE, {"ETag": etag_of(FILE)}, framing="chunked", cut=len(FILE)))
    site.answer("/file", GOOD)
    assert fetch_to("/file") == FILE
    assert ranges(site) == [f"bytes={len(FILE)}-"]


@pytest.mark.parametrize("damage", ["longer", "empty", "no notes", "torn notes", "other notes"])
def test_a_part_that_was_tampered_with_is_not_gone_on_with(
    site, fetch_to, halved, tmp_path, damage
):
    halved()
    (part,) = (tmp_path / "files").glob(".*.part")
    (notes,) = (tmp_path / "files").glob(".*.json")
    if damage == "longer":
        part.write_bytes(FILE + b"more")
    elif damage == "empty":
        part.write_bytes(b"")
    elif damage == "no notes":
        notes.unlink()
    else:
        text = notes.read_text()
        notes.write_text(text[: len(text) // 2] if damage == "torn notes" else "[1, 2]")
    site.answer("/file", GOOD)
    assert fetch_to("/file") == FILE
    assert ranges(site) == [None]


def test_a_part_is_not_mixed_with_that_of_another_place(site, fetch_to, halved, tmp_path):
    halved()
    site.put("/mirror", OTHER, GZIP)
    assert fetch_to("/gone", "/mirror") == OTHER
    assert ranges(site) == [None, None]


@pytest.mark.parametrize("headers", [{}, {"ETag": '"a"'}, {"ETag": '"a"', "Accept-Ranges": "none"}])
def test_a_file_that_is_always_cut_at_the_same_place_is_given_up(
    site, fetch_to, monkeypatch, headers
):
    monkeypatch.setattr("pipelines.downloads.transfer.WORTH_IT", 1000)
    site.answer("/file", Answer(200, FILE, headers, cut=HALF))
    with pytest.raises(UserError, match=r"reviews\.json\.gz cannot be fetched"):
        fetch_to("/file")
    assert len(site.requests) <= 6


def test_a_length_that_lies_is_given_up(site, fetch_to, monkeypatch):
    monkeypatch.setattr("pipelines.downloads.transfer.WORTH_IT", 1000)
    lie = Answer(200, FILE, {"ETag": '"a"'}, says=len(FILE) + 1000, cut=len(FILE))
    beyond = Answer(416, b"", {"Content-Range": f"bytes */{len(FILE)}"})
    site.answer("/file", *[lie, beyond] * 20, Answer(404))
    with pytest.raises(UserError):
        fetch_to("/file")
    assert len(site.requests) <= 6


def test_a_file_that_is_cut_often_but_moves_on_arrives(site, fetch_to, monkeypatch):
    monkeypatch.setattr("pipelines.downloads.transfer.WORTH_IT", 1000)
    site.answer("/file", published(FILE, GZIP, Answer(cut=20_000)))
    assert fetch_to("/file", attempts=2) == FILE
    assert ranges(site) == [None, *(f"bytes={n}-" for n in range(20_000, len(FILE), 20_000))]


def test_what_is_kept_names_the_version(halved, tmp_path):
    halved()
    (part,) = (tmp_path / "files").glob(".*.part")
    (notes,) = (tmp_path / "files").glob(".*.json")
    assert part.read_bytes() == FILE[:HALF]
    assert etag_of(FILE) in json.loads(notes.read_text()).values()
