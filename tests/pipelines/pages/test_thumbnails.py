"""Small pictures: what they look like, and what is said of those that cannot be shown."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from support.report_shop import LOST, OUTSIDE, PICTURES, picture, write_catalogue

from extract.catalog import Catalog
from pipelines.pages.thumbnails import LONGEST_REASON, thumbnail, thumbnails
from pipelines.progress import Reporter
from pipelines.workspace import read_table


@pytest.fixture
def catalog(tmp_path):
    write_catalogue(tmp_path)
    return Catalog.from_table(read_table(tmp_path / "items.parquet"), tmp_path / "images")


def opened(text):
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


def only(folder, data):
    """A catalogue of one item, whose picture's file holds `data`."""
    (folder / "p").write_bytes(data)
    return Catalog.from_columns(["a"], ["x"], ["p"], folder)


def test_pictures_become_small_ones_or_a_reason(catalog):
    rows = [5, 6, 7, 8, 9, 10]
    assert catalog.ids(rows) == [*PICTURES, "i8", LOST, OUTSIDE]
    found = thumbnails(catalog, rows, Reporter(quiet=True))
    first, second = (opened(text) for text, _ in found[:2])
    assert first.format == second.format == "WEBP"
    assert first.size == (96, 64)
    assert second.size == (20, 50)  # never larger than it was
    assert [why for _, why in found[:2]] == [None, None]
    assert [text for text, _ in found[2:]] == [None] * 4
    kinds = ["unreadable", "missing", "missing", "outside"]
    assert [why.split(":")[0] for _, why in found[2:]] == kinds
    assert found[4][1] == "missing: there is no file i9.png"


def test_a_small_picture_shows_the_same(tmp_path):
    ramp = np.zeros((200, 400, 3), np.uint8)
    ramp[:, :, 0] = np.linspace(0, 255, 400).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    text, _ = thumbnail(only(tmp_path, file.getvalue()), 0)
    red = np.asarray(opened(text).convert("RGB"), float)[:, :, 0].mean(axis=0)
    assert len(red) == 96
    assert np.abs(red - np.linspace(0, 255, 96)).max() < 12


def test_nothing_but_pixels_is_kept(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Secret Camera"
    file = io.BytesIO()
    Image.open(io.BytesIO(picture(30, 30))).save(
        file, "JPEG", exif=exif, comment=b"Secret Comment", icc_profile=b"Secret Profile"
    )
    assert file.getvalue().count(b"Secret") == 3
    text, why = thumbnail(only(tmp_path, file.getvalue()), 0)
    assert why is None
    assert b"Secret" not in base64.b64decode(text)


def test_a_long_reason_is_cut(tmp_path):
    catalog = Catalog.from_columns(["a"], ["x"], ["y" * 100_000], tmp_path)
    text, why = thumbnail(catalog, 0)
    assert text is None
    assert 0 < len(why) <= LONGEST_REASON
