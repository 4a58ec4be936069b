import hashlib
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from extract.catalog import Catalog, content_digest
from extract.errors import UserError
from extract.pictures import PictureProblem, open_picture


def encoded(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def pixels(picture):
    return np.asarray(picture)


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


def test_transparent_parts_are_white():
    picture = Image.new("RGBA", (2, 1))
    picture.putpixel((0, 0), (255, 0, 0, 255))
    picture.putpixel((1, 0), (255, 0, 0, 51))  # a fifth red: 255, 204, 204 over white
    assert pixels(open_picture(encoded(picture))).tolist() == [[[255, 0, 0], [255, 204, 204]]]
    grey = Image.new("LA", (1, 1), (0, 0))
    assert pixels(open_picture(encoded(grey))).tolist() == [[[255, 255, 255]]]


def test_a_transparent_palette_colour_is_white():
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    data = encoded(picture, transparency=0)
    assert pixels(open_picture(data)).tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_pictures_are_turned_upright():
    picture = Image.new("L", (2, 1))
    picture.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the left end goes to the top
    upright = open_picture(encoded(picture, exif=exif))
    assert pixels(upright)[:, :, 0].tolist() == [[255], [0]]


def test_grey_of_sixteen_bits_keeps_its_scale():
    values = np.array([[0, 256 * 100, 256 * 200 + 7]], dtype=np.uint16)
    picture = open_picture(encoded(Image.fromarray(values)))
    assert picture.mode == "RGB"
    assert pixels(picture)[0, :, 1].tolist() == [0, 100, 200]


@pytest.mark.parametrize("form", ["JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_common_formats(form):
    picture = open_picture(encoded(Image.new("RGB", (9, 5), "white"), form))
    assert picture.size == (9, 5)
    assert pixels(picture).min() > 250


def test_cmyk_is_converted():
    assert open_picture(encoded(Image.new("CMYK", (4, 4)), "JPEG")).mode == "RGB"


def test_broken_files_are_unreadable():
    good = encoded(Image.effect_noise((64, 64), 50))
    for data in (b"", b"not a picture", good[: len(good) // 2], b"\x89PNG\r\n\x1a\n" + b"\0" * 90):
        assert problem(open_picture, data).kind == "unreadable"


def test_too_large_is_judged_before_decoding():
    # A header that claims 60,000 x 60,000 pixels and has none, and one that Pillow itself refuses.
    header = encoded(Image.new("1", (8, 8)), "BMP")
    for side in (9_000, 60_000):
        size = side.to_bytes(4, "little")
        found = problem(open_picture, header[:18] + size + size + header[26:])
        assert found.kind == "too_large"
        assert str(side) in found.detail or "limit" in found.detail


def test_a_line_is_no_picture():
    found = problem(open_picture, encoded(Image.new("L", (2, 900))))
    assert (found.kind, found.detail) == ("unreadable", "2 x 900 pixels are a line, not a picture")


def test_absent_files(tmp_path):
    assert problem(one(tmp_path, None).picture, 0).kind == "missing"
    assert problem(one(tmp_path, "").picture, 0).kind == "missing"
    found = problem(one(tmp_path, "no.png").picture, 0)
    assert (found.kind, found.detail) == ("missing", "there is no file no.png")
    (tmp_path / "folder.png").mkdir()
    assert problem(one(tmp_path, "folder.png").picture, 0).kind == "unreadable"


def test_paths_that_leave_the_folder_are_refused(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    for path in ("../secret.png", "a/../../secret.png", str(tmp_path / "secret.png")):
        assert problem(one(images, path).picture, 0).kind == "outside"
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    assert one(images, "link.png").picture(0).size == (4, 4)


def test_content_digest_is_over_both_and_tells_absent_from_empty(tmp_path):
    (tmp_path / "p.png").write_bytes(b"bytes")
    expected = hashlib.sha256("+5:gr\u00fcn+5:bytes".encode()).hexdigest()[:32]
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
