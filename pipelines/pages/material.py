"""What a page is made from: the data set as it was compared, and the runs that are still there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from extract.errors import UserError
from pipelines.comparisons.contents import Comparison, System
from pipelines.loading import load_log, log_digests
from pipelines.progress import Reporter
from pipelines.runs import METRICS, FinishedRun
from pipelines.workspace import Dataset, Workspace, read_table
from recommend.interactions import InteractionLog


@dataclass(frozen=True)
class Material:
    """What a page is made from.

    Attributes:
        dataset: The data set that was compared on.
        log: Its log.
        items: Its catalogue, in the order of the log's items.
        runs: System to those of its runs that are there, in the order of the seeds; of a system
            without any there is no entry.
    """

    dataset: Dataset
    log: InteractionLog
    items: pa.Table
    runs: Mapping[str, tuple[FinishedRun, ...]]


def open_material(workspace: Workspace, comparison: Comparison, reporter: Reporter) -> Material:
    """Read the data set, and open the comparison's runs; those that are gone are told.

    Args:
        workspace: Where they lie.
        comparison: Which.
        reporter: Where to tell what is left out.

    Raises:
        UserError: No run is left, or the data set has changed since.
    """
    dataset = workspace.dataset(comparison.dataset)
    runs = {system.name: _runs(dataset, system, reporter) for system in comparison.systems}
    runs = {name: own for name, own in runs.items() if own}
    if not runs:
        raise UserError(
            f"none of the runs of the comparison {comparison.name!r} is in {dataset.runs} any "
            "more; make them again with the comparison's mmrec-compare command"
        )
    log = load_log(dataset)
    _check_unchanged(log, dataset, [run for own in runs.values() for run in own])
    return Material(dataset, log, _catalogue(dataset, log), runs)


def _runs(dataset: Dataset, system: System, reporter: Reporter) -> tuple[FinishedRun, ...]:
    folders = [dataset.runs / name for name in system.runs]
    there = [folder for folder in folders if (folder / METRICS).is_file()]
    gone = [folder.name for folder in folders if folder not in there]
    if gone:
        reporter.say(
            f"warning: {', '.join(gone)} of {system.name} "
            f"{'is' if len(gone) == 1 else 'are'} not in {dataset.runs} any more; curves and lists "
            "of it are left out"
        )
    return tuple(FinishedRun.open(folder) for folder in there)


def _check_unchanged(log: InteractionLog, dataset: Dataset, runs: Sequence[FinishedRun]) -> None:
    now = log_digests(log)
    for run in runs:
        before = run.metrics["digests"]
        changed = [name for name, value in now.items() if before.get(name) != value]
        if changed:
            raise UserError(
                f"the {' and '.join(changed)} of data set {dataset.name!r} have changed since "
                f"{run.folder} was trained, so a page would show other items than were compared; "
                "train and compare again"
            )


def _catalogue(dataset: Dataset, log: InteractionLog) -> pa.Table:
    items = read_table(dataset.items, ["item_id"])
    rows = log.items.rows(items["item_id"].to_pylist(), "item")
    return items.take(pa.array(np.argsort(rows)))
