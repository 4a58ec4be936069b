"""Feature matrices that exist already, ``.npy`` by item number, become shards."""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from extract.errors import UserError
from extract.files import digest, file_sha256
from extract.ledger import Problem
from extract.locking import locked
from extract.manifest import Manifest, items_digest
from extract.shards import (
    MODALITIES,
    EmbeddingBatch,
    ShardWriter,
    unusable_rows,
    usable_rows,
)
from pipelines.overwriting import Overwriting, check_same_encoder
from pipelines.progress import Reporter

ROWS_PER_SHARD = 8192


class FeaturesConfig(Overwriting):
    """Settings of ``mmrec-prepare features``."""

    dataset: str | None = Field(None, description="The data set; may be left out if only one is.")
    features: str = Field(description="Name of the feature set to make.")
    image: Path | None = Field(None, description="Image vectors: .npy, row = item number.")
    text: Path | None = Field(None, description="Text vectors: .npy, row = item number.")
    fused: Path | None = Field(None, description="Fused vectors: .npy, row = item number.")

    @property
    def files(self) -> dict[str, Path]:
        """Modality to file, of those given."""
        given = {modality: getattr(self, modality) for modality in MODALITIES}
        return {modality: path for modality, path in given.items() if path is not None}


def write_features(
    folder: Path,
    item_ids: Sequence[str],
    files: Mapping[str, Path],
    reporter: Reporter,
    overwrite: bool = False,
) -> Manifest:
    """Write a feature folder from matrices whose row i belongs to the item with id ``str(i)``.

    Rows that are zero or not finite are no vectors: they are recorded as absent.

    Args:
        folder: The feature folder.
        item_ids: The catalogue's ids, in its order, all of them whole numbers.
        files: Modality to ``.npy`` file of (rows, dim) numbers.
        reporter: Where to tell progress.
        overwrite: Whether to replace finished features that were not made from these matrices.

    Raises:
        UserError: No file is given, one is not such a matrix, an id is not a number, a matrix has
            fewer rows than the items need, the folder holds other features, or another process
            is writing them.
    """
    start = time.monotonic()
    if not files:
        raise UserError("no matrix was given; name one with --image, --text or --fused")
    rows = _row_numbers(item_ids)
    matrices = {modality: _open_matrix(path) for modality, path in files.items()}
    for modality, matrix in matrices.items():
        _check_covers(files[modality], matrix, rows, reporter)
    encoder = _identity(files)
    check_same_encoder(folder, encoder, overwrite)
    with locked(folder, "writing features to"):
        writer, unit_length = _write_shards(folder, item_ids, matrices, rows, reporter)
        return writer.finish(
            encoder=encoder,
            normalized=unit_length,
            fusion="given" if "fused" in files else None,
            items_digest=items_digest(item_ids),
            seconds=time.monotonic() - start,
        )


def _write_shards(
    folder: Path,
    item_ids: Sequence[str],
    matrices: Mapping[str, np.ndarray],
    rows: np.ndarray,
    reporter: Reporter,
) -> tuple[ShardWriter, dict[str, bool]]:
    """All shards; the writer, and modality to whether all its vectors have length 1."""
    writer = ShardWriter(folder, {name: matrix.shape[1] for name, matrix in matrices.items()})
    unit_length = dict.fromkeys(matrices, True)
    with reporter.bar("features", len(rows)) as advance:
        for first in range(0, len(rows), ROWS_PER_SHARD):
            part = slice(first, first + ROWS_PER_SHARD)
            batch = _batch(
                item_ids[part], {m: matrix[rows[part]] for m, matrix in matrices.items()}
            )
            writer.write(batch)
            for modality in matrices:
                unit_length[modality] &= _has_unit_length(batch, modality)
            advance(len(batch.item_ids))
    return writer, unit_length


def _identity(files: Mapping[str, Path]) -> dict[str, str]:
    parts = [part for modality in files for part in (modality, file_sha256(files[modality]))]
    return {"spec": "npy", "fingerprint": digest(parts)}


def _row_numbers(item_ids: Sequence[str]) -> np.ndarray:
    wrong = [item for item in item_ids if not re.fullmatch("0|[1-9][0-9]{0,17}", item)]
    if wrong:
        raise UserError(
            f"rows of a matrix are found by item number, but {len(wrong)} of {len(item_ids)} item "
            f"ids are not plain whole numbers, such as {wrong[0]!r}; prepare the data set from its "
            ".inter file with mmrec-prepare inter"
        )
    return np.array([int(item) for item in item_ids], np.int64)


def _open_matrix(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    try:
        matrix: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is not a whole .npy file of numbers: {error}") from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        found = f"{matrix.dtype} of shape {matrix.shape}" if hasattr(matrix, "dtype") else "an .npz"
        raise UserError(f"{path} should hold a (rows, dim) array of numbers, found {found}")
    return matrix


def _check_covers(path: Path, matrix: np.ndarray, rows: np.ndarray, reporter: Reporter) -> None:
    needed = int(rows.max(initial=-1)) + 1
    if len(matrix) < needed:
        raise UserError(
            f"{path} has {len(matrix)} rows, but the items are numbered up to {needed - 1}, which "
            f"needs {needed}; give the matrix that belongs to this .inter file"
        )
    if len(matrix) > len(rows):
        reporter.say(f"{path.name}: {len(matrix) - len(rows):,} rows belong to no item")


def _batch(item_ids: Sequence[str], matrices: Mapping[str, np.ndarray]) -> EmbeddingBatch:
    vectors, present, problems = {}, {}, []
    for modality, matrix in matrices.items():
        with np.errstate(over="ignore"):
            vectors[modality] = matrix.astype(np.float32)
        present[modality] = usable_rows(vectors[modality])
        for problem, absent in unusable_rows(vectors[modality]).items():
            problems += [
                Problem(item_ids[int(row)], modality, problem, "row of the matrix")
                for row in np.flatnonzero(absent)
            ]
    content = [
        hashlib.sha256(b"".join(matrix[row].tobytes() for matrix in matrices.values())).hexdigest()
        for row in range(len(item_ids))
    ]
    return EmbeddingBatch(item_ids, [text[:32] for text in content], vectors, present, problems)


def _has_unit_length(batch: EmbeddingBatch, modality: str) -> bool:
    lengths = np.linalg.norm(batch.vectors[modality][batch.present[modality]], axis=1)
    return bool(np.all(np.abs(lengths - 1) < 1e-3))
