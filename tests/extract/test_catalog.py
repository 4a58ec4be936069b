import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from extract.catalog import MAX_BYTES, Catalog, content_digest
from extract.errors import UserError
from extract.pictures import MAX_PIXELS, PictureProblem


def one(tmp_path, image, text="a text"):
    return Catalog.from_columns(["a"], [text], [image], tmp_path)


def problem(call, *arguments):
    with pytest.raises(PictureProblem) as caught:
        call(*arguments)
    return caught.value


def test_table_to_catalog(tmp_path):
    table = pa.table(
        {"item_id": [7, 9], "text": ["x", None], "image": [None, "b.png"], "price": [1.0, 2.0]}
    )
    catalog = Catalog.from_table(table, tmp_path)
    assert catalog.item_ids.to_pylist() == ["7", "9"]
    assert catalog.texts.to_pylist() == ["x", None]
    assert catalog.images.to_pylist() == [None, "b.png"]
    assert len(catalog) == 2
    assert catalog.modalities == ("image", "text")


def test_missing_columns_are_all_absent(tmp_path):
    catalog = Catalog.from_table(pa.table({"item_id": ["a"], "text": ["x"]}), tmp_path)
    assert catalog.images.to_pylist() == [None]
    assert catalog.modalities == ("text",)


def test_ids_must_be_there_and_distinct(tmp_path):
    with pytest.raises(UserError, match=r"1 of them come more than once, such as 'b'"):
        Catalog.from_columns(["a", "b", "b"], [None] * 3, [None] * 3, tmp_path)
    table = pa.table({"item_id": ["a", None]})
    with pytest.raises(UserError, match="row 1 of the catalogue has none"):
        Catalog.from_table(table, tmp_path)


@pytest.fixture
def images(tmp_path):
    """A folder of pictures, and beside it a picture that is none of its business."""
    folder = tmp_path / "images"
    (folder / "within").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "within" / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (tmp_path / "images-2").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images-2" / "b.png")
    return folder


def kind(folder, path):
    return problem(one(folder, path).picture, 0).kind


def test_absent_files(images):
    assert kind(images, None) == kind(images, "") == "missing"
    found = problem(one(images, "no.png").picture, 0)
    assert (found.kind, found.detail) == ("missing", "there is no file no.png")
    assert kind(images, "within/a.png/b.png") == "missing"
    assert kind(images / "nowhere", "a.png") == "missing"


@pytest.mark.parametrize("path", ["../secret.png", "within/../../secret.png", "a/../within/a.png"])
def test_paths_that_leave_the_folder_are_refused(images, path):
    assert kind(images, path) == kind(images, str(images / path)) == "outside"


def test_links_that_leave_the_folder_are_refused(images):
    (images / "file.png").symlink_to("../secret.png")
    (images / "folder").symlink_to(images.parent)
    (images / "like it").symlink_to(images.parent / "images-2")
    (images / "dangling.png").symlink_to("/nowhere/at/all.png")
    (images / "once more.png").symlink_to("file.png")
    for path in ("file.png", "folder/secret.png", "like it/b.png", "dangling.png", "once more.png"):
        assert kind(images, path) == "outside"
    assert "link" in problem(one(images, "file.png").picture, 0).detail


def test_links_that_stay_within_are_followed_and_the_folder_may_be_one(images):
    (images / "link.png").symlink_to("within/a.png")
    (images / "round").symlink_to(images / "within")
    elsewhere = images.parent / "elsewhere"
    elsewhere.symlink_to(images)
    for folder in (images, elsewhere):
        for path in ("link.png", "round/a.png", "./within//a.png"):
            assert one(folder, path).picture(0).size == (4, 4)


def test_what_is_no_plain_file_is_not_opened(images):
    """To open a pipe that nobody writes to would take forever."""
    os.mkfifo(images / "pipe.png")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(images / "socket.png"))
    server.close()
    for path in ("pipe.png", "socket.png", "within", "."):
        assert kind(images, path) == "unreadable"
    assert kind(Path("/dev"), "zero") == "unreadable"


@pytest.mark.parametrize("path", ["a\0.png", "\0", "within/\0/a.png"])
def test_a_path_with_a_nul_names_nothing(images, path):
    assert kind(images, path) == "missing"


def test_what_the_file_system_refuses(images, monkeypatch):
    assert kind(images, "a" * 5000) == kind(images, "a/" * 5000) == "unreadable"
    (images / "loop.png").symlink_to("loop.png")
    assert kind(images, "loop.png") == "unreadable"

    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    found = problem(one(images, "within/a.png").picture, 0)
    told = "within/a.png: Permission denied"
    assert (found.kind, found.detail) == ("unreadable", told)


def test_a_giant_file_is_not_read(images):
    with (images / "giant.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    found = problem(one(images, "giant.png").picture, 0)
    assert (found.kind, found.detail) == ("too_large", f"giant.png has {MAX_BYTES + 1:,} bytes")
    assert MAX_BYTES > 8 * MAX_PIXELS


class Remote:
    """A folder that is no local one, with no more than what is asked of it."""

    def __init__(self, path="bucket"):
        self.path = path

    def __truediv__(self, name):
        return Remote(f"{self.path}/{name}")

    def read_bytes(self):
        if not self.path.endswith("a.png"):
            raise FileNotFoundError(self.path)
        return self.path.encode()


def test_a_folder_that_is_not_local():
    assert one(Remote(), "within/a.png").picture_bytes(0) == b"bucket/within/a.png"
    assert kind(Remote(), "b.png") == "missing"
    assert kind(Remote(), "../a.png") == "outside"


def test_columns_that_are_not_utf8_are_refused(tmp_path):
    offsets = pa.py_buffer(np.array([0, 1, 3], np.int32))
    bad = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"a\xff\xfe"))
    whole = pa.array(["a", "b"])
    for name in ("item_id", "text", "image"):
        columns = {"item_id": whole, "text": whole, "image": whole} | {name: bad}
        with pytest.raises(UserError, match=f"the column {name} of the catalogue is no text"):
            Catalog.from_table(pa.table(columns), tmp_path)
        columns[name] = bad.cast(pa.binary())
        with pytest.raises(UserError, match=f"the column {name} of the catalogue is no text"):
            Catalog.from_table(pa.table(columns), tmp_path)


def test_content_digest_is_over_both_and_tells_absent_from_empty(tmp_path):
    (tmp_path / "p.png").write_bytes(b"bytes")
    of_picture = hashlib.sha256(b"bytes").digest()
    expected = hashlib.sha256("+5:gr\u00fcn".encode() + of_picture).hexdigest()[:32]
    assert content_digest("gr\u00fcn", b"bytes") == expected
    assert one(tmp_path, "p.png", "gr\u00fcn").content(0) == expected
    pairs = [
        (None, None),
        ("", None),
        (None, b""),
        ("", b""),
        ("a", b"b"),
        ("ab", b""),
        ("b", b"a"),
    ]
    assert len({content_digest(*pair) for pair in pairs}) == len(pairs)
    assert one(tmp_path, "no.png").content(0) == content_digest("a text", None)
