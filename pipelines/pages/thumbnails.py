"""Small pictures of items, as base64 of WebP; a picture that cannot be shown says why."""

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from PIL import Image

from extract.catalog import Catalog
from extract.pictures import PictureProblem, open_picture
from pipelines.progress import Reporter

SIDE = 96
QUALITY = 60
# Pillow lets go of Python's lock while it decodes; more only wait for each other.
THREADS = 8
# Of a reason, in letters: it may hold a path as long as the catalogue likes.
LONGEST_REASON = 300
LEFT_OUT = "pictures were left out of this page"

# The picture, or why there is none.
Thumbnail = tuple[str | None, str | None]


def thumbnails(
    catalog: Catalog, rows: Sequence[int] | np.ndarray, reporter: Reporter
) -> list[Thumbnail]:
    """A thumbnail of each item, in the order of `rows`.

    Args:
        catalog: The items.
        rows: Which.
        reporter: Where to tell progress.
    """
    found = []
    with (
        ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool,
        reporter.bar("pictures", len(rows)) as advance,
    ):
        for each in pool.map(partial(thumbnail, catalog), map(int, rows)):
            found.append(each)
            advance()
    return found


def thumbnail(catalog: Catalog, row: int) -> Thumbnail:
    """The small picture of one item and None, or None and why there is none."""
    try:
        picture = open_picture(catalog.picture_bytes(row), SIDE)
    except PictureProblem as problem:
        return None, f"{problem.kind}: {problem.detail}"[:LONGEST_REASON]
    return base64.b64encode(_webp(picture)).decode("ascii"), None


def _webp(picture: Image.Image) -> bytes:
    """At most `SIDE` pixels wide and high, and nothing but pixels."""
    picture.thumbnail((SIDE, SIDE))
    picture.info.clear()  # it may tell the camera, the place, the owner
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY)
    return file.getvalue()
