"""Building blocks that several models share."""

import torch
from torch import Tensor, nn

from recommend.graphs import SparseMatrix


def embedding_table(rows: int, size: int) -> nn.Parameter:
    """A (rows, size) table, initialised uniformly after Glorot and Bengio (Xavier)."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, size)))


def light_graph_convolution(
    graph: SparseMatrix, users: Tensor, items: Tensor, layers: int
) -> tuple[Tensor, Tensor]:
    """The mean of Âˡ e over l = 0..layers (LightGCN, He et al. 2020, eq. 3-4).

    Â = [0 R̂; R̂ᵀ 0] is applied as R̂ and R̂ᵀ, half the work of the (U+I)² matrix.

    Args:
        graph: R̂, the normalised (U, I) matrix.
        users: (U, d) layer-0 embeddings.
        items: (I, d) layer-0 embeddings.
        layers: Number of propagations.

    Returns:
        Users (U, d) and items (I, d).
    """
    user_sum, item_sum = users, items
    for _ in range(layers):
        users, items = graph @ items, graph.transposed_matmul(users)
        user_sum, item_sum = user_sum + users, item_sum + items
    return user_sum / (layers + 1), item_sum / (layers + 1)
