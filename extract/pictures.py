"""From a picture file's bytes to pixels.

A broken picture is a recorded absence, never a crash and never a silent skip.
"""

import io
import warnings

from PIL import Image, ImageOps

# Below the size at which Pillow itself warns of decompression bombs.
MAX_PIXELS = 80_000_000
# A hair line, scaled until its short side fits an encoder, would fill the memory.
MAX_ASPECT = 100


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


def open_picture(data: bytes) -> Image.Image:
    """Decode a picture file: upright by its EXIF note, RGB, transparent parts over white.

    Raises:
        PictureProblem: It cannot be decoded or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
        _check_size(*picture.size)
        return _as_rgb(ImageOps.exif_transpose(picture))
    except PictureProblem:
        raise
    except Image.DecompressionBombError as error:
        raise PictureProblem("too_large", str(error)) from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds of errors on broken files
        raise PictureProblem("unreadable", f"{type(error).__name__}: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureProblem(
            "too_large", f"{width} x {height} pixels, at most {MAX_PIXELS:,} are decoded"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureProblem("unreadable", f"{width} x {height} pixels are a line, not a picture")


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 8 bits
        picture = picture.point(lambda value: value / 256).convert("L")
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")
