"""No name from the wire, and none of an item, leads out of the folder of pictures."""

import pytest
from support.answers import Answer, published
from support.web import picture

IDS = [
    "B000123",
    "../../x",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "a\\b",
    ".hidden",
    ".journal.jsonl",
    "-rf",
    "l" * 200,
    "l" * 300,
    "ü" * 200,
    "two words",
    "line\nbreak",
    "nul\0l",
    "\x1b[31m",
    "CON",
    "a%2fb",
    "~root",
    " ",
    "x.jpg",
    "\udc80",
]


def everything(folder):
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_item_ids_of_all_kinds_name_files_of_the_folder_only(site, fetch, tmp_path):
    urls = {item: f"/{number}" for number, item in enumerate(IDS)}
    for number, url in enumerate(urls.values()):
        site.put(url, picture(number))
    folder = tmp_path / "in" / "pictures"
    got = fetch(urls, folder=folder)
    assert got.bodies == {item: picture(number) for number, item in enumerate(IDS)}
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert len(inside) == len(set(IDS)) == 23
    assert {path.parts[0] for path in everything(tmp_path)} == {"in"}
    assert {path.parts[0] for path in everything(tmp_path / "in")} == {"pictures"}
    assert all(path.is_file() for path in folder.iterdir())
    site.forget()
    assert fetch(urls, folder=folder) == got
    assert site.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Disposition": 'attachment; filename="../../evil.jpg"'},
        {"Content-Type": "../../evil"},
        {"Content-Location": "/../evil.jpg"},
        {"Content-Type": "image/svg+xml"},
    ],
)
def test_what_a_server_calls_it_names_nothing(site, fetch, tmp_path, headers):
    site.answer("/%2e%2e/%2e%2e/evil.php", Answer(200, picture(1), headers))
    assert fetch({"a": "/%2e%2e/%2e%2e/evil.php"}).bodies == {"a": picture(1)}
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {name for name in names if not name.startswith(".")} == {"a.jpg"}
    assert everything(tmp_path) == {
        (tmp_path / "pictures" / name).relative_to(tmp_path) for name in names
    } | {(tmp_path / "pictures").relative_to(tmp_path)}


@pytest.mark.parametrize(
    "path",
    [
        "/a b.jpg",
        "/ü.jpg",
        "/a%20b.jpg",
        "/a,b;c=d.jpg",
        "/I/51%2BabC._SX300_.jpg",
        "/a?b=c&d=%2F#e",
    ],
)
def test_urls_of_all_kinds_are_asked_for_as_they_are(site, fetch, path):
    wanted = {
        "/a b.jpg": "/a%20b.jpg",
        "/ü.jpg": "/%C3%BC.jpg",
        "/a?b=c&d=%2F#e": "/a?b=c&d=%2F",
    }.get(path, path)
    site.answer(wanted, published(picture(1)))
    assert fetch({"a": path}).bodies == {"a": picture(1)}
    assert [request.path for request in site.requests] == [wanted]


def test_the_same_url_for_several_items_gives_each_its_file(site, fetch):
    site.put("/a", picture(1))
    assert fetch({"a": "/a", "b": "/a"}).bodies == dict.fromkeys("ab", picture(1))


def test_nothing_wanted_is_nothing_asked(site, fetch):
    assert fetch({}) == ({}, {})
    assert site.requests == []
