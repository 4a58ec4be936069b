"""Servers that misbehave: every loss is told in the right word, and costs nothing but itself."""

import gzip

import pytest
from support.answers import HTML, Answer, published
from support.web import picture

JPEG = {"Content-Type": "image/jpeg"}
GZIP = {"Content-Encoding": "gzip"}
GOOD = picture(0)
TEN_GB = 10_000_000_000
# Way to misbehave: what is answered, the word it is told in, how often it is asked for of 3 times.
WAYS = {
    "not there": (Answer(404, HTML, {"Content-Type": "text/html"}), "missing", 1),
    "gone": (Answer(410), "missing", 1),
    "forbidden": (Answer(403, HTML, {"Content-Type": "text/html"}), "refused", 1),
    "unauthorised": (Answer(401), "refused", 1),
    "too often": (Answer(429), "unreachable", 3),
    "broken": (Answer(500), "unreachable", 3),
    "a gateway's picture": (Answer(502, GOOD, JPEG), "unreachable", 3),
    "reset": (published(GOOD, misbehaving=Answer(cut=300, reset=True)), "unreachable", 3),
    "hung up": (published(GOOD, misbehaving=Answer(cut=300)), "unreachable", 3),
    "hung up at once": (published(GOOD, misbehaving=Answer(cut=0)), "unreachable", 3),
    "cut in a chunk": (Answer(200, GOOD, JPEG, framing="chunked", cut=300), "unreachable", 3),
    "shorter than told": (Answer(200, GOOD, JPEG, says=len(GOOD) + 9), "unreachable", 3),
    "a lie of 10 GB": (Answer(200, GOOD, JPEG, says=TEN_GB), "too_large", 1),
    "no number": (Answer(200, GOOD, JPEG | {"Content-Length": "many"}), "unreachable", 3),
    "silent": (Answer(hang=60), "unreachable", 3),
    "slow": (Answer(200, GOOD, JPEG, drip=1, pause=0.2), "unreachable", 3),
    "slow to begin": (Answer(200, GOOD, JPEG, drip_head=True, pause=0.2), "unreachable", 3),
    "a page": (Answer(200, HTML, {"Content-Type": "text/html; charset=utf-8"}), "unreadable", 1),
    "a page called picture": (Answer(200, HTML, JPEG), "unreadable", 1),
    "a page of any type": (Answer(200, HTML), "unreadable", 1),
    "a dot": (Answer(200, picture(1, (1, 1), "GIF"), {"Content-Type": "image/gif"}), "empty", 1),
    "nothing": (Answer(200, b"", JPEG), "empty", 1),
    "no content": (Answer(204), "empty", 1),
    "a part unasked": (Answer(206, GOOD[:50], JPEG), "refused", 1),
    # We say that we unpack nothing.
    "packed": (Answer(200, gzip.compress(GOOD), JPEG | GZIP), "unreadable", 1),
}


def test_good_ones_among_all_bad_ones_arrive_and_each_loss_is_told(site, fetch, within):
    urls = {}
    for number, way in enumerate(WAYS):
        site.answer(f"/bad{number}.jpg", WAYS[way][0])
        site.put(f"/good{number}.jpg", picture(number))
        urls |= {way: f"/bad{number}.jpg", f"good {number}": f"/good{number}.jpg"}
    with within(15):  # three time-outs are 1.5 s
        got = fetch(urls, connections=8)
    assert got.bodies == {f"good {number}": picture(number) for number in range(len(WAYS))}
    assert got.words == {way: word for way, (_, word, _) in WAYS.items()}
    asked = {way: len(site.asked(f"/bad{number}.jpg")) for number, way in enumerate(WAYS)}
    assert asked == {way: times for way, (_, _, times) in WAYS.items()}
    assert len(WAYS) == 25


def test_what_fails_for_the_moment_arrives_at_a_later_attempt(site, fetch):
    once = {
        "broken": Answer(500),
        "reset": Answer(200, GOOD, JPEG, cut=100, reset=True),
        "hung up": Answer(200, GOOD, JPEG, cut=100),
        "silent": Answer(hang=60),
        "too often": Answer(429),
        "slow": Answer(200, GOOD, JPEG, drip=1, pause=0.2),
    }
    for number, (way, answer) in enumerate(once.items()):
        site.answer(f"/{way.replace(' ', '')}", answer, published(picture(number)))
    got = fetch({way: f"/{way.replace(' ', '')}" for way in once})
    assert got.bodies == {way: picture(number) for number, way in enumerate(once)}
    assert got.problems == {}
    assert all(len(site.asked(f"/{way.replace(' ', '')}")) == 2 for way in once)


def test_a_body_that_is_longer_than_told_spoils_no_other(site, fetch):
    """What is left of it on the connection costs the next request an attempt, at most."""
    site.answer("/bad", Answer(200, GOOD * 3, JPEG, says=10))
    urls = {f"{number}": f"/{number}" for number in range(20)}
    for number, url in enumerate(urls.values()):
        site.put(url, picture(number))
    got = fetch(urls | {"bad": "/bad", "worse": "/bad"}, connections=1)
    assert got.bodies == {f"{number}": picture(number) for number in range(20)}
    assert got.words == {"bad": "unreadable", "worse": "unreadable"}


@pytest.mark.parametrize("framing", ["chunked", "none"])
def test_pictures_without_a_length_are_pictures(site, fetch, framing):
    body = picture(7, (64, 64))
    site.answer("/a.jpg", Answer(200, body, JPEG, framing=framing))
    assert fetch({"a": "/a.jpg"}).bodies == {"a": body}


@pytest.mark.parametrize("framing", ["chunked", "none"])
def test_a_body_without_a_length_and_without_end_is_cut_off(
    site, fetch, within, monkeypatch, framing
):
    monkeypatch.setattr("pipelines.downloads.pictures.LARGEST", 100_000)
    endless = Answer(200, bytes(4_000_000), JPEG, framing=framing, drip=65_536, pause=0.001)
    site.answer("/a.jpg", endless)
    with within(3):
        assert fetch({"a": "/a.jpg"}).words == {"a": "too_large"}


def test_a_picture_whose_head_tells_of_too_many_pixels_is_not_decoded(site, fetch, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 50)
    site.put("/a.png", picture(1, (16, 16), "PNG"))
    assert fetch({"a": "/a.png"}).words == {"a": "too_large"}


def test_a_host_of_which_all_is_lost_is_left_alone_and_others_are_not(site, other_site, fetch):
    urls = {f"lost {number:02}": f"/{number}.jpg" for number in range(60)}
    for url in urls.values():
        site.answer(url, Answer(500))
    good = other_site.put("/good.jpg", GOOD)
    trusted = [site.url, other_site.url]
    got = fetch(urls | {"good": good}, trusted, attempts=1, connections=1)
    assert got.bodies == {"good": GOOD}
    assert set(got.words.values()) == {"unreachable"}
    # 20 in a row, and those that were on their way.
    assert 20 <= len(site.requests) <= 24


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_the_suffix_is_of_the_bytes_not_of_the_url_or_the_type(site, fetch, tmp_path, kind):
    body = picture(3, kind=kind)
    site.put("/a.php", body, "application/octet-stream")
    assert fetch({"a": "/a.php"}).bodies == {"a": body}
    suffix = {"JPEG": ".jpg"}.get(kind, f".{kind.lower()}")
    assert (tmp_path / "pictures" / f"a{suffix}").read_bytes() == body
