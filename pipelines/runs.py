"""The folder of a run: what is in it, written once and read back.

config.toml comes first and metrics.json last, so a folder without metrics.json did not finish.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array
from torch import Tensor, nn

from extract.errors import UserError
from extract.files import local_copy, replacing, write_json
from pipelines.config import write_toml
from pipelines.journal import Journal
from pipelines.run_config import RunConfig, read_run_config
from pipelines.workspace import read_json, write_table
from recommend.interactions import IdMap, InteractionLog
from recommend.metrics import Metrics
from recommend.models import Embeddings
from recommend.ranking import Ranking

CONFIG, METRICS, HISTORY, LOG = "config.toml", "metrics.json", "history.jsonl", "log.txt"
EMBEDDINGS, IDS, MODEL = "embeddings.safetensors", "ids.parquet", "model.safetensors"
PER_USER, RECOMMENDATIONS = "per_user.parquet", "recommendations.parquet"


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
    """A run that is being written.

    Args:
        folder: Where to; what an earlier run of the same name left is replaced.
        config: The resolved settings.

    Raises:
        UserError: The folder holds a run with other settings.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder
        if (folder / CONFIG).is_file() and not _same(read_run_config(folder / CONFIG), config):
            raise UserError(
                f"{folder} holds a run with other settings; give this one another name with --run, "
                "or delete that folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METRICS).unlink(missing_ok=True)
        self._log, self._history = Journal(folder / LOG), Journal(folder / HISTORY)
        write_toml(folder / CONFIG, config, f"mmrec-train --config {folder / CONFIG}")

    def log(self, line: str) -> None:
        """Append a line to log.txt."""
        self._log.write(line)

    def record(self, epoch: Mapping[str, Any]) -> None:
        """Append an epoch's record to history.jsonl."""
        self._history.write(json.dumps(epoch))

    def close(self) -> None:
        """Bring what was appended to where it belongs, also of a run that did not finish."""
        self._log.close()
        self._history.close()

    def write_results(
        self,
        model: nn.Module,
        embeddings: Embeddings,
        log: InteractionLog,
        metrics: Mapping[str, Metrics],
        ranking: Ranking,
    ) -> None:
        """Write weights, vectors, ids, per-user metrics and recommendations.

        Args:
            model: With the best weights.
            embeddings: Of all users and items.
            log: For the ids.
            metrics: By split.
            ranking: The test users' lists.
        """
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        _save_tensors(self.folder / MODEL, weights)
        _save_tensors(self.folder / EMBEDDINGS, embedding_tensors(embeddings))
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


def embedding_tensors(embeddings: Embeddings) -> dict[str, Tensor]:
    """``users`` and ``items`` as tensors; of a sparse matrix the parts of its CSR form."""
    tensors: dict[str, Tensor] = {}
    for name, matrix in (("users", embeddings.users), ("items", embeddings.items)):
        if isinstance(matrix, Tensor):
            tensors[name] = matrix.contiguous().cpu()
            continue
        for part in ("indptr", "indices", "data"):
            tensors[f"{name}.{part}"] = torch.from_numpy(getattr(matrix, part))
        tensors[f"{name}.shape"] = torch.tensor(matrix.shape)
    return tensors


def read_embeddings(path: Path) -> Embeddings:
    """What `embedding_tensors` made, from its file.

    Raises:
        UserError: The file is missing or torn.
    """
    try:
        with local_copy(path) as file:
            tensors = load_file(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; train the run again") from error
    except Exception as error:  # safetensors' own error class is not exported by every version
        raise UserError(
            f"{path} cannot be read, it may be torn ({error}); train the run again"
        ) from error
    users, items = (_matrix(tensors, name) for name in ("users", "items"))
    return Embeddings(users, items)


def _matrix(tensors: Mapping[str, Tensor], name: str) -> Tensor | csr_array:
    if name in tensors:
        return tensors[name]
    data, indices, indptr, shape = (
        tensors[f"{name}.{part}"].numpy() for part in ("data", "indices", "indptr", "shape")
    )
    return csr_array((data, indices, indptr), shape=tuple(shape.tolist()))


def per_user_table(metrics: Mapping[str, Metrics], users: IdMap) -> pa.Table:
    """user_id, split, and one column per metric.

    Args:
        metrics: By split.
        users: Ids of the rows.
    """
    tables = [
        pa.table(
            {"user_id": users.ids[of_split.users], "split": [split] * len(of_split.users)}
            | dict(of_split.values)
        )
        for split, of_split in metrics.items()
    ]
    return pa.concat_tables(tables)


def recommendations_table(ranking: Ranking, users: IdMap, items: IdMap) -> pa.Table:
    """user_id, rank (from 1), item_id, score; masked items are left out.

    Args:
        ranking: Lists of items.
        users: Ids of the user rows.
        items: Ids of the item rows.
    """
    n, k = ranking.items.shape
    shown = np.isfinite(ranking.scores).ravel()
    return pa.table(
        {
            "user_id": np.repeat(users.ids[ranking.users], k)[shown],
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n)[shown],
            "item_id": items.ids[ranking.items.ravel()][shown],
            "score": ranking.scores.ravel()[shown],
        }
    )


def _same(one: RunConfig, other: RunConfig) -> bool:
    """Whether two runs are of the same settings; the device they ran on does not count."""
    return one.model_copy(update={"device": other.device}) == other


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary)
        except SafetensorError as error:
            # A full disk should be told like that of every other file.
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error), str(path)) from error
