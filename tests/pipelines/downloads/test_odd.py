"""Odd ports, headers, formats and ends, none of which may end the whole or pass for a picture."""

import io

import pytest
from PIL import Image
from support.web import Answer, picture

from extract.errors import UserError
from pipelines.downloads.addresses import check_base

JPEG = {"Content-Type": "image/jpeg"}


@pytest.mark.parametrize("port", ["99999", "65536", "0"])
def test_a_port_that_is_none_is_refused_and_spoils_nothing(site, fetch, port):
    site.put("/good", picture(1))
    site.answer("/moved", Answer(302, headers={"Location": f"http://127.0.0.1:{port}/a"}))
    got = fetch({"good": "/good", "bad": f"http://127.0.0.1:{port}/a", "moved": "/moved"})
    assert got.bodies == {"good": picture(1)}
    assert got.words == {"bad": "refused", "moved": "refused"}


def test_a_date_beyond_all_dates_is_no_date(site, fetch):
    late = "Mon, 02 Feb 2015 10:00:00 +99999999999999999999"
    site.answer("/a", Answer(503, headers={"Retry-After": late}), Answer(200, picture(1), JPEG))
    assert fetch({"a": "/a"}).bodies == {"a": picture(1)}


def test_retry_after_nothing_is_no_reason_to_hurry(site, fetch):
    site.answer("/a", Answer(503, headers={"Retry-After": "0"}))
    fetch({"a": "/a"}, wait=0.2)
    first, second, third = (request.at for request in site.requests)
    assert second - first >= 0.1  # half of the wait at least
    assert third - second >= 0.2


def test_several_pictures_in_one_file_are_a_picture(site, fetch):
    file = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(file, "MPO", save_all=True, append_images=frames[1:])
    site.put("/a", file.getvalue())
    assert fetch({"a": "/a"}).bodies == {"a": file.getvalue()}


def test_half_a_picture_whose_length_nobody_told_is_none(site, fetch):
    whole = picture(3, (64, 64))
    site.answer("/a", Answer(200, whole, JPEG, framing="none", cut=len(whole) // 2))
    assert fetch({"a": "/a"}).words == {"a": "unreadable"}


def test_who_is_not_welcome_stops_asking(site, fetch):
    urls = {str(number): f"/{number}" for number in range(150)}
    for url in urls.values():
        site.answer(url, Answer(403))
    words = fetch(urls, connections=1).words
    assert len(site.requests) < 110
    assert list(words.values()).count("unreachable") > 40


def test_a_name_in_other_letters_is_the_one_that_is_asked(fetch, monkeypatch):
    """Python looks up fass.de for faß.de; the request goes to xn--fa-hia.de."""
    asked = []

    async def look_up(self, host, *_, **__):
        asked.append(host)
        raise OSError("unknown")

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", look_up)
    fetch({"a": "http://faß.de/a"}, attempts=1)
    assert set(asked) == {"xn--fa-hia.de"}


def test_a_proxy_is_not_asked_for_addresses_that_are_not_public(site, fetch, monkeypatch):
    monkeypatch.setenv("http_proxy", site.url)
    got = fetch({"a": "http://10.0.0.1/a", "b": "http://169.254.169.254/b"}, trusted=[])
    assert got.words == {"a": "refused", "b": "refused"}
    assert site.requests == []


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a/b", "http://", "http://a:99999", "x"])
def test_a_base_that_is_none_is_told_before_anything_is_asked(url):
    with pytest.raises(UserError, match="--url takes a URL such as"):
        check_base(url)
