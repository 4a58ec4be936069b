"""A log and a catalogue in tables, TSV, CSV or Parquet, with pictures in folders."""

from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from pipelines.progress import Reporter
from pipelines.sources.catalogue import (
    CatalogueConfig,
    ItemRows,
    catalogue_of,
    read_items,
    source_files,
)
from pipelines.sources.log import (
    LogColumns,
    SplitConfig,
    core,
    first_of_each_pair,
    in_order,
    of_known_items,
    rated_at_least,
    read_log,
    require_rows,
    split_log,
)
from pipelines.sources.writing import Prepared
from recommend.splits import check_ratios


class TableConfig(LogColumns, SplitConfig, CatalogueConfig):
    """Settings of ``mmrec-prepare table``."""

    dataset: str = Field(description="Name of the data set to make.")
    interactions: Path = Field(description="The log: TSV, CSV or Parquet, one interaction a row.")
    min_rating: float | None = Field(None, description="Leave out interactions rated below.")
    k_core: int = Field(
        1, ge=0, description="Keep users and items with at least so many interactions."
    )
    unknown_items: Literal["error", "drop"] = Field(
        "error", description="What to do with interactions whose item the items file lacks."
    )


def prepare(config: TableConfig, reporter: Reporter) -> Prepared:
    """Read, filter, split.

    Raises:
        UserError: The files and the settings do not fit together, or nothing is left.
    """
    check_ratios(config.ratios)
    log, _ = read_log(config.interactions, config)
    rows = read_items(config.items, config.item_column, log)
    log, steps = _filtered(log, rows, config)
    for step, count in steps.items():
        reporter.say(f"{step}: {count:,}")
    log = split_log(log, config)
    items, pictures = catalogue_of(rows, log, config)
    files = source_files(config, config.interactions)
    return Prepared("table", items, log, pictures, config, steps, files)


def _filtered(
    log: pa.Table, rows: ItemRows, config: TableConfig
) -> tuple[pa.Table, dict[str, int]]:
    """The log that is left, in order, and how many interactions each step took away."""
    steps = {"interactions read": log.num_rows}

    def step(name: str, left: pa.Table) -> pa.Table:
        require_rows(left, f"leaving out those {name}")
        if left.num_rows < log.num_rows:
            steps[name] = log.num_rows - left.num_rows
        return left

    if config.min_rating is not None:
        log = step(f"rated below {config.min_rating:g}", rated_at_least(log, config.min_rating))
    log = step("with unknown items", of_known_items(log, rows.ids, config.unknown_items))
    log = step("that repeat a pair", first_of_each_pair(in_order(log)))
    log = step(f"outside the {config.k_core}-core", core(log, config.k_core))
    return log, steps
