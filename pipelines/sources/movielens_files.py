"""What is in GroupLens' archives of MovieLens: ratings and films, in the three forms they have had.

Members are read from the archive by their published names, in passing: nothing is unpacked, and no
path of the archive becomes a file.

- 100K: ``u.data`` with tabs; ``u.item`` with bars and a flag for each genre; Latin-1.
- 1M: ``ratings.dat`` and ``movies.dat`` with double colons; Latin-1.
- 25M and 32M: ``ratings.csv``, ``movies.csv`` and ``links.csv``; UTF-8.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple
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
TEXT = pa.string()
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


class Release(NamedTuple):
    """How a release is read.

    Attributes:
        ratings: Gives user_id, item_id, rating, timestamp of all ratings.
        films: Gives item_id and `columns` of all films.
        columns: What is known of a film.
    """

    ratings: Callable[[Archive], pa.Table]
    films: Callable[[Archive], pa.Table]
    columns: Sequence[str]


def _ratings_of_100k(archive: Archive) -> pa.Table:
    return _ratings(archive, "u.data", "\t", list(RATING_TYPES))


def _films_of_100k(archive: Archive) -> pa.Table:
    genres = [line.partition("|")[0] for line in archive.lines("u.genre")]
    rows = []
    for line in archive.lines("u.item"):
        # Id, title, two dates, the address of a page; then a flag for each genre.
        item_id, title, _, _, _, *flags = _parts(line, "|", 5 + len(genres))
        named = zip(genres, flags, strict=True)
        rows.append((item_id, title, [genre for genre, flag in named if flag != "0"]))
    return _films(rows)


def _ratings_of_1m(archive: Archive) -> pa.Table:
    # Between two colons lies an empty column.
    user, item, rating, timestamp = RATING_TYPES
    return _ratings(archive, "ratings.dat", ":", [user, "", item, " ", rating, "  ", timestamp])


def _films_of_1m(archive: Archive) -> pa.Table:
    rows = []
    for line in archive.lines("movies.dat"):
        item_id, title, genres = _parts(line, "::", 3)
        rows.append((item_id, title, genres.split("|")))
    return _films(rows)


def _ratings_of_csv(archive: Archive) -> pa.Table:
    names = ("userId", "movieId", "rating", "timestamp")
    types = dict(zip(names, RATING_TYPES.values(), strict=True))
    table = _csv(archive, "ratings.csv", types)
    return _complete(table.rename_columns(list(RATING_TYPES)))


def _films_of_csv(archive: Archive) -> pa.Table:
    movies = _csv(archive, "movies.csv", dict.fromkeys(("movieId", "title", "genres"), TEXT))
    links = _csv(archive, "links.csv", dict.fromkeys(("movieId", "imdbId", "tmdbId"), TEXT))
    ids, titles, genres = (column.to_pylist() for column in movies.columns)
    films = _films(zip(ids, titles, ((each or "").split("|") for each in genres), strict=True))
    rows = pc.index_in(films["item_id"], value_set=links["movieId"].combine_chunks())
    for name, column in (("imdb_id", "imdbId"), ("tmdb_id", "tmdbId")):
        films = films.append_column(name, links[column].take(rows))
    return films


OF_A_FILM = ("title", "year", "genres")
_CSV = Release(_ratings_of_csv, _films_of_csv, (*OF_A_FILM, "imdb_id", "tmdb_id"))
RELEASES = {
    "ml-100k": Release(_ratings_of_100k, _films_of_100k, OF_A_FILM),
    "ml-1m": Release(_ratings_of_1m, _films_of_1m, OF_A_FILM),
    "ml-25m": _CSV,
    "ml-32m": _CSV,
}


def _ratings(archive: Archive, member: str, delimiter: str, names: Sequence[str]) -> pa.Table:
    """The ratings of a member without a line of names; a column of another name must be empty."""
    types = {name: RATING_TYPES.get(name, pa.null()) for name in names}
    table = _table(
        archive,
        member,
        types,
        pacsv.ReadOptions(column_names=names),
        pacsv.ParseOptions(delimiter=delimiter, quote_char=False),
    )
    return _complete(table.select(list(RATING_TYPES)))


def _csv(archive: Archive, member: str, types: Mapping[str, pa.DataType]) -> pa.Table:
    return _table(archive, member, types, pacsv.ReadOptions(), pacsv.ParseOptions())


def _table(
    archive: Archive,
    member: str,
    types: Mapping[str, pa.DataType],
    reading: pacsv.ReadOptions,
    parsing: pacsv.ParseOptions,
) -> pa.Table:
    converting = pacsv.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        null_values=[""],
        strings_can_be_null=True,
    )
    with archive.open(member) as stream:
        return pacsv.read_csv(stream, reading, parsing, converting)


def _complete(ratings: pa.Table) -> pa.Table:
    """The ratings as they are.

    Raises:
        ValueError: A value is missing.
    """
    for name, column in zip(ratings.column_names, ratings.columns, strict=True):
        if column.null_count:
            raise ValueError(f"{column.null_count:,} of {len(column):,} ratings have no {name}")
    return ratings


def _films(rows: Iterable[tuple[str, str | None, Sequence[str]]]) -> pa.Table:
    """A table of ids, titles and genres, and the years in the titles."""
    films = []
    for item_id, title, genres in rows:
        known = [genre for genre in genres if genre and genre not in NO_GENRE]
        year = YEAR.match(title or "")
        films.append((item_id, title, int(year[1]) if year else None, known or None))
    return pa.table(list(zip(*films, strict=True)), schema=FILM_SCHEMA)


def _parts(line: str, delimiter: str, count: int) -> list[str]:
    parts = line.split(delimiter)
    if len(parts) != count:
        raise ValueError(f"expected {count} parts between {delimiter!r}, found {line[:60]!r}")
    return parts
