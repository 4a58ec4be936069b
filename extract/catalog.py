"""The item table: id, text, picture.

A broken or missing picture is a recorded absence, never a crash and never a silent skip.
"""

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from PIL import Image, ImageOps

from extract.errors import UserError

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


@dataclass(frozen=True)
class Catalog:
    """Items in order, with their texts and where their pictures lie.

    Attributes:
        item_ids: External ids, distinct.
        texts: One text per item, or None.
        images: One path per item, relative to `folder` with forward slashes, or None.
        folder: The folder of the pictures.
    """

    item_ids: Sequence[str]
    texts: Sequence[str | None]
    images: Sequence[str | None]
    folder: Path

    def __post_init__(self) -> None:
        """Check that the columns are of one length and that no id comes twice."""
        if not len(self.item_ids) == len(self.texts) == len(self.images):
            raise ValueError("ids, texts and pictures must describe the same items")
        twice = [item for item, count in Counter(self.item_ids).items() if count > 1]
        if twice:
            raise UserError(
                f"item ids must be distinct; {len(twice)} of them come more than once, such as "
                f"{twice[0]!r}; prepare the data set again"
            )

    @classmethod
    def from_table(cls, table: pa.Table, folder: Path) -> "Catalog":
        """The catalogue of an item table.

        Args:
            table: Columns item_id, text, image; a missing text or image column counts as all null.
            folder: The folder that the picture paths start from.

        Raises:
            UserError: An id is null or comes twice.
        """
        ids = table["item_id"].cast(pa.string()).to_pylist()
        if None in ids:
            raise UserError(
                f"every item needs an id, row {ids.index(None)} of the catalogue has none"
            )
        return cls(ids, _strings(table, "text"), _strings(table, "image"), folder)

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of image and text of which at least one item has something."""
        columns = {"image": self.images, "text": self.texts}
        return tuple(name for name, column in columns.items() if any(column))

    def picture_bytes(self, row: int) -> bytes:
        """The picture file of an item.

        Raises:
            PictureProblem: It is missing, outside the folder, or cannot be read.
        """
        path = self.images[row]
        if not path:
            raise PictureProblem("missing", "the catalogue names none")
        # Judged by the path alone: a folder of links to pictures elsewhere is the user's choice.
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise PictureProblem("outside", f"{path} leaves the folder of pictures")
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError as error:
            raise PictureProblem("missing", f"there is no file {path}") from error
        except OSError as error:
            raise PictureProblem("unreadable", f"{path}: {error.strerror}") from error

    def picture(self, row: int) -> Image.Image:
        """The picture of an item, as `open_picture` gives it.

        Raises:
            PictureProblem: There is none, for the reason it tells.
        """
        return open_picture(self.picture_bytes(row))

    def content(self, row: int) -> str:
        """The digest of an item's text and picture file."""
        try:
            picture = self.picture_bytes(row)
        except PictureProblem:
            picture = None
        return content_digest(self.texts[row], picture)


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


def content_digest(text: str | None, picture: bytes | None) -> str:
    """A digest of a text and of a picture file's bytes; absent and empty are told apart."""
    hasher = hashlib.sha256()
    for part in (None if text is None else text.encode("utf-8", "surrogatepass"), picture):
        # The length before each part keeps two different pairs from reading the same.
        hasher.update(b"-" if part is None else b"+%d:" % len(part))
        hasher.update(part or b"")
    return hasher.hexdigest()[:32]


def _strings(table: pa.Table, name: str) -> list[str | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    return table[name].cast(pa.string()).to_pylist()


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
