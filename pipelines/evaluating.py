"""``mmrec-evaluate``: a finished run's vectors, ranked and measured again."""

from pathlib import Path
from typing import Any

import click

from extract.errors import UserError
from extract.shards import write_json
from pipelines.cli import common_options
from pipelines.loading import load_log
from pipelines.progress import Reporter, print_table
from pipelines.runs import FinishedRun
from pipelines.tables import metrics_table
from pipelines.workspace import Workspace
from recommend.evaluate import Protocol, evaluate, seen_items
from recommend.interactions import IdMap, InteractionLog


def run(finished: FinishedRun, workspace: Workspace, protocol: Protocol | None) -> dict[str, Any]:
    """Rank and measure, on validation and test, without training.

    Args:
        finished: The run.
        workspace: Where its data set lies.
        protocol: Another protocol than the run's, or None.

    Returns:
        What metrics.json would say.

    Raises:
        UserError: The data set has changed since.
    """
    log = load_log(workspace.dataset(finished.config.dataset))
    embeddings, users, items = finished.embeddings()
    check_same_ids(finished, log, users, items)
    protocol = protocol or finished.config.protocol
    measured = {}
    for part in ("validation", "test"):
        seen = seen_items(log.split, part, protocol)
        measured[part] = evaluate(embeddings, getattr(log.split, part), seen)[0].means()
    return {**finished.metrics, **measured, "protocol": protocol}


def check_same_ids(finished: FinishedRun, log: InteractionLog, users: IdMap, items: IdMap) -> None:
    """Refuse vectors of other users or items than the log's.

    Raises:
        UserError: They differ.
    """
    if users != log.users or items != log.items:
        raise UserError(
            f"the run {finished.folder} was trained on {len(users)} users and {len(items)} items, "
            f"the data set {finished.config.dataset!r} now has other ones ({len(log.users)} and "
            f"{len(log.items)}); train it again"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run_name", metavar="RUN")
@click.option(
    "--protocol",
    type=click.Choice(["strict", "mmrec"]),
    help="Another protocol than the run's own.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write it here, too.")
@common_options
def command(
    root: Path, quiet: bool, run_name: str, protocol: Protocol | None, json_file: Path | None
) -> None:
    """Evaluate a finished run again, without training.

    RUN is a run's folder, DATASET/RUN, or the name of a run that only one data set has.

    \b
    mmrec-evaluate freedom-offline-s0
    mmrec-evaluate runs/toy/freedom-offline-s0 --protocol mmrec
    """
    workspace = Workspace(root)
    finished = FinishedRun.open(workspace.run(run_name))
    Reporter(quiet).say(f"evaluating {finished.folder}")
    metrics = run(finished, workspace, protocol)
    print_table(metrics_table([metrics]))
    if json_file:
        write_json(json_file, metrics)
