"""``mmrec-train``: one recommender, trained on a data set's log and features, and evaluated."""

import platform
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from extract.errors import UserError
from extract.locking import locked
from pipelines.cli import common_options
from pipelines.config import options_of
from pipelines.devices import resolve_device
from pipelines.loading import load_log, load_store, log_digests, only_features
from pipelines.progress import Reporter, print_table
from pipelines.run_config import RunConfig, run_settings
from pipelines.runs import RunFolder
from pipelines.settings import settings_help
from pipelines.tables import metrics_table
from pipelines.workspace import Workspace
from recommend.evaluate import evaluate, seen_items
from recommend.features import FeatureSource, FeatureStore, FrozenFeatures
from recommend.interactions import InteractionLog
from recommend.metrics import Metrics
from recommend.models import MODELS, Embeddings, Recommender, TrainingData, model_class
from recommend.neighbours import StoredNeighbours
from recommend.sampling import Sampler
from recommend.train import Fitted, Record, fit, trainable

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
    dataset = workspace.dataset(config.dataset)
    kind = model_class(config.model["name"])
    features = config.features or (only_features(dataset) if kind.uses_features else "none")
    config = config.model_copy(update={"dataset": dataset.name, "features": features})
    config = config.model_copy(update={"run": config.run or config.default_run_name()})
    device = resolve_device(config.device)
    log = load_log(dataset)
    _check_split(log, dataset.name)
    store = FeatureStore.none()
    if features != "none":  # a wrong name is an error for a model that uses no features, too
        store = load_store(dataset, features, log, seed=config.seed, modalities=config.modalities)
    if not kind.uses_features:
        store = FeatureStore.none()
    # Everything that may refuse comes before the folder, which replaces an earlier run.
    search = StoredNeighbours(dataset.neighbours)
    model = _build(config, TrainingData(log.split.train, store, search)).to(device)
    sampler = _sampler(config, model, log)
    path = workspace.new_run(dataset.name, config.run or "")
    with locked(path, "training into"), closing(RunFolder(path, config)) as folder:
        lines = _Lines(folder, reporter)
        lines.say(_opening(config, log, store, kind, device))
        fitted = _fit(config, model, FrozenFeatures(store, device), sampler, log, lines)
        seen = seen_items(log.split, "test", config.protocol)
        test, ranking = evaluate(fitted.embeddings, log.split.test, seen)
        by_split = {"validation": fitted.validation, "test": test}
        folder.write_results(model, fitted.embeddings, log, by_split, ranking)
        metrics = _metrics(config, log, store, fitted, test, time.perf_counter() - start)
        lines.say(f"done in {metrics['seconds']:.1f} s: {path}")
        folder.finish(metrics)
    return TrainedRun(path, metrics)


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


def _check_split(log: InteractionLog, name: str) -> None:
    for part in ("validation", "test"):
        if not len(getattr(log.split, part)):
            raise UserError(
                f"data set {name!r} has no {part} interaction, so nothing can be "
                f"{'selected' if part == 'validation' else 'measured'}; prepare it with larger "
                "--ratios, or with more data"
            )


def _build(config: RunConfig, data: TrainingData) -> Recommender:
    kind = model_class(config.model["name"])
    own = {key: value for key, value in config.model.items() if key != "name"}
    if kind.uses_features and not data.features.tables:
        raise UserError(f"{config.model['name']} needs features; give --features NAME")
    torch.manual_seed(config.seed)
    return kind(kind.config_class(**own), data)


def _sampler(config: RunConfig, model: Recommender, log: InteractionLog) -> Sampler | None:
    if not trainable(model):
        return None
    generator = np.random.default_rng(config.seed)
    return Sampler(log.split.train, config.train.batch_size, generator)


def _fit(
    config: RunConfig,
    model: Recommender,
    features: FeatureSource,
    sampler: Sampler | None,
    log: InteractionLog,
    lines: _Lines,
) -> Fitted:
    seen = seen_items(log.split, "validation", config.protocol)

    def validate(embeddings: Embeddings) -> Metrics:
        return evaluate(embeddings, log.split.validation, seen)[0]

    return fit(model, features, sampler, validate, config.train, lines.epoch)


def _opening(
    config: RunConfig,
    log: InteractionLog,
    store: FeatureStore,
    kind: type[Recommender],
    device: torch.device,
) -> str:
    train = log.split.train
    line = (
        f"{config.model['name']} on {config.dataset}: {train.n_users:,} users, {train.n_items:,} "
        f"items, {len(train):,} training interactions; device {device}, protocol {config.protocol}"
    )
    if not kind.uses_features:
        return f"{line}; uses no features"
    present = ", ".join(
        f"{modality} {store.dims[modality]}-d for {int(mask.sum()):,} items"
        for modality, mask in store.present.items()
    )
    return f"{line}; features {store.name}: {present}"


def _metrics(
    config: RunConfig,
    log: InteractionLog,
    store: FeatureStore,
    fitted: Fitted,
    test: Metrics,
    seconds: float,
) -> dict[str, Any]:
    validation = fitted.validation.means()
    selection = config.train.selection
    cold = log.split.train.item_degrees == 0
    return {
        "dataset": config.dataset,
        "features": config.features,
        "model": config.model["name"],
        "seed": config.seed,
        "protocol": config.protocol,
        "selection": {"metric": selection, "epoch": fitted.epoch, "value": validation[selection]},
        "validation": validation,
        "test": test.means(),
        "users": len(test.users),
        "counts": {
            "users_without_test_items": len(log.users) - len(test.users),
            "users_without_training_items": int((log.split.train.user_degrees == 0).sum()),
            "cold_items": int(cold.sum()),
            "test_interactions_with_cold_items": int(cold[log.split.test.items].sum()),
        },
        "feature_source": "frozen",
        "modalities": {modality: int(mask.sum()) for modality, mask in store.present.items()},
        "seconds": round(seconds, 3),
        "digests": {
            **log_digests(log),
            "features": store.digest,
            "code": f"mmrec {version('mmrec')}, torch {torch.__version__}, {platform.machine()}",
        },
    }


@click.command(epilog=settings_help())
@click.option("--model", metavar="NAME", help=f"One of {', '.join(MODELS)}.")
@options_of(RunConfig)
@common_options
def command(
    root: Path,
    quiet: bool,
    model: str | None,
    config_file: Path | None,
    sets: tuple[str, ...],
    **given: Any,
) -> None:
    """Train and evaluate one recommender.

    \b
    mmrec-train --features offline --model freedom
    mmrec-train --features shuffled:offline --model freedom     (the control)
    mmrec-train --model lightgcn --set model.layers=2 --set train.patience=10
    mmrec-train --config runs/toy/freedom-offline-s0/config.toml
    mmrec-train --config lightgcn-baby --dataset baby           (settings that come along)

    The weights are those of the best validation recall@20 (train.selection); the test interactions
    are looked at once, at the end. The run's folder is printed, with everything to use or repeat
    the run.
    """
    config = run_settings(given, model, config_file, sets)
    trained = run(config, Workspace(root), Reporter(quiet))
    print_table(metrics_table([trained.metrics]))
    click.echo(trained.folder)
