"""How often and how much at once a server is asked, and how long it is left alone."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from support.answers import Answer, published
from support.web import picture

from pipelines.downloads.manners import LONGEST_BACK_OFF, asked_to_wait, back_off

NOW = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
PICTURE = picture(0)
# Of the machine, which may be busy.
SLACK = 2.0


def later(status, seconds, form="seconds"):
    if form == "date":  # of whole seconds: up to one is lost
        seconds = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds + 1), usegmt=True)
    return Answer(status, headers={"Retry-After": str(seconds)})


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_each_attempt_is_one_request(site, fetch, attempts):
    site.answer("/a", Answer(500))
    assert fetch({"a": "/a"}, attempts=attempts).words == {"a": "unreachable"}
    assert len(site.requests) == attempts


def test_pauses_between_attempts_grow(site, fetch):
    site.answer("/a", Answer(500))
    fetch({"a": "/a"}, attempts=4, wait=0.1)
    times = [request.at for request in site.requests]
    pauses = [after - before for before, after in pairwise(times)]
    for pause, longest in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert 0.5 * longest <= pause < longest + SLACK


def test_back_off_doubles_up_to_a_bound_and_is_spread():
    chance = random.Random(0)
    for failed in (*range(1, 12), 5_000):
        longest = min(2 ** (failed - 1), LONGEST_BACK_OFF)
        drawn = [back_off(failed, 1.0, chance) for _ in range(200)]
        assert 0.5 * longest <= min(drawn) < 0.6 * longest
        assert 0.9 * longest < max(drawn) <= longest


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, pytest.approx(1e12)),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wednesday, 21-Oct-15 07:28:30 GMT", 30.0),
        ("Wed Oct 21 07:28:30 2015", 30.0),
        ("Wed, 21 Oct 2015 09:28:30 +0200", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 99999 07:27:00 GMT", None),
        ("Wed, 99 Oct 2015 07:27:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert asked_to_wait(header, NOW) == seconds


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(site, fetch, status, form):
    site.answer("/a", later(status, 1, form), published(PICTURE))
    assert fetch({"a": "/a"}).bodies == {"a": PICTURE}
    first, second = site.requests
    assert 0.95 <= second.at - first.at < 2 + SLACK


@pytest.fixture
def shop(site):
    """Pictures of which whichever is asked for first is answered so; gives their URLs."""

    def make(count, first):
        firsts = iter([first])
        good = published(PICTURE)
        for number in range(count):
            site.answer(f"/{number}", lambda request: next(firsts, None) or good(request))
        return {f"{number}": f"/{number}" for number in range(count)}

    return make


def test_retry_after_holds_back_what_else_is_asked_of_that_host(site, other_site, shop, fetch):
    urls = shop(3, later(429, 1)) | {"elsewhere": other_site.put("/a", PICTURE)}
    got = fetch(urls, trusted=[site.url, other_site.url], connections=1)
    assert got.bodies == dict.fromkeys(urls, PICTURE)
    first, *rest = site.requests
    assert len(rest) == 3
    assert all(request.at - first.at >= 0.95 for request in rest)
    assert other_site.requests[0].at - first.at < 0.9


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_asks_for_an_hour_is_left_alone(site, shop, fetch, within, form):
    urls = shop(40, later(429, 3600, form))
    with within(3):
        got = fetch(urls, connections=1)
    assert got.words == dict.fromkeys(urls, "unreachable")
    assert len(site.requests) == 1
    # By the next call it may have changed its mind.
    assert fetch(urls).bodies == dict.fromkeys(urls, PICTURE)


@pytest.mark.parametrize("connections", [1, 3, 8])
def test_no_more_at_once_than_connections(site, fetch, connections):
    urls = {f"{number}": f"/{number}" for number in range(30)}
    for number, url in enumerate(urls.values()):
        site.answer(url, published(picture(number), misbehaving=Answer(hang=0.02)))
    assert len(fetch(urls, connections=connections).bodies) == 30
    assert site.most_at_once == connections
    # Each connection is used again and again.
    assert len({request.connection for request in site.requests}) == connections


def test_redirects_and_bad_answers_count_among_connections(site, fetch):
    urls = {f"{number}": f"/{number}" for number in range(30)}
    ways = (
        Answer(302, headers={"Location": "/to"}, hang=0.02),
        Answer(404, b"no", hang=0.02),
        Answer(500, b"no", hang=0.02),
        Answer(200, PICTURE, cut=50, drip=10),
    )
    for number, url in enumerate(urls.values()):
        site.answer(url, ways[number % 4])
    site.answer("/to", published(PICTURE, misbehaving=Answer(hang=0.02)))
    fetch(urls, connections=2)
    assert site.most_at_once == 2


def test_a_slow_host_does_not_hold_up_another(site, other_site, fetch):
    slow = {f"slow {number}": f"/{number}" for number in range(8)}
    for url in slow.values():
        site.answer(url, published(PICTURE, misbehaving=Answer(hang=0.2)))
    quick = {f"quick {n}": other_site.put(f"/{n}", PICTURE) for n in range(8)}
    got = fetch(slow | quick, trusted=[site.url, other_site.url], connections=1)
    assert got.bodies == dict.fromkeys(slow | quick, PICTURE)
    assert other_site.requests[-1].at < site.requests[-1].at


def test_the_program_says_who_it_is_and_wants_bytes_as_they_are(site, fetch):
    site.put("/a", PICTURE)
    fetch({"a": "/a"})
    headers = site.requests[0].headers
    assert headers["user-agent"].startswith("mmrec/")
    assert headers["accept-encoding"] == "identity"
