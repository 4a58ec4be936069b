"""From a picture file's bytes to pixels.

A broken picture is a recorded absence, never a crash and never a silent skip.
"""

import io
import logging
import re
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

# What catalogues hold. Pillow reads thirty more: some through outside programs (Ghostscript for
# EPS), many of them hardly ever met, and each a parser that a strange file could reach.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# Below the size at which Pillow itself warns of decompression bombs.
MAX_PIXELS = 80_000_000
# A hair line, scaled until its short side fits an encoder, would fill the memory.
MAX_ASPECT = 100
# A progressive JPEG may go over its pixels any number of times at a hundred bytes a time; a normal
# one does so ten times. This much takes two seconds.
MAX_SCANNED_PIXELS = 2_000_000_000
# How a scan begins, with one to four components; the film that a phone hangs behind a picture may
# hold the first two bytes by chance, but not all five.
SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
# The runs of a compressed BMP are unpacked in Python, where this many pixels take half a second.
MAX_RUN_PIXELS = 5_000_000
RUN_LENGTHS = (1, 2)  # of a BMP: of bytes, of half bytes
# How much larger than the wanted size a JPEG is decoded. The encoder's own resampling then still
# has something to average: the least cosine with the vectors of whole pictures is .99, at 1 it
# is .976 (offline, pictures of 460 to 2,200 pixels with fine texture).
DRAFT_FACTOR = 2

ORIENTATION = 0x0112  # of EXIF: how the camera was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SEE_THROUGH = ("RGBA", "LA", "PA", "La", "RGBa")

# Set once, since a filter that each picture sets and takes back is not safe among threads. What a
# reader of a ledger needs to know is in the ledger.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


class PictureProblem(Exception):  # noqa: N818 - the data have a problem, not the program
    """Why an item has no picture.

    Attributes:
        kind: ``missing``, ``outside``, ``unreadable`` or ``too_large``.
        detail: What was found.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


def open_picture(data: bytes, side: int | None = None) -> Image.Image:
    """Decode a picture file: upright by its EXIF note, RGB, transparent parts over white.

    Of an animation it is the first frame. Grey of more than 8 bits is scaled to 8.

    Args:
        data: The file's content; its format is one of `FORMATS`, whatever the file is called.
        side: The shorter side that is needed; a larger JPEG is decoded to an eighth, a quarter or
            half of its size, as far as that leaves `DRAFT_FACTOR` times this. None for all of it.

    Raises:
        PictureProblem: It cannot be decoded or is too large.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(*picture.size)
        if picture.format == "BMP":
            _check_runs(picture)
        if picture.format in ("JPEG", "MPO"):
            _check_scans(picture, data)
            if side:
                picture.draft(None, (DRAFT_FACTOR * side, DRAFT_FACTOR * side))
        picture.load()
        return _as_rgb(_upright(picture))
    except PictureProblem:
        raise
    except UnidentifiedImageError as error:
        # Pillow's own words tell an address in memory, another one in every run.
        raise PictureProblem("unreadable", f"none of {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise PictureProblem("too_large", _told(error)) from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds of errors on broken files
        raise PictureProblem("unreadable", _told(error)) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureProblem(
            "too_large", f"{width} x {height} pixels, at most {MAX_PIXELS:,} are decoded"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureProblem("unreadable", f"{width} x {height} pixels are a line, not a picture")


def _check_scans(picture: Image.Image, data: bytes) -> None:
    scans = len(SCAN.findall(data))
    if scans * picture.width * picture.height > MAX_SCANNED_PIXELS:
        raise PictureProblem(
            "too_large", f"{picture.width} x {picture.height} pixels in {scans} scans"
        )


def _check_runs(picture: Image.Image) -> None:
    runs = picture.info.get("compression") in RUN_LENGTHS
    if runs and picture.width * picture.height > MAX_RUN_PIXELS:
        raise PictureProblem(
            "too_large",
            f"{picture.width} x {picture.height} pixels of a compressed BMP, at most "
            f"{MAX_RUN_PIXELS:,} are decoded",
        )


def _upright(picture: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken note, which takes nothing from the pixels
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # which Pillow would clip to 8 bits
        picture = _as_grey(picture)
    if "transparency" in picture.info or picture.mode in SEE_THROUGH:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _as_grey(picture: Image.Image) -> Image.Image:
    """Grey of more than 8 bits in 8.

    Of wider numbers no file says which of them is white: it is the least of 1 (in fractions), 255
    and 65,535 that none exceeds, or else the largest of them.
    """
    values: np.ndarray = np.asarray(picture)
    grey: np.ndarray
    if picture.mode.startswith("I;16"):
        grey = values >> 8
    else:
        values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0).clip(0)
        largest = values.max()
        known = (1, 255, 65_535) if picture.mode == "F" else (255, 65_535)
        white = next((each for each in known if largest <= each), largest)
        grey = np.rint(values / white * 255)
    see_through = picture.info.get("transparency")
    if see_through is not None:
        grey = np.where(values == see_through, 255, grey)
    return Image.fromarray(grey.astype(np.uint8))


def _told(error: BaseException) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", f"{type(error).__name__}: {error}")
