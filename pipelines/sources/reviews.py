"""A file of reviews, one record a line, becomes a log.

Where some megabytes of lines are strict JSON without oddities, Arrow parses them in one go; else
they are parsed line by line, several times slower. Both give the same rows, since it is seen
beforehand where Arrow would read what `parse_record` does not.
"""

import math
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from extract.errors import UserError
from pipelines.progress import Reporter
from pipelines.sources.lines import LONGEST, MB, ahead, lines_of, megabytes, read_blocks
from pipelines.sources.loose import parse_record

SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "rating": pa.float64(),
        "timestamp": pa.int64(),
    }
)
# How deep a record may be nested that Python parses without running out of stack.
DEEPEST = 450


@dataclass(frozen=True)
class ReviewFields:
    """What the fields of a review are called."""

    user: str
    item: str
    rating: str
    timestamp: str


class Reviews(NamedTuple):
    """What a file of reviews held.

    Attributes:
        log: user_id and item_id, text and never empty; rating, float64, and timestamp, int64, null
            where they are no numbers. The rows in the order of the file.
        unreadable: How many lines are no such record.
    """

    log: pa.Table
    unreadable: int


def read_reviews(path: Path, fields: ReviewFields, reporter: Reporter) -> Reviews:
    """The log in a file of reviews.

    Args:
        path: A record a line, strict JSON or a Python literal, compressed or not.
        fields: What the fields are called.
        reporter: Where to tell progress.

    Raises:
        UserError: There is no such file, it is torn, or most of its lines are no reviews.
    """
    parts: list[pa.Table] = []
    total, first_unreadable = 0, ""
    size = path.stat().st_size if path.is_file() else 0
    with reporter.bar(f"reading {path.name}", size // MB, "MB") as advance:
        blocks = read_blocks(path, tell=megabytes(advance))
        for block, plain in ahead((block, _is_plain(block)) for block in blocks):
            rows = _at_once(block, fields) if plain else None
            if rows is None:
                rows = _one_by_one(block, fields)
            readable = pc.and_(_is_id(rows["user_id"]), _is_id(rows["item_id"]))
            parts.append(rows.filter(readable))
            if parts[-1].num_rows < rows.num_rows and not first_unreadable:
                row = pc.index(readable, False).as_py()
                first_unreadable = _told(_lines(block)[row])
            total += rows.num_rows
    log = pa.concat_tables([SCHEMA.empty_table(), *parts])
    unreadable = total - log.num_rows
    if not total:
        raise UserError(
            f"{path} has no lines; expected a review in each, remove it and fetch it again"
        )
    if 2 * unreadable > total:
        raise UserError(
            f"{path} is no file of reviews: {unreadable:,} of {total:,} lines are no record with "
            f"texts in {fields.user!r} and {fields.item!r}; the first of them is {first_unreadable}"
        )
    return Reviews(log, unreadable)


def _at_once(block: bytes, fields: ReviewFields) -> pa.Table | None:
    """A row for each line; None where Arrow refuses one, or finds two records in it."""
    names = astuple(fields)
    schema = pa.schema(list(zip(names, SCHEMA.types, strict=True)))
    try:
        table = arrow_json.read_json(
            pa.BufferReader(block),
            arrow_json.ReadOptions(block_size=len(block), use_threads=False),
            arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowException:
        return None
    if table.num_rows != block.count(b"\n") + 1:
        return None
    user, item, rating, timestamp = (table[name] for name in names)
    finite = pc.if_else(pc.is_finite(rating), rating, None)
    return pa.table([user, item, finite, timestamp], schema=SCHEMA)


def _is_plain(block: bytes) -> bool:
    """Whether Arrow takes of these lines, if it takes them, what `parse_record` finds in each."""
    if not block.endswith(b"}"):
        return False
    letters = np.frombuffer(block, np.uint8)
    ends = np.append(np.flatnonzero(letters == ord("\n")), len(block))
    starts = np.append(0, ends[:-1] + 1)
    return bool(
        # No record goes over the end of a line, and no null comes first, which crashes Arrow.
        (letters[starts] == ord("{")).all()
        and (letters[ends - 1] == ord("}")).all()
        and (ends - starts).max() <= LONGEST
        and _brackets(letters, starts).max() <= DEEPEST
        and _is_utf8(block)
    )


def _brackets(letters: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """How many brackets are opened from each start to the next."""
    # One bit is all that parts a square bracket from a curly one.
    opened = np.flatnonzero(letters | (ord("[") ^ ord("{")) == ord("{"))
    return np.diff(np.searchsorted(opened, starts), append=len(opened))


def _is_utf8(block: bytes) -> bool:
    try:
        return block.isascii() or bool(block.decode())
    except UnicodeDecodeError:
        return False


def _lines(block: bytes) -> list[bytes | None]:
    """The lines that are not blank."""
    return [line for line in lines_of(block) if line is None or line.strip()]


def _one_by_one(block: bytes, fields: ReviewFields) -> pa.Table:
    """A row for each line, of nulls where the line is no record."""
    # A line that is too long is None, and so is what is no record.
    records = (parse_record(line or b"") or {} for line in _lines(block))
    rows = [_row(record, fields) for record in records]
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.table(arrays, schema=SCHEMA)


def _row(record: dict[str, Any], fields: ReviewFields) -> tuple[Any, ...]:
    return (
        _text(record.get(fields.user)),
        _text(record.get(fields.item)),
        _rating(record.get(fields.rating)),
        _seconds(record.get(fields.timestamp)),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _rating(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _seconds(value: Any) -> int | None:
    """A whole number of them, as many files write them as 1252800000.0; None beyond 64 bits."""
    return math.floor(value) if _is_number(value) and -(2**63) <= value < 2**63 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_id(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.not_equal(ids, ""), False)


def _told(line: bytes | None) -> str:
    """A line in few words."""
    if line is None:
        return f"longer than {LONGEST:,} bytes"
    text = line.decode("utf-8", "replace")
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
