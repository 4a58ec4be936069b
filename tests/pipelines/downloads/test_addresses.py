"""Where a URL may lead, by itself or by a redirect: what it must not ask for is not asked for."""

import socket

import pytest
from support.answers import Answer
from support.web import Site, picture

PICTURE = picture(0)


def redirect(location, status=302):
    return Answer(status, b"moved", {"Location": location})


@pytest.fixture
def names(monkeypatch, site):
    """Names of hosts and their addresses, beside those that need no name server; none else."""
    known = {}
    resolve = socket.getaddrinfo

    def look_up(host, port, *arguments, **named):
        text = host.decode() if isinstance(host, bytes) else host
        if text in known:
            text = known[text]
        elif text.strip("0123456789.:abcdef"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(text, port, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["/to/a.jpg", "a.jpg", "../to/a.jpg", "//{host}/to/a.jpg", "http://{host}/to/a.jpg"]
)
def test_redirects_are_followed(site, fetch, status, location):
    host = site.url.removeprefix("http://")
    site.answer("/to/b.jpg", redirect(location.format(host=host), status))
    site.put("/to/a.jpg", PICTURE)
    assert fetch({"a": "/to/b.jpg"}).bodies == {"a": PICTURE}
    assert [request.path for request in site.requests] == ["/to/b.jpg", "/to/a.jpg"]


def test_a_few_redirects_in_a_row_are_followed(site, fetch):
    for number in range(4):
        site.answer(f"/{number}", redirect(f"/{number + 1}"))
    site.put("/4", PICTURE)
    assert fetch({"a": "/0"}).bodies == {"a": PICTURE}


@pytest.mark.parametrize("length", [1, 2])
def test_a_loop_of_redirects_ends(site, fetch, length):
    for number in range(length):
        site.answer(f"/{number}", redirect(f"/{(number + 1) % length}"))
    assert fetch({"a": "/0"}).words == {"a": "refused"}
    assert len(site.requests) <= 10


@pytest.mark.parametrize("location", [None, "", "http://", "http://[", "http://a:b/", "\\\\x\\y"])
def test_a_redirect_to_nowhere_is_told(site, fetch, location, names):
    site.answer("/b", Answer(302) if location is None else redirect(location))
    assert fetch({"a": "/b"}).words["a"] in ("refused", "missing", "unreachable")
    assert len(site.requests) <= 10


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file://localhost/etc/passwd",
        "ftp://192.0.2.1/a.jpg",
        "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
        "javascript:alert(1)",
        "gopher://127.0.0.1/",
        # Not public: of this machine, of its neighbours, of a cloud's settings, of no one.
        "http://10.0.0.1/a.jpg",
        "http://172.16.0.1/a.jpg",
        "http://192.168.1.1/a.jpg",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/a.jpg",
        "http://0.0.0.0/a.jpg",
        "http://224.0.0.1/a.jpg",
        "http://[fe80::1]/a.jpg",
        "http://[fd00::1]/a.jpg",
        "http://[::]/a.jpg",
        "http://[::ffff:10.0.0.1]/a.jpg",
        "http://[::ffff:169.254.169.254]/a.jpg",
        "http://[64:ff9b::a00:1]/a.jpg",
        "http://[2002:a00:1::]/a.jpg",
        "http://[::10.0.0.1]/a.jpg",
    ],
)
def test_other_schemes_and_private_addresses_are_refused(site, fetch, within, location):
    site.answer("/b", redirect(location))
    with within(2):
        got = fetch({"by redirect": "/b", "by itself": location})
    assert got.words == {"by redirect": "refused", "by itself": "refused"}
    assert [request.path for request in site.requests] == ["/b"]


@pytest.mark.parametrize(
    "url", ["", "a.jpg", "//127.0.0.1/a.jpg", "http:", "\0", "http://\0/a", "?"]
)
def test_what_is_no_url_is_refused(fetch, url):
    assert fetch({"a": url, "b": f" {url}"}).words == {"a": "refused", "b": "refused"}


@pytest.mark.parametrize("way", ["redirect", "url"])
def test_another_address_of_this_machine_is_not_asked(site, other_site, fetch, way):
    url = other_site.put("/a.jpg", PICTURE)
    site.answer("/b", redirect(url))
    assert fetch({"a": "/b" if way == "redirect" else url}).words == {"a": "refused"}
    assert other_site.requests == []


def test_another_address_family_is_not_asked(site, fetch):
    try:
        other = Site("::1")
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with other:
        site.answer("/b", redirect(other.put("/a.jpg", PICTURE)))
        assert fetch({"a": "/b"}).words == {"a": "refused"}
        assert other.requests == []


@pytest.mark.parametrize("number", ["2130706434", "0x7f000002", "127.2", "0177.0.0.2"])
def test_other_spellings_of_an_address_do_not_help(other_site, fetch, number):
    other_site.put("/a.jpg", PICTURE)
    got = fetch({"a": f"http://{number}:{other_site.port}/a.jpg"})
    assert got.words["a"] in ("refused", "unreachable")
    assert other_site.requests == []


def test_a_name_that_leads_to_this_machine_is_not_asked(site, other_site, fetch, names):
    names["pictures.example"] = "127.0.0.2"
    url = f"http://pictures.example:{other_site.port}/a.jpg"
    site.answer("/b", redirect(url))
    other_site.put("/a.jpg", PICTURE)
    assert fetch({"a": "/b", "b": url}).words == {"a": "refused", "b": "refused"}
    assert other_site.requests == []


def test_a_name_that_the_user_gave_may_lead_to_this_machine(other_site, fetch, names):
    names["mirror.example"] = "127.0.0.2"
    mirror = f"http://mirror.example:{other_site.port}"
    other_site.put("/a.jpg", PICTURE)
    assert fetch({"a": f"{mirror}/a.jpg"}, trusted=[mirror]).bodies == {"a": PICTURE}
    assert other_site.requests[0].headers["host"] == mirror.removeprefix("http://")


def test_a_host_that_is_not_known_is_unreachable(fetch, names, within):
    with within(2):
        assert fetch({"a": "http://nowhere.example/a.jpg"}).words == {"a": "unreachable"}


def test_nothing_is_trusted_unless_it_was_named(site, fetch):
    site.put("/a.jpg", PICTURE)
    assert fetch({"a": "/a.jpg"}, trusted=[]).words == {"a": "refused"}
    assert site.requests == []


def test_credentials_go_to_no_other_host(site, other_site, fetch):
    site.answer("/b", redirect(other_site.put("/a.jpg", PICTURE)))
    named = site.url.replace("http://", "http://me:secret@")
    got = fetch({"a": f"{named}/b"}, trusted=[site.url, other_site.url])
    assert got.bodies == {"a": PICTURE}
    assert "authorization" in site.requests[0].headers
    assert {"authorization", "referer"}.isdisjoint(other_site.requests[0].headers)


def test_cookies_are_not_kept(site, fetch):
    cookie = {"Set-Cookie": "who=me; Path=/", "Location": "/a.jpg"}
    site.answer("/b", Answer(302, headers=cookie))
    site.put("/a.jpg", PICTURE)
    assert fetch({"a": "/b"}).bodies == {"a": PICTURE}
    assert "cookie" not in site.asked("/a.jpg")[0].headers


def test_a_mirror_that_is_not_known_does_not_spoil_the_next_one(site, fetch_to, names):
    site.put("/file", b"content")
    assert fetch_to("http://nowhere.example/file", "/file") == b"content"


def test_what_holds_for_pictures_holds_for_files(site, other_site, fetch_to):
    site.answer("/moved", redirect("/file"))
    site.put("/file", b"content")
    site.answer("/bad", redirect(other_site.put("/file", b"of somebody else")))
    assert fetch_to("/bad", "file:///etc/passwd", "/moved") == b"content"
    assert other_site.requests == []
