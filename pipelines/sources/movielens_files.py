"""What is in GroupLens' archives of MovieLens: ratings and films, in the three forms they have had.

Members are read from the archive by their published names, in passing: nothing is unpacked, and no
path of the archive becomes a file.

- 100K: ``u.data`` with tabs; ``u.item`` with bars and a flag for each genre; Latin-1.
- 1M: ``ratings.dat`` and ``movies.dat`` with double colons; Latin-1.
- 25M and 32M: ``ratings.csv``, ``movies.csv`` and ``links.csv``; UTF-8.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol
from zipfile import BadZipFile, ZipFile

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from extract.errors import UserError

# In bytes, unpacked; the ratings of 32M are .9 GB.
LARGEST = 4 << 30
# The last one, as "(500) Days of Summer (2009)" has two; a series has a span of years.
YEAR = re.compile(r".*\((\d{4})(?:[-–]\d{0,4})?\)", re.DOTALL)
# What stands in place of a genre where none is known.
NO_GENRE = ("unknown", "(no genres listed)")
RATING_TYPES = {
    "user_id": pa.string(),
    "item_id": pa.string(),
    "rating": pa.float64(),
    "timestamp": pa.int64(),
}
FILM_SCHEMA = pa.schema(
    {
        "item_id": pa.string(),
        "title": pa.string(),
        "year": pa.int64(),
        "genres": pa.list_(pa.string()),
    }
)


class Archive:
    """One release's zip file; made by `opened`.

    Args:
        files: The open zip file.
        release: What its only folder is called.
    """

    def __init__(self, files: ZipFile, release: str) -> None:
        self._files, self._release = files, release

    def open(self, member: str) -> IO[bytes]:
        """A member's bytes, unpacked while they are read."""
        info = self._files.getinfo(f"{self._release}/{member}")
        if info.file_size > LARGEST:
            raise ValueError(f"{info.filename} is said to have {info.file_size:,} bytes")
        return self._files.open(info)

    def lines(self, member: str) -> Iterator[str]:
        """A member's lines in Latin-1, without blank ones."""
        with self.open(member) as stream:
            for line in stream:
                text = line.decode("latin-1").rstrip("\r\n")
                if text.strip():
                    yield text


@contextmanager
def opened(path: Path, release: str) -> Iterator[Archive]:
    """The archive of a release.

    Raises:
        UserError: It is torn or lacks something, or what is read of it inside is not in the
            published form.
    """
    try:
        with ZipFile(path) as files:
            yield Archive(files, release)
    # An unknown or encrypted packing is a NotImplementedError or a RuntimeError.
    except (BadZipFile, zlib.error, EOFError, RuntimeError, KeyError, ValueError) as error:
        told = " ".join(str(error.args[0] if error.args else error).split())[:200]
        raise UserError(
            f"{path} is not the archive {release}.zip as it is published ({told}); remove the file "
            "and run the same command again"
        ) from error


class Form(Protocol):
    """How a release is written down."""

    def ratings(self, archive: Archive) -> pa.Table:
        """user_id, item_id, rating, timestamp of all ratings."""

    def films(self, archive: Archive) -> pa.Table:
        """item_id, title, year, genres, and what else is known of all films."""


class Form100K:
    """The form of 100K."""

    def ratings(self, archive: Archive) -> pa.Table:
        """All ratings."""
        with archive.open("u.data") as stream:
            return _ratings(stream, "\t", list(RATING_TYPES))

    def films(self, archive: Archive) -> pa.Table:
        """All films."""
        genres = [line.partition("|")[0] for line in archive.lines("u.genre")]
        rows = []
        for line in archive.lines("u.item"):
            # Id, title, two dates, the address of a page that is no more; then the flags.
            item_id, title, _, _, _, *flags = _parts(line, "|", 5 + len(genres))
            rows.append((item_id, title, [g for g, f in zip(genres, flags, strict=True) if f != "0"]))
        return _films(rows)


class Form1M:
    """The form of 1M."""

    def ratings(self, archive: Archive) -> pa.Table:
        """All ratings."""
        # Of two colons each second one ends an empty column.
        user, item, rating, timestamp = RATING_TYPES
        names = [user, "gap 1", item, "gap 2", rating, "gap 3", timestamp]
        with archive.open("ratings.dat") as stream:
            return _ratings(stream, ":", names)

    def films(self, archive: Archive) -> pa.Table:
        """All films."""
        rows = []
        for line in archive.lines("movies.dat"):
            item_id, title, genres = _parts(line, "::", 3)
            rows.append((item_id, title, genres.split("|")))
        return _films(rows)


class FormCSV:
    """The form of 25M and 32M."""

    def ratings(self, archive: Archive) -> pa.Table:
        """All ratings."""
        with archive.open("ratings.csv") as stream:
            types = dict(zip(("userId", "movieId", "rating", "timestamp"), RATING_TYPES.values()))
            return _complete(_table(stream, types).rename_columns(list(RATING_TYPES)))

    def films(self, archive: Archive) -> pa.Table:
        """All films, with their numbers at IMDb and TMDB."""
        with archive.open("movies.csv") as stream:
            table = _table(stream, dict.fromkeys(("movieId", "title", "genres"), pa.string()))
        ids, titles, genres = (column.to_pylist() for column in table.columns)
        films = _films(zip(ids, titles, (each.split("|") for each in genres), strict=True))
        with archive.open("links.csv") as stream:
            links = _table(stream, dict.fromkeys(("movieId", "imdbId", "tmdbId"), pa.string()))
        rows = pc.index_in(films["item_id"], value_set=links["movieId"].combine_chunks())
        for name, column in (("imdb_id", "imdbId"), ("tmdb_id", "tmdbId")):
            films = films.append_column(name, links[column].take(rows))
        return films


FORMS: dict[str, Form] = {
    "ml-100k": Form100K(),
    "ml-1m": Form1M(),
    "ml-25m": FormCSV(),
    "ml-32m": FormCSV(),
}
