"""The training of one run, from its parts to the finished folder."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.finetune.processes import made_by_first
from pipelines.assembling import Parts
from pipelines.checkpoints import Checkpoint
from pipelines.progress import Reporter
from pipelines.run_metrics import opening, run_metrics
from pipelines.runs import RunFolder
from recommend.evaluate import evaluate, seen_items
from recommend.metrics import Metrics
from recommend.models import Embeddings
from recommend.sources import TunedFeatures
from recommend.state import Record, State
from recommend.train import Fitted, fit

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_STEPS = 20.0


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        folder: Where it lies.
        metrics: Its metrics.json.
    """

    folder: Path
    metrics: Mapping[str, Any]


def train(
    parts: Parts,
    folder: RunFolder,
    lines: "Lines",
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

    Raises:
        UserError: The loss or the encoder diverges.
        KeyboardInterrupt: It was interrupted, and tells how to go on.
    """
    config, split = parts.config, parts.log.split
    lines.say(opening(parts))
    if checkpoint:
        lines.say(f"goes on after epoch {checkpoint.epoch}")
    try:
        fitted = fit_parts(parts, checkpoint, lines.epoch, _keep(parts, folder, start), lines.step)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"go on with mmrec-train --resume {folder.folder}") from error
    seen_at_test = seen_items(split, "test", config.protocol)
    test, ranking = evaluate(fitted.embeddings, split.test, seen_at_test)
    by_split = {"validation": fitted.validation, "test": test}
    weights = parts.model.state_dict()
    if isinstance(parts.features, TunedFeatures):
        weights |= {f"features.{name}": w for name, w in parts.features.state_dict().items()}
    folder.write_results(weights, fitted.embeddings, parts.log, by_split, ranking)
    metrics = run_metrics(parts, fitted, test, time.perf_counter() - start)
    _save_encoder(parts, fitted, folder, lines)
    lines.say(f"done in {metrics['seconds']:.1f} s: {folder.folder}")
    folder.finish(metrics)
    return TrainedRun(folder.folder, metrics)


def fit_parts(
    parts: Parts,
    checkpoint: Checkpoint | None,
    on_epoch: Callable[[Record], None] = lambda record: None,
    keep: Callable[[Callable[[], State]], None] = lambda state: None,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Fitted:
    """The training itself, in which all processes take part and the first one judges.

    Args:
        parts: What to train.
        checkpoint: Where to go on from, if not from the beginning.
        on_epoch: Told the record of each epoch.
        keep: Told after each epoch how to get the state of training.
        on_step: Told how many steps of an epoch are done, and of how many.
    """
    split = parts.log.split
    seen = seen_items(split, "validation", parts.config.protocol)

    def validate(embeddings: Embeddings) -> Metrics:
        return made_by_first(lambda: evaluate(embeddings, split.validation, seen)[0])

    return fit(
        parts.model,
        parts.features,
        parts.sampler,
        validate,
        parts.config.train,
        on_epoch,
        keep,
        checkpoint.state if checkpoint else None,
        on_step,
    )


def _save_encoder(parts: Parts, fitted: Fitted, folder: RunFolder, lines: "Lines") -> None:
    """Write the encoder that took part, if one did."""
    if parts.live is None:
        return
    config = parts.config
    if config.feature_source == "end-to-end" and fitted.epoch <= parts.features.first_epoch:
        lines.say(
            f"warning: epoch {fitted.epoch} was the best, before the encoder took part, so it is "
            "as it was; try a smaller --encoder-rate, or more epochs"
        )
    told = {"dataset": config.dataset, "run": config.run, "epoch": fitted.epoch}
    parts.live.save(folder.folder, told)


class Lines:
    """Progress lines, to the run's log and to the user.

    Args:
        folder: Of the run.
        reporter: Where the user hears of it.
    """

    def __init__(self, folder: RunFolder, reporter: Reporter) -> None:
        self._folder, self._reporter = folder, reporter
        self._begun, self._last_shown = time.perf_counter(), 0.0

    def say(self, line: str) -> None:
        """To both."""
        self._folder.log(line)
        self._reporter.say(line)

    def step(self, done: int, steps: int) -> None:
        """To the user, where an epoch takes long."""
        shown = max(self._begun, self._last_shown)
        if time.perf_counter() - shown > SECONDS_BETWEEN_STEPS:
            self._last_shown = time.perf_counter()
            self._reporter.say(f"step {done:,} of {steps:,}")

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


def _keep(parts: Parts, folder: RunFolder, start: float) -> Callable[[Callable[[], State]], None]:
    """What writes a checkpoint after an epoch, if it is time."""
    made_from, last = parts.made_from, time.perf_counter()

    def keep(state: Callable[[], State]) -> None:
        nonlocal last
        if time.perf_counter() - last >= parts.config.checkpoint_seconds:
            folder.keep(made_from, time.perf_counter() - start, state())
            last = time.perf_counter()

    return keep
