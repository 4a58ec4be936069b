"""The item table: id, text, picture.

The columns stay in Arrow, where a million items take some hundred megabytes less than as Python
strings. A missing picture is a recorded absence, never a crash and never a silent skip.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from extract.errors import UserError
from extract.pictures import PictureProblem, open_picture

# Details of an absence that is the catalogue's own choice, not a fault of what it names.
NO_PICTURE = "the catalogue names none"
NO_TEXT = "the catalogue has none"


@dataclass(frozen=True)
class Catalog:
    """Items in order, with their texts and where their pictures lie.

    Attributes:
        item_ids: External ids, distinct, as strings.
        texts: One text per item, or null.
        images: One path per item, relative to `folder` with forward slashes, or null.
        folder: The folder of the pictures.
    """

    item_ids: pa.ChunkedArray
    texts: pa.ChunkedArray
    images: pa.ChunkedArray
    folder: Path

    def __post_init__(self) -> None:
        """Check that the columns are of one length, and that ids are there and come once."""
        if not len(self.item_ids) == len(self.texts) == len(self.images):
            raise ValueError("ids, texts and pictures must describe the same items")
        if self.item_ids.null_count:
            row = pc.index(self.item_ids.is_null(), True).as_py()
            raise UserError(f"every item needs an id, row {row} of the catalogue has none")
        repeated = len(self) - pc.count_distinct(self.item_ids).as_py()
        if repeated:
            counts = pc.value_counts(self.item_ids)
            twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
            raise UserError(
                f"item ids must be distinct; {len(twice)} of them come more than once, such as "
                f"{twice[0].as_py()!r}; prepare the data set again"
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
        item_ids, texts, images = (_strings(table, name) for name in ("item_id", "text", "image"))
        return cls(item_ids, texts, images, folder)

    @classmethod
    def from_columns(
        cls,
        item_ids: Sequence[str],
        texts: Sequence[str | None],
        images: Sequence[str | None],
        folder: Path,
    ) -> "Catalog":
        """The catalogue of three columns in Python."""
        columns = {"item_id": item_ids, "text": texts, "image": images}
        table = pa.table({name: pa.array(c, pa.string()) for name, c in columns.items()})
        return cls.from_table(table, folder)

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of image and text of which at least one item has something."""
        columns = {"image": self.images, "text": self.texts}
        return tuple(
            name
            for name, column in columns.items()
            if (pc.max(pc.binary_length(column)).as_py() or 0) > 0
        )

    def item_id(self, row: int) -> str:
        """The id of an item."""
        return self.item_ids[row].as_py()

    def text(self, row: int) -> str | None:
        """The text of an item."""
        return self.texts[row].as_py()

    def picture_bytes(self, row: int) -> bytes:
        """The picture file of an item.

        Raises:
            PictureProblem: It is missing, outside the folder, or cannot be read.
        """
        path = self.images[row].as_py()
        if not path:
            raise PictureProblem("missing", NO_PICTURE)
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
        return content_digest(self.text(row), picture)


def content_digest(text: str | None, picture: bytes | None) -> str:
    """A digest of a text and of a picture file's bytes; absent and empty are told apart."""
    hasher = hashlib.sha256()
    for part in (None if text is None else text.encode("utf-8", "surrogatepass"), picture):
        # The length before each part keeps two different pairs from reading the same.
        hasher.update(b"-" if part is None else b"+%d:" % len(part))
        hasher.update(part or b"")
    return hasher.hexdigest()[:32]


def _strings(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    return table[name].cast(pa.string())
