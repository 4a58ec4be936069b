"""Graphs as sparse matrices: user-item adjacency, item neighbours, normalisation, pruning.

Everything is a function from arrays to a sparse matrix. No N×N matrix is ever made dense.
"""

import numpy as np
from scipy.sparse import csr_array, diags_array

from extract.shards import usable_rows
from recommend.features import FeatureStore
from recommend.index import Search, nearest


def symmetric_normalise(matrix: csr_array) -> csr_array:
    """D_r^-1/2 A D_c^-1/2, where D_r and D_c hold the row and column sums of A.

    For the (U, I) matrix R this is the upper right block of the symmetrically normalised
    (U+I)² adjacency [0 R; Rᵀ 0] (LightGCN, He et al. 2020, eq. 3). Empty rows stay empty.
    """
    scale_rows = diags_array(_inverse_root(matrix.sum(axis=1)))
    scale_columns = diags_array(_inverse_root(matrix.sum(axis=0)))
    return csr_array(scale_rows @ matrix @ scale_columns)


def item_neighbours(
    vectors: np.ndarray,
    present: np.ndarray,
    k: int,
    *,
    weighted: bool = False,
    search: Search = nearest,
) -> csr_array:
    """The graph of each item's k nearest items by cosine, itself excluded, normalised.

    S = D^-1/2 A D^-1/2 with A_ij = 1 (or the cosine, not below 0) where j is among i's k nearest
    and D the row sums of A (FREEDOM, Zhou and Shen 2023, eq. 1-3). A is directed, as in the paper.
    Absent items have neither neighbours nor a place among another's.

    Args:
        vectors: (I, d) float32.
        present: (I,) bool; zero and non-finite rows are left out as well.
        k: Number of neighbours.
        weighted: Weigh by the cosine.
        search: Who finds the neighbours.
    """
    n_items = len(vectors)
    rows = np.flatnonzero(present & usable_rows(vectors))
    if rows.size < 2:
        return csr_array((n_items, n_items), dtype=np.float32)
    neighbours, cosines = search(np.asarray(vectors[rows], np.float32), k)
    values = np.maximum(cosines, 0) if weighted else np.ones_like(cosines)
    pairs = (np.repeat(rows, neighbours.shape[1]), rows[neighbours.ravel()])
    adjacency = csr_array((values.ravel(), pairs), shape=(n_items, n_items), dtype=np.float32)
    scale = diags_array(_inverse_root(adjacency.sum(axis=1)))
    return csr_array(scale @ adjacency @ scale)


def mixed_neighbours(
    features: FeatureStore,
    k: int,
    image_weight: float,
    *,
    weighted: bool = False,
    search: Search = nearest,
) -> csr_array:
    """Σ_m w_m S_m over the modalities there are, with Σ_m w_m = 1, (I, I).

    The image has weight w and the others share 1 - w; a modality that stands alone has weight 1.

    Args:
        features: The items' features.
        k: Number of neighbours in each modality.
        image_weight: w.
        weighted: Weigh neighbours by their cosine.
        search: Who finds them.
    """
    weights = modality_weights(list(features.tables), image_weight)
    graphs = [
        weights[modality]
        * item_neighbours(table, features.present[modality], k, weighted=weighted, search=search)
        for modality, table in features.tables.items()
    ]
    return csr_array(sum(graphs[1:], graphs[0]))


def modality_weights(modalities: list[str], image_weight: float) -> dict[str, float]:
    """Weights that sum to 1: the image's, and equal shares of the rest for the others."""
    others = [modality for modality in modalities if modality != "image"]
    if "image" not in modalities or not others:
        return {modality: 1 / len(modalities) for modality in modalities}
    return {"image": image_weight} | dict.fromkeys(others, (1 - image_weight) / len(others))


def prune_by_degree(matrix: csr_array, keep: float, generator: np.random.Generator) -> csr_array:
    """Keep a share of the edges, drawn without replacement with p ∝ 1/√(d_u d_i).

    Edges between popular nodes are the likeliest to be noise (FREEDOM, eq. 5).

    Args:
        matrix: (U, I) with a 1 for each edge.
        keep: Share of the edges to keep, in (0, 1].
        generator: Where the draw comes from.
    """
    coo = matrix.tocoo()
    users, items = coo.row, coo.col
    weight = _inverse_root(matrix.sum(axis=1))[users] * _inverse_root(matrix.sum(axis=0))[items]
    # The smallest of exponential(weight) arrivals are a draw without replacement ∝ weight.
    arrival = generator.standard_exponential(len(weight)) / weight
    kept = np.argpartition(arrival, int(keep * len(weight)) - 1)[: int(keep * len(weight))]
    return _with_edges(users[kept], items[kept], matrix.shape)


def prune_uniformly(matrix: csr_array, keep: float, generator: np.random.Generator) -> csr_array:
    """Keep a share of the edges, each as likely as any other.

    Args:
        matrix: (U, I) with a 1 for each edge.
        keep: Share of the edges to keep, in (0, 1].
        generator: Where the draw comes from.
    """
    coo = matrix.tocoo()
    kept = generator.choice(coo.nnz, int(keep * coo.nnz), replace=False, shuffle=False)
    return _with_edges(coo.row[kept], coo.col[kept], matrix.shape)


def _with_edges(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """The matrix with a 1 for each pair, its columns sorted."""
    matrix = csr_array((np.ones(len(users), np.float32), (users, items)), shape=shape)
    matrix.sort_indices()
    return matrix


def _inverse_root(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        roots = 1 / np.sqrt(np.asarray(sums, np.float64))
    return np.where(np.isfinite(roots), roots, 0)
