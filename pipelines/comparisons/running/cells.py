"""One cell of a grid: kept if its run is finished, resumed if it was begun, trained otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from extract.errors import BusyError, UserError
from extract.files import digest
from extract.manifest import Manifest
from pipelines import training
from pipelines.checkpoints import Checkpoint
from pipelines.progress import Reporter
from pipelines.run_config import RunConfig, read_run_config
from pipelines.runs import CHECKPOINT, CONFIG, METRICS, PER_USER, RECOMMENDATIONS, read_metrics
from pipelines.workspace import RANDOM, SHUFFLED, Dataset, Workspace

Status = Literal["done", "kept", "resumed", "busy"]
# Seconds between two looks at a run that another process is making.
PAUSE = 2.0
# The tables that every comparison reads, and what it needs of them.
NEEDED = {PER_USER: ("user_id", "split"), RECOMMENDATIONS: ("user_id", "rank", "item_id")}
Digests = Mapping[str, str]


@dataclass(frozen=True)
class Trained:
    """A cell with a result.

    Attributes:
        status: How it came to it; busy if another process is at it.
        metrics: Its metrics.json; empty if busy.
    """

    status: Status
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class TrainCell:
    """The task of having a cell's run.

    Attributes:
        config: The run's settings, with all names.
        root: The workspace's folder.
        log: Digests of the data set's log as it is now.
        again: Whether another process was at it before, so that there is no hurry.
    """

    config: RunConfig
    root: Path
    log: Digests
    again: bool = False

    def __call__(self) -> Trained:
        """Train, unless somebody has done so or is at it.

        Raises:
            UserError: As `pipelines.training.run`, or the results of a finished run are torn.
        """
        if self.again:
            sleep(PAUSE)
        try:
            return self._train()
        except BusyError:
            return Trained("busy", {})

    def _train(self) -> Trained:
        workspace, quiet = Workspace(self.root), Reporter(quiet=True)
        path = run_folder(self.config, workspace)
        metrics = finished(self.config, workspace, self.log)
        if metrics is not None:
            check_results(path, metrics)
            return Trained("kept", metrics)
        if _is_begun(path, self.config, self.log):
            return Trained("resumed", training.resume(path, workspace, quiet).metrics)
        return Trained("done", training.run(self.config, workspace, quiet).metrics)


def run_folder(config: RunConfig, workspace: Workspace) -> Path:
    """Where a cell's run lies."""
    return workspace.new_run(config.dataset or "", config.run or "")


def finished(config: RunConfig, workspace: Workspace, log: Digests) -> Mapping[str, Any] | None:
    """The metrics.json of a finished run with these settings, trained on the data as they are.

    Args:
        config: The settings, with all names.
        workspace: Where it would lie.
        log: Digests of the data set's log as it is now.

    Returns:
        None where there is no such run; whoever trains it is told of what is there instead.
    """
    path = run_folder(config, workspace)
    try:
        if not (path / METRICS).is_file() or not _has_settings(path, config):
            return None
        metrics = read_metrics(path / METRICS)
    except UserError:  # torn, or of another version
        return None
    features = _features_digest(config, workspace.dataset(config.dataset), metrics["modalities"])
    expected = {**log, **({"features": features} if features else {})}
    return metrics if expected.items() <= metrics["digests"].items() else None


def check_results(path: Path, metrics: Mapping[str, Any]) -> None:
    """Refuse a finished run whose result tables are not whole, by their footers.

    Args:
        path: The run's folder.
        metrics: Its metrics.json.

    Raises:
        UserError: One is missing or torn, or lacks columns or users.
    """
    for name, columns in NEEDED.items():
        least = metrics["users"] if name == PER_USER else 1
        if not _is_whole(path / name, columns, least):
            raise UserError(
                f"the run is finished, but {path / name} is missing or torn; delete {path}, and "
                "the same command trains it again"
            )


def _is_whole(table: Path, columns: Sequence[str], least: int) -> bool:
    """Whether a Parquet file has a footer, which is written last, of these columns and rows."""
    try:
        with table.open("rb") as file:
            footer = pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        return False
    return set(columns) <= set(footer.schema.names) and footer.num_rows >= least


def _has_settings(path: Path, config: RunConfig) -> bool:
    return read_run_config(path / CONFIG).results() == config.results()


def _features_digest(config: RunConfig, dataset: Dataset, modalities: Mapping[str, int]) -> str:
    """The digest of a run's features if it were trained now, as `FeatureStore` would have it.

    Empty where that takes more than the manifest to know: of random features, which depend on the
    seed and the log only, and of those that an encoder has yet to make.
    """
    name = (config.features or RANDOM).removeprefix(SHUFFLED)
    if not modalities or name == RANDOM:
        return ""
    own = digest([Manifest.read(dataset.require_features(name)).digest(), *modalities])
    return own if name == config.features else digest([own, f"shuffled {config.seed}"])


def _is_begun(path: Path, config: RunConfig, log: Digests) -> bool:
    """Whether there is something to go on with; a torn checkpoint, or one of other data, is not."""
    try:
        if (path / METRICS).is_file() or not _has_settings(path, config):
            return False
        checkpoint = Checkpoint.load(path / CHECKPOINT)
    except UserError:
        return False
    return checkpoint is not None and log.items() <= checkpoint.made_from.items()
