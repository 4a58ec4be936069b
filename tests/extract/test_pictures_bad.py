"""What cannot be a picture, and what claims to be too large for one."""

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from support.mutants import encoded, seed_files

from extract.pictures import FORMATS, MAX_PIXELS, PictureProblem, open_picture

# pytest takes back the filter that keeps Pillow quiet elsewhere; a test below looks at that one.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def problem(data):
    with pytest.raises(PictureProblem) as caught:
        open_picture(data)
    return caught.value


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, *chunks, bits=8, colour=2):
    """A PNG from chunks of the test's own."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    every = [chunk(b"IHDR", header), *(chunk(*each) for each in chunks), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(every)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0" * 5000,
        b"not a picture, but called picture.jpg\n" * 40,
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"<html><body>404</body></html>",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 90,
        b"\xff\xd8",
        b"GIF89a",
        b"BM",
        b"II*\0\x08\0\0\0",
        b"RIFF\x10\0\0\0WEBPVP8 ",
    ],
)
def test_what_is_no_picture(data):
    assert problem(data).kind == "unreadable"


@pytest.mark.parametrize("form", ["EPS", "PDF", "PPM", "TGA", "ICO", "PCX"])
def test_formats_that_are_not_of_the_list(form):
    found = problem(encoded(Image.new("RGB", (8, 8)), form))
    assert (found.kind, found.detail) == ("unreadable", f"none of {', '.join(FORMATS)}")


@pytest.mark.parametrize("name", seed_files())
def test_truncated_anywhere(name):
    whole = seed_files()[name]
    size = open_picture(whole).size
    kinds = set()
    for end in range(0, len(whole), max(1, len(whole) // 40)):
        try:
            assert open_picture(whole[:end]).size == size
        except PictureProblem as found:
            kinds.add(found.kind)
    assert kinds == {"unreadable"}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_half_a_file_is_no_picture(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    whole = encoded(noise, form)
    assert problem(whole[: len(whole) // 2]).kind == "unreadable"


def test_too_large_is_judged_before_decoding():
    # A header that claims 60,000 x 60,000 pixels and has none, and one that Pillow itself refuses.
    header = encoded(Image.new("1", (8, 8)), "BMP")
    for side in (9_000, 60_000):
        size = side.to_bytes(4, "little")
        found = problem(header[:18] + size + size + header[26:])
        assert found.kind == "too_large"
        assert str(side) in found.detail or "limit" in found.detail


@pytest.mark.parametrize("side", [9_000, 2**31 - 1])
def test_bombs_of_few_bytes(side):
    packed = zlib.compress(bytes(30_000_000), 9)
    data = png(side, side, (b"IDAT", packed))
    assert len(data) < 40_000
    assert problem(data).kind == "too_large"


def test_a_giant_text_within_a_png():
    packed = zlib.compress(bytes(80_000_000), 9)
    row = zlib.compress(b"\0" + bytes(12))
    noted = png(4, 1, (b"zTXt", b"Comment\0\0" + packed), (b"IDAT", row))
    assert problem(noted).kind == "unreadable"
    assert open_picture(png(4, 1, (b"zTXt", b"Comment\0\0" + row), (b"IDAT", row))).size == (4, 1)


def test_a_progressive_jpeg_with_scan_upon_scan():
    side = 8_000
    assert side**2 < MAX_PIXELS
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    start = time.perf_counter()
    found = problem(data[:-2] + last_scan * 1000)  # a minute's work in half a megabyte
    assert time.perf_counter() - start < 1
    assert (found.kind, found.detail) == ("too_large", "8000 x 8000 pixels in 1006 scans")


def test_what_hangs_behind_a_jpeg_is_no_scan():
    """A phone's film of some megabytes, in which the bytes of a scan's marker stand by chance."""
    whole = encoded(Image.new("RGB", (3_000, 2_000), "red"), "JPEG")
    film = b"\xff\xda" * 2_000 + b"\xff\xda\x00\x0c\x04" * 2_000
    assert open_picture(whole + film, 100).size == (375, 250)


@pytest.mark.parametrize(("bits", "compression"), [(8, 1), (4, 2)])
def test_a_bmp_of_runs_which_python_unpacks(bits, compression):
    def bmp(side):
        palette = bytes(4 << bits)
        runs = (b"\xff\x00" * (side // 255) + bytes((side % 255, 0, 0, 0))) * side
        start = 54 + len(palette)
        info = (40, side, side, 1, bits, compression, len(runs), 0, 0, 0, 0)
        head = struct.pack("<IHHI", start + len(runs), 0, 0, start)
        return b"BM" + head + struct.pack("<IiiHHIIiiII", *info) + palette + runs

    assert open_picture(bmp(600)).size == (600, 600)
    assert problem(bmp(8_900)).kind == "too_large"


def test_small_and_thin_pictures():
    assert open_picture(encoded(Image.new("L", (1, 1), 9), "PNG")).getpixel((0, 0)) == (9, 9, 9)
    for size in ((20_000, 1), (1, 20_000), (2, 900)):
        found = problem(encoded(Image.new("L", size), "PNG"))
        told = f"{size[0]} x {size[1]} pixels are a line, not a picture"
        assert (found.kind, found.detail) == ("unreadable", told)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "too_large"),
        (RecursionError("deep"), "unreadable"),
        (struct.error("short"), "unreadable"),
        (SyntaxError("bad"), "unreadable"),
        (EOFError(), "unreadable"),
        (KeyError(7), "unreadable"),
        (OverflowError("much"), "unreadable"),
        (Image.DecompressionBombError("bomb"), "too_large"),
    ],
)
def test_whatever_a_decoder_raises(monkeypatch, error, kind):
    def load(_self):
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    found = problem(encoded(Image.new("RGB", (8, 8)), "BMP"))
    assert found.kind == kind
    assert type(error).__name__ in found.detail


def test_details_are_the_same_in_every_run():
    """They end in a file whose bytes two runs must agree on."""
    assert "0x" not in problem(b"no picture at all").detail


def test_pillow_neither_warns_nor_logs(tmp_path):
    """In a process of its own, since pytest takes warnings for itself."""
    form = encoded(Image.new("P", (8, 8)), "PNG", transparency=bytes(200))
    (tmp_path / "palette.png").write_bytes(form)
    (tmp_path / "large.png").write_bytes(png(9_900, 9_900, (b"IDAT", zlib.compress(b""))))
    tiff = bytearray(encoded(Image.new("RGB", (8, 8)), "TIFF"))
    at = tiff.index(struct.pack("<HHI", 277, 3, 1)) + 8  # samples per pixel
    tiff[at : at + 2] = (99).to_bytes(2, "little")
    (tmp_path / "samples.tif").write_bytes(tiff)
    script = """
import sys
from pathlib import Path
from extract.pictures import PictureProblem, open_picture
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(path.name, open_picture(path.read_bytes()).size)
    except PictureProblem as problem:
        print(path.name, problem.kind)
"""
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.stderr == ""
    expected = ["large.png too_large", "palette.png (8, 8)", "samples.tif unreadable"]
    assert finished.stdout.splitlines() == expected


def test_each_warning_of_that_test_would_be_heard():
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(png(9_900, 9_900, (b"IDAT", zlib.compress(b"")))))
