"""Tables of other people: TSV, CSV or Parquet, with column names that have to be guessed."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from extract.errors import UserError, unknown_name

# What a column may be called, the likeliest first; compared without case and punctuation.
GUESSES = {
    "user": ("userid", "user", "reviewerid", "customerid", "uid"),
    "item": ("itemid", "item", "articleid", "parentasin", "asin", "productid", "movieid", "iid"),
    "rating": ("rating", "stars", "score", "overall"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "datetime", "date", "tdat"),
    "label": ("xlabel", "split"),
    "text": ("text",),
    "title": ("title", "name", "prodname", "productname", "itemname"),
    "description": ("description", "overview", "detaildesc", "summary", "abstract"),
    "image": ("image", "imagepath", "imagefile", "picture", "poster", "filename"),
}


@dataclass(frozen=True)
class Columns:
    """A table together with the file it came from, for messages."""

    path: Path
    table: pa.Table

    def find(self, role: str, given: str | None = None) -> str | None:
        """The name of the column that plays a role: the one given, or the likeliest guess.

        Args:
            role: A key of `GUESSES`.
            given: What the user says it is called; the part before a colon is enough.

        Raises:
            UserError: There is no column of the given name.
        """
        if given is not None:
            return self.named(given)
        plain = {_plain(name): name for name in reversed(self.table.column_names)}
        return next((plain[guess] for guess in GUESSES[role] if guess in plain), None)

    def need(self, role: str, given: str | None = None) -> str:
        """As `find`, but the column must exist.

        Raises:
            UserError: None is found; says how to name it.
        """
        name = self.find(role, given)
        if name is None:
            raise UserError(
                f"{self.path} has no column that looks like the {role}; found "
                f"{', '.join(self.table.column_names)}; expected one such as {GUESSES[role][0]!r}, "
                "or its name by option"
            )
        return name

    def named(self, name: str) -> str:
        """The column of that name, or of that name before a colon.

        Raises:
            UserError: There is none; names the nearest.
        """
        by_short_name = {full.partition(":")[0]: full for full in self.table.column_names}
        if name in self.table.column_names:
            return name
        if name in by_short_name:
            return by_short_name[name]
        raise unknown_name(f"column of {self.path}", name, self.table.column_names)

    def ids(self, name: str) -> pa.Array:
        """A column of ids as text, never as numbers: ``007`` stays ``007``.

        Raises:
            UserError: An id is missing, or the ids are fractions.
        """
        column = self.table[name]
        if not (_is_text(column.type) or pa.types.is_integer(column.type)):
            raise UserError(
                f"the column {name!r} of {self.path} holds ids as {column.type}; expected text or "
                "whole numbers, as others do not survive conversion"
            )
        ids = self.words(name)
        lacking = pc.sum(pc.or_kleene(pc.is_null(ids), pc.equal(ids, ""))).as_py() or 0
        if lacking:
            raise UserError(
                f"{lacking} of {len(ids)} rows of {self.path} have an empty {name!r}; remove or "
                "complete them"
            )
        return ids

    def words(self, name: str) -> pa.Array:
        """A column as text, null where empty.

        Raises:
            UserError: It holds something that cannot be written as text.
        """
        return self._cast(name, pa.string(), "text")

    def numbers(self, name: str) -> pa.Array:
        """A column as float64, null where empty.

        Raises:
            UserError: A value is not a number.
        """
        return self._cast(name, pa.float64(), "numbers")

    def times(self, name: str) -> pa.Array:
        """A column as int64: whole numbers as they are, dates as seconds since 1970.

        Raises:
            UserError: A value is neither, or more than int64 holds.
        """
        column = self.table[name]
        expected = "times as numbers or dates"
        if pa.types.is_integer(column.type):
            return self._cast(name, pa.int64(), expected)
        if pa.types.is_temporal(column.type) or (_is_text(column.type) and _has_dashes(column)):
            expected = "dates such as 2020-01-31 23:59:59"
            return self._cast(name, pa.timestamp("s"), expected).cast(pa.int64())
        # Through float, since many files write whole seconds as 881250949.0; it holds them exactly
        # up to 2^53.
        seconds = pc.floor(self._cast(name, pa.float64(), expected))
        return self._cast(name, pa.int64(), expected, seconds)

    def _cast(
        self, name: str, kind: pa.DataType, expected: str, values: pa.Array | None = None
    ) -> pa.Array:
        """A column, or what was already made of it, as another type."""
        column = self.table[name].combine_chunks() if values is None else values
        try:
            return pc.cast(column, kind, safe=not pa.types.is_temporal(kind))
        except pa.ArrowException as error:
            raise UserError(
                f"the column {name!r} of {self.path} should hold {expected}: {_short(error)}"
            ) from error


def read_columns(path: Path) -> Columns:
    """A TSV, CSV or Parquet file; the columns of the first two are all text.

    A Parquet file is known by its name, ``.parquet``; in other files a tab in the first line says
    that tabs part the columns, else commas do. Fields may be quoted, and an empty one is null.

    Raises:
        UserError: The file is missing, empty, torn, not UTF-8, or names a column twice.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pq.read_table(path)
            table.validate(full=True)  # Parquet itself does not refuse strings that are not UTF-8
        else:
            table = _read_text_table(path)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read, expected a Parquet file named .parquet, or UTF-8 text with "
            f"tabs or commas: {_short(error)}"
        ) from error
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise UserError(f"{path} has more than one column {twice[0]!r}; rename all but one")
    if not table.num_rows:
        raise UserError(f"{path} has no rows below its header")
    return Columns(path, table)


def _read_text_table(path: Path) -> pa.Table:
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig").strip("\r\n")
    if not header.strip():
        raise UserError(f"{path} is empty; expected a line of column names first")
    delimiter = "\t" if "\t" in header else ","
    names = next(csv.reader([header], delimiter=delimiter))
    return pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            # Only nothing is nothing: "NA" and "None" are words.
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _has_dashes(column: pa.ChunkedArray) -> bool:
    """Whether the first value looks like a date rather than a number."""
    values = pc.drop_null(column)
    return len(values) > 0 and "-" in values[0].as_py()[1:]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
