"""The item table: id, text, picture.

The columns stay in Arrow, where a million items take some hundred megabytes less than as Python
strings. A missing picture is a recorded absence, never a crash and never a silent skip.
"""

import os
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from extract.errors import UserError
from extract.files import is_remote
from extract.ledger import NO_PICTURE
from extract.pictures import PictureProblem, open_picture

# The most pixels that are decoded, at eight bytes each and not compressed at all, take less.
MAX_BYTES = 2**30
# Unicode's categories of characters that leave no ink.
UNSEEN = {"Cc", "Cf", "Zl", "Zp", "Zs"}

# Of a path in the ledger, in letters.
LONGEST_TOLD = 200


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
        # By sorting, which needs a quarter of the memory of counting them.
        ordered = self.item_ids.take(pc.sort_indices(self.item_ids))
        twice = pc.unique(ordered[1:].filter(pc.equal(ordered[1:], ordered[:-1])))
        if len(twice):
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

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The ids of some items."""
        # One by one: for each `take` Arrow would first make one piece of the whole column.
        return [self.item_ids[int(row)].as_py() for row in rows]

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
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise PictureProblem("outside", f"{_short(path)} leaves the folder of pictures")
        try:
            if not is_remote(self.folder):
                _check_file(path, self._root)
            return (self.folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise PictureProblem("missing", f"there is no file {_short(path)}") from error
        except OSError as error:
            # A server that fails says nothing of the picture; one that refuses a single one does.
            if is_remote(self.folder) and not isinstance(error, PermissionError):
                raise
            reason = error.strerror or str(error)
            raise PictureProblem("unreadable", f"{_short(path)}: {_short(reason)}") from error
        except ValueError as error:  # a NUL or half a surrogate pair, which no name of a file holds
            detail = f"{_short(path)!r} names no file: {error}"
            raise PictureProblem("missing", detail) from error

    @cached_property
    def _root(self) -> str:
        # The folder itself may be a link: where it leads is the user's choice.
        return os.path.realpath(self.folder)

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


def _short(path: str) -> str:
    # Some catalogues hold whole pictures where a path should be.
    return path if len(path) <= LONGEST_TOLD else f"{path[:LONGEST_TOLD]}..."


def _check_file(path: str, root: str) -> None:
    """Refuse what is not a plain file of a sane size within the root, without opening it."""
    resolved = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath([resolved, root]) != root:
        raise PictureProblem("outside", f"{path} is a link that leaves the folder of pictures")
    found = os.stat(resolved)
    if not stat.S_ISREG(found.st_mode):  # to read a pipe could take forever
        raise PictureProblem("unreadable", f"{path} is not a plain file")
    if found.st_size > MAX_BYTES:
        raise PictureProblem("too_large", f"{path} has {found.st_size:,} bytes")


def is_blank(text: str | None) -> bool:
    """Whether a text has nothing to see: only white space, control and zero-width characters."""
    return all(unicodedata.category(letter) in UNSEEN for letter in text or "")


def content_digest(text: str | None, picture: bytes | None) -> str:
    """A digest of a text and of a picture file's bytes; absent and empty are told apart."""
    return content_of(text, None if picture is None else sha256(picture).digest())


def content_of(text: str | None, picture: bytes | None) -> str:
    """`content_digest` from a text and the SHA-256 of a picture file."""
    letters = None if text is None else text.encode("utf-8", "surrogatepass")
    return content_digests([letters], [picture])[0][:16].hex()


def content_digests(texts: Iterable[bytes | None], pictures: Iterable[bytes | None]) -> list[bytes]:
    """32 bytes per item, of which the first 16 are its content digest.

    Args:
        texts: In UTF-8.
        pictures: The SHA-256 of each picture file.
    """
    # The length before the text keeps two different pairs from reading the same.
    return [
        sha256(
            (b"-" if text is None else b"+%d:%b" % (len(text), text)) + (picture or b"-")
        ).digest()
        for text, picture in zip(texts, pictures, strict=True)
    ]


def _strings(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    try:
        column = table[name].cast(pa.string())
        column.validate(full=True)  # other writers of Parquet do not look at what they write
        return column
    except pa.ArrowException as error:
        raise UserError(
            f"the column {name} of the catalogue is no text in UTF-8 ({error}); prepare the data "
            "set again"
        ) from error
