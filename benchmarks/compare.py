"""What a grid of runs costs beside the runs themselves.

python -m benchmarks.compare [--processes 2] [--epochs 40] [--json FILE]

Forty cells on the toy shop (five models, four sets of features, two seeds) go through the pool of
`mmrec-compare`. A run's own seconds are those of its metrics.json, from before its data are read to
the end. Overhead is what the processes are occupied beside that, from the first look at the grid to
the last outcome: to start, to import, to be told, to wait for the last one. Judging is told apart.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.output import Row, print_rows, write_rows
from benchmarks.resume import write_shop
from pipelines import comparing
from pipelines.comparisons.planning.compare_config import CompareConfig
from pipelines.comparisons.planning.grid import cells
from pipelines.comparisons.running.working import Place
from pipelines.loading import load_log, log_digests
from pipelines.progress import Reporter
from pipelines.runs import METRICS, read_metrics
from pipelines.workspace import Workspace
from recommend.train import TrainOptions

MODELS = ("vbpr", "freedom", "bm3", "slmrec", "mgcn")
# With the controls random and shuffled these are four.
ENCODERS = ("random:64", "random:96")
SEEDS = (0, 1)
# The share of overhead that is aimed at.
AIM = 0.1


@dataclass(frozen=True)
class Measured:
    """What a grid took.

    Attributes:
        cells: How many there were.
        processes: How many were trained at a time.
        wall: Seconds from the first look at the grid to the last outcome.
        own: Seconds of each run.
        again: Seconds of the same comparison where all is finished, which is looking and judging.
    """

    cells: int
    processes: int
    wall: float
    own: Sequence[float]
    again: float

    @property
    def overhead(self) -> float:
        """What the processes took beside the runs, as a share of these."""
        return (self.wall * self.processes - sum(self.own)) / sum(self.own)


def write_features(root: Path) -> None:
    """Features of the toy shop that mean nothing and take no time."""
    # Not above: each process of the pool imports this file, and the command needs no encoders.
    from pipelines import extraction
    from pipelines.extraction import ExtractionConfig

    for encoder in ENCODERS:
        config = ExtractionConfig(encoder=encoder, features=encoder.replace(":", "-"))
        extraction.run(config, Workspace(root), Reporter(quiet=True))


def measure(root: Path, processes: int, epochs: int, models: Sequence[str] = MODELS) -> Measured:
    """Train a grid in a workspace that has the toy shop and its features."""
    workspace, quiet = Workspace(root), Reporter(quiet=True)
    train = TrainOptions(max_epochs=epochs, patience=epochs)
    config = CompareConfig(
        models=tuple(models), seeds=SEEDS, processes=processes, device="cpu", train=train
    )
    start = time.perf_counter()
    grid = cells(config, workspace)
    dataset = workspace.dataset(None)
    folder = workspace.new_comparison(dataset.name, config.name)
    place = Place(workspace, folder, log_digests(load_log(dataset)))
    worked = comparing.train_cells(config, grid, place, quiet)
    wall = time.perf_counter() - start
    if worked.failures:
        raise RuntimeError(f"{worked.failures[0].cell} failed: {worked.failures[0].error}")
    own = [read_metrics(run / METRICS)["seconds"] for run in worked.runs]
    start = time.perf_counter()
    comparing.run(config, workspace, quiet)
    return Measured(len(grid), processes, wall, own, time.perf_counter() - start)


def rows_of(measured: Measured) -> list[Row]:
    """What was measured; the share of overhead is the point."""
    return [
        Row("compare/cells", measured.cells, "cells"),
        Row("compare/processes", measured.processes, "processes"),
        Row("compare/wall", measured.wall, "s"),
        Row("compare/own", sum(measured.own), "s"),
        Row("compare/overhead", measured.overhead, "of own", reference=AIM),
        Row("compare/looking_and_judging", measured.again, "s"),
    ]


@click.command(help=__doc__)
@click.option("--processes", default=2, show_default=True, help="Runs at a time.")
@click.option("--epochs", default=40, show_default=True, help="Of each run.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the table.")
def main(processes: int, epochs: int, file: Path | None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        write_shop(Path(folder))
        write_features(Path(folder))
        rows = rows_of(measure(Path(folder), processes, epochs))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print_rows(f"A grid of forty runs, {threads} threads", rows)
    if file:
        write_rows(file, rows)


if __name__ == "__main__":
    main()
