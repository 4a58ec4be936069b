"""A log and a catalogue in tables, TSV, CSV or Parquet, with pictures in folders."""

from pathlib import Path

from pydantic import Field

from pipelines.overwriting import Overwriting
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
    Steps,
    core,
    first_of_each_pair,
    in_order,
    of_known_items,
    rated_at_least,
    read_log,
    split_log,
)
from pipelines.sources.writing import Prepared
from recommend.splits import check_ratios


class TableConfig(CatalogueConfig, SplitConfig, LogColumns, Overwriting):
    """Settings of ``mmrec-prepare table``."""

    dataset: str = Field(description="Name of the data set to make.")
    interactions: Path = Field(description="The log: TSV, CSV or Parquet, one interaction a row.")
    min_rating: float | None = Field(None, description="Leave out interactions rated below.")
    k_core: int = Field(
        1, ge=0, description="Keep users and items with at least so many interactions."
    )


def prepare(config: TableConfig, reporter: Reporter) -> Prepared:
    """Read, filter, split.

    Raises:
        UserError: The files and the settings do not fit together, or nothing is left.
    """
    check_ratios(config.ratios)
    log, _ = read_log(config.interactions, config)
    rows = read_items(config.items, config.item_column, log)
    steps = Steps(log, reporter)
    _leave_out(steps, rows, config)
    log = split_log(steps.log, config)
    items, pictures = catalogue_of(rows, log, config)
    files = source_files(config, config.interactions)
    return Prepared("table", items, log, pictures, config, steps.counts, files)


def _leave_out(steps: Steps, rows: ItemRows, config: TableConfig) -> None:
    """Filter, and bring into order."""
    if config.min_rating is not None:
        rated = rated_at_least(steps.log, config.min_rating)
        steps.leave_out(f"rated below {config.min_rating:g}", rated)
    steps.leave_out("with unknown items", of_known_items(steps.log, rows.ids, config.unknown_items))
    steps.leave_out("that repeat a pair", first_of_each_pair(in_order(steps.log)))
    steps.leave_out(f"outside the {config.k_core}-core", core(steps.log, config.k_core))
