"""The folder of a run: what is in it, written once and read back.

config.toml comes first and metrics.json last, so a folder without metrics.json did not finish.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from extract.errors import UserError
from extract.files import write_json
from pipelines.checkpoints import Checkpoint
from pipelines.config import write_toml
from pipelines.journal import Journal
from pipelines.run_config import RunConfig, read_run_config
from pipelines.run_files import (
    embedding_tensors,
    per_user_table,
    read_embeddings,
    recommendations_table,
    save_tensors,
)
from pipelines.workspace import ENCODER_JSON, encoder_of, read_json, write_table
from recommend.interactions import InteractionLog
from recommend.metrics import Metrics
from recommend.models import Embeddings
from recommend.ranking import Ranking
from recommend.state import State

CONFIG, METRICS, HISTORY, LOG = "config.toml", "metrics.json", "history.jsonl", "log.txt"
EMBEDDINGS, IDS, MODEL = "embeddings.safetensors", "ids.parquet", "model.safetensors"
PER_USER, RECOMMENDATIONS = "per_user.parquet", "recommendations.parquet"
CHECKPOINT = "checkpoint.pt"  # only until the run is finished


@dataclass(frozen=True)
class FinishedRun:
    """A run as it is read back.

    Attributes:
        folder: Where it lies.
        config: Its resolved settings.
        metrics: Its metrics.json.
    """

    folder: Path
    config: RunConfig
    metrics: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "FinishedRun":
        """The run in `folder`.

        Raises:
            UserError: A file is missing or torn.
        """
        return cls(folder, read_run_config(folder / CONFIG), read_metrics(folder / METRICS))

    def embeddings(self) -> Embeddings:
        """Vectors of users and items, whose ids stand in ids.parquet in the same order.

        Raises:
            UserError: The file is missing or torn.
        """
        return read_embeddings(self.folder / EMBEDDINGS)


class RunFolder:
    """A run that is being written; made by `begin` or `go_on`.

    Args:
        folder: Where to.
        log: The lines for people.
        history: A line of JSON for each epoch.
    """

    def __init__(self, folder: Path, log: Journal, history: Journal) -> None:
        self.folder = folder
        self._journals = {LOG: log, HISTORY: history}

    @classmethod
    def begin(cls, folder: Path, config: RunConfig) -> "RunFolder":
        """A new run; what an earlier run of the same name left is replaced.

        Args:
            folder: Where to.
            config: The resolved settings.

        Raises:
            UserError: The folder holds a run with other settings.
        """
        settings = folder / CONFIG
        cls.check_free(folder, config)
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / METRICS, folder / CHECKPOINT, encoder_of(folder) / ENCODER_JSON):
            path.unlink(missing_ok=True)
        log, history = Journal(folder / LOG), Journal(folder / HISTORY)
        write_toml(settings, config, f"mmrec-train --config {settings}")
        return cls(folder, log, history)

    @staticmethod
    def check_free(folder: Path, config: RunConfig) -> None:
        """Refuse a folder that is taken.

        Raises:
            UserError: It holds a run with other settings.
        """
        settings = folder / CONFIG
        if settings.is_file() and read_run_config(settings).results() != config.results():
            raise UserError(
                f"{folder} holds a run with other settings; give this one another name with --run, "
                "or delete that folder"
            )

    @classmethod
    def go_on(cls, folder: Path, checkpoint: Checkpoint) -> "RunFolder":
        """A run that was begun before; what it wrote after the checkpoint is taken back."""
        log, history = (Journal(folder / name, checkpoint.lines[name]) for name in (LOG, HISTORY))
        return cls(folder, log, history)

    def log(self, line: str) -> None:
        """Append a line to log.txt."""
        self._journals[LOG].write(line)

    def record(self, epoch: Mapping[str, Any]) -> None:
        """Append an epoch's record to history.jsonl."""
        self._journals[HISTORY].write(json.dumps(epoch))

    def close(self) -> None:
        """Bring what was appended to where it belongs, also of a run that did not finish."""
        for journal in self._journals.values():
            journal.close()

    def keep(self, made_from: Mapping[str, str], seconds: float, state: State) -> None:
        """Write a checkpoint, from which the run can go on.

        Args:
            made_from: Name to digest of all that decides the run.
            seconds: How long the run has taken.
            state: The state of training.
        """
        lines = {name: journal.lines for name, journal in self._journals.items()}
        Checkpoint(made_from, seconds, lines, state).save(self.folder / CHECKPOINT)

    def write_results(
        self,
        weights: Mapping[str, Tensor],
        embeddings: Embeddings,
        log: InteractionLog,
        metrics: Mapping[str, Metrics],
        ranking: Ranking,
    ) -> None:
        """Write weights, vectors, ids, per-user metrics and recommendations.

        Args:
            weights: The best ones, by name.
            embeddings: Of all users and items.
            log: For the ids.
            metrics: By split.
            ranking: The test users' lists.
        """
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_tensors(self.folder / MODEL, contiguous)
        save_tensors(self.folder / EMBEDDINGS, embedding_tensors(embeddings))
        kinds = np.repeat(["user", "item"], [len(log.users), len(log.items)])
        ids = np.concatenate([log.users.ids, log.items.ids])
        write_table(self.folder / IDS, pa.table({"kind": kinds, "id": ids}))
        write_table(self.folder / PER_USER, per_user_table(metrics, log.users))
        table = recommendations_table(ranking, log.users, log.items)
        write_table(self.folder / RECOMMENDATIONS, table)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json: the run is finished."""
        self.close()
        write_json(self.folder / METRICS, metrics)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


def read_metrics(path: Path) -> dict[str, Any]:
    """A run's metrics.json.

    Raises:
        UserError: It is not JSON, or lacks what every run of ours has.
    """
    metrics = read_json(path)
    needed = ("model", "features", "seed", "protocol", "selection", "users", "seconds", "test")
    missing = [key for key in (*needed, "modalities", "digests") if key not in metrics]
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}; it is of another version: train the run again"
        )
    return dict(metrics)
