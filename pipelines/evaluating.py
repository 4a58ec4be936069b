"""``mmrec-evaluate``: a finished run's vectors, ranked and measured again."""

from pathlib import Path
from typing import Any

import click
import torch

from extract.errors import UserError
from extract.files import write_json
from pipelines.cli import common_options
from pipelines.devices import resolve_device
from pipelines.loading import load_log, log_digests
from pipelines.progress import Reporter, print_table
from pipelines.roots import AnyPath
from pipelines.runs import FinishedRun
from pipelines.tables import metrics_table
from pipelines.workspace import Workspace
from recommend.evaluate import Protocol, evaluate, seen_items
from recommend.interactions import InteractionLog
from recommend.models import Embeddings

CPU = torch.device("cpu")


def run(
    finished: FinishedRun,
    workspace: Workspace,
    protocol: Protocol | None,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Rank and measure, on validation and test, without training.

    Args:
        finished: The run.
        workspace: Where its data set lies.
        protocol: Another protocol than the run's, or None.
        device: Where to rank.

    Returns:
        What metrics.json would say.

    Raises:
        UserError: The data set has changed since.
    """
    log, embeddings = open_run(finished, workspace)
    embeddings = embeddings.to(device)
    protocol = protocol or finished.config.protocol
    measured = {}
    for part in ("validation", "test"):
        seen = seen_items(log.split, part, protocol)
        measured[part] = evaluate(embeddings, getattr(log.split, part), seen)[0].means()
    return {**finished.metrics, **measured, "protocol": protocol}


def open_run(finished: FinishedRun, workspace: Workspace) -> tuple[InteractionLog, Embeddings]:
    """The log that a run was trained on, and its vectors.

    Raises:
        UserError: The data set has other users, items or splits than when the run was trained.
    """
    log = load_log(workspace.dataset(finished.config.dataset))
    trained_on, now = finished.metrics["digests"], log_digests(log)
    changed = [name for name, value in now.items() if trained_on.get(name) != value]
    if changed:
        raise UserError(
            f"the {' and '.join(changed)} of data set {finished.config.dataset!r} have changed "
            f"since {finished.folder} was trained, so it may know what is now held out; train it "
            "again"
        )
    return log, finished.embeddings()


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option(
    "--protocol",
    type=click.Choice(["strict", "mmrec"]),
    help="Another protocol than the run's own.",
)
@click.option("--device", default="auto", help="auto, cpu or cuda[:n].  [default: auto]")
@click.option("--json", "json_file", type=AnyPath(), help="Write it here, too.")
@common_options
def command(
    root: Path,
    quiet: bool,
    run_name: str,
    protocol: Protocol | None,
    device: str,
    json_file: Path | None,
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
    metrics = run(finished, workspace, protocol, resolve_device(device))
    print_table(metrics_table([metrics]))
    if json_file:
        write_json(json_file, metrics)
