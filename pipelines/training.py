"""``mmrec-train``: one recommender, trained on a data set's log and features, and evaluated."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from extract.errors import UserError
from extract.locking import locked
from pipelines.assembling import Parts, assemble, with_names
from pipelines.checkpoints import Checkpoint
from pipelines.cli import common_options
from pipelines.config import options_of
from pipelines.progress import Reporter, print_table
from pipelines.run_config import RunConfig, read_run_config, run_settings
from pipelines.run_metrics import opening, run_metrics
from pipelines.runs import CHECKPOINT, CONFIG, METRICS, RunFolder, read_metrics
from pipelines.settings import settings_help
from pipelines.tables import metrics_table
from pipelines.workspace import Workspace
from recommend.evaluate import evaluate, seen_items
from recommend.metrics import Metrics
from recommend.models import MODELS, Embeddings
from recommend.state import Record, State
from recommend.train import fit

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        folder: Where it lies.
        metrics: Its metrics.json.
    """

    folder: Path
    metrics: Mapping[str, Any]


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
    parts = assemble(config, workspace)
    path = workspace.new_run(config.dataset or "", config.run or "")
    with locked(path, "training into"), closing(RunFolder.begin(path, config)) as folder:
        return _train(parts, folder, _Lines(folder, reporter), None, start)


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
    if not (path / CONFIG).is_file():
        raise UserError(
            f"{path} has no {CONFIG}, so there is nothing to resume; start anew with mmrec-train "
            "--model NAME"
        )
    with locked(path, "training into"):
        if (path / METRICS).is_file():
            (path / CHECKPOINT).unlink(missing_ok=True)
            reporter.say(f"{path} is finished already")
            return TrainedRun(path, read_metrics(path / METRICS))
        config = read_run_config(path / CONFIG)
        checkpoint = Checkpoint.load(path / CHECKPOINT)
        parts = assemble(config, workspace)
        if checkpoint is None:
            reporter.say(f"{path} has no {CHECKPOINT} yet: starts from the beginning")
            begun = RunFolder.begin(path, config)
        else:
            checkpoint.check_made_from(parts.made_from, path / CHECKPOINT)
            begun = RunFolder.go_on(path, checkpoint)
            start -= checkpoint.seconds
        with closing(begun) as folder:
            return _train(parts, folder, _Lines(folder, reporter), checkpoint, start)


def _train(
    parts: Parts,
    folder: RunFolder,
    lines: "_Lines",
    checkpoint: Checkpoint | None,
    start: float,
) -> TrainedRun:
    """Train, evaluate and write.

    Args:
        parts: What to train.
        folder: Where to write.
        lines: Where to say what is done.
        checkpoint: Where to go on from, if not from the beginning.
        start: When the run was begun, in seconds of `time.perf_counter`.
    """
    config, split = parts.config, parts.log.split
    lines.say(opening(parts))
    if checkpoint:
        lines.say(f"goes on after epoch {checkpoint.epoch}")
    seen = seen_items(split, "validation", config.protocol)

    def validate(embeddings: Embeddings) -> Metrics:
        return evaluate(embeddings, split.validation, seen)[0]

    try:
        fitted = fit(
            parts.model,
            parts.features,
            parts.sampler,
            validate,
            config.train,
            lines.epoch,
            _keep(parts, folder, start),
            checkpoint.state if checkpoint else None,
        )
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"go on with mmrec-train --resume {folder.folder}") from error
    seen_at_test = seen_items(split, "test", config.protocol)
    test, ranking = evaluate(fitted.embeddings, split.test, seen_at_test)
    by_split = {"validation": fitted.validation, "test": test}
    tuned = {f"features.{name}": table for name, table in parts.features.state_dict().items()}
    weights = parts.model.state_dict() | tuned
    folder.write_results(weights, fitted.embeddings, parts.log, by_split, ranking)
    metrics = run_metrics(parts, fitted, test, time.perf_counter() - start)
    lines.say(f"done in {metrics['seconds']:.1f} s: {folder.folder}")
    folder.finish(metrics)
    return TrainedRun(folder.folder, metrics)


def _keep(parts: Parts, folder: RunFolder, start: float) -> Callable[[Callable[[], State]], None]:
    """What writes a checkpoint after an epoch, if it is time."""
    made_from, last = parts.made_from, time.perf_counter()

    def keep(state: Callable[[], State]) -> None:
        nonlocal last
        if time.perf_counter() - last >= parts.config.checkpoint_seconds:
            folder.keep(made_from, time.perf_counter() - start, state())
            last = time.perf_counter()

    return keep


class _Lines:
    """Progress lines, to the run's log and to the user."""

    def __init__(self, folder: RunFolder, reporter: Reporter) -> None:
        self._folder, self._reporter = folder, reporter
        self._last_shown = 0.0

    def say(self, line: str) -> None:
        self._folder.log(line)
        self._reporter.say(line)

    def epoch(self, record: Record) -> None:
        """Every epoch to the log, one every few seconds to the user."""
        self._folder.record(record)
        terms = "  ".join(f"{name} {value:.4f}" for name, value in record["loss"].items())
        line = f"epoch {record['epoch']:>4}  {terms}"
        if "validation" in record:
            line += f"  validation recall@20 {record['validation']['recall@20']:.4f}"
        line += f"  {record['seconds']:.2f} s"
        self._folder.log(line)
        if time.perf_counter() - self._last_shown > SECONDS_BETWEEN_LINES:
            self._last_shown = time.perf_counter()
            self._reporter.say(line)


@click.command(epilog=settings_help())
@click.option("--model", metavar="NAME", help=f"One of {', '.join(MODELS)}.")
@options_of(RunConfig)
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
    resumed: str | None,
    **given: Any,
) -> None:
    """Train and evaluate one recommender.

    \b
    mmrec-train --features offline --model freedom
    mmrec-train --features shuffled:offline --model freedom     (the control)
    mmrec-train --model lightgcn --set model.layers=2 --set train.patience=10
    mmrec-train --config runs/toy/freedom-offline-s0/config.toml
    mmrec-train --config lightgcn-baby --dataset baby           (settings that come along)
    mmrec-train --resume freedom-offline-s0                     (after a kill)

    The weights are those of the best validation recall@20 (train.selection); the test interactions
    are looked at once, at the end. The run's folder is printed, with everything to use or repeat
    the run.
    """
    workspace, reporter = Workspace(root), Reporter(quiet)
    if resumed is not None:
        _check_alone({**given, "model": model, "config": config_file, "set": sets})
        trained = resume(workspace.find_run(resumed), workspace, reporter)
    else:
        config = run_settings(given, model, config_file, sets)
        trained = run(config, workspace, reporter)
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
