"""Pixels of every kind of picture, against pixels that are known from elsewhere."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.mutants import encoded

from extract.pictures import UPRIGHT, open_picture

# pytest takes back the filter that keeps Pillow quiet elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def pixels(data, side=None):
    picture = open_picture(data, side)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def grey(data):
    """The one channel of a picture without colours."""
    found = pixels(data)
    assert (found == found[:, :, :1]).all()
    return found[:, :, 0].tolist()


def photo(size, seed=0):
    """Smooth colours, which a JPEG keeps within a few levels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def test_transparent_parts_are_white():
    picture = Image.new("RGBA", (2, 1))
    picture.putpixel((0, 0), (255, 0, 0, 255))
    picture.putpixel((1, 0), (255, 0, 0, 51))  # a fifth red: 255, 204, 204 over white
    assert pixels(encoded(picture, "PNG")).tolist() == [[[255, 0, 0], [255, 204, 204]]]
    assert grey(encoded(Image.new("LA", (1, 1), (0, 0)), "PNG")) == [[255]]
    assert grey(encoded(Image.new("LA", (1, 1), (100, 255)), "PNG")) == [[100]]


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_palettes_and_their_transparent_colour(form):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    whole = {"lossless": True} if form == "WEBP" else {}
    assert pixels(encoded(picture, form, **whole)).tolist() == [[[255, 0, 0], [0, 255, 0]]]
    if form != "WEBP":
        data = encoded(picture, form, transparency=0)
        assert pixels(data).tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_a_transparent_grey_or_colour_without_a_palette():
    two = Image.fromarray(np.array([[7, 200]], np.uint8))
    assert grey(encoded(two, "PNG", transparency=7)) == [[255, 200]]
    data = encoded(two.convert("RGB"), "PNG", transparency=(7, 7, 7))
    assert grey(data) == [[255, 200]]
    wide = Image.fromarray(np.array([[7, 8, 60_000]], np.uint16))
    assert grey(encoded(wide, "PNG", transparency=7)) == [[255, 0, 60_000 >> 8]]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_ways_to_hold_a_camera(form, orientation):
    picture, exif = photo((40, 24)), Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture, form, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert (pixels(data) == np.asarray(expected)).all()
    assert expected.size == ((40, 24) if orientation < 5 else (24, 40))


def test_upright_by_hand():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the left end goes to the top
    data = encoded(Image.fromarray(np.array([[255, 0]], np.uint8)), "PNG", exif=exif)
    assert grey(data) == [[255], [0]]
    assert len(UPRIGHT) == 7


@pytest.mark.parametrize("note", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 99])
def test_a_broken_note_leaves_the_picture_as_it_is(note):
    plain, noted = encoded(photo((16, 8)), "PNG"), encoded(photo((16, 8)), "PNG", exif=note)
    assert (pixels(noted) == pixels(plain)).all()


def test_cmyk():
    values = np.random.default_rng(1).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    data = encoded(Image.fromarray(values, "CMYK"), "TIFF")
    ink = values.astype(float) / 255
    light = 255 * (1 - ink[:, :, :3]) * (1 - ink[:, :, 3:])
    assert np.abs(pixels(data) - light).max() <= 1


def test_cmyk_as_adobe_writes_it_inverted():
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.abs(pixels(data).astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("form", ["PNG", "TIFF", "TIFF big-endian"])
def test_grey_of_sixteen_bits_keeps_its_scale(form):
    values = np.array([[0, 256 * 100, 256 * 200 + 7, 65_535]], dtype=np.uint16)
    if form == "TIFF big-endian":
        values = values.astype(">u2")
    data = encoded(Image.fromarray(values), form.split()[0])
    assert grey(data) == [[0, 100, 200, 255]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 0.25, 0.5], [0, 64, 128]),
        ([0.0, 100.0, 200.0], [0, 100, 200]),
        ([0.0, 65_535.0, 257.0], [0, 255, 1]),
        ([-5.0, 1e6, 5e5], [0, 255, 128]),
        ([np.nan, np.inf, 200.0], [0, 0, 200]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_grey_in_fractions(values, expected):
    picture = Image.fromarray(np.array([values], np.float32))
    assert grey(encoded(picture, "TIFF")) == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 255], [0, 1, 255]),
        ([0, 65_535, 257], [0, 255, 1]),
        ([-7, 2**31 - 1, 2**30], [0, 255, 128]),
    ],
)
def test_grey_of_thirty_two_bits(values, expected):
    picture = Image.fromarray(np.array([values], np.int32))
    assert grey(encoded(picture, "TIFF")) == [expected]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit(form):
    values = np.array([[True, False, False, True]])
    assert grey(encoded(Image.fromarray(values), form)) == [[255, 0, 0, 255]]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_of_several_frames_the_first(form):
    colours = ("red", "green", "blue")
    frames = [Image.new("RGB", (16, 16), colour) for colour in colours]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.n_frames == 3
    assert np.abs(pixels(data).astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format_is_known_by_its_content(form, mode):
    picture = photo((40, 25)).convert(mode)
    found = pixels(encoded(picture, form))
    assert found.shape == (25, 40, 3)
    # GIF has 256 colours, three of the others lose a little.
    assert np.abs(found.astype(int) - np.asarray(picture.convert("RGB"))).mean() < 6


def test_progressive_is_the_same_picture():
    picture = photo((100, 60))
    data = encoded(picture, "JPEG", progressive=True)
    assert b"\xff\xc2" in data
    assert (pixels(data) == pixels(encoded(picture, "JPEG"))).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("side", "scale"), [(150, 1), (149, 1), (75, 2), (50, 2), (38, 2), (37, 4), (9, 8), (1, 8)]
)
def test_a_jpeg_is_decoded_to_no_less_than_twice_the_side(mode, orientation, side, scale):
    """The pixels are those of the whole picture, averaged."""
    picture, exif = photo((400, 300)).convert(mode), Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture, "JPEG", exif=exif, quality=95)
    whole, small = open_picture(data), open_picture(data, side)
    assert small.size == tuple(-(-length // scale) for length in whole.size)
    assert min(small.size) >= 2 * side or scale == 1
    averaged = whole.resize(small.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(small, int) - np.asarray(averaged, int)).mean() < 2.5


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_decoded_in_full(form):
    assert open_picture(encoded(photo((400, 300)), form), 10).size == (400, 300)


def test_small_jpegs_are_decoded_in_full():
    data = encoded(photo((30, 20)), "JPEG")
    assert (pixels(data, 64) == pixels(data)).all()
