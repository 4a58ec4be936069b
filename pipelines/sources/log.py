"""The log on its way into a data set: read, filtered, in its one order, split.

A log is an Arrow table of user_id, item_id, where known timestamp and rating, and in the end split.
Its rows are sorted by user, then item, as text, so that the order of the rows in the source leaves
no trace.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationInfo, field_validator

from extract.errors import UserError
from pipelines.config import Config, Seed
from pipelines.progress import Reporter
from pipelines.sources.reading import Columns, read_columns
from pipelines.workspace import SPLITS
from recommend.splits import (
    check_ratios,
    item_cold_split,
    k_core,
    mmrec_split,
    random_split,
    temporal_split,
)

RATIOS = (0.8, 0.1, 0.1)


class LogColumns(Config):
    """What the columns of a log are called; guessed where not given."""

    user_column: str | None = Field(None, description="Column of user ids.  [default: guessed]")
    item_column: str | None = Field(
        None, description="Column of item ids, in both files.  [default: guessed]"
    )
    rating_column: str | None = Field(None, description="Column of ratings.  [default: guessed]")
    timestamp_column: str | None = Field(None, description="Column of times.  [default: guessed]")


class SplitConfig(Config):
    """Which interactions are for training, validation and test."""

    split: Literal["random", "temporal", "item-cold", "mmrec"] = Field(
        "random", description="How held-out interactions are chosen."
    )
    ratios: tuple[float, ...] = Field(
        RATIOS, description="Shares of training, validation and test."
    )
    seed: Seed = Field(0, description="Seed of everything drawn.")

    @field_validator("ratios")
    @classmethod
    def _check_fits_the_split(
        cls, ratios: tuple[float, ...], info: ValidationInfo
    ) -> tuple[float, ...]:
        if info.data.get("split") == "mmrec" and ratios != RATIOS:
            raise UserError(
                "the split mmrec has a rule of its own for how much is held out, about "
                f"{','.join(map(str, RATIOS))}; leave the ratios away, or ask for the split random"
            )
        return ratios


class Steps:
    """A log that becomes smaller step by step; each step is counted and told.

    Args:
        log: All interactions.
        reporter: Where to tell the counts.

    Attributes:
        log: The interactions that are left.
        counts: How many were read, and how many each step left out.
    """

    def __init__(self, log: pa.Table, reporter: Reporter) -> None:
        self.log = log
        self.counts: dict[str, int] = {}
        self._reporter = reporter
        self._count("interactions read", log.num_rows)

    def leave_out(self, what: str, left: pa.Table) -> None:
        """Go on with those that are left.

        Args:
            what: What the others are, such as ``"rated below 4"``.
            left: The log without them.

        Raises:
            UserError: Nothing is left.
        """
        if not left.num_rows:
            raise UserError(f"no interaction is left after leaving out those {what}; ask for less")
        if left.num_rows < self.log.num_rows:
            self._count(what, self.log.num_rows - left.num_rows)
        self.log = left

    def _count(self, what: str, count: int) -> None:
        self.counts[what] = count
        self._reporter.say(f"{what}: {count:,}")


def read_log(path: Path, names: LogColumns) -> tuple[pa.Table, Columns]:
    """Users, items, times and ratings of a file, all rows as they stand, and the file's columns.

    Raises:
        UserError: A column is missing or does not hold what it should.
    """
    source = read_columns(path)
    columns = {
        "user_id": source.ids(source.need("user", names.user_column)),
        "item_id": source.ids(source.need("item", names.item_column)),
    }
    timestamp = source.find("timestamp", names.timestamp_column)
    if timestamp:
        columns["timestamp"] = source.times(timestamp)
    rating = source.find("rating", names.rating_column)
    if rating:
        columns["rating"] = source.numbers(rating)
    return pa.table(columns), source


def rated_at_least(log: pa.Table, min_rating: float) -> pa.Table:
    """The interactions with that rating or a higher one; those without a rating go.

    Raises:
        UserError: The log has no ratings.
    """
    if "rating" not in log.column_names:
        raise UserError("a least rating was asked for, but the log has no column of ratings")
    return log.filter(pc.greater_equal(log["rating"], min_rating))


def of_known_items(log: pa.Table, item_ids: pa.Array, unknown: str) -> pa.Table:
    """The interactions whose item is in the catalogue.

    Args:
        log: The interactions.
        item_ids: The catalogue.
        unknown: What to do with the others: ``error`` or ``drop``.

    Raises:
        UserError: There are others, and they are not to be dropped.
    """
    known = pc.is_in(log["item_id"], value_set=item_ids)
    lost = log.filter(pc.invert(known))
    if lost.num_rows and unknown == "error":
        raise UserError(
            f"{lost.num_rows} of {log.num_rows} interactions are with "
            f"{pc.count_distinct(lost['item_id'])} items that the items file lacks, such as "
            f"{lost['item_id'][0].as_py()!r}; complete the file, or leave them out with "
            "--unknown-items drop"
        )
    return log.filter(known)


def in_order(log: pa.Table) -> pa.Table:
    """Sorted by user, then item, as text; repeated pairs by time, then by what else is known."""
    return log.sort_by([(name, "ascending") for name in log.column_names])


def first_of_each_pair(log: pa.Table) -> pa.Table:
    """One interaction of each pair, the earliest; without times the first in order.

    Args:
        log: Interactions in order.
    """
    return log.filter(pa.array(~repeats(log)))


def repeats(log: pa.Table) -> np.ndarray:
    """Which rows of a log in order repeat the pair above them, (n,) bool."""
    users, items = numbered(log["user_id"]), numbered(log["item_id"])
    same = np.zeros(log.num_rows, bool)
    same[1:] = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    return same


def core(log: pa.Table, k: int) -> pa.Table:
    """The k-core: every user and every item that stays has at least k interactions."""
    return log.filter(pa.array(k_core(numbered(log["user_id"]), numbered(log["item_id"]), k)))


def split_log(log: pa.Table, config: SplitConfig) -> pa.Table:
    """The log with its column ``split``.

    Raises:
        UserError: The ratios are no ratios, or times are asked for that the log does not have.
    """
    check_ratios(config.ratios)
    users, items = numbered(log["user_id"]), numbered(log["item_id"])
    if config.split == "temporal":
        labels = temporal_split(_times(log), config.ratios)
    elif config.split == "item-cold":
        labels = item_cold_split(items, config.ratios, config.seed)
    elif config.split == "mmrec":
        labels = mmrec_split(users, items, config.seed)
    else:
        labels = random_split(users, items, config.ratios, config.seed)
    return log.append_column("split", pa.array(np.array(SPLITS)[labels]))


def numbered(ids: pa.ChunkedArray) -> np.ndarray:
    """The rank of each id among the distinct ids as text, (n,) int64."""
    encoded = ids.combine_chunks().dictionary_encode()
    order = np.argsort(np.array(encoded.dictionary.to_pylist(), dtype=object))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()]


def _times(log: pa.Table) -> np.ndarray:
    if "timestamp" not in log.column_names:
        raise UserError("a temporal split needs times, but the log has no column of them")
    lacking = log["timestamp"].null_count
    if lacking:
        raise UserError(f"a temporal split needs times; {lacking} of {log.num_rows} rows have none")
    return log["timestamp"].to_numpy()
