"""Nearest neighbours that are found once and kept, under a key of all that decides them.

The search takes time with the square of the catalogue, and every run over the same features asks
for the same neighbours. The key is a digest of the vectors themselves and of the settings: other
features, other items or another k have another key, so what is kept can be missing, but not stale.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from extract.files import local_copy, replacing
from recommend.index import Search, nearest

# How `nearest` finds them; another way of searching needs another name.
EXACT = "cosine, exact, itself excluded"


class StoredNeighbours:
    """`nearest`, remembering what it found in files of a folder.

    Args:
        folder: Where they are kept, ``<key>.safetensors`` each; any of them may be deleted.
        search: Who finds, as `nearest` does, neighbours that are not there yet.
    """

    def __init__(self, folder: Path, search: Search = nearest) -> None:
        self.folder = folder
        self.search = search

    def __call__(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest` gives them."""
        path = self.folder / f"{neighbours_key(vectors, k)}.safetensors"
        try:
            with local_copy(path) as file:
                kept = load_file(file)
            return kept["rows"].astype(np.int64), kept["cosines"]
        except (OSError, SafetensorError, KeyError):  # not yet there, or torn
            rows, cosines = self.search(vectors, k)
        self._keep(path, rows, cosines)
        return rows, cosines

    def _keep(self, path: Path, rows: np.ndarray, cosines: np.ndarray) -> None:
        # What cannot be kept was found all the same.
        with suppress(OSError, SafetensorError), replacing(path) as temporary:
            save_file({"rows": rows.astype(np.int32), "cosines": cosines}, temporary)


def neighbours_key(vectors: np.ndarray, k: int) -> str:
    """What decides the k nearest neighbours of each of (n, d) vectors, as a digest."""
    described = f"{EXACT}, k {k}, {vectors.dtype.str} {vectors.shape}"
    hasher = hashlib.sha256(described.encode())
    hasher.update(np.ascontiguousarray(vectors).data)
    return hasher.hexdigest()[:32]
