"""The form of the MMRec toolbox: a table of numbered users and items with its own split."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from extract.errors import UserError
from pipelines.overwriting import Overwriting
from pipelines.progress import Reporter
from pipelines.sources.catalogue import CatalogueConfig, catalogue_of, read_items, source_files
from pipelines.sources.log import (
    LogColumns,
    Steps,
    first_of_each_pair,
    in_order,
    of_known_items,
    read_log,
    repeats,
)
from pipelines.sources.reading import Columns
from pipelines.sources.writing import Prepared
from pipelines.workspace import SPLITS

# What stands in the column of splits; the toolbox writes the numbers.
LABELS = {"0": "train", "1": "validation", "2": "test"}


class InterConfig(CatalogueConfig, LogColumns, Overwriting):
    """Settings of ``mmrec-prepare inter``."""

    dataset: str = Field(description="Name of the data set to make.")
    interactions: Path = Field(description="The .inter file: userID, itemID, x_label.")
    label_column: str | None = Field(
        None, description="Column of splits, 0, 1 or 2.  [default: guessed]"
    )


def prepare(config: InterConfig, reporter: Reporter) -> Prepared:
    """Read and keep the file's own split; numbers become ids as they are written.

    Raises:
        UserError: The files do not fit together, a label is not one of `LABELS`, or a pair stands
            in two splits.
    """
    log, source = read_log(config.interactions, config)
    log = log.append_column("split", _splits(source, config))
    rows = read_items(config.items, config.item_column, log)
    steps = Steps(log, reporter)
    steps.leave_out("with unknown items", of_known_items(log, rows.ids, config.unknown_items))
    ordered = in_order(steps.log)
    _check_no_pair_in_two_splits(ordered, config.interactions)
    steps.leave_out("that repeat a pair", first_of_each_pair(ordered))
    items, pictures = catalogue_of(rows, steps.log, config)
    files = source_files(config, config.interactions)
    return Prepared("inter", items, steps.log, pictures, config, steps.counts, files)


def _splits(source: Columns, config: InterConfig) -> pa.Array:
    name = source.find("label", config.label_column)
    if name is None:
        raise UserError(
            f"{source.path} has no column x_label with the split; found "
            f"{', '.join(source.table.column_names)}; split it with mmrec-prepare table"
        )
    labels = source.words(name).to_pylist()
    splits = [LABELS.get(label, label) for label in labels]
    wrong = [split for split in splits if split not in SPLITS]
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(splits)} rows of {source.path} have another {name} than 0 "
            f"(train), 1 (validation) or 2 (test), such as {wrong[0]!r}; correct them"
        )
    return pa.array(splits, pa.string())


def _check_no_pair_in_two_splits(log: pa.Table, path: Path) -> None:
    splits = np.asarray(log["split"].to_pylist())
    parted = np.flatnonzero(repeats(log)[1:] & (splits[1:] != splits[:-1])) + 1
    if parted.size:
        row = log.slice(int(parted[0]), 1).to_pylist()[0]
        raise UserError(
            f"{parted.size} (user, item) pairs of {path} stand in two splits, such as user "
            f"{row['user_id']!r} with item {row['item_id']!r}; a held-out pair must not be trained "
            "on: keep one of each"
        )
