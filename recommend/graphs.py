"""Graphs as sparse matrices: user-item adjacency, item neighbours, normalisation, pruning.

Everything is a function from arrays to a sparse matrix. No N×N matrix is ever made dense.
"""

from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array, diags_array, vstack

from extract.shards import usable_rows
from recommend.features import FeatureStore
from recommend.index import Search, nearest

# Products of R Rᵀ that are held at once, some 200 MB.
BLOCK_PAIRS = 2**22


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
    adjacency = neighbour_cosines(vectors, present, k, search=search)
    values = adjacency.data
    adjacency.data = np.maximum(values, 0) if weighted else np.ones_like(values)
    scale = diags_array(_inverse_root(adjacency.sum(axis=1)))
    return csr_array(scale @ adjacency @ scale)


def neighbour_cosines(
    vectors: np.ndarray, present: np.ndarray, k: int, *, search: Search = nearest, keep: bool = True
) -> csr_array:
    """The cosine of each item with each of its k nearest, itself excluded, (I, I).

    Args:
        vectors: (I, d) float32.
        present: (I,) bool; zero and non-finite rows are left out as well.
        k: Number of neighbours.
        search: Who finds the neighbours.
        keep: Whether another run will ask for the same vectors.
    """
    n_items = len(vectors)
    rows = np.flatnonzero(present & usable_rows(vectors))
    if rows.size < 2:
        return csr_array((n_items, n_items), dtype=np.float32)
    neighbours, cosines = search(np.asarray(vectors[rows], np.float32), k, keep=keep)
    pairs = (np.repeat(rows, neighbours.shape[1]), rows[neighbours.ravel()])
    return csr_array((cosines.ravel(), pairs), shape=(n_items, n_items), dtype=np.float32)


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


def user_neighbours(matrix: csr_array, k: int, *, block_pairs: int = BLOCK_PAIRS) -> csr_array:
    """The k users with the most items in common with each user, and how many those are, (U, U).

    Of equal numbers the lower row comes first. A user has fewer neighbours where fewer users share
    an item with it. R Rᵀ is made in blocks of users, each of some `block_pairs` products (or of one
    user), and never as a whole.

    Args:
        matrix: R, (U, I), with an entry for each interaction.
        k: Number of neighbours.
        block_pairs: Bounds the memory, at some 50 bytes each.
    """
    ones = np.ones(matrix.nnz, np.int64)
    binary = csr_array((ones, matrix.indices, matrix.indptr), matrix.shape)
    transpose = csr_array(binary.T)
    products = np.cumsum(binary @ binary.sum(axis=0))
    cuts = np.searchsorted(products, np.arange(block_pairs, products[-1], block_pairs))
    bounds = np.unique([0, *cuts, len(products)])
    blocks = [
        _largest(csr_array(binary[start:stop] @ transpose), k, start)
        for start, stop in pairwise(bounds.tolist())
    ]
    return csr_array(vstack(blocks))


def _largest(counts: csr_array, k: int, first: int) -> csr_array:
    """The k largest entries of each row, less that of the row's own user, `first` + row."""
    coo = counts.tocoo()
    others = coo.col != coo.row + first
    rows, columns, values = (a[others].astype(np.int64) for a in (coo.row, coo.col, coo.data))
    # One number that sorts by row, then falling value, then column: a sort, and no lexsort.
    width, highest = counts.shape[1], int(values.max(initial=0))
    keys = np.sort((rows * (highest + 1) + highest - values) * width + columns)
    of_row = np.bincount(rows, minlength=counts.shape[0])
    rank = np.arange(keys.size) - np.repeat(np.cumsum(of_row) - of_row, of_row)
    ahead, columns = np.divmod(keys[rank < k], width)
    rows, below = np.divmod(ahead, highest + 1)
    return csr_array((highest - below, (rows, columns)), shape=counts.shape)


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
