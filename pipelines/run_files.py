"""What lies in a run's folder, from the recommender's objects, and back."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array
from torch import Tensor

from extract.errors import UserError
from extract.files import local_copy, replacing
from recommend.interactions import IdMap
from recommend.metrics import Metrics
from recommend.models import Embeddings
from recommend.ranking import Ranking


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file whole or not at all."""
    with replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary)
        except SafetensorError as error:
            # A full disk should be told like that of every other file.
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error), str(path)) from error


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


def _matrix(tensors: Mapping[str, Tensor], name: str) -> Tensor | csr_array:
    if name in tensors:
        return tensors[name]
    data, indices, indptr, shape = (
        tensors[f"{name}.{part}"].numpy() for part in ("data", "indices", "indptr", "shape")
    )
    return csr_array((data, indices, indptr), shape=tuple(shape.tolist()))
