"""``mmrec-train``: one recommender, trained on a data set's log and features, and evaluated."""

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from extract.errors import UserError
from extract.finetune.processes import local_device, processes, rank, world
from extract.locking import locked
from pipelines.assembling import assemble, with_names
from pipelines.checkpoints import Checkpoint
from pipelines.cli import common_options
from pipelines.config import options_by_name, options_of
from pipelines.devices import resolve_device
from pipelines.end_to_end_config import OPTIONS, EndToEndOptions
from pipelines.progress import Reporter, print_table
from pipelines.run_config import RunConfig, read_run_config, run_settings
from pipelines.runs import CHECKPOINT, CONFIG, METRICS, RunFolder, read_metrics
from pipelines.settings import settings_help
from pipelines.tables import metrics_table
from pipelines.training_job import Lines, TrainedRun, fit_parts, train
from pipelines.workspace import Workspace
from recommend.models import MODELS


def run(config: RunConfig, workspace: Workspace, reporter: Reporter) -> TrainedRun:
    """Load, train, evaluate once on test, write the run folder.

    Args:
        config: The settings.
        workspace: Where data and runs lie.
        reporter: Where progress goes.

    Raises:
        UserError: Bad input, a loss that is not finite, or another process trains into the same
            folder.
    """
    start = time.perf_counter()
    config = with_names(config, workspace)
    # Everything that may refuse comes before the folder, which replaces an earlier run.
    path = workspace.new_run(config.dataset or "", config.run or "")
    RunFolder.check_free(path, config)
    parts = assemble(config, workspace, reporter)
    with locked(path, "training into"), closing(RunFolder.begin(path, config)) as folder:
        return train(parts, folder, Lines(folder, reporter), None, start)


def resume(path: Path, workspace: Workspace, reporter: Reporter) -> TrainedRun:
    """Go on with a run that was killed, from its checkpoint or else from the beginning.

    Args:
        path: The run's folder; that of a finished run is left as it is.
        workspace: Where the data set lies.
        reporter: Where progress goes.

    Raises:
        UserError: There is nothing to resume, data or settings have changed since the run was
            begun, the checkpoint is torn, or another process trains into the same folder.
    """
    start = time.perf_counter()
    config = _settings_of(path)
    with locked(path, "training into"):
        if (path / METRICS).is_file():
            (path / CHECKPOINT).unlink(missing_ok=True)
            reporter.say(f"{path} is finished already")
            return TrainedRun(path, read_metrics(path / METRICS))
        checkpoint = Checkpoint.load(path / CHECKPOINT)
        parts = assemble(config, workspace, reporter)
        if checkpoint is None:
            reporter.say(f"{path} has no {CHECKPOINT} yet: starts from the beginning")
            begun = RunFolder.begin(path, config)
        else:
            checkpoint.check_made_from(parts.made_from, path / CHECKPOINT)
            begun = RunFolder.go_on(path, checkpoint)
            start -= checkpoint.seconds
        with closing(begun) as folder:
            return train(parts, folder, Lines(folder, reporter), checkpoint, start)


def _settings_of(path: Path) -> RunConfig:
    """The settings of a run that is to be resumed."""
    if not (path / CONFIG).is_file():
        raise UserError(
            f"{path} has no {CONFIG}, so there is nothing to resume; start anew with mmrec-train "
            "--model NAME"
        )
    return read_run_config(path / CONFIG)


def take_part(config: RunConfig, workspace: Workspace, path: Path | None) -> None:
    """Be one of several processes that train a run, other than the first one, which writes it.

    Args:
        config: The settings.
        workspace: Where the data lie.
        path: The run's folder where it is resumed.
    """
    if path is not None and (path / METRICS).is_file():
        return
    checkpoint = None if path is None else Checkpoint.load(path / CHECKPOINT)
    fit_parts(assemble(with_names(config, workspace), workspace), checkpoint)


@click.command(epilog=settings_help())
@click.option("--model", metavar="NAME", help=f"One of {', '.join(MODELS)}.")
@options_of(RunConfig)
@click.option(
    "--end-to-end", is_flag=True, help="Let the loss reach --encoder: --feature-source end-to-end."
)
@options_by_name(EndToEndOptions, OPTIONS)
@click.option(
    "--resume",
    "resumed",
    metavar="RUN",
    help="Go on with a run that did not finish, with its own settings: its folder, or its name.",
)
@common_options
def command(
    root: Path,
    quiet: bool,
    model: str | None,
    config_file: Path | None,
    sets: tuple[str, ...],
    end_to_end: bool,
    resumed: str | None,
    **given: Any,
) -> None:
    """Train and evaluate one recommender.

    \b
    mmrec-train --features offline --model freedom
    mmrec-train --features shuffled:offline --model freedom     (the control)
    mmrec-train --end-to-end --encoder offline --model vbpr     (the loss reaches the encoder)
    mmrec-train --model lightgcn --set model.layers=2 --set train.patience=10
    mmrec-train --config runs/toy/freedom-offline-s0/config.toml
    mmrec-train --config lightgcn-baby --dataset baby           (settings that come along)
    mmrec-train --resume freedom-offline-s0                     (after a kill)

    Several GPUs share the encoder's work: torchrun --nproc-per-node N -m -- pipelines.cli train
    --end-to-end ...

    The encoder of an end-to-end run is one like any other: mmrec-extract --encoder RUN.

    The weights are those of the best validation recall@20 (train.selection); the test interactions
    are looked at once, at the end. The run's folder is printed, with everything to use or repeat
    the run.
    """
    workspace, reporter, path = Workspace(root), Reporter(quiet), None
    if end_to_end and given["feature_source"] not in (None, "end-to-end"):
        raise click.UsageError("Give one of --end-to-end and --feature-source.")
    if resumed is not None:
        others = {"model": model, "config": config_file, "set": sets}
        _check_alone({"end_to_end": end_to_end or None, **given, **others})
        path = workspace.find_run(resumed)
        config = _settings_of(path)
    else:
        regime = {"feature_source": "end-to-end"} if end_to_end else {}
        config = run_settings({**given, **regime}, model, config_file, sets)
    with processes(local_device(resolve_device(config.device))):
        if world() > 1 and config.encoder is None:
            raise UserError("several processes are of use with --encoder only; start one")
        if rank() > 0:
            take_part(config, workspace, path)
            return
        trained = resume(path, workspace, reporter) if path else run(config, workspace, reporter)
    print_table(metrics_table([trained.metrics]))
    click.echo(trained.folder)


def _check_alone(others: Mapping[str, Any]) -> None:
    given = [
        f"--{name.replace('_', '-')}" for name, value in others.items() if value not in (None, ())
    ]
    if given:
        raise click.UsageError(
            f"--resume takes all settings from the run's {CONFIG}; leave out {', '.join(given)}"
        )
