"""Maps: items in two dimensions, near where their vectors are near (t-SNE).

The map is fitted on at most `FITTED` items; each other item is put at the median of its nearest
fitted ones. With one thread, since sums by several are not repeatable; several maps are fitted at
the same time instead.

Source: van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 9, 2008; the placing of
further items: Poličar et al., openTSNE: a modular Python library for t-SNE dimensionality reduction
and embedding, bioRxiv 2019.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from extract.errors import UserError
from extract.shards import usable_rows
from pipelines.progress import Reporter

# Five seconds a map on one core, of 500 rounds.
FITTED = 2000
ROUNDS = 500
COMPONENTS = 50
PERPLEXITY = 30.0
# With fewer there is nothing to lay out.
FEWEST = 5
NEAREST_FITTED = 5
# Width and height of a map.
SIZE = 1000
# Items whose cosines with all fitted ones are held at once.
AT_ONCE = 4096

Map = tuple[tuple[int, int] | None, ...]


def require_reducer() -> Any:
    """scikit-learn, whose reducer is used.

    Raises:
        UserError: It is not installed.
    """
    try:
        import sklearn
    except ImportError as error:
        raise UserError(
            'maps of items need scikit-learn, which is not installed; pip install "mmrec[report]"'
        ) from error
    return sklearn


def maps(tables: Sequence[np.ndarray], seed: int, reporter: Reporter) -> list[Map]:
    """A map of each table of (n, d) vectors, as `map_of` makes it.

    Args:
        tables: The vectors; an absent one is zero.
        seed: Of the choice of items to fit, and of the fit.
        reporter: Where to tell progress.
    """
    require_reducer()
    from threadpoolctl import threadpool_limits

    found = []
    with (
        threadpool_limits(1, user_api="blas"),  # which counts for all threads alike
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        reporter.bar("maps", len(tables), unit="maps") as advance,
    ):
        for each in pool.map(partial(map_of, seed=seed), tables):
            found.append(each)
            advance()
    return found


def map_of(vectors: np.ndarray, seed: int) -> Map:
    """The position of each item, 0..`SIZE`; None of an absent one, nothing of too few."""
    from threadpoolctl import threadpool_limits

    present = np.flatnonzero(usable_rows(vectors))
    if len(present) < FEWEST:
        return ()
    unit = vectors[present].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    with threadpool_limits(1, user_api="openmp"):  # which counts for this thread only
        positions = _scaled(_positions(unit, seed))
    xy: list[tuple[int, int] | None] = [None] * len(vectors)
    for row, (x, y) in zip(present.tolist(), positions.tolist(), strict=True):
        xy[row] = (x, y)
    return tuple(xy)


def _positions(unit: np.ndarray, seed: int) -> np.ndarray:
    fitted = np.arange(len(unit))
    if len(unit) > FITTED:
        fitted = np.sort(np.random.default_rng(seed).choice(len(unit), FITTED, replace=False))
    positions = np.empty((len(unit), 2))
    positions[fitted] = _fit(unit[fitted], seed)
    others = np.setdiff1d(np.arange(len(unit)), fitted)
    for first in range(0, len(others), AT_ONCE):
        rows = others[first : first + AT_ONCE]
        cosines = unit[rows] @ unit[fitted].T
        near = np.argpartition(-cosines, NEAREST_FITTED, axis=1)[:, :NEAREST_FITTED]
        positions[rows] = np.median(positions[fitted][near], axis=1)
    return positions


def _fit(unit: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    components = min(COMPONENTS, *unit.shape)
    with np.errstate(invalid="ignore"):  # of equal vectors nothing varies
        reduced = PCA(components, random_state=seed).fit_transform(unit)
    # Two columns at least, from which t-SNE starts.
    reduced = np.pad(reduced, ((0, 0), (0, max(0, 2 - components))))
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    start = reduced[:, :2] / max(float(reduced[:, 0].std()), 1e-12) * 1e-4
    tsne = TSNE(init=start, perplexity=perplexity, max_iter=ROUNDS, random_state=seed)
    return np.asarray(tsne.fit_transform(reduced), np.float64)


def _scaled(positions: np.ndarray) -> np.ndarray:
    """Moved and scaled, alike in both directions, so that the map is filled."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    centred = (positions - (low + high) / 2) / max(float((high - low).max()), 1e-12)
    return np.rint((centred + 0.5) * SIZE).clip(0, SIZE).astype(int)
