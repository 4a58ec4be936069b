"""Nearest neighbours that are found once and kept, under a key of all that decides them.

The search takes time with the square of the catalogue, and every run over the same features asks
for the same neighbours. The key is a digest of the vectors themselves, of the settings and of the
method: other features, other items or another k have another key, so what is kept can be missing,
but not stale. How they were found, and how well, is kept beside them.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from extract.files import local_copy, replacing
from recommend.index import Found, find, method_for

# Searches that are not kept in files, but until so many others: a ranking and the next epoch ask
# for the same, once in each modality.
RECENT = 4


class StoredNeighbours:
    """`nearest`, remembering what it found in files of a folder.

    Args:
        folder: Where they are kept, ``<key>.safetensors`` each; any of them may be deleted.
        search: Who finds, as `find` does, neighbours that are not there yet.
    """

    def __init__(self, folder: Path, search: Callable[[np.ndarray, int], Found] = find) -> None:
        self.folder = folder
        self.search = search
        self._recent: dict[str, Found] = {}
        self._reports: dict[tuple[Any, ...], dict[str, Any]] = {}

    def __call__(
        self, vectors: np.ndarray, k: int, *, keep: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest` gives them.

        Args:
            vectors: (n, d) float32, no zero row.
            k: Number of neighbours.
            keep: False for vectors that no other run will ask for, such as trained ones.
        """
        found = (self._kept_or_found if keep else self._recent_or_found)(vectors, k)
        self._report(found, vectors, k)
        return found.rows, found.cosines

    @property
    def reports(self) -> list[dict[str, Any]]:
        """How neighbours were found so far: of equal searches one report, with the worst recall."""
        return list(self._reports.values())

    def _report(self, found: Found, vectors: np.ndarray, k: int) -> None:
        rows, size = vectors.shape
        described = {"rows": rows, "size": size, "k": k, "method": found.method}
        key = tuple(described.values())
        worst = min(found.recall, self._reports.get(key, {}).get("recall", 1.0))
        self._reports[key] = {**described, "recall": worst}

    def _recent_or_found(self, vectors: np.ndarray, k: int) -> Found:
        key = neighbours_key(vectors, k)
        if key not in self._recent:
            self._recent[key] = self.search(vectors, k)
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        return self._recent[key]

    def _kept_or_found(self, vectors: np.ndarray, k: int) -> Found:
        path = self.folder / f"{neighbours_key(vectors, k)}.safetensors"
        try:
            with local_copy(path) as file:
                return _read(file)
        except (OSError, SafetensorError, KeyError, TypeError):  # not yet there, or torn
            found = self.search(vectors, k)
        # What cannot be kept was found all the same.
        with suppress(OSError, SafetensorError), replacing(path) as temporary:
            _write(temporary, found)
        return found


def neighbours_key(vectors: np.ndarray, k: int) -> str:
    """What decides the k nearest neighbours of each of (n, d) vectors, as a digest."""
    described = (
        f"cosine, {method_for(len(vectors))}, itself excluded, k {k}, "
        f"{vectors.dtype.str} {vectors.shape}"
    )
    hasher = hashlib.sha256(described.encode())
    hasher.update(np.ascontiguousarray(vectors).data)
    return hasher.hexdigest()[:32]


def _read(file: Path) -> Found:
    with safe_open(file, "numpy") as kept:
        described = kept.metadata()
        rows = kept.get_tensor("rows").astype(np.int64)
        cosines = kept.get_tensor("cosines")
    return Found(rows, cosines, described["method"], float(described["recall"]))


def _write(file: Path, found: Found) -> None:
    arrays = {"rows": found.rows.astype(np.int32), "cosines": found.cosines}
    save_file(arrays, file, {"method": found.method, "recall": repr(found.recall)})
