"""``mmrec-runs``: the finished runs of a data set in one table."""

from pathlib import Path

import click

from extract.errors import UserError
from pipelines.cli import common_options
from pipelines.progress import Reporter, print_table
from pipelines.runs import METRICS, read_metrics
from pipelines.tables import metrics_table
from pipelines.workspace import Workspace


@click.command()
@click.option("--dataset", help="Data set; may be left out where there is one.")
@common_options
def command(root: Path, quiet: bool, dataset: str | None) -> None:
    """List a data set's finished runs in one table: test metrics, each under its protocol.

    \b
    mmrec-runs --dataset toy
    """
    workspace = Workspace(root)
    name = workspace.dataset(dataset).name
    folders = workspace.runs(name)
    finished = [folder for folder in folders if (folder / METRICS).is_file()]
    if not finished:
        raise UserError(f"data set {name!r} has no finished run yet; make one with mmrec-train")
    if len(finished) < len(folders):
        Reporter(quiet).say(f"{len(folders) - len(finished)} unfinished runs are not shown")
    print_table(metrics_table([read_metrics(folder / METRICS) for folder in finished]))
